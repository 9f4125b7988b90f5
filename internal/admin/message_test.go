package admin

import (
	"context"
	"fmt"
	"testing"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
)

// TestOfMessage finds a message in every queue, declared or not, and says when it has not looked at all.
func TestOfMessage(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	const others = 700
	if err := s.Update(t.Context(), func(tx queue.Tx) error {
		var jobs []queue.Job
		for n := range others {
			m := event.New([]byte("x"))
			m.Meta.ID = fmt.Sprint(n)
			jobs = append(jobs, queue.Job{Queue: "a", Msg: m})
		}
		for _, q := range []string{"a", "b", "undeclared"} {
			m := event.New([]byte("y"))
			m.Meta.ID = "it"
			jobs = append(jobs, queue.Job{Queue: q, Msg: m, Scope: queue.Scope{Destination: "d"}})
		}
		return tx.Append(jobs...)
	}); err != nil {
		t.Fatal(err)
	}
	l := Local{Store: s}
	found, looked, all, err := l.OfMessage(t.Context(), "it", 10_000)
	if err != nil || !all || looked != others+3 || len(found) != 3 {
		t.Errorf("found %d of %d, all: %t, %v", len(found), looked, all, err)
	}
	queues := map[string]bool{}
	for i := range found {
		queues[found[i].Queue] = true
	}
	if len(queues) != 3 {
		t.Errorf("in %v", queues)
	}
	if found, looked, all, err = l.OfMessage(t.Context(), "nobody", 100); err != nil || all || looked != 100 || len(found) != 0 {
		t.Errorf("of 100: found %d of %d, all: %t, %v", len(found), looked, all, err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, _, all, err = l.OfMessage(ended, "it", 10_000); all || err != nil {
		t.Errorf("in no time: all: %t, %v", all, err)
	}
}
