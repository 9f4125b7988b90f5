package embedded

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
)

const (
	benchWriters = 8
	benchBatch   = 100
	benchEvent   = 500
)

// benchDir is a directory on the disk that benchmarks are to measure: WEIR_BENCH_DIR, or
// the working directory, since a temporary one may be in memory.
func benchDir(b *testing.B) string {
	b.Helper()
	base := os.Getenv("WEIR_BENCH_DIR")
	if base == "" {
		base = "."
	}
	dir, err := os.MkdirTemp(base, "bench-*")
	if err != nil {
		b.Fatal(err)
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func benchStore(b *testing.B, dir string) *Store {
	b.Helper()
	s, err := Open(dir, Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return s
}

// rawLog is what a durable append costs at the least: one goroutine takes what waits,
// writes it and calls fdatasync.
type rawLog struct {
	f    *os.File
	reqs chan rawRequest
	done chan struct{}
}

type rawRequest struct {
	b    []byte
	done chan error
}

func newRawLog(b *testing.B, dir string) *rawLog {
	b.Helper()
	f, err := os.OpenFile(filepath.Join(dir, "raw"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		b.Fatal(err)
	}
	r := &rawLog{f: f, reqs: make(chan rawRequest, 64), done: make(chan struct{})}
	go func() {
		defer close(r.done)
		var buf []byte
		for q := range r.reqs {
			group := []rawRequest{q}
			buf = append(buf[:0], q.b...)
		more:
			for len(group) < 64 {
				select {
				case q, ok := <-r.reqs:
					if !ok {
						break more
					}
					group = append(group, q)
					buf = append(buf, q.b...)
				default:
					break more
				}
			}
			_, err := f.Write(buf)
			if err == nil {
				err = syscall.Fdatasync(int(f.Fd()))
			}
			for _, q := range group {
				q.done <- err
			}
		}
	}()
	b.Cleanup(func() {
		close(r.reqs)
		<-r.done
		f.Close()
	})
	return r
}

func (r *rawLog) append(b []byte) error {
	q := rawRequest{b, make(chan error, 1)}
	r.reqs <- q
	return <-q.done
}

func benchJobs(n, size int) []queue.Job {
	now := time.Now().UTC()
	payloads := make([][]byte, n)
	for i := range payloads {
		payloads[i] = make([]byte, size)
		for k := range payloads[i] {
			payloads[i][k] = byte(rand.Uint32())
		}
	}
	batch := event.NewBatch(now, payloads)
	jobs := make([]queue.Job, n)
	for i := range jobs {
		batch[i].Key = fmt.Sprintf("user-%d", i)
		jobs[i] = queue.Job{Queue: "events", Scope: queue.Scope{Workspace: "w", Source: "s"}, Msg: batch[i]}
	}
	return jobs
}

// parallel runs fn rounds times on each writer and returns how long it took.
func parallel(b *testing.B, rounds int, fn func() error) time.Duration {
	start := time.Now()
	var wg sync.WaitGroup
	for range benchWriters {
		wg.Go(func() {
			for range rounds {
				if err := fn(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return time.Since(start)
}

// BenchmarkAppend appends batches of 100 jobs of 500 bytes with 8 writers, every one
// durable, and beside it writes the same bytes to a raw log. One operation is 1600
// batches; ratio is the speed of the store by that of the raw log.
func BenchmarkAppend(b *testing.B) {
	dir := benchDir(b)
	s := benchStore(b, filepath.Join(dir, "store"))
	raw := newRawLog(b, dir)
	jobs := benchJobs(benchBatch, benchEvent)
	value := make([]byte, benchBatch*benchEvent)
	var rawTime, ownTime time.Duration
	events := 0
	b.ReportAllocs()
	for b.Loop() {
		const rounds = 200
		rawTime += parallel(b, rounds, func() error { return raw.append(value) })
		ownTime += parallel(b, rounds, func() error {
			return s.Update(context.Background(), func(tx queue.Tx) error { return tx.Append(jobs...) })
		})
		events += rounds * benchWriters * benchBatch
	}
	b.ReportMetric(float64(events)/rawTime.Seconds(), "raw-events/s")
	b.ReportMetric(float64(events)/ownTime.Seconds(), "events/s")
	b.ReportMetric(rawTime.Seconds()/ownTime.Seconds(), "ratio")
	b.ReportMetric(0, "ns/op")
}

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkReadSettle fills a queue with 8 writers, then empties it with 8 workers that
// lease 1000 jobs and settle them. dearer is the time per event of emptying by that of
// filling.
func BenchmarkReadSettle(b *testing.B) {
	s := benchStore(b, benchDir(b))
	jobs := benchJobs(benchBatch, benchEvent)
	var fill, empty, fillCPU, emptyCPU time.Duration
	events := 0
	b.ReportAllocs()
	for b.Loop() {
		const rounds = 100
		from := cpu()
		fill += parallel(b, rounds, func() error {
			return s.Update(context.Background(), func(tx queue.Tx) error { return tx.Append(jobs...) })
		})
		fillCPU += cpu() - from
		from = cpu()
		empty += parallel(b, 1, func() error { return drain(s, queue.Filter{Queue: "events"}) })
		emptyCPU += cpu() - from
		events += rounds * benchWriters * benchBatch
	}
	b.ReportMetric(float64(events)/fill.Seconds(), "append-events/s")
	b.ReportMetric(float64(events)/empty.Seconds(), "settle-events/s")
	b.ReportMetric(empty.Seconds()/fill.Seconds(), "dearer")
	b.ReportMetric(fillCPU.Seconds()*1e6/float64(events), "append-us-cpu/event")
	b.ReportMetric(emptyCPU.Seconds()*1e6/float64(events), "settle-us-cpu/event")
	b.ReportMetric(0, "ns/op")
}

// drain leases and settles until nothing is open.
func drain(s *Store, f queue.Filter) error {
	for {
		wake := s.Wake(f)
		jobs, err := s.Lease(context.Background(), queue.Query{Filter: f})
		if err != nil {
			return err
		}
		if len(jobs) == 0 {
			if st, err := s.Stats(context.Background(), f); err != nil || st.Waiting == 0 {
				return err
			}
			select {
			case <-wake:
			case <-time.After(time.Millisecond): // others may take the last
			}
			continue
		}
		results := make([]queue.Result, len(jobs))
		for i := range jobs {
			results[i] = jobs[i].Done()
		}
		if err := s.Update(context.Background(), func(tx queue.Tx) error { return tx.Settle(results...) }); err != nil {
			return err
		}
	}
}

// BenchmarkLatency is the time from the call of Update with one job to the job being
// leased by a worker that waits, with nothing else going on.
func BenchmarkLatency(b *testing.B) {
	s := benchStore(b, benchDir(b))
	f := queue.Filter{Queue: "events"}
	jobs := benchJobs(1, benchEvent)
	var took []time.Duration
	arrived := make(chan time.Time)
	ctx, stop := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			wake := s.Wake(f)
			got, err := s.Lease(ctx, queue.Query{Filter: f})
			if len(got) == 0 || err != nil {
				select {
				case <-wake:
				case <-ctx.Done():
				}
				continue
			}
			arrived <- time.Now()
			if err := s.Update(ctx, func(tx queue.Tx) error { return tx.Settle(got[0].Done()) }); err != nil {
				return
			}
			arrived <- time.Now()
		}
	})
	for b.Loop() {
		start := time.Now()
		if err := s.Update(ctx, func(tx queue.Tx) error { return tx.Append(jobs...) }); err != nil {
			b.Fatal(err)
		}
		took = append(took, (<-arrived).Sub(start))
		<-arrived
	}
	stop()
	wg.Wait()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
}

// BenchmarkBacklog appends WEIR_BACKLOG jobs, ten million for instance, that nobody
// takes, and reports the speed of each tenth, the memory, and how long a restart takes.
// Without the variable it appends one hundred thousand.
func BenchmarkBacklog(b *testing.B) {
	total := 100_000
	if v := os.Getenv("WEIR_BACKLOG"); v != "" {
		if _, err := fmt.Sscan(v, &total); err != nil {
			b.Fatal(err)
		}
	}
	jobs := benchJobs(benchBatch, benchEvent)
	for b.Loop() {
		dir := benchDir(b)
		s, err := Open(dir, Options{})
		if err != nil {
			b.Fatal(err)
		}
		var parts, beside []float64 // CPU per event: ours, and of a bare log in turn with it
		rss := 0.0
		raw := newRawLog(b, benchDir(b))
		payload := make([]byte, benchBatch*benchEvent)
		for range 10 {
			rounds := total / 10 / benchBatch / benchWriters
			from := cpu()
			took := parallel(b, rounds, func() error {
				return s.Update(context.Background(), func(tx queue.Tx) error { return tx.Append(jobs...) })
			})
			n := float64(rounds * benchBatch * benchWriters)
			parts = append(parts, float64((cpu()-from).Nanoseconds())/n)
			rss = max(rss, memory(b))
			from = cpu()
			parallel(b, rounds, func() error { return raw.append(payload) })
			beside = append(beside, float64((cpu()-from).Nanoseconds())/n)
			b.Logf("%.0f events/s, %.0f ns CPU per event (bare log %.0f), %.0f MB", n/took.Seconds(), parts[len(parts)-1], beside[len(beside)-1], memory(b))
		}
		// A process that dies leaves what was not flushed to be replayed.
		clone := filepath.Join(benchDir(b), "clone")
		if err := os.CopyFS(clone, os.DirFS(dir)); err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		for what, d := range map[string]string{"close": dir, "kill": clone} {
			start := time.Now()
			if s, err = Open(d, Options{}); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(time.Since(start).Seconds(), "restart-s-after-"+what)
			st, err := s.Stats(context.Background(), queue.Filter{Queue: "events"})
			if err != nil || st.Waiting < int64(total)*9/10 {
				b.Fatalf("%d jobs after the restart: %v", st.Waiting, err)
			}
			if what == "close" {
				from := time.Now()
				parallel(b, 1, func() error { return drain(s, queue.Filter{Queue: "events"}) })
				b.ReportMetric(float64(st.Waiting)/time.Since(from).Seconds(), "settle-events/s")
				rss = max(rss, memory(b))
			}
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
		}
		growth := parts[len(parts)-1] / parts[0]
		b.ReportMetric(growth, "cost-last-by-first")
		b.ReportMetric(growth/(beside[len(beside)-1]/beside[0]), "cost-last-by-first-beside-bare-log")
		b.ReportMetric(rss, "MB")
	}
}

// memory is the resident memory of this process, in MB.
func memory(b *testing.B) float64 {
	b.Helper()
	v, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Fatal(err)
	}
	var size, resident int
	if _, err := fmt.Sscan(string(v), &size, &resident); err != nil {
		b.Fatal(err)
	}
	return float64(resident*os.Getpagesize()) / 1e6
}
