package config

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"time"

	"golang.org/x/net/http/httpguts"
)

// Tracing exports OpenTelemetry traces: a span for each sampled message in each pipeline, for
// each transform that changed it, and for each attempt to write a batch with it. The trace
// context is taken from the message's headers traceparent and tracestate, and passed on in
// them. The environment variables OTEL_EXPORTER_OTLP_* count for what is not set here, and
// OTEL_RESOURCE_ATTRIBUTES adds to attributes.
type Tracing struct {
	// Base URL of an OpenTelemetry collector that takes OTLP by HTTP; spans are sent to
	// endpoint/v1/traces, with TLS when it begins with https. Default: what the environment
	// says, or "http://localhost:4318".
	Endpoint string `hcl:"endpoint,optional"`
	// Headers sent with each export, in place of those of the environment; a token, for
	// instance.
	Headers map[string]string `hcl:"headers,optional"`
	// Share of messages without a trace context that a trace is begun for, from 0 to 1. A
	// message that comes with one is traced when its sender sampled it, whatever the share.
	// Default: 1.
	SampleRatio float64 `hcl:"sample_ratio,optional"`
	// Name of this installation in traces. Default: OTEL_SERVICE_NAME, or "weir".
	ServiceName string `hcl:"service_name,optional"`
	// Attributes of this installation, sent with its spans.
	Attributes map[string]string `hcl:"attributes,optional"`
}

// SetDefaults sets what a tracing block need not say.
func (t *Tracing) SetDefaults() { t.SampleRatio = 1 }

func (t *Tracing) validate(ps *problems) {
	ps.collector("tracing.", t.Endpoint, t.Headers, t.Attributes)
	if !(t.SampleRatio >= 0 && t.SampleRatio <= 1) {
		ps.add("tracing.sample_ratio", fmt.Sprintf("sample_ratio must be from 0 to 1, not %v", t.SampleRatio), "write 0.01 for one message in a hundred")
	}
}

// MetricsExport exports metrics to an OpenTelemetry collector. The environment variables
// OTEL_EXPORTER_OTLP_* count for what is not set here, and OTEL_RESOURCE_ATTRIBUTES adds to
// attributes.
type MetricsExport struct {
	// Base URL of an OpenTelemetry collector that takes OTLP by HTTP; metrics are sent to
	// endpoint/v1/metrics, with TLS when it begins with https. Default: what the environment
	// says, or "http://localhost:4318".
	Endpoint string `hcl:"endpoint,optional"`
	// Headers sent with each export, in place of those of the environment; a token, for
	// instance.
	Headers map[string]string `hcl:"headers,optional"`
	// Seconds between two exports. At least 1. Default: 60.
	IntervalSec int `hcl:"interval_sec,optional"`
	// Name of this installation. Default: OTEL_SERVICE_NAME, or "weir".
	ServiceName string `hcl:"service_name,optional"`
	// Attributes of this installation, sent with its metrics.
	Attributes map[string]string `hcl:"attributes,optional"`
}

// SetDefaults sets what an otlp block need not say.
func (m *MetricsExport) SetDefaults() { m.IntervalSec = 60 }

// Interval is IntervalSec as a duration.
func (m *MetricsExport) Interval() time.Duration { return time.Duration(m.IntervalSec) * time.Second }

func (m *MetricsExport) validate(ps *problems) {
	ps.collector("metrics.otlp.", m.Endpoint, m.Headers, m.Attributes)
	ps.least("metrics.otlp.interval_sec", 1, m.IntervalSec, "leave it out for 60 seconds")
	ps.most("metrics.otlp.interval_sec", maxSeconds, m.IntervalSec)
}

// collector requires what names an OpenTelemetry collector to be usable.
func (ps *problems) collector(at, endpoint string, headers, attributes map[string]string) {
	u, err := url.Parse(endpoint)
	const fix = `write the base URL, as in "http://localhost:4318"`
	switch {
	case endpoint == "":
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		ps.add(at+"endpoint", "endpoint is no http or https URL", fix)
	case u.User != nil:
		ps.add(at+"endpoint", "endpoint must not hold a user or password", `send them in a header: headers = { Authorization = "Basic ..." }`)
	case u.RawQuery != "" || u.Fragment != "":
		ps.add(at+"endpoint", "endpoint must end before the query: a path is added to it", fix)
	}
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(headers[name]) {
			ps.add(at+"headers", fmt.Sprintf("%q is not a valid HTTP header", name), "use letters, digits and dashes in names, and no line breaks in values")
		}
	}
	if _, empty := attributes[""]; empty {
		ps.add(at+"attributes", "an attribute has no name", "name it, or remove it")
	}
}
