// Package layout places directed graphs in layers and draws them as SVG: pipelines and the queues
// between them, and the states of a machine.
//
// # Method
//
// Each connected part is placed by itself, one below the other. An edge that closes a cycle is
// turned round for the time of placing. A node is one layer behind the last of those that lead to
// it; one that nothing leads to is moved up to the first that it leads to. Edges that pass layers
// get a point in each. The order within a layer is found by sweeps over barycentres and swaps of
// neighbours, the best of which is kept; places within a layer are those nearest to the middle of
// the neighbours that keep the order and the distance, which is a monotone regression.
//
// # Invariants
//
//   - The same graph is placed in the same way, on every machine and in every process.
//   - No two nodes overlap, and everything is inside of the width and height that is told.
//   - Any graph is placed: with cycles, edges of a node to itself, several between two nodes, none.
//
// The cost is that of the points that edges pass, times the sweeps: milliseconds for what a person
// looks at, and bounded by fewer sweeps beyond that.
package layout

import "slices"

// Kind is what a node stands for, which its shape shows.
type Kind string

// The kinds of nodes.
const (
	Source   Kind = "source"
	Pipeline Kind = "pipeline"
	Target   Kind = "target"
	Queue    Kind = "queue"
	Machine  Kind = "machine"
	State    Kind = "state"
	Start    Kind = "start" // where a machine begins
	End      Kind = "end"
)

// Node is something that is drawn. X and Y are its upper left corner.
type Node struct {
	ID   string `json:"id"`
	Kind Kind   `json:"kind"`
	// Label is its name, and Detail a line below it.
	Label  string `json:"label"`
	Detail string `json:"detail,omitempty"`

	X float64 `json:"x"`
	Y float64 `json:"y"`
	W float64 `json:"w"`
	H float64 `json:"h"`
}

// Edge leads from one node to another.
type Edge struct {
	From  string `json:"from"`
	To    string `json:"to"`
	Label string `json:"label,omitempty"`
	// Role says what goes along the edge, as "target" or "failure_target".
	Role string `json:"role,omitempty"`
	// Points are where it passes, from one node's side to the other's.
	Points [][2]float64 `json:"points"`
	// Path is the same as the d of an SVG path: a curve that leaves and meets the layers straight.
	Path string `json:"path"`
}

// Graph is nodes and edges. Edges of nodes that it does not have are left out.
type Graph struct {
	Nodes  []Node  `json:"nodes"`
	Edges  []Edge  `json:"edges"`
	Width  float64 `json:"width"`
	Height float64 `json:"height"`
	// Down says that layers follow each other from top to bottom instead of from left to right.
	Down bool `json:"down,omitempty"`
}

// Distances, in pixels.
const (
	margin    = 16.0
	nodeGap   = 18.0 // between neighbours of a layer
	bendGap   = 10.0 // between an edge that passes and its neighbour
	layerGap  = 64.0
	partGap   = 36.0
	loopWidth = 22.0 // of an edge from a node to itself
)

// Place sets the sizes and places of all nodes, and the points of all edges.
func (g *Graph) Place() {
	index := make(map[string]int, len(g.Nodes))
	for i := range g.Nodes {
		n := &g.Nodes[i]
		n.W, n.H = n.size()
		index[n.ID] = i
	}
	g.Edges = slices.DeleteFunc(g.Edges, func(e Edge) bool {
		_, from := index[e.From]
		_, to := index[e.To]
		return !from || !to
	})
	g.Width, g.Height = 0, 0
	along, across := margin, margin // where the next part begins
	for _, part := range g.parts(index) {
		p := newPlacing(g, part, index)
		p.rank()
		p.bend()
		p.arrange()
		w, h := p.settle(across)
		across += h + partGap
		along = max(along, w)
	}
	if len(g.Nodes) > 0 {
		across -= partGap
	}
	g.Width, g.Height = along+margin, across+margin
	if g.Down {
		g.turn()
	}
	for i := range g.Edges {
		g.Edges[i].Path = g.Edges[i].path(g.Down)
	}
}

// turn makes columns to rows. Sizes were turned before placing, so that they are right now.
func (g *Graph) turn() {
	g.Width, g.Height = g.Height, g.Width
	for i := range g.Nodes {
		n := &g.Nodes[i]
		n.X, n.Y, n.W, n.H = n.Y, n.X, n.H, n.W
	}
	for i := range g.Edges {
		for k := range g.Edges[i].Points {
			p := &g.Edges[i].Points[k]
			p[0], p[1] = p[1], p[0]
		}
	}
}

// parts are the nodes of each connected part, in the order of their first nodes.
func (g *Graph) parts(index map[string]int) [][]int {
	of := make([]int, len(g.Nodes)) // the smallest known node of the part, as in a union-find
	for i := range of {
		of[i] = i
	}
	root := func(i int) int {
		for of[i] != i {
			of[i] = of[of[i]]
			i = of[i]
		}
		return i
	}
	for _, e := range g.Edges {
		a, b := root(index[e.From]), root(index[e.To])
		of[max(a, b)] = min(a, b)
	}
	var all [][]int
	at := map[int]int{}
	for i := range g.Nodes {
		r := root(i)
		if _, known := at[r]; !known {
			at[r] = len(all)
			all = append(all, nil)
		}
		all[at[r]] = append(all[at[r]], i)
	}
	return all
}
