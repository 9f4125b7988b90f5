package postgres

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"
	"weak"

	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
)

// TestPastIsGivenBack begins another history while jobs are leased, appended and settled: all
// that was remembered of the one before is given back, whatever somebody still holds of it.
func TestPastIsGivenBack(t *testing.T) {
	t.Parallel()
	s := open(t, Options{DSN: enginetest.Postgres(t), Partitions: 4})
	t.Cleanup(s.Subscribe("q"))
	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	var mu sync.Mutex
	var held []queue.Job
	for p := range 3 {
		work.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				j := queue.Job{Queue: "q", Msg: event.New(make([]byte, 1000)), Scope: queue.Scope{Destination: fmt.Sprint(p, i%20)}}
				_ = s.Update(ctx, func(tx queue.Tx) error { return tx.Append(j) })
			}
		})
		work.Go(func() {
			for ctx.Err() == nil {
				wake := s.Wake(queue.Filter{Queue: "q"})
				jobs, _ := s.Lease(ctx, queue.Query{Filter: queue.Filter{Queue: "q"}, Limit: 10, For: time.Hour})
				if len(jobs) == 0 {
					select {
					case <-wake:
					case <-ctx.Done():
					}
					continue
				}
				mu.Lock()
				held = append(held, jobs[0])
				mu.Unlock()
				_ = s.Update(ctx, func(tx queue.Tx) error {
					for i := range jobs[1:] {
						if err := tx.Settle(jobs[1+i].Done()); err != nil {
							return err
						}
					}
					return nil
				})
			}
		})
	}
	some := func() (n int) { mu.Lock(); defer mu.Unlock(); return len(held) }
	for range 3 {
		from := some()
		await(t, "jobs are leased", func() bool { return some() > from+5 })
		past := weak.Make(s.history.Load())
		var parts []weak.Pointer[owned]
		for i := range s.owned {
			if o := s.owned[i].Load(); o != nil {
				parts = append(parts, weak.Make(o))
			}
		}
		c, err := s.pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		next, err := s.readHistory(t.Context(), c, past.Value().id, past.Value().started)
		c.Release()
		if err != nil {
			t.Fatal(err)
		}
		s.begins(next)
		await(t, "what was remembered is given back", func() bool {
			runtime.GC()
			left := 0
			for _, p := range parts {
				if p.Value() != nil {
					left++
				}
			}
			return left == 0 && past.Value() == nil
		})
	}
	stop()
	work.Wait()
}
