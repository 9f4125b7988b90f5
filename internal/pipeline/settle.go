package pipeline

import (
	"context"
	"errors"
	"fmt"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/retry"
)

// settle decides what became of a batch from the error its write ended with.
func (s *sink) settle(ctx context.Context, policy retry.Policy, b event.Batch, err error) {
	if err == nil {
		s.written(int64(len(b)), int64(b.Bytes()))
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
	for i, m := range b {
		e := err
		if isPartial {
			e = partial.Failed[i]
		}
		if e != nil {
			refused = s.undelivered(ctx, policy, m, e, refused)
			continue
		}
		count++
		bytes += int64(len(m.Data))
		event.Settle(m, nil)
	}
	s.p.bury(refused)
	s.written(count, bytes)
}

// written counts what is durable.
func (s *sink) written(messages, bytes int64) {
	for _, m := range s.meters {
		m.Written.Add(messages)
		m.WrittenBytes.Add(bytes)
	}
}

// undelivered is the end of a message that could not be written: to the failure target, by
// being appended to refused, when it is invalid; back to the source otherwise (invariant 2).
func (s *sink) undelivered(ctx context.Context, policy retry.Policy, m *event.Message, err error, refused []Failure) []Failure {
	p := s.p
	switch {
	case ctx.Err() != nil:
		p.abandon(event.Batch{m}, fmt.Errorf("%w: %w", context.Cause(ctx), err))
	case p.redelivers && fault.Of(err) != fault.Fatal && (s == p.sinks.failure || fault.Of(err) != fault.Invalid):
		return p.redeliver(s, policy, m, err, refused)
	case p.refuses() && fault.Full(err):
		event.Settle(m, err)
	case s == p.sinks.failure:
		event.Settle(m, err)
		p.fail(fmt.Errorf("write to the failure target: %w", err))
	case fault.Of(err) == fault.Invalid:
		return append(refused, p.reject(m, err))
	default:
		event.Settle(m, err)
		p.fail(fmt.Errorf("write to the %s: %w", s.meter.Role, err))
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
	if s == p.sinks.failure {
		spoil(m)
		event.Settle(m, fmt.Errorf("the failure payload of %d bytes is larger than the failure target takes (%d)", len(m.Data), s.limits.MaxMessageBytes))
		p.fail(fmt.Errorf("the failure target takes at most %d bytes and a failure payload has %d: raise its batching.max_message_bytes", s.limits.MaxMessageBytes, len(m.Data)))
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
	return append(refused, Failure{Message: m, Oversized: true, Limit: most, Cause: cause})
}

// bury formats failures and hands them to the failure target's sink, all at once, or keeps
// them where they come from.
func (p *Pipeline) bury(fs []Failure) {
	if len(fs) == 0 {
		return
	}
	if p.keeps {
		p.keep(fs)
		return
	}
	b := make(event.Batch, 0, len(fs))
	for _, f := range fs {
		var payload []byte
		err := guard(func() (err error) {
			payload, err = p.sinks.failure.fitting(f)
			return err
		})
		if err != nil {
			event.Settle(f.Message, fmt.Errorf("%w; its failure payload: %w", f.Cause, err))
			p.fail(fmt.Errorf("make a failure payload: %w", err))
			continue
		}
		f.Message.Replace(payload)
		b = append(b, f.Message)
	}
	p.sinks.failure.put(nil, b)
}
