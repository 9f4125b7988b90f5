package partition

import (
	"container/heap"
	"context"
	"fmt"
	"slices"

	"github.com/weirdata/weir/internal/queue"
)

// end is what becomes of one job when its Change is committed, or is not.
type end struct {
	lane  *lane
	id    queue.ID
	token uint64 // 0 for what the partition moves of its own accord
	hash  uint64
	side  *sideLease // the job was leased from the side table
	stays bool       // the job goes to the side table and stays open
	park  bool       // the job was withheld
}

// Begin checks that results come from leases that hold, marks their jobs as being
// settled, and returns what to commit. Every Change it returns must be ended with End.
// An error leaves everything as it was.
func (p *Partition) Begin(ctx context.Context, results []queue.Result) (*Change, error) {
	if len(results) == 0 {
		return nil, nil
	}
	c := &Change{ends: make([]end, 0, len(results))}
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

// reserve marks the jobs of results, all or none.
func (p *Partition) reserve(c *Change, results []queue.Result) (now int64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now = p.nanos()
	p.tick(now)
	for i := range results {
		r := &results[i]
		if p.closed || !p.leased(r.ID, r.Token) {
			p.revert(c, now)
			return 0, fmt.Errorf("settle job %s: %w", r.ID, queue.ErrLeaseLost)
		}
		l := p.lanes[r.ID.Lane]
		e := end{lane: l, id: r.ID, token: r.Token, stays: r.Verdict == queue.Again}
		if s := l.sides[r.ID]; s != nil {
			s.token |= settling
			e.side, e.hash = s, s.row.Hash
		} else {
			b := l.at(r.ID.Seq)
			b.tokens[r.ID.Index] |= settling
			e.hash = b.hash(r.ID.Index)
		}
		c.ends = append(c.ends, e)
	}
	return now, nil
}

type valueKey struct{ lane, seq uint64 }

// describe fills in the delta that results make.
func (p *Partition) describe(ctx context.Context, c *Change, results []queue.Result, now int64) error {
	var records map[queue.ID]sideSource
	left := map[valueKey]int{}
	for i := range results {
		r, e := &results[i], &c.ends[i]
		if e.side == nil && r.Verdict != queue.Done {
			if records == nil {
				records = map[queue.ID]sideSource{}
			}
			records[r.ID] = sideSource{}
		}
	}
	if err := p.fetch(ctx, records); err != nil {
		return fmt.Errorf("settle %d jobs: %w", len(results), err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	last, at := valueKey{}, 0
	for i := range results {
		r, e := &results[i], &c.ends[i]
		if r.Verdict != queue.Done || e.side != nil {
			c.Side = append(c.Side, sideOf(r, e, records[r.ID], now))
		}
		if e.side != nil {
			continue
		}
		if k := (valueKey{r.ID.Lane, r.ID.Seq}); k != last {
			var ok bool
			if at, ok = left[k]; !ok {
				at = len(c.Left)
				left[k] = at
				b := e.lane.at(k.seq)
				c.Left = append(c.Left, Left{Lane: k.lane, Seq: k.seq, Count: b.count, Size: b.size, Index: make([]uint32, 0, b.count)})
			}
			last = k
		}
		c.Left[at].Index = append(c.Left[at].Index, r.ID.Index)
	}
	for i := range c.Left {
		f := &c.Left[i]
		if len(f.Index) == f.Count {
			f.Index = nil
		} else if !slices.IsSorted(f.Index) {
			slices.Sort(f.Index)
		}
	}
	return nil
}

// sideSource is a job of the log on its way to the side table.
type sideSource struct {
	record []byte
	at     int64
	due    int64 // its own NotBefore
}

func sideOf(r *queue.Result, e *end, src sideSource, now int64) Side {
	s := Side{ID: r.ID, Hash: e.hash, At: src.at, Size: len(src.record), Record: src.record}
	if e.side != nil {
		row := &e.side.row
		s.At, s.Size, s.Attempt = row.At, row.Size, row.Attempt
		s.Was, s.WasDue, s.WasAttempt = row.State, row.Due, row.Attempt
	}
	if s.Cause = r.Cause; len(s.Cause) > queue.MaxCause {
		s.Cause = s.Cause[:queue.MaxCause]
	}
	switch r.Verdict {
	case queue.Done:
		s.State, s.Cause = Gone, ""
	case queue.Again:
		s.State, s.Attempt = Retry, s.Attempt+1
		s.Due = now
		if !r.At.IsZero() {
			s.Due = max(queue.Nanos(r.At), now)
		}
	case queue.Dead:
		s.State, s.Due = Dead, now
	}
	return s
}

// fetch reads the records of jobs of the log.
func (p *Partition) fetch(ctx context.Context, want map[queue.ID]sideSource) error {
	values := map[valueKey][]uint32{}
	for id := range want {
		k := valueKey{id.Lane, id.Seq}
		values[k] = append(values[k], id.Index)
	}
	for k, index := range values {
		v, err := p.value(ctx, k.lane, k.seq)
		if err != nil {
			return err
		}
		recs, at, err := records(v)
		if err != nil {
			return fmt.Errorf("read value %d of lane %d: %w", k.seq, k.lane, err)
		}
		for _, i := range index {
			if int(i) >= len(recs) {
				return fmt.Errorf("read job %d-%d-%d: the value has %d jobs: %w", k.lane, k.seq, i, len(recs), queue.ErrCorrupt)
			}
			head, err := queue.ReadHead(recs[i])
			if err != nil {
				return fmt.Errorf("read job %d-%d-%d: %w", k.lane, k.seq, i, err)
			}
			want[queue.ID{Lane: k.lane, Seq: k.seq, Index: i}] = sideSource{record: recs[i], at: at, due: head.NotBefore}
		}
	}
	return nil
}

// value reads one value of the log.
func (p *Partition) value(ctx context.Context, lane, seq uint64) (Value, error) {
	vs, err := p.cfg.Storage.Values(ctx, lane, seq, 1)
	if err != nil {
		return Value{}, fmt.Errorf("read value %d of lane %d: %w", seq, lane, err)
	}
	if len(vs) == 0 || vs[0].Seq != seq {
		return Value{}, fmt.Errorf("read value %d of lane %d: it is not there: %w", seq, lane, queue.ErrCorrupt)
	}
	return vs[0], nil
}

// records takes a value apart.
func records(v Value) (recs [][]byte, at int64, err error) {
	r, err := queue.OpenValue(v.Data)
	if err != nil {
		return nil, 0, err
	}
	recs = make([][]byte, 0, r.Count)
	for {
		rec, err := r.Next()
		if err != nil {
			return nil, 0, err
		}
		if rec == nil {
			return recs, r.At.UnixNano(), nil
		}
		recs = append(recs, rec)
	}
}

// End says whether c was committed, and makes it part of the memory if so. c may be nil.
func (p *Partition) End(c *Change, committed bool) {
	if c == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.nanos()
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

// finish ends the lease of a settled job and lets its key go on.
func (p *Partition) finish(e *end) {
	l := e.lane
	if e.token != 0 {
		if g := p.grants[e.token]; g != nil {
			if g.open--; g.open == 0 {
				p.drop(g)
			}
		}
		if e.side != nil {
			delete(l.sides, e.id)
			p.unlease(l, e.side)
		} else {
			if b := l.at(e.id.Seq); b != nil {
				b.tokens[e.id.Index] = 0
			}
			l.add(counts{leased: -1})
		}
	}
	if e.hash == 0 || e.park {
		return
	}
	if !e.stays {
		l.keyEnded(e.hash)
		return
	}
	if k := l.keys[e.hash]; k != nil && e.side == nil {
		k.hasHead = false
		l.dropKey(e.hash, k)
	}
}

// drop forgets a lease of which nothing is open.
func (p *Partition) drop(g *grant) {
	delete(p.grants, g.token)
	heap.Remove(&p.expiry, g.place)
}

// revert makes the jobs of c what they were.
func (p *Partition) revert(c *Change, now int64) {
	for i := range c.ends {
		e := &c.ends[i]
		l := e.lane
		held := p.grants[e.token] != nil
		switch {
		case e.park:
			l.unpark(e)
		case e.token == 0:
			l.free(pos{e.id.Seq, e.id.Index})
		case e.side != nil:
			e.side.token &^= settling
			if !held {
				p.freeSide(l, e.side)
			}
		default:
			// A value that another owner settled meanwhile is not in memory any more.
			b := l.at(e.id.Seq)
			if b == nil {
				continue
			}
			b.tokens[e.id.Index] &^= settling
			if !held {
				p.freeJob(l, b, e.id.Index)
			}
		}
		p.offer(l, now)
	}
	c.ends = nil
}

// unpark puts a withheld job back in front of those that are withheld after it.
func (l *lane) unpark(e *end) {
	b := l.at(e.id.Seq)
	if b == nil {
		return
	}
	l.withhold(e.hash, b, pos{e.id.Seq, e.id.Index})
	slices.SortFunc(l.keys[e.hash].waiters, pos.compare)
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
