package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/queue"
)

func testDead(t *testing.T, b *bundle) {
	b.open()
	b.append(job("a", "1", scoped("w1", "", "")), job("a", "2", scoped("w2", "", "")), job("a", "3"), job("a", "4"))
	jobs := b.lease("a")
	b.settle(find(b, jobs, "1").Dead("bad payload"))
	b.clock.Advance(time.Second)
	died := b.clock.Now()
	b.settle(find(b, jobs, "2").Dead("bad gateway"), find(b, jobs, "3").Dead("bad payload"))
	b.settle(find(b, jobs, "4").Again(b.clock.Now(), "down"))
	b.settle(b.lease("a")[0].Dead(strings.Repeat("long", queue.MaxCause)))
	b.wantStats("a", queue.Stats{Dead: 4})
	b.reopen()
	list := func(s queue.Search, want ...string) []queue.Job {
		t.Helper()
		s.State = queue.Buried
		p, err := b.s.List(b.ctx, s, queue.ID{}, 100)
		if err != nil || p.Next != (queue.ID{}) {
			t.Fatalf("List = next %v, %v", p.Next, err)
		}
		b.want(p.Jobs, want...)
		return p.Jobs
	}
	all := list(queue.Search{}, "1", "2", "3", "4")
	if j := find(b, all, "3"); j.Cause != "bad payload" || !j.At.Equal(died) || j.Attempt != 0 {
		t.Errorf("dead job = %+v", j)
	}
	if j := find(b, all, "4"); len(j.Cause) != queue.MaxCause || j.Attempt != 1 {
		t.Errorf("dead job has a cause of %d bytes, attempt %d", len(j.Cause), j.Attempt)
	}
	list(queue.Search{Cause: "payload"}, "1", "3")
	list(queue.Search{Before: died}, "1")
	list(queue.Search{Filter: queue.Filter{Queue: "a", By: queue.ByWorkspace, Value: "w2"}}, "2")
	list(queue.Search{Filter: queue.Filter{Queue: "b"}})
	list(queue.Search{IDs: []queue.ID{find(b, all, "1").ID}}, "1")
	// Of lanes that have others before and behind, of one that has none of them, and what is not there.
	one, three, four := find(b, all, "1").ID, find(b, all, "3").ID, find(b, all, "4").ID
	list(queue.Search{IDs: []queue.ID{four, one}}, "1", "4")
	list(queue.Search{IDs: []queue.ID{three}}, "3")
	list(queue.Search{IDs: []queue.ID{{Lane: three.Lane, Seq: three.Seq + 1000}, {Lane: 1 << 40, Seq: 1}}})
	if p, err := b.s.List(b.ctx, queue.Search{State: queue.Buried, IDs: []queue.ID{one, three, four}}, three, 100); err != nil || len(p.Jobs) != 1 || p.Jobs[0].ID != four {
		t.Errorf("List of IDs after one of them = %+v, %v", p, err)
	}
	if n, err := b.s.Drop(b.ctx, queue.Search{State: queue.Buried, IDs: []queue.ID{{Lane: three.Lane, Seq: three.Seq + 1<<20}}}); n != 0 || err != nil {
		t.Errorf("Drop of what is not there = %d, %v", n, err)
	}
	n, err := b.s.Requeue(b.ctx, queue.Search{State: queue.Buried, Cause: "payload"})
	if n != 2 || err != nil {
		t.Fatalf("Requeue = %d, %v", n, err)
	}
	b.wantStats("a", queue.Stats{Waiting: 2, Dead: 2})
	got := b.lease("a")
	b.want(got, "1", "3")
	if j := find(b, got, "1"); j.Attempt != 0 || j.Cause != "" || j.Scope.Workspace != "w1" {
		t.Errorf("requeued job = %+v", j)
	}
	if n, err := b.s.Drop(b.ctx, queue.Search{State: queue.Buried, Before: died.Add(1), Cause: "gateway"}); n != 1 || err != nil {
		t.Fatalf("Drop = %d, %v", n, err)
	}
	list(queue.Search{}, "4")
	if _, err := b.s.Drop(b.ctx, queue.Search{}); err == nil {
		t.Error("Drop of open jobs was accepted")
	}
	b.wantStats("a", queue.Stats{Leased: 2, Dead: 1})
}

func testList(t *testing.T, b *bundle) {
	b.open()
	for i := range 30 {
		b.append(job("a", fmt.Sprintf("%02d", i)), job("a", fmt.Sprintf("%02d", i+30), scoped("w", "", "")))
	}
	jobs := b.lease("a", limit(20))
	for i := range jobs {
		switch i % 4 {
		case 0:
			b.settle(jobs[i].Done())
		case 1:
			b.settle(jobs[i].Again(b.clock.Now().Add(time.Hour), "later"))
		case 2:
			b.settle(jobs[i].Dead("no"))
		}
	}
	want := map[string]bool{}
	for i := range 60 {
		want[fmt.Sprintf("%02d", i)] = true
	}
	for i := range jobs {
		if i%4 == 0 || i%4 == 2 {
			delete(want, string(jobs[i].Msg.Data))
		}
	}
	after := queue.ID{}
	var last queue.ID
	if p, err := b.s.List(b.ctx, queue.Search{Filter: queue.Filter{Queue: "a"}}, after, 0); err != nil || len(p.Jobs) != len(want) {
		t.Fatalf("List without a limit shows %d jobs, want %d: %v", len(p.Jobs), len(want), err)
	}
	for {
		p, err := b.s.List(b.ctx, queue.Search{Filter: queue.Filter{Queue: "a"}}, after, 7)
		if err != nil {
			t.Fatalf("List: %v", err)
		}
		for _, j := range p.Jobs {
			if !want[string(j.Msg.Data)] {
				t.Fatalf("List shows %q twice, or though it is settled", j.Msg.Data)
			}
			delete(want, string(j.Msg.Data))
			if j.ID.Lane == last.Lane && !last.Before(j.ID) {
				t.Fatalf("List shows %v after %v", j.ID, last)
			}
			last = j.ID
		}
		if after = p.Next; after == (queue.ID{}) {
			break
		}
	}
	if len(want) != 0 {
		t.Errorf("List left out %v", want)
	}
	if _, err := queue.ParseID(last.String()); err != nil {
		t.Error(err)
	}
}

func testStats(t *testing.T, b *bundle) {
	b.open()
	b.wantStats("a", queue.Stats{})
	b.append(job("a", "1"), job("a", "2"), job("a", "3"), job("a", "4", notBefore(b.clock.Now().Add(time.Hour))))
	b.wantStats("a", queue.Stats{Waiting: 4})
	if st, _ := b.s.Stats(b.ctx, queue.Filter{Queue: "a"}); st.Bytes <= 0 {
		t.Errorf("Bytes = %d with jobs waiting", st.Bytes)
	}
	jobs := b.lease("a", lasting(time.Minute))
	b.wantStats("a", queue.Stats{Waiting: 1, Leased: 3})
	b.settle(jobs[0].Again(time.Time{}, ""))
	b.wantStats("a", queue.Stats{Waiting: 1, Leased: 2, Retrying: 1})
	b.lease("a", lasting(time.Minute))
	b.wantStats("a", queue.Stats{Waiting: 1, Leased: 3})
	b.clock.Advance(time.Minute)
	b.wantStats("a", queue.Stats{Waiting: 3, Retrying: 1})
	b.clock.Advance(time.Hour)
	jobs = b.lease("a")
	for i := range jobs {
		b.settle(jobs[i].Done())
	}
	b.wantStats("a", queue.Stats{})
	if st, _ := b.s.Stats(b.ctx, queue.Filter{Queue: "a"}); st.Bytes != 0 {
		t.Errorf("Bytes = %d when everything is settled", st.Bytes)
	}
}

func testRecords(t *testing.T, b *bundle) {
	b.open()
	b.update(func(tx queue.Tx) error {
		for _, k := range []string{"a/1", "a/2", "a/3", "b/1"} {
			if err := tx.Put([]byte(k), []byte("v"+k)); err != nil {
				return err
			}
		}
		if v, err := tx.Get([]byte("a/1")); string(v) != "va/1" || err != nil {
			t.Errorf("Get of what was put = %q, %v", v, err)
		}
		if err := tx.Delete([]byte("a/2")); err != nil {
			return err
		}
		if v, err := tx.Get([]byte("a/2")); v != nil || err != nil {
			t.Errorf("Get of what was deleted = %q, %v", v, err)
		}
		return tx.Put([]byte("empty"), nil)
	})
	b.update(func(tx queue.Tx) error {
		if v, err := tx.Get([]byte("empty")); v == nil || len(v) != 0 || err != nil {
			t.Errorf("Get of an empty value = %v, %v", v, err)
		}
		return tx.Delete([]byte("never there"))
	})
	list := func(prefix, after string, n int, want ...string) {
		t.Helper()
		rs, err := Records(b.ctx, b.s, []byte(prefix), []byte(after), n)
		if err != nil {
			t.Fatalf("Records: %v", err)
		}
		var got []string
		for _, r := range rs {
			got = append(got, string(r.Key)+"="+string(r.Value))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("records of %q after %q (-want +got):\n%s", prefix, after, diff)
		}
	}
	b.reopen()
	list("a/", "", 10, "a/1=va/1", "a/3=va/3")
	list("a/", "a/1", 10, "a/3=va/3")
	list("", "", 2, "a/1=va/1", "a/3=va/3")
	list("", "a/3", 10, "b/1=vb/1", "empty=")
	list("c", "", 10)
}

func testConflict(t *testing.T, b *bundle) {
	b.open()
	const workers, rounds = 8, 25
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range rounds {
				err := b.s.Update(b.ctx, func(tx queue.Tx) error {
					v, err := tx.Get([]byte("n"))
					if err != nil {
						return err
					}
					return tx.Put([]byte("n"), append(bytes.Clone(v), 'x'))
				})
				if err != nil {
					t.Errorf("Update: %v", err)
				}
			}
		})
	}
	wg.Wait()
	b.update(func(tx queue.Tx) error {
		v, err := tx.Get([]byte("n"))
		if len(v) != workers*rounds {
			t.Errorf("%d of %d increments were kept", len(v), workers*rounds)
		}
		return err
	})
}

func testMove(t *testing.T, b *bundle) {
	b.open()
	for i := range 20 {
		b.append(job("a", fmt.Sprint(i)))
	}
	for {
		jobs := b.lease("a", limit(3))
		if len(jobs) == 0 {
			break
		}
		b.update(func(tx queue.Tx) error {
			for i := range jobs {
				if err := errors.Join(tx.Settle(jobs[i].Done()), tx.Append(queue.Job{Queue: "b", Msg: jobs[i].Msg, Scope: jobs[i].Scope})); err != nil {
					return err
				}
			}
			return tx.Put([]byte("moved"), jobs[0].Msg.Data)
		})
	}
	b.reopen()
	b.wantStats("a", queue.Stats{})
	if n := len(b.lease("b")); n != 20 {
		t.Errorf("%d of 20 jobs arrived", n)
	}
}

// testConcurrent has producers and consumers on many lanes; every job must be done
// exactly once, and in order within its key.
func testConcurrent(t *testing.T, b *bundle) {
	b.live()
	const producers, each, batch = 4, 60, 5
	var wg sync.WaitGroup
	for p := range producers {
		wg.Go(func() {
			for i := range each {
				var jobs []queue.Job
				for k := range batch {
					jobs = append(jobs, job("a", fmt.Sprintf("%d/%d/%04d", p, k, i), ordered(fmt.Sprint(k)), scoped("", fmt.Sprint(p), "")))
				}
				if err := b.s.Update(b.ctx, func(tx queue.Tx) error { return tx.Append(jobs...) }); err != nil {
					t.Errorf("Update: %v", err)
				}
			}
		})
	}
	var mu sync.Mutex
	next := map[string]int{}
	var done atomic.Int64
	ctx, stop := context.WithTimeout(b.ctx, patience)
	defer stop()
	work := func(n int) {
		for ctx.Err() == nil && done.Load() < producers*each*batch {
			wake := b.s.Wake(queue.Filter{Queue: "a"})
			jobs, err := b.s.Lease(ctx, queue.Query{Filter: queue.Filter{Queue: "a"}, Limit: 7 + n, For: time.Hour})
			if err != nil {
				if ctx.Err() == nil { // another worker has done the last job
					t.Errorf("Lease: %v", err)
				}
				return
			}
			if len(jobs) == 0 {
				select {
				case <-wake:
				case <-ctx.Done():
				}
				continue
			}
			results := make([]queue.Result, 0, len(jobs))
			finished := 0
			for i := range jobs {
				j := &jobs[i]
				if (int(j.ID.Seq)+n)%9 == 0 && j.Attempt == 0 {
					results = append(results, j.Again(time.Time{}, "flaky"))
					continue
				}
				var p, k, i int
				if _, err := fmt.Sscanf(string(j.Msg.Data), "%d/%d/%d", &p, &k, &i); err != nil {
					t.Error(err)
				}
				mu.Lock()
				if key := fmt.Sprint(p, "/", k); next[key] != i {
					t.Errorf("job %s came when %d was next", j.Msg.Data, next[key])
				} else {
					next[key]++
				}
				mu.Unlock()
				results = append(results, j.Done())
				finished++
			}
			if err := b.s.Update(ctx, func(tx queue.Tx) error { return tx.Settle(results...) }); err != nil {
				t.Errorf("settle: %v", err)
				return
			}
			if done.Add(int64(finished)) >= producers*each*batch {
				stop()
			}
		}
	}
	for n := range 4 {
		wg.Go(func() { work(n) })
	}
	wg.Wait()
	if done.Load() != producers*each*batch {
		t.Fatalf("%d of %d jobs were done", done.Load(), producers*each*batch)
	}
	b.wantStats("a", queue.Stats{})
}

func testClosed(t *testing.T, b *bundle) {
	b.open()
	b.append(job("a", "1"))
	wake := b.s.Wake(queue.Filter{Queue: "b"})
	if err := b.s.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	if err := b.s.Close(); err != nil {
		t.Fatalf("second Close: %v", err)
	}
	select {
	case <-wake:
	case <-time.After(patience):
		t.Error("Close did not wake those who wait")
	}
	_, lease := b.s.Lease(b.ctx, queue.Query{Filter: queue.Filter{Queue: "a"}})
	_, stats := b.s.Stats(b.ctx, queue.Filter{Queue: "a"})
	_, active := b.s.Active(b.ctx, "a", queue.None)
	_, list := b.s.List(b.ctx, queue.Search{}, queue.ID{}, 1)
	_, records := Records(b.ctx, b.s, nil, nil, 1)
	for name, err := range map[string]error{
		"Update": b.s.Update(b.ctx, func(tx queue.Tx) error { return tx.Append(job("a", "2")) }),
		"Lease":  lease, "Stats": stats, "Active": active, "List": list, "Records": records,
		"Renew": b.s.Renew(b.ctx, nil, time.Second), "Release": b.s.Release(b.ctx, nil),
		"View": b.s.View(b.ctx, func(queue.Reader) error { return nil }),
	} {
		if !errors.Is(err, queue.ErrClosed) {
			t.Errorf("%s after Close = %v, want ErrClosed", name, err)
		}
	}
	b.reopen()
	b.want(b.lease("a"), "1")
}
