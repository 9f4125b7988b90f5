package trackingplan

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// typeOf is RudderStack's type of what its validator says.
func typeOf(keyword string) string {
	switch keyword {
	case "required":
		return Missing
	case "type":
		return Datatype
	case "additionalProperties", "unevaluatedProperties":
		return Additional
	case "minLength", "maxLength", "pattern", "format", "multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
		"minItems", "maxItems", "uniqueItems", "enum", "if":
		return Advanced
	}
	return Unknown
}

// TestViolations compares with what Ajv 8 with RudderStack's options, whose answers are in
// testdata/violations.json, says of the same events. The order is not compared.
func TestViolations(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/violations.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Name   string
		Schema json.RawMessage
		Event  json.RawMessage
		Errors []struct{ Keyword, Message, Property, InstancePath, SchemaPath string }
	}
	if err := json.Unmarshal(text, &cases); err != nil || len(cases) < 30 {
		t.Fatalf("%d cases: %v", len(cases), err)
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			r := &rule{}
			if r.schema, r.doc, r.err = compile(c.Schema); r.err != nil {
				t.Fatal(r.err)
			}
			event, err := decode(c.Event)
			if err != nil {
				t.Fatal(err)
			}
			got, err := r.violations(event)
			if err != nil {
				t.Fatal(err)
			}
			var want []Violation
			for _, e := range c.Errors {
				v := Violation{typeOf(e.Keyword), e.Message, "", Place{&e.InstancePath, e.SchemaPath}}
				switch v.Type {
				case Additional:
					v.Property = e.Property
					v.Message += " '" + e.Property + "'"
				case Missing:
					v.Property = e.Property
				}
				want = append(want, v)
			}
			again, _ := r.violations(event)
			if d := cmp.Diff(got, again); d != "" {
				t.Errorf("another time it says something else:\n%s", d)
			}
			order := func(a, b Violation) int { return strings.Compare(text2(a), text2(b)) }
			slices.SortFunc(want, order)
			slices.SortFunc(got, order)
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

func text2(v Violation) string {
	text, _ := json.Marshal(v)
	return string(text)
}
