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

// The flags of a record. The first eight are those of version 1, at their places.
const (
	flagOrdered = 1 << iota
	flagKey
	flagID
	flagHeaders
	flagRaw
	flagNotBefore
	flagNilData
	flagReadIsCreated
	flagOrigin
	flagOriginAt
	flagDescriptor
	flagTransient
	flagNilValues // a header has no value, and sizes of values are one more
	flagKeyNone
	flagKeyEmpty
	flagSteady // NotBefore is of the steady clock of the store
	flagsKnown = 1<<iota - 1
)

// bodyHead is the bytes of a body before its fields.
const bodyHead = 4

// AppendRecord appends the record of one job, whose fields were checked with Job.Check. The
// NotBefore of a job with After is of the steady clock.
func AppendRecord(dst []byte, j *Job) []byte {
	m := j.Msg
	origin, about := m.Meta.Origin.Earliest(), m.Meta.Descriptor
	flags, size := describe(j, origin, about)
	dst = binary.AppendUvarint(dst, uint64(size))
	dst = append(dst, versioned, recordVersion, byte(flags>>8), byte(flags))
	if flags&flagNotBefore != 0 {
		dst = appendTime(dst, j.NotBefore)
	}
	if flags&flagKey != 0 {
		dst = appendBytes(dst, m.Key)
	}
	if flags&flagID != 0 {
		dst = appendBytes(dst, m.Meta.ID)
	}
	if flags&flagHeaders != 0 {
		dst = binary.AppendUvarint(dst, uint64(len(m.Meta.Headers)))
		for i := range m.Meta.Headers {
			dst = appendBytes(dst, m.Meta.Headers[i].Name)
			if flags&flagNilValues != 0 {
				dst = appendOptional(dst, m.Meta.Headers[i].Value)
			} else {
				dst = appendBytes(dst, m.Meta.Headers[i].Value)
			}
		}
	}
	if flags&flagOrigin != 0 {
		dst = appendBytes(dst, origin.Stream)
		dst = appendBytes(dst, origin.Partition)
		dst = appendBytes(dst, origin.Position)
		dst = binary.AppendUvarint(dst, origin.Sub)
		if flags&flagOriginAt != 0 {
			dst = appendTime(dst, origin.At)
		}
	}
	if flags&flagDescriptor != 0 {
		dst = appendBytes(dst, about.JobRun)
		dst = appendBytes(dst, about.TaskRun)
		dst = appendBytes(dst, about.Type)
		dst = appendBytes(dst, about.Name)
	}
	if flags&flagRaw != 0 {
		dst = appendBytes(dst, m.Raw())
	}
	dst = appendTime(dst, m.Times.Created)
	if flags&flagReadIsCreated == 0 {
		dst = appendTime(dst, m.Times.Read)
	}
	return append(dst, m.Data...)
}

// describe is the flags of the record of j, and the size of its body.
func describe(j *Job, origin *event.Origin, about *event.Descriptor) (flags, size int) {
	m := j.Msg
	size = bodyHead
	switch {
	case m.Key != "":
		flags |= flagKey
		size += bytesSize(len(m.Key))
		if j.Ordered {
			flags |= flagOrdered
		}
	case m.Keyed == event.KeyNone:
		flags |= flagKeyNone
	case m.Keyed == event.KeyEmpty:
		flags |= flagKeyEmpty
	}
	if m.Meta.ID != "" {
		flags |= flagID
		size += bytesSize(len(m.Meta.ID))
	}
	if len(m.Meta.Headers) > 0 {
		flags |= flagHeaders
		size += uvarintSize(uint64(len(m.Meta.Headers)))
		for i := range m.Meta.Headers {
			if m.Meta.Headers[i].Value == nil {
				flags |= flagNilValues
			}
			size += bytesSize(len(m.Meta.Headers[i].Name)) + bytesSize(len(m.Meta.Headers[i].Value))
		}
		if flags&flagNilValues != 0 {
			size += optionalSize(m.Meta.Headers)
		}
	}
	if origin != nil {
		flags |= flagOrigin
		size += bytesSize(len(origin.Stream)) + bytesSize(len(origin.Partition)) + bytesSize(len(origin.Position)) + uvarintSize(origin.Sub)
		if !origin.At.IsZero() {
			flags |= flagOriginAt
			size += timeSize(origin.At)
		}
	}
	if about != nil {
		flags |= flagDescriptor
		if about.Transient {
			flags |= flagTransient
		}
		size += bytesSize(len(about.JobRun)) + bytesSize(len(about.TaskRun)) + bytesSize(len(about.Type)) + bytesSize(len(about.Name))
	}
	raw := m.Raw()
	if raw != nil && (len(raw) != len(m.Data) || unsafe.SliceData(raw) != unsafe.SliceData(m.Data)) {
		flags |= flagRaw
		size += bytesSize(len(raw))
	}
	if !j.NotBefore.IsZero() {
		flags |= flagNotBefore
		size += timeSize(j.NotBefore)
		if j.After > 0 {
			flags |= flagSteady
		}
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
	return flags, size + len(m.Data)
}

func appendBytes[T string | []byte](dst []byte, b T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(b)))
	return append(dst, b...)
}

// appendOptional appends bytes, or that there are none.
func appendOptional(dst, b []byte) []byte {
	if b == nil {
		return append(dst, 0)
	}
	dst = binary.AppendUvarint(dst, uint64(len(b))+1)
	return append(dst, b...)
}

// optionalSize is how much more the values of h take where one of them is nil.
func optionalSize(h event.Headers) (n int) {
	for i := range h {
		if v := h[i].Value; v != nil {
			n += uvarintSize(uint64(len(v))+1) - uvarintSize(uint64(len(v)))
		}
	}
	return n
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

// optional is bytes, or nil, as appendOptional writes them.
func (r *reader) optional() []byte {
	n := r.uvarint()
	if n == 0 {
		return nil
	}
	if n-1 > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	out := r.b[: n-1 : n-1]
	r.b = r.b[n-1:]
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

// begin reads what is before the fields of a body: version 1 or 2, and the flags. It reads
// nothing more when the version is a later one.
func (r *reader) begin() (version byte, flags int) {
	size := r.uvarint()
	if r.bad || size == 0 || size != uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return 0, 0
	}
	if first := r.b[0]; first != versioned {
		r.b = r.b[1:]
		return 1, int(first)
	}
	if len(r.b) < 2 || r.b[1] < recordVersion {
		r.bad, r.b = true, nil
		return 0, 0
	}
	version = r.b[1]
	if version > recordVersion {
		return version, 0
	}
	if len(r.b) < bodyHead {
		r.bad, r.b = true, nil
		return 0, 0
	}
	flags = int(r.b[2])<<8 | int(r.b[3])
	r.b = r.b[bodyHead:]
	r.bad = flags&^flagsKnown != 0
	return version, flags
}

func errRecord(rec []byte) error {
	return fmt.Errorf("read job record of %d bytes: its fields do not fit: %w", len(rec), ErrCorrupt)
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

// ReadRecord reads one record as a [Decoder] does.
func ReadRecord(rec []byte, j *Job, m *event.Message) error {
	var d Decoder
	return d.Read(rec, j, m)
}

// Decoder reads records of one batch. What their messages have in common is there once, and
// what each has of its own lies together. The zero Decoder is ready.
type Decoder struct {
	origins    []event.Origin // memory that is not used yet
	made       int            // how many there were last
	descriptor *event.Descriptor
}

// maxTogether is how many origins are made at once at most: who keeps one message of a batch
// keeps no more than these.
const maxTogether = 64

// Read sets the fields of j that a record holds: Ordered, NotBefore by the wall clock, and all of
// Msg but its scope. It fills m, which must be a zero Message, and makes it j's message. The message
// shares memory with rec.
func (d *Decoder) Read(rec []byte, j *Job, m *event.Message) error {
	r := reader{b: rec}
	version, flags := r.begin()
	if version > recordVersion {
		return errVersion("job record", version)
	}
	j.NotBefore = time.Time{}
	if version != 1 && flags&flagNotBefore != 0 {
		if t := r.time(); flags&flagSteady == 0 {
			j.NotBefore = t
		}
	}
	switch {
	case flags&flagKey != 0:
		m.Key = r.text()
	case flags&flagKeyNone != 0:
		m.Keyed = event.KeyNone
	case flags&flagKeyEmpty != 0:
		m.Keyed = event.KeyEmpty
	}
	j.Ordered = flags&flagOrdered != 0
	if flags&flagID != 0 {
		m.Meta.ID = r.text()
	}
	if flags&flagHeaders != 0 {
		m.Meta.Headers = r.headers(flags&flagNilValues != 0)
	}
	if flags&flagOrigin != 0 {
		m.Meta.Origin = d.origin(&r, flags)
	}
	if flags&flagDescriptor != 0 {
		m.Meta.Descriptor = d.about(&r, flags)
	}
	var raw []byte
	if flags&flagRaw != 0 {
		raw = r.bytes()
	}
	if version == 1 && flags&flagNotBefore != 0 {
		j.NotBefore = r.time()
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

// headers reads headers, whose values may be nil where optional. A count that is damage makes no room for more than there can be.
func (r *reader) headers(optional bool) event.Headers {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	h := make(event.Headers, 0, min(n, 256))
	for ; n > 0 && !r.bad; n-- {
		x := event.Header{Name: r.text()}
		if optional {
			x.Value = r.optional()
		} else {
			x.Value = r.bytes()
		}
		h = append(h, x)
	}
	return h
}

func (d *Decoder) origin(r *reader, flags int) *event.Origin {
	if len(d.origins) == 0 {
		d.made = min(max(2*d.made, 1), maxTogether)
		d.origins = make([]event.Origin, d.made)
	}
	o := &d.origins[0]
	d.origins = d.origins[1:]
	o.Stream, o.Partition, o.Position, o.Sub = r.text(), r.text(), r.bytes(), r.uvarint()
	if flags&flagOriginAt != 0 {
		o.At = r.time()
	}
	return o
}

func (d *Decoder) about(r *reader, flags int) *event.Descriptor {
	now := event.Descriptor{JobRun: r.text(), TaskRun: r.text(), Type: r.text(), Name: r.text(), Transient: flags&flagTransient != 0}
	if d.descriptor == nil || *d.descriptor != now {
		one := now
		d.descriptor = &one
	}
	return d.descriptor
}
