package rows

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/log/disk"
)

// machineTime is the time of a machine: it passes evenly, and what the machine says of it is set.
// The test alone changes it, the store reads it whenever it likes.
type machineTime struct {
	mu     sync.Mutex // held while it is changed, and by the store
	passed time.Duration
	set    time.Duration
}

// pass lets time pass, and shift sets the clock.
func (m *machineTime) pass(d time.Duration)  { m.mu.Lock(); defer m.mu.Unlock(); m.passed += d }
func (m *machineTime) shift(d time.Duration) { m.mu.Lock(); defer m.mu.Unlock(); m.set += d }

var boot = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func (m *machineTime) wall() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return boot.Add(m.passed + m.set)
}

func (m *machineTime) elapsed() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.passed
}

func (m *machineTime) open(t *testing.T, dir string) *Store {
	t.Helper()
	opt := Options{Now: m.wall, Steady: m.elapsed}.WithDefaults()
	l, err := disk.Open(dir, disk.Options{Log: opt.Log, SegmentBytes: opt.SegmentBytes, FS: opt.FS})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(context.Background(), l, dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestClockIsSet runs random histories of retries, named times and leases while the time of the
// machine is set back and forth, while the store is open and while it is not.
func TestClockIsSet(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			clockHistory(t, rand.New(rand.NewPCG(seed, 1)))
		})
	}
}

// waiting is a job as the history knows it: it comes when all of these have come.
type waiting struct {
	at     time.Time     // by the wall clock
	after  time.Duration // passed
	leased time.Duration // passed, when its lease ends
}

func clockHistory(t *testing.T, r *rand.Rand) {
	m := &machineTime{}
	dir := t.TempDir()
	s := m.open(t, dir)
	defer func() { s.Close() }()
	jobs := map[string]*waiting{}
	check := func() {
		if err := s.compareClocks(); err != nil {
			t.Fatal(err)
		}
	}
	for step := range 250 {
		switch r.IntN(8) {
		case 0, 1:
			name := fmt.Sprint(step)
			j := queue.Job{Queue: "q", Msg: event.New([]byte(name))}
			w := &waiting{}
			switch r.IntN(3) {
			case 0:
				j.NotBefore = m.wall().Add(time.Duration(r.IntN(7000)-600) * time.Second)
				w.at = j.NotBefore
			case 1:
				j.After = time.Duration(1+r.IntN(7000)) * time.Second
				w.after = m.passed + j.After
			}
			if err := s.Update(t.Context(), func(tx queue.Tx) error { return tx.Append(j) }); err != nil {
				t.Fatal(err)
			}
			jobs[name] = w
		case 2, 3, 4:
			var want []string
			for name, j := range jobs {
				if !j.at.After(m.wall()) && j.after <= m.passed && j.leased <= m.passed {
					want = append(want, name)
				}
			}
			got, err := s.Lease(t.Context(), queue.Query{Filter: queue.Filter{Queue: "q"}, For: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			var rs []queue.Result
			for i := range got {
				name := string(got[i].Msg.Data)
				names = append(names, name)
				j := jobs[name]
				switch r.IntN(6) {
				case 0:
					rs = append(rs, got[i].Done())
					delete(jobs, name)
				case 1:
					at := m.wall().Add(time.Duration(1+r.IntN(7000)) * time.Second)
					rs = append(rs, got[i].Again(at, "named"))
					j.at, j.after, j.leased = at, 0, 0
				case 2, 3:
					d := time.Duration(r.IntN(7000)) * time.Second
					rs = append(rs, got[i].AgainAfter(d, "wait"))
					j.at, j.after, j.leased = time.Time{}, m.passed+d, 0
				default:
					j.leased = m.passed + time.Minute
				}
			}
			slices.Sort(names)
			slices.Sort(want)
			if !slices.Equal(names, want) {
				t.Fatalf("step %d: after %s, set by %s, came %v, want %v", step, m.passed, m.set, names, want)
			}
			if err := s.Update(t.Context(), func(tx queue.Tx) error { return tx.Settle(rs...) }); err != nil {
				t.Fatal(err)
			}
		case 5:
			m.pass(time.Duration(r.IntN(100)*r.IntN(20)) * time.Second)
		case 6:
			m.shift(time.Duration(r.IntN(4*7200)-2*7200) * time.Second)
			check()
		case 7:
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			// Time passes, and is set back by more: it cannot be known how much passed.
			if r.IntN(2) == 0 {
				m.pass(time.Duration(r.IntN(600)) * time.Second)
			}
			s = m.open(t, dir)
			for _, j := range jobs {
				j.leased = 0
			}
		}
	}
}

// TestClockSetWhileClosed: a wait is longer at most by the time that the store was closed when
// the time of the machine was set back meanwhile, and what waits is listed with its time.
func TestClockSetWhileClosed(t *testing.T) {
	t.Parallel()
	m := &machineTime{}
	dir := t.TempDir()
	s := m.open(t, dir)
	lease := func() []queue.Job {
		t.Helper()
		jobs, err := s.Lease(t.Context(), queue.Query{Filter: queue.Filter{Queue: "q"}})
		if err != nil {
			t.Fatal(err)
		}
		return jobs
	}
	if err := s.Update(t.Context(), func(tx queue.Tx) error { return tx.Append(queue.Job{Queue: "q", Msg: event.New([]byte("1"))}) }); err != nil {
		t.Fatal(err)
	}
	jobs := lease()
	if err := s.Update(t.Context(), func(tx queue.Tx) error { return tx.Settle(jobs[0].AgainAfter(time.Minute, "wait")) }); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		m.shift(-(2 * time.Hour))
		s = m.open(t, dir)
	}
	p, err := s.List(t.Context(), queue.Search{Filter: queue.Filter{Queue: "q"}}, queue.ID{}, 10)
	if err != nil || len(p.Jobs) != 1 || !p.Jobs[0].NotBefore.Equal(m.wall().Add(time.Minute)) {
		t.Fatalf("listed %+v, want a job that waits until %s: %v", p.Jobs, m.wall().Add(time.Minute), err)
	}
	m.pass(time.Minute - 1)
	if jobs := lease(); len(jobs) != 0 {
		t.Fatal("the job came too early")
	}
	m.passed++
	if jobs := lease(); len(jobs) != 1 || !jobs[0].NotBefore.Equal(m.wall()) {
		t.Fatalf("the job did not come in its time: %+v", jobs)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// A damaged file is no reason to refuse the store.
	if err := os.WriteFile(filepath.Join(dir, clockName), []byte("weir clock 1 7 9 00000000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = m.open(t, dir)
	defer s.Close()
	if jobs := lease(); len(jobs) != 1 {
		t.Fatalf("%d jobs, want 1", len(jobs))
	}
}
