package order_test

import (
	"testing"
	"time"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/order"
	"github.com/weirdata/weir/internal/runs"
)

// TestOrdersCount: what an operator decides about events of a job run is in its status: those that are
// dropped or drained have failed, and those that are moved are where they went to.
func TestOrdersCount(t *testing.T) {
	t.Parallel()
	s := inMemory(t)
	book := runs.New(func() queue.Store { return s }, nil)
	book.Open("out", runs.Destinations)
	defer book.Close()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for stage := ""; stage == ""; <-tick.C {
		if err := s.Update(t.Context(), func(tx queue.Tx) (err error) {
			stage, err = runs.StageOf(tx, "out")
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	sent := func(d string) func(*queue.Job) {
		return func(j *queue.Job) {
			j.Scope = queue.Scope{Source: "src", Destination: d}
			j.Msg.Meta.Scope, j.Msg.Meta.Descriptor = &j.Scope, &event.Descriptor{JobRun: "run", TaskRun: "task"}
		}
	}
	for _, d := range []string{"dropped", "drained", "moved", "stays"} {
		for range 3 {
			j := job("out", `{"recordId":"`+d+`"}`, sent(d))
			if err := s.Update(t.Context(), func(tx queue.Tx) error {
				if err := tx.Append(j); err != nil {
					return err
				}
				return book.Appended(tx, runs.Destinations, event.Batch{j.Msg})
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, o := range []order.Order{{Kind: order.Drop}, {Kind: order.Drain}, {Kind: order.Move, To: "out", ToBy: queue.ByDestination, ToValue: "elsewhere"}} {
		o.Search.Filter = queue.Filter{Queue: "out", By: queue.ByDestination, Value: map[order.Kind]string{order.Drop: "dropped", order.Drain: "drained", order.Move: "moved"}[o.Kind]}
		given, err := order.Give(t.Context(), s, o)
		if err != nil {
			t.Fatal(err)
		}
		if n, left, err := (order.Worker{Store: s}).Finish(t.Context(), given, patience, nil); err != nil || left || n != 3 {
			t.Fatalf("%s: %d jobs, left %t: %v", o.Kind, n, left, err)
		}
	}
	st, err := book.Status(t.Context(), "run", runs.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]runs.Stats{"dropped": {In: 3, Failed: 3}, "drained": {In: 3, Failed: 3}, "moved": {In: 3, Out: 3}, "elsewhere": {In: 3}, "stays": {In: 3}}
	for _, d := range st.Tasks[0].Sources[0].Destinations {
		if d.Stats != want[d.ID] {
			t.Errorf("%s: %+v, want %+v", d.ID, d.Stats, want[d.ID])
		}
		delete(want, d.ID)
	}
	if len(want) > 0 {
		t.Errorf("nothing is known of %v", want)
	}
	f, err := book.Failures(t.Context(), "run", runs.Filter{}, 10, nil)
	if err != nil || len(f.Tasks) != 1 || len(f.Tasks[0].Sources[0].Destinations) != 2 {
		t.Errorf("failed: %+v %v", f, err)
	}
}
