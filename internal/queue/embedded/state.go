package embedded

import (
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/partition"
)

// The rows of the state. Numbers in keys are 8 bytes big endian, an index 4.
//
//	a                        the commit the state stands at and where its frame ends
//	b lane seq               a value of which some jobs have left the log (Partly)
//	d lane seq index         a dead job
//	i lane seq               where a value is
//	k lane hash seq index    an open side row of an ordering key
//	l lane                   the numbers of a lane
//	m lane seq index         a side row
//	p lane seq index         the record of a side row
//	r lane due seq index     a side row that waits for its time
//	s segment                what is open in a segment, and where its last commit ends
//	x key                    a key-value record
const (
	rowApplied = 'a'
	rowPartly  = 'b'
	rowDead    = 'd'
	rowValue   = 'i'
	rowKey     = 'k'
	rowLane    = 'l'
	rowSide    = 'm'
	rowRecord  = 'p'
	rowDue     = 'r'
	rowSegment = 's'
	rowKV      = 'x'
)

func row(prefix byte, ns ...uint64) []byte {
	b := make([]byte, 1, 1+8*len(ns)+4)
	b[0] = prefix
	for _, n := range ns {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return b
}

// rowEnd is the first key after those that start with prefix.
func rowEnd(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

func idRow(prefix byte, id queue.ID) []byte {
	return binary.BigEndian.AppendUint32(row(prefix, id.Lane, id.Seq), id.Index)
}

// signed makes the order of bytes that of numbers.
func signed(v int64) uint64 { return uint64(v) ^ 1<<63 }

func dueRow(id queue.ID, due int64) []byte {
	return binary.BigEndian.AppendUint32(row(rowDue, id.Lane, signed(due), id.Seq), id.Index)
}

func keyRow(id queue.ID, hash uint64) []byte {
	return binary.BigEndian.AppendUint32(row(rowKey, id.Lane, hash, id.Seq), id.Index)
}

// seqOf reads the number of a value from its key.
func seqOf(key []byte) uint64 { return binary.BigEndian.Uint64(key[9:]) }

// parseID reads seq and index from the end of a key.
func parseID(lane uint64, key []byte) queue.ID {
	tail := key[len(key)-12:]
	return queue.ID{Lane: lane, Seq: binary.BigEndian.Uint64(tail), Index: binary.BigEndian.Uint32(tail[8:])}
}

// location is where a value is.
type location struct {
	place
	size  int
	count int
	crc   uint32
}

func (l *location) encode() []byte {
	b := make([]byte, 0, 28)
	b = binary.BigEndian.AppendUint64(b, l.segment)
	b = binary.BigEndian.AppendUint64(b, uint64(l.offset))
	b = binary.BigEndian.AppendUint32(b, uint32(l.size))
	b = binary.BigEndian.AppendUint32(b, uint32(l.count))
	return binary.BigEndian.AppendUint32(b, l.crc)
}

func decodeLocation(b []byte) (l location, err error) {
	p := parser{b: b}
	l.segment, l.offset = p.fixed64(), int64(p.fixed64())
	l.size, l.count, l.crc = int(p.fixed32()), int(p.fixed32()), p.fixed32()
	if p.bad {
		return l, fmt.Errorf("read the place of a value: %w", queue.ErrCorrupt)
	}
	return l, nil
}

func encodeLane(l *partition.Lane) []byte {
	var b []byte
	for _, v := range [...]uint64{l.First, l.Tail, uint64(l.Jobs), uint64(l.Bytes), uint64(l.Retry), uint64(l.Parked), uint64(l.Dead), uint64(l.Retried)} {
		b = binary.AppendUvarint(b, v)
	}
	for _, s := range [...]string{l.Queue, l.Scope.Workspace, l.Scope.Source, l.Scope.Destination} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return b
}

func decodeLane(key, b []byte) (l partition.Lane, err error) {
	p := parser{b: b}
	if len(key) == 9 {
		l.ID = binary.BigEndian.Uint64(key[1:])
	}
	l.First, l.Tail, l.Jobs, l.Bytes = p.uvarint(), p.uvarint(), int64(p.uvarint()), int64(p.uvarint())
	l.Retry, l.Parked, l.Dead, l.Retried = int64(p.uvarint()), int64(p.uvarint()), int64(p.uvarint()), int64(p.uvarint())
	l.Queue = p.text()
	l.Scope = queue.Scope{Workspace: p.text(), Source: p.text(), Destination: p.text()}
	if p.bad || l.ID == 0 {
		return l, fmt.Errorf("read the numbers of lane %d: %w", l.ID, queue.ErrCorrupt)
	}
	return l, nil
}

func encodePartly(v *partition.Partly) []byte {
	b := binary.AppendUvarint(nil, uint64(v.Count))
	b = binary.AppendUvarint(b, uint64(v.Size))
	for _, w := range v.Bits {
		b = binary.BigEndian.AppendUint64(b, w)
	}
	return b
}

func decodePartly(key, b []byte) (v partition.Partly, err error) {
	p := parser{b: b}
	v.Seq = binary.BigEndian.Uint64(key[9:])
	v.Count, v.Size = int(p.uvarint()), int(p.uvarint())
	for len(p.b) > 0 && !p.bad {
		v.Bits = append(v.Bits, p.fixed64())
	}
	if p.bad || v.Count <= 0 || v.Bits != nil && len(v.Bits) != (v.Count+63)/64 {
		return v, fmt.Errorf("read what has left of value %d: %w", v.Seq, queue.ErrCorrupt)
	}
	return v, nil
}

func encodeSide(s partition.Side) []byte {
	s.Record = nil
	s.Was, s.WasDue, s.WasAttempt = s.State, 0, 0
	return (&partition.Change{Side: []partition.Side{s}}).Encode(nil)
}

func decodeSide(b []byte) (partition.Side, error) {
	c, rest, err := partition.DecodeChange(b)
	if err != nil || len(c.Side) != 1 || len(rest) != 0 {
		return partition.Side{}, fmt.Errorf("read a side row: %w", queue.ErrCorrupt)
	}
	s := c.Side[0]
	s.Was = partition.Gone
	return s, nil
}

// get copies the value of a row; nil when it is not there.
func (s *Store) get(key []byte) ([]byte, error) { return read(s.db, key) }

func read(from pebble.Reader, key []byte) ([]byte, error) {
	v, closer, err := from.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, stateError("read", err)
	}
	out := append(make([]byte, 0, len(v)), v...)
	return out, closer.Close()
}

// stateError says what an error of Pebble means.
func stateError(what string, err error) error {
	if pebble.IsCorruptionError(err) {
		return fmt.Errorf("%s the state: %w: %w", what, err, queue.ErrCorrupt)
	}
	return fmt.Errorf("%s the state: %w", what, err)
}

// seqs is a heap of the numbers of values that have a Partly row.
type seqs []uint64

func (h seqs) Len() int           { return len(h) }
func (h seqs) Less(i, j int) bool { return h[i] < h[j] }
func (h seqs) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *seqs) Push(x any)        { *h = append(*h, x.(uint64)) }
func (h *seqs) Pop() any {
	old := *h
	v := old[len(old)-1]
	*h = old[:len(old)-1]
	return v
}

// apply makes durable commits part of the state, of the numbers of the segments and of
// the partition. Only the committer calls it, and recovery before there is one. replay
// says that no lease is involved. Two batches are written: if only the first reaches the
// disk, replaying its commits writes the same rows again.
func (s *Store) apply(frames []*frame, end place, replay bool) error {
	s.applying.Lock()
	defer s.applying.Unlock()
	a := applier{s: s, b: s.db.NewBatch(), lanes: map[uint64]struct{}{}, segments: map[uint64]struct{}{}}
	defer func() { _ = a.b.Close() }() // it is committed, or is not to be
	for _, f := range frames {
		if err := a.rows(f, end.segment); err != nil {
			return err
		}
	}
	if err := a.b.Commit(pebble.NoSync); err != nil {
		return stateError("write", err)
	}
	_ = a.b.Close() // it is committed
	a.b = s.db.NewBatch()
	for _, f := range frames {
		if err := a.memory(f, end.segment, replay); err != nil {
			return err
		}
	}
	for id := range a.lanes {
		l := s.part.Numbers(id)
		a.set(row(rowLane, id), encodeLane(&l))
		a.forget(id, l.First)
	}
	s.mu.Lock()
	s.segments[end.segment].size = end.offset
	a.segments[end.segment] = struct{}{}
	for n := range a.segments {
		if g := s.segments[n]; g != nil {
			a.set(row(rowSegment, n), row(0, uint64(g.live), uint64(g.bytes), uint64(g.size))[1:])
		} else {
			a.del(row(rowSegment, n))
		}
	}
	s.mu.Unlock()
	last := frames[len(frames)-1].commit
	a.set(row(rowApplied), row(0, last, end.segment, uint64(end.offset), s.nextLane))
	if err := a.b.Commit(pebble.NoSync); err != nil {
		return stateError("write", err)
	}
	s.applied.Store(last)
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
func (a *applier) rows(f *frame, segment uint64) error {
	for i := range f.appends {
		e := &f.appends[i]
		if e.flags&appendMoved != 0 {
			continue
		}
		l := location{place: place{segment, e.offset}, size: len(e.value), count: e.count, crc: e.crc}
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

// moved puts a value that is still open elsewhere. The frames of such commits are applied
// alone, so that what it reads is up to date.
func (a *applier) moved(e *appendEntry, segment uint64) error {
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
	l := location{place: place{segment, e.offset}, size: len(e.value), count: e.count, crc: e.crc}
	if was.place == l.place {
		return nil // replayed
	}
	a.set(key, l.encode())
	a.count(was.segment, -1, -int64(was.size))
	a.count(segment, 1, int64(l.size))
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
	if g := a.s.segments[segment]; g != nil {
		g.live += live
		g.bytes += bytes
	}
}

// memory tells the partition, and writes what depends on it.
func (a *applier) memory(f *frame, segment uint64, replay bool) error {
	s := a.s
	for i := range f.appends {
		e := &f.appends[i]
		if e.flags&appendMoved != 0 {
			if err := a.moved(e, segment); err != nil {
				return err
			}
			continue
		}
		a.lanes[e.lane.ID] = struct{}{}
		a.count(segment, 1, int64(len(e.value)))
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
	a.count(l.segment, -1, -int64(l.size))
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

// partlyRows are the Partly rows of a lane.
type partlyRows struct {
	order seqs
	rows  map[uint64]struct{}
}

func (p *partlyRows) add(seq uint64) {
	if _, ok := p.rows[seq]; !ok {
		p.rows[seq] = struct{}{}
		heap.Push(&p.order, seq)
	}
}
