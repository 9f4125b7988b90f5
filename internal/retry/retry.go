// Package retry is the policy for writes that fail: which errors are tried again, how
// often and how long apart, as middleware around a target's Write.
//
// The class of a failure is decided anew at every attempt from the error's fault kind:
//
//	transient, throttled, setup   tried again after that class's delay, which doubles
//	invalid                       never: that message is reported at once
//	fatal                         never: the pipeline stops
//
// A message that waits for its turn (fault.Paced) is written again when that has come, and not
// counted: the other side takes messages, and nobody is told of a failure.
//
// A message for which the other side has no room (fault.Full) is written again at a steady pace and
// not counted either, however long that lasts: it says nothing of the message.
//
// Only the messages that failed are written again. max_attempts counts writes, the first
// included; 0 means without end. Each message counts its own attempts in each class, so
// that one that gives up takes no other with it. Every wait ends at once when the context
// does.
package retry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// Class is the policy for one kind of failure.
type Class struct {
	Delay           time.Duration // before the second attempt; doubles for each further one
	MaxAttempts     int           // writes in this class, the first included; 0: no limit
	MaxDelay        time.Duration // bounds the doubling, and what the other side may ask for; zero: 5 minutes, or Delay if longer
	InvalidAfterMax bool          // then to the failure target, instead of stopping the pipeline
	// GiveUpAfter, where a queue holds the message, keeps it from being given up before it
	// is this old, however many attempts it has had; zero: attempts alone decide.
	GiveUpAfter time.Duration
	// TryFor, where a queue holds it, keeps it from being given up before it has been tried
	// for this long, by the delays between its attempts: how long it lay there before the first
	// does not count. Zero: any number of attempts will do.
	TryFor time.Duration
}

// Exhausted reports whether a message that a queue holds is to be given up after a number
// of attempts, at its age.
func (c Class) Exhausted(attempts int, age time.Duration) bool {
	return c.MaxAttempts > 0 && attempts >= c.MaxAttempts && age >= max(c.GiveUpAfter, c.TryFor) && c.tried(attempts)
}

// tried reports whether so many attempts have taken TryFor: those between them are at least
// the delays of the class.
func (c Class) tried(attempts int) bool {
	took := time.Duration(0)
	for n := 1; n < attempts && took < c.TryFor; n++ {
		d := c.delay(n, 0)
		if d == c.delay(n+1, 0) { // and so are all that follow
			if d <= 0 {
				return true // they say nothing of the time: the age does
			}
			return (c.TryFor-took-1)/d < time.Duration(attempts-n)
		}
		took += d
	}
	return took >= c.TryFor
}

// delay is the wait after attempt n of the class, from 1.
func (c Class) delay(n int, asked time.Duration) time.Duration {
	limit, d := c.MaxDelay, max(c.Delay, 0)
	if limit <= 0 {
		limit = max(5*time.Minute, d)
	}
	for i := 1; i < n && d > 0 && d < limit; i++ {
		d = min(d, limit-d) + d // twice d, but not beyond the limit
	}
	return min(max(d, asked), limit)
}

// Policy is the policy for all kinds of failure.
type Policy struct {
	Transient, Throttle, Setup Class
	// Jitter is the largest random addition to a delay, so that instances do not retry in step.
	Jitter time.Duration
	// Notify, if set, is told of every failed attempt before the wait, and once with a
	// nil error when a write succeeds after failures.
	Notify func(Attempt)
	// Back, if set, chooses the failures of messages that are reported at once instead of
	// written again: their sender waits, and sends them again.
	Back func(error) bool
}

// fullDelay is how long to wait for room that the other side does not have, where that has not
// said it.
const fullDelay = 5 * time.Second

// Attempt is one failed write.
type Attempt struct {
	Kind     fault.Kind
	Err      error // nil: healthy again
	Number   int   // of this class, from 1
	Delay    time.Duration
	Messages int
	Left     event.Batch // the messages
}

// Default is Snowbridge's policy, with max_attempts counting attempts.
func Default() Policy {
	return Policy{
		Transient: Class{Delay: time.Second, MaxAttempts: 5},
		Throttle:  Class{Delay: 10 * time.Second, MaxAttempts: 5},
		Setup:     Class{Delay: 20 * time.Second, MaxAttempts: 5},
		Jitter:    100 * time.Millisecond,
	}
}

// Exhausted is the error of a message whose class ran out of attempts.
type Exhausted struct {
	Kind     fault.Kind
	Attempts int
	Err      error
}

func (e *Exhausted) Error() string {
	return fmt.Sprintf("gave up after %d attempts (%s): %v", e.Attempts, e.Kind, e.Err)
}
func (e *Exhausted) Unwrap() error { return e.Err }

// Class is the policy for failures of a kind.
func (p *Policy) Class(k fault.Kind) Class { return *p.class(k) }

func (p *Policy) class(k fault.Kind) *Class {
	switch k {
	case fault.Setup:
		return &p.Setup
	case fault.Throttled:
		return &p.Throttle
	}
	return &p.Transient
}

// Delay is the wait after failed attempt n (from 1) of a class, without jitter; asked is
// what the other side asked for.
func (p *Policy) Delay(k fault.Kind, n int, asked time.Duration) time.Duration {
	return p.class(k).delay(n, asked)
}

// Jittered is d plus a random part of the jitter.
func (p *Policy) Jittered(d time.Duration) time.Duration {
	if p.Jitter > 0 {
		d += rand.N(p.Jitter)
	}
	return d
}

// Wait sleeps for d plus jitter, or until ctx ends; then it returns the context's cause.
func (p *Policy) Wait(ctx context.Context, d time.Duration) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	t := time.NewTimer(p.Jittered(d))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Middleware retries failed writes by the policy. The error it returns is nil or a
// *connector.Partial with the final error of each message that was not written.
func (p Policy) Middleware() connector.Middleware {
	return func(next connector.Write) connector.Write {
		return func(ctx context.Context, b event.Batch) error {
			err := next(ctx, b)
			if err == nil {
				return nil
			}
			r := run{policy: &p, next: next, final: map[int]error{}}
			for i, m := range b {
				r.left = append(r.left, pending{m: m, index: i})
			}
			r.retry(ctx, err)
			if len(r.final) == 0 {
				return nil
			}
			return &connector.Partial{Failed: r.final}
		}
	}
}

// run is one batch on its way through the policy.
type run struct {
	policy *Policy
	next   connector.Write
	left   []pending
	final  map[int]error // by index in the original batch
	failed bool          // somebody was told of an attempt
}

// batch is what is left.
func (r *run) batch() event.Batch {
	b := make(event.Batch, len(r.left))
	for i, l := range r.left {
		b[i] = l.m
	}
	return b
}

// Idle is called around a wait of a write in which nothing has failed: what is left waits for
// its turn. Who writes can do something else until wait returns.
type Idle func(left event.Batch, wait func() error) error

type idleKey struct{}

// WithIdle is ctx for a write whose waits for a turn go through around.
func WithIdle(ctx context.Context, around Idle) context.Context {
	return context.WithValue(ctx, idleKey{}, around)
}

// pending is a message that is not written yet.
type pending struct {
	m        *event.Message
	index    int // in the original batch
	err      error
	attempts [fault.Setup + 1]int // failed so far, by class
}

// retry writes what is left until nothing is. err is the outcome of the first write.
func (r *run) retry(ctx context.Context, err error) {
	for {
		a := r.sort(err)
		if len(r.left) == 0 {
			return
		}
		wait := func() error { return r.policy.Wait(ctx, a.Delay) }
		if a.Err != nil {
			r.failed = true
			a.Left = r.batch()
			r.notify(a)
		} else if idle, ok := ctx.Value(idleKey{}).(Idle); ok {
			paced, left := wait, r.batch()
			wait = func() error { return idle(left, paced) }
		}
		if stop := wait(); stop != nil {
			for _, l := range r.left {
				r.final[l.index] = fmt.Errorf("%w while waiting to retry: %w", stop, l.err)
			}
			return
		}
		b := r.batch()
		if err = r.next(ctx, b); err == nil {
			if r.failed {
				r.notify(Attempt{Messages: len(b), Left: b})
			}
			return
		}
	}
}

func (r *run) notify(a Attempt) {
	if r.policy.Notify != nil {
		r.policy.Notify(a)
	}
}

// sort takes the outcome of one write of r.left apart: messages that are written, refused
// or out of attempts leave, the others stay. It returns the attempt as the most patient
// class among those that stay sees it; the delay is the longest that any of them needs. When
// all that stay wait for their turn, it has no error.
func (r *run) sort(err error) (a Attempt) {
	var partial *connector.Partial
	isPartial := errors.As(err, &partial)
	kept := r.left[:0]
	for i, l := range r.left {
		l.err = err
		if isPartial {
			if l.err = partial.Failed[i]; l.err == nil {
				continue
			}
		}
		k := fault.Of(l.err)
		if k == fault.Invalid || k == fault.Fatal || r.policy.Back != nil && r.policy.Back(l.err) {
			r.final[l.index] = l.err
			continue
		}
		if fault.Full(l.err) {
			kept = append(kept, l)
			a.Delay = max(a.Delay, cmp.Or(fault.After(l.err), fullDelay))
			if a.Err == nil {
				a.Kind, a.Err, a.Number = k, l.err, 1
			}
			continue
		}
		if fault.Paced(l.err) {
			kept = append(kept, l)
			a.Delay = max(a.Delay, fault.After(l.err))
			continue
		}
		l.attempts[k]++
		n, class := l.attempts[k], r.policy.class(k)
		if class.MaxAttempts > 0 && n >= class.MaxAttempts {
			r.final[l.index] = exhausted(k, n, l.err, class.InvalidAfterMax)
			continue
		}
		kept = append(kept, l)
		a.Delay = max(a.Delay, r.policy.Delay(k, n, fault.After(l.err)))
		if a.Err == nil || patience(k) > patience(a.Kind) || (k == a.Kind && n > a.Number) {
			a.Kind, a.Err, a.Number = k, l.err, n
		}
	}
	clear(r.left[len(kept):])
	r.left, a.Messages = kept, len(kept)
	return a
}

// patience orders the retried classes.
func patience(k fault.Kind) int {
	switch k {
	case fault.Setup:
		return 2
	case fault.Throttled:
		return 1
	}
	return 0
}

// exhausted is the final error of a message whose class ran out of attempts.
func exhausted(k fault.Kind, n int, err error, invalid bool) error {
	var out error = &Exhausted{Kind: k, Attempts: n, Err: err}
	if invalid {
		return fault.Describe(fault.Invalid, out, fault.DetailOf(err))
	}
	return out
}

// Do calls f until it succeeds or fails with something other than a transient or
// throttled error, or the class gives up; for opening connections.
func (p *Policy) Do(ctx context.Context, f func(context.Context) error) error {
	for n := 1; ; n++ {
		err := f(ctx)
		k := fault.Of(err)
		if err == nil || (k != fault.Transient && k != fault.Throttled) {
			return err
		}
		if limit := p.class(k).MaxAttempts; limit > 0 && n >= limit {
			return &Exhausted{Kind: k, Attempts: n, Err: err}
		}
		delay := p.Delay(k, n, fault.After(err))
		if p.Notify != nil {
			p.Notify(Attempt{Kind: k, Err: err, Number: n, Delay: delay})
		}
		if stop := p.Wait(ctx, delay); stop != nil {
			return fmt.Errorf("%w while waiting to retry: %w", stop, err)
		}
	}
}
