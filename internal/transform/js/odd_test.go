package js

import (
	"context"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// TestOddResults: whatever main returns is a payload or the error of its message, and the
// same for the same input each time.
func TestOddResults(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, body, want, err string
	}{
		{"endless getter", `return {get Data() { for (;;); }}`, "", "runtime deadline exceeded"},
		{"endless getter inside", `return {Data: {get a() { for (;;); }}}`, "", "runtime deadline exceeded"},
		{"endless getter of headers", `return {Data: '', HTTPHeaders: {get a() { for (;;); }}}`, "", "runtime deadline exceeded"},
		{"throwing getter", `return {get Data() { throw new TypeError('mine') }}`, "", "TypeError: mine"},
		{"getter", `let n = 0; return {get Data() { return 'x' + ++n }}`, "x1", ""},
		{"endless proxy", `return new Proxy({}, {ownKeys() { for (;;); }})`, "", "runtime deadline exceeded"},
		{"proxy", `return {Data: new Proxy({a: 1, b: [2]}, {})}`, "", errData},
		{"proxy inside", `return {Data: {p: new Proxy({a: 1}, {})}}`, `{"p":{"a":1}}`, ""},
		{"revoked proxy", `const {proxy, revoke} = Proxy.revocable({}, {}); revoke(); return {Data: {p: proxy}}`, "", "TypeError"},
		{"toJSON is not called", `return {Data: {a: {toJSON: 1, b: 2}}}`, `{"a":{"toJSON":1,"b":2}}`, ""},
		{"toJSON of a function", `return {Data: {toJSON() { for (;;); }}}`, "", "a function has no JSON form"},
		{"circle", `const o = {}; o.o = [o]; return {Data: o}`, "", "circular"},
		{"same part twice", `const p = {n: 1}; return {Data: {a: p, b: [p, p]}}`, `{"a":{"n":1},"b":[{"n":1},{"n":1}]}`, ""},
		{"shared parts", `let a = [1]; for (let i = 0; i < 60; i++) a = [a, a]; return {Data: {a}}`, "", "memory limit exceeded"},
		{"deep", `let a = {}; for (let i = 0; i < 20000; i++) a = {a}; return {Data: a}`, "", "deeper than 10000 levels"},
		{"symbols", `return {Data: {[Symbol('k')]: 1, s: Symbol('v')}}`, `{"s":null}`, ""},
		{"numbers", `return {Data: {z: -0, big: 1e21, small: 1e-7, int: 2 ** 53, half: 0.5, i: 1n}}`, `{"z":0,"big":1e+21,"small":1e-7,"int":9007199254740992,"half":0.5,"i":1}`, ""},
		{"infinity", `return {Data: {a: [1 / 0]}}`, "", "Infinity has no JSON form"},
		{"lone surrogates", `return {Data: {'\ud800': 'a\udc00b', pair: '\ud83d\ude00'}}`, `{"\ud800":"a\udc00b","pair":"😀"}`, ""},
		{"lone surrogate as text", `return {Data: 'a\ud800'}`, "a\ufffd", ""},
		{"integer keys first", `return {Data: {b: 1, 10: 2, 9: 3, a: 4}}`, `{"9":3,"10":2,"b":1,"a":4}`, ""},
		{"class", `class A { constructor() { this.a = 1 } get b() { return 2 } } return {Data: new A()}`, `{"a":1}`, ""},
		{"no prototype", `const o = Object.create(null); o.a = 1; return {Data: o}`, `{"a":1}`, ""},
		{"inherited", `return Object.create({Data: 'x'})`, "", errData},
		{"not enumerable", `return Object.defineProperty({}, 'Data', {value: 'x'})`, "", errData},
		{"boxed", `return {Data: {n: new Number(5), s: new String('t'), b: new Boolean(false)}}`, `{"n":5,"s":"t","b":false}`, ""},
		{"boxed payload", `return {Data: new String('t')}`, "t", ""},
		{"date", `return {Data: {d: new Date(NaN)}}`, `{"d":null}`, ""},
		{"map", `return {Data: new Map([[1, 2]])}`, "", errData},
		{"regexp", `return {Data: {r: /x/}}`, `{"r":{}}`, ""},
		{"typed array", `return {Data: {b: new Uint8Array([1, 2])}}`, "", ""},
		{"holes", `return {Data: {l: [1, , undefined, 3]}}`, `{"l":[1,null,null,3]}`, ""},
		{"promise", `return Promise.resolve({Data: 'x'})`, "", "invalid return type"},
		{"async", `return (async () => ({Data: 'x'}))()`, "", "invalid return type"},
		{"generator", `return (function* () { yield 1 })()`, "", errData},
		{"arguments", `return (function () { return arguments })(1)`, "", errData},
		{"global", `return {Data: globalThis}`, "", ""},
		{"thrown undefined", `throw undefined`, "", errRun},
		{"thrown object", `throw {get message() { for (;;); }}`, "", errRun},
		{"thrown with an endless toString", `throw {toString() { for (;;); }}`, "", "runtime deadline exceeded"},
		{"thrown proxy", `throw new Proxy({}, {get() { for (;;); }})`, "", errRun},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			tr := build(t, `function main(x) { if (x.Data === 'plain') return x; `+test.body+` }`, func(c *Config) {
				c.TimeoutSec, c.MemoryLimitMB = 120, 64
				if strings.Contains(test.body, "for (;;)") {
					c.TimeoutSec = 3
				}
			})
			var first string
			for round := range 2 {
				m := event.New([]byte("in"))
				_, err := tr.Apply(context.Background(), nil, m)
				got := string(m.Data)
				if err != nil {
					got = err.Error()
					if fault.Of(err) != fault.Invalid || string(m.Data) != "in" {
						t.Fatalf("%v, payload %q", err, m.Data)
					}
				}
				if round == 0 {
					first = got
				}
				switch {
				case got != first:
					t.Errorf("first %q, then %q", first, got)
				case test.err != "" && (err == nil || !strings.Contains(got, test.err)):
					t.Errorf("got %.300q, want error %q", got, test.err)
				case test.want != "" && got != test.want:
					t.Errorf("got %.300q, want %q", got, test.want)
				}
				plain := event.New([]byte("plain"))
				if _, err := tr.Apply(context.Background(), nil, plain); err != nil || string(plain.Data) != "plain" {
					t.Fatalf("the message after it: %q, %v", plain.Data, err)
				}
			}
		})
	}
}

// TestOddInput: bytes that are no UTF-8, and large payloads.
func TestOddInput(t *testing.T) {
	t.Parallel()
	roomy := func(c *Config) { c.MemoryLimitMB = 1024 }
	same := build(t, `function main(x) { return x }`)
	look := build(t, `function main(x) { return {Data: x.Data + '!'} }`, roomy)
	mode := build(t, `function main(x) { x.Data.n = 1; return x }`, jsonMode, roomy)
	parse := build(t, `function main(x) { const d = JSON.parse(x.Data); d.n = 1; return {Data: JSON.stringify(d)} }`, roomy)
	large := `{"text":"` + strings.Repeat("lorem ipsum ü ", 1<<20) + `","list":[` + strings.Repeat(`{"a":[1,2.5,"x"]},`, 1<<16) + `0]}`
	for _, in := range []string{"", "\xff\xfe", "a\xc3", "\x00", "{\"s\":\"\xff\"}", large} {
		for name, tr := range map[string]connector.Worker{"same": same, "look": look, "mode": mode, "parse": parse} {
			m := event.New([]byte(in))
			_, err := tr.Apply(context.Background(), nil, m)
			switch {
			case err != nil:
				if fault.Of(err) != fault.Invalid || string(m.Data) != in || name == "same" || name == "look" || strings.HasPrefix(in, "{") {
					t.Errorf("%s of %.20q: %v", name, in, err)
				}
			case name == "same" && string(m.Data) != in:
				t.Errorf("%.20q came out as %.20q", in, m.Data)
			case name == "look" && string(m.Data) != strings.ToValidUTF8(in, "\ufffd")+"!" && utf8.ValidString(in):
				t.Errorf("%.20q came out as %.20q", in, m.Data)
			case name == "parse" && !utf8.Valid(m.Data):
				t.Errorf("%.20q came out as %.20q", in, m.Data)
			}
		}
	}
}

// TestStatefulKeepsNoMessage: what a stateful script keeps of a message it can change, and
// the message does not change with it.
func TestStatefulKeepsNoMessage(t *testing.T) {
	t.Parallel()
	tr := build(t, `let last; function main(x) {
		const before = last ? last.HTTPHeaders.h + last.Data : '';
		if (last) { last.HTTPHeaders.h = 'late'; last.Data = 'late'; last.PartitionKey = 'late' }
		last = x; x.HTTPHeaders.h = 'new'; x.PartitionKey = before; return x }`, func(c *Config) { c.Stateful = true })
	message := func(data string) *event.Message {
		m := event.New([]byte(data))
		m.Meta.Headers = event.HeadersOf(map[string]string{"h": "old"})
		return m
	}
	a, b := message("a"), message("b")
	for _, m := range []*event.Message{a, b} {
		if _, err := tr.Apply(context.Background(), nil, m); err != nil {
			t.Fatal(err)
		}
	}
	if string(a.Data) != "a" || a.Meta.Headers.Text("h") != "new" || a.Key != "" || b.Key != "newa" || string(b.Data) != "b" {
		t.Errorf("a is %q %v %q, b is %q %v %q", a.Data, a.Meta.Headers, a.Key, b.Data, b.Meta.Headers, b.Key)
	}
}

// TestRepeatedHeaders: what a script does not change of headers stays as it was, order,
// repetition and bytes included, and what it makes of them may repeat.
func TestRepeatedHeaders(t *testing.T) {
	t.Parallel()
	given := event.Headers{{Name: "b", Value: []byte("1")}, {Name: "a", Value: []byte{0xff}}, {Name: "b", Value: []byte("2")}}
	pair := func(name, value string) event.Header { return event.Header{Name: name, Value: []byte(value)} }
	for _, c := range []struct {
		body string
		want event.Headers
	}{
		{`return x`, given},
		{`x.HTTPHeaders.a; return x`, given},
		{`return {Data: x.Data, HTTPHeaders: x.HTTPHeaders}`, given},
		{`x.HTTPHeaders = x.HTTPHeaders; return x`, given},
		{`return {Data: JSON.stringify(x.HTTPHeaders.b)}`, given},
		{`x.HTTPHeaders.c = x.HTTPHeaders.b[1]; return x`, append(given[:3:3], pair("c", "2"))},
		{`x.HTTPHeaders.b = 'one'; return x`, event.Headers{pair("b", "one"), given[1]}},
		{`delete x.HTTPHeaders.b; return x`, given[1:2]},
		{`return {Data: '', HTTPHeaders: {z: ['1', '2'], b: x.HTTPHeaders.b}}`, event.Headers{pair("z", "1"), pair("z", "2"), pair("b", "1"), pair("b", "2")}},
	} {
		tr := build(t, "function main(x) { "+c.body+" }")
		m := event.New([]byte("data"))
		m.Meta.Headers = slices.Clone(given)
		if _, err := tr.Apply(context.Background(), nil, m); err != nil {
			t.Errorf("%s: %v", c.body, err)
			continue
		}
		if diff := cmp.Diff(c.want, m.Meta.Headers); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.body, diff)
		}
	}
	m := event.New(nil)
	m.Meta.Headers = given
	if _, err := build(t, `function main(x) { return {Data: '', HTTPHeaders: {a: ['1', 2]}} }`).Apply(context.Background(), nil, m); fault.Of(err) != fault.Invalid {
		t.Errorf("a value that is no string: %v", err)
	}
}

// TestReasons: a script may say why it filters a message, and nothing else is a reason.
func TestReasons(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`return {FilterOut: true}`:                                                 "",
		`return {FilterOut: true, FilterReason: 'a bot'}`:                          "a bot",
		`return {filterout: true, filterreason: 'a bot'}`:                          "a bot",
		`return {FilterOut: true, FilterReason: 7}`:                                "",
		`x.FilterOut = true; return x`:                                             "",
		`x.FilterOut = true; x.FilterReason = 'a bot'; return x`:                   "a bot",
		`if (Object.keys(x).length === 4) { x.FilterOut = true } return x`:         "",
		`x.FilterReason = 'why'; x.FilterOut = 'FilterReason' in x; return x`:      "why",
		`x.FilterReason = 'why'; x.FilterOut = x.FilterReason === 'why'; return x`: "why",
	} {
		m := event.New([]byte("data"))
		out, err := build(t, "function main(x) { "+body+" }").Apply(context.Background(), nil, m)
		if err != nil || len(out) != 0 || m.Dropped() != want {
			t.Errorf("%s: %d messages, reason %q, %v", body, len(out), m.Dropped(), err)
		}
	}
	m := event.New([]byte("data"))
	out, err := build(t, `function main(x) { x.FilterReason = 'not now'; return x }`).Apply(context.Background(), nil, m)
	if err != nil || len(out) != 1 || m.Dropped() != "" {
		t.Errorf("a message that passes: reason %q, %v", m.Dropped(), err)
	}
}
