package meter

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// QueueCounts are the numbers of one queue. A job that is leased counts as leased only;
// retrying ones wait for their next attempt.
type QueueCounts struct {
	Queue                           string
	Waiting, Leased, Retrying, Dead int64
	Bytes                           int64
}

// Queues shows the numbers of queues at each scrape. Its value is what counts them: a queue
// that cannot be counted is left out, since a gap in a graph says so and a zero would lie.
type Queues func(ctx context.Context) []QueueCounts

var (
	descQueueJobs  = prometheus.NewDesc("weir_queue_jobs", "Messages in a queue, by state: waiting, leased, retrying, dead.", []string{"queue", "state"}, nil)
	descQueueBytes = prometheus.NewDesc("weir_queue_bytes", "Bytes that the open and dead messages of a queue hold on disk.", []string{"queue"}, nil)
)

// countTimeout bounds how long a scrape waits for a store that is away.
const countTimeout = 3 * time.Second

// Describe implements prometheus.Collector. It names nothing: the queues change with every
// reload.
func (q Queues) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (q Queues) Collect(ch chan<- prometheus.Metric) {
	ctx, done := context.WithTimeout(context.Background(), countTimeout)
	defer done()
	for _, c := range q(ctx) {
		for _, x := range []struct {
			state string
			n     int64
		}{{"waiting", c.Waiting}, {"leased", c.Leased}, {"retrying", c.Retrying}, {"dead", c.Dead}} {
			ch <- prometheus.MustNewConstMetric(descQueueJobs, prometheus.GaugeValue, float64(x.n), c.Queue, x.state)
		}
		ch <- prometheus.MustNewConstMetric(descQueueBytes, prometheus.GaugeValue, float64(c.Bytes), c.Queue)
	}
}
