package meter

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weirdata/weir/internal/fault"
)

// Registry is every pipeline's counters, as Prometheus collects them.
type Registry struct {
	// Reports, if set before the first scrape, is reported too.
	Reports *Reports

	mu        sync.Mutex
	pipelines []*Pipeline
	beside    []Measured
}

// Replace sets the pipelines that are reported from now on.
func (r *Registry) Replace(ps ...*Pipeline) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pipelines = slices.Clone(ps)
}

// Beside sets what is reported beside pipelines from now on. Its metrics have the labels that it gives
// them.
func (r *Registry) Beside(ms ...Measured) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.beside = slices.Clone(ms)
}

// Pipelines is the pipelines reported now, by name.
func (r *Registry) Pipelines() []*Pipeline {
	r.mu.Lock()
	defer r.mu.Unlock()
	ps := slices.Clone(r.pipelines)
	slices.SortFunc(ps, func(a, b *Pipeline) int { return strings.Compare(a.Name, b.Name) })
	return ps
}

// Describe implements prometheus.Collector. It names nothing, which makes the collector
// an unchecked one: the set of pipelines changes with every reload.
func (r *Registry) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (r *Registry) Collect(ch chan<- prometheus.Metric) {
	emit := func(d *Definition, v float64, labels ...string) { ch <- d.metric(v, labels...) }
	if d := r.Reports; d != nil {
		for receiver, n := range map[string]*atomic.Int64{"statsd": &d.Statsd, "webhook": &d.Webhook, "metadata_reporter": &d.Metadata, "sentry": &d.Sentry, "tracing": &d.Traces, "metrics": &d.Metrics} {
			emit(reportsDropped, float64(n.Load()), receiver)
		}
	}
	for _, p := range r.Pipelines() {
		p.collect(emit, ch)
	}
	r.mu.Lock()
	beside := r.beside
	r.mu.Unlock()
	for _, m := range beside {
		m.Measure(emit)
	}
}

// collect shows the numbers of one pipeline.
func (p *Pipeline) collect(emit Emit, ch chan<- prometheus.Metric) {
	for _, s := range perPipeline {
		emit(s.Definition, float64(s.of(p)), p.Name)
	}
	for reason, n := range p.FilteredReasons() {
		emit(filteredReasons, float64(n), p.Name, reason)
	}
	for x, n := range p.LeftOut() {
		emit(leftOutReasons, float64(n), p.Name, x.Destination, x.Reason)
	}
	for f, n := range p.StateFailures() {
		emit(stateFailures, float64(n), p.Name, f.State, f.Error, f.Outcome)
	}
	messages, bytes, age := p.Behind.Get()
	for i, v := range [3]float64{float64(messages), float64(bytes), age.Seconds()} {
		if v >= 0 {
			emit(sourceBehind[i], v, p.Name)
		}
	}
	p.standing(emit)
	for _, c := range p.components {
		c.Measure(func(d *Definition, v float64, labels ...string) {
			emit(d, v, append([]string{p.Name, c.name}, labels...)...)
		})
	}
	if p.Machine != nil {
		p.Machine.collect(p.Name, emit)
	}
	ch <- p.Latency
	ch <- p.Transform
	ch <- p.Lag
	for _, s := range p.Sinks() {
		s.collect(p.Name, emit)
		ch <- s.Duration
	}
}

// collect shows the numbers of one target.
func (s *Sink) collect(pipeline string, emit Emit) {
	emit(writtenMessages, float64(s.Written.Load()), pipeline, s.Role)
	emit(writtenBytes, float64(s.WrittenBytes.Load()), pipeline, s.Role)
	emit(writes, float64(s.Writes.Load()), pipeline, s.Role)
	emit(writeRetries, float64(s.Retries.Load()), pipeline, s.Role)
	for k := fault.Transient; k <= fault.Fatal; k++ {
		emit(writeFailures, float64(s.Failures[k].Load()), pipeline, s.Role, k.String())
	}
	s.standing(pipeline, emit)
}
