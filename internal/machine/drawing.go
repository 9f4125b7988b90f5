package machine

import (
	"fmt"

	"github.com/weirdata/weir/internal/layout"
)

// The ids of what a drawing has beside states, whose ids are "state/NAME".
const (
	drawnStart = "start"
	drawnEnd   = "end"
	drawnState = "state/"
)

// The roles of edges of a drawing.
const (
	roleNext  = "next"
	roleElse  = "otherwise" // the Default of a Choice
	roleCatch = "catch"
	roleInto  = "into" // from a Parallel or Map into what it runs
)

// Drawing is the graph of the states: where an execution begins and may end, and how it goes on from
// each state. What a Parallel or a Map runs lies between it and the state that follows it. It is not
// placed.
func (d *Definition) Drawing() *layout.Graph {
	g := &layout.Graph{Down: true, Nodes: []layout.Node{{ID: drawnStart, Kind: layout.Start, Label: "start"}}}
	w := drawer{g, map[[2]string]bool{}}
	w.lead(drawnStart, d.top.start, roleNext, "")
	w.block(d.top, drawnEnd)
	g.Nodes = append(g.Nodes, layout.Node{ID: drawnEnd, Kind: layout.End, Label: "end"})
	return g
}

func id(s *state) string { return drawnState + s.name }

type drawer struct {
	*layout.Graph
	has map[[2]string]bool
}

func (w *drawer) edge(from, to, role, label string) {
	if key := [2]string{from, to}; !w.has[key] {
		w.has[key] = true
		w.Edges = append(w.Edges, layout.Edge{From: from, To: to, Role: role, Label: label})
	}
}

// lead is edge to a state, which what was restored may lack.
func (w *drawer) lead(from string, to *state, role, label string) {
	if to != nil {
		w.edge(from, id(to), role, label)
	}
}

// block draws the states of a block; after is where its end leads.
func (w *drawer) block(b *block, after string) {
	for _, s := range b.ordered {
		w.state(s, after)
	}
}

func (w *drawer) state(s *state, after string) {
	w.Nodes = append(w.Nodes, layout.Node{ID: id(s), Kind: layout.State, Label: s.name, Detail: s.about()})
	then := after
	if s.next != nil {
		then = id(s.next)
	}
	switch s.kind {
	case choiceState:
		if s.choice == nil {
			break
		}
		for i := range s.choice.rules {
			w.lead(id(s), s.choice.rules[i].next, roleNext, fmt.Sprintf("rule %d", i+1))
		}
		w.lead(id(s), s.choice.otherwise, roleElse, "otherwise")
	case failState:
		w.edge(id(s), drawnEnd, roleNext, "")
	case succeedState:
		w.edge(id(s), after, roleNext, "")
	case parallelState, mapState:
		for i, b := range s.branches {
			label := "each item"
			if s.kind == parallelState {
				label = fmt.Sprintf("branch %d", i+1)
			}
			w.lead(id(s), b.start, roleInto, label)
			w.block(b, then)
		}
		if s.kind == mapState || len(s.branches) == 0 {
			w.edge(id(s), then, roleNext, "") // of none
		}
	default:
		w.edge(id(s), then, roleNext, "")
	}
	for i := range s.catch {
		w.lead(id(s), s.catch[i].next, roleCatch, "")
	}
}

// about is what kind of state s is, and for a task what does its work.
func (s *state) about() string {
	if s.kind == taskState && s.task != nil {
		return s.kind.String() + " " + s.task.shown()
	}
	return s.kind.String()
}
