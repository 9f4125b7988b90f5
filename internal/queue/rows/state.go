package rows

import (
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/log"
	"github.com/weirdata/weir/internal/queue/partition"
	"github.com/weirdata/weir/internal/wire"
)

// The rows of the state. Numbers in keys are 8 bytes big endian, an index 4.
//
//	a                        the commit the state stands at and where its frame ends
//	b lane seq               a value of which some jobs have left the log (Partly)
//	d lane seq index         a dead job
//	g                        the log that the state was made from, where it has a name
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
	rowLog     = 'g'
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
	log.Position
	size  int
	count int
	crc   uint32
}

func (l *location) encode() []byte {
	b := make([]byte, 0, 28)
	b = binary.BigEndian.AppendUint64(b, l.Segment)
	b = binary.BigEndian.AppendUint64(b, uint64(l.Offset))
	b = binary.BigEndian.AppendUint32(b, uint32(l.size))
	b = binary.BigEndian.AppendUint32(b, uint32(l.count))
	return binary.BigEndian.AppendUint32(b, l.crc)
}

func decodeLocation(b []byte) (l location, err error) {
	p := wire.Reader{Rest: b}
	l.Segment, l.Offset = p.Fixed64(), int64(p.Fixed64())
	l.size, l.count, l.crc = int(p.Fixed32()), int(p.Fixed32()), p.Fixed32()
	if p.Bad {
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
	p := wire.Reader{Rest: b}
	if len(key) == 9 {
		l.ID = binary.BigEndian.Uint64(key[1:])
	}
	l.First, l.Tail, l.Jobs, l.Bytes = p.Uvarint(), p.Uvarint(), int64(p.Uvarint()), int64(p.Uvarint())
	l.Retry, l.Parked, l.Dead, l.Retried = int64(p.Uvarint()), int64(p.Uvarint()), int64(p.Uvarint()), int64(p.Uvarint())
	l.Queue = p.Text()
	l.Scope = queue.Scope{Workspace: p.Text(), Source: p.Text(), Destination: p.Text()}
	if p.Bad || l.ID == 0 {
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
	p := wire.Reader{Rest: b}
	v.Seq = binary.BigEndian.Uint64(key[9:])
	v.Count, v.Size = int(p.Uvarint()), int(p.Uvarint())
	for len(p.Rest) > 0 && !p.Bad {
		v.Bits = append(v.Bits, p.Fixed64())
	}
	if p.Bad || v.Count <= 0 || v.Bits != nil && len(v.Bits) != (v.Count+63)/64 {
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
