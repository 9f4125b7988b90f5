package layout

import (
	"cmp"
	"slices"
)

// placing is one connected part of a graph while it is placed. Its points are nodes and, behind
// them, the places where edges pass a layer.
type placing struct {
	g      *Graph
	points []point
	edges  []link // between points of neighbouring layers, once bend was called
	whole  []run  // the edges of the graph
	loops  []int  // edges of a node to itself
	layers [][]int
}

type point struct {
	node  int // of the graph; -1 where an edge passes
	layer int
	w, h  float64 // along the layers, and across
	at    float64 // the middle, across; while there is only an order, the place in it

	middle float64 // of the neighbours

	before, after []int // its neighbours in the layers beside
}

// link leads from a layer to a later one.
type link struct{ from, to int }

// run is an edge of the graph: where it is, whether it was turned round, and the points it passes.
type run struct {
	edge   int
	back   bool
	points []int
}

func newPlacing(g *Graph, nodes []int, index map[string]int) *placing {
	p := &placing{g: g}
	local := make(map[int]int, len(nodes))
	for k, i := range nodes {
		local[i] = k
		w, h := g.Nodes[i].W, g.Nodes[i].H
		if g.Down {
			w, h = h, w
			g.Nodes[i].W, g.Nodes[i].H = w, h
		}
		p.points = append(p.points, point{node: i, w: w, h: h})
	}
	for i, e := range g.Edges {
		from, here := local[index[e.From]]
		if !here {
			continue
		}
		to := local[index[e.To]]
		if from == to {
			p.loops = append(p.loops, i)
			continue
		}
		p.whole = append(p.whole, run{edge: i, points: []int{from, to}})
	}
	p.acyclic()
	return p
}

// acyclic turns the edges round that close a cycle, as a walk in depth meets them.
func (p *placing) acyclic() {
	out := make([][]int, len(p.points)) // runs
	in := make([]int, len(p.points))
	for i, r := range p.whole {
		out[r.points[0]] = append(out[r.points[0]], i)
		in[r.points[1]]++
	}
	const (
		fresh = iota
		open
		done
	)
	state := make([]int, len(p.points))
	type frame struct{ node, next int }
	walk := func(start int) {
		stack := []frame{{start, 0}}
		state[start] = open
		for len(stack) > 0 {
			f := &stack[len(stack)-1]
			if f.next == len(out[f.node]) {
				state[f.node] = done
				stack = stack[:len(stack)-1]
				continue
			}
			r := &p.whole[out[f.node][f.next]]
			f.next++
			switch to := r.points[1]; state[to] {
			case open:
				r.back = true
			case fresh:
				state[to] = open
				stack = append(stack, frame{to, 0})
			}
		}
	}
	for i := range p.points {
		if in[i] == 0 {
			walk(i)
		}
	}
	for i := range p.points {
		if state[i] == fresh {
			walk(i)
		}
	}
	for i := range p.whole {
		if r := &p.whole[i]; r.back {
			slices.Reverse(r.points)
		}
	}
}

// rank gives each node its layer.
func (p *placing) rank() {
	out, in := make([][]int, len(p.points)), make([]int, len(p.points))
	for _, r := range p.whole {
		out[r.points[0]] = append(out[r.points[0]], r.points[1])
		in[r.points[1]]++
	}
	first := slices.Clone(in)
	var ready []int
	for i := range p.points {
		if in[i] == 0 {
			ready = append(ready, i)
		}
	}
	for len(ready) > 0 {
		i := ready[0]
		ready = ready[1:]
		for _, to := range out[i] {
			p.points[to].layer = max(p.points[to].layer, p.points[i].layer+1)
			if in[to]--; in[to] == 0 {
				ready = append(ready, to)
			}
		}
	}
	for i := range p.points {
		if first[i] > 0 || len(out[i]) == 0 {
			continue
		}
		nearest := p.points[out[i][0]].layer
		for _, to := range out[i] {
			nearest = min(nearest, p.points[to].layer)
		}
		p.points[i].layer = nearest - 1
	}
}

// bend gives edges that pass layers a point in each, and fills the layers.
func (p *placing) bend() {
	for i := range p.whole {
		r := &p.whole[i]
		from, to := r.points[0], r.points[1]
		passed := []int{from}
		for l := p.points[from].layer + 1; l < p.points[to].layer; l++ {
			passed = append(passed, len(p.points))
			p.points = append(p.points, point{node: -1, layer: l})
		}
		r.points = append(passed, to)
		for k := 1; k < len(r.points); k++ {
			p.edges = append(p.edges, link{r.points[k-1], r.points[k]})
		}
	}
	for _, e := range p.edges {
		p.points[e.from].after = append(p.points[e.from].after, e.to)
		p.points[e.to].before = append(p.points[e.to].before, e.from)
	}
	for i := range p.points {
		for len(p.layers) <= p.points[i].layer {
			p.layers = append(p.layers, nil)
		}
	}
	// In the order in which a walk from the first layer meets them: neighbours stay together.
	seen := make([]bool, len(p.points))
	var visit func(i int)
	visit = func(i int) {
		if seen[i] {
			return
		}
		seen[i] = true
		p.layers[p.points[i].layer] = append(p.layers[p.points[i].layer], i)
		for _, to := range p.points[i].after {
			visit(to)
		}
	}
	order := make([]int, len(p.points))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(p.points[a].layer, p.points[b].layer) })
	for _, i := range order {
		visit(i)
	}
}
