package garbage

import (
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

// goal is the heap at which Go collects, with a percentage.
func goal(live, others uint64, percent int) float64 {
	g := float64(live) + float64(live+others)*float64(percent)/100
	return max(g, smallest*float64(percent)/100)
}

// TestPercentage: whatever is in use, the heap grows to the floor or by the percentage,
// whichever is more, and not beyond.
func TestPercentage(t *testing.T) {
	t.Parallel()
	const floor = 64 << 20
	random := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		live, others := uint64(random.ExpFloat64()*(20<<20)), uint64(random.ExpFloat64()*(4<<20))
		got := goal(live, others, percentage(live, others, floor, 150))
		bare := goal(live, others, 150)
		if want := max(floor, bare); got > want*1.001 || got < want-0.08*float64(live+others)-smallest*0.08 {
			t.Fatalf("live %d, others %d: the heap grows to %.0f, not to %.0f", live, others, got, want)
		}
	}
	if p := percentage(0, 0, floor, 150); p != 1600 {
		t.Errorf("with nothing in use: %d percent", p)
	}
}

// TestFloor: what a collection finds in use decides how far the heap grows to the next, and
// tightening counts until it ends.
func TestFloor(t *testing.T) {
	before := debug.SetGCPercent(100)
	t.Cleanup(func() {
		rule.Lock() // the cleanups go on, and find nothing to do
		defer rule.Unlock()
		rule.floor, rule.percent = 0, before
		apply()
	})
	percent := func() int {
		rule.Lock()
		defer rule.Unlock()
		p := debug.SetGCPercent(-1)
		debug.SetGCPercent(p)
		return p
	}
	until := func(what string, is func(p int) bool) {
		t.Helper()
		for end := time.Now().Add(2 * time.Minute); !is(percent()); {
			if time.Now().After(end) {
				t.Fatalf("%s: the percentage stays %d", what, percent())
			}
			runtime.GC()
			time.Sleep(time.Millisecond)
		}
	}
	Floor(64<<20, 150)
	until("little in use", func(p int) bool { return p > 300 })
	held := make([]byte, 100<<20)
	until("much in use", func(p int) bool { return p == 150 })
	end := Tighten(25)
	for range 10 {
		runtime.GC()
		if p := percent(); p != 25 {
			t.Fatalf("tightened: %d percent", p)
		}
	}
	runtime.KeepAlive(held)
	end()
	until("much given back", func(p int) bool { return p > 300 })
}
