package frontdoor

import "sync/atomic"

// Budget bounds what the requests of a host hold together: places, one for each request
// until its events are settled, and bytes of bodies and events.
type Budget struct {
	maxRequests, maxBytes int64
	requests, bytes       atomic.Int64
}

// NewBudget has room for so many requests and bytes.
func NewBudget(requests, bytes int) *Budget {
	return &Budget{maxRequests: int64(requests), maxBytes: int64(bytes)}
}

// Enter takes a place for a request; false when there is none.
func (b *Budget) Enter() bool {
	if b.requests.Add(1) > b.maxRequests {
		b.requests.Add(-1)
		return false
	}
	return true
}

// Leave gives back a place and the bytes that its request still holds.
func (b *Budget) Leave(bytes int64) {
	b.Shrink(bytes)
	b.requests.Add(-1)
}

// Grow takes n more bytes; false when there are not so many.
func (b *Budget) Grow(n int64) bool {
	if b.bytes.Add(n) > b.maxBytes {
		b.bytes.Add(-n)
		return false
	}
	return true
}

// Shrink gives back n bytes.
func (b *Budget) Shrink(n int64) {
	if n != 0 {
		b.bytes.Add(-n)
	}
}

// Used is the places and bytes that are taken now.
func (b *Budget) Used() (requests, bytes int64) { return b.requests.Load(), b.bytes.Load() }
