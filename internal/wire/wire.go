// Package wire takes bytes apart that were put together with the Append functions of
// encoding/binary: varints, big endian numbers, and bytes with their length in front.
package wire

import "encoding/binary"

// Reader reads from the front of Rest. Bad is set by the first thing that does not fit;
// from then on everything is zero, so it need be asked for at the end only. It never
// panics, whatever the bytes are.
type Reader struct {
	Rest []byte
	Bad  bool
}

func (r *Reader) fail() { r.Rest, r.Bad = nil, true }

// Uvarint reads an unsigned varint.
func (r *Reader) Uvarint() uint64 {
	v, n := binary.Uvarint(r.Rest)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.Rest = r.Rest[n:]
	return v
}

// Varint reads a signed varint.
func (r *Reader) Varint() int64 {
	v, n := binary.Varint(r.Rest)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.Rest = r.Rest[n:]
	return v
}

// Take returns the next n bytes, which share memory with Rest.
func (r *Reader) Take(n uint64) []byte {
	if n > uint64(len(r.Rest)) {
		r.fail()
		return nil
	}
	out := r.Rest[:n:n]
	r.Rest = r.Rest[n:]
	return out
}

// Text reads a string with its length, a varint, in front.
func (r *Reader) Text() string { return string(r.Take(r.Uvarint())) }

// Byte reads one byte.
func (r *Reader) Byte() byte {
	if b := r.Take(1); b != nil {
		return b[0]
	}
	return 0
}

// Fixed32 reads four bytes, big endian.
func (r *Reader) Fixed32() uint32 {
	if b := r.Take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// Fixed64 reads eight bytes, big endian.
func (r *Reader) Fixed64() uint64 {
	if b := r.Take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}
