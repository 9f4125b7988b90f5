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

// TestKeyEndsWhileScanning settles the job that withholds another, which waits outside of the
// log, just after the scan has looked it up: the other must not be withheld by it for ever.
func TestKeyEndsWhileScanning(t *testing.T) {
	t.Parallel()
	for _, again := range []bool{false, true} {
		m := newMemory(newClock(), 0)
		t.Cleanup(m.p.Close)
		retry := func(j queue.Job) queue.Job {
			c, err := m.p.Begin(context.Background(), []queue.Result{j.Again(m.clock.now(), "again")})
			if err != nil {
				t.Fatal(err)
			}
			m.end(c, true)
			return m.lease(t, 1)[0]
		}
		m.append(1, keyed("k", "1")...)
		first := retry(wantLeased(t, m, "1")[0])
		m.append(1, keyed("k", "2")...)
		m.headed = func() {
			m.headed = nil
			if again { // it changes before it ends
				c, err := m.p.Begin(context.Background(), []queue.Result{first.Again(m.clock.now(), "again")})
				if err != nil {
					t.Fatal(err)
				}
				m.end(c, true)
				return
			}
			m.end(m.begin(t, first), true)
		}
		if again {
			jobs := m.lease(t, 100)
			if got := payloads(jobs); len(got) > 0 && got[0] != "1" {
				t.Fatalf("leased %q before the job that comes first is done", got)
			}
			if len(jobs) == 0 {
				jobs = wantLeased(t, m, "1")
			}
			m.end(m.begin(t, jobs...), true)
		} else {
			m.lease(t, 100)
		}
		if st := m.p.Stats(queue.Filter{Queue: "q"}); st.Leased == 0 {
			wantLeased(t, m, "2")
		}
	}
}

// TestKeyEndsBeforeTheOwnerKnows has a scan find in storage that a job has ended which its
// owner still has to be told of: the job that goes on then withholds those that follow it.
func TestKeyEndsBeforeTheOwnerKnows(t *testing.T) {
	t.Parallel()
	m := newMemory(newClock(), 0)
	defer m.p.Close()
	m.append(1, keyed("k", "1")...)
	c, err := m.p.Begin(context.Background(), []queue.Result{wantLeased(t, m, "1")[0].Again(m.clock.now(), "again")})
	if err != nil {
		t.Fatal(err)
	}
	m.end(c, true)
	c = m.begin(t, wantLeased(t, m, "1")...)
	m.append(1, keyed("k", "2")...)
	m.append(1, keyed("k", "3")...)
	m.commit(c)
	second := m.lease(t, 1)
	m.p.End(c, true)
	if len(second) == 0 { // may also wait until the owner knows
		second = wantLeased(t, m, "2")
	}
	if got := payloads(m.lease(t, 100)); len(got) > 0 {
		t.Fatalf("leased %q while the job before it is leased", got)
	}
	m.end(m.begin(t, second...), true)
	wantLeased(t, m, "3")
}
