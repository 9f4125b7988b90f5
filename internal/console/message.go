package console

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/api"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/failures"
	"github.com/weirdata/weir/internal/layout"
	"github.com/weirdata/weir/internal/queue"
)

// Trail is what is known of one message: where it is, where it was seen, and what that says of the way
// it came.
type Trail struct {
	ID   string `json:"id"`
	Hops []Hop  `json:"hops"`
	// Through are nodes of the drawing that it must have passed to be where it is, and Perhaps those that
	// it may have.
	Through []string `json:"through"`
	Perhaps []string `json:"perhaps"`
	// Followed is until when pipelines are listened to for it; absent where they were not.
	Followed time.Time `json:"followed,omitzero"`
	// Unknown is what this cannot say, and why.
	Unknown []string `json:"unknown"`
}

// Hop is a place that a message is at, or was seen at.
type Hop struct {
	At time.Time `json:"at,omitzero"`
	// Kind is "queue", "failure", "machine" or "pipeline", Name what it is called, and Where what people
	// call the place.
	Kind  string `json:"kind"`
	Name  string `json:"name"`
	Where string `json:"where"`
	// Node is that of the drawing; empty where it has none.
	Node string `json:"node,omitempty"`
	// Outcome is "waiting", "retrying", "dead", "failed", "delivered", "filtered", "read", "passed",
	// "changed" or "split"; Why is a cause.
	Outcome string `json:"outcome"`
	Why     string `json:"why,omitempty"`
	// Attempts failed, and NotBefore is when the next one is due.
	Attempts    int        `json:"attempts,omitempty"`
	NotBefore   time.Time  `json:"not_before,omitzero"`
	Workspace   event.Text `json:"workspace,omitempty"`
	Source      event.Text `json:"source,omitempty"`
	Destination event.Text `json:"destination,omitempty"`
	// Ref is that of a failure, and Job that of a message of a queue.
	Ref string `json:"ref,omitempty"`
	Job string `json:"job,omitempty"`
}

// Kinds of places.
const (
	hopQueue    = "queue"
	hopFailure  = "failure"
	hopMachine  = "machine"
	hopPipeline = "pipeline"
)

// Bounds of a search for one message.
const (
	mostLooked    = 100_000 // open messages of queues, and failures: each
	mostHops      = 500
	trailPatience = 10 * time.Second // for either
)

func (c *Console) traced() []api.Route {
	return []api.Route{{Method: "GET", Path: "/v1/messages", Right: api.See, Answer: Trail{}, Do: with(c.trail),
		Summary: "One message by its id: where it waits, failed or died, where it was seen while it was followed, and what cannot be known. It looks at 100,000 open messages and as many failures at most, for ten seconds each",
		Query:   []api.Parameter{{Name: "id", Doc: "of the message, as the event has it"}}}}
}

func (c *Console) trail(_ http.ResponseWriter, r *http.Request) (any, error) {
	id := r.FormValue("id")
	if id == "" {
		return nil, mistake{errors.New("id is missing: that of the message, which queues and failures show")}
	}
	if err := c.turn(r.Context()); err != nil {
		return nil, err
	}
	defer func() { <-c.searches }()
	t := &Trail{ID: id, Hops: []Hop{}, Through: []string{}, Perhaps: []string{}, Unknown: []string{}}
	if err := c.waits(r.Context(), t); err != nil {
		return nil, err
	}
	if err := c.fails(r.Context(), t); err != nil {
		return nil, err
	}
	c.heard(t)
	slices.SortStableFunc(t.Hops, func(a, b Hop) int { return a.At.Compare(b.At) })
	t.came(c.o.Graph)
	t.limits()
	return t, nil
}

// turn lets one search at a time.
func (c *Console) turn(ctx context.Context) error {
	select {
	case c.searches <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-c.ended:
		return errors.New("Weir is stopping")
	}
}

func (t *Trail) unknown(format string, args ...any) {
	t.Unknown = append(t.Unknown, fmt.Sprintf(format, args...))
}

func (t *Trail) add(h Hop) {
	if len(t.Hops) < mostHops {
		t.Hops = append(t.Hops, h)
	}
}

// waits looks for the message in the queues.
func (c *Console) waits(ctx context.Context, t *Trail) error {
	store, _, _ := c.o.Store()
	if store == nil {
		return nil
	}
	ctx, done := context.WithTimeout(ctx, trailPatience)
	defer done()
	found, looked, all, err := c.o.OfMessage(ctx, store, t.ID, mostLooked)
	if err != nil {
		return err
	}
	if !all {
		t.unknown("Of the messages that wait in queues only the first %d were looked at: it may be among the others.", looked)
	}
	now := store.Now()
	for i := range found {
		j := &found[i]
		h := Hop{At: j.At, Kind: hopQueue, Name: j.Queue, Where: fmt.Sprintf("queue %q", j.Queue), Node: "queue/" + j.Queue, Outcome: "waiting",
			Why: cmp.Or(j.Cause, j.Msg.Meta.Headers.Text(queue.HeaderLastError)), Attempts: j.Attempt, Job: j.ID.String(),
			Workspace: event.Text(j.Scope.Workspace), Source: event.Text(j.Scope.Source), Destination: event.Text(j.Scope.Destination)}
		if m, is := strings.CutPrefix(j.Queue, connector.StartQueue("")); is {
			h.Kind, h.Name, h.Where, h.Node = hopMachine, m, fmt.Sprintf("machine %q", m), "machine/"+m
		}
		if j.Attempt > 0 {
			h.Outcome = "retrying"
		}
		if j.NotBefore.After(now) {
			h.NotBefore = j.NotBefore
		}
		t.add(h)
	}
	return nil
}

// fails looks for it among what has failed or died.
func (c *Console) fails(ctx context.Context, t *Trail) error {
	limited, done := context.WithTimeout(ctx, trailPatience)
	defer done()
	looks := 0
	err := c.o.Failures.Each(limited, failures.Selection{}, Ref{}, false, func(f *Found) error {
		if looks++; looks > mostLooked {
			return errEnough
		}
		if f.Context.ID != t.ID {
			return nil
		}
		h := Hop{At: f.Died, Kind: hopFailure, Name: f.Pipeline(), Where: f.Where, Outcome: "failed", Why: f.Cause(), Attempts: f.Attempts, Ref: f.Ref.String(),
			Workspace: event.Text(f.Context.Scope.Workspace), Source: event.Text(f.Context.Scope.Source), Destination: event.Text(f.Context.Scope.Destination)}
		if h.At.IsZero() {
			h.At = f.Time
		}
		switch {
		case f.Machine != "":
			h.Kind, h.Name, h.Node = hopMachine, f.Machine, "machine/"+f.Machine
		case f.Pipeline() != "":
			h.Node = "pipeline/" + f.Pipeline()
		}
		if f.Failure.Dead {
			h.Outcome = "dead"
		}
		if f.Dead {
			h.Kind, h.Name, h.Job = hopQueue, f.Queue, f.ID
			if f.Machine == "" {
				h.Node = "queue/" + f.Queue
			}
		}
		if f.Replayed {
			h.Why += " (sent again since)"
		}
		t.add(h)
		return nil
	})
	switch {
	case errors.Is(err, errEnough), err != nil && limited.Err() != nil && ctx.Err() == nil:
		t.unknown("Only the first %d failures were looked at: it may be among the others.", min(looks, mostLooked))
		return nil
	}
	return err
}

// heard adds what was heard of it while it was followed.
func (c *Console) heard(t *Trail) {
	o := c.follower.of(t.ID)
	if o == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	t.Followed = o.until
	for _, r := range o.heard {
		h := Hop{At: r.At, Kind: hopPipeline, Name: r.Pipeline, Node: "pipeline/" + r.Pipeline, Outcome: r.Outcome, Why: r.Why,
			Workspace: event.Text(r.Workspace), Source: event.Text(r.Source), Destination: event.Text(r.Destination)}
		h.Where = fmt.Sprintf("pipeline %q, %s", r.Pipeline, strings.ReplaceAll(cmp.Or(r.Step, r.Point), "_", " "))
		t.add(h)
	}
	if o.more {
		t.unknown("It was seen more often than is kept: these are the first %d times.", mostHeard)
	}
	if len(o.missing) > 0 {
		t.unknown("It was not followed in the pipelines %s: too many taps are open.", strings.Join(o.missing, ", "))
	}
}

// came finds which nodes of the drawing the message must have passed, or may have, to be where it is.
func (t *Trail) came(graph func() (*layout.Graph, int)) {
	g, _ := graph()
	if g == nil {
		return
	}
	into := map[string][]string{}
	there := map[string]bool{}
	for i := range g.Nodes {
		there[g.Nodes[i].ID] = true
	}
	for _, e := range g.Edges {
		into[e.To] = append(into[e.To], e.From)
	}
	through, perhaps := map[string]bool{}, map[string]bool{}
	for i := range t.Hops {
		at := t.Hops[i].Node
		if !there[at] {
			t.Hops[i].Node = ""
			continue
		}
		through[at] = true
		before(at, into, through, perhaps)
	}
	for i := range g.Nodes {
		switch id := g.Nodes[i].ID; {
		case through[id]:
			t.Through = append(t.Through, id)
		case perhaps[id]:
			t.Perhaps = append(t.Perhaps, id)
		}
	}
}

// before adds what leads to a node: to through as long as there is one way, and then to perhaps.
func before(at string, into map[string][]string, through, perhaps map[string]bool) {
	for len(into[at]) == 1 && !through[into[at][0]] {
		at = into[at][0]
		through[at] = true
	}
	open := slices.Clone(into[at])
	for len(open) > 0 {
		next := open[0]
		if open = open[1:]; !perhaps[next] {
			perhaps[next] = true
			open = append(open, into[next]...)
		}
	}
}

// limits says what no search can find.
func (t *Trail) limits() {
	switch {
	case len(t.Hops) == 0:
		t.unknown("It is in no queue, and nothing that failed has this id. What was delivered or filtered leaves no record, and neither does what never came.")
	case t.Followed.IsZero():
		t.unknown("What was delivered or filtered leaves no record: copies of it that went on without trouble are not listed.")
	}
	t.unknown("An execution that runs does not keep the id of the message that started it, and what an archive or a lake holds is not searched.")
}

// behind are the pipelines that a message passes from a pipeline on, that one first.
func (c *Console) behind(name string) (pipelines []string) {
	g, _ := c.o.Graph()
	to := map[string][]string{}
	for _, e := range g.Edges {
		to[e.From] = append(to[e.From], e.To)
	}
	seen := map[string]bool{"pipeline/" + name: true}
	for open := []string{"pipeline/" + name}; len(open) > 0; {
		at := open[0]
		open = open[1:]
		if p, is := strings.CutPrefix(at, "pipeline/"); is {
			pipelines = append(pipelines, p)
		}
		for _, next := range to[at] {
			if !seen[next] {
				seen[next] = true
				open = append(open, next)
			}
		}
	}
	return pipelines
}
