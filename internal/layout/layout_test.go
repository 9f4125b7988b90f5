package layout

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// drawn is a random graph: with cycles, loops, several edges between two nodes and parts that
// nothing connects.
func drawn(t *rapid.T) *Graph {
	g := &Graph{Down: rapid.Bool().Draw(t, "down")}
	n := rapid.IntRange(0, 25).Draw(t, "nodes")
	for i := range n {
		kind := rapid.SampledFrom([]Kind{Source, Pipeline, Target, Queue, Machine, State, Start, End}).Draw(t, "kind")
		node := Node{ID: fmt.Sprint(i), Kind: kind, Label: strings.Repeat("w", rapid.IntRange(0, 60).Draw(t, "label"))}
		if rapid.Bool().Draw(t, "detailed") {
			node.Detail = "detail & <more>"
		}
		g.Nodes = append(g.Nodes, node)
	}
	for range rapid.IntRange(0, 2*n).Draw(t, "edges") {
		g.Edges = append(g.Edges, Edge{From: fmt.Sprint(rapid.IntRange(0, n).Draw(t, "from")), To: fmt.Sprint(rapid.IntRange(0, n).Draw(t, "to")), Role: "target"})
	}
	return g
}

func clone(g *Graph) *Graph {
	return &Graph{Nodes: append([]Node(nil), g.Nodes...), Edges: append([]Edge(nil), g.Edges...), Down: g.Down}
}

// TestPlaces: whatever the graph, its nodes do not overlap, all is inside, edges begin and end at
// the sides of their nodes, and the same graph comes out the same.
func TestPlaces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := drawn(t)
		again := clone(g)
		g.Place()
		at := map[string]Node{}
		for i, n := range g.Nodes {
			at[n.ID] = n
			if n.X < 0 || n.Y < 0 || n.X+n.W > g.Width || n.Y+n.H > g.Height {
				t.Errorf("%+v is outside of %v x %v", n, g.Width, g.Height)
			}
			for _, o := range g.Nodes[:i] {
				if n.X < o.X+o.W && o.X < n.X+n.W && n.Y < o.Y+o.H-1e-6 && o.Y < n.Y+n.H-1e-6 {
					t.Errorf("%+v and %+v overlap", o, n)
				}
			}
		}
		for _, e := range g.Edges {
			if len(e.Points) < 2 {
				t.Fatalf("%+v has no points", e)
			}
			for _, p := range e.Points {
				if p[0] < 0 || p[1] < 0 || p[0] > g.Width || p[1] > g.Height {
					t.Errorf("%+v leaves %v x %v", e, g.Width, g.Height)
				}
			}
			for k, id := range map[int]string{0: e.From, len(e.Points) - 1: e.To} {
				if p, n := e.Points[k], at[id]; p[0] < n.X-1e-6 || p[0] > n.X+n.W+1e-6 || p[1] < n.Y-1e-6 || p[1] > n.Y+n.H+1e-6 {
					t.Errorf("%+v does not meet %+v", e, n)
				}
			}
		}
		again.Place()
		if diff := cmp.Diff(g, again); diff != "" {
			t.Errorf("the same graph is placed otherwise: %s", diff)
		}
		d := xml.NewDecoder(bytes.NewReader(g.SVG("a & b")))
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("the drawing is no XML: %v", err)
			}
		}
	})
}

// TestForward: edges lead forward unless they close a cycle, and a tree has no crossings.
func TestForward(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := &Graph{}
		n := rapid.IntRange(1, 40).Draw(t, "nodes")
		for i := range n {
			g.Nodes = append(g.Nodes, Node{ID: fmt.Sprint(i), Label: "n"})
			if i > 0 {
				g.Edges = append(g.Edges, Edge{From: fmt.Sprint(rapid.IntRange(0, i-1).Draw(t, "parent")), To: fmt.Sprint(i)})
			}
		}
		g.Place()
		for _, e := range g.Edges {
			if e.Points[0][0] >= e.Points[len(e.Points)-1][0] {
				t.Errorf("%+v leads back", e)
			}
		}
		index := map[string]int{}
		for i, n := range g.Nodes {
			index[n.ID] = i
		}
		for _, part := range g.parts(index) {
			p := newPlacing(g, part, index)
			p.rank()
			p.bend()
			p.arrange()
			if c := p.crossings(); c > 0 {
				t.Errorf("a tree has %d crossings", c)
			}
		}
	})
}

// TestInversions compares with counting pair by pair.
func TestInversions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ns := rapid.SliceOfN(rapid.IntRange(0, 9), 0, 30).Draw(t, "numbers")
		want := 0
		for i, a := range ns {
			for _, b := range ns[i:] {
				if a > b {
					want++
				}
			}
		}
		if got := inversions(ns, 10); got != want {
			t.Errorf("inversions(%v) = %d, want %d", ns, got, want)
		}
	})
}

func BenchmarkPlace(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			g := &Graph{}
			for i := range n {
				g.Nodes = append(g.Nodes, Node{ID: fmt.Sprint(i), Label: "pipeline"})
				for _, to := range []int{i*3 + 1, i*7%n + 1} {
					g.Edges = append(g.Edges, Edge{From: fmt.Sprint(i), To: fmt.Sprint(to % n)})
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				clone(g).Place()
			}
		})
	}
}
