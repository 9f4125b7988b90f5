package embedded

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/partition"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

const (
	frameHeader = 32
	frameMagic  = 0x57656972
	maxFrame    = 1 << 30 // bytes of meta, and of data
)

const (
	appendNew   = 1 << iota // the lane is new: its name follows
	appendMoved             // the value was appended before and is only put elsewhere
)

const writePut = 1

// place is where bytes of the log are.
type place struct {
	segment uint64
	offset  int64
}

// appendEntry is one value in a frame.
type appendEntry struct {
	lane   partition.Lane // ID, and when new queue and scope
	seq    uint64
	count  int
	flags  byte
	crc    uint32
	value  []byte
	offset int64 // of the value in the segment
	kept   bool  // the value belongs to Store.recent, or to who took it there
}

// writeEntry is one record put or deleted in a frame.
type writeEntry struct {
	key, value []byte
	put        bool
	crc        uint32
}

// frame is one commit.
type frame struct {
	commit  uint64
	group   uint64 // the first commit that was written together with this one
	appends []appendEntry
	change  *partition.Change
	writes  []writeEntry
}

var noChange = &partition.Change{}

// encode appends the frame to dst, whose end is at offset at of its segment, and sets the
// offsets of the values.
func (f *frame) encode(dst []byte, at int64) ([]byte, error) {
	start := len(dst)
	dst = append(dst, make([]byte, frameHeader)...)
	dst = binary.AppendUvarint(dst, uint64(len(f.appends)))
	data := 0
	for i := range f.appends {
		a := &f.appends[i]
		dst = binary.AppendUvarint(dst, a.lane.ID)
		dst = binary.AppendUvarint(dst, a.seq)
		dst = binary.AppendUvarint(dst, uint64(a.count))
		dst = binary.AppendUvarint(dst, uint64(len(a.value)))
		dst = append(dst, a.flags)
		dst = binary.BigEndian.AppendUint32(dst, a.crc)
		if a.flags&appendNew != 0 {
			for _, s := range [...]string{a.lane.Queue, a.lane.Scope.Workspace, a.lane.Scope.Source, a.lane.Scope.Destination} {
				dst = binary.AppendUvarint(dst, uint64(len(s)))
				dst = append(dst, s...)
			}
		}
		data += len(a.value)
	}
	c := f.change
	if c == nil {
		c = noChange
	}
	dst = c.Encode(dst)
	dst = binary.AppendUvarint(dst, uint64(len(f.writes)))
	for i := range f.writes {
		w := &f.writes[i]
		dst = binary.AppendUvarint(dst, uint64(len(w.key)))
		dst = append(dst, w.key...)
		if !w.put {
			dst = append(dst, 0)
			continue
		}
		dst = append(dst, writePut)
		dst = binary.AppendUvarint(dst, uint64(len(w.value)))
		dst = binary.BigEndian.AppendUint32(dst, w.crc)
		data += len(w.value)
	}
	meta := len(dst) - start - frameHeader
	if meta > maxFrame || data > maxFrame {
		return dst[:start], fmt.Errorf("one transaction has more than %d bytes: split it", maxFrame)
	}
	h := dst[start:]
	binary.BigEndian.PutUint32(h[4:], frameMagic)
	binary.BigEndian.PutUint64(h[8:], f.commit)
	binary.BigEndian.PutUint64(h[16:], f.group)
	binary.BigEndian.PutUint32(h[24:], uint32(meta))
	binary.BigEndian.PutUint32(h[28:], uint32(data))
	binary.BigEndian.PutUint32(h, checksum(h[4:]))
	for i := range f.appends {
		f.appends[i].offset = at + int64(len(dst)-start)
		dst = append(dst, f.appends[i].value...)
	}
	for i := range f.writes {
		dst = append(dst, f.writes[i].value...)
	}
	return dst, nil
}

// errFrame says that no valid frame starts at a place; what follows decides whether that
// is the end of the log or damage.
type errFrame struct{ what string }

func (e errFrame) Error() string { return e.what }

// frameSize is the size of the frame that b starts with, and its commit, from its header.
func frameSize(b []byte) (size int64, commit uint64, ok bool) {
	if len(b) < frameHeader || binary.BigEndian.Uint32(b[4:]) != frameMagic {
		return 0, 0, false
	}
	meta, data := binary.BigEndian.Uint32(b[24:]), binary.BigEndian.Uint32(b[28:])
	if meta > maxFrame || data > maxFrame {
		return 0, 0, false
	}
	return frameHeader + int64(meta) + int64(data), binary.BigEndian.Uint64(b[8:]), true
}

// decodeFrame reads the frame that b starts with, at offset at of its segment, and
// returns its size. Values share memory with b. Every checksum is verified.
func decodeFrame(b []byte, at int64) (*frame, int64, error) {
	size, commit, ok := frameSize(b)
	if !ok {
		return nil, 0, errFrame{"no frame starts here"}
	}
	if size > int64(len(b)) {
		return nil, 0, errFrame{"the frame goes on beyond the end"}
	}
	meta := int(binary.BigEndian.Uint32(b[24:]))
	if checksum(b[4:frameHeader+meta]) != binary.BigEndian.Uint32(b) {
		return nil, 0, errFrame{"the checksum of the frame does not match"}
	}
	f := &frame{commit: commit, group: binary.BigEndian.Uint64(b[16:])}
	p := parser{b: b[frameHeader : frameHeader+meta]}
	data := b[frameHeader+meta : size]
	next := func(n uint64) []byte {
		if n > uint64(len(data)) {
			p.bad = true
			return nil
		}
		out := data[:n:n]
		data = data[n:]
		return out
	}
	for n := p.uvarint(); n > 0 && !p.bad; n-- {
		a := appendEntry{lane: partition.Lane{ID: p.uvarint()}, seq: p.uvarint(), count: int(p.uvarint())}
		length := p.uvarint()
		a.flags, a.crc = p.byte(), p.fixed32()
		if a.flags&appendNew != 0 {
			a.lane.Queue = p.text()
			a.lane.Scope = queue.Scope{Workspace: p.text(), Source: p.text(), Destination: p.text()}
		}
		a.offset = at + size - int64(len(data))
		a.value = next(length)
		f.appends = append(f.appends, a)
	}
	if !p.bad {
		var err error
		if f.change, p.b, err = partition.DecodeChange(p.b); err != nil {
			return nil, 0, errFrame{err.Error()}
		}
	}
	for n := p.uvarint(); n > 0 && !p.bad; n-- {
		w := writeEntry{key: p.take(p.uvarint()), put: p.byte() == writePut}
		if w.put {
			length := p.uvarint()
			w.crc = p.fixed32()
			w.value = next(length)
		}
		f.writes = append(f.writes, w)
	}
	if p.bad || len(p.b) != 0 || len(data) != 0 {
		return nil, 0, errFrame{"the fields of the frame do not fit"}
	}
	for i := range f.appends {
		if checksum(f.appends[i].value) != f.appends[i].crc {
			return nil, 0, errFrame{"the checksum of a value does not match"}
		}
	}
	for i := range f.writes {
		if checksum(f.writes[i].value) != f.writes[i].crc && f.writes[i].put {
			return nil, 0, errFrame{"the checksum of a record does not match"}
		}
	}
	return f, size, nil
}

// parser takes bytes apart; bad is set by the first thing that does not fit.
type parser struct {
	b   []byte
	bad bool
}

func (p *parser) uvarint() uint64 {
	v, n := binary.Uvarint(p.b)
	if n <= 0 {
		p.bad, p.b = true, nil
		return 0
	}
	p.b = p.b[n:]
	return v
}

func (p *parser) take(n uint64) []byte {
	if n > uint64(len(p.b)) {
		p.bad, p.b = true, nil
		return nil
	}
	out := p.b[:n:n]
	p.b = p.b[n:]
	return out
}

func (p *parser) text() string { return string(p.take(p.uvarint())) }

func (p *parser) byte() byte {
	if b := p.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (p *parser) fixed32() uint32 {
	if b := p.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (p *parser) fixed64() uint64 {
	if b := p.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}
