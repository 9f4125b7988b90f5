package parquet

import (
	"errors"
	"fmt"
	"io"

	pq "github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// Scan reads single columns of one row group of a file, each only as far as it is asked for.
// It is for one goroutine, and for as long as its [Reader] is open.
type Scan struct {
	r      *Reader
	group  pq.RowGroup
	chunks []pq.ColumnChunk
}

// Groups is the number of row groups of the file.
func (r *Reader) Groups() int { return len(r.parquet.RowGroups()) }

// Unpacked is the number of bytes of all columns before compression.
func (r *Reader) Unpacked() (n int64) {
	for _, g := range r.parquet.Metadata().RowGroups {
		n += g.TotalByteSize
	}
	return n
}

// Scan begins to read the columns of a row group.
func (r *Reader) Scan(group int) *Scan {
	g := r.parquet.RowGroups()[group]
	return &Scan{r: r, group: g, chunks: g.ColumnChunks()}
}

// Len is the number of rows.
func (s *Scan) Len() int64 { return s.group.NumRows() }

// Cell is a value of a column: of a list or an object its JSON text, of a timestamp of any unit
// its microseconds.
type Cell struct {
	Kind Kind // Unknown where there is none
	Int  int64
	Real float64
	Text []byte // valid until the next cell of the column
}

// Cells are those of one column.
type Cells struct {
	name    string
	node    *node
	streams []*stream // of the leaves below, or of the column itself
	leaves  []*node
	text    []byte
}

// find is the node of the field with the names, from the top; nil when the file has none.
func (r *Reader) find(names []string) *node {
	nodes, found := r.top, (*node)(nil)
	for _, name := range names {
		found = nil
		for _, n := range nodes {
			if n.field.Name == name {
				found = n
				break
			}
		}
		if found == nil {
			return nil
		}
		nodes = nil
		if found.field.Kind == Object {
			nodes = found.kids
		}
	}
	return found
}

// Column begins to read the column with the given name, after those of the objects it is in; nil
// when the file does not have it.
func (s *Scan) Column(names ...string) (c *Cells, err error) {
	n := s.r.find(names)
	if n == nil {
		return nil, nil
	}
	c = &Cells{name: s.r.name, node: n}
	for i, leaf := range s.r.leaves {
		if !leaf.below(n) {
			continue
		}
		if i >= len(s.chunks) || format.Type(s.chunks[i].Type().Kind()) != leaf.physical {
			return nil, fmt.Errorf("read %s: the file is damaged: column %d is not of the type that its schema has", s.r.name, i)
		}
		c.leaves = append(c.leaves, leaf)
		c.streams = append(c.streams, &stream{chunk: s.chunks[i], lists: leaf.lists > 0, row: -1})
	}
	return c, nil
}

// below reports whether n is the node above or below it.
func (n *node) below(above *node) bool {
	for ; n != nil; n = n.up {
		if n == above {
			return true
		}
	}
	return false
}

// At is the cell in a row. Rows are asked for in rising order; one may be repeated.
func (c *Cells) At(row int64) (cell Cell, err error) {
	if len(c.node.kids) > 0 {
		return c.nested(row)
	}
	values, err := c.streams[0].at(row)
	if err != nil {
		return cell, fmt.Errorf("read %s: %w", c.name, err)
	}
	v := values[0]
	if v.IsNull() {
		return cell, nil
	}
	if f := c.node.foreign; f != nil {
		return f.cellOf(v), nil
	}
	cell.Kind = c.node.field.Kind
	switch cell.Kind {
	case Bool:
		if v.Boolean() {
			cell.Int = 1
		}
	case Double:
		cell.Real = v.Double()
	case String, JSON:
		cell.Text = v.ByteArray()
	default:
		cell.Int = v.Int64()
	}
	return cell, nil
}

// nested is the cell of a list or an object, as JSON.
func (c *Cells) nested(row int64) (cell Cell, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("read %s: the file is damaged: %v", c.name, p)
		}
	}()
	for i, s := range c.streams {
		if c.leaves[i].values, err = s.at(row); err != nil {
			return cell, fmt.Errorf("read %s: %w", c.name, err)
		}
	}
	if !c.node.there() {
		return cell, nil
	}
	c.text = c.node.value(c.text[:0])
	return Cell{Kind: JSON, Text: c.text}, nil
}

// Close lets go of what reading the column has open.
func (c *Cells) Close() error {
	var errs []error
	for _, s := range c.streams {
		if s.pages != nil {
			errs = append(errs, s.pages.Close())
			s.pages = nil
		}
	}
	return errors.Join(errs...)
}

// stream is the values of a leaf, by rows.
type stream struct {
	chunk  pq.ColumnChunk
	lists  bool // a row may have several values
	pages  pq.Pages
	values pq.ValueReader // of the page; nil before the next
	buffer [256]pq.Value
	next   int // in buffer
	end    int
	row    int64 // of current; -1 before the first
	now    []pq.Value
	ended  bool
}

// at is the values of a row. They are valid until the next one is asked for.
func (s *stream) at(row int64) ([]pq.Value, error) {
	for s.row < row {
		if !s.lists && s.next == s.end && s.values == nil {
			if err := s.turn(row - s.row - 1); err != nil {
				return nil, err
			}
		}
		if !s.lists {
			// All that are at hand and before the row are passed over at once.
			if skip := min(int64(s.end-s.next), row-s.row-1); skip > 0 {
				s.next += int(skip)
				s.row += skip
			}
		}
		if err := s.step(); err != nil {
			return nil, err
		}
	}
	return s.now, nil
}

// step goes to the next row.
func (s *stream) step() error {
	v, err := s.peek()
	if err != nil {
		return err
	}
	if v == nil {
		return errors.New("the file is damaged: a column has fewer rows than the others")
	}
	s.row++
	s.next++
	if !s.lists {
		s.now = s.buffer[s.next-1 : s.next]
		return nil
	}
	s.now = append(s.now[:0], *v)
	for {
		v, err := s.peek()
		if err != nil || v == nil || v.RepetitionLevel() == 0 {
			return err
		}
		s.now = append(s.now, *v)
		s.next++
	}
}

// peek is the next value; nil after the last.
func (s *stream) peek() (v *pq.Value, err error) {
	for s.next == s.end {
		if s.values == nil {
			if s.ended {
				return nil, nil
			}
			if err := s.turn(0); err != nil {
				return nil, err
			}
			continue
		}
		if err := s.fill(); err != nil {
			return nil, err
		}
	}
	return &s.buffer[s.next], nil
}

// turn goes to the next page, past those that lie within so many rows.
func (s *stream) turn(skip int64) (err error) {
	defer func() { damaged(recover(), &err) }()
	if s.pages == nil {
		s.pages = s.chunk.Pages()
	}
	for !s.ended {
		page, err := s.pages.ReadPage()
		if errors.Is(err, io.EOF) {
			s.ended = true
			return nil
		}
		if err != nil {
			return err
		}
		if n := page.NumRows(); !s.lists && n <= skip {
			s.row += n
			skip -= n
			continue
		}
		s.values = page.Values()
		return nil
	}
	return nil
}

// fill reads values of the page into the buffer.
func (s *stream) fill() (err error) {
	defer func() { damaged(recover(), &err) }()
	n, err := s.values.ReadValues(s.buffer[:])
	s.next, s.end = 0, n
	if errors.Is(err, io.EOF) {
		s.values, err = nil, nil
	} else if n == 0 && err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// damaged turns a panic over what is in a file into an error.
func damaged(p any, err *error) {
	if p != nil {
		*err = fmt.Errorf("the file is damaged: %v", p)
	}
}

// Bounds are what is known of a column of a row group without reading it.
type Bounds struct {
	Low, High Cell // Unknown where they are not known
	Values    int64
}

// Bounds says what the file tells of the column with the given name, which has no list above it.
// known is false when it tells nothing; of a column that is not there, that it has no values.
func (s *Scan) Bounds(names ...string) (b Bounds, known bool) {
	n := s.r.find(names)
	if n == nil {
		return b, true
	}
	if len(n.kids) > 0 {
		return b, false
	}
	for i, leaf := range s.r.leaves {
		if leaf != n {
			continue
		}
		if i >= len(s.chunks) || format.Type(s.chunks[i].Type().Kind()) != n.physical {
			return b, false // reading it says why
		}
		c, ok := s.chunks[i].(*pq.FileColumnChunk)
		if !ok {
			return b, false
		}
		low, high, ok := c.Bounds()
		b.Values = c.NumValues() - c.NullCount()
		switch {
		case ok && n.foreign == nil:
			b.Low, b.High = bound(n.field.Kind, low), bound(n.field.Kind, high)
		case ok && n.foreign.ordered:
			b.Low, b.High = n.foreign.cellOf(low), n.foreign.cellOf(high)
		}
		return b, true
	}
	return b, false
}

func bound(k Kind, v pq.Value) Cell {
	c := Cell{Kind: k}
	switch k {
	case String:
		c.Text = v.ByteArray()
	case Double:
		c.Real = v.Double()
	case Int, Timestamp, TimestampS, TimestampMs, TimestampUs:
		c.Int = v.Int64()
	default:
		return Cell{}
	}
	return c
}
