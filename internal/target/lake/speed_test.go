package lake

import (
	"fmt"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/produce"
)

// batchTime is the time of every event.
var batchTime = time.Unix(1712513462, 0)

// BenchmarkWrite lands batches of lesson events, fsync included, with and without looking
// for duplicates. The disk and what else the machine does are in ns/event; package parquet
// measures what an event costs the processor.
func BenchmarkWrite(b *testing.B) {
	const size = 20_000
	for _, dedup := range []string{"", "event_uuid"} {
		b.Run(fmt.Sprintf("dedup=%t", dedup != ""), func(b *testing.B) {
			target := opened(b, config(b.TempDir(), func(c *Config) {
				c.TimeField, c.TimeFormat, c.DedupField = "created_at", "epoch_s", dedup
			}))
			g := produce.New(1)
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				b.StopTimer()
				batch := make(event.Batch, size)
				for i := range batch {
					batch[i] = event.New(g.Append(nil, batchTime))
					batch[i].Meta.ID = fmt.Sprint(n)
					n++
				}
				b.StartTimer()
				writes(b, target, batch)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/event")
		})
	}
}
