package pipeline

import (
	"slices"

	"github.com/weirdata/weir/internal/condition"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/meter"
)

// Route is one of several targets, and which messages it gets.
//
// A message that several targets get is copied: it is settled when all of its copies are,
// and each target retries, rejects and batches its own. So a target that is slow or refuses
// a message changes nothing for the others, until what is in flight is used up.
type Route struct {
	Sink
	Name string // unique in the pipeline; the role of its meter is "target.NAME"
	// When says which messages the target gets; nil means all.
	When *condition.Condition
}

// noRoute is why a message is filtered that no target gets.
const noRoute = "no route takes it"

// plan completes the routes of p and makes the workers that decide about them.
func (p *Pipeline) plan() {
	p.routes = slices.Clone(p.parts.Routes)
	if len(p.routes) == 0 {
		p.routes = []Route{{Sink: p.parts.Target}}
	}
	several := len(p.routes) > 1
	p.routed = several || p.routes[0].When != nil
	p.copies = several && !p.parts.First || p.backsUpAll()
	p.full.targets = p.capacities()
}

// newTargets makes the sinks of the routes.
func (p *Pipeline) newTargets(newSink func(Sink, ...*meter.Sink) *sink) []*sink {
	all := &p.parts.Meter.Target
	if len(p.routes) == 1 {
		return []*sink{newSink(p.routes[0].Sink, all)}
	}
	sinks := make([]*sink, len(p.routes))
	for i, r := range p.routes {
		sinks[i] = newSink(r.Sink, p.parts.Meter.Route(r.Name), all)
	}
	return sinks
}

// distribute decides which targets get the messages of r's batch. What no target gets is
// filtered, and a message that a condition cannot be decided for is invalid as a whole:
// no target gets it, so that its repair delivers nothing twice.
func (w *worker) distribute(r *read) {
	if w.evaluator == nil {
		w.evaluator = condition.NewEvaluator()
	}
	routes := w.p.routes
	r.routes = make([]event.Batch, len(routes))
	taken := make([]int, 0, len(routes))
	for _, m := range r.batch {
		taken = taken[:0]
		var err error
		for i := range routes {
			yes := true
			if c := routes[i].When; c != nil {
				if yes, err = w.evaluator.True(c, m); err != nil {
					break
				}
			}
			if yes {
				taken = append(taken, i)
				if w.p.parts.First {
					break
				}
			}
		}
		switch {
		case err != nil:
			r.invalid = append(r.invalid, rejected{m, err})
		case len(taken) == 0:
			m.Drop(noRoute)
			r.filtered = append(r.filtered, m)
		}
		if err != nil {
			continue
		}
		for n, i := range taken {
			to := m
			if n > 0 {
				to = m.Clone()
			}
			r.routes[i] = append(r.routes[i], to)
		}
	}
	r.batch = nil
}
