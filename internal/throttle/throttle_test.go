package throttle_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/throttle"
)

// TestRate: over any stretch of time no more leaves than the burst (or one group, where
// groups are larger) and what the rate allows; and nothing waits without need.
func TestRate(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		rate := rapid.SampledFrom([]float64{0.5, 1, 10, 1000}).Draw(rt, "rate")
		burst := rapid.IntRange(1, 20).Draw(rt, "burst")
		type group struct{ pause, n int }
		groups := make([]group, rapid.IntRange(1, 40).Draw(rt, "groups"))
		largest := burst
		for i := range groups {
			groups[i] = group{rapid.SampledFrom([]int{0, 0, 0, 10, 3000}).Draw(rt, "pause"), rapid.IntRange(1, 30).Draw(rt, "n")}
			largest = max(largest, groups[i].n)
		}
		var at []time.Duration
		var wait []time.Duration
		synctest.Test(t, func(t *testing.T) {
			l, begin := throttle.New(rate, burst), time.Now()
			for _, g := range groups {
				time.Sleep(time.Duration(g.pause) * time.Millisecond)
				d := l.Reserve(g.n)
				wait = append(wait, d)
				time.Sleep(d)
				at = append(at, time.Since(begin))
			}
		})
		for i := range at {
			sum := 0
			for j := i; j < len(at); j++ {
				sum += groups[j].n
				// A group that is larger than the burst leaves at its first message's time.
				allowed := float64(largest) + float64(burst) + (at[j]-at[i]).Seconds()*rate + 0.001
				if groups[j].n <= burst && largest == burst {
					allowed -= float64(burst)
				}
				if float64(sum) > allowed {
					rt.Fatalf("%d messages in %s, allowed are %.1f", sum, at[j]-at[i], allowed)
				}
			}
		}
		if groups[0].n <= burst && wait[0] != 0 {
			rt.Fatalf("the first burst waited %s", wait[0])
		}
		total := 0
		for _, g := range groups {
			total += g.n
		}
		pauses := time.Duration(0)
		for _, g := range groups {
			pauses += time.Duration(g.pause) * time.Millisecond
		}
		if most := pauses + time.Duration(float64(total)/rate*float64(time.Second)) + time.Microsecond; at[len(at)-1] > most {
			rt.Fatalf("took %s, needed at most %s", at[len(at)-1], most)
		}
	})
}

func TestEvenlySpaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, begin := throttle.New(10, 3), time.Now()
		want := []time.Duration{0, 0, 0, 100, 200, 300, 400}
		for i, w := range want {
			time.Sleep(l.Reserve(1))
			if got := time.Since(begin); got != w*time.Millisecond {
				t.Errorf("message %d left after %s, want %s", i, got, w*time.Millisecond)
			}
		}
		time.Sleep(time.Hour) // an idle hour does not save up more than the burst
		begin = time.Now()
		for range 4 {
			time.Sleep(l.Reserve(1))
		}
		if got := time.Since(begin); got != 100*time.Millisecond {
			t.Errorf("four messages after an idle hour took %s, want 100ms", got)
		}
	})
}

func TestStopDuringTheWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		written := 0
		w := throttle.New(0.001, 1).Middleware()(func(context.Context, event.Batch) error { written++; return nil })
		b := event.Batch{event.New(nil)}
		if err := w(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		cause := errors.New("drained")
		ctx, stop := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { stop(cause) })
		begin := time.Now()
		if err := w(ctx, b); !errors.Is(err, cause) || time.Since(begin) != time.Second {
			t.Errorf("%v after %s", err, time.Since(begin))
		}
		if written != 1 {
			t.Errorf("%d writes", written)
		}
	})
}

// Extreme settings neither overflow nor turn into no limit.
func TestExtremes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, rate := range []float64{0, -1, 1e-300, 1e-9} {
			l := throttle.New(rate, 1)
			l.Reserve(1)
			if d := l.Reserve(1); d < 23*time.Hour {
				t.Errorf("rate %g: the second message waits %s", rate, d)
			}
		}
		l := throttle.New(1e-9, 1<<62)
		for range 100 {
			if d := l.Reserve(1 << 40); d < 0 {
				t.Fatalf("waits %s", d)
			}
		}
		fast := throttle.New(1e300, 0)
		if d := fast.Reserve(1); d != 0 {
			t.Errorf("waits %s without a limit", d)
		}
	})
}

func BenchmarkReserve(b *testing.B) {
	l := throttle.New(1e9, 1<<30)
	b.ReportAllocs()
	for b.Loop() {
		l.Reserve(1)
	}
}
