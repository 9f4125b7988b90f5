package jsontext_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/jsontext"
)

func TestSetIn(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ in, want string }{
		{`{}`, `{"context":{"a":1,"b":[2]}}`},
		{` { "x" : 1 } `, ` { "x" : 1 ,"context":{"a":1,"b":[2]}} `},
		{`{"context":null}`, `{"context":{"a":1,"b":[2]}}`},
		{`{"context": {} ,"x":0}`, `{"context": {"a":1,"b":[2]} ,"x":0}`},
		{`{"context":{ "a" : 5, "c":{"a":6} ,"\u0061":7}}`, `{"context":{"c":{"a":6},"a":1,"b":[2]}}`},
		{`{"context":1,"\u0063ontext":{"c":1e400}}`, `{"context":1,"\u0063ontext":{"c":1e400,"a":1,"b":[2]}}`},
		{`{"context":"text"}`, ""}, {`{"context":[1]}`, ""}, {`[1]`, ""}, {`{"context":{}`, ""}, {``, ""}, {`{} x`, ""},
	} {
		got, ok := jsontext.SetIn([]byte(row.in), "context", jsontext.Setting{Name: "a", Value: []byte("1")}, jsontext.Setting{Name: "b", Value: []byte("[2]")})
		if want := row.want; ok != (want != "") || ok && string(got) != want || !ok && string(got) != row.in {
			t.Errorf("%s: %s, %t", row.in, got, ok)
		}
	}
}

// TestSetInProperty compares with what decoded objects say.
func TestSetInProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom([]string{"context", "a", "b", "\"é"})
		value := rapid.OneOf(rapid.Just(any(1.0)), rapid.Just(any(nil)), rapid.Map(rapid.MapOf(name, rapid.Just(any("x"))), func(m map[string]any) any { return m }))
		object := rapid.MapOf(name, value).Draw(t, "object")
		text, err := json.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		key := name.Draw(t, "name")
		out, ok := jsontext.SetIn(text, "context", jsontext.Setting{Name: key, Value: []byte("true")})
		inner, is := object["context"].(map[string]any)
		if ok != (is || object["context"] == nil) {
			t.Fatalf("%s: %t", text, ok)
		}
		if ok {
			if inner == nil {
				inner = map[string]any{}
				object["context"] = inner
			}
			inner[key] = true
		}
		var got map[string]any
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		if d := cmp.Diff(object, got); d != "" {
			t.Fatalf("%s became %s:\n%s", text, out, d)
		}
	})
}
