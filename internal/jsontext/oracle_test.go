package jsontext_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/condition"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/gateway"
	"github.com/weirdata/weir/internal/jsontext"
	"github.com/weirdata/weir/internal/machine/jsonvalue"
	"github.com/weirdata/weir/internal/parquet"
	"github.com/weirdata/weir/internal/script"
	"github.com/weirdata/weir/internal/snowplow"
	"github.com/weirdata/weir/internal/transform/jq"
	"github.com/weirdata/weir/internal/transform/js"
	"github.com/weirdata/weir/internal/workspace"
)

// reader is somebody who reads JSON: the meaning of an object, with what it takes numbers for,
// or an error. A reader with a nil meaning only says whether the object is valid.
type reader struct {
	name string
	read func(text string) (any, error)
	// floats says that numbers are float64 by contract, and that those beyond are an error.
	floats bool
	// sparse says that members that are null, or empty, may be missing.
	sparse bool
}

// written is the meaning of a text that a reader wrote.
func written(text string, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("what was written is not JSON: %w", err)
	}
	return v, nil
}

func number(token string) (any, error) { return json.Number(token), nil }

// applied is the payload that a transform makes of a text.
func applied(t connector.Worker, text string) (string, error) {
	out, err := t.Apply(context.Background(), nil, event.New([]byte(text)))
	if err != nil {
		return "", err
	}
	return string(out[0].Data), nil
}

// readers are all who read events on a hot path; who stands on package jsontext's scanner
// alone is there by it.
func readers(t testing.TB) []reader {
	t.Helper()
	worker := func(tr connector.Transform, err error) connector.Worker {
		if err != nil {
			t.Fatal(err)
		}
		return conntest.Worker(t, tr)
	}
	ofJS := func(source string) connector.Worker {
		tr, err := js.New(connector.Deps{}, js.Config{Script: source, JSONMode: true, TimeoutSec: 60, MemoryLimitMB: 1024, HashVersion: script.HashDerived})
		return worker(tr, err)
	}
	script1 := ofJS(`function main(x) { return { Data: x.Data } }`)
	script2 := ofJS(`function main(x) { x.Data.zz = 1; delete x.Data.zz; return { Data: x.Data } }`)
	program := worker(jq.JQ.Build(context.Background(), connector.Deps{}, func(into any) error {
		c := into.(*jq.Config)
		c.Command, c.TimeoutMillis = ".", 60_000
		return nil
	}))
	file, err := workspace.Open("../gateway/testdata/workspaceConfig.json", nil)
	if err != nil {
		t.Fatal(err)
	}
	door := gateway.New(file, gateway.Options{AnyID: true})
	anything, err := condition.Compile(`event != nil`)
	if err != nil {
		t.Fatal(err)
	}
	var turn sync.Mutex // transforms, evaluators and decoders belong to one goroutine
	rs := []reader{
		{name: "jsontext.Valid", read: func(text string) (any, error) { return nil, jsontext.Check(text) }},
		{name: "jsontext.Decode", read: func(text string) (any, error) { return jsontext.Decode(text, number) }},
		{name: "script.Decode", read: script.Decode},
		{name: "js, untouched", read: func(text string) (any, error) { return written(applied(script1, text)) }},
		{name: "js, written anew", read: func(text string) (any, error) { return written(applied(script2, text)) }},
		{name: "jq", sparse: true, read: func(text string) (any, error) { return written(applied(program, text)) }},
		{name: "jsonvalue", read: func(text string) (any, error) {
			v, err := jsonvalue.ParseString(text)
			return written(v.JSON(), err)
		}},
		{name: "snowplow", floats: true, read: func(text string) (any, error) {
			m, err := (&snowplow.Entity{Data: text}).Object()
			return any(m), err
		}},
		{name: "condition", read: func(text string) (any, error) {
			if ok, err := condition.NewEvaluator().True(anything, event.New([]byte(text))); err != nil || !ok {
				return nil, fmt.Errorf("it has no fields: %v", err)
			}
			return nil, nil
		}},
		{name: "gateway", read: func(text string) (any, error) {
			r := httptest.NewRequest(http.MethodPost, "/v1/track", nil)
			r.SetBasicAuth("KEY1", "")
			var c gateway.Call
			if no := door.Begin(&c, r, time.Now()); no != nil {
				t.Fatal(no.Code)
			}
			b, no := door.Events(&c, []byte(text))
			if no != nil {
				return nil, fmt.Errorf("answered %d", no.Code)
			}
			return nil, jsontext.Check(b[0].Data)
		}},
		{name: "parquet", sparse: true, read: columns},
	}
	for i := range rs {
		read := rs[i].read
		rs[i].read = func(text string) (any, error) {
			turn.Lock()
			defer turn.Unlock()
			return read(text)
		}
	}
	return rs
}

// columns is member a of an object as the lake's columns hold it.
func columns(text string) (any, error) {
	d := parquet.NewDecoder(&parquet.Schema{}, parquet.Options{MaxDepth: jsontext.MaxDepth, MaxColumns: 100_000, Taps: []string{"a", "a__json"}})
	if err := d.Decode([]byte(text)); err != nil {
		return nil, err
	}
	switch v := d.Tap(0); v.Kind {
	case parquet.String:
		return map[string]any{"a": string(v.Text)}, nil
	case parquet.Int:
		return map[string]any{"a": v.Int}, nil
	case parquet.Double:
		return map[string]any{"a": v.Real}, nil
	case parquet.Bool:
		return map[string]any{"a": v.Int == 1}, nil
	case parquet.JSON:
		a, err := written(string(v.Text), nil)
		return map[string]any{"a": a}, err
	}
	return nil, nil
}

// same reports whether got says what want says, in which numbers are as they were written.
func same(r *reader, got, want any) bool {
	switch want := want.(type) {
	case json.Number:
		return sameNumber(r, got, string(want))
	case map[string]any:
		got, ok := got.(map[string]any)
		for k, v := range want {
			if g, there := got[k]; there && !same(r, g, v) || !there && !r.sparse {
				return false
			}
		}
		for k := range got {
			if _, there := want[k]; !there {
				return false
			}
		}
		return ok
	case []any:
		got, ok := got.([]any)
		if !ok || len(got) != len(want) && !r.sparse {
			return false
		}
		for i := range got {
			if len(got) == len(want) && !same(r, got[i], want[i]) {
				return false
			}
		}
		return true
	}
	return got == want
}

func sameNumber(r *reader, got any, want string) bool {
	nearest, err := strconv.ParseFloat(want, 64)
	switch got := got.(type) {
	case int:
		return got == 0 && nearest == 0 && !strings.ContainsAny(want[:len(want)-len(strings.TrimLeft(want, "-0.eE"))], "123456789") || sameExact(strconv.Itoa(got), want)
	case int64:
		return sameExact(strconv.FormatInt(got, 10), want)
	case *big.Int:
		return sameExact(got.String(), want)
	case json.Number:
		if string(got) == want {
			return true
		}
		if x, err := got.Float64(); err == nil && x == nearest {
			return r.floats || jsontext.Exact(want, x) && (x != 0 || !significant(want)) || sameExact(string(got), want)
		}
		return sameExact(string(got), want)
	case float64:
		return err == nil && got == nearest && (r.floats || jsontext.Exact(want, got) && (got != 0 || !significant(want)))
	}
	return false
}

// significant reports whether a number has a digit that is not zero.
func significant(number string) bool {
	mantissa, _, _ := strings.Cut(strings.ToLower(number), "e")
	return strings.ContainsAny(mantissa, "123456789")
}

func sameExact(a, b string) bool {
	if len(a) > 2000 || len(b) > 2000 || largeExponent(a) || largeExponent(b) {
		return a == b
	}
	x, ok1 := new(big.Rat).SetString(a)
	y, ok2 := new(big.Rat).SetString(b)
	return ok1 && ok2 && x.Cmp(y) == 0
}

func largeExponent(number string) bool {
	_, e, found := strings.Cut(strings.ToLower(number), "e")
	n, err := strconv.Atoi(e)
	return found && (err != nil || n > 5000 || n < -5000)
}

// agree checks that all readers take an object for the same, which encoding/json is asked for.
func agree(t *testing.T, rs []reader, text string) {
	t.Helper()
	valid := json.Valid([]byte(text))
	want, _ := written(text, nil)
	object, _ := want.(map[string]any)
	if valid && object == nil {
		return // not about objects
	}
	for i := range rs {
		r := &rs[i]
		got, err := r.read(text)
		if r.floats && err != nil && valid && strings.Contains(err.Error(), "beyond the numbers") {
			continue
		}
		if (err == nil) != valid {
			t.Errorf("%s: %.80q: %v, and encoding/json says %t", r.name, text, err, valid)
			continue
		}
		if err != nil || got == nil {
			continue
		}
		meant := any(object)
		if r.name == "parquet" {
			meant = map[string]any{"a": object["a"]}
		}
		if !same(r, got, meant) {
			t.Errorf("%s: %.80q is read as %.200v, want %.200v", r.name, text, got, meant)
		}
	}
}

func nested(depth int) string {
	return strings.Repeat(`{"a":`, depth) + "1" + strings.Repeat("}", depth)
}

// objects are what readers have disagreed about.
var objects = []string{
	`{}`, `{"a":1}`, `{"a":"\ud800"}`, `{"a":"\udc00\ud800x"}`, `{"a":"\ud83d\ude00"}`, `{"a":"\ud83d\u0041"}`, "{\"a\":\"\xff\"}", "{\"a\":\"x\xed\xa0\x80\xc3\"}",
	"{\"\xff\":1}", "{\"\xff\":1,\"\xfe\":2}", `{"\ud800":1,"\ufffd":2}`, "{\"a\":\"\x7f\"}", `{"a":1,"a":2}`, `{"a":1,"b":3,"\u0061":2}`, `{"a":1,"a":null}`, "\ufeff{\"a\":1}",
	`{"a":1e999}`, `{"a":-1e999}`, `{"a":1e-400}`, `{"a":0e-400}`, `{"a":-0}`, `{"a":-0.0}`, `{"a":01}`, `{"a":` + strings.Repeat("9", 400) + `}`, `{"a":9007199254740993}`,
	`{"a":9007199254740993.0}`, `{"a":90071992547409930e-1}`, `{"a":12345678901234567890}`, `{"a":12345678901234567891.0}`, `{"a":1e23}`, `{"a":1e18}`, `{"a":5.0}`, `{"a":0.1}`, `{"a":1E+2}`,
	`{"a":[1,2.0,1e3,9007199254740993.0,"\ud800"]}`, `{"a":0.1234567890123456789}`, `{"a":1.}`, `{"a":.5}`, `{"a":+1}`, `{"a":-}`, `{"a":1e}`, `{"a":NaN}`, `{"a":Infinity}`,
	`{"":1}`, "{\"a\":1}\x00", `{"a":1} x`, `{"a":1}{"b":2}`, `{"\u0000":1}`, "{\"a\":\v1}", "{\"a\":\f1}", "{\"a\":\u00a01}", "{\"a\":\"\x01\"}", "{\"a\":\"\t\"}", `{"a":"\x"}`, `{"a":"\u12"}`, `{"a":"\u12g4"}`,
	`{"a":tru}`, `{"a":truex}`, `{"a":nul}`, `{"a":1,}`, `{,}`, `{"a"}`, `{"a":}`, `{a:1}`, `{'a':1}`, `{"a":[1,]}`, `{"a":[1 2]}`, `{"a":{"b":1}`, `{"a":"x`, `{`, ``, ` `, `{"a":1]`, `[}`,
	" \t\r\n{ \"a\" : [ true , false , null ] } \n", `{"a":"\"\\\/\b\f\n\r\t\u0000\u2028"}`, "{\"a\":\"\u2028\u00e9\"}", `{"1":1,"0":2,"a":3}`, `{"__proto__":1,"toString":2}`,
	`{"a":{"b":{"c":[{"d":"e\ud800"}]}}}`, `{"a":1 /* no */}`,
}

func TestReadersAgree(t *testing.T) {
	t.Parallel()
	rs := readers(t)
	for _, text := range objects {
		agree(t, rs, text)
	}
	for _, depth := range []int{20, 600, 1500, 9999, jsontext.MaxDepth, jsontext.MaxDepth + 1, 20_000} {
		agree(t, rs, nested(depth))
	}
}

func FuzzReadersAgree(f *testing.F) {
	for _, text := range objects {
		f.Add(text)
	}
	rs := readers(f)
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) < 1<<12 {
			agree(t, rs, text)
		}
	})
}
