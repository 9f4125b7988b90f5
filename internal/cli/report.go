package cli

import (
	"context"
	"reflect"

	"github.com/weirdata/weir/internal/config"
)

// startReports reports on what runs until end is called with what the run came to. end
// returns when the last reports are sent, or could not be in time.
func (r *runner) startReports(ctx context.Context) (end func(error)) {
	r.reports.Queued = r.inQueues
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.reports.Run(ctx, r.meter.Pipelines)
	}()
	return func(err error) {
		if err != nil {
			r.reports.Failed(err)
		}
		stop()
		<-ended
	}
}

// warnOfReports warns of settings of reports that a reload changed: they are read at the
// start only.
func (r *runner) warnOfReports(now config.Process) {
	was := r.started
	for _, s := range []struct {
		block   string
		was, is any
	}{
		{"stats_receiver.use", was.StatsReceiver.Statsd, now.StatsReceiver.Statsd},
		{"stats_receiver.buffer_sec", was.StatsReceiver.BufferSec, now.StatsReceiver.BufferSec},
		{"metrics", was.Metrics, now.Metrics},
		{"monitoring", was.Monitoring, now.Monitoring},
		{"memory_limit_bytes", was.MemoryLimitBytes, now.MemoryLimitBytes},
		{"sentry", was.Sentry, now.Sentry},
		{"tracing", was.Tracing, now.Tracing},
	} {
		if !reflect.DeepEqual(s.was, s.is) {
			r.log.Warn("a setting changes at the next start only", "setting", s.block)
		}
	}
}
