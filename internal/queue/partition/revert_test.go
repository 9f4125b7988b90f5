package partition

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/queue"
)

// These tests are of an owner that does not know yet that it is none any more: another
// process has settled jobs of its leases, and it follows the log before it learns that its
// own commit was refused. It must neither fail nor hand out again what is settled.

// other settles jobs as another owner does: in the log, and followed by m.
func (m *memory) other(t *testing.T, left ...Left) {
	t.Helper()
	c := &Change{Left: left}
	m.commit(c)
	if err := m.p.Replay(c); err != nil {
		t.Fatal(err)
	}
}

func wantLeased(t *testing.T, m *memory, want ...string) []queue.Job {
	t.Helper()
	jobs := m.lease(t, 100)
	if got := payloads(jobs); !slices.Equal(got, want) {
		t.Errorf("leased %q, want %q", got, want)
	}
	return jobs
}

// TestRevertOfWhatIsGone gives back jobs of values that are not in memory any more.
func TestRevertOfWhatIsGone(t *testing.T) {
	t.Parallel()
	m := newMemory(newClock(), 0)
	m.append(1, plain("1", "2")...)
	m.append(1, keyed("k", "3", "4")...)
	jobs := m.lease(t, 100)
	c := m.begin(t, jobs...)
	m.other(t, Left{Lane: 1, Seq: 1, Count: 2, Size: 9}, Left{Lane: 1, Seq: 2, Count: 2, Size: 9})
	m.end(c, false)
	wantLeased(t, m)
	m.clock.advance(time.Minute)
	wantLeased(t, m)
	if st := m.p.Stats(queue.Filter{Queue: "q"}); st != (queue.Stats{}) {
		t.Errorf("left: %+v", st)
	}
	m.append(1, plain("5")...)
	wantLeased(t, m, "5")
}

// TestRevertOfWhatIsPartlyGone gives back jobs of which another owner has settled one.
func TestRevertOfWhatIsPartlyGone(t *testing.T) {
	t.Parallel()
	m := newMemory(newClock(), 0)
	m.append(1, plain("1", "2", "3")...)
	jobs := m.lease(t, 100)
	c := m.begin(t, jobs...)
	m.other(t, Left{Lane: 1, Seq: 1, Count: 3, Size: 9, Index: []uint32{1}})
	m.clock.advance(time.Minute) // the lease ends while the commit is under way
	m.end(c, false)
	wantLeased(t, m, "1", "3")
}

// TestExpiryOfWhatIsGone lets leases end of values that are not in memory any more.
func TestExpiryOfWhatIsGone(t *testing.T) {
	t.Parallel()
	m := newMemory(newClock(), 0)
	m.append(1, plain("1", "2")...)
	m.append(1, plain("3", "4")...)
	m.lease(t, 100)
	m.other(t, Left{Lane: 1, Seq: 1, Count: 2, Size: 9})
	m.clock.advance(time.Minute)
	m.p.Stats(queue.Filter{Queue: "q"}) // lets them end
	m.other(t, Left{Lane: 1, Seq: 2, Count: 2, Size: 9, Index: []uint32{0}})
	wantLeased(t, m, "4")
}

// TestFreedOfWhatIsGone lets a lease end and has its value settled before it is handed
// out again.
func TestFreedOfWhatIsGone(t *testing.T) {
	t.Parallel()
	m := newMemory(newClock(), 0)
	m.append(1, plain("1", "2")...)
	m.lease(t, 100)
	m.clock.advance(time.Minute)
	m.p.Stats(queue.Filter{Queue: "q"})
	m.other(t, Left{Lane: 1, Seq: 1, Count: 2, Size: 9})
	wantLeased(t, m)
}

// TestRefusedBegin leaves the jobs before the one whose lease was lost as they were.
func TestRefusedBegin(t *testing.T) {
	t.Parallel()
	m := newMemory(newClock(), 0)
	m.append(1, plain("1", "2", "3")...)
	jobs := m.lease(t, 100)
	results := []queue.Result{jobs[0].Done(), jobs[1].Done(), jobs[0].Done()}
	if _, err := m.p.Begin(t.Context(), results); !errors.Is(err, queue.ErrLeaseLost) {
		t.Fatalf("Begin of one job twice = %v, want ErrLeaseLost", err)
	}
	m.end(m.begin(t, jobs...), true)
	if st := m.p.Stats(queue.Filter{Queue: "q"}); st != (queue.Stats{}) {
		t.Errorf("left: %+v", st)
	}
}

// TestRefusedPark puts withheld jobs back in the order of their key when they could not be
// moved out of the window, and leaves those alone whose value is gone meanwhile.
func TestRefusedPark(t *testing.T) {
	t.Parallel()
	for _, gone := range []bool{false, true} {
		m := newMemory(newClock(), 2)
		m.append(1, keyed("k", "1")...)
		first := wantLeased(t, m, "1")
		c, err := m.p.Begin(t.Context(), []queue.Result{first[0].Again(m.clock.now().Add(time.Hour), "later")})
		if err != nil {
			t.Fatal(err)
		}
		m.end(c, true)
		m.append(1, keyed("k", "2", "3")...)
		refused := errors.New("refused")
		m.refuses = func() error {
			if gone {
				m.other(t, Left{Lane: 1, Seq: 2, Count: 2, Size: 9})
			}
			return refused
		}
		if _, err := m.p.Lease(t.Context(), queue.Query{Filter: queue.Filter{Queue: "q"}}); !errors.Is(err, refused) {
			t.Fatalf("gone %v: Lease = %v, want that it could not park", gone, err)
		}
		m.refuses = nil
		k := m.p.lanes[1].keys[queue.HashKey([]byte("k"))]
		if !gone && (k == nil || len(k.waiters) != 2 || !slices.IsSortedFunc(k.waiters, pos.compare)) {
			t.Errorf("withheld after the refusal: %v", k)
		}
		if gone && k != nil {
			t.Errorf("withheld, though it is settled: %v", k)
		}
		m.append(1, plain("4")...)
		wantLeased(t, m, "4")
	}
}

// TestSweep finds the withheld jobs whose key ended with an earlier owner, before that
// could look for what comes next of it.
func TestSweep(t *testing.T) {
	t.Parallel()
	for _, replayed := range []bool{false, true} {
		m := newMemory(newClock(), 2)
		m.append(1, keyed("k", "1")...)
		first := wantLeased(t, m, "1")
		c, err := m.p.Begin(t.Context(), []queue.Result{first[0].Again(m.clock.now().Add(time.Hour), "later")})
		if err != nil {
			t.Fatal(err)
		}
		m.end(c, true)
		m.append(1, keyed("k", "2", "3")...)
		wantLeased(t, m)
		if n := m.p.lanes[1].parked; n != 2 {
			t.Fatalf("%d jobs are parked, want 2", n)
		}
		m.clock.advance(2 * time.Hour)
		m.end(m.begin(t, wantLeased(t, m, "1")...), true)
		if replayed {
			m.own(nil)
		} else {
			m.own(m.snapshot())
		}
		m.end(m.begin(t, wantLeased(t, m, "2")...), true)
		wantLeased(t, m, "3")
	}
}
