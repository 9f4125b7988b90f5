package layout

// mostWay is how many nodes a graph may have for ways through it to be looked for.
const mostWay = 500

// Way says of the ways from a node to others which nodes are on all that lead to one of them, and which on
// some. Of a graph that is very large it says nothing of what is on all.
func (g *Graph) Way(from string, to map[string]bool) (all, some map[string]bool) {
	index := make(map[string]int, len(g.Nodes))
	for i := range g.Nodes {
		index[g.Nodes[i].ID] = i
	}
	next, before := make([][]int, len(g.Nodes)), make([][]int, len(g.Nodes))
	for _, e := range g.Edges {
		a, known := index[e.From]
		b, there := index[e.To]
		if known && there {
			next[a], before[b] = append(next[a], b), append(before[b], a)
		}
	}
	all, some = map[string]bool{}, map[string]bool{}
	start, known := index[from]
	if !known {
		return all, some
	}
	reached := reach(next, start, -1)
	for id := range to {
		end, there := index[id]
		if !there || !reached[end] {
			continue
		}
		back := reach(before, end, -1)
		for i := range g.Nodes {
			if !reached[i] || !back[i] {
				continue
			}
			some[g.Nodes[i].ID] = true
			if len(g.Nodes) <= mostWay && !all[g.Nodes[i].ID] && (i == start || i == end || !reach(next, start, i)[end]) {
				all[g.Nodes[i].ID] = true
			}
		}
	}
	return all, some
}

// reach is what can be reached from a node without another one.
func reach(next [][]int, from, without int) []bool {
	seen := make([]bool, len(next))
	if from == without {
		return seen
	}
	seen[from] = true
	for open := []int{from}; len(open) > 0; {
		at := open[len(open)-1]
		open = open[:len(open)-1]
		for _, n := range next[at] {
			if n != without && !seen[n] {
				seen[n] = true
				open = append(open, n)
			}
		}
	}
	return seen
}
