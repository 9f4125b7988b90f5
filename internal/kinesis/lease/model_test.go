package lease

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// runs is how many random histories are tried; WEIR_MODEL_RUNS says it.
func runs(t *testing.T, usual int) int {
	if s := os.Getenv("WEIR_MODEL_RUNS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("WEIR_MODEL_RUNS is %q, which is no number", s)
		}
		return n
	}
	return usual
}

// TestWorlds has instances come, stop, die, be cut off and freeze, the table throttle and lose
// answers, and shards split and merge, at random: at no time a shard has two holders, positions
// only grow, no child is read before its parents have ended, and when things calm down every open
// shard is read, and the instances hold equal shares.
func TestWorlds(t *testing.T) {
	t.Parallel()
	for seed := range runs(t, 12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { history(t, rand.New(rand.NewPCG(uint64(seed), 7))) })
		})
	}
}

func history(t *testing.T, r *rand.Rand) {
	w := newWorld(t, 1+r.IntN(12), nil)
	stop := make(chan struct{})
	w.watch(stop)
	n := 0
	join := func() { n++; w.join(fmt.Sprintf("i%d", n)) }
	join()
	for range 6 {
		for range 1 + r.IntN(5) {
			happen(w, r, join)
			time.Sleep(time.Duration(r.IntN(8000)) * time.Millisecond)
		}
		calm(t, w, join)
	}
	close(stop)
	w.end()
}

// happen is one event.
func happen(w *world, r *rand.Rand, join func()) {
	live := w.live()
	one := func() *instance { return live[r.IntN(len(live))] }
	open := w.river.open()
	switch k := r.IntN(10); {
	case len(live) == 0 || k == 0 && len(live) < 6:
		join()
	case k == 1:
		one().die()
	case k == 2:
		in := one()
		if err := in.Close(w.t.Context()); err != nil && len(live) > 0 {
			w.t.Logf("close %s: %v", in.name, err)
		}
		in.kill()
	case k == 3:
		w.river.split(open[r.IntN(len(open))].ID)
	case k == 4 && len(open) > 1:
		i := r.IntN(len(open) - 1)
		w.river.merge(open[i].ID, open[i+1].ID)
	case k == 5:
		one().line.set(func(n *line) { n.cut = !n.cut })
	case k == 6:
		one().line.set(func(n *line) { n.lost = 0.3 })
	case k == 7:
		began := time.Now()
		for _, in := range live {
			in.line.set(func(n *line) {
				n.throttle = func(now time.Time) bool { return now.Sub(began)%(5*time.Second) < 3*time.Second }
			})
		}
	case k == 8:
		one().line.set(func(n *line) { n.latency = 800 * time.Millisecond })
	case k == 9:
		one().freeze(r.IntN(2) == 0)
	}
}

// calm ends all faults, and looks after a while whether everything is as it should be.
func calm(t *testing.T, w *world, join func()) {
	if len(w.live()) == 0 {
		join()
	}
	for _, in := range w.live() {
		in.line.set((*line).heal)
		in.freeze(false)
	}
	// Shards that were closed lately have to be read to their end, parents before children, each
	// after a fail-over perhaps.
	began := time.Now()
	for len(w.unread()) > 0 && time.Since(began) < 3*time.Minute {
		time.Sleep(time.Second)
	}
	if left := w.unread(); len(left) > 0 {
		rows, _ := w.table.Scan(t.Context(), true)
		t.Fatalf("nobody reads %v after %s; held are %v; the table has %+v", left, time.Since(began), w.holders(), rows)
	}
	time.Sleep(20 * time.Second)
	if shares := w.shares(); !level(shares) {
		t.Errorf("the shares are %v", shares)
	}
	before := w.table.total()
	time.Sleep(30 * time.Second)
	if after := w.table.total(); after != before {
		t.Errorf("%d shards changed their owner although nothing happened", after-before)
	}
	if left := w.unread(); len(left) > 0 {
		t.Errorf("nobody reads %v any more", left)
	}
}
