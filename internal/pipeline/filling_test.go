package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// TestGroups sends messages of several groups, whose sizes the target counts its own way, at
// random times: no write has messages of two groups or more than it takes, a group keeps its
// order, and nothing waits longer than the flush period. Where groups may share a write, no write
// has more of one than it takes, nor more of all than a share of what may be in flight, and one.
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
		joint := rapid.Bool().Draw(rt, "joint")
		lim.Joint = joint
		lim.MaxGroups = rapid.IntRange(0, 4).Draw(rt, "most groups") // nothing else is different: those that are too many leave
		b.parts.InFlightMessages = rapid.SampledFrom([]int{4, 16, 1000}).Draw(rt, "in flight")
		most := max(b.parts.InFlightMessages/roomShare, 1) + lim.MaxBatchMessages - 1
		written := 0
		last := map[string]int{}
		b.target.before = func(_ context.Context, batch event.Batch) error {
			bytes, of := map[string]int{}, map[string]int{}
			for _, m := range batch {
				bytes[lim.Group(m)] += lim.Size(m)
				of[lim.Group(m)]++
				var group, number int
				_, _ = fmt.Sscan(string(m.Data), &group, &number)
				if g := lim.Group(m); g != lim.Group(batch[0]) && !joint {
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
			for g, n := range of {
				if n > lim.MaxBatchMessages || bytes[g] > lim.MaxBatchBytes {
					rt.Errorf("a write has %d messages of %d bytes of group %s", n, bytes[g], g)
				}
			}
			if len(batch) > max(most, lim.MaxBatchMessages) {
				rt.Errorf("a write has %d messages of %d groups", len(batch), len(of))
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

// TestJointGroupsFill: groups that share writes fill as long as there is room in flight. When there is
// none, they leave together, in few writes, and nothing waits for its time.
func TestJointGroupsFill(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const reads, cold, inFlight = 200, 40, 400
		var script []step
		for i := range reads { // each has a message of a cold group and four of one of two hot ones
			st := step{payloads: []string{fmt.Sprintf("cold%d %d", i%cold, 5*i)}}
			for k := 1; k < 5; k++ {
				st.payloads = append(st.payloads, fmt.Sprintf("hot%d %d", i%2, 5*i+k))
			}
			script = append(script, st)
		}
		b := newBench(script...)
		lim := &b.parts.Target.Limits
		lim.MaxBatchMessages, lim.MaxBatchBytes, lim.Joint = 1000, 0, true
		lim.FlushPeriod = time.Hour
		lim.Group = func(m *event.Message) string { return strings.Fields(string(m.Data))[0] }
		b.parts.InFlightMessages = inFlight
		begun := time.Now()
		var mu sync.Mutex
		writes, pieces := 0, map[string]int{} // in which a group was written
		b.target.before = func(_ context.Context, batch event.Batch) error {
			groups := map[string]bool{}
			for _, m := range batch {
				groups[lim.Group(m)] = true
			}
			mu.Lock()
			defer mu.Unlock()
			writes++
			for g := range groups {
				pieces[g]++
			}
			return nil
		}
		if err := b.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took >= lim.FlushPeriod {
			t.Errorf("it took %s: something waited for its time though nothing more could be read", took)
		}
		if n := len(b.target.payloads()); n != 5*reads {
			t.Errorf("%d messages of %d are written", n, 5*reads)
		}
		rounds := (5*reads + inFlight - 1) / inFlight
		for g, n := range pieces {
			if n > rounds+1 {
				t.Errorf("%s was written in %d pieces, though the room was full %d times", g, n, rounds)
			}
		}
		if most := (rounds + 1) * (roomShare + 1); writes > most {
			t.Errorf("%d writes, more than %d", writes, most)
		}
	})
}

// TestGroupsExceeded: where one group more is refused, its messages fail, those of the groups that fill
// already do not, and once these have left there is room again.
func TestGroupsExceeded(t *testing.T) {
	t.Parallel()
	b := newBench(
		step{payloads: []string{"a 1", "b 2", "c 3", "a 4", "c 5"}, keys: []string{"", "", "", "", ""}},
		step{after: time.Minute, payloads: []string{"c 6", "d 7", "a 8"}, keys: []string{"", "", ""}},
	)
	lim := &b.parts.Target.Limits
	lim.MaxBatchMessages, lim.MaxGroups, lim.Joint = 100, 2, true
	lim.Exceeded = fault.New(fault.Invalid, errors.New("two groups fill"))
	lim.Group = func(m *event.Message) string { return strings.Fields(string(m.Data))[0] }
	synctest.Test(t, func(t *testing.T) {
		if err := b.run(t.Context()); err != nil {
			t.Error(err)
		}
	})
	got := b.target.payloads()
	slices.Sort(got)
	if want := []string{"a 1", "a 4", "b 2", "c 6", "d 7"}; !slices.Equal(got, want) || len(b.failure.payloads()) != 3 {
		t.Errorf("%q are written, and %q failed", got, b.failure.payloads())
	}
}
