package js

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dop251/goja"
	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/snowplow"
)

// build makes a worker as the engine does.
func build(t testing.TB, source string, change ...func(*Config)) connector.Worker {
	t.Helper()
	return conntest.Worker(t, compile(t, source, change...))
}

func compile(t testing.TB, source string, change ...func(*Config)) *Transform {
	t.Helper()
	c := Config{Script: source, TimeoutSec: 120, HashVersion: 5, MemoryLimitMB: 128}
	for _, f := range change {
		f(&c)
	}
	tr, err := New(connector.Deps{}, c)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func jsonMode(c *Config)    { c.JSONMode = true }
func removeNulls(c *Config) { c.RemoveNulls = true }

// TestResults is the table of what main may return.
func TestResults(t *testing.T) {
	t.Parallel()
	const in = `{"b":1,"a":{"n":12345678901234567890,"z":[]},"e":null}`
	tests := []struct {
		name, body string
		change     []func(*Config)
		want       string // payload
		key        string
		headers    map[string]string
		filtered   bool
		safe, code string // of the error
		text       string // in the error
	}{
		{name: "same", body: `return x`, want: in},
		{name: "same object", body: `return x`, change: []func(*Config){jsonMode}, want: in},
		{name: "remove nulls", body: `return x`, change: []func(*Config){jsonMode, removeNulls}, want: `{"b":1,"a":{"n":12345678901234567890}}`},
		{name: "removing nulls from strings", body: `return x`, change: []func(*Config){removeNulls}, want: in},
		{name: "changed", body: `x.Data.b = 'ü<>&'; x.Data.c = undefined; delete x.Data.a; return x`, change: []func(*Config){jsonMode}, want: `{"b":"ü<>&","e":null,"c":null}`},
		{name: "new object", body: `return {Data: {b: [1, {c: 1.5}], a: 'x', d: new Date(0)}}`, want: `{"b":[1,{"c":1.5}],"a":"x","d":"1970-01-01T00:00:00Z"}`},
		{name: "any case", body: `return {data: 'd', partitionkey: 'k', httpheaders: {h: 'v'}, Other: 1}`, want: "d", key: "k", headers: map[string]string{"h": "v"}},
		{name: "filter", body: `return {FilterOut: true, Data: 5}`, filtered: true},
		{name: "filter input", body: `x.FilterOut = 'yes'; return x`, filtered: true},
		{name: "empty", body: `return {Data: ''}`, want: ""},
		{name: "key", body: `x.PartitionKey = 7; return x`, want: in, key: "7"},
		{name: "first key is empty", body: `return {Data: '[' + x.PartitionKey + ']'}`, want: "[]"},
		{name: "headers coerced", body: `x.HTTPHeaders = {a: [10, 11], b: {}, c: 1}; return x`, want: in, headers: map[string]string{"a": "10,11", "b": "[object Object]", "c": "1"}},
		{name: "headers from array", body: `x.HTTPHeaders = [10, 11]; return x`, want: in, headers: map[string]string{"0": "10", "1": "11"}},
		{name: "headers null", body: `x.HTTPHeaders = null; return x`, want: in},
		{name: "headers empty", body: `return {Data: x.Data, HTTPHeaders: {}}`, want: in},
		{name: "headers string", body: `x.HTTPHeaders = 'a'; return x`, safe: errRun, code: "TypeError", text: "could not convert"},
		{name: "nothing", body: ``, safe: errNothing, code: "TransformationError"},
		{name: "null", body: `return null`, safe: errNothing, code: "TransformationError"},
		{name: "number", body: `return 5`, safe: errReturn, code: "TransformationError"},
		{name: "string", body: `return 'x'`, safe: errReturn, code: "TransformationError"},
		{name: "function", body: `return () => 1`, safe: errReturn, code: "TransformationError"},
		{name: "no data", body: `return {}`, safe: errData, code: "TransformationError"},
		{name: "data number", body: `return {Data: 1}`, safe: errData, code: "TransformationError"},
		{name: "data array", body: `return {Data: []}`, safe: errData, code: "TransformationError"},
		{name: "data bool", body: `x.Data = true; return x`, safe: errData, code: "TransformationError"},
		{name: "filter type", body: `return {FilterOut: 'yes'}`, safe: errProtocol, code: "TransformationError"},
		{name: "key type", body: `return {PartitionKey: 1, Data: ''}`, safe: errProtocol, code: "TransformationError"},
		{name: "headers type", body: `return {HTTPHeaders: {a: 1}, Data: ''}`, safe: errProtocol, code: "TransformationError"},
		{name: "unknown property", body: `x.Nope = 1; return x`, safe: errRun, code: "TypeError", text: "Nope"},
		{name: "type error", body: `return x.a.b`, safe: errRun, code: "TypeError", text: errRun + ": TypeError: Cannot read property 'b' of undefined at main (main:1:"},
		{name: "reference error", body: `return y`, safe: errRun, code: "ReferenceError", text: "y is not defined"},
		{name: "syntax error", body: `JSON.parse('{')`, safe: errRun, code: "SyntaxError", text: "SyntaxError"},
		{name: "own error", body: `throw new Error('mine')`, safe: errRun, code: "TransformationError", text: "mine"},
		{name: "not JSON", body: `return x`, change: []func(*Config){func(c *Config) { c.SnowplowMode = true }}, safe: errInput, code: "TransformationError"},
		{name: "NaN", body: `return {Data: {a: NaN}}`, safe: errRun, code: "TypeError", text: "NaN"},
		{name: "hash", body: `return {Data: hash('python-requests 2', 'sha1')}`, change: []func(*Config){func(c *Config) { c.HashSaltSecret = "09a2d6b3ecd943aa8512df1f" }}, want: "5841e55de6c4486fa092f044a5189570dec421cb06652829"},
		{name: "hash 6", body: `return {Data: hash('', 'md5')}`, change: []func(*Config){func(c *Config) { c.HashVersion = 6 }}, want: "d41d8cd98f00b204e9800998ecf8427e"},
		{name: "hash unknown", body: `return {Data: '[' + hash('x', 'crc') + ']'}`, want: "[]"},
		{name: "hash arity", body: `return {Data: hash('x')}`, want: "hash() function expects 2 arguments: data and hash_func_name"},
		{name: "parseTimestamp", body: `return {Data: parseTimestamp('2024-02-03 04:05:06.789').toISOString() + parseTimestamp('03/02/24', '02/01/06').getTime()}`, want: "2024-02-03T04:05:06.789Z1706918400000"},
		{name: "parseTimestamp mismatch", body: `try { parseTimestamp('x') } catch (e) { return {Data: e.name} }`, want: "RangeError"},
		{name: "allContexts", body: `const d = {contexts_a_b_1: [1], contexts_a_b_12: [3], contexts_a_b_2: [2], contexts_a_bb_9: [9]}; return {Data: {l: allContexts(d, 'a_b'), n: allContexts(d, 'q')}}`, want: `{"l":[3,2,1],"n":[]}`},
		{name: "allUnstruct", body: `const d = {unstruct_event_a_b_1: {v: 1}, unstruct_event_a_b_2: {v: 2}}; return {Data: {u: allUnstruct(d, 'a_b'), n: allUnstruct(d, 'q') === undefined}}`, want: `{"u":{"v":2},"n":true}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			tr := build(t, `function main(x) { `+test.body+` }`, test.change...)
			for range 2 {
				m := event.New([]byte(in))
				out, err := tr.Apply(context.Background(), nil, m)
				if test.safe != "" {
					d := fault.DetailOf(err)
					if fault.Of(err) != fault.Invalid || len(out) != 0 || string(m.Data) != in {
						t.Fatalf("got %v, %v", out, err)
					}
					if diff := cmp.Diff(fault.Detail{Type: "transformation", Code: test.code, Safe: test.safe}, d); diff != "" {
						t.Errorf("-want +got:\n%s\n%v", diff, err)
					}
					if !strings.HasPrefix(err.Error(), test.safe) || !strings.Contains(err.Error(), test.text) {
						t.Errorf("error %q", err)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if test.filtered {
					if len(out) != 0 || string(m.Data) != in {
						t.Errorf("not filtered: %s", m.Data)
					}
					continue
				}
				if len(out) != 1 || string(m.Data) != test.want || m.Key != test.key || string(m.Raw()) != in {
					t.Errorf("got %s, key %q; want %s", m.Data, m.Key, test.want)
				}
				if diff := cmp.Diff(test.headers, byName(m.Meta.Headers)); diff != "" {
					t.Errorf("headers -want +got:\n%s", diff)
				}
			}
		})
	}
}

// TestChain: a later js step gets what the earlier one returned, before nulls went.
func TestChain(t *testing.T) {
	t.Parallel()
	first := build(t, `function main(x) { return {Data: {a: null, b: x.Data.n}, PartitionKey: 'k', HTTPHeaders: {h: '1'}} }`, jsonMode, removeNulls)
	second := build(t, `function main(x) { return {Data: JSON.stringify([x.Data, x.PartitionKey, x.HTTPHeaders.h, 'a' in x.Data])} }`)
	third := build(t, `function main(x) { return {Data: typeof x.Data} }`, jsonMode)
	m := event.New([]byte(`{"n":1}`))
	for i, step := range []struct {
		t    connector.Worker
		want string
	}{{first, `{"b":1}`}, {second, `[{"a":null,"b":1},"k","1",true]`}, {third, "string"}} {
		if _, err := step.t.Apply(context.Background(), nil, m); err != nil || string(m.Data) != step.want {
			t.Fatalf("step %d: got %s, %v; want %s", i, m.Data, err, step.want)
		}
	}
	m.Replace([]byte("[]"))
	if _, err := third.Apply(context.Background(), nil, m); err == nil || !strings.Contains(err.Error(), errInput) {
		t.Errorf("a payload changed since: got %v", err)
	}
}

// line is an enriched event with few fields.
func line(t *testing.T) []byte {
	t.Helper()
	fields := make([]string, 131)
	fields[0], fields[1], fields[3] = "shop", "web", "2024-02-03 04:05:06.789"
	fields[52] = `{"schema":"iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-0","data":[{"schema":"iglu:com.acme/thing/jsonschema/1-0-0","data":{"n":1}}]}`
	return []byte(strings.Join(fields, "\t"))
}

func TestSnowplowMode(t *testing.T) {
	t.Parallel()
	tr := build(t, `function main(x) {
		x.Data.ms = x.Data.collector_tstamp.UnixMilli();
		x.Data.things = allContexts(x.Data, 'com_acme_thing');
		x.PartitionKey = x.Data.app_id;
		return x }`, func(c *Config) { c.SnowplowMode = true })
	m := event.New(line(t))
	if _, err := tr.Apply(context.Background(), nil, m); err != nil {
		t.Fatal(err)
	}
	want := `{"app_id":"shop","collector_tstamp":"2024-02-03T04:05:06.789Z","contexts_com_acme_thing_1":[{"n":1}],"ms":1706933106789,"platform":"web","things":[{"n":1}]}`
	if string(m.Data) != want || m.Key != "shop" {
		t.Errorf("got  %s %s\nwant %s", m.Data, m.Key, want)
	}
	// An event kept by an earlier step is used even where the payload is JSON by now.
	e, err := snowplow.Parse(line(t))
	if err != nil {
		t.Fatal(err)
	}
	m = event.New([]byte(`{}`))
	m.Keep(e)
	if _, err := tr.Apply(context.Background(), nil, m); err != nil || string(m.Data) != want {
		t.Errorf("got %s, %v", m.Data, err)
	}
}

func TestRunawayCostsOneMessage(t *testing.T) {
	t.Parallel()
	tr := build(t, `function main(x) { while (x.Data === 'bad') {} return x }`, func(c *Config) { c.TimeoutSec = 5 })
	for _, data := range []string{"good", "bad", "good"} {
		_, err := tr.Apply(context.Background(), nil, event.New([]byte(data)))
		if (err != nil) != (data == "bad") {
			t.Fatalf("%s: %v", data, err)
		}
		if err != nil && !strings.Contains(err.Error(), "runtime deadline exceeded") {
			t.Errorf("got %v", err)
		}
	}
}

func TestStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.js"), []byte(`function main(x) { return {Data: 'file'} }`), 0o600); err != nil {
		t.Fatal(err)
	}
	base := Entry.Default().(*Config)
	tests := []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"neither", func(*Config) {}, "JS transformation: Either script_path or script must be configured"},
		{"syntax", func(c *Config) { c.Script = "function main( {" }, "error building JS engine: compile script: SyntaxError"},
		{"no main", func(c *Config) { c.Script = "let a" }, `error smoke testing JS function: could not assert as function: "main"`},
		{"no file", func(c *Config) { c.ScriptPath = "none.js" }, "read script: open "},
		{"file wins", func(c *Config) { c.ScriptPath, c.Script = "a.js", "throw 1" }, ""},
	}
	for _, test := range tests {
		c := *base
		test.change(&c)
		tr, err := New(connector.Deps{Dir: dir}, c)
		if test.want == "" {
			m := event.New(nil)
			if err == nil {
				_, err = conntest.Worker(t, tr).Apply(context.Background(), nil, m)
			}
			if err != nil || string(m.Data) != "file" {
				t.Errorf("%s: %s, %v", test.name, m.Data, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), test.want) || fault.Of(err) != fault.Setup {
			t.Errorf("%s: got %v", test.name, err)
		}
	}
	bad := Config{}
	if got := len(bad.Validate()); got != 4 {
		t.Errorf("%d problems of an empty config, want 4", got)
	}
	base.Script = "x"
	if ps := base.Validate(); len(ps) != 0 {
		t.Errorf("problems of the defaults: %v", ps)
	}
}

// payload is 500 bytes of JSON.
const payload = `{"event_id":"c6ef3124-b53a-4b13-a233-0088f79dcbcb","app_id":"shop","platform":"web","collector_tstamp":"2024-02-03T04:05:06.789Z","user_id":"jon.doe@email.com","page_url":"https://shop.example.com/products/42?ref=home","page_title":"Product 42","geo_country":"DE","geo_city":"Berlin","br_lang":"de-DE","dvce_screenwidth":1920,"dvce_screenheight":1080,"se_value":19.99,"is_new":true,"tags":["home","spring"],"product":{"id":42,"name":"Lamp","price":19.99},"refr":null,"ip":"203.0.113.17","session":{"index":7}}`

const rewrite = `function main(input) {
	const data = JSON.parse(input.Data);
	data.user_id = 'anonymous';
	data.processed = true;
	return { Data: JSON.stringify(data) };
}`

func BenchmarkJS(b *testing.B) {
	run := func(name, source string, change ...func(*Config)) {
		b.Run("engine=weir/script="+name, func(b *testing.B) {
			tr := build(b, source, change...)
			ctx, out := context.Background(), make(event.Batch, 0, 1)
			data := []byte(payload)
			b.ReportAllocs()
			cpu := cpuTime()
			for b.Loop() {
				if _, err := tr.Apply(ctx, out, event.New(data)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N), "cpu-ns/op")
		})
	}
	run("rewrite", rewrite)
	run("rewrite-try", strings.Replace(rewrite, "const data", "try { JSON.parse('{}') } catch (e) {}\nconst data", 1))
	run("json-mode", `function main(x) { x.Data.user_id = 'anonymous'; x.Data.processed = true; return x }`, jsonMode)
	run("same", `function main(x) { return x }`)
	run("separate", "let n = 0;\n"+strings.Replace(rewrite, "data.processed", "n++; data.processed", 1))
	b.Run("engine=goja/script=rewrite", func(b *testing.B) {
		vm := goja.New()
		if _, err := vm.RunString(rewrite); err != nil {
			b.Fatal(err)
		}
		main, _ := goja.AssertFunction(vm.Get("main"))
		b.ReportAllocs()
		cpu := cpuTime()
		for b.Loop() {
			in := vm.NewObject()
			if err := in.Set("Data", payload); err != nil {
				b.Fatal(err)
			}
			v, err := main(goja.Undefined(), in)
			if err != nil {
				b.Fatal(err)
			}
			if len(v.(*goja.Object).Get("Data").String()) < 100 {
				b.Fatal("short")
			}
		}
		b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N), "cpu-ns/op")
	})
}

// cpuTime is the CPU time of the process so far, garbage collection included.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func TestAllocations(t *testing.T) {
	tr := build(t, rewrite)
	data := []byte(payload)
	n := testing.AllocsPerRun(200, func() {
		if _, err := tr.Apply(context.Background(), nil, event.New(data)); err != nil {
			t.Fatal(err)
		}
	})
	if n > 60 {
		t.Errorf("%.0f allocations per message, want at most 60", n)
	}
}

// byName is h as a map: the tests of this package set no name twice.
func byName(h event.Headers) map[string]string {
	if h == nil {
		return nil
	}
	m := make(map[string]string, len(h))
	for i := range h {
		m[h[i].Name] = h[i].Text()
	}
	return m
}
