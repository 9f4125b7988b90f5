package kinesissource

import (
	"context"
	"sync"
)

// budget bounds the bytes of records that were fetched and are not read yet, over all shards.
// Who waits for some gets it in turn. What a fetch brings is known only when it is there, so
// it sets aside what it expects, and is charged what it was: the budget may be exceeded by what
// was not expected, and then nobody fetches until there is room again.
type budget struct {
	mu      sync.Mutex
	limit   int
	used    int
	waiting []waiter
}

type waiter struct {
	n    int
	room chan struct{} // closed when n was taken
}

// acquire waits until n may be used, or nothing is.
func (b *budget) acquire(ctx context.Context, n int) error {
	b.mu.Lock()
	if len(b.waiting) == 0 && b.fits(n) {
		b.used += n
		b.mu.Unlock()
		return nil
	}
	w := waiter{n, make(chan struct{})}
	b.waiting = append(b.waiting, w)
	b.mu.Unlock()
	select {
	case <-w.room:
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.waiting {
		if b.waiting[i].room == w.room {
			b.waiting = append(b.waiting[:i], b.waiting[i+1:]...)
			b.grant()
			return context.Cause(ctx)
		}
	}
	b.used -= n // it was given at the same moment
	b.grant()
	return context.Cause(ctx)
}

func (b *budget) fits(n int) bool { return b.used <= 0 || b.used+n <= b.limit }

// add changes what is used by n, which may be negative.
func (b *budget) add(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used += n
	b.grant()
}

// grant lets those go on for whom there is room; it is called with the lock.
func (b *budget) grant() {
	for len(b.waiting) > 0 && b.fits(b.waiting[0].n) {
		b.used += b.waiting[0].n
		close(b.waiting[0].room)
		b.waiting = b.waiting[1:]
	}
}
