package script

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/dop251/goja"
	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/jsontext"
)

// pair is our JSON beside goja's own, each in a runtime of its own.
type pair struct {
	vm                     *VM
	ours, theirs           *goja.Runtime
	oursParse, theirsParse goja.Callable
}

const checks = `(function (text, poke) {
	const v = JSON.parse(text);
	const seen = [];
	const look = (o, depth) => {
		if (o === null || typeof o !== 'object') { seen.push(typeof o + ':' + (Object.is(o, -0) ? '-0' : String(o))); return }
		seen.push(Array.isArray(o) ? 'array' : 'object');
		for (const k of Object.keys(o)) { seen.push(k); if (depth < 6) look(o[k], depth + 1) }
		for (const k in o) seen.push(k in o, o.hasOwnProperty(k));
	};
	const out = [JSON.stringify(v), JSON.stringify({a: v, u: undefined, f() {}, l: [v, undefined]})];
	// goja indents what follows an empty array or object too far.
	if (!out[0].includes('[]') && !out[0].includes('{}')) out.push(JSON.stringify(v, null, 2), JSON.stringify([v, {v}], null, '--'));
	if (poke > 0) look(v, 0);
	out.push(JSON.stringify(v));
	if (poke > 1 && v !== null && typeof v === 'object') {
		const keys = Object.keys(v);
		if (keys.length > 0) {
			v[keys[0]] = {n: [1.5, 'x\u2028"\\', null, undefined, NaN, -0, '\ud800']};
			if (keys.length > 1) delete v[keys[1]];
		}
		if (Array.isArray(v)) v.push(new Date(0), new Number(1), new String('s'), true); else { v.zz = 1; v['7'] = 2; v['3'] = [] }
		out.push(JSON.stringify(v), JSON.stringify(v, ['zz', 'n', '3']), JSON.stringify(v, (k, x) => typeof x === 'number' ? x + 1 : x));
		out.push(JSON.stringify({...v}), JSON.stringify(Object.entries(v)), JSON.stringify(Object.assign({}, v)));
	}
	out.push(JSON.stringify(JSON.parse(text, (k, x) => typeof x === 'string' ? x + '!' : x)));
	return out.concat(seen).join('\n');
})`

func newPair(t testing.TB) *pair {
	t.Helper()
	p := &pair{ours: goja.New(), theirs: goja.New()}
	p.vm = &VM{js: p.ours, views: true, maxBytes: 1 << 30, stopped: new(atomic.Bool)}
	p.vm.yes, p.vm.no = p.ours.ToValue(true), p.ours.ToValue(false)
	p.vm.objectPrototype = p.ours.NewObject().Prototype()
	p.vm.arrayPrototype = p.ours.NewArray().Prototype()
	p.vm.bridge()
	for _, side := range []struct {
		js *goja.Runtime
		f  *goja.Callable
	}{{p.ours, &p.oursParse}, {p.theirs, &p.theirsParse}} {
		v, err := side.js.RunString(checks)
		if err != nil {
			t.Fatal(err)
		}
		*side.f, _ = goja.AssertFunction(v)
	}
	return p
}

func (p *pair) compare(text string, poke int) error {
	call := func(js *goja.Runtime, f goja.Callable) string {
		v, err := f(goja.Undefined(), js.ToValue(text), js.ToValue(poke))
		if err != nil {
			return "error: " + strings.SplitN(err.Error(), " at ", 2)[0]
		}
		return v.String()
	}
	got, want := call(p.ours, p.oursParse), call(p.theirs, p.theirsParse)
	if got != want {
		return fmt.Errorf("JSON %q, poke %d:\ngot  %s\nwant %s", text, poke, got, want)
	}
	return nil
}

var jsonSamples = []string{
	`{}`, `[]`, `null`, `true`, `0`, `-0`, `1.0`, `1e5`, `1E-7`, `1e999`, `0.1`, `1.50`, `123456789012345678901234567890`,
	`9007199254740993`, `"\u0041\/\ud83d\ude00\ud800x"`, "\"\xff\xfe\"", `{"a":1,"a":2}`, `{"b":1,"2":2,"1":3,"01":4}`,
	` { "a" : [ 1 , { "b" : null } ] } `, `{"__proto__":{"x":1},"constructor":1,"toString":2,"toJSON":3}`, `{"a":{"b":{"c":[{"d":"e"}]}}}`,
	`{"a":1,}`, `[1,]`, `[1 2]`, `{"a" 1}`, `{'a':1}`, `01`, `1.`, `.5`, `+1`, `"a`, "\"\n\"", `"\x"`, `"\u12"`, `tru`, `nulll`, `{} {}`, ``, ` `,
	`{"4294967294":1,"4294967295":2,"0":3}`, `{"a\u0062":1,"ab":2}`, "{\"\u2028\":\"\u2029\u00e9\"}", `[[],[[]],{"a":[]}]`, `-`, `1e`, `[-]`, `"\ud83d"`,
	`0.000001`, `0.0000001`, `0.10`, `-0.0`, `-1.5`, `1e21`, `100000000000000000000`, `{"a":"\b\f\n\r\t\u0000\u001f\u007f"}`, "\ufeff{}", `{"":{"":1}}`,
}

func TestJSONIsGoja(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	for _, text := range jsonSamples {
		for poke := range 3 {
			if err := p.compare(text, poke); err != nil {
				t.Error(err)
			}
		}
	}
}

func jsonText() *rapid.Generator[string] {
	scalar := rapid.OneOf(rapid.SampledFrom(jsonSamples[2:16]),
		rapid.StringMatching(`-?(0|[1-9][0-9]{0,18})(\.[0-9]{1,12})?([eE][+-]?[0-9]{1,2})?`),
		rapid.Map(rapid.String(), func(s string) string { return string(jsontext.AppendString(nil, s)) }),
		rapid.StringMatching(`"(\\u[0-9a-fA-F]{4}|\\[bfnrt/"]|[a-z ]){0,8}"`))
	space := rapid.SampledFrom([]string{"", "", "", " ", "\n\t"})
	key := rapid.OneOf(rapid.StringMatching(`"[a-c0-3]{1,2}"`), rapid.StringMatching(`"(\\u00[46][12]|[ab]){1,2}"`), rapid.SampledFrom([]string{`"__proto__"`, `"toJSON"`, `"length"`}))
	var value func(depth int) *rapid.Generator[string]
	value = func(depth int) *rapid.Generator[string] {
		return rapid.Custom(func(t *rapid.T) string {
			kind := rapid.IntRange(0, 3).Draw(t, "kind")
			if depth == 0 || kind < 2 {
				return scalar.Draw(t, "scalar")
			}
			var parts []string
			for range rapid.IntRange(0, 5).Draw(t, "n") {
				part := space.Draw(t, "s") + value(depth-1).Draw(t, "v") + space.Draw(t, "s")
				if kind == 2 {
					part = space.Draw(t, "s") + key.Draw(t, "k") + space.Draw(t, "s") + ":" + part
				}
				parts = append(parts, part)
			}
			if kind == 2 {
				return "{" + strings.Join(parts, ",") + "}"
			}
			return "[" + strings.Join(parts, ",") + "]"
		})
	}
	return value(4)
}

func TestJSONIsGojaForRandomText(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	rapid.Check(t, func(t *rapid.T) {
		text := jsonText().Draw(t, "json")
		if rapid.IntRange(0, 9).Draw(t, "break") == 0 && text != "" {
			at := rapid.IntRange(0, len(text)-1).Draw(t, "at")
			text = text[:at] + rapid.SampledFrom([]string{"", ",", "}", "\"", "1", " "}).Draw(t, "with") + text[at+1:]
		}
		if err := p.compare(text, rapid.IntRange(0, 2).Draw(t, "poke")); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzJSON(f *testing.F) {
	for i, s := range jsonSamples {
		f.Add(s, i%3)
	}
	f.Fuzz(func(t *testing.T, text string, poke int) {
		p := newPair(t)
		if poke < 0 {
			poke = -poke
		}
		if err := p.compare(text, poke%3); err != nil {
			t.Fatal(err)
		}
	})
}

// TestVerbatim: what a script does not touch stays as it was written, whatever else it
// looks at or changes.
func TestVerbatim(t *testing.T) {
	t.Parallel()
	const text = `{"z":12345678901234567890,"10":1.50,"2":1e3,"a":{"n":0.10,"s":"\u0041"},"l":[9007199254740993,{"x":1.0}],"k":-0}`
	tests := []struct{ body, want string }{
		{``, text},
		{`d.z; d.a.n; d.l[0]; d.l[1].x; d.k; Object.keys(d)`, text},
		{`d.a.n = 7`, `{"z":12345678901234567890,"10":1.50,"2":1e3,"a":{"n":7,"s":"\u0041"},"l":[9007199254740993,{"x":1.0}],"k":-0}`},
		{`d.l.push(1); d.new = {b: 1.50}`, `{"z":12345678901234567890,"10":1.50,"2":1e3,"a":{"n":0.10,"s":"\u0041"},"l":[9007199254740993,{"x":1.0},1],"k":-0,"new":{"b":1.5}}`},
		{`delete d.l; delete d.a; d.z = undefined`, `{"z":null,"10":1.50,"2":1e3,"k":-0}`},
		{`d.l[0] = 1`, `{"z":12345678901234567890,"10":1.50,"2":1e3,"a":{"n":0.10,"s":"\u0041"},"l":[1,{"x":1.0}],"k":-0}`},
	}
	for _, test := range tests {
		r := start(t, `function main(d) { `+test.body+`; return d }`, Options{})
		for range 2 {
			var got []byte
			err := r.Call(
				func(vm *VM) (goja.Value, error) { return vm.Parse(text) },
				func(vm *VM, v goja.Value) error { got = vm.Append(nil, v); return nil })
			if err != nil || string(got) != test.want {
				t.Errorf("%s:\ngot  %s, %v\nwant %s", test.body, got, err, test.want)
			}
		}
		if r.again > 0 || !r.Shared() {
			t.Errorf("%s: ran %d times again, shared %v", test.body, r.again, r.Shared())
		}
	}
}

func TestStripEmpty(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`{}`: `{}`, `null`: `null`, `[null]`: `[]`, `"{}"`: `"{}"`,
		`{"a":null,"b":{},"c":[],"d":0,"e":"","f":false}`:            `{"d":0,"e":"","f":false}`,
		`{"a":{"b":{"c":null}},"d":[[],[null,1,{}],{"e":[]}]}`:       `{"d":[[1]]}`,
		` { "a" : [ 1 , null ] , "b" : null , "c\"," : " x , y " } `: `{"a":[1],"c\",":" x , y "}`,
	} {
		if got := string(StripEmpty([]byte(in))); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}
