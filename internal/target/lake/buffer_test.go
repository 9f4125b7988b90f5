package lake

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
)

// TestGrouping: events of one partition have one group, those of others another one, and what
// is no event at all has one too.
func TestGrouping(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		change func(*Config)
		a, b   string
		same   bool
	}{
		{nil, `{}`, `[`, true}, // by the time it was read
		{func(c *Config) { c.TimeField = "t" }, `{"t":"2026-11-29T10:00:00Z"}`, `{"x":1,"t":"2026-11-29T11:59:59.5+01:00"}`, true},
		{func(c *Config) { c.TimeField = "t" }, `{"t":"2026-11-29T10:00:00Z"}`, `{"t":"2026-11-29T11:00:00Z"}`, false},
		{func(c *Config) { c.TimeField, c.PartitionBy = "t", []string{"year", "month"} }, `{"t":"2026-11-29T10:00:00Z"}`, `{"t":"2026-11-01T11:00:00Z"}`, true},
		{func(c *Config) { c.TimeField, c.PartitionBy = "t", nil }, `{"t":"2026-11-29T10:00:00Z"}`, `{"t":"1999-11-01T11:00:00Z"}`, true},
		{func(c *Config) { c.TimeField, c.TimeFormat = "a.t", "epoch_ms" }, `{"a":{"t":1712512800000}}`, `{"a":{"t":1712512800999.5}}`, true},
		{func(c *Config) { c.TimeField, c.TimeFormat = "a.t", "epoch_ms" }, `{"a":{"t":1712512800000}}`, `{"a":{"t":1712519999999}}`, false},
		{func(c *Config) { c.TimeField = "t" }, `{"t":"soon"}`, `{"t":null}`, true},
		{func(c *Config) { c.TimeField, c.MissingTime = "t", "read_time" }, `{"t":null}`, `{}`, true},
		{func(c *Config) { c.TimeField = "t" }, `{"t":"2026-11-29T10:00:00Z"}`, `{"t":"2026-11-29T10:00`, false},
		{func(c *Config) { c.TimeField = "t" }, `no JSON`, ``, true},
	} {
		at := time.Date(2026, 11, 29, 10, 30, 0, 0, time.UTC)
		g := newGrouping(config("x", row.change))
		of := func(text string) string {
			m := event.New([]byte(text))
			m.Times.Read = at
			return g.of(m)
		}
		if a, b := of(row.a), of(row.b); (a == b) != row.same {
			t.Errorf("%s is of group %q, %s of %q", row.a, a, row.b, b)
		}
	}
}

// TestGroupingOfAnything: whatever a payload is, it has a group.
func TestGroupingOfAnything(t *testing.T) {
	t.Parallel()
	g := newGrouping(config("x", func(c *Config) { c.TimeField = "a.t" }))
	r := rand.New(rand.NewPCG(1, 2))
	const seed = `{"b":[1,{"\u0061":"x"}],"a":{"t":"2026-11-29T10:00:00Z","é":-1.5e3},"a":{"t":"\u0032026-11-29T10:00:00Z"}}`
	const odd = "\"\\{}[],:u0at\x00\xff"
	for range 200_000 {
		text := []byte(seed)
		for range 1 + r.IntN(3) {
			switch i := r.IntN(len(text)); r.IntN(3) {
			case 0:
				text[i] = odd[r.IntN(len(odd))]
			case 1:
				text = text[:i+1]
			default:
				text = append(text[:i:i], text[min(i+1+r.IntN(5), len(text)):]...)
			}
			if len(text) == 0 {
				break
			}
		}
		g.of(event.New(text))
	}
}

// TestBufferLimits: a buffer has Firehose's defaults, and is refused where it cannot work.
func TestBufferLimits(t *testing.T) {
	t.Parallel()
	l := config("x", func(c *Config) { c.Buffer = &Buffer{} }).limits()
	if l.MaxBatchBytes != 128<<20 || l.FlushPeriod != 5*time.Minute || !l.Joint || l.Group == nil {
		t.Errorf("the limits are %+v", l)
	}
	for _, row := range []struct {
		b     Buffer
		field string
	}{{Buffer{SizeMiB: -1}, "buffer.size_mib"}, {Buffer{SizeMiB: 2000}, "buffer.size_mib"}, {Buffer{IntervalSeconds: 100_000}, "buffer.interval_seconds"}, {Buffer{SizeMiB: 1, IntervalSeconds: 1}, ""}} {
		ps := config("x", func(c *Config) { c.Buffer = &row.b }).Validate()
		if row.field == "" && len(ps) > 0 || row.field != "" && (len(ps) != 1 || ps[0].Field != row.field) {
			t.Errorf("%+v: %+v", row.b, ps)
		}
	}
	ps := config("x", func(c *Config) { c.Buffer, c.MaxMessageBytes = &Buffer{SizeMiB: 1}, 2<<20 }).Validate()
	if len(ps) != 1 || !strings.Contains(fmt.Sprint(ps), "max_message_bytes") {
		t.Errorf("messages larger than a buffer: %+v", ps)
	}
	var _ connector.Limiter = (*Target)(nil)
}
