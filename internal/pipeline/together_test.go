package pipeline

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/meter"
)

// crowd is a transform that takes messages together.
type crowd struct {
	transform
	all func(b event.Batch) []connector.Outcome
}

func (c crowd) ApplyAll(_ context.Context, b event.Batch) []connector.Outcome { return c.all(b) }

// fate is what becomes of a message by its payload: dropped, refused, doubled, or a panic.
func fate(m *event.Message) connector.Outcome {
	s := string(m.Data)
	m.LeaveOut("of "+s, "the same for all")
	switch {
	case strings.Contains(s, "drop"):
		return connector.Outcome{}
	case strings.Contains(s, "refuse"):
		return connector.Outcome{Err: errInvalid}
	case strings.Contains(s, "panic"):
		panic("cannot bear " + s)
	case strings.Contains(s, "double"):
		return connector.Outcome{Out: m.Split([]byte(s+"/1"), []byte(s+"/2"))}
	}
	return connector.Outcome{Out: event.Batch{m}}
}

func eachFate(b event.Batch) []connector.Outcome {
	all := make([]connector.Outcome, len(b))
	for i, m := range b {
		all[i] = fate(m)
	}
	return all
}

// one is the same transform for a message at a time.
var one = transform(func(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
	o := fate(m)
	return append(out, o.Out...), o.Err
})

// TestTogether: whatever comes, in any chain, a step that takes messages together makes of
// each what it makes of it alone, and every message that was read is settled.
func TestTogether(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		kinds := []string{"a", "drop", "refuse", "panic", "double"}
		var steps [][]string
		for range rapid.IntRange(1, 3).Draw(t, "reads") {
			var ps []string
			for i, k := range rapid.SliceOfN(rapid.SampledFrom(kinds), 1, 6).Draw(t, "messages") {
				ps = append(ps, k+strings.Repeat("x", i))
			}
			steps = append(steps, ps)
		}
		length := rapid.IntRange(1, 3).Draw(t, "steps")
		run := func(together []bool) (target, filter, failure, without []string) {
			var script []step
			for _, ps := range steps {
				script = append(script, step{payloads: ps})
			}
			b := newBench(script...)
			var chain []connector.Worker
			for _, all := range together {
				if all {
					chain = append(chain, crowd{one, eachFate})
				} else {
					chain = append(chain, one)
				}
			}
			counted := meter.NewPipeline("p")
			b.parts.Meter = counted
			if err := b.through(1, chain...).run(context.Background()); err != nil {
				t.Fatalf("Run: %v", err)
			}
			for i := range steps {
				for k := range steps[i] {
					if err := b.source.outcome(i, k); err != nil {
						t.Fatalf("message %d of read %d: %v", k, i, err)
					}
				}
			}
			for x, n := range counted.LeftOut() {
				without = append(without, fmt.Sprint(x, n))
			}
			return b.target.payloads(), b.filter.payloads(), b.failure.payloads(), without
		}
		alone := make([]bool, length)
		together := slices.Clone(alone)
		for i := range together {
			together[i] = rapid.Bool().Draw(t, "together")
		}
		together[rapid.IntRange(0, length-1).Draw(t, "at least")] = true
		target, filter, failure, without := run(alone)
		gotTarget, gotFilter, gotFailure, gotWithout := run(together)
		for what, pair := range map[string][2][]string{"target": {target, gotTarget}, "filter": {filter, gotFilter}, "failure": {failure, gotFailure}, "left out": {without, gotWithout}} {
			slices.Sort(pair[0])
			slices.Sort(pair[1])
			if !slices.Equal(pair[0], pair[1]) {
				t.Fatalf("%s has %q, one by one %q", what, pair[1], pair[0])
			}
		}
	})
}

// TestTogetherBadly: outcomes that are too few, or given twice, are an error of the messages
// they concern, and every message is settled once.
func TestTogetherBadly(t *testing.T) {
	t.Parallel()
	for name, all := range map[string]func(event.Batch) []connector.Outcome{
		"too few":     func(b event.Batch) []connector.Outcome { return eachFate(b)[1:] },
		"given twice": func(b event.Batch) []connector.Outcome { o := eachFate(b); o[1].Out = o[0].Out; return o },
	} {
		b := newBench(step{payloads: []string{"a", "b", "c"}}).through(1, crowd{one, all})
		if err := b.run(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if n := len(b.target.payloads()) + len(b.failure.payloads()); n != 3 || len(b.failure.payloads()) == 0 {
			t.Errorf("%s: target has %q, failure target %q", name, b.target.payloads(), b.failure.payloads())
		}
	}
}
