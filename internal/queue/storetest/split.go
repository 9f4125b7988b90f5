package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/queue"
)

func split(a queue.Axis, room func(string) (int, int)) func(*queue.Query) {
	return func(q *queue.Query) { q.Split, q.Room = a, room }
}

// Turns checks, of a store of one partition, that no value's second job is handed out before
// the first of every other.
func Turns(t *testing.T, backend Backend) {
	t.Helper()
	b := &bundle{T: t, b: backend, ctx: t.Context(), clock: NewClock()}
	b.open()
	const values = 30
	for i := range 3 {
		for v := range values {
			for range 1 + v%3 {
				b.append(job("a", fmt.Sprint(v, " ", i), scoped("", fmt.Sprint("s", i), fmt.Sprint(v))))
			}
		}
	}
	// Of value v come 3, 6 or 9 jobs: in the first three rounds one of each, in order.
	var order []string
	for _, n := range []int{1, 7, 30, 11, 41} {
		for _, j := range b.lease("a", split(queue.ByDestination, nil), limit(n)) {
			order = append(order, j.Scope.Destination)
		}
	}
	if len(order) != 3*values {
		t.Fatalf("%d jobs came, want %d", len(order), 3*values)
	}
	for round := range 3 {
		turns := slices.Clone(order[round*values : (round+1)*values])
		slices.Sort(turns)
		if n := len(slices.Compact(turns)); n != values {
			t.Errorf("in round %d only %d values of %d had a turn", round, n, values)
		}
	}
}

// testSplit has one value with much work and many with little: turns are theirs, not the
// lanes', however few jobs a call returns.
func testSplit(t *testing.T, b *bundle) {
	b.open()
	const values = 40
	var jobs []queue.Job
	for i := range 200 {
		jobs = append(jobs, job("a", fmt.Sprint("big ", i), scoped("", fmt.Sprint("s", i%20), "big")))
	}
	for v := range values {
		for i := range 2 {
			jobs = append(jobs, job("a", fmt.Sprint(v, " ", i), scoped("", "", fmt.Sprint(v))))
		}
	}
	b.append(jobs...)
	got := map[string][]string{}
	for range 10 {
		for _, j := range b.lease("a", split(queue.ByDestination, nil), limit(12)) {
			got[j.Scope.Destination] = append(got[j.Scope.Destination], string(j.Msg.Data))
		}
	}
	for v := range values {
		want := []string{fmt.Sprint(v, " ", 0), fmt.Sprint(v, " ", 1)}
		if have := got[fmt.Sprint(v)]; !slices.Equal(have, want[:len(have)]) {
			t.Errorf("of value %d came %q, in this order, want %q", v, have, want)
		}
	}
	total := 0
	for {
		more := b.lease("a", split(queue.ByDestination, nil), limit(50))
		if len(more) == 0 {
			break
		}
		for _, j := range more {
			got[j.Scope.Destination] = append(got[j.Scope.Destination], string(j.Msg.Data))
		}
	}
	for _, js := range got {
		total += len(js)
	}
	if total != len(jobs) || len(got) != values+1 {
		t.Errorf("%d jobs of %d values came, want %d of %d", total, len(got), len(jobs), values+1)
	}
	b.want(b.lease("a"))
	_, err := b.s.Lease(b.ctx, queue.Query{Filter: queue.Filter{Queue: "a", By: queue.BySource, Value: "s1"}, Split: queue.ByDestination})
	if fault.Of(err) != fault.Fatal {
		t.Errorf("a split within one value of another axis: %v", err)
	}
}

// testSplitRoom has values that may get some jobs, one or none.
func testSplitRoom(t *testing.T, b *bundle) {
	b.open()
	var jobs []queue.Job
	for i := range 60 {
		jobs = append(jobs, job("a", fmt.Sprint(i), scoped(fmt.Sprint("w", i%6), fmt.Sprint("s", i%12), "")))
	}
	b.append(jobs...)
	rooms := map[string][2]int{"w0": {0, 100}, "w1": {1, 100}, "w2": {2, 100}, "w3": {100, 0}, "w4": {100, 1}, "w5": {100, 100}}
	asked := map[string]int{}
	got := map[string]int{}
	for _, j := range b.lease("a", split(queue.ByWorkspace, func(v string) (int, int) {
		asked[v]++
		return rooms[v][0], rooms[v][1]
	})) {
		got[j.Scope.Workspace]++
	}
	// A payload has two bytes at most, a job is larger: of 1 byte comes one job, of 100 some.
	if got["w0"] != 0 || got["w1"] != 1 || got["w2"] != 2 || got["w3"] != 0 || got["w4"] != 1 || got["w5"] < 2 {
		t.Errorf("jobs by workspace %v, with rooms of jobs and bytes %v", got, rooms)
	}
	for v, n := range asked {
		if n != 1 {
			t.Errorf("Room was asked %d times about %s", n, v)
		}
	}
	b.lease("a", split(queue.ByWorkspace, func(string) (int, int) { return 100, 1 << 20 }))
	if st := b.stats("a"); st.Leased != 60 {
		t.Errorf("%d jobs are leased when all had room, want 60", st.Leased)
	}
}

// testSplitOrder has turns keep what holds within a lane: jobs that are due go first, and a
// key waits for its first job.
func testSplitOrder(t *testing.T, b *bundle) {
	b.open()
	b.append(job("a", "x1", scoped("", "", "d"), ordered("x")), job("a", "x2", scoped("", "", "d"), ordered("x")), job("a", "1", scoped("", "", "d")))
	one := func() queue.Job {
		t.Helper()
		js := b.lease("a", split(queue.ByDestination, nil), limit(1))
		if len(js) != 1 {
			t.Fatalf("%d jobs came, want 1", len(js))
		}
		return js[0]
	}
	x1 := one()
	b.want([]queue.Job{x1}, "x1")
	b.append(job("a", "2", scoped("", "", "d")))
	b.settle(x1.Again(b.clock.Now().Add(time.Minute), "later"))
	two := one()
	b.want([]queue.Job{two}, "1")
	b.settle(two.Done())
	b.clock.Advance(time.Minute)
	x1 = one()
	b.want([]queue.Job{x1}, "x1")
	b.want([]queue.Job{one()}, "2")
	b.want(b.lease("a", split(queue.ByDestination, nil)))
	b.settle(x1.Done())
	b.want([]queue.Job{one()}, "x2")
}
