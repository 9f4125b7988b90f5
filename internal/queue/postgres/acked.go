package postgres

import "sync"

// ackedAtMost bounds the commits that are remembered: a database that has lost more of them
// says of the others only how far the log went.
const ackedAtMost = 1 << 16

// ackedGlance is how many are looked for now and then.
const ackedGlance = 8

// ack is a commit that was acknowledged.
type ack struct {
	n    int64
	ring int64
	at   int64 // unix ns, of the database
	jobs int32 // that it appended
}

// acked is the last commits that this process has acknowledged.
type acked struct {
	mu   sync.Mutex
	last []ack
	next int // place of the oldest when last is full
}

func (a *acked) add(k ack) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.last) < ackedAtMost {
		a.last = append(a.last, k)
		return
	}
	a.last[a.next] = k
	a.next = (a.next + 1) % ackedAtMost
}

// list is the last of them, at most n.
func (a *acked) list(n int) []ack {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]ack, 0, n)
	for i := range min(n, len(a.last)) {
		at := a.next - 1 - i
		if at < 0 {
			at += len(a.last)
		}
		out = append(out, a.last[at])
	}
	return out
}
