package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

var errTurn = errors.New("this part takes no more now")

// part is a target of which a part, the messages that begin with "hot", takes nothing for a
// while.
func part(until time.Duration, wait time.Duration) func(context.Context, event.Batch) error {
	begin := time.Now()
	return func(_ context.Context, b event.Batch) error {
		time.Sleep(time.Millisecond)
		failed := map[int]error{}
		for i, m := range b {
			if strings.HasPrefix(string(m.Data), "hot") && time.Since(begin) < until {
				failed[i] = fault.Pace(errTurn, wait)
			}
		}
		if len(failed) == 0 {
			return nil
		}
		return &connector.Partial{Failed: failed}
	}
}

// mixed is messages of which every fourth is hot.
func mixed(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("cold%d", i)
		if i%4 == 0 {
			out[i] = fmt.Sprintf("hot%d", i)
		}
	}
	return out
}

// TestTurnsHoldUpNothingElse: while a part of the target takes nothing, all writers write the
// rest; what waits for its turn is tried when it has come, is no failure, however long it
// lasts, and no more writes run at once than may.
func TestTurnsHoldUpNothingElse(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		writers int
		ordered bool
		holds   bool // what is behind waits
	}{{3, false, false}, {1, false, true}, {3, true, false}, {1, true, false}} {
		t.Run(fmt.Sprint(row), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBench(step{payloads: mixed(400)})
				b.parts.Ordered = row.ordered
				b.parts.Target.Limits.MaxConcurrentBatches = row.writers
				b.parts.Retry.Throttle.MaxAttempts = 2
				b.target.before = part(time.Minute, 50*time.Millisecond)
				begin := time.Now()
				if err := b.run(t.Context()); err != nil {
					t.Fatal(err)
				}
				var cold, hot time.Duration
				for _, k := range b.target.got {
					at := k.at.Sub(begin)
					if strings.HasPrefix(k.payload, "hot") {
						hot = max(hot, at)
					} else {
						cold = max(cold, at)
					}
				}
				if len(b.target.got) != 400 || hot < time.Minute || hot > time.Minute+time.Second {
					t.Errorf("%d messages, the last of the hot ones after %s", len(b.target.got), hot)
				}
				if held := cold > time.Second; held != row.holds {
					t.Errorf("the last of the others came after %s", cold)
				}
				if b.target.maxWrite > row.writers {
					t.Errorf("%d writes at once", b.target.maxWrite)
				}
			})
		})
	}
}

// TestTurnsEndWithTheDrain: a message that waits for its turn keeps no pipeline from stopping,
// and is not acknowledged.
func TestTurnsEndWithTheDrain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(step{payloads: mixed(40)})
		b.source.endless = true
		b.parts.Target.Limits.MaxConcurrentBatches = 2
		b.parts.Drain = time.Minute
		b.target.before = part(time.Hour, time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		begin := time.Now()
		if err := b.run(ctx); err == nil {
			t.Error("no error, with messages that nobody has")
		}
		if took := time.Since(begin); took > 2*time.Minute {
			t.Errorf("it took %s", took)
		}
		for i := range 40 {
			if err := b.source.outcome(0, i); (i%4 == 0) != (err != nil) {
				t.Errorf("message %d: %v", i, err)
			}
		}
	})
}

// TestTurnsProperty: whatever parts take and refuse, however many writers there are and whether
// order is kept or not: every message is written once, no more writes run at once than may, and
// where order is kept, messages with one key are written in theirs.
func TestTurnsProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		writers := rapid.IntRange(1, 5).Draw(r, "writers")
		ordered := rapid.Bool().Draw(r, "ordered")
		n := rapid.IntRange(1, 120).Draw(r, "messages")
		waits := rapid.SliceOfN(rapid.IntRange(0, 300), 7, 7).Draw(r, "waits")
		turns := rapid.SliceOfN(rapid.SampledFrom([]int{0, 0, 0, 1, 2, 6}), n, n).Draw(r, "turns") // how often a message is sent back
		keys := rapid.SliceOfN(rapid.SampledFrom([]string{"", "a", "b", "c", "d", "e", "f"}), n, n).Draw(r, "keys")
		pauses := rapid.SliceOfN(rapid.IntRange(0, 200), 8, 8).Draw(r, "pauses")
		synctest.Test(t, func(t *testing.T) {
			var script []step
			all := numbered("m", n)
			for i := 0; i < n; i += 15 {
				end := min(i+15, n)
				script = append(script, step{payloads: all[i:end], keys: keys[i:end], after: time.Duration(pauses[i/15]) * time.Millisecond})
			}
			b := newBench(script...)
			b.parts.Ordered = ordered
			b.parts.Target.Limits.MaxConcurrentBatches = writers
			b.parts.Target.Limits.MaxBatchMessages = 7
			var mu sync.Mutex
			left := map[string]int{}
			for i, k := range turns {
				left[fmt.Sprintf("m%d", i)] = k
			}
			b.target.before = func(_ context.Context, batch event.Batch) error {
				time.Sleep(3 * time.Millisecond)
				mu.Lock()
				defer mu.Unlock()
				failed, behind := map[int]error{}, map[string]bool{}
				for i, m := range batch {
					k := left[string(m.Data)]
					if k == 0 && !behind[m.Key] {
						continue
					}
					if !behind[m.Key] {
						left[string(m.Data)]--
					}
					behind[m.Key] = ordered && m.Key != ""
					failed[i] = fault.Pace(errTurn, time.Duration(waits[k])*time.Millisecond)
				}
				if len(failed) == 0 {
					return nil
				}
				return &connector.Partial{Failed: failed}
			}
			if err := b.run(context.Background()); err != nil {
				r.Fatal(err)
			}
			got := b.target.payloads()
			slices.Sort(got)
			if len(got) != n || len(slices.Compact(got)) != n {
				r.Fatalf("%d messages were written as %v", n, got)
			}
			if b.target.maxWrite > writers {
				r.Fatalf("%d writes at once, of %d", b.target.maxWrite, writers)
			}
			last := map[string]int{}
			for _, k := range b.target.got {
				i, _ := strconv.Atoi(k.payload[1:])
				if before, has := last[k.key]; ordered && k.key != "" && has && i < before {
					r.Fatalf("key %s: %d after %d", k.key, i, before)
				}
				last[k.key] = i
			}
		})
	})
}

// TestTurnsOfAKey: in an ordered pipeline a key that waits holds up no other, and what comes
// behind it with the key comes behind it.
func TestTurnsOfAKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var keys []string
		for i := range 400 {
			keys = append(keys, []string{"waits", "a", "b", "c"}[i%4])
		}
		b := newBench(step{payloads: mixed(400), keys: keys})
		b.parts.Ordered = true
		b.parts.Target.Limits.MaxConcurrentBatches = 2
		b.target.before = part(time.Hour, time.Second)
		begin := time.Now()
		if err := b.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		last := -1
		for _, k := range b.target.got {
			if k.key != "waits" {
				if at := k.at.Sub(begin); at > 10*time.Second {
					t.Errorf("%s came after %s", k.payload, at)
				}
				continue
			}
			i, _ := strconv.Atoi(k.payload[3:])
			if i <= last {
				t.Errorf("%d after %d", i, last)
			}
			last = i
		}
		if len(b.target.got) != 400 {
			t.Errorf("%d messages", len(b.target.got))
		}
	})
}

// TestTurnsAreNoFailures: who watches a pipeline is told of nothing while messages wait for their
// turn.
func TestTurnsAreNoFailures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(step{payloads: mixed(40)})
		b.target.before = part(time.Minute, time.Second)
		w, told := b.watched(false)
		if err := b.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := w.Take(); len(got.Failed) != 0 || len(*told) != 0 || len(b.target.got) != 40 {
			t.Errorf("failures %v, told %q, %d written", got.Failed, *told, len(b.target.got))
		}
	})
}
