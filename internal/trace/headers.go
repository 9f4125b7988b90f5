package trace

import (
	"context"
	"net/http"
	"strings"

	otel "go.opentelemetry.io/otel/trace"

	"github.com/weirdata/weir/internal/event"
)

// The headers that carry a trace context.
const (
	Traceparent = "traceparent"
	Tracestate  = "tracestate"
)

const (
	// maxTracestate is the longest tracestate that is passed on, in bytes. The
	// recommendation asks for at least 512.
	maxTracestate = 1024
	// maxStamped is how many bytes of headers a message may have to be given two more. It
	// is far below what a queue takes, so that no message becomes too large by being traced.
	maxStamped = 512 << 10
)

// parse reads a traceparent. A version that is not known yet is read as this one, and may
// go on after its flags.
func parse(text string) (c otel.SpanContext, ok bool) {
	const size = 2 + 1 + 32 + 1 + 16 + 1 + 2
	text = strings.Trim(text, " \t")
	if len(text) < size || text[2] != '-' || text[35] != '-' || text[52] != '-' || len(text) > size && text[size] != '-' {
		return c, false
	}
	var version, flags [1]byte
	var id otel.TraceID
	var parent otel.SpanID
	if !unhex(version[:], text[:2]) || !unhex(id[:], text[3:35]) || !unhex(parent[:], text[36:52]) || !unhex(flags[:], text[53:55]) {
		return c, false
	}
	if version[0] == 0xff || version[0] == 0 && len(text) > size || !id.IsValid() || !parent.IsValid() {
		return c, false
	}
	return otel.NewSpanContext(otel.SpanContextConfig{TraceID: id, SpanID: parent, TraceFlags: otel.TraceFlags(flags[0]), Remote: true}), true
}

// unhex decodes lower-case hex digits.
func unhex(into []byte, text string) bool {
	digit := func(c byte) byte {
		switch {
		case c-'0' <= 9:
			return c - '0'
		case c-'a' <= 5:
			return c - 'a' + 10
		}
		return 0xff
	}
	for i := range into {
		high, low := digit(text[2*i]), digit(text[2*i+1])
		if high == 0xff || low == 0xff {
			return false
		}
		into[i] = high<<4 | low
	}
	return true
}

// withState adds the tracestate of h to c. One that is malformed is left out, as the
// recommendation says.
func withState(c otel.SpanContext, h event.Headers) otel.SpanContext {
	text := h.Fold(Tracestate)
	if text == nil || len(text.Value) > maxTracestate {
		return c
	}
	state, err := otel.ParseTraceState(string(text.Value))
	if err != nil {
		return c
	}
	return c.WithTraceState(state)
}

// text is c as the two headers say it.
func text(c otel.SpanContext) (traceparent, tracestate string) {
	return "00-" + c.TraceID().String() + "-" + c.SpanID().String() + "-" + c.TraceFlags().String(), c.TraceState().String()
}

// Stamp gives m the context of s in its headers, in place of the one it came with.
func (s *Span) Stamp(m *event.Message) {
	if s == nil || m.Meta.Headers.Text(Traceparent) == s.traceparent {
		return
	}
	h := others(m.Meta.Headers)
	if h.Size() > maxStamped {
		return
	}
	h = append(h, event.Header{Name: Traceparent, Value: []byte(s.traceparent)})
	if s.tracestate != "" {
		h = append(h, event.Header{Name: Tracestate, Value: []byte(s.tracestate)})
	}
	m.Meta.Headers = h
}

// others is a copy of h without a trace context, with room for one.
func others(h event.Headers) event.Headers {
	kept := make(event.Headers, 0, len(h)+2)
	for _, x := range h {
		if !strings.EqualFold(x.Name, Traceparent) && !strings.EqualFold(x.Name, Tracestate) {
			kept = append(kept, x)
		}
	}
	return kept
}

// Inject gives a request the trace context it is sent with, unless it has one. ctx is that
// of a target's Write; only is the request's message when it holds no other. A write that
// is not traced changes nothing.
func Inject(ctx context.Context, h http.Header, only *event.Message) {
	c := otel.SpanContextFromContext(ctx)
	if !c.IsValid() || h.Get(Traceparent) != "" {
		return
	}
	traceparent, tracestate := text(c)
	if only != nil {
		// Its own, unless the write is a child of it already.
		if own, ok := parse(only.Meta.Headers.Text(Traceparent)); ok && own.TraceID() != c.TraceID() {
			traceparent, tracestate = only.Meta.Headers.Text(Traceparent), only.Meta.Headers.Text(Tracestate)
		}
	}
	h.Set(Traceparent, traceparent)
	h.Del(Tracestate)
	if tracestate != "" {
		h.Set(Tracestate, tracestate)
	}
}

// Keep is headers with the trace context of a request added, for a [Keeper]. It returns
// headers itself when the request has no context that is well formed.
func Keep(headers event.Headers, from http.Header) event.Headers {
	parents := from["Traceparent"]
	if len(parents) != 1 {
		return headers
	}
	if _, ok := parse(parents[0]); !ok {
		return headers
	}
	kept := append(others(headers), event.Header{Name: Traceparent, Value: []byte(strings.Trim(parents[0], " \t"))})
	if state := strings.Join(from["Tracestate"], ","); state != "" && len(state) <= maxTracestate {
		kept = append(kept, event.Header{Name: Tracestate, Value: []byte(state)})
	}
	return kept
}
