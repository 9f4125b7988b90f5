package parquet

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
}

// column holds the slots of one field.
type column struct {
	field   *Field
	kind    Kind   // of the values so far; an Int may become a Double later
	there   []byte // one for each slot: 1 when it holds a value
	present int    // how many do

	words []uint64  // bools, numbers and times
	text  []byte    // strings, one after the other
	ends  []uint32  // where each ends
	lens  []uint32  // elements of each list
	elems int       // elements of all lists
	kids  []*column // of an object by the field's place; of a list its element
}

// NewRows returns rows without any.
func NewRows() *Rows { return &Rows{root: &column{}} }

// Len is the number of rows.
func (r *Rows) Len() int { return r.n }

// Bytes is the number of bytes of JSON that the rows were made from.
func (r *Rows) Bytes() int { return r.bytes }

// Append adds the object that d decoded last. The rows of one file come from one decoder.
func (r *Rows) Append(d *Decoder) {
	r.root.members(d.tokens, 0, len(d.tokens), r.n)
	r.n++
	r.bytes += len(d.data)
}

// members puts the tokens from i to end into c's columns; slot is the slot of c's object
// among those that are there.
func (c *column) members(tokens []token, i, end, slot int) {
	for i < end {
		t := &tokens[i]
		if t.op != opSkip {
			c.kid(t.field.place, t.field).put(tokens, i, slot)
		}
		i = int(t.end)
	}
}

func (c *column) kid(place int, f *Field) *column {
	for place >= len(c.kids) {
		c.kids = append(c.kids, nil)
	}
	if c.kids[place] == nil {
		c.kids[place] = &column{field: f, kind: f.Kind}
	}
	return c.kids[place]
}

// put sets c's value in the slot to that of the token at i.
func (c *column) put(tokens []token, i, slot int) {
	for len(c.there) < slot {
		c.there = append(c.there, 0)
	}
	t := &tokens[i]
	if t.op == opNull {
		c.there = append(c.there, 0)
		return
	}
	c.there = append(c.there, 1)
	c.present++
	switch t.op {
	case opWord:
		c.widen()
		c.words = append(c.words, t.bits)
	case opText:
		c.text = append(c.text, t.text...)
		c.ends = append(c.ends, uint32(len(c.text)))
	case opObject:
		c.members(tokens, i+1, int(t.end), c.present-1)
	case opList:
		elem := c.kid(0, t.field.Elem)
		for k, j := 0, i+1; k < int(t.bits); k++ {
			elem.put(tokens, j, c.elems)
			c.elems++
			j = int(tokens[j].end)
		}
		c.lens = append(c.lens, uint32(t.bits))
	}
}

// widen turns whole numbers into doubles when the field has become one.
func (c *column) widen() {
	if c.kind == c.field.Kind {
		return
	}
	if c.kind == Int && c.field.Kind == Double {
		for i, w := range c.words {
			c.words[i] = realBits(int64(w))
		}
	}
	c.kind = c.field.Kind
}
