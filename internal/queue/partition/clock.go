package partition

import (
	"cmp"
	"container/heap"
	"fmt"
	"time"

	"github.com/weirdata/weir/internal/queue"
)

// What ends or begins with time: leases, which expire, and side rows, which come due. One
// timer waits for the next of either.

// grant is one lease: what a Lease call handed out.
type grant struct {
	token   uint64
	expires int64
	open    int // jobs not settled yet
	values  []valueRef
	sides   []queue.ID
	place   int // in Partition.expiry
}

type valueRef struct {
	lane  *lane
	batch *batch
}

func (k DueKey) compare(o DueKey) int {
	return cmp.Or(cmp.Compare(k.Due, o.Due), cmp.Compare(k.Seq, o.Seq), cmp.Compare(k.Index, o.Index))
}

// lower is the lower of two due times, of which 0 means never.
func lower(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// Renew is queue.Store.Renew for jobs of this partition.
func (p *Partition) Renew(jobs []queue.Job, d time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.nanos()
	p.tick(now)
	defer p.arm(now)
	var lost error
	last := uint64(0)
	for i := range jobs {
		j := &jobs[i]
		if !p.leased(j.ID, j.Lease.Token) {
			lost = fmt.Errorf("renew the lease of job %s: %w", j.ID, queue.ErrLeaseLost)
			continue
		}
		if g := p.grants[j.Lease.Token]; j.Lease.Token != last {
			last = j.Lease.Token
			g.expires = now + int64(d)
			heap.Fix(&p.expiry, g.place)
		}
	}
	return lost
}

// Release is queue.Store.Release for jobs of this partition. It says which were released.
func (p *Partition) Release(jobs []queue.Job) (released []queue.ID, lost error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.nanos()
	p.tick(now)
	defer p.arm(now)
	for i := range jobs {
		id, token := jobs[i].ID, jobs[i].Lease.Token
		if !p.leased(id, token) {
			lost = fmt.Errorf("release job %s: %w", id, queue.ErrLeaseLost)
			continue
		}
		l := p.lanes[id.Lane]
		if s := l.sides[id]; s != nil {
			p.freeSide(l, s)
		} else {
			p.freeJob(l, l.at(id.Seq), id.Index)
		}
		if g := p.grants[token]; g.open == 1 {
			p.drop(g)
		} else {
			g.open--
		}
		p.offer(l, now)
		released = append(released, id)
	}
	return released, lost
}

// leased reports whether the lease token holds the job id, and no result of it is being
// committed.
func (p *Partition) leased(id queue.ID, token uint64) bool {
	l := p.lanes[id.Lane]
	if l == nil || token == 0 || p.grants[token] == nil {
		return false
	}
	if len(l.sides) > 0 {
		if s := l.sides[id]; s != nil {
			return s.token == token
		}
	}
	b := l.at(id.Seq)
	return b != nil && int(id.Index) < b.count && b.token(id.Index) == token
}

// tick lets leases end and lanes come due.
func (p *Partition) tick(now int64) {
	for len(p.expiry) > 0 && p.expiry[0].expires <= now {
		p.expire(p.expiry[0], now)
	}
	for len(p.dues) > 0 && p.dues[0].nextDue <= now {
		l := p.dues[0]
		heap.Remove(&p.dues, 0)
		p.offer(l, now)
	}
}

// expire ends a lease. Jobs whose results are being committed are left to End.
func (p *Partition) expire(g *grant, now int64) {
	delete(p.grants, g.token)
	heap.Remove(&p.expiry, g.place)
	for _, ref := range g.values {
		for i, t := range ref.batch.tokens {
			if t == g.token {
				p.freeJob(ref.lane, ref.batch, uint32(i))
			}
		}
		p.offer(ref.lane, now)
	}
	for _, id := range g.sides {
		l := p.lanes[id.Lane]
		if s := l.sides[id]; s != nil && s.token == g.token {
			p.freeSide(l, s)
			p.offer(l, now)
		}
	}
}

// freeJob makes a leased job of the log one that may be handed out again.
func (p *Partition) freeJob(l *lane, b *batch, i uint32) {
	b.tokens[i] = 0
	l.add(counts{leased: -1})
	l.free(pos{b.seq, i})
}

// freeSide makes a leased side row one that may be handed out again.
func (p *Partition) freeSide(l *lane, s *sideLease) {
	delete(l.sides, s.row.ID)
	p.unlease(l, s)
	l.rewind()
	p.setDue(l, lower(l.nextDue, s.row.Due))
}

// rewind has the side rows that are due looked for from the first.
func (l *lane) rewind() { l.dueFrom, l.dueMoved, l.ahead = DueKey{}, true, nil }

// key is the place of a row in the due index.
func (s *Side) key() DueKey { return DueKey{Due: s.Due, Seq: s.ID.Seq, Index: s.ID.Index} }

// unlease counts a side row as not leased any more.
func (p *Partition) unlease(l *lane, s *sideLease) {
	d := counts{leased: -1}
	if s.row.Attempt > 0 {
		d.leasedRetried = -1
	}
	l.add(d)
}

// setDue keeps l where its next due time puts it.
func (p *Partition) setDue(l *lane, due int64) {
	l.nextDue = due
	switch {
	case due == 0 && l.dueIndex >= 0:
		heap.Remove(&p.dues, l.dueIndex)
	case due != 0 && l.dueIndex >= 0:
		heap.Fix(&p.dues, l.dueIndex)
	case due != 0:
		heap.Push(&p.dues, l)
	}
}

// arm sets the timer to the next time that a lane comes due or a lease ends.
func (p *Partition) arm(now int64) {
	if !p.started {
		return
	}
	next := int64(0)
	if len(p.expiry) > 0 {
		next = p.expiry[0].expires
	}
	if len(p.dues) > 0 {
		next = lower(next, p.dues[0].nextDue)
	}
	if next == 0 || p.armed != 0 && p.armed <= next {
		return
	}
	p.armed = next
	d := max(time.Duration(next-now), 0)
	if p.timer == nil {
		p.timer = time.AfterFunc(d, p.fire)
		return
	}
	p.timer.Reset(d)
}

func (p *Partition) fire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed = 0
	if !p.started {
		return
	}
	now := p.nanos()
	p.tick(now)
	p.arm(now)
}

// grants is a heap, the one that ends first on top.
type grants []*grant

func (h grants) Len() int           { return len(h) }
func (h grants) Less(i, j int) bool { return h[i].expires < h[j].expires }
func (h grants) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}
func (h *grants) Push(x any) {
	g := x.(*grant)
	g.place = len(*h)
	*h = append(*h, g)
}
func (h *grants) Pop() any {
	old := *h
	g := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return g
}

// dueLanes is a heap, the lane that comes due first on top.
type dueLanes []*lane

func (h dueLanes) Len() int           { return len(h) }
func (h dueLanes) Less(i, j int) bool { return h[i].nextDue < h[j].nextDue }
func (h dueLanes) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].dueIndex, h[j].dueIndex = i, j
}
func (h *dueLanes) Push(x any) {
	l := x.(*lane)
	l.dueIndex = len(*h)
	*h = append(*h, l)
}
func (h *dueLanes) Pop() any {
	old := *h
	l := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	l.dueIndex = -1
	return l
}
