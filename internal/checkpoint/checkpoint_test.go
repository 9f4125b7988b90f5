package checkpoint_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/checkpoint"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestModel tracks and resolves in any order and compares every answer with the plain
// definition: the highest position before which everything is resolved.
func TestModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 10).Draw(t, "limit")
		tr := checkpoint.New[int](limit)
		type tracked struct {
			pos     int
			resolve func() (int, bool)
			done    bool
		}
		var all []*tracked
		committed := 0 // how many of all are committable
		var order []int
		cancelled, cancel := context.WithCancel(context.Background())
		cancel()
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "track") {
				pos := rapid.Int().Draw(t, "position") // positions need not grow
				resolve, err := tr.Track(cancelled, pos)
				if full := len(all)-committed == limit; full != (err != nil) {
					t.Fatalf("%d positions are open of %d, and Track says %v", len(all)-committed, limit, err)
				}
				if err == nil {
					all = append(all, &tracked{pos: pos, resolve: resolve})
				}
				continue
			}
			if len(all) == 0 {
				continue
			}
			x := all[rapid.IntRange(max(len(all)-2*limit, 0), len(all)-1).Draw(t, "which")] // resolved ones too
			x.done = true
			before := committed
			for committed < len(all) && all[committed].done {
				committed++
			}
			pos, moved := x.resolve()
			if moved != (committed > before) {
				t.Fatalf("moved is %t, and %d became committable", moved, committed-before)
			}
			if moved {
				if pos != all[committed-1].pos {
					t.Fatalf("position %d, want %d", pos, all[committed-1].pos)
				}
				order = append(order, committed)
			}
			if tr.Open() != len(all)-committed {
				t.Fatalf("%d open, want %d", tr.Open(), len(all)-committed)
			}
		}
		if !slices.IsSorted(order) {
			t.Fatal("a position came before an earlier one")
		}
	})
}

func TestTrackBlocksAtTheLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := checkpoint.New[int](2)
		first, _ := tr.Track(t.Context(), 1)
		second, _ := tr.Track(t.Context(), 2)
		begin := time.Now()
		time.AfterFunc(time.Second, func() { second() }) // frees nothing
		time.AfterFunc(2*time.Second, func() { first() })
		if _, err := tr.Track(t.Context(), 3); err != nil || time.Since(begin) != 2*time.Second {
			t.Errorf("%v after %s, want room after 2s", err, time.Since(begin))
		}
		tr.Track(t.Context(), 4)
		cause := errors.New("stop")
		ctx, stop := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { stop(cause) })
		if _, err := tr.Track(ctx, 5); !errors.Is(err, cause) {
			t.Errorf("Track returned %v, want the cause", err)
		}
		if tr.Open() != 2 {
			t.Errorf("%d open, want 2", tr.Open())
		}
	})
}

// TestMemoryIsBounded: a million positions need no more memory than the limit.
func TestMemoryIsBounded(t *testing.T) {
	tr := checkpoint.New[int](4)
	ctx := t.Context()
	a, _ := tr.Track(ctx, 0)
	n := testing.AllocsPerRun(10_000, func() {
		b, err := tr.Track(ctx, 1)
		if err != nil {
			t.Fatal(err)
		}
		a()
		a = b
	})
	if n > 2 { // the closure, and now and then the queue
		t.Errorf("%.1f allocations per position", n)
	}
}

// TestCommitsOnlyGrow settles from many goroutines at once, with commits that take time
// and fail.
func TestCommitsOnlyGrow(t *testing.T) {
	t.Parallel()
	failures := 0
	defer func() {
		if failures == 0 {
			t.Error("no commit failed: the test shows nothing")
		}
	}()
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 2))
			var mu sync.Mutex
			running, commits, last, durable := 0, 0, 0, 0
			bad := errors.New("disk full")
			settled := map[int]bool{}
			c := checkpoint.NewCommitter(50, func(_ context.Context, pos int) error {
				mu.Lock()
				running++
				commits++
				if running > 1 {
					t.Error("two commits at once")
				}
				if pos < last {
					t.Errorf("commit of %d after %d", pos, last)
				}
				last = pos
				for i := 1; i <= pos; i++ {
					if !settled[i] {
						t.Errorf("commit of %d, and %d is not settled", pos, i)
					}
				}
				fails := rng.IntN(4) == 0
				mu.Unlock()
				time.Sleep(5 * time.Millisecond)
				mu.Lock()
				defer mu.Unlock()
				running--
				if fails {
					return bad
				}
				durable = pos
				return nil
			})
			var wg sync.WaitGroup
			failed := 0
			for i := 1; i <= 200; i++ {
				settle, err := c.Track(t.Context(), i)
				if err != nil {
					t.Fatal(err)
				}
				mu.Lock()
				pause := time.Duration(rng.IntN(20)) * time.Millisecond
				mu.Unlock()
				wg.Go(func() {
					time.Sleep(pause)
					mu.Lock()
					settled[i] = true
					mu.Unlock()
					err := settle(t.Context())
					mu.Lock()
					defer mu.Unlock()
					if err != nil {
						failed++
					}
				})
			}
			wg.Wait()
			for c.Flush(t.Context()) != nil {
				failed++
			}
			if durable != 200 || c.Open() != 0 {
				t.Errorf("%d is durable, %d are open; want 200 and 0", durable, c.Open())
			}
			failures += failed
			n := commits
			if err := c.Flush(t.Context()); err != nil || commits != n {
				t.Errorf("Flush with nothing to commit: %v, %d commits", err, commits-n)
			}
		})
	}
}

// TestCommitIsShared: who waits for a running commit shares the next one.
func TestCommitIsShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var commits []int
		c := checkpoint.NewCommitter(100, func(_ context.Context, pos int) error {
			commits = append(commits, pos)
			time.Sleep(time.Second)
			return nil
		})
		var wg sync.WaitGroup
		for i := 1; i <= 50; i++ {
			settle, err := c.Track(t.Context(), i)
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				if err := settle(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if !slices.Equal(commits, []int{1, 50}) {
			t.Errorf("commits of %v, want 1 and 50", commits)
		}
	})
}

func TestSettleStopsWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := checkpoint.NewCommitter(10, func(context.Context, int) error { time.Sleep(time.Hour); return nil })
		one, _ := c.Track(t.Context(), 1)
		two, _ := c.Track(t.Context(), 2)
		var wg sync.WaitGroup
		wg.Go(func() { one(context.WithoutCancel(t.Context())) })
		synctest.Wait()
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		if err := two(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("settle returned %v", err)
		}
		wg.Wait()
	})
}
