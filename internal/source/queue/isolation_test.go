package queuesource_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/pipeline"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/embedded"
	"github.com/weirdata/weir/internal/retry"
	queuesource "github.com/weirdata/weir/internal/source/queue"
	"github.com/weirdata/weir/internal/throttle"
)

// destinations is a target whose behaviour depends on the destination.
type destinations func(ctx context.Context, destination string, b event.Batch) error

func (destinations) Open(context.Context) error  { return nil }
func (destinations) Close(context.Context) error { return nil }
func (d destinations) Write(ctx context.Context, b event.Batch) error {
	return d(ctx, b[0].Meta.Scope.Destination, b)
}

type noFormat struct{}

func (noFormat) Format(pipeline.Failure, int) ([]byte, error) { return []byte("failed"), nil }

// router is a pipeline from the queue, isolated by destination, to d.
func router(src connector.Source, d destinations) *pipeline.Pipeline {
	limits := connector.Limits{MaxBatchMessages: 1, MaxConcurrentBatches: 1, Eager: true}
	return pipeline.New(pipeline.Parts{
		Name: "router", Source: src, Target: pipeline.Sink{Target: d, Limits: limits},
		Filter: pipeline.Sink{Target: d, Limits: limits}, Failure: pipeline.Sink{Target: d, Limits: limits}, Format: noFormat{},
		Drain: 4 * time.Second, Meter: meter.NewPipeline("router"), Log: slog.New(slog.DiscardHandler),
		Retry: retry.Policy{Transient: retry.Class{Delay: time.Second}}, Ordered: true,
	})
}

func byDestination(c *queuesource.Config) { c.Isolation, c.Ordered = "destination", true }

func forDestination(v, payload string) queue.Job {
	j := job(payload)
	j.Scope.Destination = v
	return j
}

// TestHealthyAmongHanging: of 1,000 destinations with an event a second, 900 answer no
// request within 30 seconds. The others never wait for them.
func TestHealthyAmongHanging(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *embedded.Store) {
		const all, hanging, seconds = 1000, 900, 40
		var mu sync.Mutex
		var took []time.Duration
		p := router(build(t, s, byDestination), func(ctx context.Context, v string, b event.Batch) error {
			if strings.HasPrefix(v, "hangs") {
				select {
				case <-time.After(30 * time.Second):
				case <-ctx.Done():
				}
				return fault.New(fault.Transient, context.DeadlineExceeded)
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, time.Since(b[0].Meta.Delivery.Since))
			return nil
		})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- p.Run(ctx) }()
		for range seconds {
			for i := range 10 { // not all at the same instant
				var jobs []queue.Job
				for v := i; v < all; v += 10 {
					name := fmt.Sprint("healthy", v)
					if v < hanging {
						name = fmt.Sprint("hangs", v)
					}
					jobs = append(jobs, forDestination(name, "event"))
				}
				appends(t, s, jobs...)
				time.Sleep(100 * time.Millisecond)
			}
		}
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		mu.Lock()
		defer mu.Unlock()
		if n := len(took); n < (all-hanging)*seconds-100 {
			t.Fatalf("%d events of the healthy were delivered in %d s", n, seconds)
		}
		slices.Sort(took)
		if p99 := took[len(took)*99/100]; p99 > time.Second {
			t.Errorf("p99 of the healthy is %s, want below a second", p99)
		}
	})
}

// handed is an isolated source that remembers which values it handed out, in order.
type handed struct {
	*queuesource.Source
	values []string
}

func (h *handed) ReadValues(ctx context.Context, room connector.Room, of func(string) (int, int), again <-chan struct{}) ([]connector.Portion, error) {
	ps, err := h.Source.ReadValues(ctx, room, of, again)
	for _, p := range ps {
		for range p.Batch {
			h.values = append(h.values, p.Value)
		}
	}
	return ps, err
}

// TestFirstJobsFirst: of 10,000 values with work, none has its second job handed out before
// every other has its first, though more are in flight than may be at once.
func TestFirstJobsFirst(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *embedded.Store) {
		const values = 10_000
		for first := 0; first < values; first += 1000 {
			var jobs []queue.Job
			for v := first; v < first+1000; v++ {
				jobs = append(jobs, forDestination(fmt.Sprint(v), "first"), forDestination(fmt.Sprint(v), "second"))
			}
			appends(t, s, jobs...)
		}
		src := &handed{Source: build(t, s, func(c *queuesource.Config) { c.Isolation, c.StopWhenEmpty = "destination", true })}
		p := router(src, func(context.Context, string, event.Batch) error { time.Sleep(10 * time.Millisecond); return nil })
		if err := p.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(src.values) != 2*values {
			t.Fatalf("%d messages were handed out, want %d", len(src.values), 2*values)
		}
		seen := map[string]bool{}
		for i, v := range src.values[:values] {
			if seen[v] {
				t.Fatalf("value %s has its second job handed out as number %d, before %d others had their first", v, i, values-len(seen))
			}
			seen[v] = true
		}
	})
}

// TestThrottleOfValues: each destination gets what its rate allows and no more, every attempt
// counted, whatever the others get; what may not leave yet waits in the queue, and is given
// no attempt for it.
func TestThrottleOfValues(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *embedded.Store) {
		var mu sync.Mutex
		writes, attempts := map[string][]time.Duration{}, 0
		begin := time.Now()
		failures := 5
		parts := pipeline.Parts{Name: "router", Source: build(t, s, func(c *queuesource.Config) { c.Isolation, c.StopWhenEmpty = "destination", true }),
			Drain: 4 * time.Second, Log: slog.New(slog.DiscardHandler), Format: noFormat{}, Retry: retry.Policy{Transient: retry.Class{Delay: time.Second}},
			Throttle: throttle.PerValue(10, 5)}
		d := destinations(func(_ context.Context, v string, b event.Batch) error {
			mu.Lock()
			defer mu.Unlock()
			for _, m := range b {
				writes[v] = append(writes[v], time.Since(begin))
				attempts = max(attempts, m.Meta.Delivery.Attempt)
			}
			if v == "fails" && failures > 0 {
				failures--
				return errors.New("not now")
			}
			return nil
		})
		sink := pipeline.Sink{Target: d, Limits: connector.Limits{MaxBatchMessages: 1, MaxConcurrentBatches: 3, Eager: true}}
		parts.Target, parts.Filter, parts.Failure = sink, sink, sink
		for _, v := range []string{"much", "fails"} {
			var jobs []queue.Job
			for range 100 {
				jobs = append(jobs, forDestination(v, "m"))
			}
			appends(t, s, jobs...)
		}
		appends(t, s, forDestination("little", "m"))
		if err := pipeline.New(parts).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		for v, want := range map[string]int{"much": 100, "fails": 105, "little": 1} {
			at := writes[v]
			if len(at) != want {
				t.Errorf("%s: %d writes, want %d", v, len(at), want)
				continue
			}
			for i := range at { // at most the burst and what the rate allows, over any stretch
				if i >= 15 && at[i]-at[i-15] < 900*time.Millisecond {
					t.Errorf("%s: 16 writes within %s", v, at[i]-at[i-15])
					break
				}
			}
			if took := at[len(at)-1]; took > time.Duration(want)*100*time.Millisecond+2*time.Second {
				t.Errorf("%s: the last write came after %s", v, took)
			}
		}
		if attempts > 1 {
			t.Errorf("a message had %d attempts, though each failed once at most", attempts)
		}
	})
}
