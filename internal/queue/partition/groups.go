package partition

import (
	"slices"

	"github.com/weirdata/weir/internal/queue"
)

// group is the lanes of one queue with one value on an axis.
type group struct {
	value string
	ready []*lane // lanes that may have work, each once, the next in turn first
	ring  *ring   // of the axis
	place node    // there
	share share   // of the Lease call that walks the ring
	// Counters of Stats.
	open, leased, retried, leasedRetried, dead, bytes int64
}

// index finds the groups of one queue.
type index [len(queue.Axes)]axis

// axis is the groups of a queue by their values, and the turns of those that may have work.
type axis struct {
	groups map[string]*group
	ring   ring
}

func axisIndex(a queue.Axis) int {
	return max(slices.Index(queue.Axes[:], a), 0)
}

func (p *Partition) group(f queue.Filter) *group {
	ix := p.queues[f.Queue]
	if ix == nil {
		return nil
	}
	f = normal(f)
	return ix[axisIndex(f.By)].groups[f.Value]
}

// join puts a new lane into its groups.
func (p *Partition) join(l *lane) {
	ix := p.queues[l.queue]
	if ix == nil {
		ix = &index{}
		p.queues[l.queue] = ix
	}
	for i, a := range queue.Axes {
		x := &ix[i]
		if x.groups == nil {
			x.groups = map[string]*group{}
		}
		value := a.Of(l.scope)
		g := x.groups[value]
		if g == nil {
			g = &group{value: value, ring: &x.ring}
			g.place.group = g
			x.groups[value] = g
		}
		l.groups[i] = g
	}
}

// counts is a difference to the counters of a lane and of its groups.
type counts struct{ open, leased, retried, leasedRetried, dead, bytes int64 }

func (l *lane) add(c counts) {
	for _, g := range l.groups {
		g.open += c.open
		g.leased += c.leased
		g.retried += c.retried
		g.leasedRetried += c.leasedRetried
		g.dead += c.dead
		g.bytes += c.bytes
	}
	l.bytes += c.bytes
}

func (g *group) stats() queue.Stats {
	retrying := g.retried - g.leasedRetried
	return queue.Stats{Waiting: g.open - g.leased - retrying, Leased: g.leased, Retrying: retrying, Dead: g.dead, Bytes: g.bytes}
}

// offer puts l in line for Lease where it is not, and wakes those who wait.
func (p *Partition) offer(l *lane, now moment) {
	if !p.started || l.held {
		return // Hold offers it when it is resumed
	}
	if !l.ready(now, p.cfg.Window) {
		// Calls overlap, and one with a later clock than now may have taken it off the heap.
		for c := range l.due {
			if d := &l.due[c]; d.next != 0 && d.index < 0 {
				p.setDue(l, c, d.next)
			}
		}
		return
	}
	for i, g := range l.groups {
		if !l.inReady[i] {
			l.inReady[i] = true
			g.ready = append(g.ready, l)
			g.ring.enter(g)
		}
	}
	p.cfg.Hub.Notify(l.queue, l.scope)
}

// next takes the lane whose turn it is out of the line of axis i; nil when the line is
// empty or has come around to a lane that this visit has seen.
func (g *group) next(i int, visit uint64) *lane {
	if len(g.ready) == 0 || g.ready[0].visit == visit {
		return nil
	}
	l := g.pop(i)
	if len(g.ready) == 0 {
		g.ring.leave(g)
	}
	l.visit = visit
	return l
}

// pop takes the first lane out of the line of axis i, which is not empty.
func (g *group) pop(i int) *lane {
	l := g.ready[0]
	g.ready[0] = nil
	g.ready = g.ready[1:]
	l.inReady[i] = false
	return l
}
