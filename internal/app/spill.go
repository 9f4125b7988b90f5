package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/pipeline"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/retry"
)

// A pipeline whose failure target spills writes its failures into a queue of the store, and
// a second pipeline takes them from there to the failure target:
//
//	source ─▶ transforms ─▶ target
//	               └─ failures ─▶ queue "failures/NAME" ─▶ failure target
//
// A failure is durable before its message is settled (invariant 1), and it stays in the
// queue, whole, until the failure target has it (invariant 2). The second pipeline is never
// seen to fail because of an outage: it opens the failure target at the first write, gives
// nothing up, and holds one pause for all writers, so that a target that is down is not
// asked once for each failure. It ends after the pipelines that feed it.

// spills reports whether a pipeline of cfg keeps its failures in the store.
func spills(cfg *config.Config) bool {
	for _, p := range cfg.Pipelines {
		if p.FailureTarget.Spill {
			return true
		}
	}
	return false
}

// failureQueues is the queues that failures of cfg wait in.
func failureQueues(cfg *config.Config) []connector.Queue {
	var qs []connector.Queue
	for _, p := range cfg.Pipelines {
		if p.FailureTarget.Spill {
			qs = append(qs, connector.Queue{Name: config.FailureQueue(p.Name)})
		}
	}
	return qs
}

// failureSink is where the failures of the pipeline go: its failure target, or the queue
// before it, with the limit of the failure target, for which failures are made to fit.
func (a *assembly) failureSink(ctx context.Context, source connector.Source) pipeline.Sink {
	real := a.sink(ctx, a.config.FailureTarget.Use)
	if !a.config.FailureTarget.Spill {
		return real
	}
	spill := a.spillAssembly()
	s := spill.sink(ctx, a.config.SpillTarget())
	a.found = append(a.found, spill.found...)
	if s.Target == nil || real.Target == nil {
		return pipeline.Sink{}
	}
	// Small enough to find room in a store that is nearly full.
	s.Limits.MaxBatchBytes = min(spillBatch, s.Limits.MaxBatchBytes)
	if most := real.Limits.MaxMessageBytes; most > 0 {
		s.Limits.MaxMessageBytes = min(most, s.Limits.MaxMessageBytes)
	}
	if r, ok := source.(connector.Redeliverer); !ok || !r.Redelivers() {
		s.Middleware = []connector.Middleware{waitForStore(a.log)}
	}
	return s
}

// spillAssembly builds what stands on the failure queue.
func (a *assembly) spillAssembly() *assembly {
	name := config.FailureQueue(a.config.Name)
	return &assembly{b: a.b, built: &Built{}, config: a.config, log: a.b.Log.With(meter.KeyPipeline, name),
		queues: map[string]connector.Queue{name: {Name: name}}, machines: a.machines}
}

// waitForStore has writes wait for as long as the store is full or cannot be reached, so
// that the pipeline holds back its source, instead of ending it.
func waitForStore(log *slog.Logger) connector.Middleware {
	p := retry.Policy{
		Transient: retry.Class{Delay: 100 * time.Millisecond, MaxDelay: 10 * time.Second},
		Throttle:  retry.Class{Delay: time.Second, MaxDelay: 10 * time.Second},
		Setup:     retry.Class{MaxAttempts: 1},
		Jitter:    100 * time.Millisecond,
		Notify: func(a retry.Attempt) {
			if a.Err != nil {
				log.Warn("the store does not take failed messages: the pipeline waits", meter.KeyAttempt, a.Number,
					meter.KeyDelay, a.Delay, meter.KeyMessages, a.Messages, meter.KeyError, a.Err)
			}
		},
	}
	return p.Middleware()
}

// Bounds of the pipeline that takes failures to the failure target.
const (
	spillMessages = 2000
	spillBytes    = 32 << 20
	spillBatch    = 1 << 20 // bytes of one write into the queue
	spillDrain    = 10 * time.Second
	spillDelay    = time.Minute // longest wait between two tries
)

// spilled makes the pipeline that takes the failures of a's pipeline to the failure target;
// nil when there is none, or when something is wrong with it.
func (a *assembly) spilled(ctx context.Context) Runner {
	if !a.config.FailureTarget.Spill || a.found.HasErrors() {
		return nil
	}
	own := a.spillAssembly()
	source, _ := build(ctx, own, a.b.Set.Sources, a.config.SpillSource())
	target := own.sink(ctx, a.config.FailureTarget.Use)
	a.found = append(a.found, own.found...)
	if source == nil || target.Target == nil {
		return nil
	}
	name := config.FailureQueue(a.config.Name)
	p := patient(policy(a.config.Retry))
	s := &spilled{queue: name, store: func() queue.Store { return a.b.Store }, log: own.log,
		patience: a.config.DrainTimeout(), pace: newPace(p)}
	target.Target = &lateTarget{Target: target.Target}
	target.Middleware = []connector.Middleware{s.pace.middleware}
	s.pipelineRunner = newPipelineRunner(pipeline.Parts{
		Name: name, Source: source, Target: target,
		Filter:  pipeline.Sink{Target: refusal{log: own.log, queue: name}},
		Failure: pipeline.Sink{Target: refusal{log: own.log, queue: name}},
		Format:  refusalFormat{},

		InFlightMessages: min(a.config.InFlight.Messages, spillMessages),
		InFlightBytes:    min(a.config.InFlight.Bytes, spillBytes),
		Drain:            min(a.config.DrainTimeout(), spillDrain),
		Retry:            p,
		Meter:            meter.NewPipeline(name), Log: own.log, Trace: a.b.tracer,
	}, Terms{})
	if a.b.attach != nil {
		a.b.attach(s.Meter())
	}
	return s
}

// patient is p for messages that are never given up.
func patient(p retry.Policy) retry.Policy {
	for _, c := range []*retry.Class{&p.Transient, &p.Throttle, &p.Setup} {
		c.MaxAttempts, c.InvalidAfterMax, c.GiveUpAfter = 0, false, 0
		if c.MaxDelay == 0 || c.MaxDelay > spillDelay {
			c.MaxDelay = spillDelay
		}
	}
	return p
}

// spilled is the pipeline of the failures of another.
type spilled struct {
	*pipelineRunner
	queue    string
	store    func() queue.Store
	log      *slog.Logger
	patience time.Duration // without progress, at the end of everything that feeds it
	pace     *pace
	end      <-chan struct{} // of everything else
	orphaned atomic.Bool     // by a reload, after which nothing takes its place
	dead     int64           // in the queue at the start
}

// Terms: it goes on as long as anything may fail.
func (s *spilled) Terms() Terms { return Terms{Fail: End, Outlives: true} }

// FeedUntil implements Runner.
func (s *spilled) FeedUntil(end <-chan struct{}) { s.end = end }

// Run takes failures to the failure target until everything that makes them has ended. When
// ctx has not ended by then, because the sources had an end, it goes on until the queue is
// empty or there is no progress any more. What is left is durable, and is an error then.
func (s *spilled) Run(ctx context.Context) error {
	running, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	if st, err := s.stats(ctx); err == nil {
		s.dead = st.Dead
		if n := st.Open(); n > 0 {
			s.log.Info("going on with failed messages that wait for the failure target", meter.KeyMessages, n)
		}
	}
	var left error
	var watch sync.WaitGroup
	watch.Go(func() {
		left = s.watch(ctx, running)
		s.pace.stop()
		stop(errFed)
	})
	err := s.pipelineRunner.Run(running)
	stop(nil)
	watch.Wait()
	return errors.Join(err, left)
}

// errFed is the cause with which a pipeline of failures is stopped.
var errFed = errors.New("what makes failed messages has ended")

func (s *spilled) stats(ctx context.Context) (queue.Stats, error) {
	return s.store().Stats(ctx, queue.Filter{Queue: s.queue})
}

// watch returns when the pipeline is to be stopped; the error says what is left then.
func (s *spilled) watch(ctx, running context.Context) error {
	select {
	case <-s.end:
	case <-running.Done():
		return nil
	}
	if ctx.Err() != nil && !s.orphaned.Load() {
		s.tell(running)
		return nil
	}
	return s.finish(ctx, running)
}

// tell logs what is left in the queue for the next start.
func (s *spilled) tell(ctx context.Context) {
	if st, err := s.stats(ctx); err == nil && st.Open() > 0 {
		s.log.Warn("failed messages are kept in the store for the failure target", meter.KeyMessages, st.Open())
	}
}

// spillLook is how often the end of the queue is looked for.
const spillLook = 100 * time.Millisecond

// finish waits for the queue to be empty, for as long as it becomes emptier.
func (s *spilled) finish(ctx, running context.Context) error {
	stopped := ctx.Done()
	if s.orphaned.Load() {
		stopped = nil // a reload: there is time
	}
	tick := time.NewTicker(spillLook)
	defer tick.Stop()
	fewest, since := int64(-1), time.Now()
	var st queue.Stats
	for {
		var err error
		if st, err = s.stats(running); err == nil {
			if st.Open() == 0 {
				break
			}
			if fewest < 0 || st.Open() < fewest {
				fewest, since = st.Open(), time.Now()
			}
		}
		if time.Since(since) >= s.patience {
			if err != nil {
				return fmt.Errorf("pipeline %q: count the failed messages that wait: %w", s.queue, err)
			}
			return fmt.Errorf("pipeline %q: the failure target has not taken %d failed messages%s; they are safe in the store, and the next weir run goes on with them",
				s.queue, st.Open(), s.pace.reason())
		}
		select {
		case <-tick.C:
		case <-stopped:
			s.tell(running)
			return nil
		case <-running.Done():
			return nil
		}
	}
	if st.Dead > s.dead {
		return fmt.Errorf("pipeline %q: the failure target refused %d failed messages; they are kept: see weir queue show %s --dead", s.queue, st.Dead-s.dead, s.queue)
	}
	return nil
}

// retire tells the pipelines of failures of g, before they are stopped, whether one of next
// goes on with their queue. Otherwise they finish what is in it.
func (g *generation) retire(next *generation) {
	for name, m := range g.members {
		if s, is := m.Runner.(*spilled); is {
			_, successor := next.members[name]
			s.orphaned.Store(!successor)
		}
	}
}

// warnStranded tells of failures in the store that no pipeline of b takes to a failure
// target, because spill was taken out of the config.
func (a *App) warnStranded(ctx context.Context, b *Built) {
	a.mu.Lock()
	s := a.store
	a.mu.Unlock()
	if s == nil {
		return
	}
	for _, p := range b.Config.Pipelines {
		if p.FailureTarget.Spill {
			continue
		}
		name := config.FailureQueue(p.Name)
		if st, err := s.Stats(ctx, queue.Filter{Queue: name}); err == nil && st.Open() > 0 {
			a.Log.Warn("failed messages wait in the store and nothing takes them to the failure target: set spill = true until they are gone",
				meter.KeyPipeline, p.Name, "queue", name, meter.KeyMessages, st.Open())
		}
	}
}

// Only leaves of b the pipeline called name, and the machines it may start executions of.
func (b *Built) Only(name string) {
	b.Pipelines = slices.DeleteFunc(b.Pipelines, func(r Runner) bool {
		_, machine := r.(*machineRunner)
		return !machine && r.Name() != name
	})
}
