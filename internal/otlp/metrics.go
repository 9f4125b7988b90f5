package otlp

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	bridge "go.opentelemetry.io/contrib/bridges/prometheus"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"

	"github.com/weirdata/weir/internal/meter"
)

// Metrics exports metrics at an interval. Make it with [NewMetrics] and call [Metrics.Run]
// once.
type Metrics struct {
	settings Settings
	every    time.Duration
	log      *slog.Logger
	dropped  *atomic.Int64
	from     metric.Producer
	to       exporter
	resource *resource.Resource
	failing  bool
	now      chan chan struct{} // see Export
	ended    chan struct{}
	once     sync.Once
	left     atomic.Bool
}

// exporter is the part of a metric exporter that is used.
type exporter interface {
	Export(ctx context.Context, m *metricdata.ResourceMetrics) error
	Shutdown(ctx context.Context) error
}

// NewMetrics makes the export of what from gathers. It does no I/O but reading the
// certificate files that the environment names; an error is a setting that could never work.
// dropped counts exports that failed.
func NewMetrics(ctx context.Context, s Settings, every time.Duration, from prometheus.Gatherer, log *slog.Logger, dropped *atomic.Int64) (*Metrics, error) {
	if err := s.Check("metrics"); err != nil {
		return nil, err
	}
	m := &Metrics{settings: s, every: every, log: log, dropped: dropped, from: bridge.NewMetricProducer(bridge.WithGatherer(from)), now: make(chan chan struct{}), ended: make(chan struct{})}
	var err error
	if m.resource, err = s.Resource(ctx); err != nil {
		return nil, err
	}
	to, err := s.URL("metrics")
	if err != nil {
		return nil, err
	}
	client, err := s.Client("metrics")
	if err != nil {
		return nil, err
	}
	options := []otlpmetrichttp.Option{otlpmetrichttp.WithHTTPClient(client)}
	if to != "" {
		options = append(options, otlpmetrichttp.WithEndpointURL(to))
	}
	if s.Headers != nil {
		options = append(options, otlpmetrichttp.WithHeaders(s.Headers))
	}
	if m.to, err = otlpmetrichttp.New(ctx, options...); err != nil {
		return nil, fmt.Errorf("make the exporter of metrics: %w", err)
	}
	return m, nil
}

// Export has Run export once, and waits for it, for at most [Linger].
func (m *Metrics) Export() {
	done := make(chan struct{})
	late := time.NewTimer(Linger)
	defer late.Stop()
	select {
	case m.now <- done:
	case <-m.ended:
		return
	case <-late.C: // another export hangs
		return
	}
	select {
	case <-done:
	case <-late.C:
	}
}

// Leave has Run end without a last export: what there is to tell is no longer for this receiver.
func (m *Metrics) Leave() { m.left.Store(true) }

// Run exports until ctx ends, and then once more, for at most [Linger].
func (m *Metrics) Run(ctx context.Context) {
	defer m.once.Do(func() { close(m.ended) })
	tick := time.NewTicker(m.every)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-tick.C:
			m.export(ctx, m.every)
		case done := <-m.now:
			m.export(ctx, Linger)
			close(done)
		case <-ctx.Done():
		}
	}
	last := context.WithoutCancel(ctx)
	if !m.left.Load() {
		m.export(last, Linger)
	}
	if err := m.to.Shutdown(last); err != nil {
		m.log.Warn("cannot close the export of metrics", meter.KeyError, err)
	}
}

// export exports once. The log hears of the first failure in a row, and of its end. An
// export that the end of the process cuts off is no failure: another follows.
func (m *Metrics) export(ctx context.Context, within time.Duration) {
	limited, done := context.WithTimeout(ctx, within)
	defer done()
	scopes, err := m.from.Produce(limited)
	if err == nil {
		err = m.to.Export(limited, &metricdata.ResourceMetrics{Resource: m.resource, ScopeMetrics: scopes})
	}
	if ctx.Err() != nil {
		return
	}
	switch {
	case err != nil:
		m.dropped.Add(1)
		if !m.failing {
			m.log.Warn("metrics cannot be exported; the next export tells all that this one would have", meter.KeyError, m.settings.Safe(err))
		}
	case m.failing:
		m.log.Info("metrics are exported again")
	}
	m.failing = err != nil
}
