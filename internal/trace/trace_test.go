package trace_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/otlp"
	"github.com/weirdata/weir/internal/otlp/otlptest"
	"github.com/weirdata/weir/internal/trace"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func tracer(t *testing.T, s trace.Settings) *trace.Tracer {
	t.Helper()
	tr, err := trace.New(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tr.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return tr
}

// message is one with headers, given as names and values.
func message(headers ...string) *event.Message {
	m := event.New([]byte("payload"))
	for i := 0; i < len(headers); i += 2 {
		m.SetHeader(headers[i], headers[i+1])
	}
	return m
}

const (
	traceID  = "4bf92f3577b34da6a3ce929d0e0e4736"
	parentID = "00f067aa0ba902b7"
)

// TestExport follows one message through the wire format: what the settings say of the
// process, the parent from the headers, a transform, two attempts to write.
func TestExport(t *testing.T) {
	t.Parallel()
	r := otlptest.Listen(t)
	tr := tracer(t, trace.Settings{Settings: otlp.Settings{Endpoint: r.URL + "/base", Headers: map[string]string{"Authorization": "secret"},
		ServiceName: "mine", Version: "1.2", Attributes: map[string]string{"env": "test"}}})
	m := message("Traceparent", "00-"+traceID+"-"+parentID+"-01", "tracestate", "a=b")
	m.Meta.Scope = &event.Scope{Source: "shop"}
	m.Meta.Delivery = &event.Delivery{Attempt: 2}
	s := tr.Begin("orders", m)
	s.Stamp(m)
	now := time.Now()
	s.Transformed(trace.Transform{Name: "js", Position: 1, Begin: now, End: now.Add(time.Millisecond), Pieces: 1})
	w := trace.Write{Pipeline: "orders", Role: "target", Target: "http", Delivers: true, Batch: event.Batch{m}}
	_, a := tr.BeginWrite(t.Context(), w, []*trace.Span{s})
	a.End(fault.Describe(fault.Throttled, errors.New("payload and password"), fault.Detail{Type: "api", Code: "429", Safe: "slow down"}), 1, func(int) bool { return false })
	_, a = tr.BeginWrite(t.Context(), w, []*trace.Span{s})
	a.End(nil, 0, func(int) bool { return true })
	s.End(nil, "")
	s.End(nil, "")
	if err := tr.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	req := r.Requests()[0]
	if req.URL.Path != "/base/v1/traces" || req.Header.Get("Authorization") != "secret" {
		t.Errorf("request to %s with %v", req.URL, req.Header)
	}
	process, transform, writes := r.Named("process orders"), r.Named("transform js"), r.Named("write http")
	if len(process) != 1 || len(transform) != 1 || len(writes) != 2 {
		t.Fatalf("spans %s", r.Text())
	}
	p := process[0]
	if p.Trace != traceID || p.Parent != parentID || p.State != "a=b" || p.Kind != spans.Span_SPAN_KIND_CONSUMER || p.Failed {
		t.Errorf("process %+v", p)
	}
	if got := m.Meta.Headers.Text(trace.Traceparent); got != "00-"+p.Ref()+"-01" || m.Meta.Headers.Text(trace.Tracestate) != "a=b" || len(m.Meta.Headers) != 2 {
		t.Errorf("headers %v, the span is %s", m.Meta.Headers, p.Ref())
	}
	want := map[string]string{"weir.pipeline": "orders", "messaging.operation.type": "process", "messaging.message.body.size": "7",
		"weir.attempt": "3", "weir.source": "shop", "weir.outcome": "delivered"}
	if diff := cmp.Diff(want, p.Attributes); diff != "" {
		t.Errorf("process (-want +got):\n%s", diff)
	}
	if p.Resource["service.name"] != "mine" || p.Resource["service.version"] != "1.2" || p.Resource["env"] != "test" {
		t.Errorf("resource %v", p.Resource)
	}
	for _, c := range append(writes, transform...) {
		if c.Trace != p.Trace || c.Parent != p.ID || len(c.Links) != 0 {
			t.Errorf("%s is no child of the process span: %+v", c.Name, c)
		}
	}
	want = map[string]string{"weir.pipeline": "orders", "weir.role": "target", "weir.target": "http", "messaging.operation.type": "send",
		"messaging.batch.message_count": "1", "weir.messages.sampled": "1", "weir.batch.bytes": "7", "weir.attempt": "3",
		"weir.messages.failed": "1", "error.type": "throttled", "weir.error.place": "api", "weir.error.code": "429"}
	if diff := cmp.Diff(want, writes[0].Attributes); diff != "" || writes[0].Status != "slow down" || !writes[0].Failed {
		t.Errorf("first write: %q (-want +got):\n%s", writes[0].Status, diff)
	}
	if writes[1].Attributes["weir.attempt"] != "4" || writes[1].Failed {
		t.Errorf("second write: %+v", writes[1])
	}
	if strings.Contains(r.Text(), "payload") || strings.Contains(r.Text(), "password") {
		t.Errorf("a span shows what it must not: %s", r.Text())
	}
}

// TestParents: where the span of a write belongs, and what it links.
func TestParents(t *testing.T) {
	t.Parallel()
	kept := tracetest.NewInMemoryExporter()
	tr := tracer(t, trace.Settings{SampleRatio: 1, Exporter: keeping{kept}})
	one := "00-" + traceID + "-" + parentID + "-01"
	write := func(n int, ss ...*trace.Span) {
		b := make(event.Batch, n)
		for i := range b {
			b[i] = message()
		}
		_, a := tr.BeginWrite(t.Context(), trace.Write{Role: "target", Target: fmt.Sprint(len(ss), " of ", n), Batch: b}, ss)
		a.End(nil, 0, func(int) bool { return true })
	}
	same := []*trace.Span{tr.Begin("p", message(trace.Traceparent, one)), tr.Begin("p", message(trace.Traceparent, one))}
	many := make([]*trace.Span, trace.MaxLinks+10)
	for i := range many {
		many[i] = tr.Begin("p", message())
	}
	write(2, same...)
	write(3, same...)
	write(len(many), many...)
	for _, s := range append(same, many...) {
		s.End(nil, "")
	}
	if err := tr.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	byName := map[string]tracetest.SpanStub{}
	links := map[string]int{}
	for _, s := range kept.GetSpans() {
		if s.Name == "process p" {
			for _, l := range s.Links {
				links[l.SpanContext.SpanID().String()]++
			}
			continue
		}
		byName[s.Name] = s
	}
	a, b, c := byName["write 2 of 2"], byName["write 2 of 3"], byName[fmt.Sprintf("write %d of %[1]d", len(many))]
	if a.SpanContext.TraceID().String() != traceID || !a.Parent.IsValid() || len(a.Links) != 2 {
		t.Errorf("a write of one trace: %+v", a)
	}
	if b.SpanContext.TraceID().String() == traceID || b.Parent.IsValid() || len(b.Links) != 2 {
		t.Errorf("a write with a message that is not sampled: %+v", b)
	}
	if c.Parent.IsValid() || len(c.Links) != trace.MaxLinks {
		t.Errorf("a write of many traces has %d links and the parent %v", len(c.Links), c.Parent)
	}
	if n := links[c.SpanContext.SpanID().String()]; n != len(many) {
		t.Errorf("%d of %d messages link to their write", n, len(many))
	}
	if n := links[a.SpanContext.SpanID().String()]; n != 1 {
		t.Errorf("%d messages link to the write that is the child of the other", n)
	}
}

// keeping keeps what was exported after the shutdown.
type keeping struct{ *tracetest.InMemoryExporter }

func (keeping) Shutdown(context.Context) error { return nil }

func TestSampling(t *testing.T) {
	t.Parallel()
	const context = "00-" + traceID + "-" + parentID
	for _, c := range []struct {
		name    string
		ratio   float64
		headers []string
		least   int
		most    int
	}{
		{"none", 0, nil, 0, 0},
		{"all", 1, nil, 2000, 2000},
		{"half", .5, nil, 800, 1200},
		{"few", .01, nil, 1, 80},
		{"the caller samples", 0, []string{trace.Traceparent, context + "-01"}, 2000, 2000},
		{"the caller does not", 1, []string{trace.Traceparent, context + "-00"}, 0, 0},
		{"malformed is absent", 1, []string{trace.Traceparent, "00-x"}, 2000, 2000},
		{"malformed state", 0, []string{trace.Traceparent, context + "-01", trace.Tracestate, "=,="}, 2000, 2000},
	} {
		tr := tracer(t, trace.Settings{SampleRatio: c.ratio, Exporter: tracetest.NewNoopExporter()})
		m := message(c.headers...)
		n := 0
		for range 2000 {
			if s := tr.Begin("p", m); s != nil {
				n++
			}
		}
		if n < c.least || n > c.most {
			t.Errorf("%s: %d of 2000 are sampled, want %d to %d", c.name, n, c.least, c.most)
		}
	}
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	kept := tracetest.NewInMemoryExporter()
	tr := tracer(t, trace.Settings{SampleRatio: 1, Exporter: keeping{kept}})
	written := func(s *trace.Span, role string) {
		_, a := tr.BeginWrite(t.Context(), trace.Write{Role: role, Delivers: role == "target", Batch: event.Batch{message()}}, []*trace.Span{s})
		a.End(nil, 0, func(int) bool { return true })
	}
	bad := fault.Describe(fault.Invalid, errors.New("secret"), fault.Detail{Type: "transformation", Safe: "not good"})
	var want []string
	for _, c := range []struct {
		want string
		run  func(*trace.Span)
	}{
		{"delivered", func(s *trace.Span) { written(s, "target"); s.End(nil, "") }},
		{"filtered", func(s *trace.Span) { s.Filtered(); written(s, "filter_target"); s.End(nil, "") }},
		{"delivered", func(s *trace.Span) {
			s.Filtered()
			written(s, "filter_target")
			written(s, "target")
			s.End(nil, "")
		}},
		{"invalid invalid: at the failure target", func(s *trace.Span) {
			written(s, "target")
			s.Refused(bad, false)
			written(s, "failure_target")
			s.End(nil, "")
		}},
		{"oversized oversized: at the failure target", func(s *trace.Span) { s.Refused(bad, true); written(s, "failure_target"); s.End(nil, "") }},
		{"dead not good", func(s *trace.Span) { s.End(bad, trace.Dead) }},
		{"failed transient error", func(s *trace.Span) { s.End(errors.New("secret"), trace.Failed) }},
		{"unsettled the pipeline stopped before the message was handled", func(s *trace.Span) { s.End(errors.New("secret"), trace.Unsettled) }},
	} {
		c.run(tr.Begin("p", message()))
		want = append(want, c.want)
	}
	if err := tr.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range kept.GetSpans() {
		if strings.Contains(fmt.Sprintf("%+v", s), "secret") {
			t.Errorf("a span shows an error's text: %+v", s)
		}
		for _, a := range s.Attributes {
			if a.Key == "weir.outcome" {
				got = append(got, strings.TrimSpace(a.Value.AsString()+" "+s.Status.Description))
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// stuck is an exporter that waits until it is released or cut.
type stuck struct {
	release chan struct{}
	got     atomic.Int64
	err     error
}

func (s *stuck) ExportSpans(ctx context.Context, b []sdk.ReadOnlySpan) error {
	select {
	case <-s.release:
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.err == nil {
		s.got.Add(int64(len(b)))
	}
	return s.err
}

func (*stuck) Shutdown(context.Context) error { return nil }

// TestBounded: an exporter that hangs holds up nobody, what finds no room is counted, and
// the end waits for it no longer than its deadline.
func TestBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var dropped atomic.Int64
		e := &stuck{release: make(chan struct{})}
		tr, err := trace.New(t.Context(), trace.Settings{SampleRatio: 1, Exporter: e, Dropped: &dropped})
		if err != nil {
			t.Fatal(err)
		}
		const many = 20_000
		for range many {
			tr.Begin("p", message()).End(nil, "")
		}
		synctest.Wait()
		if n := dropped.Load(); n == 0 || n > many-8192 {
			t.Errorf("%d of %d spans were dropped", n, many)
		}
		ctx, done := context.WithTimeout(t.Context(), otlp.Linger)
		defer done()
		began := time.Now()
		if err := tr.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close: %v", err)
		}
		if took := time.Since(began); took != otlp.Linger {
			t.Errorf("the end took %s", took)
		}
		if n := dropped.Load(); n != many {
			t.Errorf("%d of %d spans are counted as dropped", n, many)
		}
		if tr.Begin("p", message()) != nil {
			t.Error("sampled after the end")
		}
	})
}

// TestReceiverDown: the log hears once that exports fail, and once that they work again.
func TestReceiverDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var dropped atomic.Int64
		var log bytes.Buffer
		e := &stuck{release: make(chan struct{}), err: errors.New("connection refused")}
		close(e.release)
		tr, err := trace.New(t.Context(), trace.Settings{SampleRatio: 1, Exporter: e, Dropped: &dropped, Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		span := func() {
			tr.Begin("p", message()).End(nil, "")
			time.Sleep(time.Minute)
			synctest.Wait()
		}
		span()
		span()
		e.err = nil
		span()
		span()
		if err := tr.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(log.String(), "\n"); n != 2 || !strings.Contains(log.String(), "connection refused") || dropped.Load() != 2 || e.got.Load() != 2 {
			t.Errorf("%d spans dropped, %d exported, the log:\n%s", dropped.Load(), e.got.Load(), log.String())
		}
	})
}

func TestRefusedExport(t *testing.T) {
	t.Parallel()
	r := otlptest.Listen(t)
	r.Answer(http.StatusForbidden)
	var dropped atomic.Int64
	tr := tracer(t, trace.Settings{Settings: otlp.Settings{Endpoint: r.URL}, SampleRatio: 1, Dropped: &dropped})
	tr.Begin("p", message()).End(nil, "")
	if err := tr.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if dropped.Load() != 1 {
		t.Errorf("%d spans are counted as dropped", dropped.Load())
	}
}

func TestNothingIsTraced(t *testing.T) {
	t.Parallel()
	var none *trace.Tracer
	if err := none.Close(t.Context()); err != nil {
		t.Error(err)
	}
	var s *trace.Span
	s.Transformed(trace.Transform{})
	s.Filtered()
	s.Refused(errors.New("x"), false)
	s.End(nil, "")
	var a *trace.Attempt
	a.End(nil, 0, nil)
}

func BenchmarkBegin(b *testing.B) {
	for _, ratio := range []float64{0.000001, 1} {
		b.Run(fmt.Sprint("ratio=", ratio), func(b *testing.B) {
			b.ReportAllocs()
			tr, err := trace.New(b.Context(), trace.Settings{SampleRatio: ratio, Exporter: tracetest.NewNoopExporter()})
			if err != nil {
				b.Fatal(err)
			}
			m := message("x", "y")
			for b.Loop() {
				tr.Begin("p", m).End(nil, "")
			}
			if err := tr.Close(b.Context()); err != nil {
				b.Fatal(err)
			}
		})
	}
}
