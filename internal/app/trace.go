package app

import (
	"context"
	"sync/atomic"

	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/otlp"
	"github.com/weirdata/weir/internal/trace"
)

// Trace has the pipelines traced that b builds from now on, as the config of the process
// says. dropped counts spans that could not be exported. EndTrace exports what is left.
func (b *Builder) Trace(ctx context.Context, p config.Process, dropped *atomic.Int64) error {
	t := p.Tracing
	if t == nil {
		return nil
	}
	var err error
	b.tracer, err = trace.New(ctx, trace.Settings{
		Settings:    otlp.Settings{Endpoint: t.Endpoint, Headers: t.Headers, ServiceName: t.ServiceName, Version: b.Version, Attributes: t.Attributes},
		SampleRatio: t.SampleRatio,
		Log:         b.Log.With(meter.KeyComponent, "tracing"), Dropped: dropped,
	})
	return err
}

// EndTrace exports the spans that are left, for at most [otlp.Linger]. What is not exported
// by then is lost, and the log says so.
func (b *Builder) EndTrace(ctx context.Context) {
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), otlp.Linger)
	defer done()
	if err := b.tracer.Close(ctx); err != nil {
		b.Log.Warn("not all traces were exported", meter.KeyError, err)
	}
}

// checkExports finds what p leaves to the environment and the environment has wrong.
func checkExports(p *config.Process) config.Diagnostics {
	var found config.Diagnostics
	check := func(block, signal, endpoint string) {
		if err := (otlp.Settings{Endpoint: endpoint}).Check(signal); err != nil {
			found = append(found, config.Diagnostic{Severity: config.Error, What: block + ": " + err.Error(), Fix: "correct the environment variable, or unset it"})
		}
	}
	if t := p.Tracing; t != nil {
		check("tracing", "traces", t.Endpoint)
	}
	if m := p.Metrics; m != nil && m.OTLP != nil {
		check("metrics.otlp", "metrics", m.OTLP.Endpoint)
	}
	return found
}
