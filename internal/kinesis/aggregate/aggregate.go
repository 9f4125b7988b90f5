// Package aggregate reads and writes the aggregates of the Kinesis Producer Library: many user
// records in one record of a stream.
//
// # Format
//
// Four bytes of magic, a protobuf message, and the MD5 of that message alone:
//
//	AggregatedRecord  1 repeated string  partition keys
//	                  2 repeated string  explicit hash keys, decimal
//	                  3 repeated Record
//	Record            1 uint64  index of its partition key, required
//	                  2 uint64  index of its explicit hash key
//	                  3 bytes   data, required
//	                  4 repeated Tag {1 string key, 2 string value}, which nobody uses
//
// # Invariants
//
//   - What is not an aggregate in every respect is plain data of a user, never an error: any
//     bytes may begin with the magic.
//   - What has the right checksum and cannot be taken apart is passed on whole too, and is
//     [Broken], so that it can be counted.
//   - The number of a record in its aggregate, from 0, is its sub-sequence number.
//   - What a [Builder] wrote, [Read] takes apart into the same records in the same order. One
//     record alone is written plain, as the Producer Library does.
package aggregate

import (
	"bytes"
	"crypto/md5" //nolint:gosec // the format's checksum, not a signature
	"encoding/binary"
	"math/bits"

	"github.com/weirdata/weir/internal/wire"
)

// magic is what an aggregate begins with, and overhead what it has beside the message.
const (
	magic    = "\xf3\x89\x9a\xc2"
	overhead = len(magic) + md5.Size
)

// Record is one user record.
type Record struct {
	Key string // the partition key
	// ExplicitHash is the explicit hash key, decimal; empty when there is none.
	ExplicitHash string
	// Data shares memory with what the record was read from. It is not nil.
	Data []byte
}

// Kind says what a record of a stream is.
type Kind uint8

// The kinds.
const (
	Plain     Kind = iota // data of a user
	Aggregate             // user records
	Broken                // has the checksum of an aggregate and is none
)

// Read appends the user records of data to dst, which is returned as it was unless data is an
// [Aggregate].
func Read(dst []Record, data []byte) ([]Record, Kind) {
	if len(data) <= overhead || string(data[:len(magic)]) != magic {
		return dst, Plain
	}
	message, sum := data[len(magic):len(data)-md5.Size], data[len(data)-md5.Size:]
	if md5.Sum(message) != [md5.Size]byte(sum) { //nolint:gosec // see above
		return dst, Plain
	}
	if records, ok := readMessage(dst, message); ok {
		return records, Aggregate
	}
	return dst, Broken
}

// The field numbers and wire types of protobuf, together as they are written.
const (
	varint, fixed64, sized, fixed32 = 0, 1, 2, 5

	keysField    = 1<<3 | sized
	hashesField  = 2<<3 | sized
	recordsField = 3<<3 | sized

	keyIndexField  = 1<<3 | varint
	hashIndexField = 2<<3 | varint
	dataField      = 3<<3 | sized
)

// readMessage appends the records of an AggregatedRecord. Tables may follow the records that
// name their rows.
func readMessage(dst []Record, message []byte) ([]Record, bool) {
	var keys, hashes []string
	records := 0
	for r := (wire.Reader{Rest: message}); len(r.Rest) > 0; {
		switch tag := r.Uvarint(); tag {
		case keysField:
			keys = append(keys, r.Text())
		case hashesField:
			hashes = append(hashes, r.Text())
		case recordsField:
			r.Take(r.Uvarint())
			records++
		default:
			skip(&r, tag)
		}
		if r.Bad {
			return dst, false
		}
	}
	out := dst
	for r := (wire.Reader{Rest: message}); len(r.Rest) > 0; {
		tag := r.Uvarint()
		if tag != recordsField {
			skip(&r, tag)
			continue
		}
		record, ok := readRecord(r.Take(r.Uvarint()), keys, hashes)
		if !ok {
			return dst, false
		}
		out = append(out, record)
	}
	return out, records > 0
}

func readRecord(message []byte, keys, hashes []string) (record Record, ok bool) {
	var key, hash uint64
	hasKey, hasHash := false, false
	for r := (wire.Reader{Rest: message}); len(r.Rest) > 0; {
		switch tag := r.Uvarint(); tag {
		case keyIndexField:
			key, hasKey = r.Uvarint(), true
		case hashIndexField:
			hash, hasHash = r.Uvarint(), true
		case dataField:
			if record.Data = r.Take(r.Uvarint()); record.Data == nil {
				record.Data = []byte{}
			}
		default:
			skip(&r, tag)
		}
		if r.Bad {
			return record, false
		}
	}
	if !hasKey || record.Data == nil || key >= uint64(len(keys)) || hasHash && hash >= uint64(len(hashes)) {
		return record, false
	}
	record.Key = keys[key]
	if hasHash {
		record.ExplicitHash = hashes[hash]
	}
	return record, true
}

// skip passes over a field that nobody here knows.
func skip(r *wire.Reader, tag uint64) {
	switch tag & 7 {
	case varint:
		r.Uvarint()
	case fixed64:
		r.Take(8)
	case sized:
		r.Take(r.Uvarint())
	case fixed32:
		r.Take(4)
	default:
		r.Rest, r.Bad = nil, true
	}
	if tag>>3 == 0 {
		r.Rest, r.Bad = nil, true
	}
}

// Builder makes an aggregate. The zero Builder is empty and ready.
type Builder struct {
	keys, hashes    map[string]uint64
	tables, records []byte
	count           int
	first           []byte
}

// Len is how many records there are.
func (b *Builder) Len() int { return b.count }

// Size is the size of the data of the record of the stream that Finish would return. What the
// stream counts is that and the partition key of the record of the stream.
func (b *Builder) Size() int {
	if b.count <= 1 {
		return len(b.first)
	}
	return overhead + len(b.tables) + len(b.records)
}

// SizeWith is what Size will be when r is added.
func (b *Builder) SizeWith(r Record) int {
	if b.count == 0 {
		return len(r.Data)
	}
	_, _, tables, inner := b.measure(r)
	return overhead + len(b.tables) + tables + len(b.records) + 1 + uvarintSize(uint64(inner)) + inner
}

// measure is where r finds its key and hash, by how much the tables grow for them, and how long
// the message of r is.
func (b *Builder) measure(r Record) (key, hash uint64, tables, inner int) {
	key, ok := b.keys[r.Key]
	if !ok {
		key = uint64(len(b.keys))
		tables += 1 + uvarintSize(uint64(len(r.Key))) + len(r.Key)
	}
	inner = 1 + uvarintSize(key) + 1 + uvarintSize(uint64(len(r.Data))) + len(r.Data)
	if r.ExplicitHash != "" {
		if hash, ok = b.hashes[r.ExplicitHash]; !ok {
			hash = uint64(len(b.hashes))
			tables += 1 + uvarintSize(uint64(len(r.ExplicitHash))) + len(r.ExplicitHash)
		}
		inner += 1 + uvarintSize(hash)
	}
	return key, hash, tables, inner
}

// Add adds a record, whose data is copied unless it is the first, which may not change until
// Finish.
func (b *Builder) Add(r Record) {
	key, hash, _, inner := b.measure(r)
	if b.count == 0 {
		b.first = r.Data
	}
	b.count++
	if key == uint64(len(b.keys)) {
		b.tables = row(b.tables, &b.keys, keysField, r.Key)
	}
	if r.ExplicitHash != "" && hash == uint64(len(b.hashes)) {
		b.tables = row(b.tables, &b.hashes, hashesField, r.ExplicitHash)
	}
	b.records = binary.AppendUvarint(append(b.records, recordsField), uint64(inner))
	b.records = binary.AppendUvarint(append(b.records, keyIndexField), key)
	if r.ExplicitHash != "" {
		b.records = binary.AppendUvarint(append(b.records, hashIndexField), hash)
	}
	b.records = binary.AppendUvarint(append(b.records, dataField), uint64(len(r.Data)))
	b.records = append(b.records, r.Data...)
}

// row appends a new row of a table.
func row(dst []byte, table *map[string]uint64, field byte, text string) []byte {
	if *table == nil {
		*table = map[string]uint64{}
	}
	(*table)[text] = uint64(len(*table))
	return append(binary.AppendUvarint(append(dst, field), uint64(len(text))), text...)
}

// Finish returns the data of the record of the stream and empties b. It is the data of the
// record itself when there is only one, and nil when there is none.
//
// Whose records have one key sends it under that key. Otherwise the record of the stream needs
// an explicit hash key in the shard that all of them belong to.
func (b *Builder) Finish() []byte {
	defer b.reset()
	if b.count <= 1 {
		return b.first
	}
	out := make([]byte, 0, b.Size())
	out = append(append(append(out, magic...), b.tables...), b.records...)
	sum := md5.Sum(out[len(magic):]) //nolint:gosec // see above
	return append(out, sum[:]...)
}

func (b *Builder) reset() {
	clear(b.keys)
	clear(b.hashes)
	b.tables, b.records, b.count, b.first = b.tables[:0], b.records[:0], 0, nil
}

// uvarintSize is the bytes of a varint.
func uvarintSize(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

// Hash is a place in the range of hash keys that the shards of a stream divide: big endian, so
// that its bytes are in its order.
type Hash [md5.Size]byte

// HashOf is the hash of a partition key.
func HashOf(key string) Hash { return md5.Sum([]byte(key)) } //nolint:gosec // what Kinesis does

// Compare orders hashes.
func (h Hash) Compare(o Hash) int { return bytes.Compare(h[:], o[:]) }

// ParseHash reads a decimal hash key, which is from 0 to 2^128-1.
func ParseHash(text string) (h Hash, ok bool) {
	if text == "" || len(text) > 39 {
		return h, false
	}
	var high, low uint64
	for i := range len(text) {
		d := text[i] - '0'
		if d > 9 {
			return h, false
		}
		if high, low, ok = timesTen(high, low, uint64(d)); !ok {
			return h, false
		}
	}
	binary.BigEndian.PutUint64(h[:8], high)
	binary.BigEndian.PutUint64(h[8:], low)
	return h, true
}

// Hash is where a record belongs; ok is false when its explicit hash key is none.
func (r *Record) Hash() (h Hash, ok bool) {
	if r.ExplicitHash != "" {
		return ParseHash(r.ExplicitHash)
	}
	return HashOf(r.Key), true
}

// Within reports whether a record belongs to the shard from first to last.
func (r *Record) Within(first, last Hash) bool {
	h, ok := r.Hash()
	return ok && first.Compare(h) <= 0 && h.Compare(last) <= 0
}

// timesTen is ten times a number of 128 bits and d more; ok is false when that has no place.
func timesTen(high, low, d uint64) (h, l uint64, ok bool) {
	carry, l := bits.Mul64(low, 10)
	over, h := bits.Mul64(high, 10)
	h, c1 := bits.Add64(h, carry, 0)
	l, c2 := bits.Add64(l, d, 0)
	h, c3 := bits.Add64(h, 0, c2)
	return h, l, over == 0 && c1 == 0 && c3 == 0
}
