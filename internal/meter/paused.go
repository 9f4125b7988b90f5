package meter

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
)

// Paused shows at each scrape how many pauses operators have set on each queue. Its value finds
// them.
type Paused func(ctx context.Context) map[string]int

var queuePaused = gauge("weir_queue_paused", "Pauses of a queue by operators: of all of it, or of a workspace, source or destination. With PostgreSQL every process shows those of the cluster: take max by (queue).", "queue")

// Describe implements prometheus.Collector. It names nothing, as with [Queues].
func (p Paused) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (p Paused) Collect(ch chan<- prometheus.Metric) {
	ctx, done := context.WithTimeout(context.Background(), countTimeout)
	defer done()
	for q, n := range p(ctx) {
		ch <- queuePaused.metric(float64(n), q)
	}
}
