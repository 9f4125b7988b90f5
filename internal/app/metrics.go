package app

import (
	"context"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/otlp"
)

// ExportMetrics exports what from gathers to a collector, as the config of the process says,
// until end is called; that exports once more. dropped counts exports that failed.
func (b *Builder) ExportMetrics(ctx context.Context, p config.Process, from prometheus.Gatherer, dropped *atomic.Int64) (end func(), err error) {
	c := p.Metrics.OTLP
	if c == nil {
		return func() {}, nil
	}
	m, err := otlp.NewMetrics(ctx, otlp.Settings{Endpoint: c.Endpoint, Headers: c.Headers, ServiceName: c.ServiceName, Version: b.Version, Attributes: c.Attributes},
		c.Interval(), from, b.Log.With(meter.KeyComponent, "metrics.otlp"), dropped)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		m.Run(ctx)
	}()
	return func() {
		stop()
		<-ended
	}, nil
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
