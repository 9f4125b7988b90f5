package report

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
)

// told is what a summary tells of, in its order.
var told = [...]struct {
	name string
	of   func(*meter.Pipeline) int64
}{
	{"read", func(p *meter.Pipeline) int64 { return p.Read.Load() }},
	{"delivered", func(p *meter.Pipeline) int64 { return p.Target.Written.Load() }},
	{"filtered", func(p *meter.Pipeline) int64 { return p.Filtered.Load() }},
	{"failed", func(p *meter.Pipeline) int64 { return p.Invalid.Load() + p.Oversized.Load() }},
	{"failed_reads", func(p *meter.Pipeline) int64 { return p.ReadErrors.Load() }},
	{"failed_writes", func(p *meter.Pipeline) int64 {
		return failures(&p.Target) - p.Target.Failures[fault.Invalid].Load() + failures(&p.Filter) + failures(&p.Backup) + failures(&p.Failure)
	}},
	{"given_back", func(p *meter.Pipeline) int64 { return p.Unsettled.Load() }},
	{"unconfirmed", func(p *meter.Pipeline) int64 { return p.Unconfirmed.Load() }},
	{"panics", func(p *meter.Pipeline) int64 { return p.Panics.Load() }},
	{"restarts", func(p *meter.Pipeline) int64 { return p.Restarts.Load() }},
}

// changes is how much each of told has grown.
type changes [len(told)]int64

func changesOf(p *meter.Pipeline) (c changes) {
	for i := range told {
		c[i] = told[i].of(p)
	}
	return c
}

func (c changes) minus(o changes) changes {
	for i := range c {
		c[i] -= o[i]
	}
	return c
}

func (c changes) plus(o changes) changes {
	for i := range c {
		c[i] += o[i]
	}
	return c
}

// String is what is not zero: "read 12, delivered 11".
func (c changes) String() string {
	var texts []string
	for i, n := range c {
		if n != 0 {
			texts = append(texts, fmt.Sprintf("%s %d", strings.ReplaceAll(told[i].name, "_", " "), n))
		}
	}
	return strings.Join(texts, ", ")
}

// grownBy adds to all how much each of now has grown since before.
func grownBy(all, now, before map[meter.LeftOut]int64) map[meter.LeftOut]int64 {
	for x, n := range now {
		if n -= before[x]; n == 0 {
			continue
		}
		if all == nil {
			all = map[meter.LeftOut]int64{}
		}
		all[x] += n
	}
	return all
}

// leftOut is which destinations got nothing of messages, and why; of many, where it was most.
func leftOut(parts []*part) slog.Attr {
	all := map[meter.LeftOut]int64{}
	for _, p := range parts {
		all = grownBy(all, p.left, nil)
	}
	order := slices.SortedFunc(maps.Keys(all), func(a, b meter.LeftOut) int {
		return cmp.Or(cmp.Compare(all[b], all[a]), cmp.Compare(a.Destination, b.Destination), cmp.Compare(a.Reason, b.Reason))
	})
	var texts []string
	for _, x := range order[:min(len(order), mostSummarized)] {
		texts = append(texts, fmt.Sprintf("%s %d: %s", x.Destination, all[x], x.Reason))
	}
	if more := len(order) - len(texts); more > 0 {
		texts = append(texts, fmt.Sprintf("%d more", more))
	}
	return slog.String("left_out", strings.Join(texts, "; "))
}

// standing is what a summary tells of that may stand still.
type standing struct{ flying, queued, dead int64 }

// mostSummarized is how many pipelines a summary tells of one by one.
const mostSummarized = 8

// summarize writes one line of what changed in a window, for all pipelines together, and what
// of it is whose; none when nothing did.
func (r *Reporter) summarize(parts []*part, over time.Duration) {
	var all changes
	var now standing
	var lag time.Duration
	var moved []*part
	for _, p := range parts {
		now.flying += p.messages
		if p.changes == (changes{}) {
			continue
		}
		all = all.plus(p.changes)
		lag = max(lag, p.lag)
		moved = append(moved, p)
	}
	before := r.told
	now.queued, now.dead = before.queued, before.dead
	if r.Queued != nil {
		if queued, dead, ok := r.Queued(); ok {
			now.queued, now.dead = queued, dead
		}
	}
	if all == (changes{}) && now == before {
		return
	}
	r.told = now
	line := []any{"over", over.Round(time.Second)}
	number := func(name string, n int64) {
		if n != 0 {
			line = append(line, name, n)
		}
	}
	for i, n := range all {
		number(told[i].name, n)
	}
	number("in_flight", now.flying)
	number("queued", now.queued)
	number("dead", now.dead)
	if lag > 0 {
		line = append(line, "lag", lag.Round(time.Millisecond))
	}
	if len(parts) > 1 && len(moved) > 0 {
		line = append(line, shares(moved))
	}
	if left := leftOut(parts); left.Value.String() != "" {
		line = append(line, left)
	}
	r.o.Log.Info("summary", line...)
}

// shares is what each of several pipelines has to do with a summary; of many, those that read most.
func shares(moved []*part) slog.Attr {
	slices.SortStableFunc(moved, func(a, b *part) int { return cmp.Compare(b.changes[0], a.changes[0]) })
	more := max(len(moved)-mostSummarized, 0)
	var whose []any
	for _, p := range moved[:len(moved)-more] {
		whose = append(whose, slog.String(p.name, p.changes.String()))
	}
	if more > 0 {
		whose = append(whose, slog.String("others", strconv.Itoa(more)))
	}
	return slog.Group("pipelines", whose...)
}
