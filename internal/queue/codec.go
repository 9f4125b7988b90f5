package queue

import (
	"encoding/binary"
	"fmt"
	"time"
)

// A value is the jobs of one lane that were appended together; it is what a backend
// stores. A record is one job in it, and is also what a side table keeps of a job, so it
// says its own version.
//
//	value   := version(1 byte = 2) appendedAt(8 bytes, unix ns) count(4 bytes) record*
//	record  := size(uvarint) body
//	body    := 1 version(1 byte = 2) flags(2 bytes) [notBefore] [key] [id] [headers] [origin] [descriptor]
//	           [raw] created [read] data
//	key, id, raw := size(uvarint) bytes
//	headers := count(uvarint) (size bytes size bytes)*, and size+1 or 0 for each value where one is nil
//	origin  := stream partition position, each size bytes; sub(uvarint) [at]
//	descriptor := jobRun taskRun type name, each size bytes
//	time    := seconds(varint) nanoseconds(uvarint)
//	notBefore is a time, of the wall clock or of the steady one
//
// data is the rest of the body; fixed numbers are big endian. Of a message that has been in
// queues before, the origin is the earliest.
//
// Version 1 is read too. Its values begin with 1, and its records have no version:
//
//	body    := flags(1 byte) [key] [id] [headers] [raw] [notBefore] created [read] data
//
// They are told apart by the first byte, which in version 1 would say that a job without a
// key is ordered by it. What a later version has written is [ErrVersion], which is no damage.
//
// Checksums are the backend's matter. Decoding never panics, whatever the bytes are, and
// never copies payload, key, header values or texts.
const (
	valueVersion  = 2
	recordVersion = 2
	versioned     = 1 // the first byte of a body that says its version
)

// HeaderSize is the size of a value's header.
const HeaderSize = 13

// PutHeader writes the header of a value with count records over the first HeaderSize
// bytes of v.
func PutHeader(v []byte, at time.Time, count int) {
	v[0] = valueVersion
	binary.BigEndian.PutUint64(v[1:], uint64(at.UnixNano()))
	binary.BigEndian.PutUint32(v[9:], uint32(count))
}

// AppendedAt is when a value was appended, by its header.
func AppendedAt(header []byte) time.Time {
	return time.Unix(0, int64(binary.BigEndian.Uint64(header[1:9]))).UTC()
}

// errVersion is the error of what a later version of this program has written.
func errVersion(what string, version byte) error {
	return fmt.Errorf("read %s: it has version %d, this program reads versions up to %d: run the release that wrote it, or a newer one: %w",
		what, version, recordVersion, ErrVersion)
}

// Records walks the records of one value.
type Records struct {
	At    time.Time // when the value was appended
	Count int       // records in the value
	rest  []byte
	seen  int
}

// OpenValue reads the header of a value. Records share memory with v.
func OpenValue(v []byte) (Records, error) {
	if len(v) < HeaderSize {
		return Records{}, fmt.Errorf("read value of %d bytes: shorter than its header: %w", len(v), ErrCorrupt)
	}
	switch {
	case v[0] == 0:
		return Records{}, fmt.Errorf("read value of %d bytes: it has version 0, which there never was: %w", len(v), ErrCorrupt)
	case v[0] > valueVersion:
		return Records{}, errVersion("value", v[0])
	}
	count := binary.BigEndian.Uint32(v[9:])
	if count > uint32(len(v)) {
		return Records{}, fmt.Errorf("read value of %d bytes: it claims %d records: %w", len(v), count, ErrCorrupt)
	}
	return Records{At: AppendedAt(v), Count: int(count), rest: v[HeaderSize:]}, nil
}

// Next returns the next record, size prefix included, or nil at the end.
func (r *Records) Next() ([]byte, error) {
	if r.seen == r.Count {
		if len(r.rest) != 0 {
			return nil, fmt.Errorf("read value: %d bytes after its last record: %w", len(r.rest), ErrCorrupt)
		}
		return nil, nil
	}
	size, n := binary.Uvarint(r.rest)
	if n <= 0 || size > uint64(len(r.rest)-n) {
		return nil, fmt.Errorf("read value: record %d of %d does not fit: %w", r.seen, r.Count, ErrCorrupt)
	}
	end := n + int(size)
	rec := r.rest[:end:end]
	r.rest = r.rest[end:]
	r.seen++
	return rec, nil
}
