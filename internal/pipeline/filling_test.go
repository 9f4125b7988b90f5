package pipeline

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/event"
)

// TestGroups sends messages of several groups, whose sizes the target counts its own way, at
// random times: no write has messages of two groups or more than it takes, a group keeps its
// order, and nothing waits longer than the flush period.
func TestGroups(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		var script []step
		n, oversized := 0, 0
		groups := rapid.IntRange(1, 5).Draw(rt, "groups")
		for range rapid.IntRange(1, 12).Draw(rt, "reads") {
			st := step{after: time.Duration(rapid.IntRange(0, 80).Draw(rt, "after")) * time.Millisecond}
			for range rapid.IntRange(1, 8).Draw(rt, "messages") {
				size := rapid.IntRange(0, 30).Draw(rt, "size")
				st.payloads = append(st.payloads, fmt.Sprintf("%d %d %s", rapid.IntRange(0, groups-1).Draw(rt, "group"), n, strings.Repeat("x", size)))
				st.keys = append(st.keys, strings.Repeat("k", rapid.IntRange(0, 20).Draw(rt, "key")))
				if 2*len(st.keys[len(st.keys)-1])+len(st.payloads[len(st.payloads)-1]) > 50 {
					oversized++
				}
				n++
			}
			script = append(script, st)
		}
		b := newBench(script...)
		lim := &b.parts.Target.Limits
		lim.MaxBatchMessages, lim.MaxBatchBytes, lim.MaxMessageBytes = rapid.IntRange(1, 5).Draw(rt, "batch"), 100, 50
		lim.Size = func(m *event.Message) int { return 2*len(m.Key) + len(m.Data) }
		lim.Group = func(m *event.Message) string { return strings.Fields(string(m.Data))[0] }
		eager := rapid.Bool().Draw(rt, "eager")
		lim.Eager = eager
		b.parts.Ordered = rapid.Bool().Draw(rt, "ordered")
		written := 0
		last := map[string]int{}
		b.target.before = func(_ context.Context, batch event.Batch) error {
			bytes := 0
			for _, m := range batch {
				bytes += lim.Size(m)
				var group, number int
				_, _ = fmt.Sscan(string(m.Data), &group, &number)
				if g := lim.Group(m); g != lim.Group(batch[0]) {
					rt.Errorf("groups %s and %s share a write", g, lim.Group(batch[0]))
				} else if was, ok := last[g]; ok && was >= number {
					rt.Errorf("group %s: %d comes after %d", g, number, was)
				} else {
					last[g] = number
				}
				if waited := time.Since(m.Times.Read); waited > lim.FlushPeriod {
					rt.Errorf("message %d waited %s", number, waited)
				}
				written++
			}
			if len(batch) > lim.MaxBatchMessages || bytes > lim.MaxBatchBytes {
				rt.Errorf("a write has %d messages of %d bytes", len(batch), bytes)
			}
			return nil
		}
		synctest.Test(t, func(t *testing.T) {
			if err := b.run(t.Context()); err != nil {
				rt.Error(err)
			}
		})
		if written != n-oversized || len(b.failure.payloads()) != oversized {
			rt.Errorf("%d messages of %d were written, %d of %d were too large", written, n, len(b.failure.payloads()), oversized)
		}
	})
}

// TestGroupThatPanics: a panic of what a target says of a message is that message's error.
func TestGroupThatPanics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(step{payloads: []string{"a", "bad", "c"}})
		b.parts.Target.Limits.Group = func(m *event.Message) string {
			if string(m.Data) == "bad" {
				panic("no topic")
			}
			return ""
		}
		if err := b.run(t.Context()); err != nil {
			t.Error(err)
		}
		wantPayloads(t, "target", b.target, "a", "c")
		if got := b.failure.payloads(); len(got) != 1 {
			t.Errorf("failures %q", got)
		}
	})
}

// shrinking is a format that uses all the room it is given.
type shrinking struct{}

func (shrinking) Format(x Failure, limit int) ([]byte, error) {
	return []byte(fmt.Sprintf("%-*d", limit, x.Limit)), nil
}

// TestFailureTargetThatCountsKeys: a failure is made to fit by what the failure target counts,
// and says how large its payload could have been.
func TestFailureTargetThatCountsKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(step{payloads: []string{strings.Repeat("x", 70)}, keys: []string{"twelve bytes"}})
		counts := func(m *event.Message) int { return len(m.Key) + 2*len(m.Data) }
		b.parts.Format = shrinking{}
		b.parts.Target.Limits.Size, b.parts.Target.Limits.MaxMessageBytes = counts, 100
		b.parts.Failure.Limits.Size, b.parts.Failure.Limits.MaxMessageBytes = counts, 60
		if err := b.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := b.failure.payloads()
		if len(got) != 1 || len(got[0])*2+12 > 60 || strings.TrimSpace(got[0]) != "18" {
			t.Errorf("failures %q", got)
		}
	})
}
