package script

import (
	"strings"
	"testing"
	"time"
)

// FuzzScript runs any script for three messages in a row: it never panics, and each of them
// sees what the first one saw, and what a world of its own would show it.
func FuzzScript(f *testing.F) {
	for _, s := range []string{
		`function main(s) { return s }`, `let n = 0; function main() { return ++n }`, `const a = []; function main(s) { a.push(s); return a.length }`, `const o = {a: {b: {}}}; function main(s) { const was = o.a.b.n; o.a.b.n = 1; return was }`,
		`const m = new Map(); function main(s) { try { m.set(m.size, 1) } catch {} return m.size }`, `const re = /x/g; function main(s) { return re.test(s) }`, `function main(s) { const was = ({}).p; Object.prototype.p = 1; return was }`,
		`function main(s) { const o = JSON.parse('{"a":[1,{"b":null}]}'); o.c = s; delete o.a; return JSON.stringify(o) }`, `class A { #n = 0; next() { return ++this.#n } } const a = new A(); function main(s) { return a.next() }`,
		`function* g() { let n = 0; for (;;) yield ++n } const it = g(); function main(s) { return it.next().value }`, `function main(s) { let x = 3n; for (let i = 0; i < 5; i++) x **= 2n; return x }`, `function main(s) { return eval('s + 1') }`,
		`const f = (() => { let n = 0; return () => ++n })(); function main(s) { return f() }`, `function main(s) { for (;;) {} }`, `function main(s) { throw {toString() { for (;;) {} }} }`, `function f() { return f() } const main = f`,
		`var n; function main(s) { switch (s) { case 'x': n = 1 } return n }`, `const {a, ...b} = {a: 1, c: 2}; function main(s) { b.c++; return b.c + a }`, `function main(s) { label: for (const x of [1, 2]) for (const y in {q: 1}) continue label; return Symbol.iterator in [] }`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, source string) {
		if strings.Contains(source, "Date") || strings.Contains(source, "andom") || len(source) > 4096 {
			return // they are not the same twice
		}
		o := Options{Timeout: 300 * time.Millisecond, MemoryLimit: 32 << 20}
		p, err := Compile(source, o)
		if err != nil {
			return
		}
		r, err := p.New()
		if err != nil {
			return
		}
		fate := func(r *Runtime) string {
			got, err := run(t, r, "x")
			if err != nil {
				return "error: " + strings.SplitN(err.Error(), " at ", 2)[0]
			}
			return got
		}
		free := func(s string) bool {
			for _, limit := range []string{"deadline", "memory limit", "Maximum call stack", "native code"} {
				if strings.Contains(s, limit) {
					return false
				}
			}
			return !strings.Contains(s, "interpreter panicked")
		}
		first := fate(r)
		if strings.Contains(first, "interpreter panicked") {
			t.Fatal(first)
		}
		again := []string{fate(r), fate(r)}
		alone, err := p.New()
		if err != nil {
			return // it took too long this time
		}
		alone.frozen, alone.views, alone.vm = false, false, nil
		for i, got := range append(again, fate(alone)) {
			if free(first) && free(got) && got != first {
				t.Fatalf("first %q, run %d %q, shared %v", first, i+2, got, r.Shared())
			}
		}
	})
}
