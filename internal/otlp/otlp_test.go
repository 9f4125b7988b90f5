package otlp

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.uber.org/goleak"

	"github.com/weirdata/weir/internal/otlp/otlptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCheckEnvironment(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		endpoint    bool
		name, value string
		want        string
	}{
		{true, "OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318", ""},
		{true, "OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317", "OTEL_EXPORTER_OTLP_ENDPOINT is no http or https URL"},
		{false, "OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317", ""},
		{true, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "unix:///x", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is no http"},
		{false, "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", `is "grpc"`},
		{false, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf", ""},
	} {
		err := CheckEnvironment("traces", c.endpoint, func(name string) string {
			if name == c.name {
				return c.value
			}
			return ""
		})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s=%s: %v", c.name, c.value, err)
		}
	}
}

// TestSafe: an error that repeats what was sent does not show it.
func TestSafe(t *testing.T) {
	t.Parallel()
	s := Settings{Headers: map[string]string{"Authorization": "Bearer hunter22", "x-id": "abc"}}
	env := func(name string) string {
		if name == "OTEL_EXPORTER_OTLP_HEADERS" {
			return "api-key=swordfish, authorization=Basic%20b3BlbiBzZXNhbWU="
		}
		return ""
	}
	got := s.safe(errors.New("403: key swordfish, Bearer hunter22 (hunter22), Basic b3BlbiBzZXNhbWU=, id abc"), env)
	if want := "403: key (hidden), (hidden) ((hidden)), (hidden), id abc"; got != want {
		t.Errorf("shows %q, want %q", got, want)
	}
	if got := s.safe(errors.New(strings.Repeat("ä", maxShown)), env); len(got) != maxShown {
		t.Errorf("%d bytes of a long error are shown", len(got))
	}
}

// registry holds a counter, a gauge and a histogram.
func registry() (*prometheus.Registry, prometheus.Counter) {
	r := prometheus.NewRegistry()
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weir_read_messages_total", Help: "x"}, []string{"pipeline"})
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "weir_in_flight_messages", Help: "x"})
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "weir_settle_seconds", Help: "x", Buckets: []float64{1, 2}})
	r.MustRegister(c, g, h)
	g.Set(-2.5)
	h.Observe(1.5)
	h.Observe(9)
	return r, c.WithLabelValues("p")
}

// TestMetrics exports once at the end what the registry holds then, on the wire.
func TestMetrics(t *testing.T) {
	t.Parallel()
	r := otlptest.Listen(t)
	from, counter := registry()
	var dropped atomic.Int64
	m, err := NewMetrics(t.Context(), Settings{Endpoint: r.URL, Headers: map[string]string{"x-key": "1"}, Version: "1.2", Attributes: map[string]string{"env": "test"}},
		time.Hour, from, slog.New(slog.DiscardHandler), &dropped)
	if err != nil {
		t.Fatal(err)
	}
	counter.Add(7)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	m.Run(ctx)
	points, resource := r.Points()
	for name, want := range map[string]float64{`weir_read_messages_total{pipeline="p"}`: 7, "weir_in_flight_messages{}": -2.5, "weir_settle_seconds{}": 2} {
		if got, ok := points[name]; !ok || got != want {
			t.Errorf("%s is %v, want %v; exported are %v", name, got, want, points)
		}
	}
	if resource["service.name"] != "weir" || resource["service.version"] != "1.2" || resource["env"] != "test" {
		t.Errorf("resource %v", resource)
	}
	if q := r.Requests(); len(q) != 1 || q[0].URL.Path != "/v1/metrics" || q[0].Header.Get("X-Key") != "1" {
		t.Errorf("%d requests, the first %+v", len(q), q[0])
	}
	r.Answer(http.StatusForbidden)
	m.Run(ctx)
	if dropped.Load() != 1 {
		t.Errorf("%d exports are counted as failed", dropped.Load())
	}
}

// counting is an exporter that counts, fails or hangs.
type counting struct {
	mu   sync.Mutex
	n    int
	err  error
	hang bool
}

func (c *counting) set(err error, hang bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err, c.hang = err, hang
}

func (c *counting) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

func (c *counting) Export(ctx context.Context, _ *metricdata.ResourceMetrics) error {
	c.mu.Lock()
	c.n++
	err, hang := c.err, c.hang
	c.mu.Unlock()
	if hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

func (*counting) Shutdown(context.Context) error { return nil }

// TestMetricsInterval: one export an interval, one log line for a receiver that is away, and
// an end that waits for one that hangs no longer than it should.
func TestMetricsInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var dropped atomic.Int64
		from, _ := registry()
		m, err := NewMetrics(t.Context(), Settings{Endpoint: "http://127.0.0.1:1"}, time.Minute, from, slog.New(slog.NewTextHandler(&log, nil)), &dropped)
		if err != nil {
			t.Fatal(err)
		}
		c := &counting{}
		m.to = c
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); m.Run(ctx) }()
		time.Sleep(10*time.Minute + time.Second)
		synctest.Wait()
		if n := c.count(); n != 10 {
			t.Errorf("%d exports in ten minutes", n)
		}
		c.set(errors.New("away"), false)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		c.set(nil, false)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := strings.Count(log.String(), "\n"); n != 2 || dropped.Load() != 5 {
			t.Errorf("%d failures counted, the log:\n%s", dropped.Load(), log.String())
		}
		c.set(nil, true)
		time.Sleep(90 * time.Second)
		begin := time.Now()
		stop()
		<-ended
		if took := time.Since(begin); took != Linger {
			t.Errorf("the end took %s", took)
		}
	})
}
