package cli

import (
	"context"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weirdata/weir/internal/app"
	"github.com/weirdata/weir/internal/config"
)

// exports is who else is told how the process does: the receivers of reports, of metrics and of
// spans. A reload makes them anew, as the new config and the files that its certificates come from
// say then, before anything is replaced; what cannot be made leaves all as it was. They take over
// when the new pipelines run: the old ones send what they have first, and spans of pipelines that
// are still draining go where they were to go. Reports count on, so nothing is told twice or to
// nobody. Metrics are those of the pipelines that run, whose counters begin anew: those that go are
// exported once more before they do.
type exports struct {
	builder *app.Builder
	reports *app.Reporter
	from    prometheus.Gatherer // set before the metrics begin

	mu       sync.Mutex
	ended    bool
	settings config.Process // that hold
	tracing  *app.Tracing
	metrics  *app.MetricsExport
	next     *nextExports   // of a reload
	former   sync.WaitGroup // tracings whose pipelines drain
}

// nextExports are made for the pipelines of a reload.
type nextExports struct {
	settings config.Process
	tracing  *app.Tracing
	metrics  *app.MetricsExport
	drained  func() // waits for the pipelines that go
}

// trace has the first pipelines traced.
func (x *exports) trace(ctx context.Context, p config.Process) (err error) {
	x.settings = p
	x.tracing, err = x.builder.Trace(ctx, p, &x.reports.Dropped().Traces)
	return err
}

// measure begins to export metrics.
func (x *exports) measure(ctx context.Context, from prometheus.Gatherer) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.from = from
	var err error
	if x.metrics, err = x.builder.ExportMetrics(ctx, x.settings, from, &x.reports.Dropped().Metrics); err != nil {
		return err
	}
	x.metrics.Begin(ctx)
	return nil
}

// prepare makes those for the pipelines that are built next.
func (x *exports) prepare(ctx context.Context, p config.Process, drained func()) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	next := &nextExports{settings: p, drained: drained}
	var err error
	if next.metrics, err = x.builder.ExportMetrics(ctx, p, x.from, &x.reports.Dropped().Metrics); err != nil {
		return err
	}
	if next.tracing, err = x.builder.Trace(ctx, p, &x.reports.Dropped().Traces); err != nil {
		return err
	}
	x.reports.Expect(app.ReportSettings(p))
	x.next = next
	return nil
}

// replacing says that the pipelines are about to be replaced, whose counters then go with them.
func (x *exports) replacing() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.metrics.Export()
}

// abandon leaves all as it was.
func (x *exports) abandon(ctx context.Context) {
	x.mu.Lock()
	defer x.mu.Unlock()
	next := x.next
	if next == nil {
		return
	}
	x.next = nil
	x.reports.Expect(app.ReportSettings(x.settings))
	x.builder.TraceBy(x.tracing)
	x.builder.EndTrace(ctx, next.tracing)
}

// adopt has those that were prepared take over: the pipelines that were built with them run.
func (x *exports) adopt(ctx context.Context) {
	x.mu.Lock()
	defer x.mu.Unlock()
	next := x.next
	x.next = nil
	if next == nil {
		return
	}
	before := x.tracing
	x.settings, x.tracing = next.settings, next.tracing
	if x.ended {
		x.builder.EndTrace(ctx, next.tracing)
		return
	}
	x.reports.Renew(app.ReportSettings(next.settings))
	x.metrics.Leave()
	x.metrics = next.metrics
	x.metrics.Begin(ctx)
	x.former.Go(func() {
		next.drained()
		x.builder.EndTrace(ctx, before)
	})
}

// end sends what is left.
func (x *exports) end(ctx context.Context) {
	x.mu.Lock()
	x.ended = true
	x.metrics.End()
	x.builder.EndTrace(ctx, x.tracing)
	x.mu.Unlock()
	x.former.Wait()
}

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
