// Package pipeline runs one pipeline: it reads batches from a source, transforms them,
// writes them to a target, and tells the source what became of every message.
//
// # The journey of a batch
//
//	read ──▶ transform (workers, in parallel) ──▶ route (in the order of reads)
//	                                               ├─ good     ─▶ target, or each of several
//	                                               ├─ filtered ─▶ filter target
//	                                               └─ invalid  ─▶ failure target
//
// A backup target, where there is one, gets what was read, as it was read.
//
// Each target has its own sink: batchers that group by count, bytes and age, and writers
// that call retry(throttle(target.Write)). A slow sink holds back the reads, never the
// other sinks, because what is in flight is bounded once, at the read.
//
// # Invariants (numbers as in ARCHITECTURE.md)
//
//  1. A read is acknowledged after every message it became is durable in the target, the
//     filter target or the failure target, and after what is backed up of it is durable there.
//  2. A message that cannot be delivered goes to the failure target whole, or is left
//     unacknowledged and the pipeline ends with an error.
//  3. An error or panic for one message changes no other message's outcome.
//  4. What is in flight is bounded in messages and in bytes.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/outage"
	"github.com/weirdata/weir/internal/retry"
	"github.com/weirdata/weir/internal/tap"
	"github.com/weirdata/weir/internal/throttle"
	"github.com/weirdata/weir/internal/trace"
)

// Parts is what a pipeline is made of. The pipeline owns the connectors: it opens and
// closes them.
type Parts struct {
	Name   string
	Source connector.Source
	// Transforms are the steps that messages go through, in their order, and Steps their
	// names, for traces.
	Transforms []connector.Transform
	Steps      []string
	// Workers is how many go through the steps at once, each with a chain of its own; none
	// means one.
	Workers int
	Target  Sink
	// Routes are the targets, when there are several or one has a condition; Target is not
	// used then. First sends a message to the first route that takes it, not to all.
	Routes []Route
	First  bool
	Filter Sink
	// Failure receives what Format makes of messages that cannot be delivered.
	Failure Sink
	Format  FailureFormat
	// Backup, with a target, gets messages as the source read them: all of them, or, with
	// BackUpFailed, those of which something failed. They are settled when they are there too.
	Backup       Sink
	BackUpFailed bool
	// Overflow is a queue that keeps a failure whole of which Failure gets what fits, or nothing,
	// because it takes no larger messages or refuses it; without a target nothing does.
	Overflow Sink
	// Keep leaves messages that cannot be delivered in the queue that they are read from,
	// dead, whole and with the reason; Failure and Format are not used then. The source must
	// be a [connector.Redeliverer].
	Keep bool

	// Ordered keeps the order of messages with one key: a key stays with one writer. A
	// target that refuses a part of a batch must refuse the later messages of a refused
	// key with it; otherwise the retry of the part comes after them.
	Ordered bool
	// InFlightMessages and InFlightBytes bound what is read and not settled.
	InFlightMessages, InFlightBytes int
	// Process bounds the same for all pipelines of the process together; nil does not.
	Process *Budget
	// Drain is how long messages may take to settle after the pipeline is asked to stop.
	Drain time.Duration
	Retry retry.Policy
	// Throttle bounds how fast the targets are written to, each value of an isolated source
	// for itself; nil does not. Every attempt counts.
	Throttle *throttle.ByValue
	// Particular, with an isolated source, says what is different for a value; nil: nothing is.
	Particular func(connector.Value) Particular

	// Look is the command that lists what the pipeline has given up, for the log.
	Look string

	Meter *meter.Pipeline
	// Trace makes spans of what happens to messages; nil makes none.
	Trace *trace.Tracer
	// Tap is where the pipeline can be listened to; nil: nowhere.
	Tap *tap.Pipeline
	Log *slog.Logger
}

// Particular is what is different for one value of an isolated source.
type Particular struct {
	Retry    *retry.Policy     // nil: that of the pipeline
	Throttle *throttle.Limiter // nil: that of the pipeline
}

// Sink is a target and how it is written to.
type Sink struct {
	Target connector.Target
	Use    string // the name of the connector, for traces
	Limits connector.Limits
	// Middleware is applied to each attempt, outermost first, inside retry.
	Middleware []connector.Middleware

	late *unopened // nil: the target is open
}

// The reasons a pipeline ends work early.
var (
	// ErrDrained is the cause of contexts that were cut when the drain deadline passed.
	ErrDrained = errors.New("drain deadline passed")
	// ErrUnfinished is returned by Run when messages were read and not settled.
	ErrUnfinished = errors.New("messages were read but not settled; the source delivers them again")
)

// State is where a pipeline is in its life.
type State int32

// The states, in order.
const (
	Built State = iota
	Opening
	Running
	Draining
	Ended
)

func (s State) String() string {
	return [...]string{"built", "opening", "running", "draining", "ended"}[s]
}

// Pipeline is one running pipeline. Make it with [New], run it once with [Pipeline.Run].
type Pipeline struct {
	parts Parts
	state atomic.Int32

	budget  struct{ messages, bytes *semaphore.Weighted }
	held    inFlight
	starved atomic.Bool // reading waits for room in flight
	wanted  inFlight    // what is waited for while starved
	flows   *flows
	sinks   sinks
	reads   *outage.Teller // of reads that fail
	doubts  *outage.Teller // of acks that fail
	acker   acker
	acks    sync.WaitGroup // reads whose ack has not run
	left    atomic.Bool    // connectors are being closed: no ack may begin any more

	routes []Route // at least one
	routed bool    // somebody must decide which routes a message takes
	copies bool    // a message may have several copies

	chains [][]connector.Worker // one for each worker; empty when nothing is to be done to messages

	redelivers bool                  // the source delivers again what was not handled
	keeps      bool                  // what is refused stays where it comes from
	informs    bool                  // the source wants to know what failed
	joined     connector.StoreSource // set when source and target are queues of one store
	divided    connector.Isolated    // the source, when it is isolated by values

	full   fullness
	traces openTraces

	stop    context.CancelCauseFunc // ends reading
	stopped <-chan struct{}         // closed when reading is to end
	closers []closer                // in the order to close them

	mu        sync.Mutex
	err       error // why the pipeline fails, the first reason
	unsettled int64 // messages given back
	kept      int64 // messages left in their queue, dead
	ended     bool  // the source has come to its end
	pauses    []*pauses
}

// sinks are where messages go.
type sinks struct {
	targets         []*sink // as the routes
	filter, failure *sink
	overflow        *sink // nil when there is none
	backup          *sink // nil when there is none
}

// all is every sink, what feeds the failure sink before it.
func (s *sinks) all() []*sink {
	all := append([]*sink{s.filter}, s.targets...)
	for _, one := range []*sink{s.backup, s.failure, s.overflow} {
		if one != nil {
			all = append(all, one)
		}
	}
	return all
}

// New makes a pipeline from its parts. It does no I/O.
func New(p Parts) *Pipeline {
	if p.InFlightMessages <= 0 {
		p.InFlightMessages = 10_000
	}
	if p.InFlightBytes <= 0 {
		p.InFlightBytes = 64 << 20
	}
	if p.Meter == nil {
		p.Meter = meter.NewPipeline(p.Name)
	}
	if p.Log == nil {
		p.Log = slog.New(slog.DiscardHandler)
	}
	if p.Keep {
		p.Failure, p.Format = Sink{Target: unused{}}, nil
	}
	made := &Pipeline{parts: p}
	made.plan()
	if k, ok := p.Source.(trace.Keeper); ok && p.Trace != nil {
		k.KeepTraceContext()
	}
	return made
}

// Name is the pipeline's name in the config.
func (p *Pipeline) Name() string { return p.parts.Name }

// Ordered reports whether the pipeline keeps the order of messages with one key.
func (p *Pipeline) Ordered() bool { return p.parts.Ordered }

// Discard closes a pipeline that was opened and will not run.
func (p *Pipeline) Discard(ctx context.Context) { p.close(ctx) }

// State is where the pipeline is in its life.
func (p *Pipeline) State() State { return State(p.state.Load()) }

// Meter is the pipeline's counters.
func (p *Pipeline) Meter() *meter.Pipeline { return p.parts.Meter }

// Open opens the connectors, so that a reload can find out whether a pipeline can start
// before it stops the one it replaces. When it fails, everything is closed again.
func (p *Pipeline) Open(ctx context.Context) error {
	p.state.Store(int32(Opening))
	err := p.open(ctx)
	if err != nil {
		p.fail(err)
		p.close(ctx)
		return p.verdict()
	}
	return nil
}

// Run opens the connectors if [Pipeline.Open] has not, moves messages until the source
// ends or ctx does, drains, and closes. It returns nil only when everything that was read
// was settled.
func (p *Pipeline) Run(ctx context.Context) error {
	if p.State() == Built {
		if err := p.Open(ctx); err != nil {
			return err
		}
	}
	// Work outlives the request to stop, until the drain deadline.
	work, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cut(nil)
	p.state.Store(int32(Running))
	p.move(ctx, work, cut)
	p.close(ctx)
	return p.verdict()
}

// close closes what was opened: the source first, the failure target last.
func (p *Pipeline) close(ctx context.Context) {
	p.left.Store(true)
	for _, c := range p.closers {
		if err := c.close(context.WithoutCancel(ctx)); err != nil {
			p.fail(err)
		}
	}
	p.closers = nil
	p.endTraces()
	p.state.Store(int32(Ended))
}

// move runs the stages until the source has ended and everything is settled, or the
// drain deadline has cut the work.
func (p *Pipeline) move(ctx, work context.Context, cut context.CancelCauseFunc) {
	reading, stop := context.WithCancelCause(ctx)
	p.stop, p.stopped = stop, reading.Done()
	defer stop(nil)
	p.reads = outage.New(p.parts.Log, "source", "")
	defer p.reads.End()
	p.doubts = outage.New(p.parts.Log, "source", "")
	defer p.doubts.End()

	p.budget.messages = semaphore.NewWeighted(int64(p.parts.InFlightMessages))
	p.budget.bytes = semaphore.NewWeighted(int64(p.parts.InFlightBytes))
	eager := false
	if h, ok := p.parts.Source.(connector.Holder); ok {
		eager = h.Holds()
	}
	p.relate()
	p.flows = newFlows(p.parts.InFlightMessages, p.parts.InFlightBytes)
	p.flows.pace, p.flows.process = p.parts.Throttle, p.parts.Process
	p.flows.rests = p.resting()
	leave := p.parts.Process.join()
	defer leave()
	newSink := func(s Sink, ms ...*meter.Sink) *sink { return p.newSink(work, s, ms, eager) }
	p.sinks.failure = newSink(p.parts.Failure, &p.parts.Meter.Failure)
	if p.parts.Overflow.Target != nil {
		p.sinks.overflow = newSink(p.parts.Overflow, &p.parts.Meter.Overflow)
	}
	p.sinks.filter = newSink(p.parts.Filter, &p.parts.Meter.Filter)
	if p.parts.Backup.Target != nil {
		p.sinks.backup = newSink(p.parts.Backup, &p.parts.Meter.Backup)
	}
	p.sinks.targets = p.newTargets(newSink)
	for i, s := range p.sinks.targets {
		s.index = i
	}
	defer func() {
		for _, s := range p.sinks.all() {
			s.told.End()
		}
	}()
	uncut := context.AfterFunc(work, func() {
		for _, s := range p.sinks.all() {
			s.each((*lane).cut)
		}
	})
	defer uncut()

	endLag := p.watchLag(reading)
	defer endLag()
	endStandings := p.watchStandings(reading)
	defer endStandings()
	settled := make(chan struct{})
	go func() {
		defer close(settled)
		p.stages(reading, work)
		p.acks.Wait()
	}()

	select {
	case <-settled:
		return
	case <-reading.Done():
		p.state.Store(int32(Draining))
	}
	// Three quarters of the time are for an orderly end, the rest for a cut to take effect.
	soft := p.parts.Drain * 3 / 4
	if !within(settled, soft) {
		p.parts.Log.Warn("drain deadline passed, cutting writes in progress",
			meter.KeyMessages, p.parts.Meter.InFlight.Load())
		cut(ErrDrained)
		if !within(settled, max(p.parts.Drain-soft, 100*time.Millisecond)) {
			p.fail(fmt.Errorf("%d messages are in a read, transform or write that does not return: %w", p.parts.Meter.InFlight.Load(), ErrDrained))
		}
	}
}

// stages runs reader and workers, then flushes the sinks in the order in which one feeds
// the other.
func (p *Pipeline) stages(reading, work context.Context) {
	var todo *rota
	var wg sync.WaitGroup
	if len(p.chains) > 0 {
		todo = newRota(2 * len(p.chains))
		if p.divided != nil {
			todo.most = 0 // what waits is bounded by what each value may have in flight
		}
		for _, c := range p.chains {
			wg.Go(func() { p.transform(work, c, todo) })
		}
	}
	if p.divided != nil {
		p.readValues(reading, work, todo)
	} else {
		p.read(reading, work, todo)
	}
	if todo != nil {
		todo.close()
	}
	wg.Wait()
	// All of these feed the failure target; none waits for another to be flushed.
	feeders := append([]*sink{p.sinks.filter}, p.sinks.targets...)
	for _, s := range feeders {
		s.close()
	}
	for _, s := range feeders {
		s.wg.Wait()
	}
	// They feed the backup, which feeds the failure target, which feeds the overflow.
	for _, s := range []*sink{p.sinks.backup, p.sinks.failure, p.sinks.overflow} {
		if s != nil {
			s.close()
			s.wg.Wait()
		}
	}
}

// within reports whether done is closed before d has passed.
func within(done <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-done:
		return true
	case <-t.C:
		return false
	}
}

// fail notes why the pipeline fails and ends reading.
func (p *Pipeline) fail(err error) {
	p.mu.Lock()
	first := p.err == nil
	if first {
		p.err = err
	}
	p.mu.Unlock()
	if first && p.stop != nil {
		p.parts.Log.Error("pipeline fails", meter.KeyError, err)
		p.parts.Meter.Watch.Died(p.parts.Name, err)
		p.stop(err)
	}
}

func (p *Pipeline) verdict() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.err
	if err == nil && p.unsettled > 0 {
		err = fmt.Errorf("%d %w", p.unsettled, ErrUnfinished)
	}
	if err == nil && p.ended && p.kept > 0 {
		err = &Kept{p.kept}
	}
	if err == nil {
		return nil
	}
	return fmt.Errorf("pipeline %q: %w", p.parts.Name, err)
}
