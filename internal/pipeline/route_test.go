package pipeline

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/condition"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/retry"
)

// when is a compiled condition; "" is none.
func when(t testing.TB, text string) *condition.Condition {
	t.Helper()
	if text == "" {
		return nil
	}
	c, err := condition.Compile(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// to gives b one more route, and returns its target.
func (b *bench) to(t testing.TB, name, text string) *fakeTarget {
	t.Helper()
	target := &fakeTarget{}
	b.parts.Routes = append(b.parts.Routes, Route{Name: name, When: when(t, text), Sink: Sink{Target: target, Limits: limits()}})
	return target
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	for _, first := range []bool{false, true} {
		t.Run(fmt.Sprintf("first=%t", first), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBench(step{payloads: []string{`{"n":1}`, `{"n":20}`, `{"n":300}`, `{"n":-4}`, `{"m":5}`, `{"n":20}`}})
				b.parts.First = first
				some := b.to(t, "some", "event.n > 10")
				more := b.to(t, "more", "event.n > 0")
				if err := b.run(t.Context()); err != nil {
					t.Fatal(err)
				}
				wantPayloads(t, "some", some, `{"n":20}`, `{"n":300}`, `{"n":20}`)
				if first {
					wantPayloads(t, "more", more, `{"n":1}`)
				} else {
					wantPayloads(t, "more", more, `{"n":1}`, `{"n":20}`, `{"n":300}`, `{"n":20}`)
				}
				wantPayloads(t, "filter", b.filter, `{"n":-4}`)
				got := b.failure.payloads()
				if len(got) != 1 || !strings.HasPrefix(got[0], `{"m":5}|the condition "event.n > 10" cannot be decided: invalid operation`) {
					t.Errorf("failures %q", got)
				}
				if len(b.target.got) > 0 || b.target.closed > 0 || some.closed != 1 || more.closed != 1 {
					t.Error("the targets are not those of the routes")
				}
			})
		})
	}
}

// TestOneConditionalRoute filters what the only target does not want.
func TestOneConditionalRoute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(step{payloads: []string{"keep", "drop"}})
		b.parts.Routes = []Route{{Sink: b.parts.Target, When: when(t, `data == "keep"`)}}
		if err := b.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantPayloads(t, "target", b.target, "keep")
		wantPayloads(t, "filter", b.filter, "drop")
	})
}

// TestRoutesSettleOnTheirOwn has one target wait and another refuse, while the third gets
// everything at once; the read is acknowledged when the last of them is through.
func TestRoutesSettleOnTheirOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(step{payloads: numbered("m", 3)})
		slow, picky, quick := b.to(t, "slow", ""), b.to(t, "picky", ""), b.to(t, "quick", "")
		begin := time.Now()
		slow.before = failing(3, errTransient)
		picky.before = func(context.Context, event.Batch) error {
			return &connector.Partial{Failed: map[int]error{1: errInvalid}}
		}
		p := New(b.parts)
		if err := p.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantPayloads(t, "slow", slow, "m0", "m1", "m2")
		wantPayloads(t, "picky", picky, "m0", "m2")
		wantPayloads(t, "quick", quick, "m0", "m1", "m2")
		wantPayloads(t, "failure", b.failure, "m1|not accepted")
		if w := quick.got[2].at.Sub(begin); w > time.Second {
			t.Errorf("the quick target waited %s", w)
		}
		if len(b.source.acks) != 1 || b.source.acks[0].at.Sub(begin) < 7*time.Second {
			t.Errorf("acknowledged %+v", b.source.acks)
		}
		m := p.Meter()
		if all, one := m.Target.Written.Load(), m.Route("slow").Written.Load(); all != 8 || one != 3 {
			t.Errorf("%d written in all and %d to the slow target, want 8 and 3", all, one)
		}
		if r := m.Route("slow").Retries.Load(); r != 3 || m.Route("quick").Retries.Load() != 0 || m.Target.Retries.Load() != 3 {
			t.Errorf("%d retries of the slow target", r)
		}
	})
}

// TestRouteLimits: what is too large for one target goes to the others.
func TestRouteLimits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(step{payloads: []string{"small", "a larger one"}})
		narrow, wide := b.to(t, "narrow", ""), b.to(t, "wide", "")
		b.parts.Routes[0].Limits.MaxMessageBytes = 8
		if err := b.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantPayloads(t, "narrow", narrow, "small")
		wantPayloads(t, "wide", wide, "small", "a larger one")
		wantPayloads(t, "failure", b.failure, "a larger one|oversized: 12 > 8|payload of 12 bytes is larger than the target.narrow takes (8)")
	})
}

// TestRouteFails ends the pipeline with an error that names the target.
func TestRouteFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(step{payloads: []string{"m"}})
		good := b.to(t, "good", "")
		b.to(t, "bad", "").before = failing(1000, errSetup)
		err := b.run(t.Context())
		if err == nil || !strings.Contains(err.Error(), "write to the target.bad") || b.source.outcome(0, 0) == nil {
			t.Errorf("%v, outcome %v", err, b.source.outcome(0, 0))
		}
		wantPayloads(t, "good", good, "m")
		b = newBench()
		b.to(t, "good", "")
		b.to(t, "shut", "").open = errFatal
		if err := b.run(t.Context()); err == nil || !strings.Contains(err.Error(), "open target shut") {
			t.Errorf("opening: %v", err)
		}
	})
}

// TestRoutesDeliverAll runs random routes with random trouble, and demands that what is
// acknowledged is, once, in each target that ought to have it, or failed for that target.
func TestRoutesDeliverAll(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		var wrong []string
		synctest.Test(t, func(t *testing.T) { wrong = randomRoutes(t, rt) })
		if len(wrong) > 0 {
			rt.Fatalf("%s", strings.Join(wrong, "\n"))
		}
	})
}

func randomRoutes(t *testing.T, rt *rapid.T) (wrong []string) {
	var script []step
	for i := range rapid.IntRange(0, 8).Draw(rt, "reads") {
		script = append(script, step{payloads: numbered(fmt.Sprintf("r%d.", i), rapid.IntRange(0, 9).Draw(rt, "messages"))})
	}
	b := newBench(script...)
	b.parts.First = rapid.Bool().Draw(rt, "first")
	b.parts.Ordered = rapid.Bool().Draw(rt, "ordered")
	b.parts.InFlightMessages = rapid.SampledFrom([]int{1, 5, 1000}).Draw(rt, "in flight")
	b.parts.Retry = retry.Policy{Transient: retry.Class{Delay: time.Second, MaxAttempts: 3, InvalidAfterMax: rapid.Bool().Draw(rt, "invalid after max")}}
	digits := make([]string, rapid.IntRange(1, 4).Draw(rt, "routes")) // a route takes payloads that end in one of its digits
	targets := make([]*fakeTarget, len(digits))
	trouble := rapid.SampledFrom([]int{0, 30, 70}).Draw(rt, "trouble")
	seed := rapid.Uint64().Draw(rt, "seed")
	for i := range digits {
		digits[i] = rapid.StringMatching(`[0-9]{0,6}`).Draw(rt, "digits")
		targets[i] = b.to(t, fmt.Sprint("t", i), fmt.Sprintf(`data[-1:] in split(%q, "")`, digits[i]))
		n := 0
		targets[i].before = func(_ context.Context, batch event.Batch) error {
			n++
			failed := map[int]error{}
			for k, m := range batch {
				h := fnv.New64a()
				fmt.Fprint(h, seed, i, n, string(m.Data))
				if roll := int(h.Sum64()>>8) & (1<<30 - 1) % 100; roll < trouble {
					failed[k] = fault.New([]fault.Kind{fault.Transient, fault.Transient, fault.Invalid}[roll%3], errors.New("trouble"))
				}
			}
			if len(failed) == 0 {
				return nil
			}
			return &connector.Partial{Failed: failed}
		}
	}
	err := b.run(t.Context())
	failures := written(b.failure)
	clean := true
	for n, payloads := range b.source.payloads {
		for k, payload := range payloads {
			outcome := b.source.outcome(n, k)
			clean = clean && outcome == nil
			taken := false
			for i, target := range targets {
				meant := strings.Contains(digits[i], payload[len(payload)-1:]) && !(b.parts.First && taken)
				taken = taken || meant
				switch got := count(target.payloads(), payload); {
				case got > 1:
					wrong = append(wrong, fmt.Sprintf("%s is in target %d %d times", payload, i, got))
				case got == 1 && !meant:
					wrong = append(wrong, fmt.Sprintf("%s is in target %d, which takes %q", payload, i, digits[i]))
				case got == 0 && meant && outcome == nil && !failures[payload]:
					wrong = append(wrong, fmt.Sprintf("%s was acknowledged and target %d, which takes %q, does not have it", payload, i, digits[i]))
				}
			}
			if filtered := slices.Contains(b.filter.payloads(), payload); filtered == taken && outcome == nil {
				wrong = append(wrong, fmt.Sprintf("%s is taken: %t, filtered: %t", payload, taken, filtered))
			}
		}
	}
	if (err == nil) != clean {
		wrong = append(wrong, fmt.Sprintf("Run returned %v, and everything settled is %t", err, clean))
	}
	return wrong
}

// TestRoutesFromAQueue: a copy that fails is retried for its target alone; given up, the
// message is delivered again later.
func TestRoutesFromAQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, vfs.NewMem())
		put(t, s, "a", "one", "two")
		b := newBench()
		b.parts.Source = queueSource(t, s, "a", nil)
		b.parts.Retry = retry.Policy{Transient: retry.Class{Delay: time.Second, MaxAttempts: 4}}
		flaky, good := b.to(t, "flaky", ""), b.to(t, "good", "")
		flaky.before = failing(3, errTransient)
		if err := b.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantPayloads(t, "flaky", flaky, "one", "two")
		wantPayloads(t, "good", good, "one", "two")
		wantHeld(t, "queue a", held(t, s, "a", queue.Open))
		closeStore(t, s)
	})
}

// TestRoutesBetweenQueues moves messages into two queues of the same store. Those that go to
// one of them move in one transaction, and no message is left behind or moved twice.
func TestRoutesBetweenQueues(t *testing.T) {
	t.Parallel()
	for _, first := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			s := openStore(t, vfs.NewMem())
			put(t, s, "a", numbered("m", 40)...)
			b := between(t, s, nil)
			b.parts.First = first
			in := func(name string) Sink {
				return Sink{Target: queueTarget(t, s, name), Limits: b.parts.Target.Limits}
			}
			elsewhere := &fakeTarget{}
			b.parts.Routes = []Route{
				{Name: "even", Sink: in("b"), When: when(t, `data[-1:] in ["0", "2", "4", "6", "8"]`)},
				{Name: "low", Sink: Sink{Target: elsewhere, Limits: limits()}, When: when(t, `data[-1:] in ["1", "2", "3"]`)},
			}
			if err := b.run(t.Context()); err != nil {
				t.Fatal(err)
			}
			var even, low []string
			for _, m := range numbered("m", 40) {
				d := m[len(m)-1]
				if (d-'0')%2 == 0 {
					even = append(even, m)
				}
				if strings.ContainsRune("13", rune(d)) || d == '2' && !first {
					low = append(low, m)
				}
			}
			wantHeld(t, "queue b", held(t, s, "b", queue.Open), even...)
			got := map[string]int{}
			for _, p := range elsewhere.payloads() {
				got[p]++
			}
			wantHeld(t, "the other target", got, low...)
			wantHeld(t, "queue a", held(t, s, "a", queue.Open))
			if n := len(b.filter.payloads()); n != 40-len(even)-len(low) && first {
				t.Errorf("%d filtered", n)
			}
			closeStore(t, s)
		})
	}
}
