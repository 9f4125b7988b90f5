package lua

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

var scripts = []string{
	`function main(x) return x end`, `function main(x) return { Data = x.Data .. "!", PartitionKey = x.Data } end`, `function main(x) return { Data = { s = x.Data, l = { 1, x.PartitionKey } } } end`,
	`n = 0; function main(x) n = n + 1; return { Data = "" .. n } end`, `function main(x) x.FilterOut = x.Data == "a"; return x end`, `function main(x) return x.a.b end`, `local t = {}; function main(x) t[#t + 1] = x; return { Data = { n = #t } } end`,
	`function main(x) local t = {} for i = 1, 10 do t[i] = i end return { Data = t } end`, `function main(x) return { Data = { x.Data, a = 1 } } end`, `function main(x) while true do end end`, `main = 5`, `function main(`, `return`,
	`function main(x) local o = {} o.o = o return { Data = o } end`, `function main(...) local a, b = ... return a, b end`, `function main(x) goto e ::e:: return { Data = #x.Data .. "" } end`, `function f(x) return f(x) end main = f`,
}

// FuzzLua runs any script over any payload: it never panics, nothing of one message is seen
// by the next, and a result is a payload.
func FuzzLua(f *testing.F) {
	for i, s := range scripts {
		f.Add(s, "a", i%2 == 0)
		f.Add(s, "\xff\x00"+line(), false)
		f.Add(s, line(), true)
	}
	f.Fuzz(func(t *testing.T, source, in string, enriched bool) {
		c := Config{Script: source, TimeoutSec: 1, Sandbox: true, SnowplowMode: enriched, MemoryLimitMB: 64}
		if source == "" {
			return
		}
		compiled, err := New(connector.Deps{}, c)
		if err != nil {
			if fault.Of(err) != fault.Setup {
				t.Fatal(err)
			}
			return
		}
		tr := conntest.Worker(t, compiled)
		var first string
		for i := range 3 {
			m := event.New([]byte(in))
			m.Key = "k"
			out, err := tr.Apply(context.Background(), nil, m)
			got := "filtered"
			switch {
			case err != nil:
				if fault.Of(err) != fault.Invalid || len(out) > 0 || string(m.Data) != in {
					t.Fatalf("%d messages, %v", len(out), err)
				}
				if strings.Contains(err.Error(), "deadline") || strings.Contains(err.Error(), "memory limit") {
					return
				}
				if got = err.Error(); strings.Contains(got, "panicked") {
					t.Fatal(err)
				}
				if strings.Contains(got, "0x") {
					return // the place of a table in memory
				}
			case len(out) > 0:
				got = m.Key + " " + string(m.Data)
			}
			if i > 0 && got != first {
				t.Fatalf("first %q, then %q", first, got)
			}
			first = got
		}
	})
}

// FuzzLuaJSON: what a script makes of a JSON text, and of what it made, is JSON.
func FuzzLuaJSON(f *testing.F) {
	for _, in := range []string{`{}`, `[1,2,{"a":null}]`, `{"a":{"b":[1.5,"x",true]}}`, `"\ud800"`, `1e308`, `[[],{}]`, `{"1":1,"a":2}`, `x`} {
		f.Add([]byte(in))
	}
	tr := build(f, `local json = require("json"); function main(x) local d, why = json.decode(x.Data); if why then error(why) end return { Data = { d = d } } end`, libraries)
	f.Fuzz(func(t *testing.T, in []byte) {
		m := event.New(in)
		if _, err := tr.Apply(context.Background(), nil, m); err != nil {
			if fault.Of(err) != fault.Invalid {
				t.Fatal(err)
			}
			return
		}
		if !json.Valid(m.Data) {
			t.Fatalf("not JSON: %q", m.Data)
		}
	})
}
