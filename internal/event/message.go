// Package event holds the words every other package speaks: a Message on its way
// through a pipeline, a Batch of them, and the claim that counts who still waits.
//
// # Claims
//
// A source hands the engine a batch; [Track] gives each of its messages a claim. The
// claim travels with the message: through [Message.Split] (children take the parent's
// place), [Message.Clone] (both must be settled) and [Join] (one message stands for
// many). Only the engine calls [Settle]. When the last descendant of a batch is
// settled, the batch's done function runs, once, with the outcome of each message that
// was read.
//
// # Ownership
//
// A message belongs to one goroutine at a time; handing it to a channel hands over
// ownership. Data may share memory with other messages of the same read: a transform
// that changes the payload assigns a new slice with [Message.Replace] and never writes
// into the old one.
package event

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"time"
	"unsafe"
)

// Message is one event on its way through a pipeline.
type Message struct {
	// Data is the payload as it is now. Nil means "no payload" (a Kafka tombstone);
	// an empty slice that is not nil is an empty payload.
	Data []byte
	// Key orders and partitions: messages with one key can keep their order. Empty
	// means the source gave none, unless Keyed says more; see [Message.PartitionKey].
	Key string
	// Keyed says what an empty Key stands for.
	Keyed Keyed
	// Meta is what the source said about the message beside its payload.
	Meta Meta
	// Times are the instants that latency metrics are made of.
	Times Times

	raw      []byte // payload as read, for the failure target
	view     any    // parsed form, valid while Data is the slice it was kept for
	viewData *byte
	viewLen  int
	claim    *claim   // who waits for this message; nil means nobody
	settled  bool     // a claim was there and is gone
	spent    *claim   // the claim that children took over in Split
	children int      // how many took it
	dropped  string   // why it is filtered
	without  *without // destinations that get nothing of it
	refused  error    // why it is no message
}

// Keyed is what an empty key of a message stands for. A message whose Key is not empty has
// that key, whatever Keyed says.
type Keyed uint8

// What an empty key stands for.
const (
	KeyOpen  Keyed = iota // the source said nothing: a target may choose one
	KeyNone               // the source keeps keys, and the message has none
	KeyEmpty              // the message has a key, which is empty
)

// Meta is what is known about a message beside its payload.
type Meta struct {
	// ID is the source's own name for the message (a sequence number, a message id).
	ID string
	// Headers are the message's attributes, in their order.
	Headers Headers
	// Origin says where the message was read, where its source knows.
	Origin *Origin
	// Piece numbers, from 0, the messages that one of the origin became in the transforms.
	Piece uint32
	// Descriptor is what is known of the event, where somebody has said so.
	Descriptor *Descriptor
	// Scope says whose message it is, where a pipeline knows.
	Scope *Scope
	// Delivery is set by sources that deliver a message again when it was not handled.
	Delivery *Delivery
}

// Delivery is how a message has fared so far.
type Delivery struct {
	Attempt int       // deliveries that ended with an error
	Since   time.Time // when the message came to wait for its first delivery
}

// Scope says whose event a message is. Isolation is a filter on one of its fields.
type Scope struct {
	Workspace   string
	Source      string
	Destination string
}

// Times are the instants of a message's journey; a zero time means "has not happened".
type Times struct {
	Created          time.Time // when the event was made or entered the source system
	Read             time.Time // when a source of ours read it
	TransformStarted time.Time
	Transformed      time.Time
}

// Batch is a group of messages that travel together.
type Batch []*Message

// Bytes is the sum of the payload lengths of b.
func (b Batch) Bytes() int {
	n := 0
	for _, m := range b {
		n += len(m.Data)
	}
	return n
}

// New returns a message that was read now. Sources that read many at once use [NewBatch].
func New(data []byte) *Message {
	now := time.Now().UTC()
	return &Message{Data: data, raw: data, Times: Times{Created: now, Read: now}}
}

// NewBatch returns one message for each payload, all read at the instant now, in a
// single allocation for the messages and one for the batch.
func NewBatch(now time.Time, payloads [][]byte) Batch {
	slab := make([]Message, len(payloads))
	b := make(Batch, len(payloads))
	for i, p := range payloads {
		m := &slab[i]
		m.Data, m.raw = p, p
		m.Times.Created, m.Times.Read = now, now
		b[i] = m
	}
	return b
}

// Raw is the payload as the source read it, whatever transforms have made of Data.
func (m *Message) Raw() []byte {
	if m.raw == nil {
		return m.Data
	}
	return m.raw
}

// SetRaw sets what [Message.Raw] answers; sources that restore a message call it.
func (m *Message) SetRaw(raw []byte) { m.raw = raw }

// Replace gives m a new payload and forgets its parsed form. The new slice must not
// overlap memory that another message reads.
func (m *Message) Replace(data []byte) {
	if m.raw == nil {
		if m.raw = m.Data; m.raw == nil {
			m.raw = []byte{} // there was no payload: not "the payload as it is now"
		}
	}
	m.Data = data
	m.view, m.viewData, m.viewLen = nil, nil, 0
}

// View is the parsed form kept with [Message.Keep], or nil if Data was replaced since.
func (m *Message) View() any {
	if m.view == nil || m.viewData != unsafe.SliceData(m.Data) || m.viewLen != len(m.Data) {
		return nil
	}
	return m.view
}

// Keep stores a parsed form of the message until Data is replaced, so that the next
// transform need not parse again. A transform may keep a form richer than Data: the
// Snowplow event a JSON payload was made from, for instance.
func (m *Message) Keep(view any) {
	m.view, m.viewData, m.viewLen = view, unsafe.SliceData(m.Data), len(m.Data)
}

// Drop says why m is filtered, in a few words that are the same for every message that is
// filtered for it. A transform that leaves m out calls it where it knows.
func (m *Message) Drop(reason string) { m.dropped = reason }

// Dropped is why m was filtered; empty when nobody has said so.
func (m *Message) Dropped() string { return m.dropped }

// LeftOut is a destination that gets nothing of a message which was for it, and why: in a few words
// that are the same for every message, as with [Message.Drop].
type LeftOut struct{ Destination, Reason string }

type without struct {
	LeftOut
	next *without
}

// LeaveOut says that a destination gets nothing of what a transform had. A transform calls it of
// the message that it was given, whether or not others get something of that.
func (m *Message) LeaveOut(destination, reason string) {
	m.without = &without{LeftOut{destination, reason}, m.without}
}

// TakeLeftOut appends to all what was said with [Message.LeaveOut], and has m forget it.
func (m *Message) TakeLeftOut(all []LeftOut) []LeftOut {
	for x := m.without; x != nil; x = x.next {
		all = append(all, x.LeftOut)
	}
	m.without = nil
	return all
}

// Refuse says that what was read is no message, and why: it goes to the failure target as it
// is. Sources call it for what they cannot make a message of and must not stop at.
func (m *Message) Refuse(why error) { m.refused = why }

// Refused is why m is no message; nil for every other.
func (m *Message) Refused() error { return m.refused }

// PartitionKey is Key, or a fresh random UUID that becomes the key, so that messages
// without one spread evenly over a target's partitions.
func (m *Message) PartitionKey() string {
	if m.Key == "" {
		m.Key = randomKey()
	}
	return m.Key
}

// randomKey is a random UUID (version 4) from the runtime's generator: keys must be
// spread evenly, not be secret.
func randomKey() string {
	var u [16]byte
	binary.LittleEndian.PutUint64(u[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(u[8:], rand.Uint64())
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	var s [36]byte
	hex.Encode(s[:8], u[:4])
	hex.Encode(s[9:13], u[4:6])
	hex.Encode(s[14:18], u[6:8])
	hex.Encode(s[19:23], u[8:10])
	hex.Encode(s[24:], u[10:])
	s[8], s[13], s[18], s[23] = '-', '-', '-', '-'
	return string(s[:])
}

// SetHeader sets one header, and leaves those of a clone as they are.
func (m *Message) SetHeader(name, value string) {
	m.Meta.Headers = m.Meta.Headers.Set(name, []byte(value))
}

// derive copies m without its claim and parsed form.
func (m *Message) derive(data []byte) Message {
	return Message{Data: data, Key: m.Key, Keyed: m.Keyed, Meta: m.Meta, Times: m.Times, raw: m.Raw()}
}

// Split returns one message for each payload. They take m's place: m's claim is
// settled when all of them are. m itself must not be used afterwards. Splitting into
// nothing is not a split: it returns nil and m keeps its claim.
func (m *Message) Split(payloads ...[]byte) Batch {
	if len(payloads) == 0 {
		return nil
	}
	slab := make([]Message, len(payloads))
	b := make(Batch, len(payloads))
	for i, p := range payloads {
		slab[i] = m.derive(p)
		slab[i].claim = m.claim
		b[i] = &slab[i]
	}
	if m.claim != nil {
		m.claim.add(len(payloads) - 1)
	}
	m.spent, m.children = m.claim, len(payloads)
	m.claim = nil
	return b
}

// Unsplit undoes a Split whose children nobody has: m carries its claim again. The
// engine calls it when a transform split a message and then failed. Without a Split it
// does nothing.
func Unsplit(m *Message) {
	if m.spent == nil || m.claim != nil {
		return
	}
	m.spent.add(1 - m.children)
	m.claim, m.spent, m.children = m.spent, nil, 0
}

// Clone returns a second message with the same payload; the claim is settled when both are.
func (m *Message) Clone() *Message {
	c := m.derive(m.Data)
	c.raw = m.raw
	if m.claim != nil {
		m.claim.add(1)
		c.claim = m.claim
	}
	return &c
}

// Join returns one message with the given payload that stands for all of ms: settling
// it settles each of them with the same outcome. The key and metadata are the first
// message's. The messages of ms must not be used afterwards.
func Join(payload []byte, ms Batch) *Message {
	if len(ms) == 0 {
		return &Message{Data: payload, raw: payload}
	}
	j := ms[0].derive(payload)
	j.raw = payload
	joined := make([]*claim, 0, len(ms))
	for _, m := range ms {
		if m.claim != nil {
			joined = append(joined, m.claim)
			m.claim = nil
		}
	}
	if len(joined) > 0 {
		j.claim = &claim{joined: joined}
		j.claim.open.Store(1)
	}
	return &j
}
