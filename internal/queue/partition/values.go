package partition

import (
	"bytes"
	"container/list"
	"context"
	"fmt"
	"hash/crc32"
	"slices"
	"unsafe"

	"github.com/weirdata/weir/internal/queue"
)

// A value is read whole once, when its checksum is verified and its records are found. What
// is known of one that was handed out in part is kept here, so that the rest of it need not
// be read whole again: its bytes while there is room, and only where its records are, with a
// checksum of each, when room is short. Then a record is read alone.

const (
	openBytes = 16 << 20 // most memory of the values that are kept, unless Config says otherwise
	openPart  = 32       // of the memory limit, at the most
	openLeast = 1 << 20
	openEach  = 256 // what an entry takes beside its bytes and numbers, about
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// scanned is a value of which all is known that the scan asks for.
type scanned struct {
	opened
	hashes []uint64 // nil when no job is ordered
	due    []int64  // nil when no job has a time
}

// openValues are the values that were read and are not handed out whole, up to a number of
// bytes. It is guarded by Partition.mu, and so is what changes of the values in it.
type openValues struct {
	limit int
	bytes int
	byKey map[valueKey]*list.Element
	whole list.List // with their bytes, used last in front
	bare  list.List // without
}

type openEntry struct {
	key  valueKey
	size int
	v    *scanned
}

// get is the value k, nil when it is not kept.
func (o *openValues) get(k valueKey) *scanned {
	el := o.byKey[k]
	if el == nil {
		return nil
	}
	e := el.Value.(*openEntry)
	o.of(e).MoveToFront(el)
	return e.v
}

func (o *openValues) of(e *openEntry) *list.List {
	if e.v.data == nil {
		return &o.bare
	}
	return &o.whole
}

// put keeps a value.
func (o *openValues) put(k valueKey, v *scanned) {
	if el := o.byKey[k]; el != nil {
		if el.Value.(*openEntry).v == v {
			return
		}
		o.drop(k)
	}
	if o.byKey == nil {
		o.byKey = map[valueKey]*list.Element{}
	}
	if v.data != nil && v.held() > 2*len(v.data) {
		v.data, v.in = bytes.Clone(v.data), nil
	}
	e := &openEntry{key: k, v: v, size: v.memory()}
	o.byKey[k] = o.of(e).PushFront(e)
	o.bytes += e.size
	for o.bytes > o.limit && o.shrink() {
	}
}

// drop forgets a value.
func (o *openValues) drop(k valueKey) {
	if el := o.byKey[k]; el != nil {
		e := el.Value.(*openEntry)
		o.of(e).Remove(el)
		o.bytes -= e.size
		delete(o.byKey, k)
	}
}

// shrink lets go of the bytes of the value that was used least lately or, when there are none,
// of all of it; false when nothing is kept.
func (o *openValues) shrink() bool {
	if el := o.whole.Back(); el != nil {
		e := o.whole.Remove(el).(*openEntry)
		e.v.bare()
		o.bytes -= e.size
		e.size = e.v.memory()
		o.bytes += e.size
		o.byKey[e.key] = o.bare.PushFront(e)
		return true
	}
	el := o.bare.Back()
	if el != nil {
		o.drop(el.Value.(*openEntry).key)
	}
	return el != nil
}

// memory is what v takes, about.
func (v *scanned) memory() int {
	return openEach + len(v.data) + 4*len(v.ends) + 4*len(v.sums) + 8*len(v.hashes) + 8*len(v.due)
}

// bare lets go of the bytes of v.
func (v *scanned) bare() {
	v.sums = make([]uint32, v.count())
	for i := range v.sums {
		v.sums[i] = crc32.Checksum(v.data[v.ends[i]:v.ends[i+1]], castagnoli)
	}
	v.data, v.in = nil, nil
}

// opened is a value taken apart.
type opened struct {
	seq  uint64
	at   int64  // when it was appended, unix ns
	data []byte // nil: only where its records are is known
	in   []byte // the memory that data is part of; nil when it is its own
	ends []uint32
	sums []uint32 // checksums of the records, when data is nil
	// first is the job of the first record, which is data[ends[0]:ends[1]]: 0, unless these
	// are the records of some jobs alone.
	first uint32
}

// openValue takes a value of a lane apart.
func openValue(lane uint64, v Value) (opened, error) {
	r, err := queue.OpenValue(v.Data)
	if err != nil {
		return opened{}, fmt.Errorf("read value %d of lane %d: %w", v.Seq, lane, err)
	}
	o := opened{seq: v.Seq, at: r.At.UnixNano(), data: v.Data, in: v.In, ends: make([]uint32, 1, r.Count+1)}
	end := uint32(queue.HeaderSize)
	o.ends[0] = end
	for {
		rec, err := r.Next()
		if err != nil {
			return opened{}, fmt.Errorf("read value %d of lane %d: %w", v.Seq, lane, err)
		}
		if rec == nil {
			return o, nil
		}
		end += uint32(len(rec))
		o.ends = append(o.ends, end)
	}
}

// scanValue reads the heads of a value.
func scanValue(lane uint64, v Value) (*scanned, error) {
	o, err := openValue(lane, v)
	if err != nil {
		return nil, err
	}
	s := &scanned{opened: o}
	for i := range uint32(s.count()) {
		head, err := queue.ReadHead(s.record(i))
		if err != nil {
			return nil, fmt.Errorf("read job %d-%d-%d: %w", lane, v.Seq, i, err)
		}
		if head.Hash != 0 {
			if s.hashes == nil {
				s.hashes = make([]uint64, s.count())
			}
			s.hashes[i] = head.Hash
		}
		if head.NotBefore != 0 {
			if s.due == nil {
				s.due = make([]int64, s.count())
			}
			s.due[i] = head.NotBefore
		}
	}
	return s, nil
}

// dueOf is the time before which job i is not handed out, 0 without.
func (v *scanned) dueOf(i uint32) int64 {
	if v.due == nil {
		return 0
	}
	return v.due[i]
}

// count is how many records there are.
func (o *opened) count() int { return len(o.ends) - 1 }

// size is the size of the record of job i; 0 when there is none.
func (o *opened) size(i uint32) int {
	if i -= o.first; int(i) >= o.count() {
		return 0
	}
	return int(o.ends[i+1] - o.ends[i])
}

// record is the record of job i.
func (o *opened) record(i uint32) []byte {
	i -= o.first
	return o.data[o.ends[i]:o.ends[i+1]:o.ends[i+1]]
}

// held is how much memory is held by whoever holds a record.
func (o *opened) held() int { return max(cap(o.in), cap(o.data)) }

// base tells the memory of one value from that of another.
func (o *opened) base() *byte {
	if o.in != nil {
		return unsafe.SliceData(o.in)
	}
	return unsafe.SliceData(o.data)
}

// alone is the records of the jobs from from to before to, in memory of their own. With data
// they are those, as they were read.
func (o *opened) alone(from, to uint32, data []byte) opened {
	f, t := from-o.first, to-o.first
	start := o.ends[f]
	if data == nil {
		data = slices.Clone(o.data[start:o.ends[t]])
	}
	out := opened{seq: o.seq, at: o.at, first: from, data: data, ends: make([]uint32, 0, t-f+1)}
	for _, end := range o.ends[f : t+1] {
		out.ends = append(out.ends, end-start)
	}
	return out
}

// part reads the records of the jobs from from to before to of a value of which only is
// known where they are.
func (p *Partition) part(ctx context.Context, lane uint64, v *opened, from, to uint32) (opened, error) {
	f, t := from-v.first, to-v.first
	start, size := v.ends[f], int(v.ends[t]-v.ends[f])
	data, err := p.cfg.Storage.Part(ctx, lane, v.seq, int(start), size)
	if err != nil {
		return opened{}, fmt.Errorf("read jobs %d-%d-%d to %d: %w", lane, v.seq, from, to-1, err)
	}
	good := len(data) == size
	for i := f; good && i < t; i++ {
		good = crc32.Checksum(data[v.ends[i]-start:v.ends[i+1]-start], castagnoli) == v.sums[i]
	}
	if !good {
		p.mu.Lock()
		p.values.drop(valueKey{lane, v.seq}) // the next to read it finds out where it is damaged
		p.mu.Unlock()
		return opened{}, fmt.Errorf("read jobs %d-%d-%d to %d: they are not what they were: %w", lane, v.seq, from, to-1, queue.ErrCorrupt)
	}
	return v.alone(from, to, data), nil
}

// value is one value of the log: what is kept of it, or as read now, which is kept then.
func (p *Partition) value(ctx context.Context, lane, seq uint64) (scanned, error) {
	k := valueKey{lane, seq}
	p.mu.Lock()
	if v := p.values.get(k); v != nil {
		defer p.mu.Unlock()
		return *v, nil
	}
	p.mu.Unlock()
	return p.readValue(ctx, k)
}

// readValue reads one value of the log, whole.
func (p *Partition) readValue(ctx context.Context, k valueKey) (scanned, error) {
	vs, err := p.cfg.Storage.Values(ctx, k.lane, k.seq, 1)
	if err != nil {
		return scanned{}, fmt.Errorf("read value %d of lane %d: %w", k.seq, k.lane, err)
	}
	if len(vs) == 0 || vs[0].Seq != k.seq {
		return scanned{}, fmt.Errorf("read value %d of lane %d: it is not there: %w", k.seq, k.lane, queue.ErrCorrupt)
	}
	v, err := scanValue(k.lane, vs[0])
	if err != nil {
		return scanned{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	out := *v
	p.values.put(k, v)
	return out, nil
}
