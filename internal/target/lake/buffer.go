package lake

import (
	"fmt"
	"strconv"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/jsontext"
	"github.com/weirdata/weir/internal/parquet"
)

// Buffer is how events wait for a file of their partition.
type Buffer struct {
	// SizeMiB is how many MiB of payloads make a file of a partition, before columns and
	// compression, which leave about an eighth; 1 to 1024, 128 by default, as for Firehose's
	// conversion to Parquet.
	SizeMiB int `hcl:"size_mib,optional"`
	// IntervalSeconds is the longest time, in seconds, that the first event of a partition's
	// buffer waits for it to fill; 1 to 86400, 300 by default.
	IntervalSeconds int `hcl:"interval_seconds,optional"`
}

// The defaults of Firehose, where it makes Parquet.
const (
	defaultSizeMiB  = 128
	defaultInterval = 300
	mostMiB         = 1024
	mostInterval    = 24 * 3600
)

func (b Buffer) filled() Buffer {
	if b.SizeMiB == 0 {
		b.SizeMiB = defaultSizeMiB
	}
	if b.IntervalSeconds == 0 {
		b.IntervalSeconds = defaultInterval
	}
	return b
}

// problems are what is wrong with the buffers of a config.
func (b Buffer) problems(c Config) []connector.Problem {
	var ps []connector.Problem
	refuse := func(field, fix, format string, args ...any) {
		ps = append(ps, connector.Problem{Field: "buffer." + field, What: fmt.Sprintf(format, args...), Fix: fix})
	}
	b = b.filled()
	if b.SizeMiB < 1 || b.SizeMiB > mostMiB {
		refuse("size_mib", "leave it out to use the default", "size_mib must be from 1 to %d, not %d", mostMiB, b.SizeMiB)
	} else if c.MaxMessageBytes > b.SizeMiB<<20 {
		refuse("size_mib", "raise size_mib or lower max_message_bytes", "size_mib (%d) is less than max_message_bytes (%d)", b.SizeMiB, c.MaxMessageBytes)
	}
	if b.IntervalSeconds < 1 || b.IntervalSeconds > mostInterval {
		refuse("interval_seconds", "leave it out to use the default", "interval_seconds must be from 1 to %d, not %d", mostInterval, b.IntervalSeconds)
	}
	return ps
}

// limits are those of a config with buffers.
func (b Buffer) limits(c Config) connector.Limits {
	b = b.filled()
	return connector.Limits{
		MaxBatchMessages: mostBytes, MaxBatchBytes: b.SizeMiB << 20, MaxMessageBytes: c.MaxMessageBytes,
		MaxConcurrentBatches: c.MaxConcurrentBatches, FlushPeriod: time.Duration(b.IntervalSeconds) * time.Second,
		Joint: true, Group: newGrouping(c).of,
	}
}

// grouping tells which buffer an event waits in. It is a guess, by the time field alone: which
// partition an event is in, and whether it is one at all, Write finds out.
type grouping struct {
	clock  clock
	path   []string
	bucket func(time.Time) int64
}

func newGrouping(c Config) *grouping {
	g := &grouping{clock: newClock(c), bucket: c.layout().Bucket}
	if c.TimeField != "" {
		g.path = jsontext.Path(c.TimeField)
	}
	return g
}

func (g *grouping) of(m *event.Message) string {
	at, ok := g.time(m)
	if !ok {
		return ""
	}
	return strconv.FormatInt(g.bucket(at), 36)
}

func (g *grouping) time(m *event.Message) (time.Time, bool) {
	if g.path == nil {
		return read(m), true
	}
	text, found := jsontext.FindBytes(m.Data, g.path)
	if !found || len(text) == 0 || string(text) == "null" {
		return read(m), g.clock.fallback
	}
	at, err := g.clock.parse(parquet.Value{Kind: parquet.JSON, Text: text})
	return at, err == nil
}
