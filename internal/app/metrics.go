package app

import (
	"context"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/otlp"
)

// MetricsExport is the export of metrics to a collector. One that is nil exports nothing.
type MetricsExport struct {
	metrics *otlp.Metrics
	stop    context.CancelFunc
	ended   chan struct{}
}

// ExportMetrics makes what exports what from gathers to a collector, as the config of the process
// says; it does from Begin on. dropped counts exports that failed.
func (b *Builder) ExportMetrics(ctx context.Context, p config.Process, from prometheus.Gatherer, dropped *atomic.Int64) (*MetricsExport, error) {
	c := p.Metrics.OTLP
	if c == nil {
		return nil, nil //nolint:nilnil // nothing is exported
	}
	m, err := otlp.NewMetrics(ctx, otlp.Settings{Endpoint: c.Endpoint, Headers: c.Headers, ServiceName: c.ServiceName, Version: b.Version, Attributes: c.Attributes},
		c.Interval(), from, b.Log.With(meter.KeyComponent, "metrics.otlp"), dropped)
	if err != nil {
		return nil, err
	}
	return &MetricsExport{metrics: m, ended: make(chan struct{})}, nil
}

// Begin begins to export, whatever becomes of ctx.
func (e *MetricsExport) Begin(ctx context.Context) {
	if e == nil {
		return
	}
	ctx, e.stop = context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer close(e.ended)
		e.metrics.Run(ctx)
	}()
}

// Export exports once, between the others.
func (e *MetricsExport) Export() {
	if e != nil {
		e.metrics.Export()
	}
}

// End exports once more, and ends. It may be called once after Begin.
func (e *MetricsExport) End() {
	if e != nil {
		e.stop()
		<-e.ended
	}
}

// Leave ends the export: what there is to tell is no longer for this collector.
func (e *MetricsExport) Leave() {
	if e != nil {
		e.metrics.Leave()
		e.End()
	}
}

// measured is a connector that was made, and what metrics call it.
type measured struct {
	component string
	made      any
}

// measure has m show what the connectors of the pipeline measure, and which queues it joins.
func (a *assembly) measure(m *meter.Pipeline) {
	for _, c := range a.measured {
		m.Attach(c.component, c.made)
	}
	m.Join(a.config.Upstream(), a.config.Downstream())
}
