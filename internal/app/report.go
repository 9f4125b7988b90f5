package app

import (
	"log/slog"

	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/pipeline"
	"github.com/weirdata/weir/internal/report"
)

// Reporter tells others how the pipelines do.
type Reporter = report.Reporter

// Report makes what tells others how the pipelines do that b builds from now on, as the
// config of the process says. The log it returns is to be used from now on, also by b: its
// errors are reported too.
func (b *Builder) Report(p config.Process, log *slog.Logger) (*Reporter, *slog.Logger) {
	r := report.New(report.Options{AppName: Artifact, Version: b.Version, Process: p, Log: log})
	b.Log = slog.New(r.Handler(log.Handler()))
	wrap := b.Wrap
	b.Wrap = func(p *pipeline.Parts) {
		if wrap != nil {
			wrap(p)
		}
		r.Attach(p.Meter)
	}
	return r, b.Log
}
