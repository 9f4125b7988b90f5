package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/pipeline"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/retry"
)

func TestMain(m *testing.M) {
	// The watchdog of scripts is one for the process, and sleeps when it has been idle for a while.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/weirdata/weir/internal/script.(*watchdog).run"))
}

// desk is an isolated source: payloads that wait, by value. A value's source ends when it
// has found none for idle.
type desk struct {
	workers int
	idle    time.Duration
	ends    bool // when nothing waits

	mu      sync.Mutex
	waiting map[string][]string
	wake    chan struct{}
	begun   []string // values whose source was opened
	acked   map[string]int
	listErr error
}

func newDesk(workers int, values ...string) *desk {
	d := &desk{workers: workers, idle: time.Second, waiting: map[string][]string{}, wake: make(chan struct{}), acked: map[string]int{}}
	for _, v := range values {
		d.put(v, v+"1")
	}
	return d
}

func (d *desk) put(value string, payloads ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waiting[value] = append(d.waiting[value], payloads...)
	close(d.wake)
	d.wake = make(chan struct{})
}

func (d *desk) Isolation() queue.Axis         { return queue.ByDestination }
func (d *desk) Workers() int                  { return d.workers }
func (d *desk) Open(context.Context) error    { return nil }
func (d *desk) Close(context.Context) error   { return nil }
func (d *desk) For(v string) connector.Source { return &clerk{d, v} }

func (d *desk) Wake() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.wake
}

func (d *desk) Read(context.Context, connector.Room) (event.Batch, connector.Ack, error) {
	panic("read as a whole")
}

func (d *desk) Active(context.Context) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var vs []string
	for v, ps := range d.waiting {
		if len(ps) > 0 {
			vs = append(vs, v)
		}
	}
	slices.Sort(vs)
	return vs, d.listErr
}

func (d *desk) Ended(context.Context) (bool, error) {
	vs, err := d.Active(context.Background())
	return d.ends && len(vs) == 0, err
}

func (d *desk) settled(v string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.acked[v]
}

func (d *desk) order() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.begun)
}

// clerk is the source for one value. What it has read no longer waits.
type clerk struct {
	d *desk
	v string
}

func (c *clerk) Open(context.Context) error {
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	c.d.begun = append(c.d.begun, c.v)
	return nil
}

func (c *clerk) Close(context.Context) error { return nil }

func (c *clerk) Read(ctx context.Context, room connector.Room) (event.Batch, connector.Ack, error) {
	for {
		wake := c.d.Wake()
		c.d.mu.Lock()
		ps := c.d.waiting[c.v]
		c.d.waiting[c.v] = nil
		c.d.mu.Unlock()
		if len(ps) > 0 {
			b := make(event.Batch, len(ps))
			for i, p := range ps {
				b[i] = event.New([]byte(p))
				b[i].Meta.Scope = &event.Scope{Destination: c.v}
			}
			return b, func(_ context.Context, o event.Outcomes) error {
				c.d.mu.Lock()
				defer c.d.mu.Unlock()
				for i := range b {
					if o == nil || o[i] == nil {
						c.d.acked[c.v]++
					}
				}
				return nil
			}, nil
		}
		select {
		case <-wake:
		case <-time.After(c.d.idle):
			return nil, nil, io.EOF
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		}
	}
}

// target is where every value's pipeline writes.
type target struct {
	open  func() error
	write func(context.Context, event.Batch) error
}

func (t target) Open(context.Context) error {
	if t.open != nil {
		return t.open()
	}
	return nil
}

func (t target) Close(context.Context) error { return nil }

func (t target) Write(ctx context.Context, b event.Batch) error {
	if t.write != nil {
		return t.write(ctx, b)
	}
	return nil
}

type noFormat struct{}

func (noFormat) Format(pipeline.Failure, int) ([]byte, error) { return nil, errors.New("none") }

func isolated(d *desk, t target) *isolation {
	parts := func() pipeline.Parts {
		limits := connector.Limits{MaxBatchMessages: 1, MaxConcurrentBatches: 1, Eager: true}
		return pipeline.Parts{
			Name: "p", Source: d, Target: pipeline.Sink{Target: t, Limits: limits},
			Filter: pipeline.Sink{Target: target{}, Limits: limits}, Failure: pipeline.Sink{Target: target{}, Limits: limits},
			Format: noFormat{}, Drain: 4 * time.Second, Meter: meter.NewPipeline("p"), Log: slog.New(slog.DiscardHandler),
			Retry: retry.Policy{Transient: retry.Class{Delay: 10 * time.Millisecond, MaxAttempts: 2}},
		}
	}
	return newIsolation(d, parts(), func(context.Context) (pipeline.Parts, error) { return parts(), nil })
}

// runs starts i, and returns what stops it and gives what Run returned.
func runs(t *testing.T, i *isolation) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- i.Run(ctx) }()
	return func() error { cancel(); return <-ended }
}

// TestStuckValueHoldsUpNoOther gives one destination that never answers as much to do as
// the others.
func TestStuckValueHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(8, "a", "stuck", "z")
		i := isolated(d, target{write: func(ctx context.Context, b event.Batch) error {
			if b[0].Meta.Scope.Destination == "stuck" {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}})
		stop := runs(t, i)
		for range 50 {
			time.Sleep(100 * time.Millisecond)
			d.put("a", "more")
			d.put("stuck", "more")
			d.put("z", "more")
		}
		time.Sleep(time.Second)
		if a, z, stuck := d.settled("a"), d.settled("z"), d.settled("stuck"); a != 51 || z != 51 || stuck != 0 {
			t.Errorf("settled: a %d, z %d, stuck %d; want 51, 51, 0", a, z, stuck)
		}
		if i.State() != pipeline.Running {
			t.Errorf("state %s", i.State())
		}
		begin := time.Now()
		if err := stop(); err == nil {
			t.Error("Run returned nil although messages were cut") // this source does not redeliver by itself
		}
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("the end took %s, the drain is 4 s", took)
		}
		if i.State() != pipeline.Ended {
			t.Errorf("state %s", i.State())
		}
	})
}

// TestWorkersEndAndStartAgain runs a value's pipeline only while it has work.
func TestWorkersEndAndStartAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(8, "a")
		i := isolated(d, target{})
		stop := runs(t, i)
		busy := func() int { i.mu.Lock(); defer i.mu.Unlock(); return len(i.running) }
		time.Sleep(500 * time.Millisecond)
		if busy() != 1 {
			t.Errorf("%d pipelines run, want 1", busy())
		}
		time.Sleep(time.Minute)
		if busy() != 0 || len(i.turn) != 0 {
			t.Errorf("%d pipelines run after a minute without work, %d values are remembered", busy(), len(i.turn))
		}
		d.put("a", "again")
		time.Sleep(100 * time.Millisecond)
		if got := d.settled("a"); got != 2 {
			t.Errorf("settled %d, want 2: new work began no pipeline", got)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// TestEveryValueGetsItsTurn has more values with endless work than workers.
func TestEveryValueGetsItsTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(2, "a", "b", "c", "d", "e")
		d.idle = 0 // a source ends after each look, as one that is idle does
		i := isolated(d, target{write: func(_ context.Context, b event.Batch) error {
			time.Sleep(time.Second)
			v := b[0].Meta.Scope.Destination
			d.put(v, v+"more")
			return nil
		}})
		stop := runs(t, i)
		time.Sleep(time.Minute)
		if err := stop(); err != nil {
			t.Error(err)
		}
		times := map[string]int{}
		for _, v := range d.order() {
			times[v]++
		}
		for _, v := range []string{"a", "b", "c", "d", "e"} {
			if d.settled(v) < 10 {
				t.Errorf("%s was worked on %d times and settled %d in a minute for all", v, times[v], d.settled(v))
			}
		}
	})
}

// TestWorkersAreBounded never runs more values at once than there are workers.
func TestWorkersAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(3)
		for v := range 20 {
			d.put(fmt.Sprint(v), "x")
		}
		var mu sync.Mutex
		writing, most := 0, 0
		i := isolated(d, target{write: func(context.Context, event.Batch) error {
			mu.Lock()
			writing++
			most = max(most, writing)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			writing--
			mu.Unlock()
			return nil
		}})
		d.ends = true
		if err := i.Run(t.Context()); err != nil { // ends by itself, with the queue
			t.Fatal(err)
		}
		if most != 3 {
			t.Errorf("%d values were written at once, want 3", most)
		}
		for v := range 20 {
			if d.settled(fmt.Sprint(v)) != 1 {
				t.Errorf("value %d settled %d", v, d.settled(fmt.Sprint(v)))
			}
		}
	})
}

// TestOpenFails tries again later what may pass, and ends for what does not.
func TestOpenFails(t *testing.T) {
	t.Parallel()
	t.Run("passes", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			d := newDesk(2, "a")
			begin := time.Now()
			i := isolated(d, target{open: func() error {
				if time.Since(begin) < time.Minute {
					return errors.New("no connection")
				}
				return nil
			}})
			stop := runs(t, i)
			time.Sleep(5 * time.Minute)
			if d.settled("a") != 1 {
				t.Error("the value was not worked on after the target came back")
			}
			if err := stop(); err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("does not", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			i := isolated(newDesk(2, "a"), target{open: func() error { return fault.New(fault.Setup, errors.New("no such topic")) }})
			err := i.Run(t.Context())
			if err == nil || fault.Of(err) != fault.Setup {
				t.Errorf("Run: %v", err)
			}
		})
	})
}

// TestFatalEndsAll drains every value's pipeline when one of them fails for good.
func TestFatalEndsAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(4, "a", "bad")
		i := isolated(d, target{write: func(_ context.Context, b event.Batch) error {
			if b[0].Meta.Scope.Destination == "bad" {
				time.Sleep(100 * time.Millisecond) // the other is writing
				return fault.New(fault.Fatal, errors.New("disk is gone"))
			}
			time.Sleep(time.Second)
			return nil
		}})
		err := i.Run(t.Context())
		if err == nil || fault.Of(err) != fault.Fatal {
			t.Errorf("Run: %v", err)
		}
		if d.settled("a") != 1 {
			t.Error("the other value was not drained")
		}
	})
}

// TestMakeFails ends the run, and waits for the pipelines that were begun before.
func TestMakeFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(4, "a", "b")
		i := isolated(d, target{write: func(context.Context, event.Batch) error { time.Sleep(time.Second); return nil }})
		good, n := i.make, 0
		i.make = func(ctx context.Context) (pipeline.Parts, error) {
			if n++; n == 2 {
				time.Sleep(100 * time.Millisecond) // the first is writing
				return pipeline.Parts{}, errors.New("a script is broken")
			}
			return good(ctx)
		}
		if err := i.Run(t.Context()); err == nil {
			t.Error("Run returned nil")
		}
		if d.settled("a") != 1 {
			t.Error("Run returned before the other pipeline had drained")
		}
	})
}
