package pipeline

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/retry"
)

// relate finds out how source and target stand to each other: whether the source delivers
// again by itself, and whether both are queues of one store, so that a move between them
// is one transaction.
func (p *Pipeline) relate() {
	p.redelivers = redelivers(p.parts.Source)
	d, ok := p.parts.Source.(connector.DeadLetterer)
	p.keeps = p.parts.Keep || ok && p.redelivers && d.DeadLetters()
	if d, ok := p.parts.Source.(connector.Isolated); ok && d.Isolation() != queue.None {
		p.divided = d
	}
	told, wants := p.parts.Source.(connector.Informed)
	p.informs = wants && told.Informs()
	source, from := p.parts.Source.(connector.StoreSource)
	if !from {
		return
	}
	for _, r := range p.routes {
		target, to := r.Target.(connector.StoreTarget)
		if to && p.joined == nil && source.Store() == target.Store() {
			p.joined = joined{source}
			p.parts.Format = spoilingFormat{p.parts.Format, p.parts.Failure.Limits.MaxMessageBytes}
		}
	}
}

// joined is a source whose SettleIn leaves out messages that were spoiled: something they
// became was given back to the source, so that they must not end as done, wherever the
// rest of what they became is.
type joined struct{ connector.StoreSource }

func (j joined) ReadJobs(ctx context.Context, room connector.Room) (event.Batch, connector.SettleIn, connector.Ack, error) {
	b, settle, ack, err := j.StoreSource.ReadJobs(ctx, room)
	return b, unspoiled(settle), ack, err
}

// unspoiled is settle without what was spoiled. Without a transaction it only marks.
func unspoiled(settle connector.SettleIn) connector.SettleIn {
	if settle == nil {
		return nil
	}
	var mu sync.Mutex
	var spoiled map[int]bool
	return func(tx queue.Tx, index []int) error {
		mu.Lock()
		defer mu.Unlock()
		if tx == nil {
			if spoiled == nil {
				spoiled = map[int]bool{}
			}
			for _, i := range index {
				spoiled[i] = true
			}
			return nil
		}
		whole := index
		if len(spoiled) > 0 {
			whole = slices.DeleteFunc(slices.Clone(index), func(i int) bool { return spoiled[i] })
		}
		return settle(tx, whole)
	}
}

// spoil has the message that m comes from left to the acknowledgement. It must be called
// before m is settled with an error, and while m is tracked.
func spoil(m *event.Message) {
	if tag, i, _, ok := event.Root(m); ok {
		if mark := settleIn(tag); mark != nil {
			_ = mark(nil, []int{i}) // without a transaction it only marks
		}
	}
}

// spoilingFormat spoils messages for which no failure payload can be made: they are given
// back to the source.
type spoilingFormat struct {
	FailureFormat
	limit int
}

func (f spoilingFormat) Format(x Failure, limit int) (payload []byte, err error) {
	made := false
	defer func() { // also when it panics
		if !made || err != nil || f.limit > 0 && limit > 0 && len(payload) > f.limit {
			spoil(x.Message)
		}
	}()
	payload, err = f.FailureFormat.Format(x, limit)
	made = true
	return payload, err
}

// writeOf is how a sink writes: through its target, or, when both ends are queues of one
// store, by appending to the one and settling in the other in one transaction.
func (p *Pipeline) writeOf(s *sink, t connector.Target) connector.Write {
	if p.joined == nil {
		return t.Write
	}
	write := t.Write
	if target, ok := t.(connector.StoreTarget); ok && s.target && target.Store() == p.joined.Store() {
		s.whole = true
		write = func(ctx context.Context, b event.Batch) error { return move(ctx, target, b) }
	}
	return func(ctx context.Context, b event.Batch) error {
		err := write(ctx, b)
		if err != nil {
			spoilFailed(b, err)
		}
		return err
	}
}

// spoilFailed spoils the messages of b that a write did not deliver.
func spoilFailed(b event.Batch, err error) {
	var partial *connector.Partial
	isPartial := errors.As(err, &partial)
	for i, m := range b {
		if !isPartial || partial.Failed[i] != nil {
			spoil(m)
		}
	}
}

// move appends b, which is part of what one read became, and settles in the same
// transaction every message of the read of which nothing is left outside of b. So a crash
// leaves each message in one queue or in the other, never in both.
func move(ctx context.Context, t connector.StoreTarget, b event.Batch) error {
	failed := map[int]error{}
	good := make(event.Batch, 0, len(b))
	for i, m := range b {
		if err := t.Accepts(m); err != nil {
			failed[i] = err
			continue
		}
		good = append(good, m)
	}
	settle, done := complete(good)
	if len(good) > 0 {
		err := t.Store().Update(ctx, func(tx queue.Tx) error {
			if err := t.WriteIn(tx, good); err != nil || len(done) == 0 {
				return err
			}
			return settle(tx, done)
		})
		if err != nil {
			return err
		}
	}
	if len(failed) > 0 {
		return &connector.Partial{Failed: failed}
	}
	return nil
}

// complete is how the read that b comes from is settled in a transaction, and the indexes
// of its messages whose descendants are all in b.
func complete(b event.Batch) (settle connector.SettleIn, index []int) {
	here := map[int]int{}
	open := map[int]int{}
	for _, m := range b {
		tag, i, n, ok := event.Root(m)
		if !ok {
			continue
		}
		if settle == nil {
			settle = settleIn(tag)
		}
		if here[i]++; here[i] == 1 {
			index = append(index, i)
		}
		open[i] = n
	}
	if settle == nil {
		return nil, nil
	}
	all := index[:0]
	for _, i := range index {
		if here[i] == open[i] {
			all = append(all, i)
		}
	}
	return settle, all
}

// addWhole has what a read became leave as one batch, without the messages that are too
// large, which are appended to refused. What is too much for one transaction leaves in several.
func (l *lane) addWhole(b event.Batch, refused []rejected) []rejected {
	fit := make([]sized, 0, len(b))
	for _, m := range b {
		x, err := l.s.measure(m)
		if err != nil || l.s.large(x.size) {
			refused = append(refused, rejected{m, err})
			continue
		}
		fit = append(fit, sized{m, queue.RecordSize(m), x.group})
	}
	l.full = append(l.full, divide(fit, queue.WriteBytes(), queue.MaxWriteBytes)...)
	return refused
}

// sized is a message with the size of its record and the group of its batch.
type sized struct {
	m     *event.Message
	size  int
	group string
}

// divide makes batches of about most bytes. What one message of a read became stays together, since it
// is settled with the last of it: unless that is more than hard bytes, or of several groups. Then the
// message ends with the last of its batches, and what went before is sent again after a crash.
func divide(all []sized, most, hard int) (batches []event.Batch) {
	fit, bytes := make(event.Batch, 0, len(all)), 0
	from, before := 0, 0 // where in fit begins what the last message of the read became, and the bytes before
	root, group := -1, ""
	leave := func(to int) {
		batches, fit = append(batches, fit[:to:to]), fit[to:]
		if bytes -= before; to > from {
			bytes = 0
		}
		from, before = 0, 0
	}
	for _, x := range all {
		if _, i, _, ok := event.Root(x.m); !ok || i != root {
			if from, before, root = len(fit), bytes, i; !ok {
				root = -1
			}
		}
		if len(fit) > 0 && x.group != group {
			leave(len(fit))
		}
		if from > 0 && bytes+x.size > most {
			leave(from)
		}
		if len(fit) > 0 && bytes+x.size > hard {
			leave(len(fit))
		}
		fit, bytes, group = append(fit, x.m), bytes+x.size, x.group
	}
	if len(fit) > 0 {
		batches = append(batches, fit)
	}
	return batches
}

// redeliver gives a message back to a source that delivers it again after a delay, or, when
// its attempts are used up, gives it up as the policy says: dead in its source, or as a
// failure that is appended to refused.
func (p *Pipeline) redeliver(s *sink, policy retry.Policy, m *event.Message, err error, refused []Failure) []Failure {
	spoil(m)
	kind := fault.Of(err)
	if kind == fault.Invalid { // the failure target refuses the failure: nothing gets better
		s.blame(keptDead, m, err)
		event.Settle(m, &connector.Dead{Err: err})
		return refused
	}
	if fault.Paced(err) {
		event.Settle(m, &connector.Again{After: fault.After(err), Uncounted: true, Err: err})
		return refused
	}
	class := policy.Class(kind)
	attempt := 1
	var since time.Time
	if d := m.Meta.Delivery; d != nil {
		attempt, since = d.Attempt+1, d.Since
	}
	// A store that is full says nothing of the message, so it is never given up for that.
	if !fault.Full(err) && class.Exhausted(attempt, time.Since(since)) {
		err := &retry.Exhausted{Kind: kind, Attempts: attempt, Err: err}
		if class.InvalidAfterMax && !s.failures {
			if !p.keeps { // what is kept, keep tells of
				s.blame(gaveAway, m, err)
			}
			return append(refused, p.reject(m, fault.Describe(fault.Invalid, err, fault.DetailOf(err))))
		}
		s.blame(givenUp, m, err)
		event.Settle(m, &connector.Dead{Err: err})
		return refused
	}
	if !fault.Full(err) { // a full store is told of by itself
		s.blame(dueAgain, m, err)
	}
	delay := policy.Delay(kind, attempt, fault.After(err))
	event.Settle(m, &connector.Again{After: policy.Jittered(delay), Err: err})
	return refused
}
