package object

import (
	"fmt"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/firehose/prefix"
)

// The limits of Amazon Data Firehose. What is beyond works here all the same.
const (
	leastFlushMillis  = 1000 // below it does not buffer
	mostFlushMillis   = 900_000
	leastBatchBytes   = 1 << 20
	leastColumnsBytes = 64 << 20 // with dynamic partitioning, and with record format conversion
	mostBatchBytes    = 128 << 20
	mostPartitionsAWS = 5000
)

const (
	limitsWarn   = "warn"
	limitsIgnore = "ignore"
)

// PartitionKeys are those that the prefix names; false says that there is no prefix.
func (t *Target) PartitionKeys() (keys []prefix.Key, prefixed bool) {
	for _, p := range t.key {
		if p.kind == isPrefix {
			return p.prefix.Keys(), true
		}
	}
	return nil, false
}

// Doubts implements connector.Doubter: what Firehose would refuse of a target with a prefix. Defaults are
// no doubts of whoever left them.
func (t *Target) Doubts() (ps []connector.Problem) {
	keys, prefixed := t.PartitionKeys()
	c, usual := t.config, defaults().Batching
	if !prefixed || c.FirehoseLimits == limitsIgnore {
		return nil
	}
	doubt := func(field, fix, format string, args ...any) {
		ps = append(ps, connector.Problem{Field: field, What: fmt.Sprintf(format, args...), Fix: fix + `, or set firehose_limits = "ignore"`})
	}
	b, dynamic := c.Batching, len(keys) > 0
	switch bytes := b.MaxBatchBytes; {
	case bytes == usual.MaxBatchBytes:
	case bytes > mostBatchBytes || bytes < leastBatchBytes:
		doubt("batching.max_batch_bytes", "write 1048576 to 134217728", "a buffer of Firehose has 1 to 128 MiB, and max_batch_bytes is %d", bytes)
	case bytes < leastColumnsBytes && dynamic:
		doubt("batching.max_batch_bytes", "write 67108864 at least", "a buffer of Firehose has 64 MiB at least where partition keys are in the prefix, and max_batch_bytes is %d", bytes)
	case bytes < leastColumnsBytes && c.FormatConversion != nil:
		doubt("batching.max_batch_bytes", "write 67108864 at least", "a buffer of Firehose has 64 MiB at least with format conversion, and max_batch_bytes is %d", bytes)
	}
	switch wait := b.FlushPeriodMillis; {
	case wait > mostFlushMillis:
		doubt("batching.flush_period_millis", "write at most 900000", "Firehose writes a buffer after 900 seconds at the latest, and flush_period_millis is %d", wait)
	case wait < leastFlushMillis && dynamic:
		doubt("batching.flush_period_millis", "write 60000", "Firehose does not write without a buffer where partition keys are in the prefix, and flush_period_millis is %d", wait)
	}
	if c.MaxPartitions > mostPartitionsAWS {
		doubt("max_partitions", "write at most 5000", "Firehose has at most 5000 active partitions, and max_partitions is %d", c.MaxPartitions)
	}
	if c.Compression == zstandard {
		doubt("compression", `use "gzip"`, "Firehose does not write zstd")
	}
	if c.CSV != nil {
		doubt("csv", "leave it out", "Firehose does not write CSV")
	}
	if d := c.delimiter(); c.CSV == nil && c.Each == eachBatch && d != "" && d != "\n" {
		doubt("delimiter", `use "\n", or "" for none`, "Firehose puts a line end behind records, or nothing, and delimiter is %q", d)
	}
	return ps
}
