package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/pipeline"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/workspace"
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
	waits   error           // why the store is not open yet
	base    context.Context // of every pipeline; ends when everything is to stop
	current *generation
	live    int           // pipelines that have not ended
	idle    chan struct{} // closed when the last has
	failed  []error
	planes  *following              // since Run; of starting
	pauses  []queue.Pause           // as they were seen last
	cancel  context.CancelCauseFunc // ends everything
}

// ErrReplaced is the cause with which a pipeline is stopped by a reload.
var ErrReplaced = errors.New("replaced by a reload")

// Run opens and runs the pipelines of b until all of them have ended. A pipeline that
// fails is started again, ends, or ends the others, as its terms say. Cancelling ctx drains
// all. Run returns nil only when every pipeline settled everything it read.
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
	a.planes = newFollowing(ctx)
	defer a.planes.end()
	if err := a.start(ctx, b); err != nil {
		return err
	}
	endQueues := a.overseeQueues(ctx)
	defer endQueues()
	endOperate := a.operate(ctx)
	defer endOperate()
	// Pipelines read no file of the config. What may change without a reload is read here.
	watching, endWatch := context.WithCancel(context.WithoutCancel(ctx))
	var watch sync.WaitGroup
	watch.Go(func() { workspace.Watch(watching) })
	<-a.idle
	endWatch()
	watch.Wait()
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
	if b.Plan.Empty && !a.generation().empty {
		return errEmpty
	}
	if b.Store != nil {
		switch open := a.storeIdentity(); open {
		case b.Store.Identity():
		case "":
			if b.Spare {
				break
			}
			return fmt.Errorf("the new config is the first to need a store (%s), which is opened at the start only: start Weir again", b.Store.Identity())
		default:
			return fmt.Errorf("the store cannot change while pipelines run (from %s to %s): start Weir again", open, b.Store.Identity())
		}
	}
	adopt, err := a.renew(ctx, b)
	if err != nil {
		return err
	}
	if err := a.start(ctx, b); err != nil {
		return err
	}
	adopt()
	return nil
}

func (a *App) storeIdentity() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.storeID
}

// Drained waits until the pipelines that run now have ended, as those do that a reload replaces.
func (a *App) Drained() (wait func()) {
	g := a.running()
	return func() {
		if g != nil {
			for _, m := range g.order {
				<-m.ended
			}
		}
	}
}

// Store is the durable store, its identity, and the names of the queues of the running
// config. It is nil before the store is open, after it is closed, and when there is none.
func (a *App) Store() (s queue.Store, identity string, queues []connector.Queue) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.store == nil || a.current == nil {
		return nil, "", nil
	}
	return a.store, a.storeID, a.current.queues
}

// Plan is what runs, as the config that is in force says it; nil before anything does.
func (a *App) Plan() *config.Plan {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.current == nil {
		return nil
	}
	return a.current.plan
}

var (
	errNothing = errors.New("nothing is running that could be reloaded")
	errEmpty   = errors.New("no pipeline is written in it, as in a file that is being written: none would be left of those that run")
)

// running is the generation that runs now, nil before the first and after the last.
func (a *App) running() *generation {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.live == 0 {
		return nil
	}
	return a.current
}

// start opens b's runners, starts them, and stops the generation before. What only one may
// hold passes from the old runner to the new one: the old one drains first, and runs on when
// the new one cannot open.
func (a *App) start(ctx context.Context, b *Built) error {
	a.starting.Lock()
	defer a.starting.Unlock()
	old, end, err := a.replacing()
	if err != nil {
		return err
	}
	defer end()
	members := make([]*member, len(b.Pipelines))
	for i, r := range b.Pipelines {
		members[i] = &member{Runner: r, log: a.Log, ended: make(chan struct{})}
	}
	next := newGeneration(members, b.Plan.Queues)
	next.empty, next.plan, next.planes, next.lakes, next.gateways = b.Plan.Empty, b.Plan, b.Planes, b.lakes, b.gateways
	for _, m := range members {
		if m.Terms().Fed {
			m.FeedUntil(next.drained(m))
		}
	}
	if err := b.first(ctx); err != nil {
		return err
	}
	opened, err := a.open(ctx, old, members)
	if err != nil {
		return err
	}
	a.planes.follow(a.Builder, b.Planes)
	a.Meter.Beside(measuredPlanes(b.Planes)...)
	a.warnOrphans(ctx, old, b, a.warnStranded(ctx, b))
	a.Builder.inFlight().Resize(b.limit)
	a.mu.Lock()
	defer a.mu.Unlock()
	meters := make([]*meter.Pipeline, 0, len(members))
	for _, m := range members {
		meters = append(meters, m.Meter())
		a.begin(m, old, opened[m])
	}
	a.current = next
	a.Meter.Replace(meters...)
	if old != nil {
		for _, m := range old.order {
			if _, goesOn := next.members[m.Name()]; goesOn || !m.Terms().Finishes {
				m.stop(ErrReplaced)
			}
		}
	}
	return nil
}

// replacing is the generation that runs, nil at the start. Until end is called the process
// goes on, whatever of it ends: what is handed over has to be stopped first.
func (a *App) replacing() (old *generation, end func(), err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.current == nil {
		return nil, func() {}, nil
	}
	if a.live == 0 {
		return nil, nil, errNothing
	}
	a.live++
	return a.current, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.leave()
	}, nil
}

// leave counts what lives no more; the last ends Run. a.mu is held.
func (a *App) leave() {
	if a.live--; a.live == 0 {
		close(a.idle)
	}
}

// begin has a member live. a.mu is held.
func (a *App) begin(m *member, old *generation, opened error) {
	ctx, stop := context.WithCancelCause(a.base)
	m.stop = stop
	var after <-chan struct{}
	if old != nil && m.Terms().Ordered {
		if before, ok := old.members[m.Name()]; ok {
			after = before.ended
		}
	}
	a.live++
	go a.run(ctx, m, after, opened)
}

// open opens members. What fails of those that are to be started again is told; another
// failure closes all of them. What the old generation holds alone is given over first.
func (a *App) open(ctx context.Context, old *generation, members []*member) (failed map[*member]error, err error) {
	failed = map[*member]error{}
	var last []*member // that take over what another holds
	one := func(m *member) error {
		err := m.Open(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil && (isHeld(err) || a.mayFail(old, m)) {
			failed[m] = err
			return nil
		}
		return err
	}
	var given []*member
	for _, m := range members {
		if who := old.holds(m); len(who) > 0 {
			last, given = append(last, m), append(given, who...)
			continue
		}
		if err := one(m); err != nil {
			a.discard(ctx, members)
			return nil, err
		}
	}
	given = a.suspend(given)
	for _, m := range last {
		if err := one(m); err != nil {
			a.discard(ctx, members)
			a.restore(given)
			return nil, err
		}
	}
	for _, m := range given {
		close(m.ended)
	}
	return failed, nil
}

// suspend stops members that hold what others need, and waits for them. They have not ended
// for good until the others have what they need. It returns those that had not ended before.
func (a *App) suspend(members []*member) (given []*member) {
	a.mu.Lock()
	for _, m := range members {
		select {
		case <-m.ended:
		default:
			if m.given == nil {
				m.given = make(chan struct{})
				given = append(given, m)
			}
		}
	}
	a.mu.Unlock()
	for _, m := range given {
		m.stop(ErrReplaced)
	}
	for _, m := range given {
		<-m.given
	}
	return given
}

// mayFail reports whether m may be started although it cannot be opened: at the start, when
// it is to be started again anyway; at a reload, when the one it replaces fares no better.
func (a *App) mayFail(old *generation, m *member) bool {
	if m.Terms().Fail != Restart {
		return false
	}
	if old == nil {
		return true
	}
	before, ok := old.members[m.Name()]
	return ok && before.status().Degraded != nil
}

// restore has members of the running generation live again that were stopped for others.
func (a *App) restore(members []*member) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, m := range members {
		m.given = nil
		a.begin(m, nil, nil)
	}
}

// discard closes what was opened of members.
func (a *App) discard(ctx context.Context, members []*member) {
	for _, m := range members {
		if err := m.Close(context.WithoutCancel(ctx)); err != nil {
			a.Log.Warn("cannot close", meter.KeyPipeline, m.Name(), meter.KeyError, err)
		}
		close(m.ended)
	}
}

// run has one member live to its end.
func (a *App) run(ctx context.Context, m *member, after <-chan struct{}, opened error) {
	stop := m.stop
	defer stop(nil)
	if after != nil {
		<-after
	}
	err := m.live(ctx, opened)
	a.mu.Lock()
	defer a.mu.Unlock()
	if m.given != nil {
		close(m.given)
	} else {
		close(m.ended)
	}
	if err != nil {
		a.failed = append(a.failed, err)
		switch {
		case errors.Is(context.Cause(ctx), ErrReplaced):
			a.Log.Error("the replaced pipeline did not end cleanly", meter.KeyPipeline, m.Name(), meter.KeyError, err)
		case m.Terms().Fail == Exit:
			a.cancel(fmt.Errorf("pipeline %q failed", m.Name()))
		}
	}
	a.leave()
}

// Stop asks all pipelines to drain.
func (a *App) Stop(cause error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cancel != nil {
		a.cancel(cause)
	}
}

// Ready is nil when every pipeline is running or degraded and there is room for what comes in,
// and otherwise says what is not so.
func (a *App) Ready() error {
	if a.generation() == nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.waits != nil {
			return fmt.Errorf("not started: the store cannot be reached: %w", a.waits)
		}
		return errors.New("not started")
	}
	var errs []error
	if s, _, _ := a.Store(); s != nil {
		errs = append(errs, queue.FullOf(s), lapsed(s))
	}
	for _, s := range a.Status() {
		if s.State != pipeline.Running && s.Degraded == nil || s.Full != nil && s.Refusing {
			errs = append(errs, errors.New(s.String()))
		}
	}
	return errors.Join(errs...)
}

// lapsed is why nothing can be leased from a store that answers; nil when something can.
func lapsed(s queue.Store) error {
	select {
	case <-queue.Leasing(s):
		return nil
	default:
	}
	if queue.AwayOf(s) == nil { // who says more
		return errLapsed
	}
	return nil
}

var errLapsed = errors.New("the store was not heard of for so long that others may have taken the work of this process over: it takes its share again once the store answers")

// Degraded names what has failed and is to be started again, waits for room, or is paused, with the
// reason.
func (a *App) Degraded() []string {
	var lines []string
	for _, s := range a.Status() {
		if s.Degraded != nil || s.Full != nil {
			lines = append(lines, s.String())
		}
	}
	return append(append(lines, a.behind()...), a.paused()...)
}

// Status is how each pipeline and machine of the running config does, in its order.
func (a *App) Status() []Status {
	g := a.generation()
	if g == nil {
		return nil
	}
	all := make([]Status, len(g.order))
	for i, m := range g.order {
		all[i] = m.status()
	}
	return all
}

func (a *App) generation() *generation {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.current
}
