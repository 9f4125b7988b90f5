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

	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

func batches(t *fakeTarget) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var s []string
	for _, b := range t.batches {
		s = append(s, strings.Join(b, " "))
	}
	return strings.Join(s, " / ")
}

func TestBatchesByCountBytesAndAge(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		script []step
		change func(*connector.Limits)
		want   string
	}{
		{"count", []step{{payloads: []string{"1", "2", "3", "4", "5"}}}, func(l *connector.Limits) { l.MaxBatchMessages = 2 }, "1 2 / 3 4 / 5"},
		{"count over reads", []step{{payloads: []string{"1"}}, {payloads: []string{"2", "3"}}}, func(l *connector.Limits) { l.MaxBatchMessages = 2 }, "1 2 / 3"},
		{"bytes", []step{{payloads: []string{"1111", "22", "333", "4"}}}, func(l *connector.Limits) { l.MaxBatchBytes = 6 }, "1111 / 22 333 / 4"},
		{"bytes of one", []step{{payloads: []string{"111111", "2"}}}, func(l *connector.Limits) { l.MaxBatchBytes, l.MaxMessageBytes = 6, 6 }, "111111 / 2"},
		{"age", []step{{payloads: []string{"1"}}, {after: 60 * time.Millisecond, payloads: []string{"2"}}, {after: 60 * time.Millisecond, payloads: []string{"3"}}}, func(*connector.Limits) {}, "1 2 / 3"},
		{"alone keeps its place", []step{{payloads: []string{"1", "2", "alone", "3"}}}, func(l *connector.Limits) {
			l.Alone = func(m *event.Message) bool { return string(m.Data) == "alone" }
		}, "1 2 / alone / 3"},
		{"eager", []step{{payloads: []string{"1", "2"}}, {after: time.Millisecond, payloads: []string{"3"}}}, func(l *connector.Limits) { l.Eager = true }, "1 2 / 3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBench(c.script...)
				c.change(&b.parts.Target.Limits)
				if err := b.run(t.Context()); err != nil {
					t.Fatal(err)
				}
				if got := batches(b.target); got != c.want {
					t.Errorf("writes: %s, want %s", got, c.want)
				}
			})
		})
	}
}

// holder is a source with somebody waiting.
type holder struct{ *fakeSource }

func (holder) Holds() bool { return true }

func TestSourceThatHoldsIsNotKeptWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(step{payloads: []string{"a"}}, step{after: time.Hour, payloads: []string{"b"}})
		b.parts.Source = holder{b.source}
		b.parts.Target.Limits.FlushPeriod = time.Minute
		begin := time.Now()
		if err := b.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if waited := b.source.acks[0].at.Sub(begin); waited > 0 {
			t.Errorf("acknowledged after %s", waited)
		}
	})
}

// The filter target has a timer of its own: messages in it leave when their time is over
// although nothing more is filtered, and although the target is stuck.
func TestFilterTargetFlushesOnItsOwnTimer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(step{payloads: []string{"good", "drop"}}, step{after: time.Hour, payloads: []string{"good"}})
		b.parts.Filter.Limits.FlushPeriod = 300 * time.Millisecond
		b.target.before = func(context.Context, event.Batch) error { time.Sleep(30 * time.Minute); return nil }
		b.through(1, dropping("drop"))
		begin := time.Now()
		if err := b.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if waited := b.filter.got[0].at.Sub(begin); waited != 300*time.Millisecond {
			t.Errorf("the filter target was written to after %s, want 300ms", waited)
		}
	})
}

// dropping filters payloads that begin with prefix, and refuses those that begin with bad.
func dropping(prefix string) transform {
	return func(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
		switch s := string(m.Data); {
		case strings.HasPrefix(s, prefix):
			return out, nil
		case strings.HasPrefix(s, "bad"):
			return out, errors.New("refused")
		}
		return append(out, m), nil
	}
}

func TestStuckSinkStopsNoOther(t *testing.T) {
	t.Parallel()
	stuck := func(ctx context.Context, _ event.Batch) error { <-ctx.Done(); return context.Cause(ctx) }
	for i, name := range []string{"target", "filter", "failure"} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench()
			b.source.endless = true
			for range 50 {
				b.source.script = append(b.source.script, step{after: time.Second, payloads: []string{"good", "drop", "bad"}})
			}
			b.through(2, dropping("drop"))
			sinks := []*fakeTarget{b.target, b.filter, b.failure}
			sinks[i].before = stuck
			ctx, stop := context.WithTimeout(t.Context(), time.Minute)
			defer stop()
			if err := b.run(ctx); !errors.Is(err, ErrUnfinished) && i != 2 {
				t.Errorf("Run returned %v, want ErrUnfinished", err)
			}
			for j, s := range sinks {
				if want := map[bool]int{true: 0, false: 50}[i == j]; len(s.got) != want {
					t.Errorf("%s is stuck: sink %d has %d messages, want %d", name, j, len(s.got), want)
				}
			}
		})
	}
}

func TestOversizedGoesToFailureTarget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(step{payloads: []string{"12345678", "123456789", "drop-1234567"}})
		b.parts.Target.Limits.MaxMessageBytes = 8
		b.parts.Filter.Limits.MaxMessageBytes = 10
		if err := b.through(1, dropping("drop")).run(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantPayloads(t, "target", b.target, "12345678")
		got := b.failure.payloads()
		slices.Sort(got)
		want := []string{
			"123456789|oversized: 9 > 8|payload of 9 bytes is larger than the target takes (8)",
			"drop-1234567|oversized: 12 > 10|payload of 12 bytes is larger than the filter_target takes (10)",
		}
		if !slices.Equal(got, want) {
			t.Errorf("failure target has %q", got)
		}
		if n := b.parts.Meter; n != nil && n.Oversized.Load() != 2 {
			t.Errorf("%d oversized were counted", n.Oversized.Load())
		}
	})
}

func TestFailureTargetThatFailsStops(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(*bench)
		want   string
	}{
		{"transient", func(b *bench) { b.failure.before = failing(1<<30, errTransient) }, "write to the failure target: gave up after 5 attempts (transient): connection reset"},
		{"invalid", func(b *bench) { b.failure.before = failing(1<<30, errInvalid) }, "write to the failure target: not accepted"},
		{"panic", func(b *bench) {
			b.failure.before = func(context.Context, event.Batch) error { panic("boo") }
		}, "write to the failure target: panic in target: boo"},
		{"format", func(b *bench) { b.parts.Format = fakeFormat{errors.New("no room")} }, "make a failure payload: no room"},
		{"too large", func(b *bench) { b.parts.Format = rawFormat{}; b.parts.Failure.Limits.MaxMessageBytes = 2 }, "raise its batching.max_message_bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBench(step{payloads: []string{"bad", "good"}}).through(1, dropping("drop"))
				b.source.endless = true
				c.change(b)
				err := b.run(t.Context())
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("Run returned %v, want %s", err, c.want)
				}
				if b.source.outcome(0, 0) == nil || b.source.outcome(0, 1) != nil {
					t.Errorf("outcomes are %v and %v", b.source.outcome(0, 0), b.source.outcome(0, 1))
				}
				wantPayloads(t, "target", b.target, "good")
			})
		})
	}
}

// rawFormat breaks its promise to keep to the limit.
type rawFormat struct{}

func (rawFormat) Format(f Failure, _ int) ([]byte, error) { return f.Message.Raw(), nil }

// A panic of the target is the error of the messages that cause it, and of no other.
func TestPanicInTargetIsOneMessagesError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(step{payloads: []string{"a", "boo", "b"}})
		b.target.before = func(_ context.Context, batch event.Batch) error {
			for _, m := range batch {
				if string(m.Data) == "boo" {
					panic("ghost")
				}
			}
			return nil
		}
		if err := b.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantPayloads(t, "target", b.target, "a", "b")
		wantPayloads(t, "failure target", b.failure, "boo|panic in target: ghost")
	})
}

func TestPanicOutsideTheTargetStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(step{payloads: []string{"a"}})
		b.parts.Target.Middleware = []connector.Middleware{func(connector.Write) connector.Write {
			return func(context.Context, event.Batch) error { panic("middle") }
		}}
		if err := b.run(t.Context()); err == nil || !strings.Contains(err.Error(), "middle") {
			t.Errorf("Run returned %v", err)
		}
		b = newBench(step{payloads: []string{"a", "b"}})
		b.parts.Target.Limits.Alone = func(m *event.Message) bool { return string(m.Data) == "a" && panics() }
		if err := b.run(t.Context()); err != nil {
			t.Error(err)
		}
		wantPayloads(t, "target", b.target, "b")
		wantPayloads(t, "failure target", b.failure, "a|panic in target: alone")
	})
}

func panics() bool { panic("alone") }

// With one writer the order of reads is the order of writes, whatever is tried again.
func TestOneWriterKeepsTheOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		workers, size := rapid.IntRange(0, 4).Draw(rt, "workers"), rapid.IntRange(1, 9).Draw(rt, "batch")
		var got, want []string
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			b := newBench()
			for i := range 30 {
				ps := numbered(fmt.Sprintf("%d.", i), rng.IntN(6))
				want = append(want, ps...)
				b.source.script = append(b.source.script, step{after: time.Duration(rng.IntN(3)) * 50 * time.Millisecond, payloads: ps})
			}
			b.parts.Target.Limits.MaxBatchMessages = size
			b.target.before = func(context.Context, event.Batch) error {
				if rng.IntN(3) == 0 {
					return errTransient
				}
				return nil
			}
			b.parts.Retry.Transient.MaxAttempts = 0
			if workers > 0 {
				b.through(workers, transform(func(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
					time.Sleep(time.Duration(m.Data[0]%7) * time.Millisecond)
					return append(out, m), nil
				}))
			}
			if err := b.run(t.Context()); err != nil {
				t.Error(err)
			}
			got = b.target.payloads()
		})
		if !slices.Equal(got, want) {
			rt.Fatalf("written in the order %v", got)
		}
	})
}

// An ordered pipeline keeps the order of each key over many writers and retries, for a
// target that, when it refuses a message, refuses the later ones of its key with it.
func TestOrderedKeepsTheOrderOfEachKey(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		writers, size := rapid.IntRange(1, 6).Draw(rt, "writers"), rapid.IntRange(1, 9).Draw(rt, "batch")
		var wrong string
		most := 0
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			b := newBench()
			want := map[string][]string{}
			for i := range 40 {
				s := step{payloads: numbered(fmt.Sprintf("%d.", i), rng.IntN(6))}
				for _, p := range s.payloads {
					k := fmt.Sprintf("key%d", rng.IntN(8))
					s.keys = append(s.keys, k)
					want[k] = append(want[k], p)
				}
				b.source.script = append(b.source.script, s)
			}
			b.parts.Ordered = true
			b.parts.Target.Limits.MaxBatchMessages, b.parts.Target.Limits.MaxConcurrentBatches = size, writers
			b.parts.Retry.Transient.MaxAttempts = 0
			b.target.before = func(_ context.Context, batch event.Batch) error {
				time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
				failed, keys := map[int]error{}, map[string]bool{}
				for i, m := range batch {
					if keys[m.Key] || rand.IntN(6) == 0 {
						keys[m.Key], failed[i] = true, errTransient
					}
				}
				if len(failed) > 0 {
					return &connector.Partial{Failed: failed}
				}
				return nil
			}
			if err := b.run(t.Context()); err != nil {
				t.Error(err)
			}
			got := map[string][]string{}
			for _, k := range b.target.got {
				got[k.key] = append(got[k.key], k.payload)
			}
			for k := range want {
				if !slices.Equal(got[k], want[k]) {
					wrong = fmt.Sprintf("%s: written %v, read %v", k, got[k], want[k])
				}
			}
			most = b.target.maxWrite
		})
		if wrong != "" {
			rt.Fatal(wrong)
		}
		if most > writers {
			rt.Fatalf("%d writes at once, allowed are %d", most, writers)
		}
	})
}

// A message without a key keeps having none: the pipeline orders by keys, it makes none up.
func TestOrderedMakesUpNoKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(step{payloads: numbered("m", 20)})
		b.parts.Ordered, b.parts.Target.Limits.MaxConcurrentBatches = true, 4
		if err := b.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, k := range b.target.got {
			if k.key != "" {
				t.Fatalf("key %q was made up for %s", k.key, k.payload)
			}
		}
		if len(b.target.got) != 20 {
			t.Errorf("%d messages written", len(b.target.got))
		}
	})
}

func TestWritersRunAtOnceUpToTheLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(step{payloads: numbered("m", 100)})
		b.parts.Target.Limits.MaxBatchMessages, b.parts.Target.Limits.MaxConcurrentBatches = 5, 4
		b.target.before = func(context.Context, event.Batch) error { time.Sleep(time.Second); return nil }
		begin := time.Now()
		if err := b.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); b.target.maxWrite != 4 || took != 5*time.Second {
			t.Errorf("at most %d writes at once, %s in all; want 4 and 5s", b.target.maxWrite, took)
		}
	})
}

// Only the part of a batch that failed is written again.
func TestOnlyTheFailedPartIsWrittenAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(step{payloads: []string{"a", "b", "c", "d"}})
		var sent []string
		first := true
		b.target.before = func(_ context.Context, batch event.Batch) error {
			var ps []string
			for _, m := range batch {
				ps = append(ps, string(m.Data))
			}
			sent = append(sent, strings.Join(ps, ""))
			if first {
				first = false
				return &connector.Partial{Failed: map[int]error{1: errTransient, 2: errInvalid, 3: fault.Throttle(errors.New("busy"), 0)}}
			}
			return nil
		}
		if err := b.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(sent, " "); got != "abcd bd" {
			t.Errorf("written: %s, want abcd bd", got)
		}
		wantPayloads(t, "failure target", b.failure, "c|not accepted")
	})
}

// successor is a target that is told in which order its batches left.
type successor struct {
	*fakeTarget

	mu    sync.Mutex
	begun int
	open  map[int]bool
	first map[int]string // the first message of each batch, by its place
	wrong []string
}

type place struct{}

func (s *successor) Begin() (func(context.Context) context.Context, func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.begun
	s.begun++
	s.open[n] = true
	return func(ctx context.Context) context.Context { return context.WithValue(ctx, place{}, n) }, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.open[n] {
			s.wrong = append(s.wrong, fmt.Sprintf("batch %d ended twice", n))
		}
		delete(s.open, n)
	}
}

func (s *successor) Write(ctx context.Context, b event.Batch) error {
	n, told := ctx.Value(place{}).(int)
	s.mu.Lock()
	if !told || !s.open[n] {
		s.wrong = append(s.wrong, fmt.Sprintf("%s is written as none of those that began", b[0].Data))
	}
	if s.first[n] == "" {
		s.first[n] = string(b[0].Data)
	}
	s.mu.Unlock()
	return s.fakeTarget.Write(ctx, b)
}

// TestBatchesAreToldInTheirOrder: a target that asks is told which batch left before which, all
// attempts to write one are known as its own, and each ends.
func TestBatchesAreToldInTheirOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		payloads := make([]string, 100)
		for i := range payloads {
			payloads[i] = fmt.Sprintf("m%03d", i)
		}
		b := newBench(step{payloads: payloads})
		s := &successor{fakeTarget: b.target, open: map[int]bool{}, first: map[int]string{}}
		b.parts.Target.Target = s
		b.parts.Target.Limits.MaxBatchMessages, b.parts.Target.Limits.MaxConcurrentBatches = 5, 4
		b.parts.Retry.Transient.MaxAttempts = 0
		b.target.before = func(context.Context, event.Batch) error {
			time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
			if rand.IntN(3) == 0 {
				return errTransient
			}
			return nil
		}
		if err := b.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(s.wrong) > 0 || len(s.open) > 0 || s.begun != 20 {
			t.Errorf("%d batches began, %d have not ended: %v", s.begun, len(s.open), s.wrong)
		}
		for n := range s.begun {
			if want := fmt.Sprintf("m%03d", 5*n); s.first[n] != want {
				t.Errorf("batch %d begins with %s, want %s", n, s.first[n], want)
			}
		}
	})
}
