// Package otlptest is an OTLP receiver for tests: it decodes the protobuf requests that a
// process exports and answers what the test asks for.
package otlptest

import (
	"compress/gzip"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	metricrequests "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Span is a span as it was exported, with its identifiers in hex.
type Span struct {
	Trace, ID, Parent, State string
	Name                     string
	Kind                     spans.Span_SpanKind
	Begin, End               uint64 // Unix nanoseconds
	Attributes               map[string]string
	Links                    []string // "trace-span"
	Events                   []string
	Failed                   bool
	Status                   string
	Resource                 map[string]string
}

// Ref is s as links name it.
func (s Span) Ref() string { return s.Trace + "-" + s.ID }

// Receiver takes exports.
type Receiver struct {
	URL string

	mu       sync.Mutex
	spans    []Span
	points   map[string]float64
	resource map[string]string // of the last metrics
	requests []*http.Request
	answer   int
}

// Listen starts a receiver that ends with the test.
func Listen(t testing.TB) *Receiver {
	t.Helper()
	r := &Receiver{answer: http.StatusOK}
	s := httptest.NewServer(r)
	t.Cleanup(s.Close)
	r.URL = s.URL
	return r
}

// Answer has every further export answered with a status code.
func (r *Receiver) Answer(code int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = code
}

// Spans is what was exported so far, by begin.
func (r *Receiver) Spans() []Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := slices.Clone(r.spans)
	slices.SortStableFunc(all, func(a, b Span) int {
		switch {
		case a.Begin < b.Begin:
			return -1
		case a.Begin > b.Begin:
			return 1
		}
		return 0
	})
	return all
}

// Points is the last value of every exported metric, by its name and attributes as Prometheus
// writes them; of a histogram, its count.
func (r *Receiver) Points() (points map[string]float64, resource map[string]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.points), maps.Clone(r.resource)
}

// Named is the exported spans with a name.
func (r *Receiver) Named(name string) []Span {
	return slices.DeleteFunc(r.Spans(), func(s Span) bool { return s.Name != name })
}

// Requests is the exports so far, without their bodies.
func (r *Receiver) Requests() []*http.Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.requests)
}

// ServeHTTP implements http.Handler.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := read(req)
	var got []Span
	var x metricrequests.ExportMetricsServiceRequest
	if isMetrics := strings.HasSuffix(req.URL.Path, "/metrics"); err == nil && isMetrics {
		err = proto.Unmarshal(body, &x)
	} else if err == nil {
		got, err = decode(body)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, req)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.WriteHeader(r.answer)
	if r.answer < 300 {
		r.spans = append(r.spans, got...)
		r.keep(&x)
	}
}

// Text is every exported text, for a test that looks for what must not be there.
func (r *Receiver) Text() string {
	var b strings.Builder
	for _, s := range r.Spans() {
		fmt.Fprintf(&b, "%+v\n", s)
	}
	return b.String()
}

// keep keeps the values of metrics.
func (r *Receiver) keep(x *metricrequests.ExportMetricsServiceRequest) {
	for _, of := range x.ResourceMetrics {
		r.points, r.resource = map[string]float64{}, texts(of.Resource.GetAttributes())
		for _, scope := range of.ScopeMetrics {
			for _, m := range scope.Metrics {
				for _, p := range append(m.GetSum().GetDataPoints(), m.GetGauge().GetDataPoints()...) {
					r.points[labelled(m, p.Attributes)] = p.GetAsDouble()
				}
				for _, p := range m.GetHistogram().GetDataPoints() {
					r.points[labelled(m, p.Attributes)] = float64(p.GetCount())
				}
			}
		}
	}
}

func labelled(m *metrics.Metric, attributes []*common.KeyValue) string {
	var labels []string
	for k, v := range texts(attributes) {
		labels = append(labels, fmt.Sprintf("%s=%q", k, v))
	}
	slices.Sort(labels)
	return m.Name + "{" + strings.Join(labels, ",") + "}"
}

// read is the body of an export, not compressed.
func read(req *http.Request) ([]byte, error) {
	if req.Method != http.MethodPost || req.Header.Get("Content-Type") != "application/x-protobuf" {
		return nil, fmt.Errorf("%s of %s is no export", req.Method, req.Header.Get("Content-Type"))
	}
	var body io.Reader = req.Body
	if req.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(body)
		if err != nil {
			return nil, fmt.Errorf("decompress an export: %w", err)
		}
		body = z
	}
	text, err := io.ReadAll(body)
	if err != nil {
		return nil, fmt.Errorf("read an export: %w", err)
	}
	return text, nil
}

func decode(text []byte) ([]Span, error) {
	var x collector.ExportTraceServiceRequest
	if err := proto.Unmarshal(text, &x); err != nil {
		return nil, fmt.Errorf("decode an export: %w", err)
	}
	var out []Span
	for _, r := range x.ResourceSpans {
		resource := texts(r.Resource.GetAttributes())
		for _, scope := range r.ScopeSpans {
			for _, s := range scope.Spans {
				out = append(out, span(s, resource))
			}
		}
	}
	return out, nil
}

func span(s *spans.Span, resource map[string]string) Span {
	out := Span{Trace: hex.EncodeToString(s.TraceId), ID: hex.EncodeToString(s.SpanId), Parent: hex.EncodeToString(s.ParentSpanId), State: s.TraceState,
		Name: s.Name, Kind: s.Kind, Begin: s.StartTimeUnixNano, End: s.EndTimeUnixNano, Attributes: texts(s.Attributes), Resource: resource,
		Failed: s.Status.GetCode() == spans.Status_STATUS_CODE_ERROR, Status: s.Status.GetMessage()}
	for _, l := range s.Links {
		out.Links = append(out.Links, hex.EncodeToString(l.TraceId)+"-"+hex.EncodeToString(l.SpanId))
	}
	for _, e := range s.Events {
		out.Events = append(out.Events, fmt.Sprint(e.Name, texts(e.Attributes)))
	}
	return out
}

func texts(attributes []*common.KeyValue) map[string]string {
	out := map[string]string{}
	for _, a := range attributes {
		switch v := a.Value.GetValue().(type) {
		case *common.AnyValue_StringValue:
			out[a.Key] = v.StringValue
		case *common.AnyValue_IntValue:
			out[a.Key] = strconv.FormatInt(v.IntValue, 10)
		default:
			out[a.Key] = a.Value.String()
		}
	}
	return out
}
