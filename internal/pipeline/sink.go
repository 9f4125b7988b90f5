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
	"github.com/weirdata/weir/internal/retry"
)

// sink batches messages for one target and writes them.
type sink struct {
	p      *Pipeline
	meter  *meter.Sink   // of this sink alone
	meters []*meter.Sink // that count what it does: meter, and that of all targets together
	limits connector.Limits
	write  connector.Write
	lanes  []*lane
	seed   maphash.Seed
	target bool   // it is one of the pipeline's targets
	use    string // the name of its connector
	whole  bool   // what a read became is written together, in one batch
	wg     sync.WaitGroup
}

// lane is one batcher and its writers. An ordered pipeline has a lane with one writer for
// each part of the key space; otherwise one lane has all writers.
type lane struct {
	s     *sink
	ctx   context.Context
	in    *inbox
	out   chan event.Batch
	eager bool
	cur   event.Batch
	bytes int
	timer *time.Timer
}

func (p *Pipeline) newSink(ctx context.Context, c Sink, ms []*meter.Sink, eager bool) *sink {
	m := ms[0]
	s := &sink{p: p, meter: m, meters: ms, limits: c.Limits, seed: maphash.MakeSeed()}
	s.target, s.use = ms[len(ms)-1] == &p.parts.Meter.Target, c.Use
	l := &s.limits
	l.MaxBatchMessages = max(l.MaxBatchMessages, 1)
	l.MaxConcurrentBatches = max(l.MaxConcurrentBatches, 1)
	if l.FlushPeriod <= 0 {
		l.FlushPeriod = 200 * time.Millisecond
	}
	s.write = s.attempt(p.writeOf(s, c.Target))
	for _, v := range slices.Backward(c.Middleware) {
		s.write = v(s.write)
	}
	policy := p.parts.Retry
	told := policy.Notify
	policy.Notify = func(a retry.Attempt) {
		if a.Err != nil {
			for _, m := range ms {
				m.Retries.Add(1)
			}
			p.parts.Log.Warn("write failed, trying again", meter.KeyComponent, m.Role, meter.KeyKind, a.Kind.String(),
				meter.KeyAttempt, a.Number, meter.KeyDelay, a.Delay, meter.KeyMessages, a.Messages, meter.KeyError, a.Err)
		}
		if told != nil {
			told(a)
		}
	}
	// A source that delivers again would deliver to the targets that have the message, too:
	// where a message is copied, each copy is retried here first.
	if !p.redelivers || p.copies && s.target {
		s.write = policy.Middleware()(s.write)
	}

	lanes, writers := 1, l.MaxConcurrentBatches
	if p.parts.Ordered {
		lanes, writers = writers, 1
	}
	for range lanes {
		ln := &lane{s: s, ctx: ctx, in: newInbox(), out: make(chan event.Batch), eager: eager || l.Eager}
		s.lanes = append(s.lanes, ln)
		s.wg.Go(ln.run)
		for range writers {
			s.wg.Go(ln.writeAll)
		}
	}
	return s
}

// put hands messages to the sink. It never blocks: what waits here is bounded by what may
// be in flight, and so a sink that is stuck holds up neither the router nor other sinks.
func (s *sink) put(b event.Batch) {
	if len(b) == 0 {
		return
	}
	if len(s.lanes) == 1 {
		s.lanes[0].in.put(b)
		return
	}
	parts := make([]event.Batch, len(s.lanes))
	for _, m := range b {
		i := s.laneOf(m)
		parts[i] = append(parts[i], m)
	}
	for i, part := range parts {
		if len(part) > 0 {
			s.lanes[i].in.put(part)
		}
	}
}

// laneOf is the lane of m's key; a message without one may take any.
func (s *sink) laneOf(m *event.Message) int {
	if m.Key == "" {
		return rand.IntN(len(s.lanes))
	}
	return int(maphash.String(s.seed, m.Key) % uint64(len(s.lanes)))
}

// close has what is batched flushed; the writes have ended when wg has.
func (s *sink) close() {
	for _, l := range s.lanes {
		l.in.close()
	}
}

// run groups messages until the inbox is closed.
func (l *lane) run() {
	defer close(l.out)
	l.timer = time.NewTimer(time.Hour)
	l.timer.Stop()
	defer l.timer.Stop()
	for {
		waiting, closed := l.in.take()
		for _, b := range waiting {
			l.add(b)
		}
		switch {
		case len(waiting) > 0: // look again: what came meanwhile may fill the batch
		case closed:
			l.flush()
			return
		default:
			l.wait()
		}
	}
}

// wait returns when there is more in the inbox, or the batch that is filling has left: an
// eager one, or one that reading waits for, as soon as a writer is free, another when its
// time is over.
func (l *lane) wait() {
	switch {
	case len(l.cur) == 0:
		<-l.in.wake
	case l.eager || l.s.p.starved.Load():
		select {
		case <-l.in.wake:
		case l.out <- l.cur:
			l.cur, l.bytes = nil, 0
		case <-l.ctx.Done():
			l.flush()
		}
	default:
		select {
		case <-l.in.wake:
		case <-l.timer.C:
			l.flush()
		case <-l.ctx.Done():
			l.flush()
		}
	}
}

// add puts messages into the batch that is filling, sending it whenever it is full.
func (l *lane) add(b event.Batch) {
	if l.s.whole {
		l.addWhole(b)
		return
	}
	lim := &l.s.limits
	for _, m := range b {
		n := len(m.Data)
		if lim.MaxMessageBytes > 0 && n > lim.MaxMessageBytes {
			l.s.oversized(m)
			continue
		}
		if lim.Alone != nil {
			alone, err := l.alone(m)
			if err != nil {
				l.s.undelivered(l.ctx, m, err)
				continue
			}
			if alone {
				l.flush() // what came before leaves before
				l.send(event.Batch{m})
				continue
			}
		}
		if len(l.cur) > 0 && lim.MaxBatchBytes > 0 && l.bytes+n > lim.MaxBatchBytes {
			l.flush()
		}
		if len(l.cur) == 0 {
			l.cur = make(event.Batch, 0, min(lim.MaxBatchMessages, max(len(b), 16)))
			l.timer.Reset(lim.FlushPeriod)
		}
		l.cur = append(l.cur, m)
		l.bytes += n
		// Full: by count, or because one more message of average size would not fit.
		if len(l.cur) >= lim.MaxBatchMessages || (lim.MaxBatchBytes > 0 && lim.MaxBatchBytes-l.bytes < l.bytes/len(l.cur)) {
			l.flush()
		}
	}
}

// alone asks the target whether m must travel alone. A panic is m's error (invariant 3).
func (l *lane) alone(m *event.Message) (alone bool, err error) {
	err = l.s.contain(func() error {
		alone = l.s.limits.Alone(m)
		return nil
	})
	return alone, invalidPanic(err)
}

func (l *lane) flush() {
	if len(l.cur) == 0 {
		return
	}
	b := l.cur
	l.cur, l.bytes = nil, 0
	l.timer.Stop()
	l.send(b)
}

func (l *lane) send(b event.Batch) {
	select {
	case l.out <- b:
	case <-l.ctx.Done():
		l.s.p.abandon(b, context.Cause(l.ctx))
	}
}

func (l *lane) writeAll() {
	for b := range l.out {
		if l.ctx.Err() != nil {
			l.s.p.abandon(b, context.Cause(l.ctx))
			continue
		}
		l.s.settle(l.ctx, b, l.s.recovered(l.ctx, l.s.write, b)) // a middleware may panic too
	}
}

// attempt is one write as the middleware sees it: measured, and with panics contained.
func (s *sink) attempt(write connector.Write) connector.Write {
	return func(ctx context.Context, b event.Batch) error {
		ctx, traced := s.traceWrite(ctx, b)
		begin := time.Now()
		err := s.contained(ctx, write, b)
		took := time.Since(begin)
		for _, m := range s.meters {
			m.Writes.Add(1)
			m.Duration.Observe(took.Seconds())
		}
		s.watch(b, begin, took, err)
		traced.end(b, err)
		if err != nil {
			s.count(b, err)
		}
		return err
	}
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
