package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/retry"
)

// A pipeline is patient when nothing it reads is ever given up: its source delivers again,
// and its policy limits the attempts of no kind of failure. Its target may then be down for
// any length of time:
//
//   - While a target takes nothing, its writers hold one pause together, so that it is not
//     asked once for each message. What they hold is leased, and goes back when the
//     pipeline stops. Where the target has groups of messages, each group has a pause, and
//     its messages go back to the queue at once: the writers are for the other groups.
//   - A target that cannot be opened is one that cannot be written to: each message goes back
//     to the queue with the reason.

// patient reports whether nothing is ever given up.
func (p *Pipeline) patient() bool {
	r := &p.parts.Retry
	return redelivers(p.parts.Source) && r.Transient.MaxAttempts == 0 && r.Throttle.MaxAttempts == 0 && r.Setup.MaxAttempts == 0
}

func redelivers(s connector.Source) bool {
	r, ok := s.(connector.Redeliverer)
	return ok && r.Redelivers()
}

// Trouble is why a target of a patient pipeline takes nothing, nil when all take something.
func (p *Pipeline) Trouble() error {
	p.mu.Lock()
	all := p.pauses
	p.mu.Unlock()
	for _, x := range all {
		if err := x.trouble(); err != nil {
			return err
		}
	}
	return nil
}

// pauses holds one pause for all writers of a target that takes nothing; one for each group
// of messages, where the target has groups.
type pauses struct {
	policy  retry.Policy
	group   func(*event.Message) string // nil: all messages are one group
	stopped <-chan struct{}             // ends every pause

	mu      sync.Mutex
	byGroup map[string]pause // of groups that failed last
}

// pause is how the writes of a group have failed.
type pause struct {
	failures int // in a row
	until    time.Time
	err      error // the last failure
}

// mostPauses is how many groups have a pause of their own; further ones share one.
const mostPauses = 1000

// newPauses makes the pauses of a sink; nil when it has none.
func (p *Pipeline) newPauses(s *sink) *pauses {
	if !s.target || s.split || p.copies || !p.patient() {
		return nil
	}
	x := &pauses{policy: p.parts.Retry, stopped: p.stopped, byGroup: map[string]pause{}}
	if s.limits.Group != nil && !s.limits.Joint {
		x.group = func(m *event.Message) string {
			measured, _ := s.measure(m) // its error is that of the write
			return measured.group
		}
	}
	p.mu.Lock()
	p.pauses = append(p.pauses, x)
	p.mu.Unlock()
	return x
}

func (x *pauses) trouble() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, one := range x.byGroup {
		return one.err
	}
	return nil
}

func (x *pauses) middleware(next connector.Write) connector.Write {
	return func(ctx context.Context, b event.Batch) error {
		group := ""
		if x.group != nil {
			group = x.group(b[0])
		}
		failures, err := x.wait(ctx, group)
		if err != nil {
			return err
		}
		err = next(ctx, b)
		x.note(group, failures, len(b), err)
		return err
	}
}

// key is where the pause of a group is. The lock is held.
func (x *pauses) key(group string) string {
	if _, has := x.byGroup[group]; !has && len(x.byGroup) >= mostPauses {
		return ""
	}
	return group
}

// wait waits for the end of the pause. When the pipeline stops before, or the writer is
// needed elsewhere, the error is that of the write that the pause came after.
func (x *pauses) wait(ctx context.Context, group string) (failures int, err error) {
	for {
		x.mu.Lock()
		now := x.byGroup[x.key(group)]
		x.mu.Unlock()
		rest := time.Until(now.until)
		if rest <= 0 {
			return now.failures, nil
		}
		if x.group != nil {
			return 0, now.err
		}
		t := time.NewTimer(rest)
		select {
		case <-t.C:
		case <-x.stopped:
			t.Stop()
			return 0, now.err
		case <-ctx.Done():
			t.Stop()
			return 0, context.Cause(ctx)
		}
	}
}

// note notes how a write of n messages ended that began after so many failures. Writers that
// fail at the same time are one failure.
func (x *pauses) note(group string, failures, n int, err error) {
	none := nothing(n, err)
	if none && paced(err) {
		return // they wait for their turn, which says nothing of the target
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	group = x.key(group)
	if !none {
		delete(x.byGroup, group)
		return
	}
	now := x.byGroup[group]
	now.err = err
	if now.failures == failures {
		now.failures++
		now.until = time.Now().Add(x.policy.Delay(fault.Of(err), now.failures, fault.After(err)))
	}
	x.byGroup[group] = now
}

// nothing reports whether a write of n messages ended without a decision for any of them.
func nothing(n int, err error) bool {
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

// paced reports whether all messages that a write did not deliver wait for their turn.
func paced(err error) bool {
	partial, ok := errors.AsType[*connector.Partial](err)
	if !ok {
		return fault.Paced(err)
	}
	for _, e := range partial.Failed {
		if !fault.Paced(e) {
			return false
		}
	}
	return true
}

// unopened is a target of a patient pipeline that could not be opened yet: each write tries
// again first.
type unopened struct {
	what   string
	target interface{ Open(context.Context) error }
	mu     sync.Mutex
	open   bool
}

func (u *unopened) middleware(next connector.Write) connector.Write {
	return func(ctx context.Context, b event.Batch) error {
		if err := u.ready(ctx); err != nil {
			return err
		}
		return next(ctx, b)
	}
}

func (u *unopened) ready(ctx context.Context) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.open {
		return nil
	}
	if err := guard(func() error { return u.target.Open(ctx) }); err != nil {
		if fault.Of(err) == fault.Invalid { // it says nothing of the messages
			err = fault.New(fault.Setup, err)
		}
		return fmt.Errorf("open the %s: %w", u.what, err)
	}
	u.open = true
	return nil
}
