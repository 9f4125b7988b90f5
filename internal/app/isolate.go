package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/pipeline"
)

// isolation runs one pipeline for each value of an axis that has work in a queue, so that
// a value that is stuck holds up no other. A pipeline that finds no work for a while ends
// and is started again when there is some; when there are more values than workers, the
// value that has waited longest is next. The values share the pipeline's counters.
type isolation struct {
	source connector.Isolated
	parts  pipeline.Parts // of the config; its source only lists the values
	make   func(context.Context) (pipeline.Parts, error)

	mu      sync.Mutex
	state   pipeline.State
	running map[string]bool
	turn    map[string]turn // of values that ran and still have work
	turns   int
	ended   chan struct{} // has an element when a value's pipeline has ended
	errs    []error
	wg      sync.WaitGroup
}

// turn is when the pipeline of a value ended last.
type turn struct {
	number    int
	failures  int       // times in a row that it could not open
	notBefore time.Time // when it may be tried again
}

// ender is a source that ends once its queue is empty.
type ender interface {
	Ended(ctx context.Context) (bool, error)
}

// look is how often the values are listed, whatever the wake-ups say.
const look = 5 * time.Second

func newIsolation(s connector.Isolated, parts pipeline.Parts, makeParts func(context.Context) (pipeline.Parts, error)) *isolation {
	return &isolation{source: s, parts: parts, make: makeParts, running: map[string]bool{}, turn: map[string]turn{}, ended: make(chan struct{}, 1)}
}

func (i *isolation) Name() string             { return i.parts.Name }
func (i *isolation) Ordered() bool            { return i.parts.Ordered }
func (i *isolation) Meter() *meter.Pipeline   { return i.parts.Meter }
func (i *isolation) Discard(context.Context)  {}
func (i *isolation) State() pipeline.State    { i.mu.Lock(); defer i.mu.Unlock(); return i.state }
func (i *isolation) set(state pipeline.State) { i.mu.Lock(); defer i.mu.Unlock(); i.state = state }

// Open finds out whether the queue can be read. The pipelines of values open when they
// start.
func (i *isolation) Open(ctx context.Context) error {
	if _, err := i.source.Active(ctx); err != nil {
		return fmt.Errorf("pipeline %q: %w", i.parts.Name, err)
	}
	return nil
}

// Run starts a pipeline for every value that has work until ctx ends, the source does, or
// one of them fails; then all of them drain.
func (i *isolation) Run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	i.set(pipeline.Running)
	defer i.set(pipeline.Ended)
	tick := time.NewTicker(look)
	defer tick.Stop()
	for ctx.Err() == nil {
		wake := i.source.Wake()
		values, err := i.source.Active(ctx)
		if err != nil && ctx.Err() == nil {
			i.parts.Log.Warn("cannot list what has work, trying again", meter.KeyError, err)
		}
		if err == nil && i.over(ctx, values) {
			break
		}
		for _, v := range i.next(values, err == nil) {
			if err := i.begin(ctx, v, stop); err != nil {
				i.failed(err, stop)
				break
			}
		}
		if i.full() {
			wake = nil // more work does not help until a worker is free
		}
		select {
		case <-wake:
			// Every append wakes; looking each time would cost more than the work.
			if err := pause(ctx); err != nil {
				continue
			}
		case <-i.ended:
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	i.set(pipeline.Draining)
	i.wg.Wait()
	i.mu.Lock()
	defer i.mu.Unlock()
	return errors.Join(i.errs...)
}

// over reports whether nothing runs and the source says that there will be no more.
func (i *isolation) over(ctx context.Context, values []string) bool {
	e, ok := i.source.(ender)
	if !ok || len(values) > 0 {
		return false
	}
	i.mu.Lock()
	busy := len(i.running) > 0
	i.mu.Unlock()
	if busy {
		return false
	}
	ended, err := e.Ended(ctx)
	return err == nil && ended
}

// next is which of the values to begin, as many as there are workers for: those that never
// ran before those that did, and of these the one that ended first. complete says that
// values are all that have work.
func (i *isolation) next(values []string, complete bool) []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	now := time.Now()
	waiting := make([]string, 0, len(values))
	turns := make(map[string]turn, len(i.turn))
	for _, v := range values {
		t, ran := i.turn[v]
		if ran {
			turns[v] = t
		}
		if !i.running[v] && !now.Before(t.notBefore) {
			waiting = append(waiting, v)
		}
	}
	if complete {
		i.turn = turns // what has no work any more is forgotten
	}
	slices.SortStableFunc(waiting, func(a, b string) int { return cmp.Compare(i.turn[a].number, i.turn[b].number) })
	return waiting[:min(len(waiting), max(i.source.Workers()-len(i.running), 0))]
}

// failed notes why the pipeline of the config ends.
func (i *isolation) failed(err error, stop context.CancelCauseFunc) {
	i.mu.Lock()
	i.errs = append(i.errs, err)
	i.mu.Unlock()
	stop(err)
}

// pause bounds how often the values are listed while work arrives.
func pause(ctx context.Context) error {
	t := time.NewTimer(20 * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (i *isolation) full() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.running) >= i.source.Workers()
}

// begin runs the pipeline of one value.
func (i *isolation) begin(ctx context.Context, value string, stop context.CancelCauseFunc) error {
	parts, err := i.make(ctx)
	if err != nil {
		return fmt.Errorf("pipeline %q for %s %q: %w", i.parts.Name, i.source.Isolation(), value, err)
	}
	parts.Source = i.source.For(value)
	parts.Meter = i.parts.Meter
	parts.Log = parts.Log.With(string(i.source.Isolation()), value)
	i.mu.Lock()
	i.running[value] = true
	i.mu.Unlock()
	p := pipeline.New(parts)
	i.wg.Go(func() {
		opened, err := i.one(ctx, p)
		if err != nil {
			err = fmt.Errorf("%s %q: %w", i.source.Isolation(), value, err)
		}
		if err != nil && opened {
			i.failed(err, stop)
		}
		i.end(value, opened, err)
	})
	return nil
}

// one opens and runs a pipeline. One that cannot be opened for a reason that may pass has
// read nothing; opened is false, and it is tried again later.
func (i *isolation) one(ctx context.Context, p *pipeline.Pipeline) (opened bool, err error) {
	if err := p.Open(ctx); err != nil {
		if ctx.Err() != nil {
			return false, nil //nolint:nilerr // it was asked to stop, and has read nothing
		}
		kind := fault.Of(err)
		return kind != fault.Transient && kind != fault.Throttled, err
	}
	return true, p.Run(ctx)
}

// The waits before a pipeline that could not be opened is tried again.
const (
	reopenAfter = 5 * time.Second
	reopenMost  = 5 * time.Minute
)

// end notes that the pipeline of a value has ended.
func (i *isolation) end(value string, opened bool, err error) {
	i.mu.Lock()
	i.turns++
	t := turn{number: i.turns}
	if !opened && err != nil {
		t.failures = i.turn[value].failures + 1
		delay := min(reopenAfter<<min(t.failures-1, 10), reopenMost)
		t.notBefore = time.Now().Add(delay)
		i.parts.Log.Warn("cannot open, trying again", meter.KeyError, err, meter.KeyAttempt, t.failures, meter.KeyDelay, delay)
	}
	i.turn[value] = t
	delete(i.running, value)
	i.mu.Unlock()
	select {
	case i.ended <- struct{}{}:
	default:
	}
}
