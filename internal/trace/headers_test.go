package trace

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/propagation"
	otel "go.opentelemetry.io/otel/trace"

	"github.com/weirdata/weir/internal/event"
)

const (
	anID     = "4bf92f3577b34da6a3ce929d0e0e4736"
	aParent  = "00f067aa0ba902b7"
	context_ = "00-" + anID + "-" + aParent + "-01"
)

// FuzzParse reads headers as OpenTelemetry's own propagator does.
func FuzzParse(f *testing.F) {
	for _, s := range []string{context_, "00-" + anID + "-" + aParent + "-00", "00-" + anID + "-" + aParent + "-03",
		"01-" + anID + "-" + aParent + "-01-more", "01-" + anID + "-" + aParent + "-01", "ff-" + anID + "-" + aParent + "-01",
		"00-" + anID + "-" + aParent + "-01-more", "00-" + strings.Repeat("0", 32) + "-" + aParent + "-01",
		"00-" + anID + "-" + strings.Repeat("0", 16) + "-01", strings.ToUpper(context_), " " + context_ + "\t", "", "00-", "00-" + anID} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := parse(s)
		if ok != got.IsValid() {
			t.Fatalf("%q: ok is %t, the context %v", s, ok, got)
		}
		trimmed := strings.Trim(s, " \t")
		ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{Traceparent: trimmed})
		want := otel.SpanContextFromContext(ctx)
		if !want.IsValid() {
			// What the propagator refuses and the recommendation does not: nothing.
			if ok && got.TraceFlags() <= 3 && strings.HasPrefix(trimmed, "00-") {
				t.Errorf("%q was read, the propagator refuses it", s)
			}
			return
		}
		if !ok || got.TraceID() != want.TraceID() || got.SpanID() != want.SpanID() || got.IsSampled() != want.IsSampled() {
			t.Errorf("%q: %v, %t; the propagator reads %v", s, got, ok, want)
		}
	})
}

func TestStampReplacesWhateverTheCase(t *testing.T) {
	t.Parallel()
	s := &Span{traceparent: context_, tracestate: "a=b"}
	m := event.New(nil)
	m.Meta.Headers = event.HeadersOf(map[string]string{"Traceparent": "old", "TRACESTATE": "old", "x": "1"})
	before := slices.Clone(m.Meta.Headers)
	shared := m.Meta.Headers
	s.Stamp(m)
	if diff := cmp.Diff(map[string]string{"x": "1", Traceparent: context_, Tracestate: "a=b"}, byName(m.Meta.Headers)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, shared); diff != "" {
		t.Errorf("a list that others may hold was written:\n%s", diff)
	}
	var none *Span
	none.Stamp(m)
	large := event.New(nil)
	large.Meta.Headers = event.HeadersOf(map[string]string{"x": strings.Repeat("x", maxStamped+1)})
	s.Stamp(large)
	if len(large.Meta.Headers) != 1 {
		t.Error("headers near the limit of queues were made larger")
	}
}

func TestKeep(t *testing.T) {
	t.Parallel()
	forwarded := map[string]string{"X": "1", "TraceParent": "other"}
	for _, c := range []struct {
		name string
		from http.Header
		want map[string]string
	}{
		{"none", http.Header{}, forwarded},
		{"malformed", http.Header{"Traceparent": {"x"}}, forwarded},
		{"twice", http.Header{"Traceparent": {context_, context_}}, forwarded},
		{"one", http.Header{"Traceparent": {context_}}, map[string]string{"X": "1", Traceparent: context_}},
		{"states", http.Header{"Traceparent": {context_}, "Tracestate": {"a=1", "b=2"}}, map[string]string{"X": "1", Traceparent: context_, Tracestate: "a=1,b=2"}},
		{"long state", http.Header{"Traceparent": {context_}, "Tracestate": {strings.Repeat("x", maxTracestate+1)}}, map[string]string{"X": "1", Traceparent: context_}},
	} {
		if diff := cmp.Diff(c.want, byName(Keep(event.HeadersOf(forwarded), c.from))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestInject(t *testing.T) {
	t.Parallel()
	write, _ := parse("00-11111111111111111111111111111111-2222222222222222-01")
	const itself = "00-11111111111111111111111111111111-2222222222222222-01"
	traced := otel.ContextWithSpanContext(t.Context(), write)
	own, sibling, none := event.New(nil), event.New(nil), event.New(nil)
	own.Meta.Headers = event.HeadersOf(map[string]string{Traceparent: context_, Tracestate: "a=b"})
	sibling.Meta.Headers = event.HeadersOf(map[string]string{Traceparent: "00-11111111111111111111111111111111-3333333333333333-01"})
	for _, c := range []struct {
		name  string
		ctx   context.Context
		has   http.Header
		only  *event.Message
		want  string
		state string
	}{
		{"not traced", t.Context(), http.Header{}, own, "", ""},
		{"several messages", traced, http.Header{}, nil, itself, ""},
		{"one message of another trace", traced, http.Header{}, own, context_, "a=b"},
		{"one message of the write's trace", traced, http.Header{}, sibling, itself, ""},
		{"one message without a context", traced, http.Header{}, none, itself, ""},
		{"a header of the config", traced, http.Header{"Traceparent": {"mine"}}, own, "mine", ""},
	} {
		Inject(c.ctx, c.has, c.only)
		if got := c.has.Get(Traceparent); got != c.want || c.has.Get(Tracestate) != c.state {
			t.Errorf("%s: %q %q, want %q %q", c.name, got, c.has.Get(Tracestate), c.want, c.state)
		}
	}
}

// TestNotSampledAllocatesNothing: messages without a span cost no memory, with or without
// a context of their own.
func TestNotSampledAllocatesNothing(t *testing.T) {
	tracer := &Tracer{threshold: 1}
	bare, told := event.New(nil), event.New(nil)
	told.Meta.Headers = event.HeadersOf(map[string]string{"other": "x", Traceparent: "00-" + anID + "-" + aParent + "-00"})
	for name, m := range map[string]*event.Message{"bare": bare, "told": told} {
		if n := testing.AllocsPerRun(100, func() {
			if tracer.Begin("p", m) != nil {
				t.Fatal("sampled")
			}
		}); n > 0 {
			t.Errorf("%s: %.1f allocations", name, n)
		}
	}
}

// byName is h as a map: the tests of this package set no name twice.
func byName(h event.Headers) map[string]string {
	if h == nil {
		return nil
	}
	m := make(map[string]string, len(h))
	for i := range h {
		m[h[i].Name] = h[i].Text()
	}
	return m
}
