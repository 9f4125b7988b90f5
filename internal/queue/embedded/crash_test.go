package embedded

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/log/disk"
)

// TestPowerFailure works on a store in a file system that can be cloned as a power
// failure would leave it, with any part of what was not synced, and compares each clone
// with what was acknowledged.
func TestPowerFailure(t *testing.T) {
	t.Parallel()
	clones := envInt(t, "WEIR_CHAOS_RUNS", 12)
	for seed := range uint64(clones+5) / 6 {
		powerFailures(t, seed, min(clones, 6))
	}
}

func powerFailures(t *testing.T, seed uint64, clones int) {
	t.Helper()
	fs := vfs.NewCrashableMem()
	s, err := Open("store", Options{FS: fs, SegmentBytes: 128 << 10})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	l := newLedger()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		ended <- toil(ctx, s, 0, 20_000, func(verb string, ids ...string) {
			mu.Lock()
			defer mu.Unlock()
			for _, id := range ids {
				l.line(verb + " " + id)
			}
		})
	}()
	rng := rand.New(rand.NewPCG(seed, 2))
	for run := range clones {
		time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
		before := l.copy(&mu)
		clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
		after := l.copy(&mu)
		reopened, err := Open("store", Options{FS: clone, SegmentBytes: 128 << 10})
		if err != nil {
			t.Errorf("clone %d: %v", run, err)
			break
		}
		found, n := inventory(t, reopened)
		between(t, before, after, found)
		record(t, n, -1, before.low, after.high)
		if err := reopened.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			break
		}
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func (l *ledger) copy(mu *sync.Mutex) *ledger {
	mu.Lock()
	defer mu.Unlock()
	c := newLedger()
	c.low, c.high = l.low, l.high
	for id, p := range l.places {
		c.places[id] = maps.Clone(p)
	}
	for id, p := range l.ever {
		c.ever[id] = maps.Clone(p)
	}
	return c
}

// between demands that each job is where it was, or was to be, between two moments.
func between(t *testing.T, before, after *ledger, found map[string]string) {
	t.Helper()
	for id := range after.places {
		may := maps.Clone(after.places[id])
		if was := before.places[id]; was != nil {
			maps.Copy(may, was)
		} else {
			may[""] = true
		}
		for place := range after.ever[id] {
			if !before.ever[id][place] {
				may[place] = true
			}
		}
		if !may[found[id]] {
			t.Errorf("job %s is in %q, possible are %v", id, found[id], may)
		}
	}
}

func text(n int) string { return strings.Repeat("p", n) }

// TestDiskFull has the disk refuse writes of the log: work is refused with ErrFull,
// nothing is lost or half done, and the store goes on when there is space.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	full := &refusing{FS: fs}
	s, err := Open("store", Options{FS: full, SegmentBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	want := 0
	put := func() error {
		err := s.Update(t.Context(), func(tx queue.Tx) error {
			return tx.Append(queue.Job{Queue: "a", Msg: event.New([]byte(text(3000)))})
		})
		if err == nil {
			want++
		}
		return err
	}
	for range 30 {
		if err := put(); err != nil {
			t.Fatal(err)
		}
	}
	for round := range 5 {
		full.on.Store(true)
		for range 3 {
			if err := put(); !errors.Is(err, queue.ErrFull) {
				t.Fatalf("round %d: append to a full disk = %v, want ErrFull", round, err)
			}
		}
		jobs, err := s.Lease(t.Context(), queue.Query{Filter: queue.Filter{Queue: "a"}, Limit: 2})
		if err != nil || len(jobs) != 2 {
			t.Fatalf("lease from a full disk: %d jobs, %v", len(jobs), err)
		}
		settle := func(tx queue.Tx) error { return tx.Settle(jobs[0].Done(), jobs[1].Done()) }
		if err := s.Update(t.Context(), settle); !errors.Is(err, queue.ErrFull) {
			t.Fatalf("settle on a disk without a byte = %v, want ErrFull", err)
		}
		full.on.Store(false)
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
		if err := s.Update(t.Context(), settle); err != nil {
			t.Fatalf("settle when there is space again: %v", err)
		}
		want -= 2
		for range 5 {
			if err := put(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open("store", Options{FS: fs}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Check(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if st, err := s.Stats(t.Context(), queue.Filter{Queue: "a"}); err != nil || st.Waiting != int64(want) {
		t.Fatalf("%d jobs, want %d: %v", st.Waiting, want, err)
	}
}

// TestRoomComesBySettling: a store that was full takes new work when its jobs are settled, or most
// of them in each piece of the log, without anybody asking for it.
func TestRoomComesBySettling(t *testing.T) {
	t.Parallel()
	for _, keep := range []int{0, 9} { // of ten jobs, the last of which may stay
		t.Run(fmt.Sprint(keep), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { roomBySettling(t, keep) })
		})
	}
}

func roomBySettling(t *testing.T, keep int) {
	t.Helper()
	s, err := Open("store", Options{FS: vfs.NewMem(), MaxBytes: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for n := 0; s.Full() == nil; n++ { // maintenance may make a little room, which is used up again
		for err = nil; err == nil; {
			err = s.Update(t.Context(), func(tx queue.Tx) error {
				return tx.Append(queue.Job{Queue: "a", Msg: event.New([]byte(text(10000)))})
			})
		}
		if !errors.Is(err, queue.ErrFull) || n == 100 {
			t.Fatalf("filled %d times: %v", n, err)
		}
		time.Sleep(3 * time.Second)
	}
	jobs, err := s.Lease(t.Context(), queue.Query{Filter: queue.Filter{Queue: "a"}, Limit: 10000})
	if err != nil {
		t.Fatal(err)
	}
	for i := range jobs {
		if keep > 0 && i%10 == keep {
			continue
		}
		if err := s.Update(t.Context(), func(tx queue.Tx) error { return tx.Settle(jobs[i].Done()) }); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(10 * time.Second)
	if err := s.Full(); err != nil {
		t.Errorf("%d jobs of %d are settled: %v", len(jobs)-len(jobs)/10*min(keep, 1), len(jobs), err)
	}
}

// TestLimits reaches the limits before the disk is full: new work is refused, results
// are not, and work is taken again when there is room.
func TestLimits(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s, err := Open("store", Options{FS: fs, MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	put := func() error {
		return s.Update(t.Context(), func(tx queue.Tx) error {
			return tx.Append(queue.Job{Queue: "a", Msg: event.New([]byte(text(30000)))})
		})
	}
	n := 0
	for ; n < 1000; n++ {
		if err = put(); err != nil {
			break
		}
	}
	if !errors.Is(err, queue.ErrFull) || n > 60 {
		t.Fatalf("after %d jobs of 30000 bytes with a limit of 1 MiB: %v", n, err)
	}
	if err := s.Update(t.Context(), func(tx queue.Tx) error { return tx.Put([]byte("k"), []byte(text(30000))) }); !errors.Is(err, queue.ErrFull) {
		t.Errorf("put = %v, want ErrFull", err)
	}
	for {
		jobs, err := s.Lease(t.Context(), queue.Query{Filter: queue.Filter{Queue: "a"}, Limit: 10})
		if err != nil {
			t.Fatal(err)
		}
		if len(jobs) == 0 {
			break
		}
		if err := s.Update(t.Context(), func(tx queue.Tx) error {
			for i := range jobs {
				if err := tx.Settle(jobs[i].Done()); err != nil {
					return err
				}
			}
			return tx.Delete([]byte("k"))
		}); err != nil {
			t.Fatalf("settle in a full store: %v", err)
		}
	}
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := put(); err != nil {
		t.Fatalf("append when everything is settled: %v", err)
	}
	fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1 << 20, TotalBytes: 100 << 30, UsedBytes: 99 << 30})
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := put(); !errors.Is(err, queue.ErrFull) {
		t.Fatalf("append with 1 MiB free = %v, want ErrFull", err)
	}
	fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 50 << 30, TotalBytes: 100 << 30, UsedBytes: 50 << 30})
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := put(); err != nil {
		t.Fatal(err)
	}
}

// refusing is a file system whose log can be made to run out of space: a write gets half
// of its bytes to the disk, as it does when a disk fills up.
type refusing struct {
	vfs.FS
	on atomic.Bool
}

type refusingFile struct {
	vfs.File
	fs *refusing
}

func (r *refusing) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if !strings.HasSuffix(name, disk.SegmentExt) {
		return r.FS.Create(name, c)
	}
	if r.on.Load() {
		return nil, &os.PathError{Op: "create", Path: name, Err: syscall.ENOSPC}
	}
	f, err := r.FS.Create(name, c)
	return &refusingFile{f, r}, err
}

func (f *refusingFile) Write(b []byte) (int, error) {
	if !f.fs.on.Load() {
		return f.File.Write(b)
	}
	n, err := f.File.Write(b[:len(b)/2])
	if err != nil {
		return n, err
	}
	return n, &os.PathError{Op: "write", Err: syscall.ENOSPC}
}
