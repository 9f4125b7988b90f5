package rows

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/log"
	"github.com/weirdata/weir/internal/queue/partition"
)

// This file is what the partition reads: partition.Storage.

// errMoved says that a value was put elsewhere while it was read.
var errMoved = errors.New("the value was moved while it was read")

// Values implements partition.Storage. What it finds in memory is not read again: only
// the partition may call it.
func (s *Store) Values(ctx context.Context, lane, seq uint64, bytes int) ([]partition.Value, error) {
	if vs := s.recent.take(lane, seq, bytes); len(vs) > 0 {
		return vs, nil
	}
	return s.stored(ctx, lane, seq, bytes)
}

// stored reads values from the log, as Values does, and those that follow a gap.
func (s *Store) stored(ctx context.Context, lane, seq uint64, bytes int) ([]partition.Value, error) {
	for {
		vs, err := s.values(ctx, lane, seq, bytes)
		if !errors.Is(err, errMoved) {
			return vs, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
}

func (s *Store) values(ctx context.Context, lane, seq uint64, bytes int) ([]partition.Value, error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: row(rowValue, lane, seq), UpperBound: rowEnd(row(rowValue, lane))})
	if err != nil {
		return nil, stateError("read", err)
	}
	defer it.Close()
	var where []location
	var out []partition.Value
	total := 0
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, stateError("read", err)
		}
		l, err := decodeLocation(v)
		if err != nil {
			return nil, err
		}
		n := seqOf(it.Key())
		if len(out) > 0 && (n != out[len(out)-1].Seq+1 || total+l.size > bytes) {
			break
		}
		total += l.size
		where = append(where, l)
		out = append(out, partition.Value{Seq: n})
	}
	if err := it.Error(); err != nil {
		return nil, stateError("read", err)
	}
	for from := 0; from < len(out); {
		to := s.span(where, from)
		if err := s.load(ctx, where[from:to], out[from:to]); err != nil {
			return nil, fmt.Errorf("read values %d to %d of lane %d: %w", out[from].Seq, out[to-1].Seq, lane, err)
		}
		from = to
	}
	return out, nil
}

// span is how far from on values are close enough to each other to be read at once.
func (s *Store) span(where []location, from int) int {
	to := from + 1
	size := int64(where[from].size)
	for to < len(where) {
		l := &where[to]
		size += int64(l.size)
		if l.Segment != where[from].Segment || l.Offset < where[to-1].Offset || l.Offset+int64(l.size)-where[from].Offset > size+size/4+4096 {
			break
		}
		to++
	}
	return to
}

// load reads values that lie in one segment, in order.
func (s *Store) load(ctx context.Context, where []location, out []partition.Value) error {
	first, last := &where[0], &where[len(where)-1]
	buf := partition.Buffer(int(last.Offset + int64(last.size) - first.Offset))
	if err := s.readLog(ctx, buf, first.Position); err != nil {
		return err
	}
	for i := range where {
		l := &where[i]
		at := l.Offset - first.Offset
		b := buf[at : at+int64(l.size) : at+int64(l.size)]
		if checksum(b) != l.crc {
			return fmt.Errorf("the checksum of value %d, %d bytes at %d of segment %d, does not match: %w", out[i].Seq, l.size, l.Offset, l.Segment, queue.ErrCorrupt)
		}
		out[i].Data = b
		if len(where) > 1 {
			out[i].In = buf
		}
	}
	return nil
}

// Part implements partition.Storage. What is kept in memory is read there, and stays.
func (s *Store) Part(ctx context.Context, lane, seq uint64, from, size int) ([]byte, error) {
	if b := s.recent.part(lane, seq, from, size); b != nil {
		return b, nil
	}
	for {
		b, err := s.partOf(ctx, lane, seq, from, size)
		if !errors.Is(err, errMoved) {
			return b, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
}

func (s *Store) partOf(ctx context.Context, lane, seq uint64, from, size int) ([]byte, error) {
	v, err := s.get(row(rowValue, lane, seq))
	if err != nil {
		return nil, err
	}
	if v == nil {
		return nil, fmt.Errorf("read value %d of lane %d: it is not there: %w", seq, lane, queue.ErrCorrupt)
	}
	l, err := decodeLocation(v)
	if err != nil {
		return nil, err
	}
	if from+size > l.size {
		return nil, fmt.Errorf("read %d bytes at %d of value %d of lane %d: it has %d: %w", size, from, seq, lane, l.size, queue.ErrCorrupt)
	}
	at := l.Position
	at.Offset += int64(from)
	buf := partition.Buffer(size)
	return buf, s.readLog(ctx, buf, at)
}

// readLog fills b with data of the log; errMoved when it was trimmed.
func (s *Store) readLog(ctx context.Context, b []byte, at log.Position) error {
	err := s.log.ReadAt(ctx, b, at)
	if errors.Is(err, log.ErrTrimmed) {
		return errMoved
	}
	return err
}

// Due implements partition.Storage.
func (s *Store) Due(_ context.Context, lane uint64, from partition.DueKey, until int64, limit, bytes int) ([]partition.Side, int64, error) {
	lower := binary.BigEndian.AppendUint32(row(rowDue, lane, signed(from.Due), from.Seq), from.Index)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: append(lower, 0), UpperBound: rowEnd(row(rowDue, lane))})
	if err != nil {
		return nil, 0, stateError("read", err)
	}
	defer it.Close()
	var rows []partition.Side
	next := int64(0)
	for ok := it.First(); ok; ok = it.Next() {
		k := it.Key()
		due := int64(binary.BigEndian.Uint64(k[9:]) ^ 1<<63)
		if due > until || len(rows) == limit {
			next = due
			break
		}
		r, err := s.side(parseID(lane, k), true)
		if err != nil {
			return nil, 0, err
		}
		// The row may have changed between the look at the index and the look at it.
		if r.State != partition.Retry || r.Due != due {
			continue
		}
		if bytes -= len(r.Record); bytes < 0 && len(rows) > 0 {
			next = due
			break
		}
		rows = append(rows, r)
	}
	if err := it.Error(); err != nil {
		return nil, 0, stateError("read", err)
	}
	return rows, next, nil
}

// side reads one side row; zero when it is not there.
func (s *Store) side(id queue.ID, record bool) (partition.Side, error) {
	v, err := s.get(idRow(rowSide, id))
	if err != nil || v == nil {
		return partition.Side{}, err
	}
	r, err := decodeSide(v)
	if err != nil {
		return r, fmt.Errorf("job %s: %w", id, err)
	}
	if !record {
		return r, nil
	}
	rec, err := s.get(idRow(rowRecord, id))
	if err != nil {
		return r, err
	}
	if rec == nil {
		if v, err = s.get(idRow(rowSide, id)); err == nil && v == nil {
			return partition.Side{}, nil
		}
	}
	if len(rec) < 4 || checksum(rec[4:]) != binary.BigEndian.Uint32(rec) {
		return r, fmt.Errorf("job %s: the checksum of its record does not match: %w", id, queue.ErrCorrupt)
	}
	r.Record = rec[4:]
	return r, nil
}

// Heads implements partition.Storage.
func (s *Store) Heads(_ context.Context, lane uint64, hashes []uint64) ([]partition.Side, error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: row(rowKey, lane), UpperBound: rowEnd(row(rowKey, lane))})
	if err != nil {
		return nil, stateError("read", err)
	}
	defer it.Close()
	out := make([]partition.Side, len(hashes))
	for i, h := range hashes {
		if it.SeekGE(row(rowKey, lane, h)) && binary.BigEndian.Uint64(it.Key()[9:]) == h {
			if out[i], err = s.head(it, lane, h); err != nil {
				return nil, err
			}
		}
		if err := it.Error(); err != nil {
			return nil, stateError("read", err)
		}
	}
	return out, nil
}

// head is the first open row of the key that it stands at; a zero one when there is none.
func (s *Store) head(it *pebble.Iterator, lane, hash uint64) (partition.Side, error) {
	for ok := true; ok && binary.BigEndian.Uint64(it.Key()[9:]) == hash; ok = it.Next() {
		// The row may have ended since the look at the index: then the next one is the head.
		if r, err := s.side(parseID(lane, it.Key()), false); err != nil || r.Open() {
			return r, err
		}
	}
	return partition.Side{}, nil
}

// Sweep implements partition.Storage.
func (s *Store) Sweep(_ context.Context, lane, after uint64, limit int) ([]partition.Side, error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: row(rowKey, lane), UpperBound: rowEnd(row(rowKey, lane))})
	if err != nil {
		return nil, stateError("read", err)
	}
	defer it.Close()
	var out []partition.Side
	ok := it.First()
	if after != 0 {
		ok = it.SeekGE(rowEnd(row(rowKey, lane, after)))
	}
	for ok && len(out) < limit {
		h := binary.BigEndian.Uint64(it.Key()[9:])
		r, err := s.head(it, lane, h)
		if err != nil {
			return nil, err
		}
		if r.Open() {
			out = append(out, r)
		}
		end := rowEnd(row(rowKey, lane, h))
		ok = end != nil && it.SeekGE(end)
	}
	if err := it.Error(); err != nil {
		return nil, stateError("read", err)
	}
	return out, nil
}
