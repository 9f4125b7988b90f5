package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/retry"
)

// These tests are named after defects that other engines shipped. Two of the list do not
// concern an engine: how an embedded store deals with concurrent writers is proven by
// storetest, and that the reference is never stale by the test over generated files.

// A transform grows a batch in the middle; nothing between may be skipped, and an ack may
// not pass it.
func TestGrowingSubBatchSkipsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(step{payloads: []string{"a", "b", "c", "d"}}, step{payloads: []string{"e"}})
		grow := transform(func(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
			if s := string(m.Data); s == "b" || s == "b1" || s == "b11" {
				return append(out, m.Split([]byte(s+"1"), []byte(s+"2"), []byte(s+"3"))...), nil
			}
			return append(out, m), nil
		})
		if err := b.through(2, grow, grow, grow).run(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantPayloads(t, "target", b.target, "a", "b111", "b112", "b113", "b12", "b13", "b2", "b3", "c", "d", "e")
		if len(b.source.acks) != 2 {
			t.Errorf("%d acks, want 2", len(b.source.acks))
		}
	})
}

// One piece of a split message fails after the others were delivered: the message as read
// must not count as handled.
func TestFailedPieceOfSplitHoldsItsMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(step{payloads: []string{"x", "y"}})
		b.parts.Target.Limits.MaxBatchMessages = 1
		b.target.before = func(_ context.Context, batch event.Batch) error {
			if string(batch[0].Data) == "x2" {
				return errFatal
			}
			return nil
		}
		b.through(1, transform(func(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
			s := string(m.Data)
			return append(out, m.Split([]byte(s+"1"), []byte(s+"2"), []byte(s+"3"))...), nil
		}))
		err := b.run(t.Context())
		if fault.Of(err) != fault.Fatal {
			t.Errorf("Run returned %v, want the fatal error", err)
		}
		if got := b.source.outcome(0, 0); !errors.Is(got, errFatal) {
			t.Errorf("outcome of x is %v, want the fatal error", got)
		}
		if got := b.source.outcome(0, 1); got != nil {
			t.Errorf("outcome of y is %v, want nil", got)
		}
	})
}

// A failed part that never shrinks is tried max_attempts times, on a flat stack.
func TestRetryOfPartThatNeverShrinksEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const attempts = 2000
		b := newBench(step{payloads: []string{"good", "bad"}})
		b.parts.Retry = retry.Policy{Transient: retry.Class{Delay: time.Millisecond, MaxAttempts: attempts, MaxDelay: time.Millisecond, InvalidAfterMax: true}}
		writes, deepest := 0, 0
		b.target.before = func(_ context.Context, batch event.Batch) error {
			writes++
			deepest = max(deepest, runtime.Callers(0, make([]uintptr, 500)))
			for i, m := range batch {
				if string(m.Data) == "bad" {
					return &connector.Partial{Failed: map[int]error{i: errTransient}}
				}
			}
			return nil
		}
		if err := b.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if writes != attempts {
			t.Errorf("%d writes, want %d", writes, attempts)
		}
		if deepest > 50 {
			t.Errorf("the stack grew to %d frames", deepest)
		}
		wantPayloads(t, "target", b.target, "good")
		if len(b.failure.got) != 1 || !strings.Contains(b.failure.got[0].payload, "gave up after 2000 attempts (transient): connection reset") {
			t.Errorf("failure target has %q", b.failure.payloads())
		}
	})
}

// An error for one pipeline's messages leaves nothing behind in a target that another
// pipeline shares: outcomes belong to messages, not to a stream of answers.
func TestErrorDoesNotShiftOutcomesInSharedTarget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shared := &fakeTarget{before: func(_ context.Context, b event.Batch) error {
			time.Sleep(time.Millisecond)
			failed := map[int]error{}
			for i, m := range b {
				if strings.HasPrefix(string(m.Data), "bad") {
					failed[i] = errInvalid
				}
			}
			if len(failed) > 0 {
				return &connector.Partial{Failed: failed}
			}
			return nil
		}}
		one, two := newBench(), newBench()
		for i := range 20 {
			one.source.script = append(one.source.script, step{payloads: []string{fmt.Sprintf("good-one-%d", i), fmt.Sprintf("bad-one-%d", i)}})
			two.source.script = append(two.source.script, step{payloads: []string{fmt.Sprintf("good-two-%d", i)}})
		}
		done := make(chan error)
		for _, b := range []*bench{one, two} {
			b.parts.Target.Target = shared
			go func() { done <- b.run(t.Context()) }()
		}
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if len(one.failure.got) != 20 || len(two.failure.got) != 0 {
			t.Errorf("%d and %d failures, want 20 and 0", len(one.failure.got), len(two.failure.got))
		}
		for _, f := range one.failure.payloads() {
			if !strings.HasPrefix(f, "bad-one-") {
				t.Errorf("failure of somebody else: %s", f)
			}
		}
	})
}

// The source ends in the same instant as the pipeline is stopped: a clean end, whichever
// is noticed first, and with whatever the last read returned.
func TestEndOfInputInTheInstantOfStop(t *testing.T) {
	t.Parallel()
	for i := range 50 {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(step{payloads: []string{"a"}}, step{after: time.Second, payloads: []string{"b"}, err: []error{nil, io.EOF}[i%2]})
			ctx, stop := context.WithTimeout(t.Context(), time.Second)
			defer stop()
			if err := b.run(ctx); err != nil {
				t.Fatal(err)
			}
			for n := range b.source.read {
				if err := b.source.outcome(n, 0); err != nil {
					t.Errorf("outcome of read %d: %v", n, err)
				}
			}
			if len(b.target.got) != len(b.source.read) {
				t.Errorf("%d messages in the target, %d read", len(b.target.got), len(b.source.read))
			}
		})
	}
}

// An acknowledgement may leave only when everything is durable: never while a write is in
// progress. (That the source's own position is durable first is proven in source/file.)
func TestNoAckBeforeDurable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(step{payloads: []string{"a", "b", "c"}})
		b.parts.Target.Limits.MaxBatchMessages = 1
		durable := time.Now()
		b.target.before = func(context.Context, event.Batch) error {
			time.Sleep(time.Second)
			durable = time.Now()
			return nil
		}
		if err := b.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if at := b.source.acks[0].at; at.Before(durable) {
			t.Errorf("acknowledged %s before the last write was durable", durable.Sub(at))
		}
	})
}

// A write error that is only logged loses messages: each kind of error must keep the
// message from being acknowledged as handled, or bring it to the failure target.
func TestWriteErrorIsNeverAcknowledgedAsHandled(t *testing.T) {
	t.Parallel()
	for _, err := range []error{errors.New("plain"), errTransient, errSetup, errFatal, fault.Throttle(errors.New("slow down"), 0)} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(step{payloads: []string{"a"}})
			b.target.before = failing(1<<30, err)
			got := b.run(t.Context())
			if !errors.Is(got, err) {
				t.Errorf("Run returned %v, want %v", got, err)
			}
			if o := b.source.outcome(0, 0); !errors.Is(o, err) {
				t.Errorf("outcome is %v, want %v", o, err)
			}
			wantPayloads(t, "failure target", b.failure)
		})
	}
}

// Acks that become due out of order run at once, on the goroutines that settle, and none
// waits for another.
func TestOutOfOrderAcksBlockNothing(t *testing.T) { // not parallel: it counts goroutines
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		for i := range 100 {
			b.source.script = append(b.source.script, step{payloads: numbered(fmt.Sprintf("%d-", i), 2)})
		}
		b.parts.Target.Limits.MaxBatchMessages, b.parts.Target.Limits.MaxConcurrentBatches = 1, 200
		var before, most atomic.Int64
		b.source.onRead = func() { before.Store(int64(runtime.NumGoroutine())) }
		b.source.onAck = func(int, event.Outcomes) error {
			most.Store(max(most.Load(), int64(runtime.NumGoroutine())))
			return nil
		}
		b.target.before = func(_ context.Context, batch event.Batch) error {
			var n, i int
			fmt.Sscanf(string(batch[0].Data), "%d-%d", &n, &i)
			time.Sleep(time.Duration(1000-n*10) * time.Millisecond) // the last read settles first
			return nil
		}
		if err := b.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i, a := range b.source.acks {
			if a.n != 99-i {
				t.Fatalf("ack %d is of read %d, want %d", i, a.n, 99-i)
			}
		}
		if most.Load() > before.Load()+5 {
			t.Errorf("%d goroutines while acknowledging, %d while reading: acks start goroutines", most.Load(), before.Load())
		}
	})
}

// An error keeps its kind however often it is wrapped.
func TestWrappedErrorKeepsItsKind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(step{payloads: []string{"a", "b"}})
		b.target.before = func(_ context.Context, batch event.Batch) error {
			for i, m := range batch {
				if string(m.Data) == "a" {
					partial := &connector.Partial{Failed: map[int]error{i: fmt.Errorf("row %d: %w", i, fmt.Errorf("insert: %w", errInvalid))}}
					return fmt.Errorf("write to the table: %w", partial)
				}
			}
			return nil
		}
		if err := b.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantPayloads(t, "target", b.target, "b")
		wantPayloads(t, "failure target", b.failure, "a|row 0: insert: not accepted")
	})
}

// A wait between attempts ends with the drain, not with the delay.
func TestRetryWaitEndsWithTheDrain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(step{payloads: []string{"a"}})
		b.source.endless = true
		b.parts.Drain = 4 * time.Second
		b.parts.Retry.Setup = retry.Class{Delay: 24 * time.Hour, MaxDelay: 24 * time.Hour}
		b.target.before = failing(1<<30, errSetup)
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		begin := time.Now()
		err := b.run(ctx)
		if took := time.Since(begin); took > time.Minute+4*time.Second {
			t.Errorf("stopping took until %s", took)
		}
		if !errors.Is(err, ErrUnfinished) {
			t.Errorf("Run returned %v, want ErrUnfinished", err)
		}
		if o := b.source.outcome(0, 0); !errors.Is(o, event.ErrUnsettled) || !errors.Is(o, errSetup) {
			t.Errorf("outcome is %v, want ErrUnsettled with the setup error", o)
		}
	})
}
