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

// spent is CPU time of this process: in its own code, and in the kernel.
type spent struct{ user, sys time.Duration }

func (s spent) both() time.Duration { return s.user + s.sys }

func (s spent) plus(o spent) spent { return spent{s.user + o.user, s.sys + o.sys} }

// since is what was spent since from.
func (s spent) since(from spent) spent { return spent{s.user - from.user, s.sys - from.sys} }

// micros is d for each of n events, in us.
func micros(d time.Duration, n int) float64 { return d.Seconds() * 1e6 / float64(n) }

func cpu(b *testing.B) spent {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return spent{time.Duration(u.Utime.Nano()), time.Duration(u.Stime.Nano())}
}

// BenchmarkReadSettle fills a queue with 8 writers, then empties it with 8 workers that
// lease 1000 jobs and settle them. dearer is the time per event of emptying by that of
// filling, dearer-cpu the CPU time. The cold figures are of a store that was opened anew
// in between, so that every value is read from the log.
func BenchmarkReadSettle(b *testing.B) {
	dir := benchDir(b)
	s, err := Open(dir, Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { s.Close() }()
	jobs := benchJobs(benchBatch, benchEvent)
	const rounds = 100
	fill := func() (time.Duration, spent) {
		from := cpu(b)
		took := parallel(b, rounds, func() error {
			return s.Update(context.Background(), func(tx queue.Tx) error { return tx.Append(jobs...) })
		})
		return took, cpu(b).since(from)
	}
	empty := func() (time.Duration, spent) {
		from := cpu(b)
		took := parallel(b, 1, func() error { return drain(s, queue.Filter{Queue: "events"}) })
		return took, cpu(b).since(from)
	}
	var times [4]time.Duration // fill, empty, the same cold
	var costs [4]spent
	note := func(i int, took time.Duration, cost spent) { times[i], costs[i] = times[i]+took, costs[i].plus(cost) }
	events := 0
	b.ReportAllocs()
	for b.Loop() {
		for cold := range 2 {
			took, cost := fill()
			note(2*cold, took, cost)
			if cold == 1 {
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				if s, err = Open(dir, Options{}); err != nil {
					b.Fatal(err)
				}
			}
			took, cost = empty()
			note(2*cold+1, took, cost)
		}
		events += rounds * benchWriters * benchBatch
	}
	b.ReportMetric(float64(events)/times[0].Seconds(), "append-events/s")
	b.ReportMetric(float64(events)/times[1].Seconds(), "settle-events/s")
	b.ReportMetric(times[1].Seconds()/times[0].Seconds(), "dearer")
	b.ReportMetric(costs[1].both().Seconds()/costs[0].both().Seconds(), "dearer-cpu")
	b.ReportMetric(times[3].Seconds()/times[2].Seconds(), "cold-dearer")
	b.ReportMetric(costs[3].both().Seconds()/costs[2].both().Seconds(), "cold-dearer-cpu")
	for i, what := range []string{"append", "settle", "", "cold-settle"} {
		if what != "" {
			b.ReportMetric(micros(costs[i].both(), events), what+"-us-cpu/event")
			b.ReportMetric(micros(costs[i].user, events), what+"-us-user/event")
		}
	}
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
		var parts, beside []spent // of each tenth: ours, and of a bare log in turn with it
		rss := 0.0
		raw := newRawLog(b, benchDir(b))
		payload := make([]byte, benchBatch*benchEvent)
		for range 10 {
			rounds := total / 10 / benchBatch / benchWriters
			from := cpu(b)
			took := parallel(b, rounds, func() error {
				return s.Update(context.Background(), func(tx queue.Tx) error { return tx.Append(jobs...) })
			})
			own := cpu(b).since(from)
			parts = append(parts, own)
			rss = max(rss, memory(b))
			from = cpu(b)
			parallel(b, rounds, func() error { return raw.append(payload) })
			bare := cpu(b).since(from)
			beside = append(beside, bare)
			n := rounds * benchBatch * benchWriters
			b.Logf("%.0f events/s, us CPU per event %.2f user + %.2f system (bare log %.2f + %.2f), %.0f MB", float64(n)/took.Seconds(),
				micros(own.user, n), micros(own.sys, n), micros(bare.user, n), micros(bare.sys, n), memory(b))
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
		growth := func(of []spent, kind func(spent) time.Duration) float64 {
			return kind(of[len(of)-1]).Seconds() / kind(of[0]).Seconds()
		}
		user, sys := func(s spent) time.Duration { return s.user }, func(s spent) time.Duration { return s.sys }
		b.ReportMetric(growth(parts, spent.both), "cost-last-by-first")
		b.ReportMetric(growth(parts, user), "user-last-by-first")
		b.ReportMetric(growth(parts, sys), "sys-last-by-first")
		b.ReportMetric(growth(beside, spent.both), "bare-log-cost-last-by-first")
		b.ReportMetric(growth(beside, sys), "bare-log-sys-last-by-first")
		each := total / 10 / benchBatch / benchWriters * benchBatch * benchWriters
		for what, part := range map[string]spent{"first": parts[0], "last": parts[len(parts)-1]} {
			b.ReportMetric(micros(part.user, each), what+"-us-user/event")
			b.ReportMetric(micros(part.sys, each), what+"-us-sys/event")
		}
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

// TestReadSettleAllocations holds the allocations of a job that is leased and settled:
// those of a batch are counted, not those of each job.
func TestReadSettleAllocations(t *testing.T) {
	const each = 1000
	jobs := benchJobs(100, 500)
	for name, recent := range map[string]int{"from memory": 0, "from the log": -1} {
		s, err := Open(t.TempDir(), Options{RecentBytes: recent})
		if err != nil {
			t.Fatal(err)
		}
		fill := func() {
			for range each / len(jobs) {
				if err := s.Update(t.Context(), func(tx queue.Tx) error { return tx.Append(jobs...) }); err != nil {
					t.Fatal(err)
				}
			}
		}
		results := make([]queue.Result, each)
		fill()
		both := testing.AllocsPerRun(20, func() {
			fill()
			leased, err := s.Lease(t.Context(), queue.Query{Filter: queue.Filter{Queue: "events"}, Limit: each})
			if err != nil || len(leased) != each {
				t.Fatalf("leased %d jobs: %v", len(leased), err)
			}
			for i := range leased {
				results[i] = leased[i].Done()
			}
			if err := s.Update(t.Context(), func(tx queue.Tx) error { return tx.Settle(results...) }); err != nil {
				t.Fatal(err)
			}
		})
		// A fill allocates as well: what it does so is taken off.
		alone := testing.AllocsPerRun(20, fill)
		if n := (both - alone) / each; n > 0.2 {
			t.Errorf("%s: a job leased and settled allocates %.3f times, want at most 0.2", name, n)
		} else {
			t.Logf("%s: %.3f allocations for each job", name, n)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
