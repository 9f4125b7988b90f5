package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/queue"
)

// testObserve keeps a record of each job that is settled, and a job for each that died.
func testObserve(t *testing.T, b *bundle) {
	b.open()
	stop := b.s.Observe(func(tx queue.Tx, settled []queue.Settlement) error {
		for _, s := range settled {
			key := fmt.Appendf(nil, "ended/%s", s.ID)
			value := fmt.Appendf(nil, "%d %s %s %s %s %s", s.Verdict, s.Queue, s.Scope.Destination, s.Cause, s.By, s.Now.Format(time.TimeOnly))
			if err := tx.Put(key, value); err != nil {
				return err
			}
			if s.Verdict == queue.Dead {
				if err := tx.Append(job("morgue", s.ID.String())); err != nil {
					return err
				}
			}
		}
		return nil
	})
	b.append(job("a", "1", scoped("", "", "d1")), job("a", "2", scoped("", "", "d2")), job("b", "3"), job("a", "4", scoped("", "", "d1")))
	jobs := map[string]queue.Job{}
	for _, j := range append(b.lease("a"), b.lease("b")...) {
		jobs[string(j.Msg.Data)] = j
	}
	one, two, three, four := jobs["1"], jobs["2"], jobs["3"], jobs["4"]
	err := b.s.Update(queue.SettledBy(b.ctx, "p"), func(tx queue.Tx) error {
		return errors.Join(tx.Settle(one.Done(), two.Dead("no")), tx.Settle(three.Again(time.Time{}, "later")))
	})
	if err != nil {
		t.Fatalf("Update: %v", err)
	}
	at := b.clock.Now().Format(time.TimeOnly)
	want := map[string]string{
		"ended/" + one.ID.String():   fmt.Sprintf("%d a d1  p %s", queue.Done, at),
		"ended/" + two.ID.String():   fmt.Sprintf("%d a d2 no p %s", queue.Dead, at),
		"ended/" + three.ID.String(): fmt.Sprintf("%d b  later p %s", queue.Again, at),
	}
	wantRecords := func() {
		t.Helper()
		rs, err := Records(b.ctx, b.s, []byte("ended/"), nil, 100)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, r := range rs {
			got[string(r.Key)] = string(r.Value)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("what was noted of results (-want +got):\n%s", diff)
		}
	}
	wantRecords()
	b.want(b.lease("morgue"), two.ID.String())
	stop()
	b.settle(four.Done())
	wantRecords()
	b.reopen()
	wantRecords()
}

// testObserveFails: what an observer puts is there when the results are, and only then.
func testObserveFails(t *testing.T, b *bundle) {
	b.open()
	boom := errors.New("boom")
	fails := true
	b.s.Observe(func(tx queue.Tx, settled []queue.Settlement) error {
		err := errors.Join(tx.Put([]byte("seen"), []byte(settled[0].ID.String())), tx.Append(job("seen", "x")))
		if fails {
			return boom
		}
		return err
	})
	b.append(job("a", "1"), job("a", "2"))
	jobs := b.lease("a")
	nothing := func(why string, err, want error) {
		t.Helper()
		rs, rerr := Records(b.ctx, b.s, []byte("seen"), nil, 1)
		if !errors.Is(err, want) || rerr != nil || len(rs) != 0 || b.stats("seen").Open() != 0 || b.stats("a").Leased != 2 {
			t.Fatalf("%s: Update = %v, want %v; %d records, %+v of what was observed, %+v leased", why, err, want, len(rs), b.stats("seen"), b.stats("a"))
		}
	}
	nothing("the observer fails", b.s.Update(b.ctx, func(tx queue.Tx) error { return tx.Settle(jobs[0].Done()) }), boom)
	fails = false
	nothing("the function fails", b.s.Update(b.ctx, func(tx queue.Tx) error { return errors.Join(tx.Settle(jobs[0].Done()), boom) }), boom)
	lost := jobs[0]
	lost.Lease.Token += 1000
	nothing("the lease is lost", b.s.Update(b.ctx, func(tx queue.Tx) error { return tx.Settle(lost.Done()) }), queue.ErrLeaseLost)
	stop := b.s.Observe(func(tx queue.Tx, _ []queue.Settlement) error { return tx.Settle(jobs[1].Done()) })
	err := b.s.Update(b.ctx, func(tx queue.Tx) error { return tx.Settle(jobs[0].Done()) })
	if fault.Of(err) != fault.Fatal {
		t.Errorf("an observer that settles: %v", err)
	}
	stop()
	b.settle(jobs[0].Done(), jobs[1].Done())
	b.want(b.lease("seen"), "x")
}
