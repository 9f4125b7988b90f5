package pipeline

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/weirdata/weir/internal/condition"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
)

// hire makes the workers, each with a chain of its own.
func (p *Pipeline) hire() error {
	if len(p.parts.Transforms) == 0 && !p.routed {
		return nil
	}
	for range max(p.parts.Workers, 1) {
		chain := make([]connector.Worker, 0, len(p.parts.Transforms))
		for _, t := range p.parts.Transforms {
			var w connector.Worker
			err := guard(func() (err error) {
				w, err = t.Worker()
				return err
			})
			if err != nil {
				return fmt.Errorf("start a worker: %w", err)
			}
			chain = append(chain, w)
			if c, ok := w.(connector.Closer); ok {
				p.closers = append(p.closers, closer{"transform", func(context.Context) error { return c.Close() }})
			}
		}
		p.chains = append(p.chains, chain)
	}
	return nil
}

// transform is one worker: it takes whole batches through its own chain, and hands on what
// is ready.
func (p *Pipeline) transform(ctx context.Context, chain []connector.Worker, todo *rota) {
	w := worker{p: p, chain: chain, batched: batched(chain)}
	for r := todo.take(); r != nil; r = todo.take() {
		if !w.apply(ctx, r, todo) {
			todo.again(r)
			continue
		}
		r.flow.ready(r, func(r *read) { p.route(ctx, r) })
	}
}

// worker holds a chain and the scratch batches of its stages.
type worker struct {
	p      *Pipeline
	chain  []connector.Worker
	stages [2]event.Batch

	batched   bool                 // a step takes messages together
	evaluator *condition.Evaluator // for routes; made when first needed
}

// turn is how long one value may have a worker while another waits for one.
const turn = 20 * time.Millisecond

// apply replaces r's batch by what the chain makes of it. False means that it has stopped
// on the way, because others wait.
func (w *worker) apply(ctx context.Context, r *read, todo *rota) bool {
	if w.batched {
		w.together(ctx, r)
		return true
	}
	if r.out == nil {
		r.out = make(event.Batch, 0, len(r.batch))
	}
	at := time.Now().UTC()
	began := at
	for ; r.next < len(r.batch); r.next++ {
		if w.p.divided != nil && at.Sub(began) > turn && todo.contended() {
			w.done(at.Sub(began))
			return false
		}
		m := r.batch[r.next]
		m.Times.TransformStarted = at
		first := len(r.out)
		r.out = w.one(ctx, r.out, m, r)
		at = time.Now().UTC()
		for i, m := range r.out[first:] {
			m.Times.Transformed, m.Meta.Piece = at, uint32(i)
		}
	}
	r.batch, r.out = r.out, nil
	if w.p.routed {
		w.distribute(r)
	}
	w.done(at.Sub(began))
	return true
}

// done ends a piece of work: the scratch memory must not keep messages alive.
func (w *worker) done(took time.Duration) {
	if len(w.chain) > 0 {
		w.p.parts.Meter.Transform.Observe(took.Seconds())
	}
	for _, s := range w.stages {
		clear(s[:cap(s)])
	}
}

// one takes a message through the chain and appends what it becomes to out.
func (w *worker) one(ctx context.Context, out event.Batch, m *event.Message, r *read) event.Batch {
	last := len(w.chain) - 1
	if last < 0 {
		return append(out, m)
	}
	cur := append(w.stages[0][:0], m)
	spare := w.stages[1][:0]
	for i, t := range w.chain {
		next := spare
		if i == last {
			next = out
		}
		for _, m := range cur {
			before := len(next)
			place := event.PlaceOf(m)
			seen := r.before(m)
			grown, err := w.step(ctx, t, next, m)
			if err == nil && !extends(grown, next) {
				err = errNotAppended
			}
			if err != nil {
				w.after(r, seen, i, m, nil, err)
				place.Pass(m, nil)
				r.invalid = append(r.invalid, rejected{m, err})
				continue
			}
			next = grown
			w.after(r, seen, i, m, next[before:], nil)
			r.leftOut = m.TakeLeftOut(r.leftOut)
			place.Pass(m, next[before:])
			if len(next) == before {
				if m.Dropped() == "" {
					m.Drop(w.p.step(i))
				}
				r.filtered = append(r.filtered, m)
			}
		}
		if i == last {
			out = next
			break
		}
		cur, spare = next, cur[:0]
		if len(cur) == 0 {
			break
		}
	}
	// Keep the scratch memory, whichever way round it ended.
	w.stages[0], w.stages[1] = cur[:0], spare[:0]
	return out
}

// step is what the i-th transform is called.
func (p *Pipeline) step(i int) string {
	if i < len(p.parts.Steps) {
		return p.parts.Steps[i]
	}
	return strconv.Itoa(i)
}

// countFiltered counts filtered messages, and why they are.
func (p *Pipeline) countFiltered(b event.Batch) {
	p.parts.Meter.Filtered.Add(int64(len(b)))
	for first, i := 0, 1; i <= len(b); i++ {
		if i == len(b) || b[i].Dropped() != b[first].Dropped() {
			p.parts.Meter.FilteredFor(b[first].Dropped(), int64(i-first))
			first = i
		}
	}
}

// errNotAppended is a defect of the transform: using what it returned would drop the
// messages that were in out before.
var errNotAppended = fault.Describe(fault.Invalid,
	errors.New("the transform returned a batch that does not begin with the one it was given"),
	fault.Detail{Type: "transformation", Code: "Contract", Safe: "the transform lost earlier messages"})

// extends reports whether grown is out with messages appended.
func extends(grown, out event.Batch) bool {
	n := len(out)
	return len(grown) >= n && (n == 0 || (grown[0] == out[0] && grown[n-1] == out[n-1]))
}

// step applies one transform to one message. A panic is that message's error (invariant 3). A
// message without a payload, which says that something is deleted, is left as it is: there is
// nothing in it to transform.
func (w *worker) step(ctx context.Context, t connector.Worker, out event.Batch, m *event.Message) (grown event.Batch, err error) {
	defer func() {
		if r := recover(); r != nil {
			w.p.parts.Meter.Panics.Add(1)
			w.p.parts.Log.Error("panic in a transform; the message goes to the failure target",
				meter.KeyError, fmt.Sprint(r), meter.KeyStack, stack())
			grown = out
			err = fault.Describe(fault.Invalid, fmt.Errorf("panic in transform: %v", r),
				fault.Detail{Type: "transformation", Code: "Panic", Safe: "panic in transform"})
		}
	}()
	if m.Data == nil {
		return append(out, m), nil
	}
	return t.Apply(ctx, out, m)
}

// route hands a read to the sinks. Those of one flow come in the order they were made.
func (p *Pipeline) route(work context.Context, r *read) {
	r.traced.routed(r)
	if len(r.copies) > 0 {
		p.sinks.backup.put(r.flow, r.copies)
	}
	if p.routed {
		for i, b := range r.routes {
			p.sinks.targets[i].put(r.flow, b)
		}
	} else {
		p.sinks.targets[0].put(r.flow, r.batch)
	}
	if len(r.filtered) > 0 {
		p.countFiltered(r.filtered)
		p.watchFiltered(r.filtered)
		p.sinks.filter.put(r.flow, r.filtered)
	}
	for _, x := range r.leftOut {
		p.parts.Meter.LeaveOut(x.Destination, x.Reason, 1)
	}
	var refused []Failure
	for _, x := range r.invalid {
		if work.Err() != nil { // the transform may have failed only because it was cut
			p.abandon(event.Batch{x.m}, fmt.Errorf("%w: %w", context.Cause(work), x.err))
			continue
		}
		if p.redelivers && fault.Paced(x.err) { // the transform waits for something, and holds up nobody
			spoil(x.m)
			event.Settle(x.m, &connector.Again{After: fault.After(x.err), Uncounted: true, Err: x.err})
			continue
		}
		p.sinks.failure.charge(turnedDown, x.m)
		refused = append(refused, p.reject(x.m, x.err))
	}
	p.bury(refused)
}

func stack() string {
	s := debug.Stack()
	return string(s[:min(len(s), 4096)])
}
