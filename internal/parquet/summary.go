package parquet

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// Element is the name of a list's element in a file and in a full name.
const Element = "element"

// FullName is the name of a field from the top, as tables have it: names with dots between, and
// [Element] after that of a list. No name has a dot.
func FullName(above, name string) string {
	if above == "" {
		return name
	}
	return above + "." + name
}

// Summary is what the footer of a file says of its columns.
type Summary struct {
	Rows    int64
	Columns []ColumnSummary // the leaves, in the order of the file
}

// ColumnSummary is what is known of one column of a file. Bounds are as Parquet has them in its
// plain encoding: numbers and times are little-endian, text is as it is.
type ColumnSummary struct {
	Name          string // full
	Values, Nulls int64  // nulls are among the values
	Bytes         int64  // in the file
	Min, Max      []byte // nil when they are not known
	InList        bool   // several values can be of one row

	kind    format.Type
	decimal bool
}

// ReadSummary reads the summary of a Parquet file of the given size.
func ReadSummary(f io.ReaderAt, size int64) (*Summary, error) {
	file, err := footer(f, size)
	if err != nil {
		return nil, err
	}
	return summaryOf(file.Metadata())
}

func summaryOf(meta *format.FileMetaData) (*Summary, error) {
	s := &Summary{Rows: meta.NumRows}
	if len(meta.Schema) == 0 {
		return s, nil
	}
	rest, err := s.leaves(meta.Schema[1:], int(meta.Schema[0].NumChildren.V), "", false)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d elements are left", len(rest))
	}
	if err != nil {
		return nil, fmt.Errorf("the schema of the file is damaged: %w", err)
	}
	for g := range meta.RowGroups {
		chunks := meta.RowGroups[g].Columns
		if len(chunks) != len(s.Columns) {
			return nil, fmt.Errorf("a row group has %d columns, the schema %d", len(chunks), len(s.Columns))
		}
		for i := range chunks {
			s.Columns[i].add(&chunks[i].MetaData, g == 0)
		}
	}
	return s, nil
}

// leaves adds the columns below n elements of the schema, and returns what follows them.
func (s *Summary) leaves(in []format.SchemaElement, n int, above string, inList bool) (rest []format.SchemaElement, err error) {
	for range n {
		if len(in) == 0 {
			return nil, fmt.Errorf("it ends within %q", above)
		}
		e := &in[0]
		in = in[1:]
		full := FullName(above, e.Name)
		kids := e.NumChildren
		switch {
		case !kids.Valid:
			s.Columns = append(s.Columns, ColumnSummary{Name: full, InList: inList, kind: e.Type.V, decimal: e.ConvertedType == thrift.New(deprecated.Decimal)})
		case e.ConvertedType == thrift.New(deprecated.List) && kids.V == 1 && len(in) > 0 && in[0].NumChildren.Valid:
			in, err = s.leaves(in[1:], int(in[0].NumChildren.V), full, true)
		default:
			in, err = s.leaves(in, int(kids.V), full, inList)
		}
		if err != nil {
			return nil, err
		}
	}
	return in, nil
}

func (c *ColumnSummary) add(m *format.ColumnMetaData, first bool) {
	c.Values += m.NumValues
	c.Nulls += m.Statistics.NullCount
	c.Bytes += m.TotalCompressedSize
	low, high := m.Statistics.MinValue, m.Statistics.MaxValue
	switch {
	case m.Statistics.NullCount == m.NumValues: // nothing that could be less or greater
	case first || c.Min == nil && c.Values-m.NumValues == c.Nulls-m.Statistics.NullCount:
		c.Min, c.Max = bytes.Clone(low), bytes.Clone(high)
	case low == nil || c.Min == nil:
		c.Min, c.Max = nil, nil
	default:
		if c.compare(low, c.Min) < 0 {
			c.Min = bytes.Clone(low)
		}
		if c.compare(high, c.Max) > 0 {
			c.Max = bytes.Clone(high)
		}
	}
}

// compare orders two bounds of the column.
func (c *ColumnSummary) compare(a, b []byte) int {
	if len(a) == 8 && len(b) == 8 {
		x, y := binary.LittleEndian.Uint64(a), binary.LittleEndian.Uint64(b)
		switch c.kind {
		case format.Int64:
			return cmp.Compare(int64(x), int64(y))
		case format.Double:
			return cmp.Compare(math.Float64frombits(x), math.Float64frombits(y))
		}
	}
	if c.kind == format.Int32 && len(a) == 4 && len(b) == 4 {
		return cmp.Compare(int32(binary.LittleEndian.Uint32(a)), int32(binary.LittleEndian.Uint32(b)))
	}
	return orderOf(c.decimal)(a, b)
}
