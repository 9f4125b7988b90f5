package layout

import (
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestWay compares what is said of ways with all ways that there are.
func TestWay(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 7).Draw(t, "nodes")
		g := Graph{}
		next := make([][]int, n)
		for i := range n {
			g.Nodes = append(g.Nodes, Node{ID: strconv.Itoa(i)})
		}
		for range rapid.IntRange(0, 14).Draw(t, "edges") {
			a, b := rapid.IntRange(0, n-1).Draw(t, "from"), rapid.IntRange(0, n-1).Draw(t, "to")
			next[a] = append(next[a], b)
			g.Edges = append(g.Edges, Edge{From: strconv.Itoa(a), To: strconv.Itoa(b)})
		}
		end := rapid.IntRange(0, n-1).Draw(t, "end")
		// Ways that pass no node twice decide: a node is on all ways exactly if it is on all of these. On
		// some way is what can be reached and leads there.
		wantAll := map[string]bool{}
		ways := 0
		on := make([]int, n)
		var walk func(at int, way []int, seen map[int]bool)
		walk = func(at int, way []int, seen map[int]bool) {
			if seen[at] {
				return
			}
			seen[at] = true
			way = append(way, at)
			if at == end {
				ways++
				for _, i := range way {
					on[i]++
				}
			}
			for _, to := range next[at] {
				walk(to, way, seen)
			}
			delete(seen, at)
		}
		walk(0, nil, map[int]bool{})
		for i := range n {
			if ways > 0 && on[i] == ways {
				wantAll[strconv.Itoa(i)] = true
			}
		}
		all, some := g.Way("0", map[string]bool{strconv.Itoa(end): true})
		if diff := cmp.Diff(wantAll, all); diff != "" {
			t.Errorf("on all ways to %d of %v: %s", end, next, diff)
		}
		for id := range all {
			if !some[id] {
				t.Errorf("%s is on all ways and on none", id)
			}
		}
		for i := range n {
			if on[i] > 0 && !some[strconv.Itoa(i)] {
				t.Errorf("%d is on a way, and that is not said", i)
			}
		}
	})
}
