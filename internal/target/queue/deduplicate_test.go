package queuetarget_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/embedded"
	"github.com/weirdata/weir/internal/queue/postgres"
	queuetarget "github.com/weirdata/weir/internal/target/queue"
)

// clocked is a store whose clock a test sets.
type clocked struct {
	queue.Store
	now time.Time
}

func (c *clocked) Now() time.Time { return c.now }

func deduplicating(t testing.TB, s queue.Store, window int) connector.StoreTarget {
	t.Helper()
	d := connector.Deps{Log: slog.New(slog.DiscardHandler), Store: func() queue.Store { return s }, Queues: map[string]connector.Queue{"q": {Name: "q"}}}
	made, err := queuetarget.Entry.Build(t.Context(), d, func(into any) error {
		into.(*queuetarget.Config).Name = "q"
		into.(*queuetarget.Config).Deduplicate = &queuetarget.Deduplicate{WindowSeconds: window}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return made.(connector.StoreTarget)
}

func identified(source, id string) *event.Message {
	m := event.New([]byte(id))
	m.Meta.ID, m.Meta.Scope = id, &event.Scope{Workspace: "w", Source: source}
	return m
}

// TestDeduplicate compares what is appended with a model, in random order, times and batches: an
// id of a source is appended when it was not within the window before, and otherwise dropped.
func TestDeduplicate(t *testing.T) {
	t.Parallel()
	s := store(t)
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++ // each run has sources of its own
		c := &clocked{s, time.Unix(1_700_000_000, int64(run))}
		window := rapid.IntRange(1, 20).Draw(rt, "window")
		target := deduplicating(t, c, window)
		last := map[string]time.Time{}
		for range rapid.IntRange(1, 12).Draw(rt, "writes") {
			c.now = c.now.Add(time.Duration(rapid.IntRange(0, 30).Draw(rt, "seconds")) * time.Second)
			var b event.Batch
			var want []bool
			for range rapid.IntRange(1, 6).Draw(rt, "messages") {
				id := rapid.SampledFrom([]string{"a", "b", "", strings.Repeat("long", 100), strings.Repeat("long", 100) + "er"}).Draw(rt, "id")
				m := identified(fmt.Sprint(run, rapid.IntRange(1, 2).Draw(rt, "source")), id)
				key := m.Meta.Scope.Source + "/" + id
				at, known := last[key]
				fresh := id == "" || !known || c.now.Sub(at) >= time.Duration(window)*time.Second
				if fresh {
					last[key] = c.now
				}
				b, want = append(b, m), append(want, fresh)
			}
			if err := target.Write(t.Context(), b); err != nil {
				rt.Fatal(err)
			}
			for i, m := range b {
				if fresh := m.Dropped() == ""; fresh != want[i] {
					rt.Fatalf("%q of %s is fresh: %t, want %t", m.Meta.ID, m.Meta.Scope.Source, fresh, want[i])
				}
			}
		}
	})
}

// TestDeduplicateForgets: ids that are old are taken away while the target is open, and no others.
func TestDeduplicateForgets(t *testing.T) {
	t.Parallel()
	s := store(t)
	c := &clocked{s, time.Unix(1_700_000_000, 0)}
	target := deduplicating(t, c, 3600)
	var old event.Batch
	for i := range 2500 {
		old = append(old, identified("s", fmt.Sprint("old", i)))
	}
	if err := target.Write(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	c.now = c.now.Add(3 * time.Hour)
	young := event.Batch{identified("s", "young")}
	if err := target.Write(t.Context(), young); err != nil {
		t.Fatal(err)
	}
	if err := target.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	left := func() (n int) {
		err := s.View(t.Context(), func(r queue.Reader) error {
			n = 0
			for _, err := range r.Scan([]byte("seen/"), nil) {
				if err != nil {
					return err
				}
				n++
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(3 * time.Minute); left() > 1; {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%d ids are left", left())
		}
	}
	if err := target.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	again := identified("s", "young")
	if err := target.Write(t.Context(), event.Batch{again}); err != nil || again.Dropped() == "" {
		t.Errorf("a young id was forgotten: %v", err)
	}
}

// TestDeduplicateTogether: of equal ids that several processes append at once to one store in
// PostgreSQL, one is appended.
func TestDeduplicateTogether(t *testing.T) {
	t.Parallel()
	url := enginetest.Postgres(t)
	var targets []connector.StoreTarget
	var stores []queue.Store
	for n := range 2 {
		s, err := postgres.New(postgres.Options{DSN: url, Name: fmt.Sprint("process-", n)})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		stores, targets = append(stores, s), append(targets, deduplicating(t, s, 3600))
	}
	const rounds, each = 5, 20
	dropped := make(chan int)
	for g := range 4 {
		go func() {
			n := 0
			for r := range rounds {
				var b event.Batch
				for i := range each {
					b = append(b, identified("s", fmt.Sprint(r, "-", i)))
				}
				if g%2 == 1 {
					slices.Reverse(b)
				}
				if err := targets[g%2].Write(context.Background(), b); err != nil {
					t.Error(err)
				}
				for _, m := range b {
					if m.Dropped() != "" {
						n++
					}
				}
			}
			dropped <- n
		}()
	}
	sum := 0
	for range 4 {
		sum += <-dropped
	}
	st, err := stores[0].Stats(t.Context(), queue.Filter{Queue: "q"})
	if err != nil || st.Open() != rounds*each || sum != 3*rounds*each {
		t.Errorf("appended %d, want %d; dropped %d, want %d; %v", st.Open(), rounds*each, sum, 3*rounds*each, err)
	}
}

// BenchmarkDeduplicate appends batches of a thousand messages, each with an id of its own, and says
// how much memory the process holds at the end: with -benchtime=10000x that of ten million ids.
func BenchmarkDeduplicate(b *testing.B) {
	for _, name := range []string{"off", "on"} {
		b.Run(name, func(b *testing.B) {
			s, err := embedded.Open(b.TempDir(), embedded.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			t := deduplicating(b, s, 3600)
			if name == "off" {
				t = target(b, s, false).(connector.StoreTarget)
			}
			const each = 1000
			n := 0
			before := cpu(b)
			for b.Loop() {
				batch := make(event.Batch, each)
				for i := range batch {
					n++
					batch[i] = identified("source", fmt.Sprintf("2b1f6a0e-7f5c-4f5e-9a52-%012d", n*7919%1_000_000_007))
				}
				if err := t.Write(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*each), "ns/message")
			b.ReportMetric(float64(cpu(b)-before)/float64(b.N*each), "cpu-ns/message")
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			b.ReportMetric(float64(m.HeapAlloc)/(1<<20), "MiB-heap")
			b.ReportMetric(float64(m.Sys-m.HeapReleased)/(1<<20), "MiB-of-the-system")
			b.ReportMetric(resident(b), "MiB-resident")
		})
	}
}

// resident is how much memory the process has, also what Go knows nothing of, in MiB.
func resident(b *testing.B) float64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Skip("there is no /proc/self/statm here")
	}
	var all, pages float64
	if _, err := fmt.Sscan(string(text), &all, &pages); err != nil {
		b.Fatal(err)
	}
	return pages * float64(os.Getpagesize()) / (1 << 20)
}

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
