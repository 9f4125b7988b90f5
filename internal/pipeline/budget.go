package pipeline

import (
	"math"
	"sync"
)

// Budget is the payload bytes that all pipelines of a process may have in flight together;
// each has its own bound below it. Nil, and one that was never resized, bounds nothing.
//
// A pipeline, or a value of an isolated one, that holds nothing may read one message whatever
// the others hold: what is full of one pipeline's messages that wait never stops another.
type Budget struct {
	most int64

	mu      sync.Mutex
	used    int64
	waiting map[chan<- struct{}]struct{} // told when there may be room again
}

// Resize changes the bound, from the next read on.
func (b *Budget) Resize(bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.most = bytes
}

// share is how many bytes one reader may take now: half of what is left, so that something is
// left for the next. None is left when it is not positive; then freed, which has room for an
// element, is given one once there may be some.
func (b *Budget) share(freed chan<- struct{}) int64 {
	if b == nil {
		return math.MaxInt64
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.most == 0 {
		return math.MaxInt64
	}
	left := b.most - b.used
	if left <= 0 {
		if b.waiting == nil {
			b.waiting = map[chan<- struct{}]struct{}{}
		}
		b.waiting[freed] = struct{}{}
		return 0
	}
	return (left + 1) / 2
}

// add counts bytes that were read, or with a negative number settled.
func (b *Budget) add(bytes int64) {
	if b == nil || bytes == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used += bytes
	if bytes > 0 {
		return
	}
	// Also while the budget is used up: who holds nothing any more may read a message.
	for freed := range b.waiting {
		select {
		case freed <- struct{}{}:
		default:
		}
	}
	clear(b.waiting)
}

// Used is how many bytes are in flight.
func (b *Budget) Used() int64 {
	if b == nil {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}
