package order_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/embedded"
	"github.com/weirdata/weir/internal/queue/order"
	"github.com/weirdata/weir/internal/queue/postgres"
)

type store interface {
	queue.Store
	queue.Admin
}

// patience is how long something may take on a busy machine before it counts as stuck.
const patience = 3 * time.Minute

func inMemory(t *testing.T) store {
	t.Helper()
	s, err := embedded.Open("store", embedded.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// share opens a store in the database at dsn.
func share(t *testing.T, dsn string) *postgres.Store {
	t.Helper()
	s, err := postgres.New(postgres.Options{DSN: dsn, Partitions: 4, Committers: 1, Readers: 2, Poll: 50 * time.Millisecond, Lease: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// each runs a test on both backends.
func each(t *testing.T, test func(t *testing.T, s store)) {
	t.Helper()
	t.Run("embedded", func(t *testing.T) { t.Parallel(); test(t, inMemory(t)) })
	t.Run("postgres", func(t *testing.T) { t.Parallel(); test(t, share(t, enginetest.Postgres(t))) })
}

func job(q, payload string, opts ...func(*queue.Job)) queue.Job {
	j := queue.Job{Queue: q, Msg: event.New([]byte(payload))}
	for _, o := range opts {
		o(&j)
	}
	return j
}

func to(d string) func(*queue.Job)          { return func(j *queue.Job) { j.Scope.Destination = d } }
func key(k string) func(*queue.Job)         { return func(j *queue.Job) { j.Msg.Key, j.Ordered = k, true } }
func wait(d time.Duration) func(*queue.Job) { return func(j *queue.Job) { j.After = d } }

func appends(t *testing.T, s store, jobs ...queue.Job) {
	t.Helper()
	if err := s.Update(t.Context(), func(tx queue.Tx) error { return tx.Append(jobs...) }); err != nil {
		t.Fatal(err)
	}
}

// content is where each payload is: "queue", "queue/destination", and with " dead".
func content(t *testing.T, s store) map[string]string {
	t.Helper()
	got := map[string]string{}
	for _, state := range []queue.State{queue.Open, queue.Buried} {
		for after := (queue.ID{}); ; {
			p, err := s.List(t.Context(), queue.Search{State: state}, after, 1000)
			if err != nil {
				t.Fatal(err)
			}
			for i := range p.Jobs {
				j := &p.Jobs[i]
				at := j.Queue
				if j.Scope.Destination != "" {
					at += "/" + j.Scope.Destination
				}
				if state == queue.Buried {
					at += " dead"
				}
				if before := got[string(j.Msg.Data)]; before != "" {
					at += " and " + before
				}
				got[string(j.Msg.Data)] = at
			}
			if after = p.Next; after == (queue.ID{}) {
				break
			}
		}
	}
	return got
}

func want(t *testing.T, s store, want map[string]string) {
	t.Helper()
	if diff := cmp.Diff(want, content(t, s)); diff != "" {
		t.Errorf("jobs (-want +got):\n%s", diff)
	}
}

func carry(t *testing.T, s store, o order.Order) int {
	t.Helper()
	given, err := order.Give(t.Context(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	n, left, err := order.Worker{Store: s}.Finish(t.Context(), given, patience, nil)
	if left || err != nil {
		t.Fatalf("%s: left %t, %v", o.Kind, left, err)
	}
	if open, err := order.Open(t.Context(), s); len(open) > 0 || err != nil {
		t.Fatalf("orders that are open afterwards: %+v, %v", open, err)
	}
	return n
}

// TestOrders: every open job that is chosen, whatever keeps it from being worked on, and none else.
func TestOrders(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s store) {
		appends(t, s, job("a", "1", to("x")), job("a", "2", to("x"), key("k")), job("a", "3", to("x"), key("k")), job("a", "4", to("x"), wait(time.Hour)),
			job("a", "5", to("y")), job("b", "6", to("x")))
		if err := queue.SetPause(t.Context(), s, queue.Pause{Filter: queue.Filter{Queue: "a"}}); err != nil {
			t.Fatal(err)
		}
		x := queue.Search{Filter: queue.Filter{Queue: "a", By: queue.ByDestination, Value: "x"}}
		if n := carry(t, s, order.Order{Kind: order.Move, Search: x, To: "c"}); n != 4 {
			t.Errorf("%d jobs were moved, want 4", n)
		}
		want(t, s, map[string]string{"1": "c/x", "2": "c/x", "3": "c/x", "4": "c/x", "5": "a/y", "6": "b/x"})
		p, err := s.List(t.Context(), queue.Search{Filter: queue.Filter{Queue: "c"}}, queue.ID{}, 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, j := range p.Jobs {
			if late := j.NotBefore.After(s.Now().Add(50 * time.Minute)); late != (string(j.Msg.Data) == "4") || j.Ordered != (j.Msg.Key == "k") {
				t.Errorf("%s: not before %s, ordered %t", j.Msg.Data, j.NotBefore, j.Ordered)
			}
		}
		carry(t, s, order.Order{Kind: order.Move, Search: queue.Search{Filter: queue.Filter{Queue: "c"}}, To: "c", ToBy: queue.ByDestination, ToValue: "z"})
		want(t, s, map[string]string{"1": "c/z", "2": "c/z", "3": "c/z", "4": "c/z", "5": "a/y", "6": "b/x"})
		if n := carry(t, s, order.Order{Kind: order.Drain, Search: queue.Search{Filter: queue.Filter{Queue: "c"}}, Who: "test"}); n != 4 {
			t.Errorf("%d jobs were drained, want 4", n)
		}
		if n := carry(t, s, order.Order{Kind: order.Drop, Search: queue.Search{Filter: queue.Filter{Queue: "a"}}}); n != 1 {
			t.Errorf("%d jobs were dropped, want 1", n)
		}
		want(t, s, map[string]string{"1": "c/z dead", "2": "c/z dead", "3": "c/z dead", "4": "c/z dead", "6": "b/x"})
		p, err = s.List(t.Context(), queue.Search{State: queue.Buried, Cause: "test"}, queue.ID{}, 10)
		if len(p.Jobs) != 4 || err != nil {
			t.Errorf("%d dead jobs name who drained them, %v", len(p.Jobs), err)
		}
	})
}

// TestOrdersOfNothing are refused before anything is written.
func TestOrdersOfNothing(t *testing.T) {
	t.Parallel()
	s := inMemory(t)
	a := queue.Search{Filter: queue.Filter{Queue: "a"}}
	for _, o := range []order.Order{
		{Kind: order.Drop},
		{Kind: "empty", Search: a},
		{Kind: order.Move, Search: a},
		{Kind: order.Move, Search: a, To: "a"},
		{Kind: order.Move, Search: queue.Search{Filter: queue.Filter{Queue: "a", By: queue.BySource, Value: "s"}}, To: "a", ToBy: queue.BySource, ToValue: "s"},
		{Kind: order.Move, Search: a, To: strings.Repeat("n", queue.MaxName+1)},
		{Kind: order.Drop, Search: queue.Search{Filter: a.Filter, State: queue.Buried}},
	} {
		if _, err := order.Give(t.Context(), s, o); err == nil {
			t.Errorf("taken: %+v", o)
		}
	}
	if open, err := order.Open(t.Context(), s); len(open) > 0 || err != nil {
		t.Errorf("orders: %+v, %v", open, err)
	}
}

// TestWhatIsInHandIsWaitedFor: a job that a pipeline has leased is done by it, or comes back and
// is reached then.
func TestWhatIsInHandIsWaitedFor(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s store) {
		appends(t, s, job("a", "1"), job("a", "2"), job("a", "3"))
		held, err := s.Lease(t.Context(), queue.Query{Filter: queue.Filter{Queue: "a"}, Limit: 2})
		if err != nil || len(held) != 2 {
			t.Fatalf("%d jobs, %v", len(held), err)
		}
		o, err := order.Give(t.Context(), s, order.Order{Kind: order.Move, Search: queue.Search{Filter: queue.Filter{Queue: "a"}}, To: "b"})
		if err != nil {
			t.Fatal(err)
		}
		n, left, err := order.Worker{Store: s}.Finish(t.Context(), o, 0, nil)
		if n != 1 || !left || err != nil {
			t.Fatalf("moved %d, left %t, %v", n, left, err)
		}
		appends(t, s, job("a", "later"))
		if err := s.Update(t.Context(), func(tx queue.Tx) error { return tx.Settle(held[0].Done(), held[1].AgainAfter(time.Hour, "refused")) }); err != nil {
			t.Fatal(err)
		}
		var told []string
		err = order.Worker{Store: s}.Continue(t.Context(), func(o *order.Order, jobs int, left bool) {
			told = append(told, fmt.Sprintf("%s %d %t", o.Kind, jobs, left))
		})
		if diff := cmp.Diff([]string{"move 1 false"}, told); diff != "" || err != nil {
			t.Errorf("told (-want +got), %v:\n%s", err, diff)
		}
		want(t, s, map[string]string{string(held[1].Msg.Data): "b", "3": "b", "later": "a"})
	})
}

// TestRemains: what a job leaves behind is deleted with it.
func TestRemains(t *testing.T) {
	t.Parallel()
	s := inMemory(t)
	appends(t, s, job("a", "1"))
	put := func(tx queue.Tx) error {
		return errors.Join(tx.Put([]byte("of 1"), []byte("v")), tx.Put([]byte("of 2"), []byte("v")))
	}
	if err := s.Update(t.Context(), put); err != nil {
		t.Fatal(err)
	}
	o, err := order.Give(t.Context(), s, order.Order{Kind: order.Drop, Search: queue.Search{Filter: queue.Filter{Queue: "a"}}})
	if err != nil {
		t.Fatal(err)
	}
	w := order.Worker{Store: s, Remains: func(_ context.Context, _ queue.Store, j *queue.Job) ([][]byte, error) {
		return [][]byte{[]byte("of " + string(j.Msg.Data))}, nil
	}}
	if n, left, err := w.Finish(t.Context(), o, patience, nil); n != 1 || left || err != nil {
		t.Fatalf("dropped %d, left %t, %v", n, left, err)
	}
	err = s.View(t.Context(), func(r queue.Reader) error {
		one, err1 := r.Get([]byte("of 1"))
		two, err2 := r.Get([]byte("of 2"))
		if one != nil || two == nil {
			t.Errorf("records: %q, %q", one, two)
		}
		return errors.Join(err1, err2)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestRandomOrders compares random orders on random jobs with a plain model.
func TestRandomOrders(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, s store) { random(t, s, rand.New(rand.NewPCG(seed, 7))) })
		})
	}
}

type modelJob struct{ queue, destination, key, dead string }

func random(t *testing.T, s store, rng *rand.Rand) {
	t.Helper()
	model := map[string]*modelJob{}
	pick := func(of ...string) string { return of[rng.IntN(len(of))] }
	for round := range 12 {
		var jobs []queue.Job
		for i := range 1 + rng.IntN(40) {
			m := &modelJob{pick("a", "b"), pick("x", "y", "z"), pick("", "", "k", "l"), ""}
			j := job(m.queue, fmt.Sprintf("%d-%d", round, i), to(m.destination))
			if m.key != "" {
				key(m.key)(&j)
			}
			if rng.IntN(5) == 0 {
				wait(time.Hour)(&j)
			}
			model[string(j.Msg.Data)] = m
			jobs = append(jobs, j)
		}
		appends(t, s, jobs...)
		f := queue.Filter{Queue: pick("a", "b")}
		if rng.IntN(2) == 0 {
			f.By, f.Value = queue.ByDestination, pick("x", "y", "z")
		}
		if rng.IntN(3) == 0 { // what failed waits for its time, with its cause
			some, err := s.Lease(t.Context(), queue.Query{Filter: f, Limit: 5})
			if err != nil {
				t.Fatal(err)
			}
			rs := make([]queue.Result, len(some))
			for i := range some {
				rs[i] = some[i].AgainAfter(time.Hour, "refused")
			}
			if err := s.Update(t.Context(), func(tx queue.Tx) error { return tx.Settle(rs...) }); err != nil {
				t.Fatal(err)
			}
		}
		o := order.Order{Kind: order.Kind(pick("drop", "drain", "move", "move")), Search: queue.Search{Filter: f}}
		if o.Kind == order.Move {
			if o.To = pick("a", "b"); o.To == f.Queue || rng.IntN(2) == 0 {
				o.ToBy, o.ToValue = queue.ByDestination, "w"
			}
		}
		n, expected := carry(t, s, o), 0
		for payload, m := range model {
			if m.dead != "" || m.queue != f.Queue || f.By != "" && m.destination != f.Value {
				continue
			}
			expected++
			switch o.Kind {
			case order.Drop:
				delete(model, payload)
			case order.Drain:
				m.dead = " dead"
			default:
				if m.queue = o.To; o.ToBy != "" {
					m.destination = o.ToValue
				}
			}
		}
		all := map[string]string{}
		for payload, m := range model {
			all[payload] = m.queue + "/" + m.destination + m.dead
		}
		if want(t, s, all); n < expected || t.Failed() {
			t.Fatalf("round %d: %+v: %d jobs, want %d", round, o, n, expected)
		}
	}
}

// TestPowerFailureInAnOrder: the store as a power failure leaves it in the middle of a move has
// every job once, and goes on with the move.
func TestPowerFailureInAnOrder(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 1))
			fs := vfs.NewCrashableMem()
			s, err := embedded.Open("store", embedded.Options{FS: fs, SegmentBytes: 64 << 10})
			if err != nil {
				t.Fatal(err)
			}
			all := map[string]string{}
			for i := range 3000 {
				p := fmt.Sprint("job ", i)
				all[p] = "b"
				appends(t, s, job("a", p))
			}
			ctx, stop := context.WithCancel(t.Context())
			o, err := order.Give(ctx, s, order.Order{Kind: order.Move, Search: queue.Search{Filter: queue.Filter{Queue: "a"}}, To: "b"})
			if err != nil {
				t.Fatal(err)
			}
			crash := 500 * (1 + rng.IntN(5)) // jobs that are moved before
			var clone *vfs.MemFS
			_, _, err = order.Worker{Store: s}.Finish(ctx, o, patience, func(jobs int) {
				if jobs >= crash && clone == nil {
					clone = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
					stop()
				}
			})
			if clone == nil || err == nil && ctx.Err() == nil {
				t.Fatalf("nothing was cut short: %v", err)
			}
			_ = s.Close() // the power is off
			again, err := embedded.Open("store", embedded.Options{FS: clone, SegmentBytes: 64 << 10})
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			between := content(t, again)
			if n := len(slices.DeleteFunc(slices.Collect(maps.Values(between)), func(at string) bool { return at != "a" && at != "b" })); n != 3000 {
				t.Fatalf("%d jobs are there once after the crash, want 3000", n)
			}
			if err := (order.Worker{Store: again}).Continue(t.Context(), func(*order.Order, int, bool) {}); err != nil {
				t.Fatal(err)
			}
			want(t, again, all)
		})
	}
}

// TestOrderOfACluster: an order that a process gives which leases from nothing is carried out by
// those that do, also when one of them ends in the middle.
func TestOrderOfACluster(t *testing.T) {
	t.Parallel()
	dsn := enginetest.Postgres(t)
	observer, all := share(t, dsn), map[string]string{}
	var wg sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	defer wg.Wait()
	defer stop()
	var nodes []*postgres.Store
	for range 2 {
		s := share(t, dsn)
		s.Subscribe("a")
		nodes = append(nodes, s)
	}
	for i := range 40 {
		var jobs []queue.Job
		for k := range 50 {
			p := fmt.Sprint(i, "/", k)
			all[p] = fmt.Sprint("b/", k)
			jobs = append(jobs, job("a", p, to(fmt.Sprint(k)), key(fmt.Sprint(i))))
		}
		appends(t, observer, jobs...)
	}
	o, err := order.Give(ctx, observer, order.Order{Kind: order.Move, Search: queue.Search{Filter: queue.Filter{Queue: "a"}}, To: "b"})
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range nodes {
		wg.Go(func() {
			done := 0
			for ctx.Err() == nil && (i > 0 || done == 0) {
				_ = (order.Worker{Store: s}).Continue(ctx, func(_ *order.Order, jobs int, _ bool) { done += jobs })
				time.Sleep(20 * time.Millisecond)
			}
			if i == 0 {
				_ = s.Close()
			}
		})
	}
	if _, left, err := (order.Worker{Store: observer}).Finish(ctx, o, patience, nil); left || err != nil {
		t.Fatalf("left %t, %v", left, err)
	}
	want(t, observer, all)
	if has, _ := observer.Share("a"); has > 0 {
		t.Errorf("the observer has %d partitions of a queue that others lease from", has)
	}
}
