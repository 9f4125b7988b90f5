package kinesistarget

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirdata/weir/internal/kinesis/aggregate"
)

// The waits of a part that takes no more, and how long it may take nothing until that is a
// failure.
const (
	leastWait = 50 * time.Millisecond
	mostWait  = time.Second
	patience  = time.Minute
)

// part is one of the 1024 equal parts of the range of hashes.
type part uint16

func partOf(h aggregate.Hash) part { return part(h[0])<<2 | part(h[1]>>6) }

// parts are those of a stream in which records were refused.
type parts struct {
	n    atomic.Int32 // of hot
	mu   sync.Mutex
	hot  map[part]*hot
	took map[string]time.Time // when shards have taken something last; only while there are hot parts
	told time.Time            // when somebody was told last
}

// hot is a part that has enough.
type hot struct {
	until time.Time // no record is sent before
	delay time.Duration
	since time.Time // when a record was refused first after the last that was taken
}

// idle reports whether all parts take everything.
func (p *parts) idle() bool { return p.n.Load() == 0 }

// wait is how long the records of a part have to wait; none is sent before.
func (p *parts) wait(of part, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.hot[of]
	if h == nil {
		return 0
	}
	if now.Sub(h.until) >= patience { // nobody has asked for a long time: what was known is old
		p.forget(of)
	}
	return h.until.Sub(now)
}

// refused notes that a record of a part was refused, by a shard if that is known, and says how long
// those of the part have to wait, for how long nothing was taken by part or shard, and
// whether somebody should be told.
func (p *parts) refused(of part, shard string, now time.Time) (wait, barren time.Duration, tell bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hot == nil {
		p.hot = map[part]*hot{}
	}
	h := p.hot[of]
	if h == nil || now.Sub(h.until) >= patience {
		h = &hot{since: now}
		p.hot[of] = h
		p.n.Store(int32(len(p.hot)))
	}
	if !now.Before(h.until) { // otherwise it is known already
		h.delay = min(max(2*h.delay, leastWait), mostWait)
		h.until = now.Add(h.delay)
	}
	if tell = now.Sub(p.told) >= patience; tell {
		p.told = now
	}
	barren = now.Sub(h.since)
	if at, known := p.took[shard]; known {
		barren = min(barren, now.Sub(at))
	}
	return h.until.Sub(now), barren, tell
}

// taken notes that a record of a part was taken, and by which shard.
func (p *parts) taken(of part, shard string, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.took == nil {
		p.took = map[string]time.Time{}
	}
	p.took[shard] = now
	if p.hot[of] != nil {
		p.forget(of)
	}
}

// forget takes a part for one that takes everything. The lock is held.
func (p *parts) forget(of part) {
	delete(p.hot, of)
	p.n.Store(int32(len(p.hot)))
	if len(p.hot) == 0 {
		clear(p.took)
	}
}
