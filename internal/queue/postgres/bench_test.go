package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
)

const benchBatch = 500

// benchJobs makes jobs with payloads of 500 bytes.
func benchJobs(q string) []queue.Job {
	payload := make([]byte, 500)
	for i := range payload {
		payload[i] = "0123456789abcdef"[i*7%16]
	}
	jobs := make([]queue.Job, benchBatch)
	for i := range jobs {
		m := event.New(append([]byte(nil), payload...))
		m.Key = fmt.Sprint("user ", i%50)
		jobs[i] = queue.Job{Queue: q, Msg: m}
	}
	return jobs
}

// workers runs fn in n goroutines until it answers false.
func workers(n int, fn func(worker int) bool) {
	var wg sync.WaitGroup
	for w := range n {
		wg.Go(func() {
			for fn(w) {
			}
		})
	}
	wg.Wait()
}

func fill(b *testing.B, s *Store, q string, n int) {
	b.Helper()
	jobs := benchJobs(q)
	var left atomic.Int64
	left.Store(int64(n / benchBatch))
	workers(8, func(int) bool {
		if left.Add(-1) < 0 {
			return false
		}
		if err := s.Update(b.Context(), func(tx queue.Tx) error { return tx.Append(jobs...) }); err != nil {
			b.Error(err)
			return false
		}
		return true
	})
}

// BenchmarkAppend measures 8 workers that append 500 jobs of 500 bytes in an Update.
func BenchmarkAppend(b *testing.B) {
	s := open(b, Options{DSN: enginetest.Postgres(b), Committers: 4, Readers: 8})
	jobs := benchJobs("a")
	b.ReportAllocs()
	var next atomic.Int64
	start := time.Now()
	for b.Loop() {
		next.Store(16)
		workers(8, func(int) bool {
			if next.Add(-1) < 0 {
				return false
			}
			if err := s.Update(b.Context(), func(tx queue.Tx) error { return tx.Append(jobs...) }); err != nil {
				b.Error(err)
			}
			return true
		})
	}
	b.ReportMetric(float64(b.N*16*benchBatch)/time.Since(start).Seconds(), "events/s")
}

// BenchmarkMove measures 8 workers that lease 500 jobs, append them to the next queue and
// settle them in one Update, while many others wait.
func BenchmarkMove(b *testing.B) {
	for _, cached := range []bool{true, false} {
		for _, waiting := range []int{0, 500_000} {
			b.Run(fmt.Sprintf("cached=%v/waiting=%d", cached, waiting), func(b *testing.B) {
				o := Options{DSN: enginetest.Postgres(b), Committers: 4, Readers: 8}
				if !cached {
					o.CacheBytes = -1
				}
				s := open(b, o)
				const per = 16 // moves of one loop
				fill(b, s, "a", waiting)
				b.ReportAllocs()
				var spent time.Duration
				for b.Loop() {
					b.StopTimer()
					fill(b, s, "a", per*benchBatch)
					b.StartTimer()
					start := time.Now()
					var moves atomic.Int64
					moves.Store(per)
					workers(8, func(int) bool {
						if moves.Add(-1) < 0 {
							return false
						}
						return move(b, s, "a", "b")
					})
					spent += time.Since(start)
				}
				b.ReportMetric(float64(b.N*per*benchBatch)/spent.Seconds(), "events/s")
			})
		}
	}
}

func move(b *testing.B, s *Store, from, to string) bool {
	ctx := context.Background()
	for {
		wake := s.Wake(queue.Filter{Queue: from})
		jobs, err := s.Lease(ctx, queue.Query{Filter: queue.Filter{Queue: from}, Limit: benchBatch})
		if err != nil {
			b.Error(err)
			return false
		}
		if len(jobs) == 0 {
			<-wake
			continue
		}
		next := make([]queue.Job, len(jobs))
		results := make([]queue.Result, len(jobs))
		for i := range jobs {
			next[i] = queue.Job{Queue: to, Msg: jobs[i].Msg}
			results[i] = jobs[i].Done()
		}
		err = s.Update(ctx, func(tx queue.Tx) error { return errors.Join(tx.Append(next...), tx.Settle(results...)) })
		if err != nil {
			b.Error(err)
			return false
		}
		return true
	}
}
