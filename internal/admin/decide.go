package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/executor"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/order"
)

// This file is what operators decide about the open jobs of a queue, and about its work.

// Rest is a pause of a queue, or of one value of it.
type Rest struct {
	By    queue.Axis `json:"by,omitempty"`
	Value Text       `json:"value,omitempty"`
	Since time.Time  `json:"since,omitzero"`
	Who   string     `json:"who,omitempty"`
	Why   string     `json:"why,omitempty"`
}

func (r Rest) filter(name string) queue.Filter {
	return queue.Filter{Queue: name, By: r.By, Value: string(r.Value)}
}

// String is what rests, as a person reads it.
func (r Rest) String() string {
	if r.By == "" || r.By == queue.None {
		return "all of it"
	}
	return fmt.Sprintf("%s %q", r.By, r.Value)
}

func restOf(p *queue.Pause) Rest {
	return Rest{By: p.By, Value: Text(p.Value), Since: p.Since, Who: p.Who, Why: p.Why}
}

// Command is an order about open jobs.
type Command struct {
	Kind order.Kind `json:"kind"` // drop, drain or move
	Selection
	// To is the queue that jobs are moved to; empty for where they are. ToBy and ToValue are the
	// part of the scope that they get.
	To      Text       `json:"to,omitempty"`
	ToBy    queue.Axis `json:"to_by,omitempty"`
	ToValue Text       `json:"to_value,omitempty"`
}

// Outcome is what became of a command.
type Outcome struct {
	Jobs int `json:"jobs"` // that were done
	// Left says that jobs are left which somebody has in hand. Those who have the store open go
	// on with the command when they come back.
	Left bool `json:"left,omitempty"`
}

// maxWhy is the most bytes of a reason.
const maxWhy = 1024

// handPatience is how long a command waits for jobs that somebody has in hand.
const handPatience = 15 * time.Second

func (l Local) log() *slog.Logger {
	if l.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l.Log
}

// rest checks a pause that somebody asks for.
func (l Local) rest(ctx context.Context, name string, r Rest) error {
	switch r.By {
	case "", queue.None, queue.ByWorkspace, queue.BySource, queue.ByDestination:
	default:
		return requestError{fmt.Errorf("work cannot be paused by %q: use workspace, source or destination", r.By)}
	}
	if name == "" || len(name) > queue.MaxName || len(r.Value) > queue.MaxName {
		return requestError{errors.New("the name of the queue is missing, or one has more than 1024 bytes")}
	}
	if len(r.Why) > maxWhy {
		return requestError{fmt.Errorf("the reason has more than %d bytes", maxWhy)}
	}
	return l.known(ctx, name)
}

// Pause implements Operator.
func (l Local) Pause(ctx context.Context, name string, r Rest) error {
	if err := l.rest(ctx, name, r); err != nil {
		return err
	}
	if err := queue.SetPause(ctx, l.Store, queue.Pause{Filter: r.filter(name), Since: l.Store.Now().UTC(), Who: l.Who, Why: r.Why}); err != nil {
		return err
	}
	l.log().Info("an operator has paused a queue", "queue", name, "part", r.String(), "by", l.Who, "why", r.Why)
	return nil
}

// Resume implements Operator.
func (l Local) Resume(ctx context.Context, name string, r Rest) (bool, error) {
	was, err := queue.EndPause(ctx, l.Store, r.filter(name))
	if was {
		l.log().Info("an operator has resumed a queue", "queue", name, "part", r.String(), "by", l.Who)
	}
	return was, err
}

// Command implements Operator.
func (l Local) Command(ctx context.Context, name string, c Command, progress func(jobs int)) (out Outcome, err error) {
	o, err := l.order(ctx, name, c)
	if err != nil {
		return out, err
	}
	given, err := order.Give(ctx, l.Store, o)
	if err != nil {
		return out, err
	}
	log := l.log().With("operation", string(o.Kind), "queue", name, "by", l.Who)
	log.Info("an operator has given an order about open messages", "order", given.ID, "to", o.To)
	out.Jobs, out.Left, err = Worker(l.Store).Finish(ctx, given, handPatience, progress)
	if err != nil {
		log.Warn("the order is not carried out yet: who has the store open goes on with it", "messages", out.Jobs, "error", err)
		return out, fmt.Errorf("%w (it is kept, and who has the store open goes on with it)", err)
	}
	log.Info("an order about open messages was carried out", "messages", out.Jobs, "left", out.Left)
	return out, nil
}

// Worker carries orders out on a store.
func Worker(s queue.Store) order.Worker { return order.Worker{Store: s, Remains: executor.Remains} }

// order is what a command says.
func (l Local) order(ctx context.Context, name string, c Command) (o order.Order, err error) {
	if c.Dead {
		return o, requestError{errors.New("an order is about open messages")}
	}
	if c.Empty() && !c.All {
		return o, requestError{errors.New("nothing says which open messages: name IDs, give a filter, or say that all are meant")}
	}
	_, q, err := l.choose(ctx, name, c.Selection)
	if err != nil {
		return o, err
	}
	o = order.Order{Kind: c.Kind, Search: q, To: string(c.To), ToBy: c.ToBy, ToValue: string(c.ToValue), Who: l.Who}
	steps := strings.TrimPrefix(connector.StepQueue(""), connector.StartQueue(""))
	ofMachine := strings.HasPrefix(name, connector.StartQueue(""))
	switch {
	case o.Kind == order.Move && ofMachine, o.Kind == order.Drain && ofMachine && strings.HasSuffix(name, steps):
		return o, requestError{fmt.Errorf("the queue %q is of a machine: its executions belong to it, and can be paused, resumed and dropped only", name)}
	case o.Kind != order.Move:
		return o, nil
	case o.To == "":
		o.To = name
	}
	if _, ok := l.declared(o.To); !ok && o.To != name {
		return o, requestError{l.unknown(o.To)}
	}
	if strings.HasPrefix(o.To, connector.StartQueue("")) {
		return o, requestError{fmt.Errorf("the queue %q is of a machine: messages cannot be moved there", o.To)}
	}
	switch o.ToBy {
	case "", queue.ByWorkspace, queue.BySource, queue.ByDestination:
	default:
		return o, requestError{fmt.Errorf("messages cannot be moved by %q: use workspace, source or destination", o.ToBy)}
	}
	if o.To == name && o.ToBy == "" {
		return o, requestError{fmt.Errorf("nothing says where the messages of queue %q are to go: name a queue, or another workspace, source or destination", name)}
	}
	return o, nil
}
