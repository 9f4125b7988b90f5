package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/retry"
	queuesource "github.com/weirdata/weir/internal/source/queue"
)

// TestQueueRetries holds a message that fails in the queue: tried again by the policy's
// delays, while others go on, and dead with its cause when its attempts are used up.
func TestQueueRetries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, vfs.NewMem())
		put(t, s, "a", "stuck", "fine")
		b := newBench()
		b.parts.Source = queueSource(t, s, "a", nil)
		b.parts.Retry = retry.Policy{Transient: retry.Class{Delay: time.Minute, MaxAttempts: 4}}
		begin := time.Now()
		var tries []time.Duration
		b.target.before = func(_ context.Context, batch event.Batch) error {
			failed := map[int]error{}
			for i, m := range batch {
				if string(m.Data) == "stuck" {
					tries = append(tries, time.Since(begin).Truncate(time.Second))
					failed[i] = errors.New("no answer")
				}
			}
			if len(failed) == 0 {
				return nil
			}
			return &connector.Partial{Failed: failed}
		}
		if err := b.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if want := []time.Duration{0, time.Minute, 3 * time.Minute, 7 * time.Minute}; !slices.Equal(tries, want) {
			t.Errorf("tried after %s, want %s", tries, want)
		}
		wantPayloads(t, "target", b.target, "fine")
		if b.target.got[0].at.Sub(begin) > time.Second {
			t.Errorf("the other message waited %s", b.target.got[0].at.Sub(begin))
		}
		p, err := s.List(t.Context(), queue.Search{Filter: queue.Filter{Queue: "a"}, State: queue.Buried}, queue.ID{}, 10)
		if err != nil || len(p.Jobs) != 1 || p.Jobs[0].Cause != "gave up after 4 attempts (transient): no answer" || p.Jobs[0].Attempt != 3 {
			t.Errorf("dead: %+v, %v", p.Jobs, err)
		}
		closeStore(t, s)
	})
}

// TestQueueInvalidAfterMax sends what is given up to the failure target, where the policy
// says so.
func TestQueueInvalidAfterMax(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, vfs.NewMem())
		put(t, s, "a", "stuck")
		b := newBench()
		b.parts.Source = queueSource(t, s, "a", nil)
		b.parts.Retry = retry.Policy{Transient: retry.Class{Delay: time.Second, MaxAttempts: 2, InvalidAfterMax: true}}
		b.target.before = failing(100, errors.New("no answer"))
		if err := b.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantPayloads(t, "failure target", b.failure, "stuck|gave up after 2 attempts (transient): no answer")
		wantHeld(t, "the dead of queue a", held(t, s, "a", queue.Buried))
		closeStore(t, s)
	})
}

// keeper is a source whose other side puts aside what cannot be delivered, if it keeps.
type keeper struct {
	*queuesource.Source
	keeps bool
}

func (k keeper) DeadLetters() bool { return k.keeps }

// TestDeadLettersOfTheSource leaves what is refused with a source that says it puts it aside,
// whoever refuses it, and only then.
func TestDeadLettersOfTheSource(t *testing.T) {
	t.Parallel()
	for _, keeps := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			s := openStore(t, vfs.NewMem())
			put(t, s, "a", "refused", "fine", "much too large")
			b := newBench()
			src, ok := queueSource(t, s, "a", nil).(*queuesource.Source)
			if !ok {
				t.Fatal("the source queue is another type")
			}
			b.parts.Source = keeper{src, keeps}
			b.parts.Target.Limits.MaxMessageBytes = 10
			b.target.before = func(_ context.Context, batch event.Batch) error {
				failed := map[int]error{}
				for i, m := range batch {
					if string(m.Data) == "refused" {
						failed[i] = fault.New(fault.Invalid, errors.New("never"))
					}
				}
				if len(failed) == 0 {
					return nil
				}
				return &connector.Partial{Failed: failed}
			}
			err := b.run(t.Context())
			wantPayloads(t, "target", b.target, "fine")
			if keeps {
				if _, ok := errors.AsType[*Kept](err); !ok {
					t.Errorf("Run: %v", err)
				}
				wantPayloads(t, "failure target", b.failure)
				wantHeld(t, "the dead of queue a", held(t, s, "a", queue.Buried), "refused", "much too large")
			} else {
				if err != nil {
					t.Error(err)
				}
				if n := len(b.failure.got); n != 2 {
					t.Errorf("the failure target has %d messages, want 2", n)
				}
				wantHeld(t, "the dead of queue a", held(t, s, "a", queue.Buried))
			}
			closeStore(t, s)
		})
	}
}

// TestQueueAtLeastOnce delivers every message through random failures and stops
// of the pipeline, and those of one key in order.
func TestQueueAtLeastOnce(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { atLeastOnce(t, rand.New(rand.NewPCG(seed, 0))) })
		})
	}
}

func atLeastOnce(t *testing.T, rng *rand.Rand) {
	const messages, keys = 300, 7
	s := openStore(t, vfs.NewMem())
	var jobs []queue.Job
	for i := range messages {
		m := event.New(fmt.Appendf(nil, "%d", i))
		m.Key = fmt.Sprintf("key%d", i%keys)
		jobs = append(jobs, queue.Job{Queue: "a", Msg: m, Ordered: true})
	}
	if err := s.Update(t.Context(), func(tx queue.Tx) error { return tx.Append(jobs...) }); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	next := map[string]int{} // by key: how many of its messages were delivered
	target := &fakeTarget{before: func(ctx context.Context, b event.Batch) error {
		mu.Lock()
		defer mu.Unlock()
		switch rng.IntN(8) {
		case 0:
			return errors.New("transient")
		case 1:
			return fault.Throttle(errors.New("throttled"), 50*time.Millisecond)
		}
		failed := map[int]error{}
		for i, m := range b {
			var at int
			if _, err := fmt.Sscan(string(m.Data), &at); err != nil {
				return err
			}
			if rng.IntN(4) == 0 {
				failed[i] = errors.New("this one fails")
				continue
			}
			if at/keys != next[m.Key] && at/keys != next[m.Key]-1 {
				t.Errorf("message %s of %s came when %d of its key were delivered", m.Data, m.Key, next[m.Key])
			}
			next[m.Key] = max(next[m.Key], at/keys+1)
		}
		if len(failed) > 0 {
			return &connector.Partial{Failed: failed}
		}
		return nil
	}}
	failures := &fakeTarget{}
	for run := 0; ; run++ {
		b := newBench()
		b.parts.Source = queueSource(t, s, "a", func(c *queuesource.Config) { c.MaxBatchMessages = 1 + rng.IntN(20) })
		b.parts.Target = Sink{Target: target, Limits: connector.Limits{MaxBatchMessages: 5, MaxConcurrentBatches: 4, Eager: true}}
		b.parts.Failure = Sink{Target: failures, Limits: limits()}
		b.parts.Retry = quick()
		b.parts.Retry.Transient.MaxAttempts, b.parts.Retry.Throttle.MaxAttempts = 0, 0
		ctx, stop := context.WithTimeout(t.Context(), time.Duration(5+rng.IntN(200))*time.Millisecond)
		err := b.run(ctx)
		stop()
		if err != nil {
			t.Fatal(err)
		}
		st, err := s.Stats(t.Context(), queue.Filter{Queue: "a"})
		if err != nil {
			t.Fatal(err)
		}
		if st.Open() == 0 {
			break
		}
		if run == 2000 {
			t.Fatalf("still open after %d runs: %+v", run, st)
		}
	}
	delivered := map[string]bool{}
	for _, p := range slices.Concat(target.payloads(), failures.payloads()) {
		p, _, _ = strings.Cut(p, "|")
		delivered[p] = true
	}
	if len(delivered) != messages {
		t.Errorf("%d of %d messages were delivered", len(delivered), messages)
	}
	closeStore(t, s)
}

// TestQueueOutlastsAnOutage: a message is tried for as long as the policy says, however long
// it lay in its queue before and however often it is tried, and then it is dead.
func TestQueueOutlastsAnOutage(t *testing.T) {
	t.Parallel()
	for _, outage := range []time.Duration{20 * time.Second, 11 * time.Hour, 14 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			s := openStore(t, vfs.NewMem())
			put(t, s, "a", "one", "two")
			time.Sleep(24 * time.Hour) // nobody reads the queue for a day
			b := newBench()
			b.parts.Source = queueSource(t, s, "a", nil)
			b.parts.Retry = retry.Policy{Transient: retry.Class{Delay: time.Second, MaxAttempts: 5, TryFor: 12 * time.Hour}}
			over := time.Now().Add(outage)
			b.target.before = func(context.Context, event.Batch) error {
				if time.Now().Before(over) {
					return errors.New("no answer")
				}
				return nil
			}
			if err := b.run(t.Context()); err != nil {
				t.Fatal(err)
			}
			dead := held(t, s, "a", queue.Buried)
			if outage < 12*time.Hour {
				wantPayloads(t, "target", b.target, "one", "two")
				wantHeld(t, "the dead of queue a", dead)
			} else {
				wantPayloads(t, "target", b.target)
				wantHeld(t, "the dead of queue a", dead, "one", "two")
			}
			closeStore(t, s)
		})
	}
}
