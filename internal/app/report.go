package app

import (
	"log/slog"

	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/pipeline"
	"github.com/weirdata/weir/internal/report"
)

// Reporter tells others how the pipelines do.
type Reporter = report.Reporter

// ReportSettings is what the config of a process says of reports.
func ReportSettings(p config.Process) report.Settings {
	s := report.Settings{Every: p.StatsReceiver.Buffer()}
	if m := p.Metrics; m != nil {
		s.EndToEnd, s.Memory = m.E2ELatency, m.KinsumerMemory
	}
	if c := p.StatsReceiver.Statsd; c != nil {
		s.Statsd = &report.Statsd{Address: c.Address, Prefix: c.Prefix, Host: c.HostTag, Tags: c.TagMap()}
	}
	if c := p.Sentry; c != nil {
		s.Sentry = &report.Sentry{DSN: c.DSN, Tags: c.TagMap(), Debug: c.Debug}
	}
	if m := p.Monitoring; m != nil {
		if c := m.Webhook; c != nil {
			s.Webhook = &report.Webhook{Endpoint: c.Endpoint, Tags: c.Tags, Heartbeat: c.Heartbeat()}
		}
		if c := m.MetadataReporter; c != nil {
			s.Metadata = &report.Metadata{Endpoint: c.Endpoint, Tags: c.Tags}
		}
	}
	return s
}

// Report makes what tells others how the pipelines do that b builds from now on, as the
// config of the process says. The log it returns is to be used from now on, also by b: its
// errors are reported too.
func (b *Builder) Report(p config.Process, log *slog.Logger) (*Reporter, *slog.Logger) {
	r := report.New(report.Options{AppName: Artifact, Version: b.Version, Settings: ReportSettings(p), Log: log})
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
