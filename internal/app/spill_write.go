package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/pipeline"
	"github.com/weirdata/weir/internal/retry"
)

// pace holds one pause for all writers of a target that takes nothing.
type pace struct {
	policy  retry.Policy
	stopped chan struct{}
	once    sync.Once

	mu       sync.Mutex
	failures int // in a row
	until    time.Time
	err      error // the last failure; nil when the last write was none
}

func newPace(p retry.Policy) *pace { return &pace{policy: p, stopped: make(chan struct{})} }

func (p *pace) stop() { p.once.Do(func() { close(p.stopped) }) }

// reason is why nothing is taken, for an error.
func (p *pace) reason() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		return ""
	}
	return fmt.Sprintf(" (%v)", p.err)
}

func (p *pace) middleware(next connector.Write) connector.Write {
	return func(ctx context.Context, b event.Batch) error {
		failures, err := p.wait(ctx)
		if err != nil {
			return err
		}
		err = next(ctx, b)
		p.note(failures, len(b), err)
		return err
	}
}

// wait waits for the end of the pause. When the pipeline stops before, the error is that
// of the write that the pause came after.
func (p *pace) wait(ctx context.Context) (failures int, err error) {
	for {
		p.mu.Lock()
		rest := time.Until(p.until)
		failures, err = p.failures, p.err
		p.mu.Unlock()
		if rest <= 0 {
			return failures, nil
		}
		t := time.NewTimer(rest)
		select {
		case <-t.C:
		case <-p.stopped:
			t.Stop()
			return 0, err
		case <-ctx.Done():
			t.Stop()
			return 0, context.Cause(ctx)
		}
	}
}

// note notes how a write of n messages ended that began after so many failures. Writers
// that fail at the same time are one failure.
func (p *pace) note(failures, n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !none(n, err) {
		p.failures, p.until, p.err = 0, time.Time{}, nil
		return
	}
	p.err = err
	if p.failures != failures {
		return
	}
	p.failures++
	p.until = time.Now().Add(p.policy.Delay(fault.Of(err), p.failures, fault.After(err)))
}

// none reports whether a write of n messages ended without a decision for any of them.
func none(n int, err error) bool {
	if err == nil {
		return false
	}
	partial, ok := errors.AsType[*connector.Partial](err)
	if !ok {
		return fault.Of(err) != fault.Invalid
	}
	undecided := 0
	for _, e := range partial.Failed {
		if fault.Of(e) != fault.Invalid {
			undecided++
		}
	}
	return undecided == n
}

// lateTarget opens its target at the first write, so that one that cannot be opened is one
// that cannot be written to.
type lateTarget struct {
	connector.Target
	mu   sync.Mutex
	open bool
}

func (t *lateTarget) Open(context.Context) error { return nil }

func (t *lateTarget) Write(ctx context.Context, b event.Batch) error {
	if err := t.ready(ctx); err != nil {
		return err
	}
	return t.Target.Write(ctx, b)
}

func (t *lateTarget) ready(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open {
		return nil
	}
	if err := t.Target.Open(ctx); err != nil {
		if fault.Of(err) == fault.Invalid { // it says nothing of the messages
			err = fault.New(fault.Setup, err)
		}
		return fmt.Errorf("open the failure target: %w", err)
	}
	t.open = true
	return nil
}

// refusal is the end of failures that the failure target refuses: they are dead in their
// queue, whole, with the reason, until somebody decides. What it is given is the reason.
type refusal struct {
	log   *slog.Logger
	queue string
}

func (refusal) Open(context.Context) error  { return nil }
func (refusal) Close(context.Context) error { return nil }

func (r refusal) Write(_ context.Context, b event.Batch) error {
	failed := make(map[int]error, len(b))
	for i, m := range b {
		failed[i] = fault.New(fault.Invalid, errors.New(string(m.Data)))
		r.log.Error("the failure target refuses a failed message; it is kept, dead, in its queue", "queue", r.queue, meter.KeyError, string(m.Data))
	}
	return &connector.Partial{Failed: failed}
}

// refusalFormat is the reason as a payload.
type refusalFormat struct{}

func (refusalFormat) Format(f pipeline.Failure, _ int) ([]byte, error) {
	return []byte(f.Cause.Error()), nil
}
