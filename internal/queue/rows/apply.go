package rows

import (
	"container/heap"
	"encoding/binary"

	"github.com/cockroachdb/pebble/v2"

	"github.com/weirdata/weir/internal/queue/log"
	"github.com/weirdata/weir/internal/queue/partition"
)

// apply makes durable commits part of the state, of the numbers of the segments and of
// the partition. Only the committer calls it, and recovery before there is one. replay
// says that no lease is involved. Two batches are written: if only the first reaches the
// disk, replaying its commits writes the same rows again.
func (s *Store) apply(commits []*transaction, replay bool) error {
	s.applying.Lock()
	defer s.applying.Unlock()
	a := applier{s: s, b: s.db.NewBatch(), lanes: map[uint64]struct{}{}, segments: map[uint64]struct{}{}}
	defer func() { _ = a.b.Close() }() // it is committed, or is not to be
	for _, f := range commits {
		if err := a.rows(f); err != nil {
			return err
		}
	}
	if err := a.b.Commit(pebble.NoSync); err != nil {
		return stateError("write", err)
	}
	_ = a.b.Close() // it is committed
	a.b = s.db.NewBatch()
	for _, f := range commits {
		if err := a.memory(f, replay); err != nil {
			return err
		}
	}
	for id := range a.lanes {
		l := s.part.Numbers(id)
		a.set(row(rowLane, id), encodeLane(&l))
		a.forget(id, l.First)
	}
	s.mu.Lock()
	for n := range a.segments {
		if u := s.usage[n]; u != nil {
			a.set(row(rowSegment, n), row(0, uint64(u.live), uint64(u.bytes), uint64(u.end))[1:])
		} else {
			a.del(row(rowSegment, n))
		}
	}
	s.mu.Unlock()
	last := commits[len(commits)-1]
	a.set(row(rowApplied), row(0, last.Number, last.End.Segment, uint64(last.End.Offset), s.nextLane))
	if id := s.log.Identity(); id != "" {
		a.set(row(rowLog), []byte(id))
	}
	if err := a.b.Commit(pebble.NoSync); err != nil {
		return stateError("write", err)
	}
	s.applied.Store(last.Number)
	return a.err
}

// applier is one call of apply.
type applier struct {
	s        *Store
	b        *pebble.Batch
	lanes    map[uint64]struct{}
	segments map[uint64]struct{}
	err      error
}

func (a *applier) set(key, value []byte) {
	if err := a.b.Set(key, value, nil); err != nil && a.err == nil {
		a.err = stateError("write", err)
	}
}

func (a *applier) del(key []byte) {
	if err := a.b.Delete(key, nil); err != nil && a.err == nil {
		a.err = stateError("write", err)
	}
}

// rows writes what does not depend on the partition.
func (a *applier) rows(f *transaction) error {
	for i := range f.appends {
		e := &f.appends[i]
		if e.flags&appendMoved != 0 {
			continue
		}
		l := e.location()
		a.set(row(rowValue, e.lane.ID, e.seq), l.encode())
	}
	for i := range f.writes {
		w := &f.writes[i]
		key := append([]byte{rowKV}, w.key...)
		if w.put {
			a.set(key, w.value)
		} else {
			a.del(key)
		}
	}
	if f.change != nil {
		for i := range f.change.Side {
			a.side(&f.change.Side[i])
		}
	}
	return a.err
}

// moved puts a value that is still open elsewhere. Such commits are applied
// alone, so that what it reads is up to date.
func (a *applier) moved(e *appendEntry) error {
	key := row(rowValue, e.lane.ID, e.seq)
	old, err := a.s.get(key)
	if err != nil {
		return err
	}
	if old == nil {
		return nil // settled meanwhile: dead where it is now
	}
	was, err := decodeLocation(old)
	if err != nil {
		return err
	}
	l := e.location()
	if was.Position == l.Position {
		return nil // replayed
	}
	a.set(key, l.encode())
	a.count(was.Segment, -1, -int64(was.size))
	a.count(l.Segment, 1, int64(l.size))
	return nil
}

func (a *applier) side(s *partition.Side) {
	id := s.ID
	if s.Record != nil {
		v := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(s.Record)), checksum(s.Record))
		a.set(idRow(rowRecord, id), append(v, s.Record...))
	}
	switch s.Was {
	case partition.Retry:
		a.del(dueRow(id, s.WasDue))
	case partition.Dead:
		a.del(idRow(rowDead, id))
	}
	if s.Hash != 0 && (s.Was == partition.Retry || s.Was == partition.Parked) && !s.Open() {
		a.del(keyRow(id, s.Hash))
	}
	switch s.State {
	case partition.Gone:
		a.del(idRow(rowSide, id))
		a.del(idRow(rowRecord, id))
		return
	case partition.Retry:
		a.set(dueRow(id, s.Due), nil)
	case partition.Dead:
		a.set(idRow(rowDead, id), nil)
	}
	if s.Hash != 0 && s.Open() {
		a.set(keyRow(id, s.Hash), nil)
	}
	a.set(idRow(rowSide, id), encodeSide(*s))
}

// count changes what is open in a segment.
func (a *applier) count(segment uint64, live, bytes int64) {
	a.s.mu.Lock()
	defer a.s.mu.Unlock()
	a.segments[segment] = struct{}{}
	if u := a.s.usage[segment]; u != nil {
		u.live += live
		u.bytes += bytes
	}
}

// reached notes that the log goes on to the end of a commit.
func (a *applier) reached(end log.Position) {
	a.s.mu.Lock()
	defer a.s.mu.Unlock()
	a.segments[end.Segment] = struct{}{}
	u := a.s.usage[end.Segment]
	if u == nil {
		u = &usage{}
		a.s.usage[end.Segment] = u
	}
	u.end = end.Offset
}

// memory tells the partition, and writes what depends on it.
func (a *applier) memory(f *transaction, replay bool) error {
	s := a.s
	a.reached(f.End)
	for i := range f.appends {
		e := &f.appends[i]
		if e.flags&appendMoved != 0 {
			if err := a.moved(e); err != nil {
				return err
			}
			continue
		}
		a.lanes[e.lane.ID] = struct{}{}
		a.count(e.at.Segment, 1, int64(len(e.value)))
		if replay && e.flags&appendNew != 0 {
			s.learn(e.lane)
		}
		size := len(e.value)
		if !replay {
			e.kept = s.recent.keep(e.lane.ID, e.seq, e.value)
		}
		if err := s.part.Appended(e.lane, e.seq, e.count, size); err != nil {
			return err
		}
		s.tails[e.lane.ID] = e.seq + 1
	}
	c := f.change
	if c.Empty() {
		if !replay {
			s.part.End(c, true)
		}
		return nil
	}
	if replay {
		if err := s.part.Replay(c); err != nil {
			return err
		}
	} else {
		s.part.End(c, true)
	}
	type valueKey struct{ lane, seq uint64 }
	open := map[valueKey]struct{}{}
	for _, l := range s.part.State(c) {
		a.lanes[l.ID] = struct{}{}
		for i := range l.Partly {
			v := &l.Partly[i]
			if v.Bits != nil {
				open[valueKey{l.ID, v.Seq}] = struct{}{}
			}
			a.keepPartly(l.ID, v)
		}
	}
	for i := range c.Left {
		f := &c.Left[i]
		if _, ok := open[valueKey{f.Lane, f.Seq}]; ok {
			continue
		}
		if err := a.settled(f); err != nil {
			return err
		}
	}
	return nil
}

// settled forgets a value whose last job has left.
func (a *applier) settled(f *partition.Left) error {
	key := row(rowValue, f.Lane, f.Seq)
	v, err := a.s.get(key)
	if err != nil {
		return err
	}
	if v == nil {
		return nil
	}
	l, err := decodeLocation(v)
	if err != nil {
		return err
	}
	a.count(l.Segment, -1, -int64(l.size))
	a.del(key)
	return nil
}

func (a *applier) keepPartly(lane uint64, v *partition.Partly) {
	h := a.s.partly[lane]
	if h == nil {
		h = &partlyRows{rows: map[uint64]struct{}{}}
		a.s.partly[lane] = h
	}
	h.add(v.Seq)
	a.set(row(rowPartly, lane, v.Seq), encodePartly(v))
}

// forget removes the Partly rows below first.
func (a *applier) forget(lane, first uint64) {
	h := a.s.partly[lane]
	for h != nil && len(h.order) > 0 && h.order[0] < first {
		seq := heap.Pop(&h.order).(uint64)
		delete(h.rows, seq)
		a.del(row(rowPartly, lane, seq))
	}
}
