package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/pipeline"
	"github.com/weirdata/weir/internal/queue"
)

// App runs the pipelines of a config until they end, and replaces them on reload.
type App struct {
	Log   *slog.Logger
	Meter *meter.Registry
	// Builder made the pipelines; Run gives it the store that their connectors ask for.
	Builder *Builder

	starting sync.Mutex // one start or reload at a time

	mu      sync.Mutex
	store   queue.Store
	storeID string          // identity of store; empty when none is open
	base    context.Context // of every pipeline; ends when everything is to stop
	current *generation
	live    int           // pipelines that have not ended
	idle    chan struct{} // closed when the last has
	failed  []error
	cancel  context.CancelCauseFunc // ends everything
}

// generation is the pipelines of one config.
type generation struct {
	runs   map[string]*running
	queues []connector.Queue // by name
}

// running is one pipeline and how to stop it.
type running struct {
	p     Runner
	stop  context.CancelCauseFunc
	ended chan struct{}
}

// ErrReplaced is the cause with which a pipeline is stopped by a reload.
var ErrReplaced = errors.New("replaced by a reload")

// Run opens and runs the pipelines of b until all of them have ended. A pipeline that
// fails ends the others, which drain first. Cancelling ctx drains all. Run returns nil
// only when every pipeline settled everything it read.
func (a *App) Run(ctx context.Context, b *Built) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	a.mu.Lock()
	a.base, a.cancel, a.idle = ctx, cancel, make(chan struct{})
	a.mu.Unlock()
	closeStore, err := a.openStore(ctx, b)
	if err != nil {
		return err
	}
	defer closeStore(&err)
	if err := a.start(ctx, b); err != nil {
		return err
	}
	<-a.idle
	a.mu.Lock()
	defer a.mu.Unlock()
	return errors.Join(a.failed...)
}

// Reload replaces the running pipelines by those of b: all of b is opened first, and when
// that fails nothing changes. A pipeline that keeps order starts after its predecessor of
// the same name has drained; the others overlap with theirs.
func (a *App) Reload(ctx context.Context, b *Built) error {
	if a.running() == nil {
		return errNothing
	}
	if b.Store != nil {
		switch open := a.storeIdentity(); open {
		case b.Store.Identity():
		case "":
			return fmt.Errorf("the new config is the first to need a store (%s), which is opened at the start only: start Weir again", b.Store.Identity())
		default:
			return fmt.Errorf("the store cannot change while pipelines run (from %s to %s): start Weir again", open, b.Store.Identity())
		}
	}
	return a.start(ctx, b)
}

func (a *App) storeIdentity() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.storeID
}

// Store is the durable store, its identity, and the names of the queues of the running
// config. It is nil before the store is open, after it is closed, and when there is none.
func (a *App) Store() (s queue.Store, identity string, queues []connector.Queue) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.store == nil || a.current == nil {
		return a.store, a.storeID, nil
	}
	return a.store, a.storeID, a.current.queues
}

// openStore opens the durable store that b needs, for the life of the process. Closing
// adds its error to what Run returns.
func (a *App) openStore(ctx context.Context, b *Built) (closeStore func(*error), err error) {
	if b.Store == nil {
		return func(*error) {}, nil
	}
	s, err := b.Store.Open(ctx)
	if err != nil {
		return nil, err
	}
	a.Builder.Store = s
	a.mu.Lock()
	a.store, a.storeID = s, b.Store.Identity()
	a.mu.Unlock()
	return func(result *error) {
		a.mu.Lock()
		a.store, a.storeID = nil, ""
		a.mu.Unlock()
		if err := s.Close(); err != nil {
			*result = errors.Join(*result, fmt.Errorf("close the store: %w", err))
		}
	}, nil
}

var errNothing = errors.New("nothing is running that could be reloaded")

// running is the generation that runs now, nil before the first and after the last.
func (a *App) running() *generation {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.live == 0 {
		return nil
	}
	return a.current
}

// start opens b's pipelines, starts them, and stops the generation before.
func (a *App) start(ctx context.Context, b *Built) error {
	a.starting.Lock()
	defer a.starting.Unlock()
	discard := func(ps []Runner) {
		for _, p := range ps {
			p.Discard(ctx)
		}
	}
	for i, p := range b.Pipelines {
		if err := p.Open(ctx); err != nil {
			discard(b.Pipelines[:i])
			return err
		}
	}
	a.warnStranded(ctx, b)
	a.mu.Lock()
	defer a.mu.Unlock()
	old := a.current
	if old != nil && a.live == 0 {
		discard(b.Pipelines)
		return errNothing
	}
	next := &generation{runs: map[string]*running{}, queues: b.Queues()}
	meters := make([]*meter.Pipeline, 0, len(b.Pipelines))
	for _, p := range b.Pipelines {
		pctx, stop := context.WithCancelCause(a.base)
		r := &running{p: p, stop: stop, ended: make(chan struct{})}
		next.runs[p.Name()] = r
		meters = append(meters, p.Meter())
		var after <-chan struct{}
		if old != nil && p.Ordered() {
			if before, ok := old.runs[p.Name()]; ok {
				after = before.ended
			}
		}
		a.live++
		go a.run(pctx, r, after)
	}
	next.feed()
	a.current = next
	a.Meter.Replace(meters...)
	if old != nil {
		old.retire(next)
		for _, r := range old.runs {
			r.stop(ErrReplaced)
		}
	}
	return nil
}

// run runs one pipeline to its end.
func (a *App) run(ctx context.Context, r *running, after <-chan struct{}) {
	defer r.stop(nil)
	if after != nil {
		<-after
	}
	err := r.p.Run(ctx)
	close(r.ended)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.failed = append(a.failed, err)
		if errors.Is(context.Cause(ctx), ErrReplaced) {
			a.Log.Error("the replaced pipeline did not end cleanly", meter.KeyPipeline, r.p.Name(), meter.KeyError, err)
		} else {
			a.cancel(fmt.Errorf("pipeline %q failed", r.p.Name()))
		}
	}
	if a.live--; a.live == 0 {
		close(a.idle)
	}
}

// Stop asks all pipelines to drain.
func (a *App) Stop(cause error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cancel != nil {
		a.cancel(cause)
	}
}

// Ready is nil when every pipeline is running, and otherwise says which is not.
func (a *App) Ready() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.current == nil {
		return errors.New("not started")
	}
	var errs []error
	for name, r := range a.current.runs {
		if s := r.p.State(); s != pipeline.Running {
			errs = append(errs, fmt.Errorf("pipeline %q is %s", name, s))
		}
	}
	return errors.Join(errs...)
}
