package meter

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
)

// Unread shows at each scrape the open messages of the queues that no process reads. Its value
// finds them.
type Unread func(ctx context.Context) []QueueCounts

var queueUnread = gauge("weir_queue_unread", "Open messages of a queue that no process reads, also of one that this config does not declare. With PostgreSQL every process shows the total of the cluster: take max by (queue).", "queue")

// Describe implements prometheus.Collector. It names nothing, as with [Queues].
func (u Unread) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (u Unread) Collect(ch chan<- prometheus.Metric) {
	ctx, done := context.WithTimeout(context.Background(), countTimeout)
	defer done()
	for _, c := range u(ctx) {
		ch <- queueUnread.metric(float64(c.Waiting), c.Queue)
	}
}
