package parquet

import "sync"

// Rows is objects as columns, on their way into one file.
//
// A column has one slot for each instance of the object or list element it belongs to: the
// columns at the top one for each row, those of a group one for each row in which the group
// is there, those of an element one for each element. Slots at the end that are missing are
// null, so a field that a row does not have costs nothing. The objects of one Rows have
// less than 4 GiB of JSON.
type Rows struct {
	root  *column
	n     int
	bytes int
	total int // rows that there will be, as far as it is known
}

// column holds the slots of one field.
type column struct {
	field   *Field // nil when nothing has come to the column yet
	kind    Kind   // of the values so far; an Int may become a Double later
	there   []byte // one for each slot: 1 when it holds a value; empty while every slot does
	present int    // how many do

	words []uint64  // bools, numbers and times
	text  []byte    // strings, one after the other
	ends  []uint32  // where each ends
	lens  []uint32  // elements of each list
	elems int       // elements of all lists
	kids  []*column // of an object by the field's place; of a list its element
}

// used are rows whose memory is free for others: growing it costs as much as filling it.
// What a garbage collection finds here goes.
var used = sync.Pool{New: func() any { return &Rows{root: &column{}} }}

// NewRows returns rows without any.
func NewRows() *Rows { return used.Get().(*Rows) }

// Release lets others have the memory of r, which must not be used any more.
func (r *Rows) Release() {
	r.root.reset()
	r.n, r.bytes, r.total = 0, 0, 0
	used.Put(r)
}

// reset empties c and keeps its memory.
func (c *column) reset() {
	for _, k := range c.kids {
		if k != nil && k.field != nil {
			k.reset()
		}
	}
	*c = column{there: c.there[:0], words: c.words[:0], text: c.text[:0], ends: c.ends[:0], lens: c.lens[:0], kids: c.kids}
}

// Len is the number of rows.
func (r *Rows) Len() int { return r.n }

// Bytes is the number of bytes of JSON that the rows were made from.
func (r *Rows) Bytes() int { return r.bytes }

// Append adds the object that d decoded last. The rows of one file come from one decoder.
func (r *Rows) Append(d *Decoder) {
	r.root.members(d, 0, len(d.tokens), r.n)
	r.n++
	r.bytes += len(d.data)
}

// members puts d's tokens from i to end into c's columns; slot is the slot of c's object
// among those that are there.
func (c *column) members(d *Decoder, i, end, slot int) {
	for i < end {
		t := &d.tokens[i]
		if t.op > opAside {
			c.kid(t.field.place, t.field).put(d, i, slot)
		}
		i = int(t.end)
	}
}

func (c *column) kid(place int, f *Field) *column {
	if place < len(c.kids) {
		if k := c.kids[place]; k != nil && k.field == f {
			return k
		}
	}
	return c.begin(place, f)
}

// begin makes the column at the place that of f.
func (c *column) begin(place int, f *Field) *column {
	for place >= len(c.kids) {
		c.kids = append(c.kids, nil)
	}
	if c.kids[place] == nil {
		c.kids[place] = &column{}
	}
	k := c.kids[place]
	k.field, k.kind = f, f.Kind
	return k
}

// put sets c's value in the slot to that of the token at i.
func (c *column) put(d *Decoder, i, slot int) {
	t := &d.tokens[i]
	if t.op == opNull {
		c.gap(slot + 1)
		return
	}
	c.mark(slot)
	switch t.op {
	case opWord, opWhole:
		if c.kind != c.field.Kind {
			c.widen()
		}
		bits := t.bits
		if t.op == opWhole && c.kind == Double {
			bits = realBits(int64(bits))
		}
		c.words = append(c.words, bits)
	case opText, opEscaped:
		c.text = append(c.text, d.textOf(t)...)
		c.ends = append(c.ends, uint32(len(c.text)))
	case opObject:
		c.members(d, i+1, int(t.end), c.present-1)
	case opList:
		elem := c.kid(0, t.field.Elem)
		for k, j := 0, i+1; k < int(t.bits); k++ {
			elem.put(d, j, c.elems)
			c.elems++
			j = int(d.tokens[j].end)
		}
		c.lens = append(c.lens, uint32(t.bits))
	}
}

// gap makes the slots up to the given one null, after those that are known. No slot is
// known to be null before the first call.
func (c *column) gap(slot int) {
	if len(c.there) == 0 {
		for range c.present {
			c.there = append(c.there, 1)
		}
	}
	for len(c.there) < slot {
		c.there = append(c.there, 0)
	}
}

// has reports whether the slot holds a value.
func (c *column) has(slot int) bool {
	if len(c.there) == 0 {
		return slot < c.present
	}
	return slot < len(c.there) && c.there[slot] != 0
}

// full reports whether every one of so many slots holds a value.
func (c *column) full(slots int) bool { return len(c.there) == 0 && c.present == slots }

// widen turns whole numbers into doubles when the field has become one.
func (c *column) widen() {
	if c.kind == Int && c.field.Kind == Double {
		for i, w := range c.words {
			c.words[i] = realBits(int64(w))
		}
	}
	c.kind = c.field.Kind
}
