package pipeline

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/outage"
	"github.com/weirdata/weir/internal/retry"
	"github.com/weirdata/weir/internal/throttle"
)

// sink batches messages for one target and writes them.
type sink struct {
	p      *Pipeline
	ctx    context.Context // of the writes
	meter  *meter.Sink     // of this sink alone
	meters []*meter.Sink   // that count what it does: meter, and that of all targets together
	limits connector.Limits
	base   connector.Target
	around []connector.Middleware
	write  connector.Write
	lanes  lanes // of everything, or of what belongs to no value
	split  bool  // each value has lanes of its own
	seed   maphash.Seed
	eager  bool   // batches leave as soon as a writer is free
	target bool   // it is one of the pipeline's targets
	backup bool   // it gets what was read
	index  int    // its place among them
	use    string // the name of its connector
	// failures says that it has failures: the failure target's, or the overflow's.
	failures bool
	finishes bool // unfinished messages are taken
	whole    bool // what a read became is written together, in one batch
	late     *unopened
	pauses   *pauses // nil: writers do not wait for one another
	policy   retry.Policy
	room     roomState
	told     *outage.Teller // of what goes back, or is given up
	wg       sync.WaitGroup
}

// lanes are where the messages of one value wait for one target. An ordered pipeline has a
// lane with one writer for each part of the key space; otherwise one lane has all writers.
type lanes struct {
	mu  sync.Mutex
	all []*lane // made when they are first needed
}

func (p *Pipeline) newSink(ctx context.Context, c Sink, ms []*meter.Sink, eager bool) *sink {
	m := ms[0]
	s := &sink{p: p, ctx: ctx, meter: m, meters: ms, limits: c.Limits, seed: maphash.MakeSeed(), eager: eager || c.Limits.Eager}
	s.target, s.use = ms[len(ms)-1] == &p.parts.Meter.Target, c.Use
	s.split = s.target && p.divided != nil
	f, ok := c.Target.(connector.Finisher)
	s.finishes = ok && f.Finishes()
	l := &s.limits
	l.MaxBatchMessages = max(l.MaxBatchMessages, 1)
	l.MaxConcurrentBatches = max(l.MaxConcurrentBatches, 1)
	if l.FlushPeriod <= 0 {
		l.FlushPeriod = 200 * time.Millisecond
	}
	s.base, s.around, s.late = c.Target, c.Middleware, c.late
	s.policy = p.parts.Retry
	if p.refuses() {
		s.policy.Back = fault.Full
	}
	s.backup = m == &p.parts.Meter.Backup
	s.failures = m == &p.parts.Meter.Failure || m == &p.parts.Meter.Overflow
	if _, stored := c.Target.(connector.StoreTarget); stored && s.failures {
		s.policy = s.ofStore(s.policy)
	}
	s.told = outage.New(p.parts.Log, m.Role, p.parts.Look)
	m.Ailing(s.told.Each)
	s.pauses = p.newPauses(s)
	s.write = s.chain(c.Target, s.policy, s.limiter(""))
	return s
}

// limiter is what the writes for a value wait for; nil: nothing.
func (s *sink) limiter(value string) *throttle.Limiter {
	if !s.target || s.p.parts.Throttle == nil {
		return nil
	}
	return s.p.parts.Throttle.Of(value)
}

// chain is how t is written to: retry(throttle(measure(write))).
func (s *sink) chain(t connector.Target, policy retry.Policy, limit *throttle.Limiter) connector.Write {
	p := s.p
	write := p.writeOf(s, t)
	if s.late != nil {
		write = s.late.middleware(write)
	}
	write = s.attempt(write)
	for _, v := range slices.Backward(s.around) {
		write = v(write)
	}
	// A source that delivers again would deliver to the targets that have the message, too:
	// where a message is copied, each copy is retried here first.
	here := !p.redelivers || p.copies && s.target || s.backup
	switch {
	case limit == nil:
	case here:
		write = limit.Middleware()(write)
	default:
		write = limit.Hand()(write)
	}
	if here {
		write = s.noting(policy).Middleware()(write)
	}
	if s.pauses != nil {
		write = s.pauses.middleware(write)
	}
	return write
}

// noting is policy with a note of each attempt that failed.
func (s *sink) noting(policy retry.Policy) retry.Policy {
	told := policy.Notify
	policy.Notify = func(a retry.Attempt) {
		if a.Err != nil {
			for _, m := range s.meters {
				m.Retries.Add(1)
			}
		}
		if a.Err != nil && !fault.Full(a.Err) { // noteRoom has told of that
			s.noteRetry(&a)
		}
		if told != nil {
			told(a)
		}
	}
	return policy
}

// particular is how the messages of a value are written, and the policy for those that are
// not: what is made for a value is told which one.
func (s *sink) particular(value string) (connector.Write, retry.Policy) {
	policy, limit, t := s.policy, s.limiter(value), s.base
	v := connector.Value{Axis: s.p.divided.Isolation(), Name: value}
	if of := s.p.parts.Particular; of != nil {
		own := of(v)
		if own.Retry != nil {
			policy = *own.Retry
		}
		if own.Throttle != nil {
			limit = own.Throttle
		}
	}
	if one, ok := s.base.(connector.Valued); ok {
		err := s.contain(func() (err error) {
			t, err = one.For(v)
			return err
		})
		if err != nil {
			t = unmade{s.base, invalidPanic(fmt.Errorf("%s %q: %w", v.Axis, v.Name, err))}
		}
	}
	return s.chain(t, policy, limit), policy
}

// unmade is a target that could not be made for a value.
type unmade struct {
	connector.Target
	err error
}

func (f unmade) Write(context.Context, event.Batch) error { return f.err }

// put hands messages to the sink. It never blocks: what waits here is bounded by what may
// be in flight, and so a sink that is stuck holds up neither the router nor other sinks.
func (s *sink) put(f *flow, b event.Batch) {
	if len(b) == 0 {
		return
	}
	ls := s.lanesOf(f)
	if !s.p.parts.Ordered {
		s.lane(ls, f, 0, 1).put(b)
		return
	}
	n := s.limits.MaxConcurrentBatches
	parts := make([]event.Batch, n)
	for _, m := range b {
		i := s.laneOf(m, n)
		parts[i] = append(parts[i], m)
	}
	for i, part := range parts {
		if len(part) > 0 {
			s.lane(ls, f, i, n).put(part)
		}
	}
}

// lanesOf is where the messages of f wait.
func (s *sink) lanesOf(f *flow) *lanes {
	if s.split {
		return &f.lanes[s.index]
	}
	return &s.lanes
}

// lane is the i-th of n lanes.
func (s *sink) lane(ls *lanes, f *flow, i, n int) *lane {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.all == nil {
		ls.all = make([]*lane, n)
	}
	if ls.all[i] == nil {
		l := &lane{s: s, write: s.write, policy: s.policy, most: s.limits.MaxConcurrentBatches}
		if s.split && s.special() {
			l.write, l.policy = s.particular(f.value)
		}
		if n > 1 || s.p.parts.Ordered {
			l.most = 1
		}
		ls.all[i] = l
	}
	return ls.all[i]
}

// special reports whether a value may be written otherwise than another.
func (s *sink) special() bool {
	_, valued := s.base.(connector.Valued)
	return valued || s.p.parts.Particular != nil || s.p.parts.Throttle != nil
}

// each calls f with every lane there is.
func (ls *lanes) each(f func(*lane)) {
	ls.mu.Lock()
	all := slices.Clone(ls.all)
	ls.mu.Unlock()
	for _, l := range all {
		if l != nil {
			f(l)
		}
	}
}

// each calls f with every lane of the sink.
func (s *sink) each(f func(*lane)) {
	if !s.split {
		s.lanes.each(f)
		return
	}
	for _, v := range s.p.flows.list() {
		v.lanes[s.index].each(f)
	}
}

// laneOf is the lane of m's key; a message without one may take any.
func (s *sink) laneOf(m *event.Message, n int) int {
	if m.Key == "" && m.Keyed != event.KeyEmpty {
		return rand.IntN(n)
	}
	return int(maphash.String(s.seed, m.Key) % uint64(n))
}

// close has what is batched flushed; the writes have ended when wg has.
func (s *sink) close() { s.each((*lane).close) }

// attempt is one write as the middleware sees it: measured, and with panics contained.
func (s *sink) attempt(write connector.Write) connector.Write {
	return func(ctx context.Context, b event.Batch) error {
		ctx, traced := s.traceWrite(ctx, b)
		begin := time.Now()
		err := s.contained(ctx, write, b)
		took := time.Since(begin)
		s.noteRoom(err)
		nothing := lost(b, err)
		for _, m := range s.meters {
			m.Writes.Add(1)
			m.Attempted(nothing)
			m.Duration.Observe(took.Seconds())
		}
		s.watch(b, begin, took, err)
		traced.end(b, err)
		if taps := s.p.parts.Tap.Live(); taps != nil {
			failed := failures(b, err)
			taps.Written(s.meter.Role, b, func(i int) error {
				if err == nil {
					return nil
				}
				return failed[i]
			})
		}
		if err != nil {
			s.count(b, err)
		}
		return err
	}
}

// lost reports whether a write took none of b.
func lost(b event.Batch, err error) bool {
	if err == nil {
		return false
	}
	partial, is := errors.AsType[*connector.Partial](err)
	return !is || len(partial.Failed) >= len(b)
}

func (s *sink) count(b event.Batch, err error) {
	var partial *connector.Partial
	isPartial := errors.As(err, &partial)
	for _, m := range s.meters {
		if !isPartial {
			m.Failures[fault.Of(err)].Add(int64(len(b)))
			continue
		}
		for _, e := range partial.Failed {
			m.Failures[fault.Of(e)].Add(1)
		}
	}
}

// panicked is the error of a write that panicked.
type panicked struct{ value any }

func (e *panicked) Error() string { return fmt.Sprintf("panic in target: %v", e.value) }

// contained calls write. When it panics for a batch, the messages are written one by
// one, so that only those that cause the panic become invalid (invariant 3).
func (s *sink) contained(ctx context.Context, write connector.Write, b event.Batch) error {
	err := s.recovered(ctx, write, b)
	if _, ok := errors.AsType[*panicked](err); !ok {
		return err
	}
	failed := map[int]error{}
	for i := range b {
		if len(b) > 1 {
			err = s.recovered(ctx, write, b[i:i+1:i+1])
		}
		if partial, ok := errors.AsType[*connector.Partial](err); ok {
			err = partial.Failed[0]
		}
		if err = invalidPanic(err); err != nil {
			failed[i] = err
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return &connector.Partial{Failed: failed}
}

// invalidPanic makes an error that is a panic the fault of the message it arose for.
func invalidPanic(err error) error {
	if _, ok := errors.AsType[*panicked](err); ok {
		return fault.Describe(fault.Invalid, err, fault.Detail{Type: "api", Code: "Panic", Safe: "panic in target"})
	}
	return err
}

func (s *sink) recovered(ctx context.Context, write connector.Write, b event.Batch) error {
	return s.contain(func() error { return write(ctx, b) })
}

// contain turns a panic of f into an error of type *panicked.
func (s *sink) contain(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			s.p.parts.Meter.Panics.Add(1)
			s.p.parts.Log.Error("panic in a target", meter.KeyComponent, s.meter.Role, meter.KeyError, fmt.Sprint(r), meter.KeyStack, stack())
			err = &panicked{r}
		}
	}()
	return f()
}
