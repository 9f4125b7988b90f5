// Package conntest defines what a connector is: the rules of package connector as tests.
// A connector's own tests call [Source], [Target] or [Transform] once with a case that
// says how to set up the other side; the Features of the case say what the connector can
// do, and so which assertions apply. [Examples] holds for a whole registry: every
// connector has examples that decode, and every option is documented.
//
//	func TestConformance(t *testing.T) {
//		conntest.Target(t, conntest.TargetCase{
//			Setup: func(t *testing.T) (func() connector.Target, func() [][]byte) { ... },
//			Features: conntest.TargetFeatures{Binary: true},
//		})
//	}
//
// The suites look for goroutines that are left, so the test that calls one is not parallel.
package conntest

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weirdata/weir/internal/event"
)

// prompt is how soon a call returns whose context is cancelled: on a busy machine too, and
// sooner than what waits for half a minute by itself.
const prompt = 20 * time.Second

// patience is how long a call may take that has nothing to wait for but the other side.
const patience = 3 * time.Minute

// noLeak fails t when goroutines are left after everything that t sets up from now on is
// cleaned up again.
func noLeak(t *testing.T) {
	t.Helper()
	already := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		if err := goleak.Find(already); err != nil {
			t.Errorf("rule 2: goroutines are left after Close: %v", err)
		}
	})
}

// within calls f and fails t when it takes longer than d. A panic of f is a failure too.
func within(t *testing.T, d time.Duration, what string, f func()) {
	t.Helper()
	done := make(chan any, 1)
	go func() {
		defer func() { done <- recover() }()
		f()
	}()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case r := <-done:
		if r != nil {
			t.Fatalf("%s panics: %v", what, r)
		}
	case <-timer.C:
		buf := make([]byte, 1<<16)
		t.Fatalf("%s has not returned after %s\n%s", what, d, buf[:runtime.Stack(buf, true)])
	}
}

// cancelled is a context that has ended.
func cancelled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// soon is a context that ends while a call is under way.
func soon(t *testing.T) context.Context { return soonAfter(t, 0) }

// soonAfter is a context that ends soon after d.
func soonAfter(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	timer := time.AfterFunc(d+50*time.Millisecond, cancel)
	t.Cleanup(func() { timer.Stop(); cancel() })
	return ctx
}

// openClose is the part of a life cycle that sources and targets share.
type openClose interface {
	Open(ctx context.Context) error
	Close(ctx context.Context) error
}

// lifeCycle asserts what opening and closing promise.
func lifeCycle(t *testing.T, fresh func(t *testing.T) openClose) {
	t.Run("close without open", func(t *testing.T) {
		noLeak(t)
		c := fresh(t)
		closes(t, c)
		closes(t, c)
	})
	t.Run("open and close twice", func(t *testing.T) {
		noLeak(t)
		c := fresh(t)
		opens(t, c)
		closes(t, c)
		closes(t, c)
	})
	t.Run("open again", func(t *testing.T) {
		noLeak(t)
		c := fresh(t)
		opens(t, c)
		within(t, patience, "the second Open", func() { _ = c.Open(t.Context()) }) // may fail, may not hang or panic
		closes(t, c)
	})
	t.Run("open with a cancelled context", func(t *testing.T) {
		noLeak(t)
		c := fresh(t)
		within(t, prompt, "Open with a cancelled context", func() { _ = c.Open(cancelled()) })
		closes(t, c)
	})
	t.Run("close with a cancelled context", func(t *testing.T) {
		noLeak(t)
		c := fresh(t)
		opens(t, c)
		within(t, prompt, "Close with a cancelled context", func() { _ = c.Close(cancelled()) })
		closes(t, c)
	})
}

func opens(t *testing.T, c openClose) {
	t.Helper()
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	within(t, patience, "Open", func() {
		if err := c.Open(t.Context()); err != nil {
			t.Errorf("Open: %v", err)
		}
	})
	if t.Failed() {
		t.FailNow()
	}
}

// opensAgain opens what is closed.
func opensAgain(t *testing.T, c openClose) {
	t.Helper()
	within(t, patience, "Open after Close", func() {
		if err := c.Open(t.Context()); err != nil {
			t.Errorf("rule 10: Open after Close: %v", err)
		}
	})
	if t.Failed() {
		t.FailNow()
	}
}

func closes(t *testing.T, c openClose) {
	t.Helper()
	within(t, patience, "Close", func() {
		if err := c.Close(t.Context()); err != nil {
			t.Errorf("rule 2: Close: %v", err)
		}
	})
}

// nasty is payloads that have broken connectors: by name, in a fixed order.
func nasty(binary, empty bool) [][]byte {
	ps := [][]byte{
		[]byte("plain"),
		[]byte("nul \x00 inside"),
		[]byte("not utf-8 \xff\xfe\xc3\x28"),
		[]byte(`{"json": "\u0000 \ud800", "n": 1e999}`),
		[]byte("ünïcödé \u2028 \U0001F98A"),
		[]byte("  spaces and\ttabs  "),
		[]byte(`"quotes' \ back, comma; semicolon`),
		[]byte("%s %d %n ${env.HOME} $(id) <b>&amp;"),
		bytes.Repeat([]byte("long "), 20_000),
	}
	if binary {
		ps = append(ps, []byte("two\nlines"), []byte("dos\r\nlines\r\n"), []byte("\n"), []byte{0xff}, []byte("\r"))
	}
	if empty {
		ps = append(ps, []byte{})
	}
	return ps
}

// numbered is n small payloads that differ.
func numbered(n int) [][]byte {
	ps := make([][]byte, n)
	for i := range ps {
		ps[i] = fmt.Appendf(nil, "payload %06d", i)
	}
	return ps
}

// guardBytes keeps copies of payloads, and says which were changed in place.
type guardBytes struct{ now, then [][]byte }

func guard(b event.Batch) *guardBytes {
	g := &guardBytes{}
	for _, m := range b {
		g.add(m.Data)
	}
	return g
}

func (g *guardBytes) add(p []byte) {
	g.now, g.then = append(g.now, p), append(g.then, bytes.Clone(p))
}

func (g *guardBytes) check(t *testing.T) {
	t.Helper()
	for i := range g.now {
		if !bytes.Equal(g.now[i], g.then[i]) {
			t.Errorf("rule 7: payload %d was changed in place: %s, was %s", i, show(g.now[i]), show(g.then[i]))
		}
	}
}

// show is a payload as a test prints it.
func show(p []byte) string {
	if len(p) > 60 {
		return fmt.Sprintf("%q... (%d bytes)", p[:60], len(p))
	}
	return fmt.Sprintf("%q", p)
}

// sameSet compares payloads; inOrder also their order. Duplicates in got are allowed when
// repeats is set.
func sameSet(t *testing.T, what string, got, want [][]byte, inOrder, repeats bool) {
	t.Helper()
	if inOrder && !repeats {
		for i := range max(len(got), len(want)) {
			switch {
			case i >= len(got):
				t.Errorf("%s: payload %d is missing: %s (%d of %d are there)", what, i, show(want[i]), len(got), len(want))
				return
			case i >= len(want):
				t.Errorf("%s: payload %d is too much: %s", what, i, show(got[i]))
				return
			case !bytes.Equal(got[i], want[i]):
				t.Errorf("%s: payload %d is %s, want %s", what, i, show(got[i]), show(want[i]))
				return
			}
		}
		return
	}
	have := map[string]int{}
	for _, p := range got {
		have[string(p)]++
	}
	for _, p := range want {
		if have[string(p)] == 0 {
			t.Errorf("%s: missing: %s", what, show(p))
		}
		have[string(p)]--
	}
	for p, n := range have {
		if n > 0 && !repeats {
			t.Errorf("%s: %d too many: %s", what, n, show([]byte(p)))
		}
	}
}
