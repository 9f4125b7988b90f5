package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
)

// batched reports whether a step of the chain takes messages together.
func batched(chain []connector.Worker) bool {
	for _, t := range chain {
		if _, ok := t.(connector.BatchWorker); ok {
			return true
		}
	}
	return false
}

// together takes a whole read through the chain, step by step, where a step takes messages
// together; the other steps have them one by one, as ever.
func (w *worker) together(ctx context.Context, r *read) {
	began := time.Now().UTC()
	for _, m := range r.batch {
		m.Times.TransformStarted = began
	}
	cur := r.batch
	for i, t := range w.chain {
		if len(cur) == 0 {
			break
		}
		next := make(event.Batch, 0, len(cur))
		if all, ok := t.(connector.BatchWorker); ok {
			next = w.all(ctx, all, i, cur, next, r)
		} else {
			for _, m := range cur {
				place, seen, before := event.PlaceOf(m), r.before(m), len(next)
				grown, err := w.step(ctx, t, next, m)
				if err == nil && !extends(grown, next) {
					err = errNotAppended
				}
				if err != nil {
					grown = next
				}
				next = grown
				w.passed(r, i, m, seen, next[before:], err)
				if err != nil {
					place.Pass(m, nil)
				} else {
					place.Pass(m, next[before:])
				}
			}
		}
		cur = next
	}
	at := time.Now().UTC()
	for i, m := range cur {
		m.Times.Transformed = at
		if o := m.Meta.Origin; i > 0 && o != nil && o == cur[i-1].Meta.Origin {
			m.Meta.Piece = cur[i-1].Meta.Piece + 1
		}
	}
	r.batch, r.next = cur, 0
	if w.p.routed {
		w.distribute(r)
	}
	w.done(at.Sub(began))
}

// passed notes what the i-th step made of m.
func (w *worker) passed(r *read, i int, m *event.Message, seen look, out event.Batch, err error) {
	w.after(r, seen, i, m, out, err)
	if left := m.TakeLeftOut(nil); err == nil {
		r.leftOut = append(r.leftOut, left...)
	}
	switch {
	case err != nil:
		r.invalid = append(r.invalid, rejected{m, err})
	case len(out) == 0:
		if m.Dropped() == "" {
			m.Drop(w.p.step(i))
		}
		r.filtered = append(r.filtered, m)
	}
}

// errMixed is a defect of a transform that takes messages together.
var errMixed = fault.Describe(fault.Invalid,
	errors.New("the transform gave one message to several of those it had"),
	fault.Detail{Type: "transformation", Code: "Contract", Safe: "the transform mixed messages up"})

// all takes cur through a step that takes them together, and appends what they become to next.
func (w *worker) all(ctx context.Context, t connector.BatchWorker, i int, cur, next event.Batch, r *read) event.Batch {
	places := event.PlacesOf(cur)
	looks := make([]look, len(cur))
	for k, m := range cur {
		looks[k] = r.before(m)
	}
	outcomes := w.payloads(ctx, t, cur)
	given := make(map[*event.Message]bool, len(cur))
	for k, m := range cur {
		o := outcomes[k]
		for _, x := range o.Out {
			if given[x] && o.Err == nil {
				o.Err = errMixed
			}
			given[x] = true
		}
		if o.Err != nil {
			o.Out = nil
		}
		w.passed(r, i, m, looks[k], o.Out, o.Err)
		places.Pass(k, m, o.Out)
		next = append(next, o.Out...)
	}
	return next
}

// payloads calls t with the messages that have a payload; the others are left as they are.
func (w *worker) payloads(ctx context.Context, t connector.BatchWorker, b event.Batch) []connector.Outcome {
	without := func(m *event.Message) bool { return m.Data == nil }
	if !slices.ContainsFunc(b, without) {
		return w.contained(ctx, t, b)
	}
	outcomes := make([]connector.Outcome, len(b))
	var some event.Batch
	var at []int
	for k, m := range b {
		if without(m) {
			outcomes[k].Out = event.Batch{m}
			continue
		}
		some, at = append(some, m), append(at, k)
	}
	if len(some) > 0 {
		for k, o := range w.contained(ctx, t, some) {
			outcomes[at[k]] = o
		}
	}
	return outcomes
}

// contained calls t. When it panics for several messages it is called for each, so that only
// those that cause the panic are invalid (invariant 3).
func (w *worker) contained(ctx context.Context, t connector.BatchWorker, b event.Batch) []connector.Outcome {
	o, err := w.called(ctx, t, b)
	if err == nil {
		return o
	}
	outcomes := make([]connector.Outcome, len(b))
	for k := range b {
		if len(b) > 1 {
			o, err = w.called(ctx, t, b[k:k+1:k+1])
		}
		if outcomes[k].Err = err; err == nil {
			outcomes[k] = o[0]
		}
	}
	return outcomes
}

// called calls t. An error is a panic, or a number of outcomes that is not that of messages.
func (w *worker) called(ctx context.Context, t connector.BatchWorker, b event.Batch) (o []connector.Outcome, err error) {
	defer func() {
		if x := recover(); x != nil {
			for _, m := range b {
				m.TakeLeftOut(nil) // it is called again
			}
			w.p.parts.Meter.Panics.Add(1)
			w.p.parts.Log.Error("panic in a transform; the message goes to the failure target",
				meter.KeyError, fmt.Sprint(x), meter.KeyStack, stack())
			err = fault.Describe(fault.Invalid, fmt.Errorf("panic in transform: %v", x),
				fault.Detail{Type: "transformation", Code: "Panic", Safe: "panic in transform"})
		}
	}()
	if o = t.ApplyAll(ctx, b); len(o) != len(b) {
		return nil, fault.Describe(fault.Invalid, fmt.Errorf("the transform returned %d outcomes for %d messages", len(o), len(b)),
			fault.Detail{Type: "transformation", Code: "Contract", Safe: "the transform lost messages"})
	}
	return o, nil
}
