// Package checkpoint finds the position a source may commit: the highest one before
// which everything is settled, although settling happens in any order.
//
// Invariant: a position is returned by a resolve function only after every position
// tracked before it was resolved too, and positions are returned in the order they were
// tracked. The number of unresolved positions is bounded; Track blocks beyond it.
package checkpoint

import (
	"context"
	"sync"
)

// Tracker tracks positions of type P in the order they were read.
type Tracker[P any] struct {
	slots chan struct{}

	mu    sync.Mutex
	first uint64     // sequence number of entries[0]
	queue []entry[P] // from the oldest unresolved position on
}

type entry[P any] struct {
	pos      P
	resolved bool
}

// New returns a tracker that lets at most limit positions be unresolved.
func New[P any](limit int) *Tracker[P] {
	return &Tracker[P]{slots: make(chan struct{}, max(limit, 1))}
}

// Track notes that pos was read. The function it returns is called once, when what was
// read up to pos since the position before is settled; it returns the highest position
// that may be committed now, and whether that moved. Track blocks while the limit of
// unresolved positions is reached, and fails only when ctx ends.
func (t *Tracker[P]) Track(ctx context.Context, pos P) (resolve func() (P, bool), err error) {
	select {
	case t.slots <- struct{}{}:
	default:
		select {
		case t.slots <- struct{}{}:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	t.mu.Lock()
	seq := t.first + uint64(len(t.queue))
	t.queue = append(t.queue, entry[P]{pos: pos})
	t.mu.Unlock()
	return func() (P, bool) { return t.resolve(seq) }, nil
}

func (t *Tracker[P]) resolve(seq uint64) (pos P, moved bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if seq < t.first || t.queue[seq-t.first].resolved {
		return pos, false
	}
	t.queue[seq-t.first].resolved = true
	n := 0
	for n < len(t.queue) && t.queue[n].resolved {
		pos, moved = t.queue[n].pos, true
		n++
		<-t.slots
	}
	t.first += uint64(n)
	if n == len(t.queue) {
		t.queue = t.queue[:0]
	} else {
		t.queue = t.queue[n:]
	}
	return pos, moved
}

// Open is the number of positions that are not yet committable.
func (t *Tracker[P]) Open() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.queue)
}
