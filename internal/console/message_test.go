package console

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/api"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/failures"
	"github.com/weirdata/weir/internal/layout"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/embedded"
)

// nothing has failed.
type nothing struct{}

func (nothing) Each(context.Context, failures.Selection, Ref, bool, func(*Found) error) error {
	return nil
}
func (nothing) Command(Ref, failures.Selection) string { return "" }
func (nothing) Rehearse(context.Context, *Found, string, *event.Message, bool) (*Rehearsal, error) {
	return nil, fmt.Errorf("nothing can be tried")
}

// some have failed.
type some struct {
	nothing
	found []*Found
}

func (s some) Each(_ context.Context, _ failures.Selection, _ Ref, _ bool, fn func(*Found) error) error {
	for _, f := range s.found {
		if err := fn(f); err != nil {
			return err
		}
	}
	return nil
}

// TestTrail: a message is found in each queue that it waits in and wherever it failed; what it must have
// passed is told apart from what it may have; and what is not known is said.
func TestTrail(t *testing.T) {
	t.Parallel()
	s, err := embedded.Open("store", embedded.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	put := func(q, id, destination string, after time.Duration) {
		t.Helper()
		m := event.New([]byte("secret payload"))
		m.Meta.ID = id
		j := queue.Job{Queue: q, Msg: m, After: after, Scope: queue.Scope{Destination: destination}}
		if err := s.Update(t.Context(), func(tx queue.Tx) error { return tx.Append(j) }); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 50 {
		put("deliveries", fmt.Sprint(n), "d", 0)
	}
	put("deliveries", "m1", "d1", 0)
	put("deliveries", "m1", "d2", time.Hour)
	put("machine/orders", "m1", "", 0)
	c, _ := made(t, 1)
	c.o.Store = func() (queue.Store, string, []connector.Queue) {
		return s, "memory", []connector.Queue{{Name: "deliveries"}}
	}
	c.o.OfMessage = func(ctx context.Context, s queue.Store, id string, most int) (found []queue.Job, looked int, all bool, err error) {
		p, err := s.(queue.Admin).List(ctx, queue.Search{}, queue.ID{}, most)
		for i := range p.Jobs {
			if p.Jobs[i].Msg.Meta.ID == id {
				found = append(found, p.Jobs[i])
			}
		}
		return found, len(p.Jobs), p.Next == queue.ID{}, err
	}
	c.o.Graph = func() (*layout.Graph, int) {
		g := &layout.Graph{}
		for _, e := range [][2]string{{"source/in", "pipeline/in"}, {"pipeline/in", "queue/events"}, {"queue/events", "pipeline/route"}, {"pipeline/route", "queue/deliveries"}, {"queue/deliveries", "pipeline/deliver"},
			{"pipeline/deliver", "target/deliver"}, {"pipeline/route", "machine/orders"}, {"pipeline/in2", "machine/orders"}} {
			for _, id := range e {
				if !strings.Contains(fmt.Sprint(g.Nodes), id+" ") {
					g.Nodes = append(g.Nodes, layout.Node{ID: id, Kind: " "})
				}
			}
			g.Edges = append(g.Edges, layout.Edge{From: e[0], To: e[1]})
		}
		return g, 1
	}
	failure := &failures.Failure{ID: "7", Time: time.Now()}
	failure.Context.ID, failure.Context.Pipeline = "m1", "route"
	c.o.Failures = some{found: []*Found{{Failure: failure, Ref: Ref{"file f", "7"}, Where: "f"}, {Failure: &failures.Failure{ID: "8"}, Ref: Ref{"file f", "8"}, Where: "f"}}}
	ask := asker(t, c)
	w := ask(api.See, "GET", "/v1/messages?id=m1", "")
	if strings.Contains(w.Body.String(), "secret payload") {
		t.Errorf("what it holds is told: %s", w.Body)
	}
	got := answerOf[Trail](t, w)
	var hops []string
	for _, h := range got.Hops {
		due := ""
		if !h.NotBefore.IsZero() {
			due = " later"
		}
		hops = append(hops, h.Kind+" "+h.Name+" "+string(h.Destination)+" "+h.Outcome+due)
	}
	if diff := cmp.Diff([]string{"queue deliveries d1 waiting", "queue deliveries d2 waiting later", "machine orders  waiting", "failure route  failed"}, hops); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"source/in", "pipeline/in", "queue/events", "pipeline/route", "queue/deliveries", "machine/orders"}, got.Through); diff != "" {
		t.Errorf("through: %s", diff)
	}
	if diff := cmp.Diff([]string{"pipeline/in2"}, got.Perhaps); diff != "" {
		t.Errorf("perhaps: %s", diff)
	}
	if got := answerOf[Trail](t, ask(api.See, "GET", "/v1/messages?id=nobody", "")); len(got.Hops) != 0 || len(got.Through) != 0 || len(got.Unknown) == 0 || !strings.Contains(got.Unknown[0], "no queue") {
		t.Errorf("one that is nowhere: %+v", got)
	}
	if w := ask(api.See, "GET", "/v1/messages", ""); w.Code != http.StatusBadRequest {
		t.Errorf("no id: %d", w.Code)
	}
}
