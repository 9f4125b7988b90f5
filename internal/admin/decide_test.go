package admin

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/order"
)

// TestPause pauses a value of a queue: what is paused is listed, and said to nobody twice.
func TestPause(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, s kept, o Operator) {
		appendJobs(t, s, job("a", "1", "x"), job("a", "2", "y"))
		x := Rest{By: queue.ByDestination, Value: "x\xff", Why: "maintenance"}
		if err := o.Pause(t.Context(), "a", x); err != nil {
			t.Fatal(err)
		}
		all, err := o.Queues(t.Context(), "")
		if diff := cmp.Diff([]Rest{x}, all.Queues[0].Paused, cmpopts.IgnoreFields(Rest{}, "Since", "Who")); diff != "" || err != nil {
			t.Fatalf("paused (-want +got), %v:\n%s", err, diff)
		}
		for _, wanted := range []bool{true, false} {
			if was, err := o.Resume(t.Context(), "a", x); was != wanted || err != nil {
				t.Errorf("Resume = %t, %v", was, err)
			}
		}
		if err := o.Pause(t.Context(), "nowhere", Rest{}); !errors.Is(err, ErrNoQueue) {
			t.Errorf("Pause of no queue = %v", err)
		}
		if err := o.Pause(t.Context(), "a", Rest{By: "tenant"}); err == nil {
			t.Error("a pause by what is no axis was taken")
		}
	})
}

// TestCommand gives orders about open jobs, and is refused those that mean nothing.
func TestCommand(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, s kept, o Operator) {
		appendJobs(t, s, job("a", "1", "x"), job("a", "2", "y"), job("a", "3", "y"), job("machine/m/steps", "{}", ""))
		all := Selection{All: true}
		for _, bad := range []struct {
			name string
			c    Command
		}{
			{"a", Command{Kind: order.Drop}},
			{"a", Command{Kind: "empty", Selection: all}},
			{"a", Command{Kind: order.Move, Selection: all}},
			{"a", Command{Kind: order.Move, Selection: all, To: "nowhere"}},
			{"a", Command{Kind: order.Move, Selection: all, To: "machine/m"}},
			{"a", Command{Kind: order.Move, Selection: all, ToBy: "tenant", ToValue: "v"}},
			{"a", Command{Kind: order.Drop, Selection: Selection{All: true, Dead: true}}},
			{"nowhere", Command{Kind: order.Drop, Selection: all}},
			{"machine/m/steps", Command{Kind: order.Move, Selection: all, To: "b"}},
			{"machine/m/steps", Command{Kind: order.Drain, Selection: all}},
		} {
			if out, err := o.Command(t.Context(), bad.name, bad.c, nil); err == nil {
				t.Errorf("%+v of queue %q was taken: %+v", bad.c, bad.name, out)
			}
		}
		for _, good := range []struct {
			c    Command
			jobs int
		}{
			{Command{Kind: order.Move, Selection: Selection{By: queue.ByDestination, Value: "y"}, To: "b", ToBy: queue.ByDestination, ToValue: "z"}, 2},
			{Command{Kind: order.Drain, Selection: Selection{By: queue.ByDestination, Value: "x"}}, 1},
			{Command{Kind: order.Drop, Selection: all}, 0},
		} {
			out, err := o.Command(t.Context(), "a", good.c, nil)
			if diff := cmp.Diff(Outcome{Jobs: good.jobs}, out); diff != "" || err != nil {
				t.Errorf("%+v (-want +got), %v:\n%s", good.c, err, diff)
			}
		}
		for _, want := range []struct {
			f          queue.Filter
			open, dead int64
		}{{queue.Filter{Queue: "a"}, 0, 1}, {queue.Filter{Queue: "b", By: queue.ByDestination, Value: "z"}, 2, 0}, {queue.Filter{Queue: "machine/m/steps"}, 1, 0}} {
			st, err := s.Stats(t.Context(), want.f)
			if st.Open() != want.open || st.Dead != want.dead || err != nil {
				t.Errorf("%+v: %+v, %v", want.f, st, err)
			}
		}
	})
}
