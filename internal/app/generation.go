package app

import (
	"slices"

	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/connector"
)

// generation is the runners of one config.
type generation struct {
	members  map[string]*member
	order    []*member            // as in the config
	fillers  map[string][]*member // by the queue they put work into
	drawers  map[string][]*member // by the queue they take work from
	queues   []connector.Queue    // by name
	empty    bool                 // no pipeline is written in the config
	plan     *config.Plan         // what it was made of
	planes   []*Plane
	lakes    []Lake
	gateways []Gateway
}

func newGeneration(members []*member, queues []connector.Queue) *generation {
	g := &generation{members: map[string]*member{}, order: members, queues: queues,
		fillers: map[string][]*member{}, drawers: map[string][]*member{}}
	for _, m := range members {
		g.members[m.Name()] = m
		for _, q := range m.Downstream() {
			g.fillers[q] = append(g.fillers[q], m)
		}
		for _, q := range m.Upstream() {
			g.drawers[q] = append(g.drawers[q], m)
		}
	}
	return g
}

// upstream is the members that put work into what m takes work from, directly. Members that
// feed each other in a circle would wait for one another: m waits for none that it feeds.
func (g *generation) upstream(m *member) []*member {
	var up []*member
	fed := map[*member]bool{}
	g.reach(m, fed)
	for _, q := range m.Upstream() {
		for _, other := range g.fillers[q] {
			if !fed[other] && !slices.Contains(up, other) {
				up = append(up, other)
			}
		}
	}
	return up
}

// reach adds to seen what the work of from comes to, over any number of others. from itself
// is there if its work comes back.
func (g *generation) reach(from *member, seen map[*member]bool) {
	for _, q := range from.Downstream() {
		for _, next := range g.drawers[q] {
			if !seen[next] {
				seen[next] = true
				g.reach(next, seen)
			}
		}
	}
}

// drained returns a channel that is closed when everything upstream of m has ended for good:
// the one answer to whether more can come.
func (g *generation) drained(m *member) <-chan struct{} {
	end := make(chan struct{})
	up := g.upstream(m)
	if len(up) == 0 {
		close(end)
		return end
	}
	go func() {
		defer close(end)
		for _, other := range up {
			<-other.ended
		}
	}()
	return end
}

// holds reports whether a member of g holds what m needs for itself.
func (g *generation) holds(m *member) []*member {
	if g == nil {
		return nil
	}
	var who []*member
	for _, other := range g.order {
		if slices.ContainsFunc(m.Terms().Exclusive, func(id string) bool { return slices.Contains(other.Terms().Exclusive, id) }) {
			who = append(who, other)
		}
	}
	return who
}
