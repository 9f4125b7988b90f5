package condition_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/condition"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/snowplow"
)

// order is a message as a gateway might have made it.
func order(payload string) *event.Message {
	m := event.New([]byte(payload))
	m.Key, m.Meta.ID = "user-1", "id-1"
	m.Meta.Headers = event.Headers{{Name: "tenant", Value: []byte("acme")}, {Name: "tenant", Value: []byte("other")}, {Name: "Tenant", Value: []byte("upper")}}
	m.Meta.Scope = &event.Scope{Workspace: "w", Source: "web", Destination: "archive"}
	return m
}

const payload = `{"type":"order","total":12.5,"count":3,"big":9007199254740993,"paid":true,"gone":null,
 "customer":{"name":"Zoë \"Z\"","tags":["new","eu"]},"a.b":1,"k\u0065y":"escaped","nested":[{"id":1},{"id":2}],"empty":{}}`

func TestTrue(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		want bool
	}{
		{`true`, true},
		{`event.type == "order"`, true},
		{`event.type == 'refund'`, false},
		{`event["type"] startsWith "ord"`, true},
		{`event.total > 12 and event.total < 13`, true},
		{`event.count == 3 and event.count + 1 == 4`, true},
		{`event.big == 9007199254740993`, true},
		{`event.big == 9007199254740992`, false},
		{`event.paid`, true},
		{`event.paid == true and not (event.type == "x")`, true},
		{`event.gone == nil and event.missing == nil and event.type.deeper == nil`, true},
		{`event?.customer?.name == "Zoë \"Z\""`, true},
		{`event.customer.tags[1] == "eu" and event.customer.tags[2] == nil`, true},
		{`"eu" in event.customer.tags`, true},
		{`"type" in event`, true},
		{`len(event.nested) == 2 and any(event.nested, .id == 2)`, true},
		{`event["a.b"] == 1 and event.key == "escaped"`, true},
		{`event.nested[0].id == 1`, true},
		{`let name = "type"; event[name] == "order"`, true},
		{`(event.discount ?? 0) > 1`, false},
		{`headers["tenant"] == "acme" and headers.tenant == "acme" and headers["other"] == ""`, true},
		{`headers.Tenant == "upper" and len(headers) == 2 and $env["headers"]["tenant"] == "acme"`, true},
		{`key == "user-1" and id == "id-1"`, true},
		{`workspace == "w" and source == "web" and destination == "archive"`, true},
		{`size > 100 and data contains "customer"`, true},
		{`event.missing`, false}, // nil is false
		{`data matches "^.\"type\""`, true},
	} {
		compiled, err := condition.Compile(c.text)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		got, err := condition.NewEvaluator().True(compiled, order(payload))
		if err != nil || got != c.want {
			t.Errorf("%s is %t (%v), want %t", c.text, got, err, c.want)
		}
	}
}

func TestCompileErrors(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		``:                                  "the condition is empty",
		`event.type = "order"`:              "at column",
		`event.type == `:                    "unexpected token EOF",
		`even.type == "order"`:              "unknown name even, at column 1 of the condition",
		`size`:                              "expected bool, but got int",
		`key + 1 == 2`:                      "invalid operation: + (mismatched types string and int), at column 5",
		`nothing(event)`:                    "unknown name nothing",
		strings.Repeat(" ", 70000) + "true": "at most 65536 are read",
	} {
		_, err := condition.Compile(text)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.40s: %v, want one line with %q", text, err, want)
		}
	}
}

func TestUndecided(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`event.missing > 3`:    "cannot be decided",
		`event.type`:           "invalid operation: bool(string)",
		`event.type.x.y.z > 1`: "cannot be decided",
		`size / (size-size) > 1 and event.type in event.count`: "cannot be decided",
	} {
		c, err := condition.Compile(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		e := condition.NewEvaluator()
		_, err = e.True(c, order(payload))
		if err == nil || fault.Of(err) != fault.Invalid || !strings.Contains(err.Error(), want) {
			t.Fatalf("%s: %v, want an invalid error with %q", text, err, want)
		}
		if strings.Contains(err.Error(), "Zoë") {
			t.Errorf("the error shows the payload: %v", err)
		}
		// One message that cannot be decided leaves the evaluator usable.
		if ok, err := e.True(must(t, `event.count == 3`), order(payload)); err != nil || !ok {
			t.Errorf("after %s: %t, %v", text, ok, err)
		}
	}
}

func TestOtherPayloads(t *testing.T) {
	t.Parallel()
	for _, p := range []string{"", "not json", `"text"`, `7`, `{"type"`, `{"type":}`, `[1,2`, "\x00\xff", "a\tb\tc"} {
		ok, err := condition.NewEvaluator().True(must(t, `event.type == nil and event.a.b == nil`), order(p))
		if err != nil || !ok {
			t.Errorf("payload %q: %t, %v", p, ok, err)
		}
	}
	if ok, err := condition.NewEvaluator().True(must(t, `event[1] == "b"`), event.New([]byte(`["a","b"]`))); err != nil || !ok {
		t.Errorf("array: %t, %v", ok, err)
	}
}

// TestSameJSON: a condition sees what the other readers of a payload see.
func TestSameJSON(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		payload, text string
	}{
		{`{"a":1,"\u0061":2}`, `event.a == 2`},
		{`{"o":{"a":1,"a":{"b":[1,2]}}}`, `event.o.a.b[1] == 2`},
		{`{"a":1} x`, `event.a == nil`},
		{`{"a":1,"b":}`, `event.a == nil`},
		{`{"a":9007199254740993.0,"b":5.0,"c":1e3}`, `event.a == 9007199254740993 and event.b == 5 and event.c == 1000`},
		{`{"a":[9007199254740993]}`, `event.a[0] == 9007199254740993 and 9007199254740993 in event.a`},
		{`{"a":1e999,"b":-1e999}`, `event.a > 1.0 and event.b < 1`},
		{"{\"a\":\"x\xff\\ud800\"}", `event.a == "x\ufffd\ufffd"`},
		{`["a",{"b":1}]`, `event[1].b == 1 and event[2] == nil`},
	} {
		e, m := condition.NewEvaluator(), event.New([]byte(row.payload))
		for range 3 { // read, kept, and known
			if ok, err := e.True(must(t, row.text), m); err != nil || !ok {
				t.Errorf("%s of %q: %t, %v", row.text, row.payload, ok, err)
			}
		}
		m.Replace([]byte(`{}`))
		if ok, err := e.True(must(t, `event.a == nil and event.o == nil`), m); err != nil || !ok {
			t.Errorf("%q was seen after it was replaced: %t, %v", row.payload, ok, err)
		}
	}
}

// TestSnowplow asks an enriched event, as it was read and after a transform made JSON of it.
func TestSnowplow(t *testing.T) {
	t.Parallel()
	sample, err := os.ReadFile(filepath.Join("..", "..", "examples", "snowplow", "data", "enriched.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(sample), "\n")
	m := event.New([]byte(line))
	e, err := snowplow.Of(m)
	if err != nil {
		t.Fatal(err)
	}
	all, err := e.Map()
	if err != nil {
		t.Fatal(err)
	}
	text := `event.app_id == ` + quote(t, all["app_id"]) + ` and event.no_such_field == nil and "app_id" in event`
	for range 2 {
		if ok, err := condition.NewEvaluator().True(must(t, text), m); err != nil || !ok {
			t.Errorf("%s: %t, %v", text, ok, err)
		}
		m = event.New([]byte(line)) // not parsed before
	}
}

func quote(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func must(t testing.TB, text string) *condition.Condition {
	t.Helper()
	c, err := condition.Compile(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return c
}

// TestFieldsLikeDecoding compares what a condition sees of any object with what decoding
// the object whole shows.
func TestFieldsLikeDecoding(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		leaf := rapid.OneOf(rapid.Just[any](nil), rapid.Map(rapid.Bool(), toAny), rapid.Map(rapid.StringN(0, 8, -1), toAny),
			rapid.Map(rapid.Int32(), func(i int32) any { return float64(i) }), rapid.Map(rapid.Float64Range(-1e9, 1e9), func(f float64) any { return f }))
		list := rapid.Map(rapid.SliceOfN(leaf, 0, 4), func(l []any) any { return l })
		object := rapid.MapOfN(rapid.StringMatching(`[a-d"\\é]{1,2}`), rapid.OneOf(leaf, list), 0, 5).Draw(t, "object")
		text, err := json.MarshalIndent(object, "", rapid.SampledFrom([]string{"", " ", "\t"}).Draw(t, "indent"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range append([]string{"a", "zz"}, keys(object)...) {
			quoted, _ := json.Marshal(name)
			same, err := condition.Compile(`event[` + string(quoted) + `] == fromJSON(data)[` + string(quoted) + `]`)
			if err != nil {
				t.Fatal(err)
			}
			if ok, err := condition.NewEvaluator().True(same, event.New(text)); err != nil || !ok {
				t.Fatalf("%s of %s: %t, %v", name, text, ok, err)
			}
		}
	})
}

func toAny[T any](v T) any { return v }

func keys(m map[string]any) []string {
	var ks []string
	for k := range m {
		ks = append(ks, k)
	}
	return ks
}

func FuzzCondition(f *testing.F) {
	f.Add(`event.type == "order"`, payload)
	f.Add(`event.nested[0].id in [1, 2]`, `{"nested":[{"id":1}]}`)
	f.Add(`any(event.items, .price > 3)`, `{"items":[{"price":4}]}`)
	f.Add(`len(filter(split(data, ","), # != "")) > 1`, "a,b")
	f.Fuzz(func(t *testing.T, text, data string) {
		if len(text) > 200 || strings.Contains(text, "..") || strings.Contains(text, "repeat") {
			return // ranges and repetition are bounded by expr, and slow to get there
		}
		c, err := condition.Compile(text)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("several lines: %q", err)
			}
			return
		}
		m := order(data)
		if _, err := condition.NewEvaluator().True(c, m); err != nil && fault.Of(err) != fault.Invalid {
			t.Errorf("%v is not invalid", err)
		}
		if string(m.Data) != data {
			t.Error("the payload changed")
		}
	})
}

func TestAllocations(t *testing.T) {
	c, e, m := must(t, `size > 10 and event.count == 3 and event.paid`), condition.NewEvaluator(), order(payload)
	if n := testing.AllocsPerRun(100, func() { _, _ = e.True(c, m) }); n > 6 {
		t.Errorf("%v allocations for a message", n)
	}
}

func BenchmarkTrue(b *testing.B) {
	c, e, m := must(b, `event.type == "order" and event.total > 12 and headers["tenant"] == "acme"`), condition.NewEvaluator(), order(payload)
	b.ReportAllocs()
	for b.Loop() {
		if ok, err := e.True(c, m); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}
