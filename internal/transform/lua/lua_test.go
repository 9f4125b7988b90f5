package lua

import (
	"context"
	"encoding/base64"
	"strings"
	"testing"

	golua "github.com/yuin/gopher-lua"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// build makes a worker as the engine does.
func build(t testing.TB, source string, change ...func(*Config)) *Worker {
	t.Helper()
	return conntest.Worker(t, compile(t, source, change...)).(*Worker)
}

func compile(t testing.TB, source string, change ...func(*Config)) *Transform {
	t.Helper()
	c := *Entry.Default().(*Config)
	c.Script, c.TimeoutSec = source, 60
	for _, f := range change {
		f(&c)
	}
	tr, err := New(connector.Deps{}, c)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func libraries(c *Config)    { c.Sandbox = false }
func snowplowMode(c *Config) { c.SnowplowMode = true }

func small(c *Config) { c.MemoryLimitMB = 4 }
func line() string {
	fields := make([]string, 131)
	fields[0], fields[1], fields[3] = "shop", "web", "2024-02-03 04:05:06.789"
	return strings.Join(fields, "\t")
}

// TestResults runs each script three times: each run must see the world as the first did.
func TestResults(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, source, in, want, key, err string
		change                           func(*Config)
		filtered                         bool
		reason                           string
	}{
		{name: "same", source: `function main(x) return x end`, in: "a", want: "a", key: "k"},
		{name: "string library", source: `function main(input) return { Data = string.gsub(input.Data, "aid_", "test_") } end`, in: "aid_data", want: "test_data", key: "k", change: libraries},
		{name: "sandbox", source: `function main(x) return { Data = tostring(x) } end`, err: `error running Lua function "main": main:1: attempt to call a non-function object`},
		{name: "table", source: `function main(x) return { Data = { b = 1.5, a = { 1, true, "<ü>" }, e = {} }, PartitionKey = "p" } end`, want: `{"a":[1,true,"<ü>"],"b":1.5,"e":{}}`, key: "p"},
		{name: "json", source: `local json = require("json"); function main(x) local d = json.decode(x.Data); d.n = d.n + 1; return { Data = json.encode(d) } end`, in: `{"n":1,"l":[1,{}]}`, want: `{"l":[1,{}],"n":2}`, key: "k", change: libraries},
		{name: "filter", source: `function main(x) x.FilterOut = true; x.Data = 5; return x end`, filtered: true},
		{name: "filter for a reason", source: `function main(x) return { FilterOut = true, FilterReason = "a bot" } end`, filtered: true, reason: "a bot"},
		{name: "filter for no text", source: `function main(x) return { FilterOut = true, FilterReason = {} } end`, filtered: true},
		{name: "passes with a reason", source: `function main(x) x.FilterReason = "not now"; return x end`, in: "a", want: "a", key: "k"},
		{name: "globals", source: `n = 0; function main(x) n = n + 1; return { Data = "" .. n } end`, want: "1", key: "k"},
		{name: "locals", source: `local n = 0; function main(x) n = n + 1; return { Data = "" .. n } end`, want: "1", key: "k"},
		{name: "libraries changed", source: `function main(x) local was = string.n; string.n = 1; return { Data = tostring(was) } end`, want: "nil", key: "k", change: libraries},
		{name: "snowplow", source: `function main(x) x.Data = { x.Data.app_id, x.Data.collector_tstamp }; return x end`, in: line(), want: `["shop","2024-02-03T04:05:06.789Z"]`, key: "k", change: snowplowMode},
		{name: "no event", source: `function main(x) return x end`, in: "x", err: "failed making input for the Lua runtime", change: snowplowMode},
		{name: "nothing", source: `function main(x) end`, err: "invalid return type from Lua transformation; expected Lua Table"},
		{name: "number data", source: `function main(x) return { Data = 1 } end`, err: errData},
		{name: "key type", source: `function main(x) return { PartitionKey = 1 } end`, err: errFields},
		{name: "function in data", source: `function main(x) return { Data = { f = main } } end`, err: "a function has no JSON form"},
		{name: "mixed keys", source: `function main(x) return { Data = { 1, a = 2 } } end`, err: "a table mixes numbers and strings"},
		{name: "circle", source: `function main(x) local t = {}; t.t = t; return { Data = t } end`, err: "contain themselves"},
		{name: "error", source: `function main(x) return x.a.b end`, err: `error running Lua function "main": main:1: attempt to index a non-table object(nil)`},
		{name: "endless", source: `function main(x) while true do end end`, err: "context deadline exceeded"},
		{name: "recursion", source: `function f() return 1 + f() end function main(x) return f() end`, err: "stack overflow"},
		{name: "shared parts", source: `function main(x) local t = { 1 } for i = 1, 40 do t = { t, t } end return { Data = t } end`, err: "memory limit", change: small},
		{name: "repetition", source: `function main(x) return { Data = ("x"):rep(1e12) } end`, err: "the result of string.rep would be larger", change: libraries},
		{name: "repeated replacement", source: `function main(x) return { Data = (("x"):rep(1e6):gsub("x", ("y"):rep(1e5))) } end`, err: "memory limit", change: libraries},
		{name: "captures", source: `function main(x) return { Data = (("ab "):rep(1e5):gsub("(%w+)", "<%1>")):sub(1, 5) } end`, want: "<ab> ", key: "k", change: libraries},
		{name: "joined", source: `function main(x) local s, t = ("x"):rep(1e6), {} for i = 1, 1e4 do t[i] = s end return { Data = table.concat(t) } end`, err: "the result of table.concat would be larger", change: libraries},
		{name: "exit", source: `function main(x) os.exit(3) end`, err: "os.exit would end all pipelines", change: libraries},
		{name: "metatable of strings", source: `function main(x) local m = getmetatable(""); local was = m.n; m.n = 1; m.__index = function() return 5 end; return { Data = tostring(was) } end`, want: "nil", key: "k", change: libraries},
		{name: "environment", source: `function main(x) local was = _G.n; _G.n = 1; setmetatable(_G, { __index = function() return 7 end }); return { Data = tostring(was) .. tostring(q) } end`, want: "nil7", key: "k", change: libraries},
		{name: "package", source: `function main(x) local was = package.loaded.n; package.loaded.n = 1; return { Data = tostring(was) } end`, want: "nil", key: "k", change: libraries},
		{name: "endless concatenation", source: `function main(x) local t = {} while true do t[#t + 1] = {} end end`, err: "memory limit exceeded", change: func(c *Config) { c.MemoryLimitMB, c.TimeoutSec = 32, 60 }},
		{name: "not a number", source: `function main(x) return { Data = { n = 0 / 0 } } end`, err: "NaN has no JSON form"},
		{name: "minus nothing", source: `function main(x) return { Data = { n = -0, big = 2 ^ 53, part = 0.1 } } end`, want: `{"big":9007199254740992,"n":0,"part":0.1}`, key: "k"},
		{name: "bytes", source: `function main(x) return { Data = { s = x.Data } } end`, in: "\xff\x00ü", want: "{\"s\":\"\ufffd\\u0000ü\"}", key: "k"},
		{name: "memory", source: `function main(x) local s = "x" while true do s = s .. s end end`, err: "memory limit exceeded", change: func(c *Config) { c.MemoryLimitMB, c.TimeoutSec = 32, 60 }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			change := []func(*Config){func(c *Config) {
				c.TimeoutSec = 60
				if test.name == "endless" {
					c.TimeoutSec = 1
				}
			}}
			if test.change != nil {
				change = append(change, test.change)
			}
			tr := build(t, test.source, change...)
			for range 3 {
				m := event.New([]byte(test.in))
				m.Key = "k"
				out, err := tr.Apply(context.Background(), nil, m)
				if test.err != "" {
					if fault.Of(err) != fault.Invalid || !strings.Contains(err.Error(), test.err) || string(m.Data) != test.in {
						t.Fatalf("got %.80s, %v; want %s", m.Data, err, test.err)
					}
					continue
				}
				if err != nil || (len(out) == 0) != test.filtered || m.Dropped() != test.reason {
					t.Fatalf("got %d messages, %v", len(out), err)
				}
				if !test.filtered && (string(m.Data) != test.want || m.Key != test.key) {
					t.Fatalf("got %s, key %s; want %s", m.Data, m.Key, test.want)
				}
			}
		})
	}
}

// TestGsub: ours gives what the interpreter's own gives.
func TestGsub(t *testing.T) {
	t.Parallel()
	ours := build(t, "function main(x) return x end", libraries)
	for _, call := range []string{
		`("hello world"):gsub("o", "0")`, `("hello"):gsub("", "-")`, `("abc"):gsub("%w*", "x")`, `("abc"):gsub("b", "%%")`, `("abc"):gsub("b", "%0%0")`, `("abc"):gsub("b", "%1")`,
		`("a=1, b=2"):gsub("(%w+)=(%w+)", "%2=%1")`, `("abc"):gsub("()b()", "%1-%2")`, `("abc"):gsub("b", "%")`, `("abc"):gsub("b", "%x")`, `("abc"):gsub("(b)", "%2")`,
		`("hello"):gsub("l", "L", 1)`, `("hello"):gsub("l", "L", 0)`, `("hello"):gsub("^h", "J")`, `("hello"):gsub("x", "y")`, `("$name is"):gsub("%$(%w+)", { name = "lua" })`, `("abc"):gsub("%w", { a = 1, b = false })`,
		`("abc"):gsub("%w", function(c) if c == "b" then return nil end return c .. c end)`, `("k=v"):gsub("(%w)=(%w)", function(a, b) return b .. a end)`, `("abc"):gsub("()", function(p) return p end)`,
		`("x"):gsub("%", "y")`, `("x"):gsub("(", "y")`, `("x"):gsub("x", nil)`, `("abc"):gsub("[ac]", 5)`, `("THE (quick) fox"):gsub("%((%a+)%)", "<%1>")`, `("a,b,,c"):gsub(",", ";")`, `("ü"):gsub(".", "x")`,
	} {
		run := func(l *golua.LState) string {
			if err := l.DoString("local a, b = " + call + "; return tostring(a) .. ' ' .. tostring(b)"); err != nil {
				return "error: " + strings.SplitN(err.Error(), "\n", 2)[0]
			}
			return l.ToString(-1)
		}
		theirs, own := golua.NewState(), ours.newState()
		t.Cleanup(theirs.Close)
		t.Cleanup(own.Close)
		own.SetContext(context.Background())
		if got, want := run(own), run(theirs); got != want {
			t.Errorf("%s: got %s, want %s", call, got, want)
		}
	}
}

func TestStart(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]string{
		`function main(`: "error building Lua engine: main at EOF", `x = 1`: `global Lua function not found: "main"`,
		`local x = nil; x.y = 1`: "attempt to index a non-table object(nil)", "": noScript,
	} {
		c := *Entry.Default().(*Config)
		c.Script, c.TimeoutSec = source, 60
		if _, err := New(connector.Deps{}, c); err == nil || !strings.Contains(err.Error(), want) || fault.Of(err) != fault.Setup {
			t.Errorf("%s: got %v, want %s", source, err, want)
		}
	}
	coded := base64.StdEncoding.EncodeToString([]byte(`function main(x) return { Data = "coded" } end`))
	tr := build(t, "", func(c *Config) { c.SourceB64 = coded })
	m := event.New(nil)
	if _, err := tr.Apply(context.Background(), nil, m); err != nil || string(m.Data) != "coded" {
		t.Errorf("got %s, %v", m.Data, err)
	}
	bad := Config{SourceB64: "!"}
	if ps := bad.Validate(); len(ps) != 3 {
		t.Errorf("got %+v", ps)
	}
}

func BenchmarkLua(b *testing.B) {
	tr := build(b, `function main(x) if x.PartitionKey == "" then x.PartitionKey = "k" end return x end`)
	out, data := make(event.Batch, 0, 1), []byte(strings.Repeat("x", 500))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tr.Apply(context.Background(), out, event.New(data)); err != nil {
			b.Fatal(err)
		}
	}
}
