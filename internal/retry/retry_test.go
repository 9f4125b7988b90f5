package retry_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/retry"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

var (
	errTransient = fault.New(fault.Transient, errors.New("connection reset"))
	errThrottled = fault.Throttle(errors.New("slow down"), 0)
	errSetup     = fault.New(fault.Setup, errors.New("no such table"))
	errInvalid   = fault.New(fault.Invalid, errors.New("not accepted"))
	errFatal     = fault.New(fault.Fatal, errors.New("cannot go on"))
)

// policy has distinct delays, no jitter, and n attempts in each class.
func policy(n int) retry.Policy {
	return retry.Policy{
		Transient: retry.Class{Delay: time.Second, MaxAttempts: n},
		Throttle:  retry.Class{Delay: 10 * time.Second, MaxAttempts: n},
		Setup:     retry.Class{Delay: 20 * time.Second, MaxAttempts: n},
	}
}

func batch(payloads ...string) event.Batch {
	b := make(event.Batch, len(payloads))
	for i, p := range payloads {
		b[i] = event.New([]byte(p))
	}
	return b
}

// writes answers each write with the next of errs, and nil afterwards. It notes when each
// was, and what was in it.
type writes struct {
	errs []error
	at   []time.Duration
	sent []string
	from time.Time
}

func (w *writes) write(_ context.Context, b event.Batch) error {
	if w.from.IsZero() {
		w.from = time.Now()
	}
	w.at = append(w.at, time.Since(w.from))
	var ps []string
	for _, m := range b {
		ps = append(ps, string(m.Data))
	}
	w.sent = append(w.sent, strings.Join(ps, ""))
	if n := len(w.at); n <= len(w.errs) {
		return w.errs[n-1]
	}
	return nil
}

func forever(err error) []error { return slices.Repeat([]error{err}, 1000) }

func partial(failed map[int]error) error {
	return fmt.Errorf("write: %w", &connector.Partial{Failed: failed})
}

func seconds(at []time.Duration) string {
	var s []string
	for _, d := range at {
		s = append(s, fmt.Sprint(d.Seconds()))
	}
	return strings.Join(s, " ")
}

func final(t *testing.T, err error) map[int]error {
	t.Helper()
	if err == nil {
		return nil
	}
	var p *connector.Partial
	if !errors.As(err, &p) {
		t.Fatalf("%v is not a *connector.Partial", err)
	}
	return p.Failed
}

func TestDelaysDoubleAndAttemptsAreCounted(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		err  error
		at   string
		gave string
	}{
		{"transient", errTransient, "0 1 3 7", "gave up after 4 attempts (transient): connection reset"},
		{"throttled", errThrottled, "0 10 30 70", "gave up after 4 attempts (throttled): slow down"},
		{"setup", errSetup, "0 20 60 140", "gave up after 4 attempts (setup): no such table"},
		{"no kind", errors.New("plain"), "0 1 3 7", "gave up after 4 attempts (transient): plain"},
		{"wrapped", fmt.Errorf("a: %w", fmt.Errorf("b: %w", errSetup)), "0 20 60 140", "gave up after 4 attempts (setup): a: b: no such table"},
		{"invalid", errInvalid, "0", "not accepted"},
		{"fatal", errFatal, "0", "cannot go on"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := writes{errs: forever(c.err)}
				err := policy(4).Middleware()(w.write)(t.Context(), batch("a", "b"))
				if got := seconds(w.at); got != c.at {
					t.Errorf("written at %s, want %s", got, c.at)
				}
				f := final(t, err)
				for i := range 2 {
					if f[i] == nil || f[i].Error() != c.gave || fault.Of(f[i]) != fault.Of(c.err) || !errors.Is(f[i], c.err) {
						t.Errorf("final error of %d is %v (%s), want %s", i, f[i], fault.Of(f[i]), c.gave)
					}
				}
			})
		})
	}
}

func TestClassIsDecidedAtEachAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := writes{errs: []error{errTransient, errSetup, errTransient, errThrottled, errSetup}}
		var told []string
		p := policy(3)
		p.Notify = func(a retry.Attempt) {
			told = append(told, fmt.Sprintf("%s %d %v %s %d", a.Kind, a.Number, a.Err, a.Delay, a.Messages))
		}
		if err := p.Middleware()(w.write)(t.Context(), batch("a")); err != nil {
			t.Fatal(err)
		}
		if got := seconds(w.at); got != "0 1 21 23 33 73" {
			t.Errorf("written at %s", got)
		}
		want := []string{"transient 1 connection reset 1s 1", "setup 1 no such table 20s 1", "transient 2 connection reset 2s 1",
			"throttled 1 slow down 10s 1", "setup 2 no such table 40s 1", "transient 0 <nil> 0s 1"}
		if !slices.Equal(told, want) {
			t.Errorf("told %q", told)
		}
	})
}

func TestOnlyWhatFailedIsSentAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := writes{errs: []error{
			partial(map[int]error{1: errTransient, 2: errInvalid, 3: errTransient, 4: errFatal}), // abcde
			partial(map[int]error{1: errTransient}),                                              // bd: d is left
			errTransient,                                                                         // d
		}}
		err := policy(5).Middleware()(w.write)(t.Context(), batch("a", "b", "c", "d", "e"))
		if got := strings.Join(w.sent, " "); got != "abcde bd d d" {
			t.Errorf("sent %s", got)
		}
		f := final(t, err)
		if len(f) != 2 || f[2] != errInvalid || f[4] != errFatal {
			t.Errorf("final errors %v", f)
		}
	})
}

// A message that runs out of attempts takes no other with it.
func TestGivingUpConcernsOneMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := policy(2)
		p.Setup.InvalidAfterMax = true
		p.Transient.MaxAttempts = 0
		w := writes{errs: []error{
			partial(map[int]error{0: errSetup, 1: errTransient}),
			partial(map[int]error{0: errSetup, 1: errTransient}), // a gives up, b stays
			errTransient,
		}}
		err := p.Middleware()(w.write)(t.Context(), batch("a", "b"))
		if got := strings.Join(w.sent, " "); got != "ab ab b b" {
			t.Errorf("sent %s", got)
		}
		if got := seconds(w.at); got != "0 20 22 26" {
			t.Errorf("written at %s", got)
		}
		f := final(t, err)
		if len(f) != 1 || fault.Of(f[0]) != fault.Invalid {
			t.Errorf("final errors %v", f)
		}
	})
}

func TestInvalidAfterMax(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := policy(2)
		p.Transient.InvalidAfterMax = true
		d := fault.Detail{Type: "api", Code: "500", Safe: "server error"}
		cause := fault.Describe(fault.Transient, errors.New("server error"), d)
		w := writes{errs: forever(cause)}
		f := final(t, p.Middleware()(w.write)(t.Context(), batch("a")))
		var x *retry.Exhausted
		if fault.Of(f[0]) != fault.Invalid || fault.DetailOf(f[0]) != d || !errors.As(f[0], &x) || x.Attempts != 2 || len(w.at) != 2 {
			t.Errorf("final error %v (%s, %+v) after %d writes", f[0], fault.Of(f[0]), fault.DetailOf(f[0]), len(w.at))
		}
	})
}

func TestWaitThatTheOtherSideAsksFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := policy(9)
		p.Throttle.MaxDelay = time.Minute
		w := writes{errs: []error{
			fault.Throttle(errors.New("slow"), 25*time.Second),                                                                     // longer than the delay
			fault.Throttle(errors.New("slow"), time.Second),                                                                        // shorter: 20 s
			fault.Throttle(errors.New("slow"), time.Hour),                                                                          // bounded
			partial(map[int]error{0: errTransient, 1: &fault.Error{Kind: fault.Transient, Err: errTransient, After: time.Minute}}), // the longest of all
		}}
		if err := p.Middleware()(w.write)(t.Context(), batch("a", "b")); err != nil {
			t.Fatal(err)
		}
		if got := seconds(w.at); got != "0 25 45 105 165" {
			t.Errorf("written at %s", got)
		}
	})
}

func TestStopDuringTheWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("drained")
		ctx, stop := context.WithCancelCause(t.Context())
		time.AfterFunc(3*time.Second, func() { stop(cause) })
		w := writes{errs: forever(errSetup)}
		begin := time.Now()
		f := final(t, policy(0).Middleware()(w.write)(ctx, batch("a")))
		if took := time.Since(begin); took != 3*time.Second {
			t.Errorf("returned after %s, want 3s", took)
		}
		if !errors.Is(f[0], cause) || !errors.Is(f[0], errSetup) || fault.Of(f[0]) != fault.Setup {
			t.Errorf("final error %v", f[0])
		}
		n := len(w.at)
		final(t, policy(0).Middleware()(w.write)(ctx, batch("a")))
		if len(w.at) != n+1 {
			t.Errorf("%d writes after the stop, want 1", len(w.at)-n)
		}
	})
}

func TestAttemptsWithoutEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := policy(0)
		w := writes{errs: forever(errTransient)[:200]}
		if err := p.Middleware()(w.write)(t.Context(), batch("a")); err != nil {
			t.Fatal(err)
		}
		for i := 10; i < len(w.at); i++ {
			if d := w.at[i] - w.at[i-1]; d != 5*time.Minute {
				t.Fatalf("wait %d is %s, want the default maximum of 5m", i, d)
			}
		}
	})
}

func TestJitterOnlyAdds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := policy(0)
		p.Jitter = 100 * time.Millisecond
		some := false
		for range 100 {
			begin := time.Now()
			if err := p.Wait(t.Context(), time.Second); err != nil {
				t.Fatal(err)
			}
			d := time.Since(begin) - time.Second
			if d < 0 || d >= p.Jitter {
				t.Fatalf("jitter of %s", d)
			}
			some = some || d > 0
		}
		if !some {
			t.Error("no jitter at all")
		}
	})
}

// Delays never shrink, never pass the maximum, and never overflow.
func TestDelayIsBounded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := func(name string) time.Duration {
			return time.Duration(rapid.Int64Range(0, math.MaxInt64).Draw(t, name) >> rapid.IntRange(0, 62).Draw(t, name+" shift"))
		}
		c := retry.Class{Delay: d("delay"), MaxDelay: d("max")}
		p := retry.Policy{Transient: c}
		n, asked := rapid.IntRange(1, 1<<40).Draw(t, "attempt"), d("asked")
		limit := c.MaxDelay
		if limit == 0 {
			limit = max(5*time.Minute, c.Delay)
		}
		got := p.Delay(fault.Transient, n, asked)
		if got < 0 || got > limit {
			t.Fatalf("delay %s of attempt %d, the maximum is %s", got, n, limit)
		}
		if got < min(c.Delay, limit) || got < min(asked, limit) {
			t.Fatalf("delay %s is shorter than the first (%s) or what was asked (%s)", got, c.Delay, asked)
		}
		if n > 1 && p.Delay(fault.Transient, n-1, asked) > got {
			t.Fatalf("delay %s is shorter than the one before", got)
		}
	})
}

// TestModel compares the middleware with what must hold of any history of partial failures.
func TestModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		attempts := rapid.IntRange(1, 4).Draw(rt, "attempts")
		errs := []error{nil, errTransient, errThrottled, errSetup, errInvalid, errFatal}
		answers := make([][]error, 5) // by message, by how often it was sent
		for i := range answers {
			answers[i] = rapid.SliceOfN(rapid.SampledFrom(errs), 13, 13).Draw(rt, "answers")
			answers[i][12] = nil // every class is exhausted by then
		}
		var wrong string
		synctest.Test(t, func(t *testing.T) {
			sent := map[string]int{}
			b := batch("0", "1", "2", "3", "4")
			err := policy(attempts).Middleware()(func(_ context.Context, b event.Batch) error {
				failed := map[int]error{}
				for i, m := range b {
					s := string(m.Data)
					if e := answers[s[0]-'0'][sent[s]]; e != nil {
						failed[i] = e
					}
					sent[s]++
				}
				if len(failed) == 0 {
					return nil
				}
				return partial(failed)
			})(t.Context(), b)
			f := final(t, err)
			for i, answer := range answers {
				wantSent, wantErr := 0, error(nil)
				counts := map[fault.Kind]int{}
				for _, e := range answer {
					wantSent++
					if wantErr = e; e == nil || e == errInvalid || e == errFatal {
						break
					}
					if counts[fault.Of(e)]++; counts[fault.Of(e)] == attempts {
						break
					}
				}
				if got := sent[fmt.Sprint(i)]; got != wantSent || !errors.Is(f[i], wantErr) || (wantErr == nil) != (f[i] == nil) {
					wrong = fmt.Sprintf("message %d: sent %d times, want %d; error %v, want %v", i, got, wantSent, f[i], wantErr)
				}
			}
		})
		if wrong != "" {
			rt.Fatal(wrong)
		}
	})
}

func TestDo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := policy(3)
		run := func(errs ...error) (int, time.Duration, error) {
			n, begin := 0, time.Now()
			err := p.Do(t.Context(), func(context.Context) error {
				n++
				if n <= len(errs) {
					return errs[n-1]
				}
				return nil
			})
			return n, time.Since(begin), err
		}
		if n, d, err := run(errTransient, errTransient); n != 3 || d != 3*time.Second || err != nil {
			t.Errorf("%d tries in %s: %v", n, d, err)
		}
		if n, _, err := run(errSetup); n != 1 || err != errSetup {
			t.Errorf("setup: %d tries: %v", n, err)
		}
		var x *retry.Exhausted
		if n, _, err := run(forever(errTransient)...); n != 3 || !errors.As(err, &x) {
			t.Errorf("%d tries: %v", n, err)
		}
		ctx, stop := context.WithTimeout(t.Context(), time.Second/2)
		defer stop()
		if err := p.Do(ctx, func(context.Context) error { return errTransient }); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, errTransient) {
			t.Errorf("stopped: %v", err)
		}
	})
}

func TestDefault(t *testing.T) {
	t.Parallel()
	p := retry.Default()
	for k, want := range map[fault.Kind]time.Duration{fault.Transient: time.Second, fault.Throttled: 10 * time.Second, fault.Setup: 20 * time.Second} {
		if got := p.Delay(k, 1, 0); got != want {
			t.Errorf("first delay of %s is %s, want %s", k, got, want)
		}
	}
	if p.Transient.MaxAttempts != 5 || p.Throttle.MaxAttempts != 5 || p.Setup.MaxAttempts != 5 {
		t.Error("five attempts are the default")
	}
}

func TestSuccessAllocatesNothing(t *testing.T) {
	w := retry.Default().Middleware()(func(context.Context, event.Batch) error { return nil })
	b, ctx := batch("a"), t.Context()
	if n := testing.AllocsPerRun(100, func() { _ = w(ctx, b) }); n != 0 {
		t.Errorf("%.1f allocations for a write that succeeds", n)
	}
}

// TestTurns: a message that waits for its turn is written again when it has come, uncounted;
// nobody is told, and the wait goes through who may do something else meanwhile.
func TestTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		turn := func(d time.Duration) error { return fault.Pace(errors.New("later"), d) }
		w := writes{errs: append(forever(turn(time.Second))[:20:20],
			partial(map[int]error{0: turn(3 * time.Second), 1: turn(2 * time.Second)}), // at 20
			partial(map[int]error{0: turn(time.Minute), 1: errTransient}),              // at 23
		)}
		p := policy(2)
		told := 0
		p.Notify = func(retry.Attempt) { told++ }
		idle := 0
		ctx := retry.WithIdle(t.Context(), func(left event.Batch, wait func() error) error { idle += len(left); return wait() })
		if err := p.Middleware()(w.write)(ctx, batch("a", "b")); err != nil {
			t.Fatal(err)
		}
		if got := seconds(w.at[20:]); got != "20 23 83" {
			t.Errorf("written at %s", got)
		}
		if told != 2 || idle != 42 {
			t.Errorf("told %d times, idle %d times", told, idle)
		}
	})
}

func TestTurnsEndWithTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		w := writes{errs: forever(fault.Pace(errors.New("later"), time.Second))}
		p := policy(2)
		f := final(t, p.Middleware()(w.write)(ctx, batch("a")))
		if !errors.Is(f[0], context.DeadlineExceeded) {
			t.Error(f[0])
		}
	})
}

// TestTriedForLong: a class that is to be tried for a time gives up at the first attempt that
// comes after it, by its own delays, whatever the age of the message.
func TestTriedForLong(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		c := retry.Class{
			Delay:       time.Duration(rapid.IntRange(0, 100_000).Draw(rt, "delay ms")) * time.Millisecond,
			MaxDelay:    time.Duration(rapid.IntRange(0, 400_000).Draw(rt, "max delay ms")) * time.Millisecond,
			MaxAttempts: rapid.IntRange(0, 8).Draw(rt, "max attempts"),
			TryFor:      time.Duration(rapid.IntRange(0, 3000).Draw(rt, "try for s")) * time.Second,
		}
		p := retry.Policy{Transient: c}
		at := time.Duration(0) // of the attempt, since the first
		for n := 1; n <= 60; n++ {
			for _, before := range []time.Duration{0, 48 * time.Hour} { // it lay there so long
				age := before + at
				want := c.MaxAttempts > 0 && n >= c.MaxAttempts && at >= c.TryFor
				if c.Delay == 0 {
					// Its delays say nothing of the time, so the age does from the second attempt on.
					want = c.MaxAttempts > 0 && n >= c.MaxAttempts && age >= c.TryFor && (n > 1 || c.TryFor == 0)
				}
				if got := c.Exhausted(n, age); got != want {
					rt.Fatalf("attempt %d, %s after the first, age %s: exhausted %t, want %t (%+v)", n, at, age, got, want, c)
				}
			}
			at += p.Delay(fault.Transient, n, 0)
		}
	})
}
