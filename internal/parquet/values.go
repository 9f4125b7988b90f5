package parquet

import (
	"bytes"
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
	kind     Kind
	n        int
	encoding format.Encoding
	index    []int32 // with a dictionary: which of distinct each value is
	distinct []int32 // the value at which each distinct one is there first
}

func realBits(n int64) uint64 { return math.Float64bits(float64(n)) }

func (c *column) widenTo(k Kind) {
	for i, w := range c.words {
		c.words[i] = realBits(int64(w))
	}
	c.kind = k
}

// A dictionary pays when values repeat: after the first trial of values less than half may
// be distinct, and later never more than most.
const (
	trial = 512
	most  = 1 << 15
)

func newValues(k Kind, c *column) *values {
	v := &values{c: c, kind: k, n: c.present, encoding: format.Plain}
	switch k {
	case Bool:
		return v
	case String, JSON:
		if index[string](v, v.string) {
			v.encoding = format.RLEDictionary
		}
	case Double:
		if index[uint64](v, v.word) {
			v.encoding = format.RLEDictionary
		}
	default:
		v.encoding = format.DeltaBinaryPacked
		if index[uint64](v, v.word) {
			v.encoding = format.RLEDictionary
		}
	}
	return v
}

func (v *values) word(i int) uint64 { return v.c.words[i] }

func (v *values) bytes(i int) []byte {
	from := uint32(0)
	if i > 0 {
		from = v.c.ends[i-1]
	}
	return v.c.text[from:v.c.ends[i]]
}

// string is bytes without a copy: the text does not change any more.
func (v *values) string(i int) string {
	b := v.bytes(i)
	return unsafe.String(unsafe.SliceData(b), len(b))
}

// index makes a dictionary of the values, and reports whether it pays.
func index[T comparable](v *values, at func(int) T) bool {
	if v.n < 2 {
		return false
	}
	places := make(map[T]int32, min(v.n, trial))
	v.index = make([]int32, 0, v.n)
	var before T
	place := int32(-1)
	for i := range v.n {
		x := at(i)
		if place < 0 || x != before {
			p, ok := places[x]
			if !ok {
				p = int32(len(v.distinct))
				places[x] = p
				v.distinct = append(v.distinct, int32(i))
			}
			before, place = x, p
		}
		v.index = append(v.index, place)
		if d := len(v.distinct); d > most || i == trial && d > trial/2 {
			v.index, v.distinct = nil, nil
			return false
		}
	}
	if len(v.distinct) > v.n/2+1 {
		v.index, v.distinct = nil, nil
		return false
	}
	return true
}

// perPage is how many values a page holds.
func (v *values) perPage() int {
	const rows = 1 << 17 // null values and dictionaries are small, pages of them long
	size := 8
	if v.kind == String || v.kind == JSON {
		size = 4 + len(v.c.text)/max(v.n, 1)
	}
	if v.encoding == format.RLEDictionary {
		size = 2
	}
	return min(max(pageBytes/size, 1), rows)
}

// dictionary appends the distinct values.
func (v *values) dictionary(page []byte) []byte {
	for _, i := range v.distinct {
		page = v.plain(page, int(i))
	}
	return page
}

func (v *values) plain(page []byte, i int) []byte {
	if v.kind == String || v.kind == JSON {
		b := v.bytes(i)
		return append(binary.LittleEndian.AppendUint32(page, uint32(len(b))), b...)
	}
	return binary.LittleEndian.AppendUint64(page, v.c.words[i])
}

// encode appends the values from a to b.
func (v *values) encode(page []byte, a, b int) ([]byte, error) {
	switch {
	case v.encoding == format.RLEDictionary:
		e := rle.Encoding{BitWidth: max(bitWidth(len(v.distinct)-1), 1)}
		packed, err := e.EncodeInt32(nil, v.index[a:b])
		return append(append(page, byte(e.BitWidth)), packed...), err
	case v.encoding == format.DeltaBinaryPacked:
		packed, err := new(delta.BinaryPackedEncoding).EncodeInt64(nil, unsafe.Slice((*int64)(unsafe.Pointer(unsafe.SliceData(v.c.words[a:b]))), b-a))
		return append(page, packed...), err
	case v.kind == Bool:
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

// longestBound is the longest string that is written as the least or greatest of a column.
const longestBound = 64

// statistics are those of the whole column, for readers to skip files by.
func (v *values) statistics(nulls int64) format.Statistics {
	s := format.Statistics{NullCount: nulls}
	if v.n == 0 {
		return s
	}
	switch v.kind {
	case JSON:
	case String:
		low, high := v.bytes(0), v.bytes(0)
		v.each(func(i int) {
			b := v.bytes(i)
			if bytes.Compare(b, low) < 0 {
				low = b
			} else if bytes.Compare(b, high) > 0 {
				high = b
			}
		})
		if len(low) <= longestBound && len(high) <= longestBound {
			s.MinValue, s.MaxValue = bytes.Clone(low), bytes.Clone(high)
		}
	case Bool:
		low, high := v.c.words[0], v.c.words[0]
		v.each(func(i int) { low, high = min(low, v.c.words[i]), max(high, v.c.words[i]) })
		s.MinValue, s.MaxValue = []byte{byte(low)}, []byte{byte(high)}
	case Double:
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
		s.MinValue = binary.LittleEndian.AppendUint64(nil, uint64(low))
		s.MaxValue = binary.LittleEndian.AppendUint64(nil, uint64(high))
	}
	return s
}

// each calls f for every value that occurs, at least once.
func (v *values) each(f func(int)) {
	if v.encoding == format.RLEDictionary {
		for _, i := range v.distinct {
			f(int(i))
		}
		return
	}
	for i := range v.n {
		f(i)
	}
}
