package machine

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/fault"
)

// TestUnsupported: what is not there is refused at its place with what to do instead, and
// nothing is said about fields that another query language has.
func TestUnsupported(t *testing.T) {
	t.Parallel()
	const inner = `"ItemProcessor":{"StartAt":"B","States":{"B":{"Type":"Pass","End":true}}},"End":true}}}`
	const jsonata = `JSONata is not supported yet; use JSONPath, with InputPath, Parameters, ResultSelector, ResultPath and OutputPath`
	rows := []struct{ text, want string }{
		{`{"QueryLanguage":"JSONata","StartAt":"A","States":{"A":{"Type":"Task","Resource":"r","Arguments":"{% $states.input %}","Next":"C"},
			"C":{"Type":"Choice","Choices":[{"Condition":"{% true %}","Next":"A"}]}}}`, `1:18: QueryLanguage: ` + jsonata},
		{`{"StartAt":"A","States":{"A":{"Type":"Task","QueryLanguage":"JSONata","Resource":"r","Arguments":{},"Output":"{% 1 %}","End":true}}}`,
			`1:61: States.A.QueryLanguage: ` + jsonata},
		{`{"StartAt":"A","States":{"A":{"Type":"Map","ItemProcessor":{"ProcessorConfig":{"Mode":"DISTRIBUTED","ExecutionType":"STANDARD"},"StartAt":"B","States":{"B":{"Type":"Pass","End":true}}},"End":true}}}`,
			`1:87: States.A.ItemProcessor.ProcessorConfig.Mode: the distributed Map is not supported yet; use the mode INLINE`},
	}
	for _, f := range distributedFields {
		rows = append(rows, struct{ text, want string }{`{"StartAt":"A","States":{"A":{"Type":"Map","` + f + `":1,` + inner,
			fmt.Sprintf("1:%d: States.A.%s: %s belongs to the distributed Map, which is not supported yet; use a Map of mode INLINE without it", 47+len(f), f, f)})
	}
	for _, row := range rows {
		_, err := Parse([]byte(row.text), Limits{})
		var ps Problems
		if !errors.As(err, &ps) || len(ps) != 1 || ps[0].Code != CodeUnfinished || err.Error() != row.want {
			t.Errorf("%s\n got %v\nwant %s", row.text, err, row.want)
		}
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ text, want string }{
		{`{`, `1:2: the definition is not JSON: an object needs a key in double quotes here; correct the text at this place`},
		{`[]`, `1:1: Definition must be a valid JSON object; write { "StartAt": ..., "States": ... }`},
		{`{"States":{"A":{"Type":"Succeed"}}}`, `1:1: These fields are required: [StartAt]; add them`},
		{`{"StartAt":"A","States":{}}`, `1:25: States: States must be an object with at least one state; write { "Name": { "Type": ... } }`},
		{`{"StartAt":"B","States":{"Bb":{"Type":"Succeed"}}}`, `1:12: StartAt: Missing 'StartAt' target: B; name a state of the same States object`},
		{`{"StartAt":"CheckIt","States":{"CheckIn":{"Type":"Succeed"}}}`, `1:12: StartAt: Missing 'StartAt' target: CheckIt; did you mean "CheckIn"?`},
		{`{"StartAt":"A","QueryLanguage":"JSONata","States":{"A":{"Type":"Succeed"}}}`,
			`1:32: QueryLanguage: JSONata is not supported yet; use JSONPath, with InputPath, Parameters, ResultSelector, ResultPath and OutputPath`},
		{"{\"StartAt\":\"A\",\n \"States\":{\n  \"A\":{\"Type\":\"Pass\",\"Output\":1,\"End\":true}}}",
			`3:31: States.A.Output: The QueryLanguage is set to 'JSONPath', but field 'Output' is only supported for the 'JSONata' QueryLanguage; use the JSONPath fields: Comment, Type, QueryLanguage, InputPath, OutputPath, Result, Parameters, ResultPath, Assign, Next, End`},
		{`{"StartAt":"A","States":{"A":{"Type":"Pass"}}}`, `1:30: States.A: the state has neither Next nor End; add "Next": "..." or "End": true`},
		{`{"StartAt":"A","States":{"A":{"Type":"Task","Resource":"r","Retry":[{"ErrorEquals":["States.ALL","X"],"MaxAttempts":-1}],"End":true}}}`,
			`1:85: States.A.Retry[0].ErrorEquals[0]: States.ALL must stand alone in its ErrorEquals, in the last entry of the list; move it into an entry of its own at the end
1:117: States.A.Retry[0].MaxAttempts: -1 is no whole number between 0 and 99999999; write such a number, without quotes`},
		{`{"StartAt":"A","States":{"A":{"Type":"Task","Resource":"r","Retry":[{"ErrorEquals":["State.ALL"],"IntervalSecond":1,"BackoffRate":0.5}],"Catch":[{"ErrorEquals":[],"Next":"B"}],"Nxt":"B"}}}`,
			`1:30: States.A: the state has neither Next nor End; add "Next": "..." or "End": true
1:115: States.A.Retry[0].IntervalSecond: a retrier has no field "IntervalSecond"; did you mean IntervalSeconds?
1:131: States.A.Retry[0].BackoffRate: 0.5 is no number of at least 1.0; write such a number, without quotes
1:161: States.A.Catch[0].ErrorEquals: ErrorEquals must be an array with at least one name; write ["States.ALL"]
1:171: States.A.Catch[0].Next: Missing 'Next' target: B; name a state of the same States object
1:183: States.A.Nxt: a Task state has no field "Nxt"; did you mean Next?`},
		{`{"StartAt":"A","States":{"A":{"Type":"Wait","Seconds":1,"Timestamp":"2016-12-05 21:29:29Z","End":true}}}`,
			`1:69: States.A.Timestamp: there may be only one of Seconds, Timestamp; take the others out
1:69: States.A.Timestamp: String does not match RFC3339 timestamp; write it like "2026-01-31T12:00:00Z"`},
		{`{"StartAt":"A","States":{"A":{"Type":"Task","Resource":"r","TimeoutSeconds":5,"HeartbeatSeconds":5,"ResultPath":"$.a[*]","End":true}}}`,
			`1:98: States.A.HeartbeatSeconds: HeartbeatSeconds (5) must be less than TimeoutSeconds (5); make it shorter
1:113: States.A.ResultPath: Value is not a valid Reference Path: it can lead to several places; use names and single places only, like $.order.items[0]`},
		{`{"StartAt":"A","States":{"A":{"Type":"Choice","Choices":[{"Variable":"$.a","StringEqual":"x","Next":"A"},{"Variable":"$.a","NumericEquals":"1","Next":"A"}]}}}`,
			`1:58: States.A.Choices[0]: a rule needs exactly one comparator, this has 0; did you mean StringEquals?
1:140: States.A.Choices[1].NumericEquals: NumericEquals compares with a number, this is a string; write such a value, or use NumericEqualsPath`},
		{`{"StartAt":"A","States":{"A":{"Type":"Pass","Parameters":{"x.$":"States.Formt('a')","y.$":"$.a[","z.$":1},"End":true}}}`,
			`1:65: States.A.Parameters.x.$: The value for the field 'x.$' must be a valid JSONPath or a valid intrinsic function call: function call "States.Formt('a')": "States.Formt" is no intrinsic function at character 1; correct it, or take the .$ off the key
1:91: States.A.Parameters.y.$: The value for the field 'y.$' must be a valid JSONPath or a valid intrinsic function call: path "$.a[": ']' is missing at character 5; correct it, or take the .$ off the key
1:104: States.A.Parameters.z.$: The value for the field 'z.$' must be a valid JSONPath or a valid intrinsic function call, this is a number; write a path, or take the .$ off the key`},
		{`{"StartAt":"A","States":{"A":{"Type":"Succeed"},"B":{"Type":"Succeed"}}}`, `1:53: States.B: State "B" is not reachable; let a state lead to it, or take it out`},
		{`{"StartAt":"A","States":{"A":{"Type":"Map","End":true,"ItemProcessor":{"ProcessorConfig":{"Mode":"DISTRIBUTED"},"StartAt":"B","States":{"B":{"Type":"Pass","Next":"A"}}}}}}`,
			`1:98: States.A.ItemProcessor.ProcessorConfig.Mode: the distributed Map is not supported yet; use the mode INLINE
1:163: States.A.ItemProcessor.States.B.Next: Missing 'Next' target: A; a state cannot lead out of its branch or into another; name a state of the same States object`},
		{`{"StartAt":"A","States":{"A":{"Type":"Pass","Assign":{"states":1,"1a":2},"End":true,"End":false}}}`,
			`1:85: the definition is not JSON: the key "End" is there already; keys of one object must differ; correct the text at this place`},
		{`{"StartAt":"A","States":{"A":{"Type":"Pass","Assign":{"states":1,"1a":2},"End":true}}}`,
			`1:64: States.A.Assign.states: the name "states" is reserved; choose another name
1:71: States.A.Assign.1a: "1a" is no name of a variable: it must begin with a letter or _; choose another name`},
	} {
		_, err := Parse([]byte(row.text), Limits{})
		if err == nil {
			t.Errorf("%s was accepted", row.text)
			continue
		}
		if diff := cmp.Diff(row.want, err.Error()); diff != "" {
			t.Errorf("%s\n(-want +got):\n%s", row.text, diff)
		}
		if fault.Of(err) != fault.Setup {
			t.Errorf("the fault of %v is %s, want setup", err, fault.Of(err))
		}
	}
}

func TestProblemLocation(t *testing.T) {
	t.Parallel()
	_, err := Parse([]byte(`{"StartAt":"A","States":{"A":{"Type":"Choice","Choices":[{"Variable":"a","IsNull":true,"Next":"A"}]}}}`), Limits{})
	var problems Problems
	if !errors.As(err, &problems) || len(problems) != 1 || problems[0].Location != "/States/A/Choices[0]/Variable" {
		t.Errorf("the problems are %+v", problems)
	}
}

func TestManyProblems(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	text.WriteString(`{"StartAt":"A","States":{"A":{"Type":"Pass",`)
	for i := range 20_000 {
		fmt.Fprintf(&text, `"field%d":1,`, i)
	}
	_, err := Parse([]byte(text.String()+`"End":true}}}`), Limits{})
	var problems Problems
	if !errors.As(err, &problems) || len(problems) != maxProblems {
		t.Errorf("%d problems were reported, want %d", len(problems), maxProblems)
	}
}
