package partition

import (
	"cmp"
	"container/heap"
	"fmt"
	"math"
	"time"

	"github.com/weirdata/weir/internal/queue"
)

// What ends or begins with time: leases, which expire, and side rows, which come due. One
// timer waits for the next of either.

// A moment is one time by two clocks. The wall clock may be set, and then the times that
// somebody has named come earlier or later. The steady clock goes on evenly: leases end by it,
// and so does the wait for a next attempt, if it goes on over restarts too.
type moment struct{ wall, steady int64 } // unix ns; what steady counts from does not matter

// The clocks that due times may be of.
const (
	byWall   = iota
	bySteady // as lasting(steady)
	clocks
)

// clockOf is the clock that a due time is of.
func clockOf(due int64) int {
	if due < 0 {
		return bySteady
	}
	return byWall
}

// of is the moment by a clock, as a due time.
func (m moment) of(clock int) int64 {
	if clock == bySteady {
		return m.steady + queue.SteadyBase
	}
	return m.wall
}

// early reports whether a due time is still to come.
func (m moment) early(due int64) bool { return due > m.of(clockOf(due)) }

// time is when a due time comes, by the wall clock as it is now; zero for at once.
func (m moment) time(due int64) time.Time {
	if due < 0 {
		due += m.wall - m.of(bySteady)
	}
	if due <= 1 {
		return time.Time{}
	}
	return time.Unix(0, due).UTC()
}

// dueLine is the Retry rows of a lane whose times are of one clock.
type dueLine struct {
	from      DueKey // rows up to it are leased
	next      int64  // no row that is not leased is due before; 0 without any
	index     int    // place in Partition.dues; -1 when not in
	ahead     []Side // rows after from that were read, and are not leased
	aheadNext int64  // the due time of the first row behind them; 0 without any
	moved     bool   // from was reset since rows were read last
}

// start is before all due times of a clock.
func start(clock int) DueKey {
	if clock == bySteady {
		return DueKey{Due: math.MinInt64}
	}
	return DueKey{}
}

// isDue reports whether a row may be due.
func (l *lane) isDue(now moment) bool {
	for c := range l.due {
		if d := &l.due[c]; d.next != 0 && d.next <= now.of(c) {
			return true
		}
	}
	return false
}

// grant is one lease: what a Lease call handed out.
type grant struct {
	token   uint64
	expires int64 // steady
	open    int   // jobs not settled yet
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
	now := p.now()
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
			g.expires = now.steady + int64(d)
			heap.Fix(&p.expiry, g.place)
		}
	}
	return lost
}

// Release is queue.Store.Release for jobs of this partition. It says which were released.
func (p *Partition) Release(jobs []queue.Job) (released []queue.ID, lost error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
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
func (p *Partition) tick(now moment) {
	for len(p.expiry) > 0 && p.expiry[0].expires <= now.steady {
		p.expire(p.expiry[0], now)
	}
	for c := range p.dues {
		h := &p.dues[c]
		for h.Len() > 0 && h.lanes[0].due[c].next <= now.of(c) {
			l := h.lanes[0]
			heap.Remove(h, 0)
			p.offer(l, now)
		}
	}
}

// Stepped says that the wall clock was set: what has come due by it is handed out.
func (p *Partition) Stepped() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	p.armed = 0
	p.tick(now)
	p.arm(now)
}

// Until is when a due time comes, by the wall clock as it is now; zero for at once.
func (p *Partition) Until(due int64) time.Time { return p.now().time(due) }

// expire ends a lease. Jobs whose results are being committed are left to End.
func (p *Partition) expire(g *grant, now moment) {
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
	c := clockOf(s.row.Due)
	l.rewind(c)
	p.setDue(l, c, lower(l.due[c].next, s.row.Due))
}

// rewind has the side rows that are due by a clock looked for from the first.
func (l *lane) rewind(clock int) {
	d := &l.due[clock]
	d.from, d.moved, d.ahead = start(clock), true, nil
}

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

// setDue keeps l where its next due time by a clock puts it.
func (p *Partition) setDue(l *lane, clock int, due int64) {
	d, h := &l.due[clock], &p.dues[clock]
	d.next = due
	switch {
	case due == 0 && d.index >= 0:
		heap.Remove(h, d.index)
	case due != 0 && d.index >= 0:
		heap.Fix(h, d.index)
	case due != 0:
		heap.Push(h, l)
	}
}

// arm sets the timer to the next time that a lane comes due or a lease ends.
func (p *Partition) arm(now moment) {
	if !p.started {
		return
	}
	const never = math.MaxInt64
	wait := int64(never)
	if len(p.expiry) > 0 {
		wait = p.expiry[0].expires - now.steady
	}
	for c := range p.dues {
		if h := &p.dues[c]; h.Len() > 0 {
			wait = min(wait, h.lanes[0].due[c].next-now.of(c))
		}
	}
	if wait == never || p.armed != 0 && p.armed <= now.steady+max(wait, 0) {
		return
	}
	wait = max(wait, 0)
	p.armed = now.steady + wait
	if p.timer == nil {
		p.timer = time.AfterFunc(time.Duration(wait), p.fire)
		return
	}
	p.timer.Reset(time.Duration(wait))
}

func (p *Partition) fire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed = 0
	if !p.started {
		return
	}
	now := p.now()
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

// dueLanes is a heap, the lane that comes due first by a clock on top.
type dueLanes struct {
	clock int
	lanes []*lane
}

func (h *dueLanes) Len() int { return len(h.lanes) }
func (h *dueLanes) Less(i, j int) bool {
	return h.lanes[i].due[h.clock].next < h.lanes[j].due[h.clock].next
}
func (h *dueLanes) Swap(i, j int) {
	h.lanes[i], h.lanes[j] = h.lanes[j], h.lanes[i]
	h.lanes[i].due[h.clock].index, h.lanes[j].due[h.clock].index = i, j
}
func (h *dueLanes) Push(x any) {
	l := x.(*lane)
	l.due[h.clock].index = len(h.lanes)
	h.lanes = append(h.lanes, l)
}
func (h *dueLanes) Pop() any {
	old := h.lanes
	l := old[len(old)-1]
	old[len(old)-1] = nil
	h.lanes = old[:len(old)-1]
	l.due[h.clock].index = -1
	return l
}
