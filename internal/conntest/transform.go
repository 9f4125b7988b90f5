package conntest

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
)

// TransformCase is a transform under test.
type TransformCase struct {
	// New compiles the transform.
	New func(t *testing.T) connector.Transform
	// Inputs are payloads that the transform is made for. Payloads that it is not made
	// for are tried in any case.
	Inputs [][]byte
}

// Transform runs the suite.
func Transform(t *testing.T, c TransformCase) {
	t.Helper()
	s := transformSuite{c}
	inputs := append(nasty(true, true), c.Inputs...)
	inputs = append(inputs, nil)
	t.Run("apply", func(t *testing.T) {
		noLeak(t)
		tr := s.fresh(t)
		for _, in := range inputs {
			_, _ = s.apply(t.Context(), t, tr, in)
		}
	})
	t.Run("apply with a cancelled context", func(t *testing.T) {
		noLeak(t)
		tr := s.fresh(t)
		for _, in := range inputs {
			within(t, prompt, "Apply with a cancelled context", func() { _, _ = s.apply(cancelled(), t, tr, in) })
		}
		// A context that ended concerns that call only.
		for _, in := range c.Inputs {
			_, _ = s.apply(t.Context(), t, tr, in)
		}
	})
	t.Run("the same message twice", func(t *testing.T) {
		noLeak(t)
		compiled := s.New(t)
		one, two := Worker(t, compiled), Worker(t, compiled)
		for _, in := range c.Inputs {
			a, errA := s.apply(t.Context(), t, one, in)
			_, _ = s.apply(t.Context(), t, one, in)
			b, errB := s.apply(t.Context(), t, two, in)
			if (errA == nil) != (errB == nil) || len(a) != len(b) {
				t.Errorf("%s: one instance makes %d messages of it (%v), another %d (%v)", show(in), len(a), errA, len(b), errB)
			}
		}
	})
	t.Run("workers at once", func(t *testing.T) {
		noLeak(t)
		compiled := s.New(t)
		var wg sync.WaitGroup
		defer wg.Wait()
		for range 4 {
			wg.Go(func() {
				w, err := compiled.Worker()
				if err != nil {
					t.Errorf("Worker: %v", err)
					return
				}
				for _, in := range c.Inputs {
					_, _ = w.Apply(t.Context(), nil, event.New(bytes.Clone(in)))
				}
				if closer, ok := w.(connector.Closer); ok {
					_ = closer.Close()
				}
			})
		}
	})
	t.Run("close", func(t *testing.T) {
		noLeak(t)
		w, err := c.New(t).Worker()
		if err != nil {
			t.Fatalf("Worker: %v", err)
		}
		if closer, ok := w.(connector.Closer); ok {
			for range 2 {
				within(t, patience, "Close", func() {
					if err := closer.Close(); err != nil {
						t.Errorf("Close: %v", err)
					}
				})
			}
		}
	})
}

type transformSuite struct{ TransformCase }

func (s transformSuite) fresh(t *testing.T) connector.Worker { return Worker(t, s.New(t)) }

// Worker is a worker of tr, closed at the end of the test.
func Worker(t testing.TB, tr connector.Transform) connector.Worker {
	t.Helper()
	w, err := tr.Worker()
	if err != nil {
		t.Fatalf("Worker: %v", err)
	}
	if c, ok := w.(connector.Closer); ok {
		t.Cleanup(func() { _ = c.Close() })
	}
	return w
}

// apply gives the transform a message between two others, and checks that nothing but
// this message's fate follows from it.
func (s transformSuite) apply(ctx context.Context, t *testing.T, tr connector.Worker, in []byte) (became event.Batch, err error) {
	t.Helper()
	m, before, after := event.New(in), event.New([]byte("before")), event.New([]byte("after"))
	if in == nil {
		m = &event.Message{}
	}
	g := guard(event.Batch{m, before})
	settled := 0
	event.Track(event.Batch{m}, func(event.Outcomes) { settled++ })
	out := make(event.Batch, 0, 8)
	out = append(out, before, after)
	var grown event.Batch
	within(t, patience, fmt.Sprintf("Apply to %s", show(in)), func() { grown, err = tr.Apply(ctx, out, m) })
	g.check(t)
	if out[0] != before || out[1] != after || string(before.Data) != "before" || string(after.Data) != "after" {
		t.Errorf("%s: Apply changed messages that are not its own", show(in))
	}
	if err != nil {
		event.Unsplit(m)
		became = event.Batch{m}
	} else {
		if len(grown) < 2 || grown[0] != before || grown[1] != after {
			t.Errorf("%s: Apply returned a batch that does not begin with the one it was given", show(in))
			return nil, err
		}
		if became = grown[2:]; len(became) == 0 {
			event.Unsplit(m)
			became = event.Batch{m}
			grown = nil
		}
	}
	seen := map[*event.Message]bool{}
	for i, x := range became {
		if x == nil || seen[x] {
			t.Errorf("%s: message %d of the result is nil or listed twice", show(in), i)
			return nil, err
		}
		seen[x] = true
		if grown != nil && err == nil && x.Dropped() != "" {
			t.Errorf("%s: message %d of the result passes and has a reason to be filtered, %q", show(in), i, x.Dropped())
		}
		if !event.Tracked(x) {
			t.Errorf("%s: message %d of the result was not made with Split or Clone: nobody waits for it", show(in), i)
			continue
		}
		if settled != 0 {
			t.Errorf("%s: done before all messages it became are settled", show(in))
		}
		event.Settle(x, nil)
	}
	if settled != 1 {
		t.Errorf("%s: a descendant was made and not returned: the read would never be acknowledged", show(in))
	}
	if err != nil || grown == nil {
		return nil, err
	}
	return became, nil
}
