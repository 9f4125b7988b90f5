package parquet

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"unsafe"

	"github.com/parquet-go/parquet-go/encoding/delta"
	"github.com/parquet-go/parquet-go/encoding/rle"
	"github.com/parquet-go/parquet-go/format"
)

// values are the values of one leaf, and how they are written.
type values struct {
	c        *column
	f        *Field
	physical format.Type
	n        int
	encoding format.Encoding
	d        *dictionary // of the values, where the encoding has one
	scratch  *scratch
}

// scratch is memory that is used again for each column.
type scratch struct {
	packed  []byte
	lengths []int32
}

func realBits(n int64) uint64 { return math.Float64bits(float64(n)) }

func (c *column) widenTo(k Kind) {
	for i, w := range c.words {
		c.words[i] = realBits(int64(w))
	}
	c.kind = k
}

// newValues looks at the values of c and decides how they are written.
func newValues(f *Field, c *column, d *dictionary, mem *scratch) values {
	v := values{c: c, f: f, physical: physical(f), n: c.present, encoding: format.Plain, d: d, scratch: mem}
	switch v.physical {
	case format.Boolean:
		return v
	case format.ByteArray, format.FixedLenByteArray:
		if v.n > 0 && v.physical == format.ByteArray {
			v.encoding = format.DeltaLengthByteArray
		}
		if d.fill(v.n, func(i int) uint32 { return hashText(c.bytes(i)) }, func(i, k int) bool { return bytes.Equal(c.bytes(i), c.bytes(k)) }) {
			v.encoding = format.RLEDictionary
		}
		return v
	case format.Double:
	default:
		v.encoding = format.DeltaBinaryPacked
	}
	if d.fill(v.n, func(i int) uint32 { return hashWord(c.words[i]) }, func(i, k int) bool { return c.words[i] == c.words[k] }) {
		v.encoding = format.RLEDictionary
	}
	return v
}

// bytes is the i-th text.
func (c *column) bytes(i int) []byte {
	from := uint32(0)
	if i > 0 {
		from = c.ends[i-1]
	}
	return c.text[from:c.ends[i]]
}

// perPage is how many values a page holds.
func (v *values) perPage() int {
	const rows = 1 << 17 // null values and dictionaries are small, pages of them long
	size := 8
	if v.f.texts() {
		size = 1 + len(v.c.text)/max(v.n, 1)
	}
	if v.encoding == format.RLEDictionary {
		size = 2
	}
	return min(max(pageBytes/size, 1), rows)
}

// dictionary appends the distinct values.
func (v *values) dictionary(page []byte) []byte {
	for _, i := range v.d.distinct {
		page = v.plain(page, int(i))
	}
	return page
}

func (v *values) plain(page []byte, i int) []byte {
	switch v.physical {
	case format.ByteArray:
		b := v.c.bytes(i)
		return append(binary.LittleEndian.AppendUint32(page, uint32(len(b))), b...)
	case format.FixedLenByteArray:
		return append(page, v.c.bytes(i)...)
	case format.Int32:
		return binary.LittleEndian.AppendUint32(page, uint32(v.c.words[i]))
	}
	return binary.LittleEndian.AppendUint64(page, v.c.words[i])
}

// encode appends the values from a to b.
func (v *values) encode(page []byte, a, b int) ([]byte, error) {
	switch {
	case v.encoding == format.RLEDictionary:
		e := rle.Encoding{BitWidth: max(bitWidth(len(v.d.distinct)-1), 1)}
		packed, err := e.EncodeInt32(v.scratch.packed, v.d.index[a:b])
		v.scratch.packed = packed
		return append(append(page, byte(e.BitWidth)), packed...), err
	case v.encoding == format.DeltaBinaryPacked && v.physical == format.Int32:
		short := v.scratch.lengths[:0]
		for _, w := range v.c.words[a:b] {
			short = append(short, int32(w))
		}
		packed, err := new(delta.BinaryPackedEncoding).EncodeInt32(v.scratch.packed, short)
		v.scratch.packed, v.scratch.lengths = packed, short
		return append(page, packed...), err
	case v.encoding == format.DeltaBinaryPacked:
		packed, err := new(delta.BinaryPackedEncoding).EncodeInt64(v.scratch.packed, unsafe.Slice((*int64)(unsafe.Pointer(unsafe.SliceData(v.c.words[a:b]))), b-a))
		v.scratch.packed = packed
		return append(page, packed...), err
	case v.encoding == format.DeltaLengthByteArray:
		return v.texts(page, a, b)
	case v.physical == format.Boolean:
		for i := a; i < b; i += 8 {
			bits := byte(0)
			for k, w := range v.c.words[i:min(i+8, b)] {
				bits |= byte(w) << k
			}
			page = append(page, bits)
		}
		return page, nil
	}
	for i := a; i < b; i++ {
		page = v.plain(page, i)
	}
	return page, nil
}

// texts appends the lengths of the texts from a to b as differences, then the texts.
func (v *values) texts(page []byte, a, b int) ([]byte, error) {
	from := uint32(0)
	if a > 0 {
		from = v.c.ends[a-1]
	}
	lengths, before := v.scratch.lengths[:0], from
	for _, end := range v.c.ends[a:b] {
		lengths = append(lengths, int32(end-before))
		before = end
	}
	packed, err := new(delta.BinaryPackedEncoding).EncodeInt32(v.scratch.packed, lengths)
	v.scratch.packed, v.scratch.lengths = packed, lengths
	return append(append(page, packed...), v.c.text[from:before]...), err
}

// longestBound is the longest string that is written as the least or greatest of a column.
const longestBound = 64

// statistics are those of the whole column, for readers to skip files by.
func (v *values) statistics(nulls int64) format.Statistics {
	s := format.Statistics{NullCount: nulls}
	if v.n == 0 {
		return s
	}
	switch v.physical {
	case format.FixedLenByteArray:
		s.MinValue, s.MaxValue = v.fixedBounds()
	case format.ByteArray:
		if v.f.Kind == JSON {
			break
		}
		low, high := v.c.bytes(0), v.c.bytes(0)
		lowHead, highHead := head(low), head(high)
		v.each(func(i int) {
			b := v.c.bytes(i)
			h := head(b)
			if h <= lowHead && bytes.Compare(b, low) < 0 {
				low, lowHead = b, h
			}
			if h >= highHead && bytes.Compare(b, high) > 0 {
				high, highHead = b, h
			}
		})
		if len(low) <= longestBound && len(high) <= longestBound {
			s.MinValue, s.MaxValue = bytes.Clone(low), bytes.Clone(high)
		}
	case format.Boolean:
		low, high := v.c.words[0], v.c.words[0]
		v.each(func(i int) { low, high = min(low, v.c.words[i]), max(high, v.c.words[i]) })
		s.MinValue, s.MaxValue = []byte{byte(low)}, []byte{byte(high)}
	case format.Double:
		low, high := math.Inf(1), math.Inf(-1)
		v.each(func(i int) {
			x := math.Float64frombits(v.c.words[i])
			low, high = min(low, x), max(high, x)
		})
		if low == 0 {
			low = math.Copysign(0, -1)
		}
		if high == 0 {
			high = math.Abs(high)
		}
		s.MinValue = binary.LittleEndian.AppendUint64(nil, math.Float64bits(low))
		s.MaxValue = binary.LittleEndian.AppendUint64(nil, math.Float64bits(high))
	default:
		low, high := int64(math.MaxInt64), int64(math.MinInt64)
		v.each(func(i int) { x := int64(v.c.words[i]); low, high = min(low, x), max(high, x) })
		if v.physical == format.Int32 {
			s.MinValue = binary.LittleEndian.AppendUint32(nil, uint32(low))
			s.MaxValue = binary.LittleEndian.AppendUint32(nil, uint32(high))
			break
		}
		s.MinValue = binary.LittleEndian.AppendUint64(nil, uint64(low))
		s.MaxValue = binary.LittleEndian.AppendUint64(nil, uint64(high))
	}
	return s
}

// fixedBounds are the least and the greatest of values of one width.
func (v *values) fixedBounds() (low, high []byte) {
	order := orderOf(v.f.Kind == Decimal)
	low, high = v.c.bytes(0), v.c.bytes(0)
	v.each(func(i int) {
		if b := v.c.bytes(i); order(b, low) < 0 {
			low = b
		} else if order(b, high) > 0 {
			high = b
		}
	})
	return bytes.Clone(low), bytes.Clone(high)
}

// orderOf is the order of bytes: of numbers in two's complement, or of bytes alone.
func orderOf(numbers bool) func(a, b []byte) int {
	if !numbers {
		return bytes.Compare
	}
	return func(a, b []byte) int {
		if len(a) > 0 && len(b) > 0 && a[0]>>7 != b[0]>>7 {
			return cmp.Compare(b[0]>>7, a[0]>>7)
		}
		return bytes.Compare(a, b)
	}
}

// head is the first eight bytes of b, which are in the order that texts are in.
func head(b []byte) uint64 {
	if len(b) >= 8 {
		return binary.BigEndian.Uint64(b)
	}
	var h uint64
	for i, c := range b {
		h |= uint64(c) << (56 - 8*i)
	}
	return h
}

// each calls f for every value that occurs, at least once.
func (v *values) each(f func(int)) {
	if v.encoding == format.RLEDictionary {
		for _, i := range v.d.distinct {
			f(int(i))
		}
		return
	}
	for i := range v.n {
		f(i)
	}
}
