package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/queue"
)

func (b *bundle) pause(f queue.Filter) {
	b.Helper()
	if err := queue.SetPause(b.ctx, b.s, queue.Pause{Filter: f, Since: b.clock.Now(), Who: "test", Why: "maintenance"}); err != nil {
		b.Fatalf("SetPause(%+v): %v", f, err)
	}
}

func (b *bundle) resume(f queue.Filter) {
	b.Helper()
	if was, err := queue.EndPause(b.ctx, b.s, f); !was || err != nil {
		b.Fatalf("EndPause(%+v) = %v, %v", f, was, err)
	}
}

func anyJob(q *queue.Query) { q.Any = true }

// testPause pauses a queue and values of it: what is leased is settled, what is not waits, what
// comes is taken, and others go on.
func testPause(t *testing.T, b *bundle) {
	b.open()
	b.append(job("a", "1", scoped("w", "s", "x")), job("a", "2", scoped("w", "s", "y")), job("b", "3", scoped("w", "s", "x")))
	held := b.lease("a", by(queue.ByDestination, "x"))
	b.pause(queue.Filter{Queue: "a", By: queue.ByDestination, Value: "x"})
	b.append(job("a", "4", scoped("w2", "s", "x")), job("a", "5", scoped("w2", "s", "y")))
	b.want(b.lease("a"), "2", "5")
	b.want(b.lease("b"), "3")
	b.settle(held[0].Again(b.clock.Now(), "not now")) // it was leased before
	b.want(b.lease("a"))
	b.want(b.lease("a", func(q *queue.Query) { q.Split = queue.ByWorkspace }))
	b.wantStats("a", queue.Stats{Waiting: 1, Leased: 2, Retrying: 1})
	wake := b.s.Wake(queue.Filter{Queue: "a"})
	b.resume(queue.Filter{Queue: "a", By: queue.ByDestination, Value: "x"})
	select {
	case <-wake:
	case <-time.After(patience):
		t.Fatal("nobody was woken by the end of the pause")
	}
	b.want(b.lease("a"), "1", "4")

	b.append(job("a", "6", scoped("w", "s", "x")))
	b.pause(queue.Filter{Queue: "a"})
	b.pause(queue.Filter{Queue: "a", By: queue.ByWorkspace, Value: "w"})
	b.resume(queue.Filter{Queue: "a", By: queue.None, Value: "of no meaning"})
	b.want(b.lease("a"))
	b.resume(queue.Filter{Queue: "a", By: queue.ByWorkspace, Value: "w"})
	b.want(b.lease("a"), "6")
	if was, err := queue.EndPause(b.ctx, b.s, queue.Filter{Queue: "a"}); was || err != nil {
		t.Errorf("EndPause of nothing = %v, %v", was, err)
	}
}

// testPauseReopen: a pause holds over restarts, by whatever names.
func testPauseReopen(t *testing.T, b *bundle) {
	b.open()
	odd := "d\x00\xff\"" + fmt.Sprintf("%0990d", 1)
	b.append(job("a", "1", scoped("", "", odd), ordered("k"), notBefore(b.clock.Now().Add(time.Minute))), job("a", "2"))
	b.pause(queue.Filter{Queue: "a", By: queue.ByDestination, Value: odd})
	b.reopen()
	b.clock.Advance(time.Hour)
	b.want(b.lease("a"), "2")
	all, err := queue.PausesOf(b.ctx, b.s)
	if err != nil || len(all) != 1 || all[0].Value != odd || all[0].Who != "test" || all[0].Why != "maintenance" || !all[0].Since.Equal(b.clock.Now().Add(-time.Hour)) {
		t.Fatalf("pauses after the restart: %+v, %v", all, err)
	}
	b.resume(all[0].Filter)
	b.reopen()
	b.want(b.lease("a"), "1", "2")
}

// testAny leases jobs that are paused, or not due, or were leased before; never those of others.
func testAny(t *testing.T, b *bundle) {
	b.open()
	later := b.clock.Now().Add(time.Hour)
	b.append(job("a", "now"), job("a", "later", notBefore(later)), job("a", "failed"), job("a", "given back"), job("a", "theirs"), job("b", "other"),
		job("a", "first", ordered("k"), notBefore(later)), job("a", "second", ordered("k")),
		job("a", "after", func(j *queue.Job) { j.After = time.Hour }))
	jobs := b.lease("a")
	var back []queue.Job
	for _, j := range jobs {
		switch string(j.Msg.Data) {
		case "failed":
			b.settle(j.Again(later, "refused"))
		case "now", "given back":
			back = append(back, j)
		}
	}
	if err := b.s.Release(b.ctx, back); err != nil {
		t.Fatal(err)
	}
	b.pause(queue.Filter{Queue: "a"})
	b.want(b.lease("a"))
	got := b.lease("a", anyJob)
	b.want(got, "after", "failed", "first", "given back", "later", "now")
	b.want(b.lease("a", anyJob))
	for i := range got {
		j := &got[i]
		if p := string(j.Msg.Data); p == "failed" && (j.Cause != "refused" || j.Attempt != 1) || p == "later" && !j.NotBefore.Equal(later) {
			t.Errorf("%s: cause %q, attempt %d, not before %s", p, j.Cause, j.Attempt, j.NotBefore)
		}
	}
	if err := b.s.Release(b.ctx, got); err != nil {
		t.Fatal(err)
	}
	b.resume(queue.Filter{Queue: "a"})
	b.want(b.lease("a"), "now", "given back")
	b.clock.Advance(2 * time.Hour) // the leases have ended too
	b.want(b.lease("a"), "after", "failed", "first", "given back", "later", "now", "theirs")
}

// testPick chooses among any jobs; what it does not choose stays as it was.
func testPick(t *testing.T, b *bundle) {
	b.open()
	b.want(b.lease("a")) // who works on a queue has its share of it; who decides takes none
	for i := range 50 {
		b.append(job("a", fmt.Sprint(i), ordered(fmt.Sprint(i%7))))
	}
	page, err := b.s.List(b.ctx, queue.Search{Filter: queue.Filter{Queue: "a"}}, queue.ID{}, 1000)
	if err != nil || len(page.Jobs) != 50 {
		t.Fatalf("%d jobs, %v", len(page.Jobs), err)
	}
	first := map[queue.ID]bool{page.Jobs[0].ID: true, page.Jobs[3].ID: true, page.Jobs[6].ID: true}
	picked := b.lease("a", anyJob, func(q *queue.Query) {
		q.Pick = func(id queue.ID, _ time.Time, _ string) bool { return first[id] }
	})
	b.want(picked, "0", "3", "6")
	b.want(b.lease("a"), "1", "2", "4", "5")
	b.settle(picked[0].Done(), picked[1].Done(), picked[2].Done())
	b.want(b.lease("a"), "10", "13", "7")
}
