package rows

import (
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
)

// TestHeadEndsWhileItIsRead ends the first of two jobs of a key outside of the log between the
// look at the index and the look at its row: the second is the head then, and not nobody.
func TestHeadEndsWhileItIsRead(t *testing.T) {
	t.Parallel()
	s := newGround(false).open(t, Options{Window: 1})
	settle := func(results ...queue.Result) {
		t.Helper()
		if err := s.Update(t.Context(), func(tx queue.Tx) error { return tx.Settle(results...) }); err != nil {
			t.Fatal(err)
		}
	}
	lease := func() []queue.Job {
		t.Helper()
		jobs, err := s.Lease(t.Context(), queue.Query{Filter: queue.Filter{Queue: "a"}})
		if err != nil {
			t.Fatal(err)
		}
		return jobs
	}
	add := func(payload string) {
		t.Helper()
		m := event.New([]byte(payload))
		m.Key = "k"
		if err := s.Update(t.Context(), func(tx queue.Tx) error { return tx.Append(queue.Job{Queue: "a", Msg: m, Ordered: true}) }); err != nil {
			t.Fatal(err)
		}
	}
	add("1")
	jobs := lease()
	settle(jobs[0].AgainAfter(0, "not yet"))
	jobs = lease()
	if len(jobs) != 1 || string(jobs[0].Msg.Data) != "1" {
		t.Fatalf("leased %v", jobs)
	}
	add("2")
	add("3")
	if more := lease(); len(more) != 0 { // and the window, which is full of what waits, is emptied
		t.Fatalf("leased %v beside the job before them", more)
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{rowKey}, UpperBound: []byte{rowKey + 1}})
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	if !it.First() {
		t.Fatal("no job of the key is outside of the log")
	}
	hash := seqOf(it.Key())
	lane := jobs[0].ID.Lane
	settle(jobs[0].Done())
	r, err := s.head(it, lane, hash)
	if err != nil || !r.Open() || !jobs[0].ID.Before(r.ID) {
		t.Errorf("the head of the key is %+v: %v", r, err)
	}
}
