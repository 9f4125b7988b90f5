package rows

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/log"
	"github.com/weirdata/weir/internal/queue/partition"
	"github.com/weirdata/weir/internal/wire"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

const (
	appendNew   = 1 << iota // the lane is new: its name follows
	appendMoved             // the value was appended before and is only put elsewhere
)

const writePut = 1

// appendEntry is one value in a transaction.
type appendEntry struct {
	lane  partition.Lane // ID, and when new queue and scope
	seq   uint64
	count int
	flags byte
	crc   uint32
	value []byte
	at    log.Position // of the value
	kept  bool         // the value belongs to Store.recent, or to who took it there
}

func (a *appendEntry) location() location {
	return location{Position: a.at, size: len(a.value), count: a.count, crc: a.crc}
}

// writeEntry is one record put or deleted in a transaction.
type writeEntry struct {
	key, value []byte
	put        bool
	crc        uint32
}

// transaction is what one entry of the log says.
type transaction struct {
	log.Entry
	appends []appendEntry
	change  *partition.Change
	writes  []writeEntry
}

var noChange = &partition.Change{}

// encode sets head and data of the entry, and appends them to what it is given: the bytes
// of heads, and the pieces of data.
func (f *transaction) encode(dst []byte, pieces [][]byte) ([]byte, [][]byte, error) {
	start, first := len(dst), len(pieces)
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
		pieces = append(pieces, a.value)
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
		pieces = append(pieces, w.value)
	}
	if len(dst)-start > log.MaxPart || data > log.MaxPart {
		return dst[:start], pieces[:first], log.TooLarge()
	}
	f.Head, f.Data = dst[start:len(dst):len(dst)], pieces[first:len(pieces):len(pieces)]
	return dst, pieces, nil
}

// place notes where the values are, now that the entry is in the log.
func (f *transaction) place() {
	at := f.At
	for i := range f.appends {
		f.appends[i].at = at
		at.Offset += int64(len(f.appends[i].value))
	}
}

// decode reads the transaction of an entry of the log. Values share memory with it. Every
// checksum of data is verified.
func decode(e *log.Entry) (*transaction, error) {
	f := &transaction{Entry: *e}
	p := wire.Reader{Rest: e.Head}
	data := e.Data[0]
	next := func(n uint64) []byte {
		if n > uint64(len(data)) {
			p.Bad = true
			return nil
		}
		out := data[:n:n]
		data = data[n:]
		return out
	}
	for n := p.Uvarint(); n > 0 && !p.Bad; n-- {
		a := appendEntry{lane: partition.Lane{ID: p.Uvarint()}, seq: p.Uvarint(), count: int(p.Uvarint())}
		length := p.Uvarint()
		a.flags, a.crc = p.Byte(), p.Fixed32()
		if a.flags&appendNew != 0 {
			a.lane.Queue = p.Text()
			a.lane.Scope = queue.Scope{Workspace: p.Text(), Source: p.Text(), Destination: p.Text()}
		}
		a.value = next(length)
		f.appends = append(f.appends, a)
	}
	if !p.Bad {
		var err error
		if f.change, p.Rest, err = partition.DecodeChange(p.Rest); err != nil {
			return nil, log.Unreadable{What: err.Error()}
		}
	}
	for n := p.Uvarint(); n > 0 && !p.Bad; n-- {
		w := writeEntry{key: p.Take(p.Uvarint()), put: p.Byte() == writePut}
		if w.put {
			length := p.Uvarint()
			w.crc = p.Fixed32()
			w.value = next(length)
		}
		f.writes = append(f.writes, w)
	}
	if p.Bad || len(p.Rest) != 0 || len(data) != 0 {
		return nil, log.Unreadable{What: "the fields of the transaction do not fit"}
	}
	for i := range f.appends {
		if checksum(f.appends[i].value) != f.appends[i].crc {
			return nil, log.Unreadable{What: "the checksum of a value does not match"}
		}
	}
	for i := range f.writes {
		if checksum(f.writes[i].value) != f.writes[i].crc && f.writes[i].put {
			return nil, log.Unreadable{What: "the checksum of a record does not match"}
		}
	}
	f.place()
	return f, nil
}
