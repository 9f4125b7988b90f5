package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/pipeline"
)

func TestMain(m *testing.M) {
	// The watchdog of scripts is one for the process, and sleeps when it has been idle for a while.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/weirdata/weir/internal/script.(*watchdog).run"))
}

// part is a runner that does what a test says.
type part struct {
	name     string
	terms    Terms
	from, to []string
	open     func() error
	run      func(ctx context.Context) error
	meter    *meter.Pipeline
	end      <-chan struct{}

	mu       sync.Mutex
	isOpen   bool
	running  bool
	draining bool
	opens    int
	runs     int
}

func (p *part) Name() string                  { return p.name }
func (p *part) Meter() *meter.Pipeline        { return p.meter }
func (p *part) Upstream() []string            { return p.from }
func (p *part) Downstream() []string          { return p.to }
func (p *part) Terms() Terms                  { return p.terms }
func (p *part) Leave(context.Context) error   { return nil }
func (p *part) Full() (error, bool)           { return nil, false } //nolint:revive // as in Runner
func (p *part) FeedUntil(end <-chan struct{}) { p.end = end }
func (p *part) Close(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.isOpen = false
	return nil
}
func (p *part) seen() (opens, runs int) { p.mu.Lock(); defer p.mu.Unlock(); return p.opens, p.runs }
func (p *part) holding() (open bool)    { p.mu.Lock(); defer p.mu.Unlock(); return p.isOpen }

func (p *part) State() pipeline.State {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.draining:
		return pipeline.Draining
	case p.running:
		return pipeline.Running
	}
	return pipeline.Ended
}

func (p *part) Open(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.opens++
	if p.open != nil {
		if err := p.open(); err != nil {
			return err
		}
	}
	p.isOpen = true
	return nil
}

func (p *part) Run(ctx context.Context) error {
	if !p.holding() {
		if err := p.Open(ctx); err != nil {
			return err
		}
	}
	p.mu.Lock()
	p.runs++
	p.running = true
	p.mu.Unlock()
	defer func() { p.mu.Lock(); p.running, p.isOpen = false, false; p.mu.Unlock() }()
	if p.run != nil {
		return p.run(ctx)
	}
	<-ctx.Done()
	return nil
}

// world is an app of parts.
type world struct {
	*App
	ended chan error
	stop  context.CancelFunc
}

func builtOf(parts ...*part) *Built {
	b := &Built{Plan: &config.Plan{}}
	for _, p := range parts {
		p.meter = meter.NewPipeline(p.name)
		b.Pipelines = append(b.Pipelines, p)
	}
	return b
}

func begin(t *testing.T, parts ...*part) *world {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	w := &world{App: &App{Log: slog.New(slog.DiscardHandler), Meter: &meter.Registry{}, Builder: &Builder{}}, ended: make(chan error, 1), stop: stop}
	go func() { w.ended <- w.Run(ctx, builtOf(parts...)) }()
	synctest.Wait()
	return w
}

var errDown = errors.New("connection refused")

// TestAFailureTakesNothingElseDown: a pipeline that fails is started again, with a growing
// wait, and is degraded until it runs; the others do not notice.
func TestAFailureTakesNothingElseDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		doomed := &part{name: "doomed", run: func(context.Context) error {
			time.Sleep(100 * time.Millisecond)
			return errDown
		}}
		doomed.open = func() error {
			if since := time.Since(begun); since > time.Minute && since < 2*time.Minute {
				return errDown
			}
			return nil
		}
		healthy := &part{name: "healthy"}
		w := begin(t, doomed, healthy)
		time.Sleep(50 * time.Millisecond)
		if err := w.Ready(); err != nil || len(w.Degraded()) != 0 {
			t.Errorf("at the start: %v, degraded %q", err, w.Degraded())
		}
		time.Sleep(100 * time.Millisecond)
		if err := w.Ready(); err != nil || len(w.Degraded()) != 1 || !strings.Contains(w.Degraded()[0], `pipeline "doomed" is degraded: connection refused`) {
			t.Errorf("after a failure: %v, degraded %q", err, w.Degraded())
		}
		if doomed.meter.Degraded.Load() != 1 {
			t.Error("the metric does not say that it is degraded")
		}
		time.Sleep(30 * time.Minute)
		opens, runs := doomed.seen()
		if opens < 25 || opens > 45 || runs < 20 {
			t.Errorf("%d opens and %d runs in half an hour, want one in about a minute", opens, runs)
		}
		if _, runs := healthy.seen(); runs != 1 || healthy.State() != pipeline.Running {
			t.Errorf("the other pipeline ran %d times and is %s", runs, healthy.State())
		}
		if n := doomed.meter.Restarts.Load(); n != int64(runs) {
			t.Errorf("%d restarts were counted after %d runs", n, runs)
		}
		w.stop()
		if err := <-w.ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// TestReadyWhileItFails: a pipeline that has failed, and still ends what it had begun, is
// degraded already, and so is one between its end and its next start; one that is asked to stop
// is not ready.
func TestReadyWhileItFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		doomed := &part{name: "doomed"}
		doomed.run = func(ctx context.Context) error {
			time.Sleep(time.Second)
			doomed.mu.Lock()
			doomed.draining = true
			doomed.mu.Unlock()
			defer func() { doomed.mu.Lock(); doomed.draining = false; doomed.mu.Unlock() }()
			time.Sleep(10 * time.Second)
			return errDown
		}
		w := begin(t, doomed, &part{name: "beside"})
		seen := map[pipeline.State]bool{}
		time.Sleep(125 * time.Millisecond) // what it does, it does at whole seconds
		for range 400 {
			time.Sleep(250 * time.Millisecond)
			state := doomed.State()
			seen[state] = true
			if err := w.Ready(); err != nil {
				t.Errorf("ready while it is %s: %v", state, err)
			}
			if (state != pipeline.Running) != (len(w.Degraded()) == 1) {
				t.Errorf("degraded while it is %s: %q", state, w.Degraded())
			}
		}
		if len(seen) < 3 {
			t.Errorf("it was only seen %v", seen)
		}
		w.stop()
		synctest.Wait()
		if doomed.State() != pipeline.Ended && w.Ready() == nil {
			t.Error("ready while it is asked to stop")
		}
		<-w.ended
	})
}

// TestTerms is what a failure means, by the terms of who fails.
func TestTerms(t *testing.T) {
	t.Parallel()
	setup := &pipeline.ReadError{Err: errors.New("no such stream")}
	for _, row := range []struct {
		name    string
		fail    Failing
		err     error
		restart bool // it is started again
		exits   bool // the other is stopped
	}{
		{"restart", Restart, errDown, true, false},
		{"end", End, errDown, false, false},
		{"exit", Exit, errDown, false, true},
		{"exit, a read that may work again", Exit, setupError(setup), true, false},
		{"exit, a read that never will", Exit, setup, false, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				failing := &part{name: "failing", terms: Terms{Fail: row.fail}, run: func(context.Context) error { return row.err }}
				other := &part{name: "other"}
				w := begin(t, failing, other)
				time.Sleep(10 * time.Second)
				if _, runs := failing.seen(); (runs > 1) != row.restart {
					t.Errorf("it ran %d times", runs)
				}
				if (other.State() != pipeline.Running) != row.exits {
					t.Errorf("the other is %s", other.State())
				}
				w.stop()
				if err := <-w.ended; (err == nil) != row.restart {
					t.Errorf("Run: %v", err)
				}
			})
		})
	}
}

// TestOpenAtTheStart: what is started again anyway may be down at the start, what is not
// ends the start.
func TestOpenAtTheStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		down.Store(true)
		late := &part{name: "late", open: func() error {
			if down.Load() {
				return errDown
			}
			return nil
		}}
		other := &part{name: "other"}
		w := begin(t, late, other)
		if err := w.Ready(); err != nil || len(w.Degraded()) != 1 || other.State() != pipeline.Running {
			t.Errorf("ready: %v, degraded %q, the other is %s", err, w.Degraded(), other.State())
		}
		down.Store(false)
		time.Sleep(2 * time.Second)
		if late.State() != pipeline.Running || len(w.Degraded()) != 0 {
			t.Errorf("it is %s although it can be opened", late.State())
		}
		w.stop()
		if err := <-w.ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		lone := &part{name: "default", terms: Terms{Fail: Exit}, open: func() error { return errDown }}
		w = begin(t, lone)
		if err := <-w.ended; !errors.Is(err, errDown) {
			t.Errorf("Run: %v", err)
		}
	})
}

// TestExclusive: what only one may hold is never held by two, and stays with the old one when
// the new one cannot open.
func TestExclusive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		holders, most := 0, 0
		terms := Terms{Exclusive: []string{"position file /x"}}
		owner := func(name string, fails bool) *part {
			p := &part{name: name, terms: terms, open: func() error {
				if fails {
					return errDown
				}
				holders++
				most = max(most, holders)
				return nil
			}}
			p.run = func(ctx context.Context) error {
				<-ctx.Done()
				time.Sleep(time.Second) // drains
				holders--
				return nil
			}
			return p
		}
		first := owner("p", false)
		w := begin(t, first) // alone: the process goes on while it is handed over
		if err := w.Reload(t.Context(), builtOf(owner("p", false))); err != nil {
			t.Fatal(err)
		}
		if first.State() != pipeline.Ended {
			t.Error("the old owner runs on")
		}
		// Twice what the old one holds, and nobody downstream takes its pause for its end.
		running := w.generation().members["p"]
		if err := w.Reload(t.Context(), builtOf(owner("p", true), owner("q", true))); !errors.Is(err, errDown) {
			t.Errorf("Reload: %v", err)
		}
		synctest.Wait()
		select {
		case <-running.ended:
			t.Error("the old owner is said to have ended, and runs on")
		default:
		}
		if err := w.Ready(); err != nil || holders != 1 {
			t.Errorf("after a reload that failed: %v, %d owners", err, holders)
		}
		if most != 1 {
			t.Errorf("%d held it at once", most)
		}
		w.stop()
		if err := <-w.ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := w.Reload(t.Context(), builtOf(owner("p", false))); !errors.Is(err, errNothing) {
			t.Errorf("Reload after the end: %v", err)
		}
	})
}

// TestReloadOfNothing: a config without a pipeline replaces none.
func TestReloadOfNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, &part{name: "p"})
		nothing := builtOf(&part{name: "default"})
		nothing.Plan.Empty = true
		if err := w.Reload(t.Context(), nothing); err == nil || !strings.Contains(err.Error(), "no pipeline is written in it") {
			t.Errorf("Reload: %v", err)
		}
		if err := w.Ready(); err != nil {
			t.Error(err)
		}
		w.stop()
		<-w.ended
	})
}

// TestEndsWithWhatFeedsIt: a runner that ends with its work is told once nothing upstream is
// left, over any graph of queues, circles included.
func TestEndsWithWhatFeedsIt(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 8).Draw(rt, "runners")
		parts := make([]*part, n)
		for i := range parts {
			queues := func(what string) []string {
				return rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d"}), 0, 2, rapid.ID[string]).Draw(rt, what)
			}
			parts[i] = &part{name: fmt.Sprint(i), terms: Terms{Fed: true}, from: queues("from"), to: queues("to")}
		}
		var wrong []string
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			ended := map[string]bool{}
			for _, p := range parts {
				p.run = func(ctx context.Context) error {
					select {
					case <-p.end:
					case <-ctx.Done():
						return errors.New("stuck")
					}
					mu.Lock()
					ended[p.name] = true
					mu.Unlock()
					return nil
				}
			}
			w := begin(t, parts...)
			time.Sleep(time.Hour)
			w.stop()
			if err := <-w.ended; err != nil {
				wrong = append(wrong, err.Error())
			}
		})
		if len(wrong) > 0 {
			rt.Fatalf("%q", wrong)
		}
	})
}

// TestUpstream: who is waited for, in a chain and in a circle.
func TestUpstream(t *testing.T) {
	t.Parallel()
	of := func(name string, from, to []string) *member {
		return &member{Runner: &part{name: name, from: from, to: to}}
	}
	g := newGeneration([]*member{
		of("gateway", nil, []string{"events"}),
		of("processor", []string{"events"}, []string{"deliveries", "events"}), // puts some back
		of("router", []string{"deliveries"}, []string{"events"}),              // and so does this
		of("archive", []string{"deliveries"}, nil),
	}, nil)
	for name, want := range map[string][]string{"gateway": nil, "processor": {"gateway"}, "router": nil, "archive": {"processor"}} {
		var got []string
		for _, m := range g.upstream(g.members[name]) {
			got = append(got, m.Name())
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s waits for %v, want %v", name, got, want)
		}
	}
}

// setupError makes the error of a read one that may pass.
func setupError(e *pipeline.ReadError) error {
	return &pipeline.ReadError{Err: connector.Blame("stream", "create it", e.Err)}
}
