package httptarget

import (
	"context"
	"testing"

	otel "go.opentelemetry.io/otel/trace"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/trace"
)

// TestTraceContext: a request carries the context of its write, or of its only message; no
// request of a write that is not traced carries one that the message's headers do not give.
func TestTraceContext(t *testing.T) {
	t.Parallel()
	const (
		write = "00-11111111111111111111111111111111-2222222222222222-01"
		own   = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	)
	traced := otel.ContextWithSpanContext(t.Context(), otel.NewSpanContext(otel.SpanContextConfig{
		TraceID: otel.TraceID{0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11},
		SpanID:  otel.SpanID{0x22, 0x22, 0x22, 0x22, 0x22, 0x22, 0x22, 0x22}, TraceFlags: otel.FlagsSampled}))
	for _, c := range []struct {
		name     string
		ctx      context.Context
		dynamic  bool
		messages int
		want     []string
	}{
		{"off", t.Context(), false, 2, []string{""}},
		{"off, with dynamic headers", t.Context(), true, 2, []string{own, own}},
		{"several messages", traced, false, 2, []string{write}},
		{"one message", traced, false, 1, []string{own}},
		{"dynamic headers", traced, true, 2, []string{own, own}},
	} {
		s := serve(t, nil)
		target := build(t, s.URL, func(f *Config) { f.DynamicHeaders = c.dynamic })
		b := messages(`{"n":1}`, `{"n":2}`)[:c.messages]
		for _, m := range b {
			m.SetHeader(trace.Traceparent, own)
		}
		if err := target.Write(c.ctx, b); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range s.requests() {
			got = append(got, r.header.Get("Traceparent"))
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}
