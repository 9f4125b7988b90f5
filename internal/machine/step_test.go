package machine

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/fault"
)

func TestStates(t *testing.T) {
	t.Parallel()
	echo := func(a Action) (Event, bool) {
		return Event{Kind: TaskSucceeded, Data: []byte(a.Input.JSON())}, true
	}
	for _, row := range []struct{ name, machine, input, want string }{
		{"order of keys and digits stay", alone(`"Type":"Pass"`), `{"z":1.10,"a":12345678901234567890.5,"m":1e2}`, `SUCCEEDED {"z":1.10,"a":12345678901234567890.5,"m":1e2}`},
		{"no input", alone(`"Type":"Pass"`), ``, `SUCCEEDED {}`},
		{"data flow of a pass", alone(`"Type":"Pass","InputPath":"$.a","Parameters":{"x.$":"$.b","y":[1,{"z.$":"$"}]},"ResultPath":"$.r.s","OutputPath":"$.r"`),
			`{"a":{"b":2}}`, `SUCCEEDED {"s":{"x":2,"y":[1,{"z":{"b":2}}]}}`},
		{"result path null", alone(`"Type":"Pass","Result":1,"ResultPath":null`), `{"a":1}`, `SUCCEEDED {"a":1}`},
		{"result path in an array", alone(`"Type":"Pass","Result":1,"ResultPath":"$.a[1]"`), `{"a":[7,8]}`, `SUCCEEDED {"a":[7,1]}`},
		{"result path without a place", alone(`"Type":"Pass","Result":1,"ResultPath":"$.a.b"`), `{"a":7}`,
			`FAILED States.ResultPathMatchFailure: An error occurred while executing the state 'S' (entered at the event id #2). Unable to apply ReferencePath $.a.b to input {"a":7}`},
		{"result path on a text", alone(`"Type":"Pass","Result":1,"ResultPath":"$.a"`), `"text"`,
			`FAILED States.ResultPathMatchFailure: An error occurred while executing the state 'S' (entered at the event id #2). Unable to apply ReferencePath $.a to input "text"`},
		{"data flow of a task", alone(`"Type":"Task","Resource":"r","InputPath":"$.a","Parameters":{"p.$":"$.b"},"ResultSelector":{"q.$":"$.p"},"ResultPath":"$.r","OutputPath":"$.r.q"`),
			`{"a":{"b":[1,2]}}`, `SUCCEEDED [1,2]`},
		{"variables", `{"StartAt":"A","States":{"A":{"Type":"Pass","Assign":{"x.$":"$.n","y":1},"Next":"B"},
			"B":{"Type":"Task","Resource":"r","Parameters":{"got.$":"$x"},"Assign":{"x.$":"$.got","y.$":"$x","z.$":"States.MathAdd($x, $y)"},"Next":"C"},
			"C":{"Type":"Pass","Parameters":{"x.$":"$x","y.$":"$y","z.$":"$z"},"End":true}}}`, `{"n":5}`, `SUCCEEDED {"x":5,"y":5,"z":6}`},
		{"missing variable", alone(`"Type":"Pass","Parameters":{"x.$":"$nope.a"}`), `{}`,
			`FAILED States.Runtime: An error occurred while executing the state 'S' (entered at the event id #2). The JSONPath '$nope.a' specified for the field 'x.$' could not be found in the input '{}'`},
		{"choice without match", `{"StartAt":"S","States":{"S":{"Type":"Choice","Choices":[{"Variable":"$.a","NumericEquals":1,"Next":"D"}]},"D":{"Type":"Succeed"}}}`, `{"a":2}`,
			`FAILED States.Runtime: An error occurred while executing the state 'S' (entered at the event id #2). Failed to transition out of the state. The state does not point to a next state.`},
		{"choice on what is missing", `{"StartAt":"S","States":{"S":{"Type":"Choice","Choices":[{"Variable":"$.a","NumericEquals":1,"Next":"D"}],"Default":"D"},"D":{"Type":"Succeed"}}}`, `{}`,
			`FAILED States.Runtime: An error occurred while executing the state 'S' (entered at the event id #2). Invalid path '$.a': The choice state's condition path references an invalid value.`},
		{"choice assigns by rule", `{"StartAt":"S","States":{"S":{"Type":"Choice","Choices":[{"Variable":"$.a","IsPresent":true,"Next":"D","Assign":{"v":"rule"}}],"Default":"D","Assign":{"v":"default"}},
			"D":{"Type":"Pass","Parameters":{"v.$":"$v"},"End":true}}}`, `{"a":1}`, `SUCCEEDED {"v":"rule"}`},
		{"choice assigns by default", `{"StartAt":"S","States":{"S":{"Type":"Choice","Choices":[{"Variable":"$.a","IsPresent":true,"Next":"D","Assign":{"v":"rule"}}],"Default":"D","Assign":{"v":"default"}},
			"D":{"Type":"Pass","Parameters":{"v.$":"$v"},"End":true}}}`, `{}`, `SUCCEEDED {"v":"default"}`},
		{"catcher assigns instead of the state", `{"StartAt":"S","States":{"S":{"Type":"Map","ItemProcessor":{"StartAt":"F","States":{"F":{"Type":"Fail","Error":"E","Cause":"C"}}},"Assign":{"v":1},
			"Catch":[{"ErrorEquals":["E"],"Assign":{"v.$":"$.Cause"},"ResultPath":null,"Next":"D"}],"Next":"D"},"D":{"Type":"Pass","Parameters":{"v.$":"$v","in.$":"$"},"End":true}}}`,
			`[1]`, `SUCCEEDED {"v":"C","in":[1]}`},
		{"fail with paths", `{"StartAt":"S","States":{"S":{"Type":"Fail","ErrorPath":"$.e","CausePath":"States.Format('{}-{}', $.e, $.n)"}}}`, `{"e":"E","n":1}`, `FAILED E: E-1`},
		{"fail with nothing", `{"StartAt":"S","States":{"S":{"Type":"Fail"}}}`, `{}`, `FAILED`},
		{"succeed", `{"StartAt":"S","States":{"S":{"Type":"Succeed","InputPath":"$.a","OutputPath":"$.b"}}}`, `{"a":{"b":3}}`, `SUCCEEDED 3`},
		{"parallel", alone(`"Type":"Parallel","Branches":[{"StartAt":"A","States":{"A":{"Type":"Wait","Seconds":5,"Next":"A2"},"A2":{"Type":"Pass","Result":"a","End":true}}},
			{"StartAt":"B","States":{"B":{"Type":"Task","Resource":"r","End":true}}}],"ResultSelector":{"first.$":"$[0]","second.$":"$[1]"}`), `{"n":1}`, `SUCCEEDED {"first":"a","second":{"n":1}}`},
		{"map with a selector", alone(`"Type":"Map","ItemsPath":"$.l","ItemSelector":{"i.$":"$$.Map.Item.Index","v.$":"$$.Map.Item.Value","all.$":"$.k"},"MaxConcurrency":2,
			"ItemProcessor":{"StartAt":"A","States":{"A":{"Type":"Task","Resource":"r","Parameters":{"i.$":"$$.Map.Item.Index","in.$":"$.v"},"End":true}}},"ResultPath":"$.l"`), `{"l":["x","y","z"],"k":0}`,
			`SUCCEEDED {"l":[{"i":0,"in":"x"},{"i":1,"in":"y"},{"i":2,"in":"z"}],"k":0}`},
		{"map of nothing", alone(`"Type":"Map","ItemProcessor":{"StartAt":"A","States":{"A":{"Type":"Pass","End":true}}}`), `[]`, `SUCCEEDED []`},
		{"map of no array", alone(`"Type":"Map","ItemProcessor":{"StartAt":"A","States":{"A":{"Type":"Pass","End":true}}}`), `null`,
			`FAILED States.Runtime: An error occurred while executing the state 'S' (entered at the event id #2). Map state input must be an array but was: null`},
		{"items path to no array", alone(`"Type":"Map","ItemsPath":"$$.Execution.Input","ItemProcessor":{"StartAt":"A","States":{"A":{"Type":"Pass","End":true}}}`), `{}`,
			`FAILED States.Runtime: An error occurred while executing the state 'S' (entered at the event id #2). Reference path "$.Execution.Input" must point to array.`},
		{"inner variables hide nothing outside", `{"StartAt":"A","States":{"A":{"Type":"Pass","Assign":{"x":1},"Next":"S"},"S":{"Type":"Parallel","Branches":[
			{"StartAt":"B","States":{"B":{"Type":"Pass","Assign":{"x":2},"End":true}}}],"End":true}}}`, `{}`,
			`FAILED States.Runtime: An error occurred while executing the state 'B' (entered at the event id #6). The variable 'x' belongs to an outer scope and cannot be assigned here.`},
		{"a state that only catches its own result path", single(`"Type":"Task","Resource":"r","ResultPath":"$.a.b","Catch":[{"ErrorEquals":["States.ResultPathMatchFailure"],"ResultPath":null,"Next":"Done"}],"End":true`),
			`{"a":1}`, `SUCCEEDED {"a":1}`},
		{"an intrinsic that fails can be caught", single(`"Type":"Task","Resource":"r","Parameters":{"x.$":"States.ArrayGetItem($.l, 5)"},"Catch":[{"ErrorEquals":["States.IntrinsicFailure"],"ResultPath":null,"Next":"Done"}],"End":true`),
			`{"l":[1]}`, `SUCCEEDED {"l":[1]}`},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			d := newDriver(t, row.machine)
			d.answer = echo
			d.run(row.input).want(row.want)
		})
	}
}

func TestWaits(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		field, input string
		want         string // how long, or the failure
	}{
		{`"Seconds":90`, `{}`, "1m30s"},
		{`"Seconds":0`, `{}`, "0s"},
		{`"SecondsPath":"$.s"`, `{"s":7}`, "7s"},
		{`"SecondsPath":"$.s"`, `{"s":1.5}`, "The SecondsPath parameter cannot be parsed as a long value: $.s == 1.5"},
		{`"SecondsPath":"$.s"`, `{"s":-1}`, "The SecondsPath parameter references a negative value: $.s == -1"},
		{`"SecondsPath":"$.s"`, `{}`, "The SecondsPath parameter does not reference an input value: $.s"},
		{`"SecondsPath":"$.s"`, `{"s":2147483649}`, "Wait state delay is too long."},
		{`"Timestamp":"2026-03-01T12:00:30.5Z"`, `{}`, "30.5s"},
		{`"Timestamp":"2026-03-01T13:00:00+01:00"`, `{}`, "0s"},
		{`"Timestamp":"2020-01-01T00:00:00Z"`, `{}`, "0s"},
		{`"TimestampPath":"$.t"`, `{"t":"2026-03-02T12:00:00Z"}`, "24h0m0s"},
		{`"TimestampPath":"$.t"`, `{"t":"2026-03-02 12:00:00Z"}`, "The TimestampPath parameter does not reference a valid ISO-8601 extended offset date-time format string: $.t == 2026-03-02 12:00:00Z"},
		{`"TimestampPath":"$.t"`, `{"t":5}`, "The TimestampPath parameter does not reference a valid ISO-8601 extended offset date-time format string: $.t == 5"},
		{`"TimestampPath":"$.t"`, `{"t":"9999-03-02T12:00:00Z"}`, "Wait state delay is too long."},
	} {
		d := newDriver(t, alone(`"Type":"Wait",`+row.field))
		d.run(row.input)
		got := d.env.Now.Sub(began).String()
		if d.x.Cause != nil {
			_, got, _ = strings.Cut(*d.x.Cause, "#2). ")
		}
		if got != row.want {
			t.Errorf("%s with %s: %s, want %s", row.field, row.input, got, row.want)
		}
	}
}

func TestTaskAction(t *testing.T) {
	t.Parallel()
	d := newDriver(t, alone(`"Type":"Task","Resource":"arn:x.waitForTaskToken","TimeoutSecondsPath":"$.t","HeartbeatSeconds":3,"Credentials":{"RoleArn.$":"$.role"},"Parameters":{"token.$":"$$.Task.Token"}`))
	d.run(`{"t":60,"role":"me"}`)
	if len(d.tasks) != 1 {
		t.Fatalf("%d tasks were started, want 1", len(d.tasks))
	}
	a := d.tasks[0]
	if a.Timeout != time.Minute || a.Heartbeat != 3*time.Second || a.Resource != "arn:x.waitForTaskToken" ||
		a.Credentials.JSON() != `{"RoleArn":"me"}` || a.Input.Get("token").Text() != a.Token || a.Token == "" {
		t.Errorf("the task is %+v", a)
	}
}

// TestLateEvents sends events that nobody waits for any more: they change nothing.
func TestLateEvents(t *testing.T) {
	t.Parallel()
	d := newDriver(t, `{"StartAt":"S","States":{"S":{"Type":"Task","Resource":"r","Next":"W"},"W":{"Type":"Wait","Seconds":60,"End":true}}}`)
	d.run(`{}`)
	state := d.x.Append(nil)
	task := d.tasks[0].ID
	for _, e := range []Event{
		{Kind: Start}, {Kind: TimerFired, ID: task}, {Kind: TaskSucceeded}, {Kind: TaskSucceeded, ID: 99}, {Kind: TaskFailed, ID: 99}, {},
	} {
		d.step(e)
		if !bytes.Equal(state, d.x.Append(nil)) {
			t.Fatalf("event %+v changed the execution", e)
		}
	}
	d.step(Event{Kind: TaskSucceeded, ID: task, Data: []byte(`1`)})
	d.drop(task)
	state = d.x.Append(nil)
	for _, e := range []Event{
		{Kind: TaskSucceeded, ID: task, Data: []byte(`2`)}, {Kind: TaskTimedOut, ID: task}, failWith("a", "b"), {Kind: TaskSucceeded, ID: d.timers[0].ID},
	} {
		if e.ID == 0 {
			e.ID = task
		}
		d.step(e)
		if !bytes.Equal(state, d.x.Append(nil)) {
			t.Fatalf("event %+v changed the execution", e)
		}
	}
	d.advance()
	d.want("SUCCEEDED 1")
	d.step(Event{Kind: Abort})
	d.want("SUCCEEDED 1")
}

func TestRefusedEvents(t *testing.T) {
	t.Parallel()
	def := mustParse(t, alone(`"Type":"Pass"`))
	x := def.New(Identity{ID: "e"})
	for _, e := range []Event{
		{Kind: TimerFired, ID: 1}, {Kind: Start, Data: []byte(`{`)}, {Kind: Start, Data: []byte("\"\xff")},
		{Kind: Start, Data: []byte(`"` + strings.Repeat("x", DefaultPayload) + `"`)},
	} {
		next, actions, err := def.Step(x, e, Environment{Now: began})
		if fault.Of(err) != fault.Invalid || err == nil || len(actions) > 0 || next.Status != Pending {
			t.Errorf("event %d: %v, %d actions, %s", e.Kind, err, len(actions), next.Status)
		}
	}
	other := mustParse(t, `{"StartAt":"S","States":{"S":{"Type":"Succeed"}}}`)
	if _, _, err := other.Step(x, Event{Kind: Start}, Environment{}); fault.Of(err) != fault.Setup || err == nil {
		t.Errorf("an execution of another definition was stepped: %v", err)
	}
}

// TestBranchFails checks that one branch's failure takes the others back.
func TestBranchFails(t *testing.T) {
	t.Parallel()
	d := newDriver(t, single(`"Type":"Parallel","Branches":[
		{"StartAt":"A","States":{"A":{"Type":"Task","Resource":"slow","End":true}}},
		{"StartAt":"B","States":{"B":{"Type":"Wait","Seconds":1000,"End":true}}},
		{"StartAt":"C","States":{"C":{"Type":"Map","ItemProcessor":{"StartAt":"D","States":{"D":{"Type":"Task","Resource":"slow","End":true}}},"End":true}}},
		{"StartAt":"E","States":{"E":{"Type":"Wait","Seconds":5,"Next":"F"},"F":{"Type":"Fail","Error":"Own","Cause":"mine"}}}],
		"Catch":[{"ErrorEquals":["Own"],"Next":"Done"}],"End":true`))
	d.run(`[1,2,3]`)
	d.want(`SUCCEEDED {"Error":"Own","Cause":"mine"}`)
	if len(d.tasks)+len(d.timers) > 0 {
		t.Errorf("%d tasks and %d timers are still out", len(d.tasks), len(d.timers))
	}
	if now := d.env.Now.Sub(began); now != 5*time.Second {
		t.Errorf("it took %v, want 5s", now)
	}
}

// TestBranchRetries checks that a retry of a Parallel runs its branches again.
func TestBranchRetries(t *testing.T) {
	t.Parallel()
	d := newDriver(t, alone(`"Type":"Parallel","Branches":[{"StartAt":"A","States":{"A":{"Type":"Task","Resource":"r","End":true}}},
		{"StartAt":"B","States":{"B":{"Type":"Task","Resource":"r","End":true}}}],"Retry":[{"ErrorEquals":["E"]}]`))
	d.answer = sequence(failWith("E", ""), failWith("E", ""), Event{Kind: TaskSucceeded, Data: []byte(`1`)})
	d.run(`{}`).want(`SUCCEEDED [1,1]`)
	if now := d.env.Now.Sub(began); now != 3*time.Second {
		t.Errorf("it took %v, want 1s and 2s", now)
	}
}

func TestExecutionTimeout(t *testing.T) {
	t.Parallel()
	for _, late := range []bool{false, true} {
		d := newDriver(t, `{"TimeoutSeconds":60,"StartAt":"S","States":{"S":{"Type":"Task","Resource":"r","Catch":[{"ErrorEquals":["States.ALL"],"Next":"D"}],"Next":"D"},"D":{"Type":"Wait","Seconds":600,"End":true}}}`)
		d.step(Event{Kind: Start})
		if late { // the answer comes before the timer, but after the time
			d.env.Now = began.Add(61 * time.Second)
			id := d.tasks[0].ID
			d.tasks = nil
			next, actions, err := d.def.Step(d.x, Event{Kind: TaskSucceeded, ID: id}, d.env)
			if err != nil || next.Status != TimedOut || actions[len(actions)-1].Kind != Finish {
				t.Errorf("a late answer: %v, %s, %+v", err, next.Status, actions)
			}
			continue
		}
		for d.advance() {
		}
		d.want("TIMED_OUT")
		if len(d.tasks)+len(d.timers) > 0 {
			t.Errorf("%d tasks and %d timers are still out", len(d.tasks), len(d.timers))
		}
	}
}

func TestAbort(t *testing.T) {
	t.Parallel()
	d := newDriver(t, alone(`"Type":"Task","Resource":"r"`))
	d.run(`{}`)
	d.step(Event{Kind: Abort, Error: new("Operator"), Cause: new("maintenance")})
	d.want("ABORTED Operator: maintenance")
	if len(d.tasks) > 0 {
		t.Error("the task is still out")
	}
}

// TestEndlessMachine checks that a machine that never waits gives way.
func TestEndlessMachine(t *testing.T) {
	t.Parallel()
	text := `{"StartAt":"A","States":{"A":{"Type":"Pass","Next":"B"},"B":{"Type":"Choice","Choices":[{"Variable":"$.stop","IsPresent":true,"Next":"End"}],"Default":"A"},"End":{"Type":"Succeed"}}}`
	d := newDriver(t, text)
	d.step(Event{Kind: Start})
	for range 5 {
		if len(d.timers) != 1 || !d.timers[0].At.Equal(began) {
			t.Fatalf("timers are %+v, want one that is due", d.timers)
		}
		d.advance()
	}
	if d.x.Status != Running || d.x.Events < 5*2*DefaultTransitions {
		t.Errorf("after six steps: %s with %d events", d.x.Status, d.x.Events)
	}
	def, err := Parse([]byte(text), Limits{Events: 25_000})
	if err != nil {
		t.Fatal(err)
	}
	d = newDriver(t, text)
	d.def, d.x = def, def.New(Identity{})
	d.run(`{}`).want("FAILED States.Runtime: The execution reached the maximum number of history events (25000).")
}

func TestPayloadLimit(t *testing.T) {
	t.Parallel()
	big := []byte(`"` + strings.Repeat("é", DefaultPayload/2) + `"`)
	caught := `,"Catch":[{"ErrorEquals":["States.DataLimitExceeded"],"Next":"Done"}],"End":true`
	d := newDriver(t, single(`"Type":"Task","Resource":"arn:aws:states:::lambda:invoke"`+caught))
	d.answer = fixed(Event{Kind: TaskSucceeded, Data: big})
	d.run(`{}`).want(`SUCCEEDED {"Error":"States.DataLimitExceeded","Cause":"The state/task 'lambda' returned a result with a size exceeding the maximum number of bytes service limit."}`)

	d = newDriver(t, `{"StartAt":"S","States":{"S":{"Type":"Pass","Parameters":{"a.$":"$","b.$":"$"},"End":true}}}`)
	d.run(string(big[:DefaultPayload*3/4+1]) + `"`)
	if d.x.Status != Failed || *d.x.Error != "States.DataLimitExceeded" {
		t.Errorf("a pass that doubles its input ended %s", d.x.Status)
	}

	d = newDriver(t, single(`"Type":"Map","ItemProcessor":{"StartAt":"T","States":{"T":{"Type":"Task","Resource":"r","End":true}}}`+caught))
	d.answer = fixed(Event{Kind: TaskSucceeded, Data: append(big[:DefaultPayload/8+1:DefaultPayload/8+1], '"')})
	d.run(`[` + strings.Repeat("0,", 99) + `0]`)
	if d.x.Output.Get("Error").Text() != "States.DataLimitExceeded" || len(d.tasks) > 0 {
		t.Errorf("a map of large results ended %s with %d tasks out", d.x.Status, len(d.tasks))
	}
	if d.largest > 2*DefaultPayload {
		t.Errorf("the state grew to %d bytes", d.largest)
	}
}

// TestBrokenResults checks that a task's result that is no JSON is an error of the task.
func TestBrokenResults(t *testing.T) {
	t.Parallel()
	d := newDriver(t, single(`"Type":"Task","Resource":"r","Catch":[{"ErrorEquals":["States.TaskFailed"],"Next":"Done"}],"End":true`))
	d.answer = fixed(Event{Kind: TaskSucceeded, Data: []byte("{\xff")})
	d.run(`{}`)
	if got := d.x.Output.Get("Cause").Text(); !strings.Contains(got, "not JSON") {
		t.Errorf("the cause is %q", got)
	}
}

// TestRepeatedInput checks that inputs which repeat what they find do not make a state that
// outgrows the limits: each level of this machine would double it.
func TestRepeatedInput(t *testing.T) {
	t.Parallel()
	for _, typ := range []string{
		`"Type":"Parallel","Parameters":{"a.$":"$","b.$":"$"},"Branches":[%]`,
		`"Type":"Map","ItemSelector":{"a.$":"$","b.$":"$"},"InputPath":"$..x","ItemProcessor":%`,
		`"Type":"Map","ItemsPath":"$..*","ItemProcessor":%`,
	} {
		inner := `{"StartAt":"T","States":{"T":{"Type":"Task","Resource":"r","End":true}}}`
		for i := range 40 {
			name := fmt.Sprintf("S%d", i)
			inner = `{"StartAt":"` + name + `","States":{"` + name + `":{` + strings.ReplaceAll(typ, "%", inner) + `,"End":true}}}`
		}
		d := newDriver(t, inner)
		d.run(`{"x":["` + strings.Repeat("x", 1000) + `"]}`)
		if d.largest > 50*DefaultPayload {
			t.Errorf("the state grew to %d bytes", d.largest)
		}
	}
}

func TestComparators(t *testing.T) {
	t.Parallel()
	if len(comparators) != 39 {
		t.Fatalf("there are %d comparators, want 39", len(comparators))
	}
	const early, late = `"2026-01-01T00:00:00Z"`, `"2026-01-01T02:00:00+01:00"`
	for _, row := range []struct {
		comparator   string
		value, with  string
		holds, swaps bool // with value and with changed over
	}{
		{"StringEquals", `"a"`, `"a"`, true, true}, {"StringEquals", `"a"`, `"b"`, false, false},
		{"StringLessThan", `"a"`, `"b"`, true, false}, {"StringGreaterThan", `"a"`, `"b"`, false, true},
		{"StringLessThanEquals", `"a"`, `"a"`, true, true}, {"StringGreaterThanEquals", `"a"`, `"b"`, false, true},
		{"NumericEquals", `1`, `1.0`, true, true}, {"NumericLessThan", `9007199254740992`, `9007199254740993`, true, false},
		{"NumericGreaterThan", `2`, `10`, false, true}, {"NumericLessThanEquals", `-1`, `0`, true, false}, {"NumericGreaterThanEquals", `1e2`, `100`, true, true},
		{"BooleanEquals", `true`, `true`, true, true}, {"BooleanEquals", `true`, `false`, false, false},
		{"TimestampEquals", early, `"2026-01-01T01:00:00.000+01:00"`, true, true}, {"TimestampLessThan", early, late, true, false},
		{"TimestampGreaterThan", early, late, false, true}, {"TimestampLessThanEquals", early, early, true, true}, {"TimestampGreaterThanEquals", early, late, false, true},
	} {
		for _, path := range []bool{false, true} {
			for _, swap := range []bool{false, true} {
				value, with, want := row.value, row.with, row.holds
				if swap {
					value, with, want = row.with, row.value, row.swaps
				}
				rule := fmt.Sprintf(`%q:%s`, row.comparator, with)
				if path {
					rule = fmt.Sprintf(`"%sPath":"$.w"`, row.comparator)
				}
				checkRule(t, rule, fmt.Sprintf(`{"v":%s,"w":%s}`, value, with), want)
			}
		}
		// Other types are never equal nor ordered.
		checkRule(t, fmt.Sprintf(`%q:%s`, row.comparator, row.with), `{"v":null,"w":null}`, false)
	}
	for _, row := range []struct {
		rule, value string
		holds       bool
	}{
		{`"IsNull":true`, `null`, true}, {`"IsNull":false`, `1`, true}, {`"IsNumeric":true`, `1.5`, true}, {`"IsNumeric":true`, `"1"`, false},
		{`"IsString":true`, `""`, true}, {`"IsBoolean":true`, `false`, true}, {`"IsBoolean":false`, `"true"`, true}, {`"IsPresent":true`, `null`, true},
		{`"IsTimestamp":true`, early, true}, {`"IsTimestamp":true`, `"2026-01-01t00:00:00z"`, false}, {`"IsTimestamp":true`, `"2026-01-01T00:00:00"`, false},
		{`"IsTimestamp":true`, `"2026-01-01T00:00:00,5Z"`, false}, {`"IsTimestamp":false`, `5`, true},
		{`"StringMatches":"log-*.txt"`, `"log-2026.txt"`, true}, {`"StringMatches":"log-*.txt"`, `"log-.txt.gz"`, false}, {`"StringMatches":"*a*b*"`, `"xxaxxbxx"`, true},
		{`"StringMatches":"*a*b*"`, `"ba"`, false}, {`"StringMatches":"a*a"`, `"a"`, false}, {`"StringMatches":"x\\*y"`, `"x*y"`, true}, {`"StringMatches":"x\\*y"`, `"xay"`, false},
		{`"StringMatches":"*"`, `""`, true}, {`"StringMatches":"\\\\"`, `"\\"`, true}, {`"StringMatches":"*"`, `5`, false},
	} {
		checkRule(t, row.rule, `{"v":`+row.value+`}`, row.holds)
	}
	checkRule(t, `"IsPresent":false`, `{}`, true)
	checkRule(t, `"IsPresent":true`, `{}`, false)
}

func checkRule(t *testing.T, rule, input string, want bool) {
	t.Helper()
	d := newDriver(t, `{"StartAt":"S","States":{"S":{"Type":"Choice","Choices":[{"Variable":"$.v",`+rule+`,"Next":"Yes"}],"Default":"No"},
		"Yes":{"Type":"Pass","Result":true,"End":true},"No":{"Type":"Pass","Result":false,"End":true}}}`)
	d.run(input).want(fmt.Sprintf("SUCCEEDED %t", want))
}

// TestYieldBetweenStates interrupts a machine between a state with retriers and one without:
// the counters of the first must not stay behind.
func TestYieldBetweenStates(t *testing.T) {
	t.Parallel()
	text := `{"StartAt":"A","States":{
		"A":{"Type":"Task","Resource":"r","Parameters":{"x.$":"States.ArrayGetItem($, 9)"},"Retry":[{"ErrorEquals":["X"]},{"ErrorEquals":["States.ALL"],"MaxAttempts":0}],
			"Catch":[{"ErrorEquals":["States.ALL"],"ResultPath":null,"Next":"B"}],"Next":"B"},
		"B":{"Type":"Pass","Next":"A"}}}`
	for _, transitions := range []int{1, 2, 3} {
		def, err := Parse([]byte(text), Limits{Transitions: transitions})
		if err != nil {
			t.Fatal(err)
		}
		d := newDriver(t, text)
		d.def, d.x = def, def.New(Identity{})
		d.step(Event{Kind: Start, Data: []byte(`[]`)})
		for range 6 {
			d.advance() // which puts the state through the codec
		}
		if d.x.Status != Running {
			t.Errorf("with %d transitions a step: %s", transitions, d.outcome())
		}
	}
}
