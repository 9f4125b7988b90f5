package script

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestWatchdog: it interrupts a run that takes too long, once, leaves runs alone that
// end in time, and ends itself when nothing runs. A goroutine left over fails the bubble.
func TestWatchdog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var (
			w       watchdog
			reasons []error
		)
		slow := NewGuard(time.Second, 1<<40, func(reason error) { reasons = append(reasons, reason) })
		quick := NewGuard(time.Second, 1<<40, func(error) { t.Error("a run that ended in time was interrupted") })
		run := func(g *Guard, d time.Duration) error {
			w.watch(g)
			g.state.Add(1)
			time.Sleep(d)
			return g.end()
		}
		go func() {
			for range 10 {
				if err := run(quick, 900*time.Millisecond); err != nil {
					t.Error(err)
				}
			}
		}()
		if err := run(slow, 3*time.Second); !errors.Is(err, ErrTime) || len(reasons) != 1 {
			t.Errorf("got %v, interrupted %d times", err, len(reasons))
		}
		if err := run(slow, time.Millisecond); err != nil {
			t.Errorf("the run after it: %v", err)
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.running || len(w.list) != 0 || slow.watched.Load() {
			t.Error("the watchdog has not ended")
		}
	})
}

// BenchmarkVM is what a message costs whose runtime was thrown away.
func BenchmarkVM(b *testing.B) {
	for _, frozen := range []bool{true, false} {
		name := map[bool]string{true: "world=frozen", false: "world=separate"}[frozen]
		b.Run(name, func(b *testing.B) {
			r := start(b, `const k = {a: [1]}; function main(s) { return s }`, Options{})
			r.frozen = frozen
			b.ReportAllocs()
			for b.Loop() {
				r.vm = nil
				if _, err := run(b, r, "x"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
