// Package trace makes OpenTelemetry spans of what pipelines do with messages, and carries
// the trace context that came with a message on to where it goes.
//
// # Spans
//
//	process <pipeline>     consumer  one per sampled message and pipeline, from read to settled;
//	                                 its parent is the context in the message's headers
//	transform <name>       internal  its child: a transform that changed, dropped, split or
//	                                 refused the message
//	write <target>         client    one per attempt to write a batch with sampled messages
//
// A write that holds one message is a child of that message's span, and a write whose
// sampled messages all belong to one trace is a child of the first of them; another begins
// a trace of its own. A write links to the spans of the messages it holds, at most
// [MaxLinks] of them, and they link back to it.
//
// # Headers
//
// The context is read from and written to the headers traceparent and tracestate as the W3C
// recommendation Trace Context (level 1) defines them:
//
//	traceparent := version "-" trace-id "-" parent-id "-" flags, lower-case hex of 2, 32, 16 and 2 digits
//
// A message whose header says sampled is sampled, one whose header says it is not is left
// alone, and of those without a context the share sample_ratio begins a trace. Only sampled
// messages get headers; those of all others pass on as they came.
//
// # Invariants
//
//   - No span holds payload, headers of messages or error texts beyond fault.Detail, which is
//     made to be shown.
//   - Nothing here blocks or fails a message: spans wait in memory of fixed size, and what
//     finds no room there is dropped and counted.
//   - A message that is not sampled costs a look at its headers, and no memory.
package trace

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	otel "go.opentelemetry.io/otel/trace"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/otlp"
)

// MaxLinks is the most messages that the span of a write links to.
const MaxLinks = 128

// The bounds of one span.
const (
	maxAttributes = 64
	maxEvents     = 32
	maxText       = 512 // bytes of an attribute's value
)

// Settings is what a Tracer is made of.
type Settings struct {
	otlp.Settings
	// SampleRatio is the share of messages without a trace context that get one, 0 to 1.
	SampleRatio float64
	Log         *slog.Logger
	// Dropped, if set, counts spans that could not be exported.
	Dropped *atomic.Int64
	// Exporter, if set, takes the spans instead of an OTLP receiver.
	Exporter sdk.SpanExporter
}

// Keeper is a source that would drop the trace context its messages come with. It is asked
// to keep it in their headers, before it is opened, where traces are made.
type Keeper interface{ KeepTraceContext() }

// Tracer makes spans. A nil Tracer samples nothing.
type Tracer struct {
	export    *export
	provider  *sdk.TracerProvider
	tracer    otel.Tracer
	threshold uint64 // random numbers below it are sampled
	all       bool
}

// New makes a Tracer and starts its export. It does no I/O but reading the certificate
// files that the environment names; an error is a setting that could never work.
func New(ctx context.Context, s Settings) (*Tracer, error) {
	if err := s.Check("traces"); err != nil {
		return nil, err
	}
	res, err := s.Resource(ctx)
	if err != nil {
		return nil, err
	}
	exporter := s.Exporter
	if exporter == nil {
		if exporter, err = s.exporter(ctx); err != nil {
			return nil, err
		}
	}
	t := &Tracer{export: startExport(exporter, s)}
	limits := sdk.SpanLimits{AttributeValueLengthLimit: maxText, AttributeCountLimit: maxAttributes, EventCountLimit: maxEvents,
		LinkCountLimit: MaxLinks, AttributePerEventCountLimit: maxAttributes, AttributePerLinkCountLimit: maxAttributes}
	// What is sampled is decided before a span is begun, so that others cost nothing.
	t.provider = sdk.NewTracerProvider(sdk.WithSpanProcessor(t.export), sdk.WithSampler(sdk.AlwaysSample()), sdk.WithResource(res), sdk.WithRawSpanLimits(limits))
	t.tracer = t.provider.Tracer("github.com/weirdata/weir", otel.WithInstrumentationVersion(s.Version))
	t.all = s.SampleRatio >= 1
	if !t.all {
		t.threshold = uint64(max(s.SampleRatio, 0) * math.MaxUint64)
	}
	return t, nil
}

func (s Settings) exporter(ctx context.Context) (sdk.SpanExporter, error) {
	to, err := s.URL("traces")
	if err != nil {
		return nil, err
	}
	client, err := s.Client("traces")
	if err != nil {
		return nil, err
	}
	options := []otlptracehttp.Option{otlptracehttp.WithHTTPClient(client)}
	if to != "" {
		options = append(options, otlptracehttp.WithEndpointURL(to))
	}
	if s.Headers != nil {
		options = append(options, otlptracehttp.WithHeaders(s.Headers))
	}
	e, err := otlptracehttp.New(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("make the exporter of traces: %w", err)
	}
	return e, nil
}

// Close exports what is left, until ctx ends, and stops. Spans that end later are dropped.
func (t *Tracer) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("export the last spans: %w", err)
	}
	return nil
}

// sampled decides about m, and finds the context it came with.
func (t *Tracer) sampled(m *event.Message) (parent otel.SpanContext, yes bool) {
	if len(m.Meta.Headers) > 0 {
		if h := m.Meta.Headers.Fold(Traceparent); h != nil {
			var ok bool
			if parent, ok = parse(h.Text()); ok {
				if !parent.IsSampled() {
					return parent, false
				}
				return withState(parent, m.Meta.Headers), true
			}
		}
	}
	return otel.SpanContext{}, t.all || t.threshold > 0 && rand.Uint64() < t.threshold
}

// Begin begins the span of a message that a pipeline has read; nil when it is not sampled.
func (t *Tracer) Begin(pipeline string, m *event.Message) *Span {
	parent, yes := t.sampled(m)
	if !yes || t.export.closed.Load() {
		return nil
	}
	before := 0
	attributes := make([]attribute.KeyValue, 0, 8)
	attributes = append(attributes, keyPipeline.String(pipeline), keyOperation.String("process"), keyBytes.Int(len(m.Data)))
	if d := m.Meta.Delivery; d != nil {
		before = d.Attempt
		attributes = append(attributes, keyAttempt.Int(before+1))
	}
	if s := m.Meta.Scope; s != nil {
		for _, x := range []struct {
			key  attribute.Key
			text string
		}{{keyWorkspace, s.Workspace}, {keySource, s.Source}, {keyDestination, s.Destination}} {
			if x.text != "" {
				attributes = append(attributes, x.key.String(x.text))
			}
		}
	}
	options := []otel.SpanStartOption{otel.WithSpanKind(otel.SpanKindConsumer), otel.WithAttributes(attributes...)}
	if !m.Times.Read.IsZero() {
		options = append(options, otel.WithTimestamp(m.Times.Read))
	}
	ctx := context.Background()
	if parent.IsValid() {
		ctx = otel.ContextWithRemoteSpanContext(ctx, parent)
	}
	_, span := t.tracer.Start(ctx, "process "+pipeline, options...)
	s := &Span{tracer: t.tracer, span: span, pipeline: pipeline, before: before}
	s.traceparent, s.tracestate = text(span.SpanContext())
	return s
}

// The names of attributes. What the semantic conventions of OpenTelemetry name is named so.
const (
	keyPipeline    attribute.Key = "weir.pipeline"
	keyRole        attribute.Key = "weir.role"
	keyTarget      attribute.Key = "weir.target"
	keyTransform   attribute.Key = "weir.transform"
	keyPosition    attribute.Key = "weir.transform.position"
	keyPieces      attribute.Key = "weir.transform.messages"
	keyOutcome     attribute.Key = "weir.outcome"
	keyAttempt     attribute.Key = "weir.attempt"
	keyWorkspace   attribute.Key = "weir.workspace"
	keySource      attribute.Key = "weir.source"
	keyDestination attribute.Key = "weir.destination"
	keyFailed      attribute.Key = "weir.messages.failed"
	keySampled     attribute.Key = "weir.messages.sampled"
	keyBatchBytes  attribute.Key = "weir.batch.bytes"
	keyErrorPlace  attribute.Key = "weir.error.place"
	keyErrorCode   attribute.Key = "weir.error.code"
	keyOperation   attribute.Key = "messaging.operation.type"
	keyBytes       attribute.Key = "messaging.message.body.size"
	keyMessages    attribute.Key = "messaging.batch.message_count"
	keyErrorType   attribute.Key = "error.type"
)
