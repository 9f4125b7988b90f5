package partition

import (
	"container/heap"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/weirdata/weir/internal/queue"
)

// end is what becomes of one side row, or of jobs of one value that share a lease, when
// their Change is committed, or is not.
type end struct {
	lane  *lane
	token uint64     // 0 for what the partition moves of its own accord
	side  *sideLease // the job was leased from the side table; batch and index are not set
	batch *batch     // the value, and
	index []uint32   // which jobs of it; Left.Index may share the memory, in another order
	stays bool       // the job goes to the side table and stays open
	park  bool       // the job was withheld
}

// jobs is how many jobs e ends.
func (e *end) jobs() int {
	if e.side != nil {
		return 1
	}
	return len(e.index)
}

// Begin checks that results come from leases that hold, marks their jobs as being
// settled, and returns what to commit. Every Change it returns must be ended with End.
// An error leaves everything as it was.
func (p *Partition) Begin(ctx context.Context, results []queue.Result) (*Change, error) {
	if len(results) == 0 {
		return nil, nil
	}
	c := &Change{}
	now, err := p.reserve(c, results)
	if err != nil {
		return nil, err
	}
	if err := p.describe(ctx, c, results, now); err != nil {
		p.End(c, false)
		return nil, err
	}
	return c, nil
}

// reserve marks the jobs of results, all or none. The ends of c are in the order of
// results.
func (p *Partition) reserve(c *Change, results []queue.Result) (now moment, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now = p.now()
	p.tick(now)
	index := make([]uint32, 0, len(results)) // of all ends
	for i := range results {
		r := &results[i]
		stays := r.Verdict == queue.Again
		if n := len(c.ends); n > 0 && c.ends[n-1].goesOn(r, stays) {
			e := &c.ends[n-1]
			e.batch.tokens[r.ID.Index] |= settling
			index = append(index, r.ID.Index)
			e.index = index[len(index)-len(e.index)-1:]
			continue
		}
		if p.closed || !p.leased(r.ID, r.Token) {
			p.revert(c, now)
			return now, fmt.Errorf("settle job %s: %w", r.ID, queue.ErrLeaseLost)
		}
		l := p.lanes[r.ID.Lane]
		e := end{lane: l, token: r.Token, stays: stays}
		if s := l.sides[r.ID]; s != nil {
			s.token |= settling
			e.side = s
		} else {
			e.batch = l.at(r.ID.Seq)
			e.batch.tokens[r.ID.Index] |= settling
			index = append(index, r.ID.Index)
			e.index = index[len(index)-1:]
		}
		c.ends = append(c.ends, e)
	}
	return now, nil
}

// goesOn reports whether r is of one more job of e, which is leased and not being settled.
// That the lease holds is known of e.
func (e *end) goesOn(r *queue.Result, stays bool) bool {
	b := e.batch
	return b != nil && b.seq == r.ID.Seq && e.lane.id == r.ID.Lane && e.token == r.Token && e.stays == stays &&
		int(r.ID.Index) < b.count && b.tokens[r.ID.Index] == r.Token
}

type valueKey struct{ lane, seq uint64 }

// describe fills in the delta that results make.
func (p *Partition) describe(ctx context.Context, c *Change, results []queue.Result, now moment) error {
	var records map[queue.ID]sideSource
	i := 0
	for n := range c.ends {
		e := &c.ends[n]
		for range e.jobs() {
			if r := &results[i]; e.side == nil && r.Verdict != queue.Done {
				if records == nil {
					records = map[queue.ID]sideSource{}
				}
				records[r.ID] = sideSource{}
			}
			i++
		}
	}
	if err := p.fetch(ctx, records); err != nil {
		return fmt.Errorf("settle %d jobs: %w", len(results), err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	i = 0
	for n := range c.ends {
		e := &c.ends[n]
		for range e.jobs() {
			if r := &results[i]; e.side != nil || r.Verdict != queue.Done {
				c.Side = append(c.Side, p.sideOf(r, e, records[r.ID], now))
			}
			i++
		}
	}
	c.leave()
	return nil
}

// leave fills in which jobs of which values leave the log.
func (c *Change) leave() {
	places := make(map[valueKey]int, len(c.ends))
	for n := range c.ends {
		e := &c.ends[n]
		if e.side != nil {
			continue
		}
		k := valueKey{e.lane.id, e.batch.seq}
		at, ok := places[k]
		if !ok {
			places[k] = len(c.Left)
			c.Left = append(c.Left, Left{Lane: k.lane, Seq: k.seq, Count: e.batch.count, Size: e.batch.size, Index: slices.Clip(e.index)})
			continue
		}
		c.Left[at].Index = append(c.Left[at].Index, e.index...)
	}
	for i := range c.Left {
		f := &c.Left[i]
		if len(f.Index) == f.Count {
			f.Index = nil
		} else if !slices.IsSorted(f.Index) {
			slices.Sort(f.Index)
		}
	}
}

// sideSource is a job of the log on its way to the side table.
type sideSource struct {
	record []byte
	at     int64
	due    int64 // its own NotBefore
}

func (p *Partition) sideOf(r *queue.Result, e *end, src sideSource, now moment) Side {
	s := Side{ID: r.ID, At: src.at, Size: len(src.record), Record: src.record}
	if e.side == nil {
		s.Hash = e.batch.hash(r.ID.Index)
	} else {
		row := &e.side.row
		s.Hash, s.At, s.Size, s.Attempt = row.Hash, row.At, row.Size, row.Attempt
		s.Was, s.WasDue, s.WasAttempt = row.State, row.Due, row.Attempt
	}
	if s.Cause = r.Cause; len(s.Cause) > queue.MaxCause {
		s.Cause = s.Cause[:queue.MaxCause]
	}
	switch r.Verdict {
	case queue.Done:
		s.State, s.Cause = Gone, ""
	case queue.Again:
		s.State = Retry
		if !r.Uncounted {
			s.Attempt++
		}
		s.Due = p.attempt(r, now)
	case queue.Dead:
		s.State, s.Due = Dead, now.wall
	}
	return s
}

// attempt is when a job is to be tried again: a time of the wall clock only when somebody has
// named one that is to come.
func (p *Partition) attempt(r *queue.Result, now moment) int64 {
	wait := int64(min(max(r.After, 0), longestWait))
	switch {
	case r.After == 0 && !r.At.IsZero() && queue.Nanos(r.At) > now.wall:
		return queue.Nanos(r.At)
	case p.cfg.Lasting:
		return now.of(bySteady) + wait
	}
	return now.wall + wait
}

// longestWait is the longest wait for a next attempt.
const longestWait = 50 * 365 * 24 * time.Hour

// fetch reads the records of jobs of the log.
func (p *Partition) fetch(ctx context.Context, want map[queue.ID]sideSource) error {
	values := map[valueKey][]uint32{}
	for id := range want {
		k := valueKey{id.Lane, id.Seq}
		values[k] = append(values[k], id.Index)
	}
	for k, index := range values {
		v, err := p.value(ctx, k.lane, k.seq)
		if err == nil && v.data == nil && 2*len(index) > v.count() {
			v, err = p.readValue(ctx, k)
		}
		if err != nil {
			return err
		}
		for _, i := range index {
			if int(i) >= v.count() {
				return fmt.Errorf("read job %d-%d-%d: the value has %d jobs: %w", k.lane, k.seq, i, v.count(), queue.ErrCorrupt)
			}
			one := v.opened
			if v.data == nil {
				if one, err = p.part(ctx, k.lane, &v.opened, i, i+1); err != nil {
					return err
				}
			}
			want[queue.ID{Lane: k.lane, Seq: k.seq, Index: i}] = sideSource{record: one.record(i), at: v.at, due: v.dueOf(i)}
		}
	}
	return nil
}

// End says whether c was committed, and makes it part of the memory if so. c may be nil.
func (p *Partition) End(c *Change, committed bool) {
	if c == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if !committed {
		p.revert(c, now)
		return
	}
	if err := p.apply(c); err != nil {
		// Begin has seen every value of c; only a backend that mixes partitions gets here.
		p.cfg.Log.Error("apply a committed change", "error", err)
	}
	for i := range c.ends {
		p.finish(&c.ends[i])
	}
	for i := range c.ends {
		p.offer(c.ends[i].lane, now)
	}
	for i := range c.Side {
		if l := p.lanes[c.Side[i].ID.Lane]; l != nil {
			p.offer(l, now)
		}
	}
	c.ends = nil
	p.arm(now)
}

// finish ends the lease of settled jobs and lets their keys go on.
func (p *Partition) finish(e *end) {
	l := e.lane
	if e.token != 0 {
		if g := p.grants[e.token]; g != nil {
			if g.open -= e.jobs(); g.open == 0 {
				p.drop(g)
			}
		}
	}
	if s := e.side; s != nil {
		delete(l.sides, s.row.ID)
		p.unlease(l, s)
		if s.row.Hash != 0 && !e.stays {
			l.keyEnded(s.row.Hash, pos{s.row.ID.Seq, s.row.ID.Index})
		}
		return
	}
	if e.token != 0 {
		for _, i := range e.index {
			e.batch.tokens[i] = 0
		}
		l.add(counts{leased: -int64(len(e.index))})
	}
	if e.batch.hashes == nil || e.park {
		return
	}
	for _, i := range e.index {
		h := e.batch.hashes[i]
		switch {
		case h == 0:
		case !e.stays:
			l.keyEnded(h, pos{e.batch.seq, i})
		default:
			if k := l.keys[h]; k != nil && (!k.hasHead || k.head == pos{e.batch.seq, i}) {
				k.hasHead = false
				l.dropKey(h, k)
			}
		}
	}
}

// drop forgets a lease of which nothing is open.
func (p *Partition) drop(g *grant) {
	delete(p.grants, g.token)
	heap.Remove(&p.expiry, g.place)
}

// revert makes the jobs of c what they were. Those that another owner settled meanwhile
// are not in the log any more, nor is their value in the window, and they stay so.
func (p *Partition) revert(c *Change, now moment) {
	for i := range c.ends {
		e := &c.ends[i]
		l := e.lane
		held := p.grants[e.token] != nil
		switch {
		case e.side != nil:
			e.side.token &^= settling
			if !held {
				p.freeSide(l, e.side)
			}
		case e.token != 0:
			for _, ix := range e.index {
				e.batch.tokens[ix] &^= settling
				if !held {
					p.freeJob(l, e.batch, ix)
				}
			}
		case e.park:
			l.unpark(e)
		default:
			for _, ix := range e.index {
				l.free(pos{e.batch.seq, ix})
			}
		}
		p.offer(l, now)
	}
	c.ends = nil
}

// unpark puts withheld jobs back in front of those that are withheld after them.
func (l *lane) unpark(e *end) {
	for _, ix := range e.index {
		k, h := pos{e.batch.seq, ix}, e.batch.hash(ix)
		if l.left(k) {
			continue
		}
		l.withhold(h, e.batch, k)
		slices.SortFunc(l.keys[h].waiters, pos.compare)
	}
}

// Discard is the Change that removes dead rows for good. The rows must be Dead and come
// from storage; the caller sees to it that none is discarded twice.
func (p *Partition) Discard(rows []Side) *Change {
	c := &Change{Side: make([]Side, 0, len(rows))}
	for _, r := range rows {
		r.Was, r.WasDue, r.WasAttempt = r.State, r.Due, r.Attempt
		r.State, r.Record, r.Cause = Gone, nil, ""
		c.Side = append(c.Side, r)
	}
	return c
}
