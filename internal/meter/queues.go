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
	queueJobs  = gauge("weir_queue_jobs", "Messages in a queue, by state: waiting, leased, retrying, dead. With PostgreSQL every process shows the total of the cluster: take max by (queue, state), never sum; weir_cluster_queue_jobs says the same with a label for the store.", "queue", "state")
	queueBytes = gauge("weir_queue_bytes", "Bytes that the open and dead messages of a queue hold on disk. With PostgreSQL every process shows the total of the cluster: take max by (queue), never sum.", "queue")
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
			ch <- queueJobs.metric(float64(x.n), c.Queue, x.state)
		}
		ch <- queueBytes.metric(float64(c.Bytes), c.Queue)
	}
}
