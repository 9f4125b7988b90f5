package app

import (
	"context"
	"sync/atomic"

	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/otlp"
	"github.com/weirdata/weir/internal/trace"
)

// Tracing is where the spans of pipelines go: nowhere where it is nil.
type Tracing = trace.Tracer

// Trace has the pipelines traced that b builds from now on, as the config of the process
// says. dropped counts spans that could not be exported. What it returns is to be ended when those
// pipelines have: see [Builder.EndTrace].
func (b *Builder) Trace(ctx context.Context, p config.Process, dropped *atomic.Int64) (*Tracing, error) {
	t := p.Tracing
	if t == nil {
		b.tracer = nil
		return nil, nil //nolint:nilnil // nothing is traced
	}
	made, err := trace.New(ctx, trace.Settings{
		Settings:    otlp.Settings{Endpoint: t.Endpoint, Headers: t.Headers, ServiceName: t.ServiceName, Version: b.Version, Attributes: t.Attributes},
		SampleRatio: t.SampleRatio,
		Log:         b.Log.With(meter.KeyComponent, "tracing"), Dropped: dropped,
	})
	if err != nil {
		return nil, err
	}
	b.tracer = made
	return made, nil
}

// TraceBy has the pipelines traced that b builds from now on as those before.
func (b *Builder) TraceBy(t *Tracing) { b.tracer = t }

// EndTrace exports the spans that t has left, for at most [otlp.Linger]. What is not exported
// by then is lost, and the log says so.
func (b *Builder) EndTrace(ctx context.Context, t *Tracing) {
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), otlp.Linger)
	defer done()
	if err := t.Close(ctx); err != nil {
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
