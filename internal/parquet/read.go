package parquet

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"time"

	pq "github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"

	"github.com/weirdata/weir/internal/jsontext"
)

// Reader reads a file that [Rows.Write] wrote, as the JSON it was made of. What differs:
// white space, the order of keys, how numbers and strings are spelt, and fields that were
// null, which are not there.
//
// A file that somebody else wrote it reads as JSON too ([Options] have no part in that): decimals
// as numbers with all their digits, times, dates and UUIDs as text, times that are adjusted to UTC
// with a Z, bytes as base64, maps as objects, and what is no number to JSON ("NaN") as text.
type Reader struct {
	Schema   *Schema
	Metadata map[string]string
	Foreign  bool   // somebody else wrote the file
	name     string // for errors
	file     io.Closer
	parquet  *pq.File
	top      []*node
	leaves   []*node
	groups   []pq.RowGroup
	rows     pq.Rows
	buffer   []pq.Row
	row, end int
}

// node is a field as the reader walks it.
type node struct {
	field  *Field
	key    []byte // as JSON, with its colon
	def    int    // definition level at which the field is there
	rep    int    // of a list: the level of its elements
	lists  int    // above it
	up     *node  // what it is in; nil at the top
	kids   []*node
	leaf   *node      // the first leaf below, or the node itself; of a map that of its keys
	values []pq.Value // of the row that is read; leaves only

	physical format.Type // of the values in the file; leaves only
	foreign  *foreign    // how they are read; nil: as their kind alone says
}

// File is a Parquet file as the reader needs it.
type File interface {
	io.ReaderAt
	io.Closer
}

// Open opens the file at path.
func Open(path string) (*Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return NewReader(path, f, info.Size())
}

// NewReader reads a file of the given size, and closes it with the reader, or when it cannot
// be read. Errors call it by its name.
func NewReader(name string, f File, size int64) (*Reader, error) {
	r, err := read(f, size)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read %s: %w", name, err), f.Close())
	}
	r.name = name
	return r, nil
}

// CountRows is the number of rows of a Parquet file of the given size, whoever wrote it.
func CountRows(f io.ReaderAt, size int64) (int64, error) {
	file, err := footer(f, size)
	if err != nil {
		return 0, err
	}
	return file.NumRows(), nil
}

// footer reads what a file says of itself.
func footer(f io.ReaderAt, size int64) (file *pq.File, err error) {
	defer func() { // the library panics on some files that are none
		if p := recover(); p != nil {
			err = fmt.Errorf("not a Parquet file: %v", p)
		}
	}()
	return pq.OpenFile(f, size, pq.SkipBloomFilters(true), pq.SkipPageIndex(true))
}

func read(f File, size int64) (r *Reader, err error) {
	defer func() { // the schema of one that is none may not fit it
		if p := recover(); p != nil {
			err = fmt.Errorf("not a Parquet file: %v", p)
		}
	}()
	file, err := footer(f, size)
	if err != nil {
		return nil, err
	}
	r = &Reader{Metadata: map[string]string{}, file: f, parquet: file, groups: file.RowGroups(), buffer: make([]pq.Row, 64)}
	for _, kv := range file.Metadata().KeyValueMetadata {
		if kv.Key != SchemaKey {
			r.Metadata[kv.Key] = kv.Value
		}
	}
	text, own := file.Lookup(SchemaKey)
	if !own {
		r.Foreign = true
		err = r.adopt(file.Metadata().Schema)
	} else if r.Schema, err = Parse([]byte(text)); err == nil {
		r.top = r.nodes(r.Schema.Fields, 0, 0)
	}
	if err != nil {
		return nil, err
	}
	if have := len(file.Schema().Columns()); have != max(len(r.leaves), 1) {
		return nil, fmt.Errorf("the file has %d columns, its schema %d", have, len(r.leaves))
	}
	return r, nil
}

func (r *Reader) nodes(fields []*Field, def, lists int) []*node {
	var out []*node
	for _, f := range columnsOf(fields) {
		n := r.node(f, def, lists)
		n.key = append(jsontext.AppendString(nil, f.Key), ':')
		out = append(out, n)
	}
	return out
}

func (r *Reader) node(f *Field, def, lists int) *node {
	n := &node{field: f, def: def + 1, lists: lists}
	switch f.Kind {
	case Object:
		n.kids = r.nodes(f.Fields, n.def, lists)
		n.leaf = n.kids[0].leaf
	case List:
		n.rep = lists + 1
		n.kids = []*node{r.node(f.Elem, n.def+1, lists+1)}
		n.leaf = n.kids[0].leaf
	default:
		n.leaf, n.physical, n.foreign = n, physical(f), ownType(f)
		r.leaves = append(r.leaves, n)
	}
	for _, k := range n.kids {
		k.up = n
	}
	return n
}

// NumRows is the number of rows of the file.
func (r *Reader) NumRows() int64 { return r.parquet.NumRows() }

// Close closes the file.
func (r *Reader) Close() error {
	var err error
	if r.rows != nil {
		err = r.rows.Close()
		r.rows = nil
	}
	return errors.Join(err, r.file.Close())
}

// Next appends the next row as JSON to dst. It returns io.EOF after the last.
func (r *Reader) Next(dst []byte) (_ []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("read %s: the file is damaged: %v", r.name, p)
		}
	}()
	for r.row >= r.end {
		if err := r.fill(); err != nil {
			return dst, err
		}
	}
	row := r.buffer[r.row]
	r.row++
	if len(r.leaves) == 0 { // the column that stands for none
		return append(dst, "{}"...), nil
	}
	for i := 0; i < len(row); {
		k := i + 1
		for k < len(row) && row[k].Column() == row[i].Column() {
			k++
		}
		r.leaves[row[i].Column()].values = row[i:k]
		i = k
	}
	return members(dst, r.top), nil
}

// fill reads more rows into the buffer.
func (r *Reader) fill() error {
	if r.rows == nil {
		if len(r.groups) == 0 {
			return io.EOF
		}
		r.rows, r.groups = r.groups[0].Rows(), r.groups[1:]
	}
	n, err := r.rows.ReadRows(r.buffer)
	r.row, r.end = 0, n
	if n > 0 {
		return nil
	}
	if err == nil {
		return fmt.Errorf("read %s: %w", r.name, io.ErrNoProgress)
	}
	if err != io.EOF {
		return fmt.Errorf("read %s: %w", r.name, err)
	}
	rows := r.rows
	r.rows = nil
	return rows.Close()
}

func members(dst []byte, nodes []*node) []byte {
	start := len(dst)
	dst = append(dst, '{')
	some := false
	var rest []byte
	for _, n := range nodes {
		if n.field.Variant == Rest {
			if n.there() {
				rest = n.values[0].ByteArray()
			}
			n.pass()
			continue
		}
		if !n.there() {
			n.pass()
			continue
		}
		if some {
			dst = append(dst, ',')
		}
		some = true
		dst = append(dst, n.key...)
		dst = n.value(dst)
	}
	dst = append(dst, '}')
	if len(rest) > 0 {
		dst = AppendMerged(dst[:start], bytes.Clone(dst[start:]), rest)
	}
	return dst
}

// there reports whether n has a value at its place.
func (n *node) there() bool { return n.leaf.values[0].DefinitionLevel() >= n.def }

// pass goes on to the next place of every leaf below n.
func (n *node) pass() {
	if len(n.kids) == 0 {
		n.values = n.values[1:]
		return
	}
	for _, k := range n.kids {
		k.pass()
	}
}

func (n *node) value(dst []byte) []byte {
	switch n.field.Kind {
	case Object:
		return members(dst, n.kids)
	case List:
		return n.list(dst)
	case Map:
		return n.entries(dst)
	}
	v := n.values[0]
	n.values = n.values[1:]
	if n.foreign != nil {
		return n.foreign.text(dst, v)
	}
	switch n.field.Kind {
	case Bool:
		return strconv.AppendBool(dst, v.Boolean())
	case Int:
		return strconv.AppendInt(dst, v.Int64(), 10)
	case Double:
		return appendDouble(dst, v.Double())
	case String:
		return jsontext.AppendString(dst, string(v.ByteArray()))
	case JSON:
		return append(dst, v.ByteArray()...)
	case Timestamp:
		return jsontext.AppendString(dst, time.UnixMicro(v.Int64()).UTC().Format(time.RFC3339Nano))
	}
	return appendUnits(dst, v.Int64(), unitOf(n.field.Kind))
}

// appendUnits appends microseconds as a number of units.
func appendUnits(dst []byte, us, unit int64) []byte {
	whole, part := us/unit, us%unit
	if part < 0 {
		part = -part
		if whole == 0 {
			dst = append(dst, '-')
		}
	}
	dst = strconv.AppendInt(dst, whole, 10)
	if part == 0 {
		return dst
	}
	digits := strconv.AppendInt(nil, part+unit, 10) // the first one keeps zeros in front
	return append(append(dst, '.'), bytes.TrimRight(digits[1:], "0")...)
}

func (n *node) list(dst []byte) []byte {
	elem := n.kids[0]
	if elem.leaf.values[0].DefinitionLevel() < n.def+1 {
		n.pass()
		return append(dst, "[]"...)
	}
	dst = append(dst, '[')
	for {
		if elem.there() {
			dst = elem.value(dst)
		} else {
			dst = append(dst, "null"...)
			elem.pass()
		}
		if rest := elem.leaf.values; len(rest) == 0 || rest[0].RepetitionLevel() < n.rep {
			return append(dst, ']')
		}
		dst = append(dst, ',')
	}
}

// entries appends a map as an object.
func (n *node) entries(dst []byte) []byte {
	key, value := n.kids[0], n.kids[1]
	if key.values[0].DefinitionLevel() < n.def+1 {
		n.pass()
		return append(dst, "{}"...)
	}
	dst = append(dst, '{')
	for {
		at := len(dst)
		if dst = key.value(dst); dst[at] != '"' {
			text := string(dst[at:])
			dst = jsontext.AppendString(dst[:at], text)
		}
		dst = append(dst, ':')
		if value.there() {
			dst = value.value(dst)
		} else {
			dst = append(dst, "null"...)
			value.pass()
		}
		if rest := key.values; len(rest) == 0 || rest[0].RepetitionLevel() < n.rep {
			return append(dst, '}')
		}
		dst = append(dst, ',')
	}
}

func appendDouble(dst []byte, x float64) []byte {
	spelling, digits := byte('f'), -1
	switch a := math.Abs(x); {
	case a != 0 && (a < 1e-6 || a >= 1e21):
		spelling = 'e'
	case a > exact:
		digits = 0 // all of them: readers that take it for a whole number see the same one
	}
	return strconv.AppendFloat(dst, x, spelling, digits, 64)
}
