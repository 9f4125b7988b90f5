package partition

import (
	"context"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/queue"
)

// TestDueWhileLeasing has a job come due, by another caller's clock, while a Lease that began
// before reads: that Lease must not take the job's lane out of line and forget it.
func TestDueWhileLeasing(t *testing.T) {
	t.Parallel()
	m := newMemory(newClock(), 0)
	defer m.p.Close()
	m.append(1, plain("later")...)
	jobs := m.lease(t, 100)
	c, err := m.p.Begin(context.Background(), []queue.Result{jobs[0].Again(m.clock.now().Add(5*time.Second), "not now")})
	if err != nil {
		t.Fatal(err)
	}
	m.end(c, true)
	m.append(2, plain("first")...)
	m.reading = func() {
		m.reading = nil
		m.clock.advance(6 * time.Second)
		m.p.Stats(queue.Filter{Queue: "q"}) // whatever looks at the clock meanwhile
	}
	wantLeased(t, m, "first")
	wantLeased(t, m, "later")
}
