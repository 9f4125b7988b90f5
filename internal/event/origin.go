package event

import (
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"
	"time"
)

// Origin says where a message was read: which stream, which of its partitions, and where in
// it.
//
// # Order
//
// Positions of one stream and partition are ordered as their bytes are, and those with the
// same bytes by their Sub, which counts the messages that one position holds. So who knows
// nothing of a source can tell which of two messages comes later, and whether a message was
// seen before.
//
// # Memory
//
// An origin is written once, by the source, and never changed. A source makes the origins of
// a batch in one piece ([Origins]); the messages of one read share the texts.
type Origin struct {
	Stream    string // the file, the queue, the topic
	Partition string // the part of it that has an order of its own; may be empty
	Position  []byte
	Sub       uint64
	// At is when the message came into the stream, where the source knows; zero otherwise.
	At time.Time
	// First is where a message was read that has been in a queue since; nil when this is
	// where it was read first. It has no First itself.
	First *Origin
}

// Earliest is where the message was read first, whatever queues it has been in since; nil
// when nobody has said so.
func (o *Origin) Earliest() *Origin {
	if o == nil || o.First == nil {
		return o
	}
	return o.First
}

// String is where o lies, for logs: "orders/3 at 8890". A position of eight bytes is a number.
func (o *Origin) String() string {
	text := o.Stream
	if o.Partition != "" {
		text += "/" + o.Partition
	}
	switch {
	case len(o.Position) == 8:
		text += " at " + strconv.FormatUint(binary.BigEndian.Uint64(o.Position), 10)
	case len(o.Position) > 0:
		text += " at " + hex.EncodeToString(o.Position)
	}
	if o.Sub > 0 {
		text += "." + strconv.FormatUint(o.Sub, 10)
	}
	return text
}

// mostWhere is how much of an id or a key tells where a message is.
const mostWhere = 200

// Where says which message m is, for logs: where it was read first, as far as its source knows,
// what its source calls it, and its key. It is empty when nothing is known.
func (m *Message) Where() string {
	var parts []string
	if o := m.Meta.Origin.Earliest(); o != nil {
		parts = append(parts, o.String())
	}
	for _, x := range []struct{ what, text string }{{"id", m.Meta.ID}, {"key", m.Key}} {
		if x.text != "" {
			parts = append(parts, x.what+" "+strconv.Quote(x.text[:min(len(x.text), mostWhere)]))
		}
	}
	return strings.Join(parts, ", ")
}

// Compare orders o and p, which are of one stream and partition: -1, 0 or 1.
func (o *Origin) Compare(p *Origin) int {
	switch a, b := string(o.Position), string(p.Position); {
	case a < b:
		return -1
	case a > b:
		return 1
	case o.Sub < p.Sub:
		return -1
	case o.Sub > p.Sub:
		return 1
	}
	return 0
}

// PutNumber appends a number as the bytes of a position: eight of them, which are in the
// order of the numbers.
func PutNumber(dst []byte, n uint64) []byte { return binary.BigEndian.AppendUint64(dst, n) }

// Origins gives each message of b an origin of the stream and partition, at the numbered
// position, in two allocations for all of them.
func Origins(b Batch, stream, partition string, position func(i int) uint64) {
	slab := make([]Origin, len(b))
	bytes := make([]byte, 0, 8*len(b))
	for i, m := range b {
		bytes = PutNumber(bytes, position(i))
		slab[i] = Origin{Stream: stream, Partition: partition, Position: bytes[8*i : 8*i+8 : 8*i+8]}
		m.Meta.Origin = &slab[i]
	}
}

// Descriptor is what is known of an event beside its payload, so that reports and rules need
// not read it again. Messages share one where it is the same for them; it is never written in
// place.
type Descriptor struct {
	// JobRun and TaskRun name the run of a job that sent the event: whoever started the run
	// asks how far it is.
	JobRun, TaskRun string
	// Type is what kind of event it is ("track"), Name what it is called ("Order Completed").
	Type, Name string
	// Transient says that nothing of the payload may be kept beyond its delivery: no sample in
	// a report, no archive.
	Transient bool
}
