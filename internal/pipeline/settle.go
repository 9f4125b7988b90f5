package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/retry"
)

// settle decides what became of a batch from the error its write ended with.
func (s *sink) settle(ctx context.Context, policy retry.Policy, b event.Batch, err error) {
	if err == nil {
		kept := s.leftOut(b)
		s.written(int64(len(kept)), int64(kept.Bytes()))
		s.well(b, nil)
		for _, m := range b {
			event.Settle(m, nil) // invariant 1
		}
		return
	}
	var partial *connector.Partial
	isPartial := errors.As(err, &partial)
	count, bytes := int64(0), int64(0)
	if isPartial {
		s.well(b, partial.Failed)
	}
	var refused []Failure
	var out event.Batch
	for i, m := range b {
		e := err
		if isPartial {
			e = partial.Failed[i]
		}
		if e != nil {
			refused = s.undelivered(ctx, policy, m, e, refused)
			continue
		}
		if s.target && m.Dropped() != "" {
			out = append(out, m)
		} else {
			count++
			bytes += int64(len(m.Data))
		}
		event.Settle(m, nil)
	}
	if len(out) > 0 {
		s.p.countFiltered(out)
	}
	s.noteRefused(refused)
	s.p.bury(refused)
	s.written(count, bytes)
}

// leftOut counts the messages of b that the target has left out, saying why ([event.Message.Drop]),
// and returns the others.
func (s *sink) leftOut(b event.Batch) event.Batch {
	out := func(m *event.Message) bool { return m.Dropped() != "" }
	if !s.target || !slices.ContainsFunc(b, out) {
		return b
	}
	kept := slices.DeleteFunc(slices.Clone(b), out)
	s.p.countFiltered(slices.DeleteFunc(slices.Clone(b), func(m *event.Message) bool { return !out(m) }))
	return kept
}

// written counts what is durable.
func (s *sink) written(messages, bytes int64) {
	for _, m := range s.meters {
		m.Wrote(messages, bytes)
	}
}

// undelivered is the end of a message that could not be written: to the failure target, by
// being appended to refused, when it is invalid; back to the source otherwise (invariant 2).
func (s *sink) undelivered(ctx context.Context, policy retry.Policy, m *event.Message, err error, refused []Failure) []Failure {
	p := s.p
	switch {
	case ctx.Err() != nil:
		p.abandon(event.Batch{m}, fmt.Errorf("%w: %w", context.Cause(ctx), err))
	case p.redelivers && fault.Of(err) != fault.Fatal && (s.failures || fault.Of(err) != fault.Invalid):
		return p.redeliver(s, policy, m, err, refused)
	case p.refuses() && fault.Full(err):
		event.Settle(m, err)
	case fault.Of(err) == fault.Invalid && p.refuge(s, m, err):
	case s.failures:
		event.Settle(m, err)
		p.fail(fmt.Errorf("write to the %s: %w", s.called(), err))
	case fault.Of(err) == fault.Invalid:
		f := p.reject(m, err)
		f.ofBackup = s.backup
		return append(refused, f)
	default:
		why := fmt.Errorf("write to the %s: %w", s.meter.Role, err)
		if d := fault.DetailOf(err); d.Fix != "" {
			why = fmt.Errorf("%w; the message: %s; %s", why, m.Where(), d.Fix)
		}
		event.Settle(m, err)
		p.fail(why)
	}
	return refused
}

// reject makes a failure of a message that can never be delivered.
func (p *Pipeline) reject(m *event.Message, cause error) Failure {
	p.parts.Meter.Invalid.Add(1)
	p.parts.Meter.Watch.Invalid(cause)
	p.traceRefused(m, cause, false)
	return Failure{Message: m, Cause: cause, Limit: p.sinks.targets[0].limits.MaxMessageBytes}
}

// oversized makes a failure of a message that is larger than the target takes, and appends
// it to refused.
func (s *sink) oversized(m *event.Message, refused []Failure) []Failure {
	p := s.p
	if s.failures {
		err := fmt.Errorf("the %s takes at most %d bytes and a failure payload has %d: raise its batching.max_message_bytes", s.called(), s.limits.MaxMessageBytes, len(m.Data))
		if p.refuge(s, m, err) {
			return refused
		}
		spoil(m)
		event.Settle(m, err)
		p.fail(err)
		return refused
	}
	p.parts.Meter.Oversized.Add(1)
	p.parts.Meter.Watch.Oversized()
	// The largest payload is less than the limit where the target counts more than payloads.
	most := s.limits.MaxMessageBytes
	if x, err := s.measure(m); err == nil {
		most = max(most-(x.size-len(m.Data)), 0)
	}
	cause := fmt.Errorf("payload of %d bytes is larger than the %s takes (%d)", len(m.Data), s.meter.Role, most)
	p.traceRefused(m, fault.New(fault.Invalid, cause), true)
	return append(refused, Failure{Message: m, Oversized: true, Limit: most, Cause: cause, ofBackup: s.backup})
}

// called is what errors call the sink of failures.
func (s *sink) called() string {
	if s == s.p.sinks.overflow {
		return "queue that keeps failures whole"
	}
	return "failure target"
}
