package queue

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"
	"unsafe"

	"github.com/cespare/xxhash/v2"

	"github.com/weirdata/weir/internal/event"
)

// A value is the jobs of one lane that were appended together; it is what a backend
// stores. A record is one job in it, and is also what a side table keeps of a job.
//
//	value   := version(1 byte = 1) appendedAt(8 bytes, unix ns) count(4 bytes) record*
//	record  := size(uvarint) body
//	body    := flags(1 byte) [key] [id] [headers] [raw] [notBefore] created [read] data
//	key, id, raw := size(uvarint) bytes
//	headers := count(uvarint) (size bytes size bytes)*
//	time    := seconds(varint) nanoseconds(uvarint)
//
// data is the rest of the body; fixed numbers are big endian. Checksums are the backend's matter. Decoding never
// panics, whatever the bytes are, and never copies payload or key.
const valueVersion = 1

const (
	flagOrdered = 1 << iota
	flagKey
	flagID
	flagHeaders
	flagRaw
	flagNotBefore
	flagNilData
	flagReadIsCreated
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

// AppendRecord appends the record of one job, whose fields were checked with Job.Check.
func AppendRecord(dst []byte, j *Job) []byte {
	m := j.Msg
	var flags byte
	size := 1
	if m.Key != "" {
		flags |= flagKey
		size += bytesSize(len(m.Key))
		if j.Ordered {
			flags |= flagOrdered
		}
	}
	if m.Meta.ID != "" {
		flags |= flagID
		size += bytesSize(len(m.Meta.ID))
	}
	if len(m.Meta.Headers) > 0 {
		flags |= flagHeaders
		size += uvarintSize(uint64(len(m.Meta.Headers)))
		for k, v := range m.Meta.Headers {
			size += bytesSize(len(k)) + bytesSize(len(v))
		}
	}
	raw := m.Raw()
	if raw != nil && (len(raw) != len(m.Data) || unsafe.SliceData(raw) != unsafe.SliceData(m.Data)) {
		flags |= flagRaw
		size += bytesSize(len(raw))
	}
	if !j.NotBefore.IsZero() {
		flags |= flagNotBefore
		size += timeSize(j.NotBefore)
	}
	if m.Data == nil {
		flags |= flagNilData
	}
	size += timeSize(m.Times.Created)
	if m.Times.Read.Equal(m.Times.Created) {
		flags |= flagReadIsCreated
	} else {
		size += timeSize(m.Times.Read)
	}
	size += len(m.Data)

	dst = binary.AppendUvarint(dst, uint64(size))
	dst = append(dst, flags)
	if flags&flagKey != 0 {
		dst = appendBytes(dst, m.Key)
	}
	if flags&flagID != 0 {
		dst = appendBytes(dst, m.Meta.ID)
	}
	if flags&flagHeaders != 0 {
		dst = binary.AppendUvarint(dst, uint64(len(m.Meta.Headers)))
		for k, v := range m.Meta.Headers {
			dst = appendBytes(dst, k)
			dst = appendBytes(dst, v)
		}
	}
	if flags&flagRaw != 0 {
		dst = appendBytes(dst, raw)
	}
	if flags&flagNotBefore != 0 {
		dst = appendTime(dst, j.NotBefore)
	}
	dst = appendTime(dst, m.Times.Created)
	if flags&flagReadIsCreated == 0 {
		dst = appendTime(dst, m.Times.Read)
	}
	return append(dst, m.Data...)
}

func appendBytes[T string | []byte](dst []byte, b T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(b)))
	return append(dst, b...)
}

func appendTime(dst []byte, t time.Time) []byte {
	dst = binary.AppendVarint(dst, t.Unix())
	return binary.AppendUvarint(dst, uint64(t.Nanosecond()))
}

func uvarintSize(v uint64) int {
	n := 1
	for v >= 0x80 {
		v >>= 7
		n++
	}
	return n
}

func bytesSize(n int) int { return uvarintSize(uint64(n)) + n }

func timeSize(t time.Time) int {
	s := t.Unix()
	return uvarintSize(uint64(s<<1)^uint64(s>>63)) + uvarintSize(uint64(t.Nanosecond()))
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
	if v[0] != valueVersion {
		return Records{}, fmt.Errorf("read value: version %d, this program reads version %d: %w", v[0], valueVersion, ErrCorrupt)
	}
	count := binary.BigEndian.Uint32(v[9:])
	if count > uint32(len(v)) {
		return Records{}, fmt.Errorf("read value of %d bytes: it claims %d records: %w", len(v), count, ErrCorrupt)
	}
	at := time.Unix(0, int64(binary.BigEndian.Uint64(v[1:9]))).UTC()
	return Records{At: at, Count: int(count), rest: v[HeaderSize:]}, nil
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

// reader takes a record apart; bad is set by the first thing that does not fit.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) bytes() []byte {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

// text shares memory with the record, which is never written to.
func (r *reader) text() string {
	b := r.bytes()
	return unsafe.String(unsafe.SliceData(b), len(b))
}

func (r *reader) time() time.Time {
	sec, nsec := r.varint(), r.uvarint()
	if nsec >= 1e9 {
		r.bad = true
		return time.Time{}
	}
	return time.Unix(sec, int64(nsec)).UTC()
}

func (r *reader) begin() byte {
	size := r.uvarint()
	if r.bad || size == 0 || size != uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return 0
	}
	flags := r.b[0]
	r.b = r.b[1:]
	return flags
}

func errRecord(rec []byte) error {
	return fmt.Errorf("read job record of %d bytes: its fields do not fit: %w", len(rec), ErrCorrupt)
}

// Head is what the order of a lane needs to know of a job.
type Head struct {
	// Hash is the hash of the ordering key; 0 when the job is not ordered. Keys that share
	// a hash are treated as one.
	Hash uint64
	// NotBefore is in unix ns; 0 means at once.
	NotBefore int64
}

// ReadHead reads the Head of a record. Of a record that has none it reads the flags only.
func ReadHead(rec []byte) (Head, error) {
	r := reader{b: rec}
	flags := r.begin()
	var h Head
	if flags&(flagOrdered|flagNotBefore) == 0 && !r.bad {
		return h, nil
	}
	if flags&flagKey != 0 {
		key := r.bytes()
		if flags&flagOrdered != 0 {
			h.Hash = HashKey(key)
		}
	}
	if flags&flagNotBefore != 0 {
		if flags&flagID != 0 {
			r.bytes()
		}
		if flags&flagHeaders != 0 {
			r.skipHeaders()
		}
		if flags&flagRaw != 0 {
			r.bytes()
		}
		h.NotBefore = Nanos(r.time())
	}
	if r.bad {
		return Head{}, errRecord(rec)
	}
	return h, nil
}

// Nanos is t in unix ns, held within what an int64 can say.
func Nanos(t time.Time) int64 {
	switch {
	case t.IsZero():
		return 0
	case t.Unix() <= 0:
		return 1
	case t.Unix() >= 1<<33:
		return 1 << 33 * int64(time.Second)
	}
	return t.UnixNano()
}

// HashKey is the hash of an ordering key, the same in every process; never 0.
func HashKey(key []byte) uint64 {
	if h := xxhash.Sum64(key); h != 0 {
		return h
	}
	return 1
}

func (r *reader) skipHeaders() {
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		r.bytes()
		r.bytes()
	}
}

// ReadRecord sets the fields of j that a record holds: Ordered, NotBefore, and all of
// Msg but its scope. It fills m, which must be a zero Message, and makes it j's message.
// The message shares memory with rec.
func ReadRecord(rec []byte, j *Job, m *event.Message) error {
	r := reader{b: rec}
	flags := r.begin()
	if flags&flagKey != 0 {
		m.Key = r.text()
	}
	j.Ordered = flags&flagOrdered != 0
	if flags&flagID != 0 {
		m.Meta.ID = r.text()
	}
	if flags&flagHeaders != 0 {
		n := r.uvarint()
		if n > uint64(len(r.b)) {
			return errRecord(rec)
		}
		m.Meta.Headers = make(map[string]string, n)
		for ; n > 0 && !r.bad; n-- {
			k := r.text()
			m.Meta.Headers[k] = r.text()
		}
	}
	var raw []byte
	if flags&flagRaw != 0 {
		raw = r.bytes()
	}
	if flags&flagNotBefore != 0 {
		j.NotBefore = r.time()
	} else {
		j.NotBefore = time.Time{}
	}
	m.Times.Created = r.time()
	if flags&flagReadIsCreated != 0 {
		m.Times.Read = m.Times.Created
	} else {
		m.Times.Read = r.time()
	}
	if r.bad {
		return errRecord(rec)
	}
	if flags&flagNilData == 0 {
		m.Data = slices.Clip(r.b)
	}
	if raw == nil {
		raw = m.Data
	}
	m.SetRaw(raw)
	j.Msg = m
	return nil
}
