package admin

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/queue"
)

// The metrics of queues, read from the store's counters at each scrape. A job that is
// leased counts as leased only; retrying ones wait for their next attempt.
var (
	descJobs  = prometheus.NewDesc("weir_queue_jobs", "Messages in a queue, by state: waiting, leased, retrying, dead.", []string{"queue", "state"}, nil)
	descBytes = prometheus.NewDesc("weir_queue_bytes", "Bytes that the open and dead messages of a queue hold on disk.", []string{"queue"}, nil)
)

// scrapeTimeout bounds how long a scrape waits for a store that is away.
const scrapeTimeout = 3 * time.Second

// gauges collects the numbers of the queues of the open store.
type gauges struct {
	store func() (queue.Store, string, []connector.Queue)
}

// Describe implements prometheus.Collector. It names nothing: the queues change with
// every reload.
func (g gauges) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector. A queue that cannot be counted is left out: a
// gap in a graph says so, a zero would lie.
func (g gauges) Collect(ch chan<- prometheus.Metric) {
	s, _, queues := g.store()
	if s == nil {
		return
	}
	ctx, done := context.WithTimeout(context.Background(), scrapeTimeout)
	defer done()
	for _, q := range queues {
		st, err := s.Stats(ctx, queue.Filter{Queue: q.Name})
		if err != nil {
			continue
		}
		for _, x := range []struct {
			state string
			n     int64
		}{{"waiting", st.Waiting}, {"leased", st.Leased}, {"retrying", st.Retrying}, {"dead", st.Dead}} {
			ch <- prometheus.MustNewConstMetric(descJobs, prometheus.GaugeValue, float64(x.n), q.Name, x.state)
		}
		ch <- prometheus.MustNewConstMetric(descBytes, prometheus.GaugeValue, float64(st.Bytes), q.Name)
	}
}
