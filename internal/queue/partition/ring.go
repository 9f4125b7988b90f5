package partition

// ring is the values of one axis of a queue that may have work, the one that has waited
// longest first. A value enters it behind the others when one of its lanes has work, goes
// behind the others when it had a turn, and leaves it when it has none. So a call finds the
// next value at once, however many there are that have no work.
type ring struct {
	ends node          // in front of the first and behind the last
	size int           // values
	walk chan struct{} // has an element while a call walks the ring; made by the first
}

// node is a place in a ring.
type node struct {
	prev, next *node
	group      *group // nil: where a call is, or the end
}

// enter puts a value behind the others, unless it has a place.
func (r *ring) enter(g *group) {
	if g.place.next != nil {
		return
	}
	r.size++
	r.last().follow(&g.place)
}

// leave takes a value out, if it is there.
func (r *ring) leave(g *group) {
	if g.place.next == nil {
		return
	}
	r.size--
	g.place.unlink()
}

// last is the node that the next to enter follows.
func (r *ring) last() *node {
	if r.ends.prev == nil {
		r.ends.prev, r.ends.next = &r.ends, &r.ends
	}
	return r.ends.prev
}

// follow puts other behind n.
func (n *node) follow(other *node) {
	other.prev, other.next = n, n.next
	n.next.prev = other
	n.next = other
}

func (n *node) unlink() {
	n.prev.next, n.next.prev = n.next, n.prev
	n.prev, n.next = nil, nil
}
