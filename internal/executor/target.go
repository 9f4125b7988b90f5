package executor

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/queue"
)

// The names of failures of a target, by what the error means. States.TaskFailed and
// States.ALL match them all.
var targetErrors = [...]string{
	fault.Transient: "Target.Transient",
	fault.Throttled: "Target.Throttled",
	fault.Setup:     "Target.Setup",
	fault.Invalid:   "Target.Invalid",
	fault.Fatal:     "Target.Fatal",
}

// TargetFunction writes the input of a task to a pipeline's target; the output is the
// input. Tasks that wait for one another's write are written together. Nothing is tried
// again here: that is for the definition's Retry.
//
// A target that is a queue of the machine's store is written in the step's transaction.
type TargetFunction struct {
	target connector.Target
	inside connector.StoreTarget // nil when the target is elsewhere
	limits connector.Limits

	mu      sync.Mutex
	base    context.Context // of every write; ends when the function is closed
	cancel  context.CancelFunc
	waiting []*delivery
	writing sync.WaitGroup
	writers int
}

// delivery is a message and what became of it.
type delivery struct {
	m    *event.Message
	done chan error
}

// NewTarget makes a function of a target, which it opens and closes.
func NewTarget(t connector.Target) *TargetFunction {
	f := &TargetFunction{target: t, limits: connector.Limits{MaxBatchMessages: 100, MaxBatchBytes: 1 << 20, MaxMessageBytes: queue.MaxPayload, MaxConcurrentBatches: 1}}
	if l, ok := t.(connector.Limiter); ok {
		f.limits = l.Limits()
	}
	if s, ok := t.(connector.StoreTarget); ok {
		f.inside = s
	}
	return f
}

// Open implements Function.
func (f *TargetFunction) Open(ctx context.Context) error {
	if err := f.target.Open(ctx); err != nil {
		return errors.Join(err, f.target.Close(context.WithoutCancel(ctx)))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.base, f.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return nil
}

// Close implements Function. It cuts writes that nobody waits for any more.
func (f *TargetFunction) Close(ctx context.Context) error {
	f.mu.Lock()
	cancel := f.cancel
	f.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	f.writing.Wait()
	return f.target.Close(ctx)
}

// Effect implements Function.
func (f *TargetFunction) Effect() Effect {
	if f.inside != nil {
		return InTransaction
	}
	return Elsewhere
}

// Invoke implements Function.
func (f *TargetFunction) Invoke(ctx context.Context, c Call) (Answer, error) {
	m := event.New(c.Input)
	m.Meta.ID = c.ID
	if n := len(c.Input); n > f.limits.MaxMessageBytes {
		return Answer{}, f.failure(fault.New(fault.Invalid, fmt.Errorf("the input has %d bytes, the target takes %d", n, f.limits.MaxMessageBytes)))
	}
	if f.inside != nil {
		if err := f.inside.Accepts(m); err != nil {
			return Answer{}, f.failure(err)
		}
		return Answer{Output: c.Input, Put: func(tx queue.Tx) error { return f.inside.WriteIn(tx, event.Batch{m}) }}, nil
	}
	if err := f.write(ctx, m); err != nil {
		return Answer{}, f.failure(err)
	}
	return Answer{Output: c.Input}, nil
}

func (f *TargetFunction) failure(err error) error {
	return Failure(targetErrors[fault.Of(err)], err.Error(), nil)
}

// write writes m, together with what else waits when its turn comes. When ctx ends first, the
// write goes on for the others.
func (f *TargetFunction) write(ctx context.Context, m *event.Message) error {
	d := &delivery{m: m, done: make(chan error, 1)}
	f.mu.Lock()
	f.waiting = append(f.waiting, d)
	if f.writers < f.limits.MaxConcurrentBatches {
		f.writers++
		base := f.base
		f.writing.Go(func() { f.drain(base) })
	}
	f.mu.Unlock()
	select {
	case err := <-d.done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// drain writes batches until nothing waits.
func (f *TargetFunction) drain(ctx context.Context) {
	for {
		batch := f.next()
		if len(batch) == 0 {
			return
		}
		b := make(event.Batch, len(batch))
		for i, d := range batch {
			b[i] = d.m
		}
		err := f.deliver(ctx, b)
		var partial *connector.Partial
		some := errors.As(err, &partial)
		for i, d := range batch {
			if some {
				err = partial.Failed[i]
			}
			d.done <- err
		}
	}
}

// deliver is the target's Write; a panic is an error.
func (f *TargetFunction) deliver(ctx context.Context, b event.Batch) (err error) {
	defer func() {
		if x := recover(); x != nil {
			err = fmt.Errorf("the target panicked: %v", x)
		}
	}()
	return f.target.Write(ctx, b)
}

// next is what to write now; nothing ends this writer.
func (f *TargetFunction) next() []*delivery {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, bytes := 0, 0
	for n < len(f.waiting) && n < f.limits.MaxBatchMessages {
		bytes += len(f.waiting[n].m.Data)
		if n > 0 && (bytes > f.limits.MaxBatchBytes || f.limits.Alone != nil && (f.limits.Alone(f.waiting[n].m) || f.limits.Alone(f.waiting[0].m))) {
			break
		}
		n++
	}
	if n == 0 {
		f.writers--
		return nil
	}
	batch := f.waiting[:n:n]
	f.waiting = append([]*delivery(nil), f.waiting[n:]...)
	return batch
}

// Then is a function that gives the output of first to second.
func Then(first, second Function) Function { return sequence{first, second} }

type sequence struct{ first, second Function }

func (s sequence) Open(ctx context.Context) error {
	if err := s.first.Open(ctx); err != nil {
		return err
	}
	if err := s.second.Open(ctx); err != nil {
		return errors.Join(err, s.first.Close(ctx))
	}
	return nil
}

func (s sequence) Close(ctx context.Context) error {
	return errors.Join(s.first.Close(ctx), s.second.Close(ctx))
}

// Effect is the more serious one; a transaction's effect is less than one elsewhere.
func (s sequence) Effect() Effect {
	switch a, b := s.first.Effect(), s.second.Effect(); {
	case a == Elsewhere || b == Elsewhere:
		return Elsewhere
	case a == InTransaction || b == InTransaction:
		return InTransaction
	}
	return None
}

func (s sequence) Invoke(ctx context.Context, c Call) (Answer, error) {
	a, err := s.first.Invoke(ctx, c)
	if err != nil {
		return a, err
	}
	c.Input = a.Output
	return s.second.Invoke(ctx, c)
}
