package storetest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/queue"
)

func testAxes(t *testing.T, b *bundle) {
	b.open()
	b.append(
		job("a", "1", scoped("w1", "s1", "d1")), job("a", "2", scoped("w1", "s1", "d2")),
		job("a", "3", scoped("w1", "s2", "d1")), job("a", "4", scoped("w2", "s3", "d3")), job("a", "5"),
		job("b", "6", scoped("w1", "s1", "d1")),
	)
	active := func(a queue.Axis, want ...string) {
		t.Helper()
		got, err := b.s.Active(b.ctx, "a", a)
		if err != nil {
			t.Fatalf("Active: %v", err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("active by %s (-want +got):\n%s", a, diff)
		}
	}
	active(queue.None, "")
	active(queue.ByWorkspace, "", "w1", "w2")
	active(queue.BySource, "", "s1", "s2", "s3")
	active(queue.ByDestination, "", "d1", "d2", "d3")
	d1 := b.lease("a", by(queue.ByDestination, "d1"))
	b.want(d1, "1", "3")
	b.want(b.lease("a", by(queue.BySource, "s1")), "2")
	b.want(b.lease("a", by(queue.ByWorkspace, "none of these")))
	b.want(b.lease("a", by(queue.ByWorkspace, "")), "5")
	b.want(b.lease("a", by(queue.None, "ignored")), "4")
	b.settle(d1[0].Done(), d1[1].Dead("no"))
	active(queue.ByDestination, "", "d2", "d3")
	st, err := b.s.Stats(b.ctx, queue.Filter{Queue: "a", By: queue.ByDestination, Value: "d1"})
	st.Bytes = 0
	if err != nil || st != (queue.Stats{Dead: 1}) {
		t.Errorf("Stats of d1 = %+v, %v", st, err)
	}
}

func testTurns(t *testing.T, b *bundle) {
	b.open()
	for i := range 100 {
		b.append(job("a", fmt.Sprint("big ", i), scoped("", "", "big")))
	}
	b.append(job("a", "small 1", scoped("", "", "s1")), job("a", "small 2", scoped("", "", "s2")))
	seen := 0
	for range 6 {
		for _, j := range b.lease("a", limit(5)) {
			if strings.HasPrefix(string(j.Msg.Data), "small") {
				seen++
			}
		}
	}
	if seen != 2 {
		t.Errorf("a large lane held up %d small ones", 2-seen)
	}
}

func testLimits(t *testing.T, b *bundle) {
	b.open()
	var jobs []queue.Job
	for range 50 {
		jobs = append(jobs, job("a", strings.Repeat("x", 1000)))
	}
	b.append(jobs...)
	if n := len(b.lease("a", limit(7))); n != 7 {
		t.Errorf("Limit 7 gave %d jobs", n)
	}
	if n := len(b.lease("a", func(q *queue.Query) { q.Bytes = 5500 })); n < 3 || n > 5 {
		t.Errorf("Bytes 5500 gave %d jobs of 1000 bytes", n)
	}
	if n := len(b.lease("a", func(q *queue.Query) { q.Bytes = 10 })); n != 1 {
		t.Errorf("Bytes 10 gave %d jobs, want the one that must come", n)
	}
	rest := 0
	for {
		got := b.lease("a", limit(11))
		if len(got) == 0 {
			break
		}
		rest += len(got)
	}
	if st := b.stats("a"); st.Leased != 50 || rest < 37 {
		t.Errorf("stats = %+v after leasing everything", st)
	}
}

// await leases until something comes, the way a worker does.
func (b *bundle) await(q queue.Query) []queue.Job {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	for {
		wake := b.s.Wake(q.Filter)
		jobs, err := b.s.Lease(ctx, q)
		if err != nil {
			b.Fatalf("Lease: %v", err)
		}
		if len(jobs) > 0 {
			return jobs
		}
		select {
		case <-wake:
		case <-ctx.Done():
			b.Fatalf("nothing woke the worker of %+v", q.Filter)
		}
	}
}

func testWakeAppend(t *testing.T, b *bundle) {
	b.live()
	q := queue.Query{Filter: queue.Filter{Queue: "a", By: queue.ByDestination, Value: "d"}}
	got := make(chan []queue.Job)
	go func() { got <- b.await(q) }()
	b.append(job("a", "1", scoped("", "", "d")))
	b.want(<-got, "1")
}

func testWakeDue(t *testing.T, b *bundle) {
	b.live()
	b.append(job("a", "2"))
	two := b.await(queue.Query{Filter: queue.Filter{Queue: "a"}})
	b.want(two, "2")
	// How long the calls below take does not matter: nothing else is in the queue, and a
	// job that is overdue by then comes all the same, alone or with the other.
	first := time.Now().Add(300 * time.Millisecond)
	second := first.Add(300 * time.Millisecond)
	b.append(job("a", "1", notBefore(first)))
	b.settle(two[0].Again(second, "later"))
	due := map[string]time.Time{"1": first, "2": second}
	for len(due) > 0 {
		for _, j := range b.await(queue.Query{Filter: queue.Filter{Queue: "a"}}) {
			name := string(j.Msg.Data)
			at, waits := due[name]
			if !waits {
				t.Fatalf("job %s came twice", name)
			}
			if early := time.Until(at); early > 0 {
				t.Errorf("job %s came %s before its time", name, early)
			}
			delete(due, name)
		}
	}
}

func testWakeExpiry(t *testing.T, b *bundle) {
	b.live()
	b.append(job("a", "1"))
	b.want(b.lease("a", lasting(50*time.Millisecond)), "1")
	b.want(b.await(queue.Query{Filter: queue.Filter{Queue: "a"}}), "1")
}

func testWakeKey(t *testing.T, b *bundle) {
	b.live()
	b.append(job("a", "x1", ordered("x")), job("a", "x2", ordered("x")))
	first := b.lease("a")
	b.want(first, "x1")
	got := make(chan []queue.Job)
	go func() { got <- b.await(queue.Query{Filter: queue.Filter{Queue: "a"}}) }()
	b.settle(first[0].Done())
	b.want(<-got, "x2")
}

func testWakeFilter(t *testing.T, b *bundle) {
	b.live()
	d1 := b.s.Wake(queue.Filter{Queue: "a", By: queue.ByDestination, Value: "d1"})
	d2 := b.s.Wake(queue.Filter{Queue: "a", By: queue.ByDestination, Value: "d2"})
	b.append(job("a", "1", scoped("", "", "d2")))
	select {
	case <-d2:
	case <-time.After(patience):
		t.Fatal("the worker of d2 was not woken")
	}
	select {
	case <-d1:
		t.Error("the worker of d1 was woken for d2")
	default:
	}
}
