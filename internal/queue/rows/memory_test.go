package rows

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/log/logtest"
	"github.com/weirdata/weir/internal/queue/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ground is what a store of these tests stands on: a log in memory, which keeps no more
// than the promises of a log, and a file system for the state.
type ground struct {
	place logtest.Place
	fs    *vfs.MemFS
}

func newGround(frontOnly bool) ground {
	return ground{&logtest.Memory{FrontOnly: frontOnly, SegmentBytes: 16 << 10}, vfs.NewCrashableMem()}
}

// crash is what is left when the power fails now: every commit that was acknowledged, and
// of the state any part that was not synced.
func (g ground) crash(t testing.TB, rng *rand.Rand) ground {
	fs := g.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
	return ground{g.place.Crash(t, rng), fs} // the log is never behind the state
}

func (g ground) open(t testing.TB, opt Options) *Store {
	t.Helper()
	l, err := g.place.Open(t)
	if err != nil {
		t.Fatal(err)
	}
	opt.FS, opt.SegmentBytes = g.fs, 16<<10
	s, err := Open(t.Context(), l, "store", opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// backend opens stores on logs in memory. Reopening one ends it with a failure of the
// power when crash says so, and checks it.
func backend(frontOnly bool, recent int, crash bool) storetest.Backend {
	var grounds sync.Map // of the stores
	open := func(t testing.TB, g ground, c storetest.Config) *Store {
		t.Helper()
		s := g.open(t, Options{Now: c.Now, Window: c.Window, RecentBytes: recent})
		grounds.Store(s, g)
		return s
	}
	return storetest.Backend{
		Open: func(t testing.TB, c storetest.Config) storetest.Store { return open(t, newGround(frontOnly), c) },
		Reopen: func(t testing.TB, st storetest.Store, c storetest.Config) storetest.Store {
			t.Helper()
			s := st.(*Store)
			v, _ := grounds.LoadAndDelete(s)
			g := v.(ground)
			if crash {
				g = g.crash(t, rand.New(rand.NewPCG(s.applied.Load(), 1)))
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			again := open(t, g, c)
			if _, err := again.Check(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			return again
		},
	}
}

// TestStore proves that what a log promises is all that a store needs.
func TestStore(t *testing.T) {
	t.Parallel()
	for _, frontOnly := range []bool{false, true} {
		t.Run(fmt.Sprintf("frontOnly=%v", frontOnly), func(t *testing.T) {
			t.Parallel()
			storetest.Run(t, backend(frontOnly, map[bool]int{false: 0, true: -1}[frontOnly], frontOnly))
		})
	}
}

// TestModel runs random histories, half of them with crashes.
func TestModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		window := 0
		if seed%2 == 1 {
			window = 1 + int(seed%40)
		}
		t.Run(fmt.Sprintf("seed=%d/window=%d", seed, window), func(t *testing.T) {
			t.Parallel()
			storetest.Model(t, backend(seed%4 < 2, []int{0, 2000, -1}[seed%3], seed%2 == 0), 100+seed, 400, window)
		})
	}
}

// appendTo appends one job, and reports what became of it.
func appendTo(t *testing.T, s *Store, payload string) error {
	t.Helper()
	return s.Update(t.Context(), func(tx queue.Tx) error {
		return tx.Append(queue.Job{Queue: "a", Msg: event.New([]byte(payload))})
	})
}

// TestFenced opens a store whose log is open: the first can commit nothing from then on,
// and says that it must be opened again.
func TestFenced(t *testing.T) {
	t.Parallel()
	g := newGround(false)
	first := g.open(t, Options{})
	if err := appendTo(t, first, "one"); err != nil {
		t.Fatal(err)
	}
	second := ground{g.place, vfs.NewCrashableMem()}.open(t, Options{})
	for range 2 {
		if err := appendTo(t, first, "lost"); err == nil || fault.Of(err) != fault.Fatal {
			t.Fatalf("append to a store that is fenced off = %v, want a fatal error", err)
		}
	}
	if err := appendTo(t, second, "two"); err != nil {
		t.Fatal(err)
	}
	if st, err := second.Stats(t.Context(), queue.Filter{Queue: "a"}); err != nil || st.Waiting != 2 {
		t.Errorf("%d jobs wait, want the two that were acknowledged: %v", st.Waiting, err)
	}
}

// TestStateOfAnotherLog refuses a state beside a log that it was not made from.
func TestStateOfAnotherLog(t *testing.T) {
	t.Parallel()
	g := newGround(false)
	s := g.open(t, Options{})
	if err := appendTo(t, s, "one"); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := (&logtest.Memory{Name: "another"}).Open(t)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), l, "store", Options{FS: g.fs}); !errors.Is(err, queue.ErrCorrupt) {
		t.Errorf("open beside another log = %v, want ErrCorrupt", err)
	}
	s = g.open(t, Options{})
	if st, err := s.Stats(t.Context(), queue.Filter{Queue: "a"}); err != nil || st.Waiting != 1 {
		t.Errorf("%d jobs wait: %v", st.Waiting, err)
	}
}

// TestCompactGivesBack empties the segments that are mostly dead, on a log that is cut at
// its front only as well.
func TestCompactGivesBack(t *testing.T) {
	t.Parallel()
	for _, frontOnly := range []bool{false, true} {
		g := newGround(frontOnly)
		s := g.open(t, Options{})
		for i := range 200 {
			if err := appendTo(t, s, fmt.Sprintf("%d %01000d", i, 0)); err != nil {
				t.Fatal(err)
			}
		}
		jobs, err := s.Lease(t.Context(), queue.Query{Filter: queue.Filter{Queue: "a"}})
		if err != nil || len(jobs) != 200 {
			t.Fatalf("leased %d jobs: %v", len(jobs), err)
		}
		if err := s.Update(t.Context(), func(tx queue.Tx) error {
			for i := range jobs {
				if i%10 != 0 {
					if err := tx.Settle(jobs[i].Done()); err != nil {
						return err
					}
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		before, err := s.Usage()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
		after, err := s.Usage()
		if err != nil {
			t.Fatal(err)
		}
		if after.Log > before.Log/3 || after.Open != before.Open {
			t.Errorf("frontOnly=%v: %+v before, %+v after", frontOnly, before, after)
		}
		if _, err := s.Check(t.Context(), nil); err != nil {
			t.Error(err)
		}
	}
}
