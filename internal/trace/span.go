package trace

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	otel "go.opentelemetry.io/otel/trace"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// Outcome is what became of a message.
type Outcome string

// The outcomes. Of a message that was split, the worst of its pieces counts.
const (
	Delivered Outcome = "delivered" // durable at the target
	Filtered  Outcome = "filtered"  // dropped on purpose by a transform
	Invalid   Outcome = "invalid"   // refused; at the failure target
	Oversized Outcome = "oversized" // larger than the target takes; at the failure target
	Retried   Outcome = "retried"   // back in its queue, for another attempt
	Dead      Outcome = "dead"      // given up by its queue
	Unsettled Outcome = "unsettled" // given back to the source, because the pipeline stopped
	Failed    Outcome = "failed"    // the pipeline ended with its error
)

// What has been noted of a message, from good to bad.
const (
	notedFiltered = 1 << iota
	notedDelivered
	notedOversized
	notedInvalid
)

// Span is the journey of one sampled message through one pipeline. Its methods may be
// called from several goroutines, and on nil, which is a message that is not sampled.
type Span struct {
	tracer      otel.Tracer
	span        otel.Span
	pipeline    string
	traceparent string
	tracestate  string
	before      int // attempts that earlier deliveries of the message had

	noted atomic.Uint32
	last  atomic.Int64 // when the last piece of it was written, Unix nanoseconds
	ended atomic.Bool

	mu     sync.Mutex
	writes map[string]int // attempts to write it, by role
}

func (s *Span) note(what uint32) { s.noted.Or(what) }

// attempt counts an attempt to write the message to the target with a role.
func (s *Span) attempt(role string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writes == nil {
		s.writes = map[string]int{}
	}
	s.writes[role]++
	return s.before + s.writes[role]
}

// Transform is what one transform did to a message.
type Transform struct {
	Name       string
	Position   int // in the chain, from 0
	Begin, End time.Time
	// Pieces is how many messages it made of the message.
	Pieces int
	Err    error
}

// Transformed adds a span for a transform.
func (s *Span) Transformed(t Transform) {
	if s == nil {
		return
	}
	_, span := s.tracer.Start(otel.ContextWithSpan(context.Background(), s.span), "transform "+t.Name, otel.WithTimestamp(t.Begin), otel.WithAttributes(
		keyPipeline.String(s.pipeline), keyTransform.String(t.Name), keyPosition.Int(t.Position), keyPieces.Int(t.Pieces)))
	fail(span, t.Err)
	span.End(otel.WithTimestamp(t.End))
}

// Filtered notes that a transform dropped the message, or a piece of it.
func (s *Span) Filtered() {
	if s != nil {
		s.note(notedFiltered)
	}
}

// Refused notes that the message, or a piece of it, goes to the failure target.
func (s *Span) Refused(cause error, oversized bool) {
	if s == nil {
		return
	}
	what, name := uint32(notedInvalid), Invalid
	if oversized {
		what, name = notedOversized, Oversized
	}
	s.note(what)
	s.span.AddEvent(string(name), otel.WithAttributes(describeError(cause)...))
}

// End ends the span, once. err is why the message was not handled, and outcome what became
// of it then; both are left out when it was.
func (s *Span) End(err error, outcome Outcome) {
	if s == nil || s.ended.Swap(true) {
		return
	}
	noted, at := s.noted.Load(), time.Now()
	if err == nil {
		if last := s.last.Load(); last > 0 {
			at = time.Unix(0, last)
		}
		outcome = Delivered
		switch {
		case noted&notedInvalid != 0:
			outcome = Invalid
		case noted&notedOversized != 0:
			outcome = Oversized
		case noted&notedDelivered == 0 && noted&notedFiltered != 0:
			outcome = Filtered
		}
	}
	s.span.SetAttributes(keyOutcome.String(string(outcome)))
	switch {
	case err != nil && outcome == Unsettled:
		s.span.SetStatus(codes.Error, "the pipeline stopped before the message was handled")
	case err != nil:
		fail(s.span, err)
	case outcome == Invalid || outcome == Oversized:
		s.span.SetStatus(codes.Error, string(outcome)+": at the failure target")
	}
	s.span.End(otel.WithTimestamp(at))
}

// Write describes one attempt to write a batch.
type Write struct {
	Pipeline string
	Role     string // of the target in the pipeline, as in metrics
	Target   string // the name of the connector
	// Delivers is set for targets proper, and not for those of filtered and failed messages.
	Delivers bool
	Batch    event.Batch
}

// Attempt is an attempt to write that goes on.
type Attempt struct {
	span     otel.Span
	spans    []*Span
	delivers bool
}

// BeginWrite begins the span of an attempt to write. spans are those of the batch's sampled
// messages, at least one. The context is what the target's Write is to be called with.
func (t *Tracer) BeginWrite(ctx context.Context, w Write, spans []*Span) (context.Context, *Attempt) {
	attempt := 0
	one := true
	first := spans[0].span.SpanContext()
	distinct := make([]*Span, 0, len(spans)) // the pieces of a message share its span
	seen := make(map[*Span]bool, len(spans))
	for _, s := range spans {
		if seen[s] {
			continue
		}
		seen[s] = true
		distinct = append(distinct, s)
		attempt = max(attempt, s.attempt(w.Role))
		one = one && s.span.SpanContext().TraceID() == first.TraceID()
	}
	name := w.Target
	if name == "" {
		name = w.Role
	}
	options := []otel.SpanStartOption{otel.WithSpanKind(otel.SpanKindClient), otel.WithAttributes(
		keyPipeline.String(w.Pipeline), keyRole.String(w.Role), keyTarget.String(name), keyOperation.String("send"),
		keyMessages.Int(len(w.Batch)), keySampled.Int(len(spans)), keyBatchBytes.Int(w.Batch.Bytes()), keyAttempt.Int(attempt))}
	parent := otel.SpanContext{}
	if one && len(w.Batch) == len(spans) {
		parent = first
	}
	links := distinct[:min(len(distinct), MaxLinks)]
	if parent.IsValid() && len(distinct) == 1 {
		links = nil // the parent says it
	}
	if len(links) > 0 {
		all := make([]otel.Link, len(links))
		for i, s := range links {
			all[i].SpanContext = s.span.SpanContext()
		}
		options = append(options, otel.WithLinks(all...))
	}
	ctx, span := t.tracer.Start(otel.ContextWithSpanContext(ctx, parent), "write "+name, options...)
	for i, s := range distinct {
		if i > 0 || !parent.IsValid() {
			s.span.AddLink(otel.Link{SpanContext: span.SpanContext()})
		}
	}
	return ctx, &Attempt{span: span, spans: spans, delivers: w.Delivers}
}

// End ends the attempt. err is what it came to as a whole, failed how many messages of the
// batch it failed for, and delivered tells whether it wrote the message of the i-th span.
func (a *Attempt) End(err error, failed int, delivered func(i int) bool) {
	if a == nil {
		return
	}
	now := time.Now()
	for i, s := range a.spans {
		if !delivered(i) {
			continue
		}
		s.last.Store(now.UnixNano())
		if a.delivers {
			s.note(notedDelivered)
		}
	}
	if err != nil {
		a.span.SetAttributes(keyFailed.Int(failed))
		fail(a.span, err)
	}
	a.span.End(otel.WithTimestamp(now))
}

// fail gives a span the status of err: its kind, and what may be shown of it.
func fail(span otel.Span, err error) {
	if err == nil {
		return
	}
	span.SetAttributes(describeError(err)...)
	text := fault.DetailOf(err).Safe
	if text == "" {
		text = fault.Of(err).String() + " error"
	}
	span.SetStatus(codes.Error, text[:min(len(text), maxText)])
}

// describeError is what may be shown of err.
func describeError(err error) []attribute.KeyValue {
	d := fault.DetailOf(err)
	out := []attribute.KeyValue{keyErrorType.String(fault.Of(err).String())}
	if d.Type != "" {
		out = append(out, keyErrorPlace.String(d.Type))
	}
	if d.Code != "" {
		out = append(out, keyErrorCode.String(d.Code))
	}
	return out
}
