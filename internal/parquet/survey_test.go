package parquet_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/parquet"
)

// preferring decodes events as a writer does: again, with what most values are, when one went
// beside its column.
func preferring(t *testing.T, events ...string) *parquet.Decoder {
	t.Helper()
	s := parquet.NewSurvey(options)
	for _, e := range events {
		s.Add([]byte(e))
	}
	o := options
	o.Prefer = s.Kinds()
	return parquet.NewDecoder(&parquet.Schema{}, o)
}

// TestSurvey: the type of a column is what most of its values are, whichever comes first;
// null, {} and [] decide nothing.
func TestSurvey(t *testing.T) {
	t.Parallel()
	for want, events := range map[string][]string{
		"n double\nn__json json\n":             {`{"n":"12 euro"}`, `{"n":1}`, `{"n":2.5}`},
		"n int64\nn__json json\n":              {`{"n":{"a":1}}`, `{"n":1}`, `{"n":2}`},
		"s string\ns__json json\n":             {`{"s":5}`, `{"s":"a"}`, `{"s":"b"}`, `{"s":true}`},
		"l list of string\n":                   {`{"l":[]}`, `{"l":null}`, `{"l":["a"]}`},
		"l list of int64\nl__json json\n":      {`{"l":["a"]}`, `{"l":[1,2]}`},
		"o object\n  a int64\n_rest json\n":    {`{"o":{}}`, `{"o":{"a":1}}`},
		"o object\n  a bool\n  a__json json\n": {`{"o":{"a":"x"}}`, `{"o":{"a":true}}`, `{"o":{"a":false}}`},
		"i list of object\n  p double\n":       {`{"i":[{"p":1}]}`, `{"i":[{"p":1.5}]}`},
		"b bool\nb__json json\n":               {`{"b":true}`, `{"b":"true"}`},
	} {
		d := preferring(t, events...)
		same(t, readAll(t, file(t, d, events...)), kept(events))
		if diff := cmp.Diff(want, columns(d.Schema())); diff != "" {
			t.Errorf("%s (-want +got):\n%s", events, diff)
		}
	}
}

// kept is events as their rows give them back: without members that are null.
func kept(events []string) []string {
	out := make([]string, len(events))
	for i, e := range events {
		if out[i] = e; e == `{"l":null}` {
			out[i] = "{}"
		}
	}
	return out
}

// TestSurveyLosesNothing: whatever is preferred, every value is given back, and a value of the
// kind that most are is in the column.
func TestSurveyLosesNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		values := []any{true, 1, 2.5, "text", map[string]any{"a": 1}, map[string]any{"a": "x"}, map[string]any{}, []any{}, []any{1}, []any{"x", nil}}
		var events []string
		for i := range rapid.IntRange(1, 12).Draw(r, "events") {
			event := map[string]any{"id": i}
			for _, name := range []string{"f", "g"} {
				if v := rapid.SampledFrom(append(values, nil)).Draw(r, name); v != nil {
					event[name] = v
				}
			}
			text, err := json.Marshal(event)
			if err != nil {
				t.Fatal(err)
			}
			events = append(events, string(text))
		}
		d := preferring(t, events...)
		got := readAll(t, file(t, d, events...))
		for i := range events {
			var a, b any
			if err := fmt.Sprint(json.Unmarshal([]byte(events[i]), &a), json.Unmarshal([]byte(got[i]), &b)); err != "<nil> <nil>" {
				t.Fatal(err)
			}
			if diff := cmp.Diff(a, b); diff != "" {
				r.Errorf("event %d (-want +got):\n%s", i, diff)
			}
		}
	})
}
