package disk

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/weirdata/weir/internal/queue/log"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

const (
	frameHeader = 32
	frameMagic  = 0x57656972
)

// frame is one entry as it was read.
type frame struct {
	log.Entry
	group uint64 // the first entry that was written together with this one
}

// encode appends the frame of e, with its number, to dst, whose end is at the position at.
func encode(dst []byte, at log.Position, group uint64, e *log.Entry) ([]byte, error) {
	data := 0
	for _, d := range e.Data {
		data += len(d)
	}
	if len(e.Head) > log.MaxPart || data > log.MaxPart {
		return dst, log.TooLarge()
	}
	start := len(dst)
	dst = append(dst, make([]byte, frameHeader)...)
	dst = append(dst, e.Head...)
	h := dst[start:]
	binary.BigEndian.PutUint32(h[4:], frameMagic)
	binary.BigEndian.PutUint64(h[8:], e.Number)
	binary.BigEndian.PutUint64(h[16:], group)
	binary.BigEndian.PutUint32(h[24:], uint32(len(e.Head)))
	binary.BigEndian.PutUint32(h[28:], uint32(data))
	binary.BigEndian.PutUint32(h, checksum(h[4:]))
	place(e, at, data)
	for _, d := range e.Data {
		dst = append(dst, d...)
	}
	return dst, nil
}

// place notes where the parts of a frame are that starts at a position.
func place(e *log.Entry, at log.Position, data int) {
	e.At = log.Position{Segment: at.Segment, Offset: at.Offset + int64(frameHeader+len(e.Head))}
	e.End = log.Position{Segment: at.Segment, Offset: e.At.Offset + int64(data)}
}

// frameSize is the size of the frame that b starts with, and its number, from its header.
func frameSize(b []byte) (size int64, number uint64, ok bool) {
	if len(b) < frameHeader || binary.BigEndian.Uint32(b[4:]) != frameMagic {
		return 0, 0, false
	}
	head, data := binary.BigEndian.Uint32(b[24:]), binary.BigEndian.Uint32(b[28:])
	if head > log.MaxPart || data > log.MaxPart {
		return 0, 0, false
	}
	return frameHeader + int64(head) + int64(data), binary.BigEndian.Uint64(b[8:]), true
}

// decode reads the frame that b starts with, which stands at a position. Head and data
// share memory with b. What the checksum covers is verified.
func decode(b []byte, at log.Position) (*frame, error) {
	size, number, ok := frameSize(b)
	if !ok {
		return nil, log.Unreadable{What: "no frame starts here"}
	}
	if size > int64(len(b)) {
		return nil, log.Unreadable{What: "the frame goes on beyond the end"}
	}
	head := frameHeader + int(binary.BigEndian.Uint32(b[24:]))
	if checksum(b[4:head]) != binary.BigEndian.Uint32(b) {
		return nil, log.Unreadable{What: "the checksum of the frame does not match"}
	}
	f := &frame{group: binary.BigEndian.Uint64(b[16:])}
	f.Number, f.Head, f.Data = number, b[frameHeader:head:head], [][]byte{b[head:size:size]}
	place(&f.Entry, at, int(size)-head)
	return f, nil
}
