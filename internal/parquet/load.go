package parquet

import (
	"errors"
	"fmt"
	"io"
	"slices"

	pq "github.com/parquet-go/parquet-go"
)

// Load appends the rows of a file for which keep is true, or all where it is nil, without making
// JSON of them. s is the schema they are written with: that of the file or a later one. All that
// is loaded into one Rows is loaded with one s. After an error the rows are of no use.
func (r *Rows) Load(f *Reader, s *Schema, keep func(row int) bool) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the file is damaged: %v", p)
		}
		if err != nil {
			err = fmt.Errorf("read %s: %w", f.name, err)
		}
	}()
	if f.Foreign {
		return errors.New("somebody else wrote it, and its columns are not as those of the dataset")
	}
	before := 0
	for g := range f.Groups() {
		scan := f.Scan(g)
		n := int(scan.Len())
		l := loader{rows: r, base: r.n, keep: keep, before: before, at: map[*node]*target{}, buffer: make([]pq.Value, 1024)}
		if err := l.targets(f.top, s.Fields, r.root); err != nil {
			return err
		}
		kept := n
		if keep != nil {
			kept = 0
			for i := range n {
				if keep(before + i) {
					kept++
				}
			}
		}
		for i, leaf := range f.leaves {
			if i >= len(scan.chunks) || int(scan.chunks[i].Type().Kind()) != int(leaf.physical) {
				return fmt.Errorf("the file is damaged: column %d is not of the type that its schema has", i)
			}
			if err := l.leaf(leaf, scan.chunks[i], n); err != nil {
				return err
			}
		}
		r.n += kept
		before += n
	}
	return nil
}

// Expect says how many rows will be loaded, so that their memory grows once.
func (r *Rows) Expect(rows int) { r.total = rows }

// mostExpected is how many bytes of a column are made room for at once: what a file says of itself may be wrong.
const mostExpected = 64 << 20

// room makes room in the column of a leaf that is in no list for the rows that are expected.
func (l *loader) room(c *column, leaf *node, rows int) {
	more := min(l.rows.total-l.base, mostExpected/8)
	if leaf.lists > 0 || rows == 0 || more <= 0 {
		return
	}
	if !leaf.field.texts() {
		c.words = slices.Grow(c.words, more)
		return
	}
	c.ends = slices.Grow(c.ends, more)
	if before := len(c.text); before > 0 && l.base > 0 { // the others are about as long
		c.text = slices.Grow(c.text, min(before/l.base*more, mostExpected))
	}
}

// loader loads one row group.
type loader struct {
	rows   *Rows
	base   int // rows that were there
	keep   func(row int) bool
	before int // rows of the file before the row group
	at     map[*node]*target
	buffer []pq.Value
}

// target is where a node's values go.
type target struct {
	c              *column
	present, elems int // of c, before the row group
}

// targets makes the columns of nodes, which are members of c.
func (l *loader) targets(nodes []*node, fields []*Field, c *column) error {
	for _, n := range nodes {
		place := -1
		for i, f := range fields {
			if f.Name == n.field.Name {
				place = i
			}
		}
		if place < 0 {
			return fmt.Errorf("the schema has no column %q", n.field.Name)
		}
		if err := l.target(n, fields[place], c, place); err != nil {
			return err
		}
	}
	return nil
}

func (l *loader) target(n *node, f *Field, parent *column, place int) error {
	if f.declared() != n.field.declared() || f.Width != n.field.Width {
		return fmt.Errorf("column %q is of type %s, and of type %s in the schema", n.field.Name, n.field.declared(), f.declared())
	}
	c := parent.kid(place, f)
	l.at[n] = &target{c, c.present, c.elems}
	switch f.Kind {
	case Object:
		return l.targets(n.kids, f.Fields, c)
	case List:
		return l.target(n.kids[0], f.Elem, c, 0)
	}
	return nil
}

// step is one link of the way to a leaf.
type step struct {
	*target
	n     *node
	owned bool // the leaf is the first below the node: it makes the node's slots
	// How many instances and elements of the node the leaf has passed.
	passed, elements int
}

// leaf loads the column of a leaf.
func (l *loader) leaf(leaf *node, chunk pq.ColumnChunk, rows int) (err error) {
	var way []step
	for n := leaf; n != nil; n = n.up {
		t := l.at[n]
		way = append([]step{{target: t, n: n, owned: n.leaf == leaf, passed: t.present, elements: t.elems}}, way...)
	}
	l.room(l.at[leaf].c, leaf, rows)
	pages := chunk.Pages()
	defer func() { err = errors.Join(err, pages.Close()) }()
	w := walk{loader: l, way: way, row: -1, slot: l.base - 1}
	for {
		page, err := pages.ReadPage()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if err := w.page(page.Values()); err != nil {
			return err
		}
		pq.Release(page)
	}
	if w.row != rows-1 {
		return fmt.Errorf("the file is damaged: a column has %d rows, not %d", w.row+1, rows)
	}
	return nil
}

// walk goes through the values of a leaf.
type walk struct {
	*loader
	way  []step
	row  int // of the row group
	slot int // of the row among all that are kept
	skip bool
}

func (w *walk) page(values pq.ValueReader) error {
	for {
		n, err := values.ReadValues(w.buffer)
		for i := range w.buffer[:n] {
			v := &w.buffer[i]
			rep := v.RepetitionLevel()
			if rep == 0 {
				w.row++
				if w.skip = w.keep != nil && !w.keep(w.before+w.row); !w.skip {
					w.slot++
				}
			}
			if !w.skip {
				w.value(v, rep, v.DefinitionLevel())
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrNoProgress
		}
	}
}

// value adds what one value says of each node on its way.
func (w *walk) value(v *pq.Value, rep, def int) {
	i, slot := 0, w.slot
	if rep > 0 {
		for w.way[i].n.field.Kind != List || w.way[i].n.rep != rep {
			i++
		}
		s := &w.way[i]
		if s.owned {
			s.c.lens[len(s.c.lens)-1]++
			s.c.elems++
		}
		s.elements++
		slot = s.elements - 1
		i++
	}
	for ; i < len(w.way); i++ {
		s := &w.way[i]
		if def < s.n.def {
			return
		}
		if s.owned {
			s.c.mark(slot)
		}
		s.passed++
		slot = s.passed - 1
		switch kind := s.n.field.Kind; {
		case kind == Object:
		case kind == List:
			some := def > s.n.def
			if s.owned {
				n := uint32(0)
				if some {
					n = 1
					s.c.elems++
				}
				s.c.lens = append(s.c.lens, n)
			}
			if !some {
				return
			}
			s.elements++
			slot = s.elements - 1
		case kind == Bool:
			bit := uint64(0)
			if v.Boolean() {
				bit = 1
			}
			s.c.words = append(s.c.words, bit)
		case s.n.field.texts():
			s.c.text = append(s.c.text, v.ByteArray()...)
			s.c.ends = append(s.c.ends, uint32(len(s.c.text)))
		case s.n.field.Width == 4:
			s.c.words = append(s.c.words, uint64(v.Int32()))
		default:
			s.c.words = append(s.c.words, v.Uint64())
		}
	}
}

// mark notes that a slot, behind all others, holds a value.
func (c *column) mark(slot int) {
	if c.present != slot || len(c.there) > 0 {
		c.gap(slot)
		c.there = append(c.there, 1)
	}
	c.present++
}

// Pick returns new rows: those of r in the given order, of which each is there at most once.
func (r *Rows) Pick(order []int32) *Rows {
	out := NewRows()
	out.n = len(order)
	if r.n > 0 {
		out.bytes = int(int64(r.bytes) * int64(len(order)) / int64(r.n))
	}
	for place, k := range r.root.kids {
		if k != nil && k.field != nil {
			out.root.begin(place, k.field).pick(k, order, r.n)
		}
	}
	return out
}

// pick fills c with the given slots of from, which has so many.
func (c *column) pick(from *column, slots []int32, all int) {
	c.kind = from.kind
	picked := slots
	if !from.full(all) {
		picked = c.pickThere(from, slots)
	} else {
		c.present = len(slots)
	}
	switch {
	case from.kind == Object:
		for place, k := range from.kids {
			if k != nil && k.field != nil {
				c.begin(place, k.field).pick(k, picked, from.present)
			}
		}
	case from.kind == List:
		c.pickLists(from, picked)
	case from.field.texts():
		for _, p := range picked {
			c.text = append(c.text, from.bytes(int(p))...)
			c.ends = append(c.ends, uint32(len(c.text)))
		}
	default:
		for _, p := range picked {
			c.words = append(c.words, from.words[p])
		}
	}
}

// pickThere marks the slots that hold a value, and returns which values of from they are.
func (c *column) pickThere(from *column, slots []int32) (picked []int32) {
	rank := make([]int32, len(from.there))
	n := int32(0)
	for i, there := range from.there {
		rank[i] = n
		n += int32(there)
	}
	for i, s := range slots {
		if !from.has(int(s)) {
			continue
		}
		c.mark(i)
		if len(rank) > 0 {
			s = rank[s]
		}
		picked = append(picked, s)
	}
	return picked
}

func (c *column) pickLists(from *column, picked []int32) {
	starts := make([]int32, len(from.lens))
	n := int32(0)
	for i, l := range from.lens {
		starts[i] = n
		n += int32(l)
	}
	var elements []int32
	for _, p := range picked {
		c.lens = append(c.lens, from.lens[p])
		for k := range int32(from.lens[p]) {
			elements = append(elements, starts[p]+k)
		}
	}
	c.elems = len(elements)
	if len(from.kids) > 0 && from.kids[0] != nil && from.kids[0].field != nil {
		c.begin(0, from.kids[0].field).pick(from.kids[0], elements, from.elems)
	}
}

// Memory is about how many bytes the rows hold.
func (r *Rows) Memory() int64 { return r.root.memory() }

func (c *column) memory() int64 {
	n := int64(len(c.there)) + 8*int64(len(c.words)) + int64(len(c.text)) + 4*int64(len(c.ends)+len(c.lens))
	for _, k := range c.kids {
		if k != nil && k.field != nil {
			n += k.memory()
		}
	}
	return n
}
