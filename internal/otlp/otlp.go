// Package otlp is what all exports to an OpenTelemetry collector share (who exports, where
// to, what the environment says), and the export of metrics. Traces are made and exported by
// package trace.
//
// # Protocol
//
// OTLP over HTTP, as protobuf or JSON: POST <endpoint>/v1/metrics and <endpoint>/v1/traces. The
// environment variables OTEL_EXPORTER_OTLP_* count for what the settings leave out, and
// OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES describe the process.
//
// # Metrics
//
// What is exported is what the Prometheus endpoint shows at that moment, by the same names:
// cumulative counters, gauges and histograms.
package otlp

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"

	"github.com/weirdata/weir/internal/secret"
)

// Linger is how long the last export may take once the process is to end.
const Linger = 5 * time.Second

// Settings say who exports, and where to.
type Settings struct {
	// Endpoint is the base URL of a collector; empty means what the environment says, and
	// without that http://localhost:4318.
	Endpoint string
	// Headers are sent with each export; nil means those of the environment.
	Headers map[string]string
	// ServiceName, Version and Attributes describe the process. An empty name means that of
	// the environment, or "weir".
	ServiceName, Version string
	Attributes           map[string]string
}

// URL is where a signal ("traces", "metrics") is sent; empty means that the environment says.
func (s Settings) URL(signal string) (string, error) {
	if s.Endpoint == "" {
		return "", nil
	}
	u, err := url.Parse(s.Endpoint)
	if err != nil {
		return "", fmt.Errorf("parse the OTLP endpoint: %w", err)
	}
	return u.JoinPath("v1", signal).String(), nil
}

// Resource describes the process: what the environment says, then the settings.
func (s Settings) Resource(ctx context.Context) (*resource.Resource, error) {
	var attributes []attribute.KeyValue
	if s.Version != "" {
		attributes = append(attributes, attribute.String("service.version", s.Version))
	}
	for k, v := range s.Attributes {
		attributes = append(attributes, attribute.String(k, v))
	}
	if s.ServiceName != "" {
		attributes = append(attributes, attribute.String("service.name", s.ServiceName))
	}
	r, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(attribute.String("service.name", "weir")),
		resource.WithFromEnv(), resource.WithAttributes(attributes...))
	if err != nil {
		return nil, fmt.Errorf("describe the process for OpenTelemetry by OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	return r, nil
}

// CheckEnvironment refuses values of the environment that an exporter of the signal would
// pass over in silence. endpoint says that the endpoint is taken from there.
func CheckEnvironment(signal string, endpoint bool, env func(string) string) error {
	own := "OTEL_EXPORTER_OTLP_" + strings.ToUpper(signal) + "_"
	for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", own + "ENDPOINT"} {
		v := env(name)
		if u, err := url.Parse(v); endpoint && v != "" && (err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "") {
			return fmt.Errorf("%s is no http or https URL: correct it, or set an endpoint in the config", name)
		}
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_PROTOCOL", own + "PROTOCOL"} {
		switch v := env(name); v {
		case "", "http/protobuf", "http/json":
		default:
			return fmt.Errorf("%s is %q: %s are exported by http/protobuf or http/json only", name, v, signal)
		}
	}
	return nil
}

// maxShown is how much of an error is shown, in bytes. It may hold a whole response.
const maxShown = 1000

// Safe is the text of an error of an export without the values of the headers that were sent,
// which a response may repeat, and with no more of URLs than their hosts.
func (s Settings) Safe(err error) string { return s.safe(err, os.Getenv) }

func (s Settings) safe(err error, env func(string) string) string {
	var hidden secret.Values
	for _, v := range s.Headers {
		_, credentials, _ := strings.Cut(v, " ") // of "Bearer ..."
		hidden.Add(v, credentials)
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_METRICS_HEADERS"} {
		for pair := range strings.SplitSeq(env(name), ",") {
			_, v, _ := strings.Cut(pair, "=")
			for _, v := range []string{v, unescaped(v)} {
				v = strings.TrimSpace(v)
				_, credentials, _ := strings.Cut(v, " ")
				hidden.Add(v, credentials)
			}
		}
	}
	text := hidden.Hide(secret.Text(err.Error()))
	return strings.ToValidUTF8(text[:min(len(text), maxShown)], "")
}

func unescaped(v string) string {
	plain, err := url.PathUnescape(v)
	if err != nil {
		return v
	}
	return plain
}

// Check is CheckEnvironment for the process's own environment.
func (s Settings) Check(signal string) error {
	return CheckEnvironment(signal, s.Endpoint == "", os.Getenv)
}
