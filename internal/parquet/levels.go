package parquet

// levels are the definition and repetition levels of one leaf: how much of the way to each
// value is there, and which list it continues. See the Dremel paper; the file format's
// description has examples.
type levels struct {
	n              int     // how many there are
	full           bool    // all are maxDef, and there is no list: def is empty
	def, rep       []uint8 // rep is empty where there is no list
	maxDef, maxRep uint8

	way   chain
	next  []int // per link: how many of its instances were passed
	elems []int // per link that is a list: how many elements were passed
}

// of computes the levels of the leaf at the end of the way.
func (l *levels) of(way chain, rows int) {
	l.def, l.rep, l.way = l.def[:0], l.rep[:0], way
	l.maxDef, l.maxRep = 0, 0
	for _, k := range way[1:] {
		l.maxDef++
		if k.kind == List {
			l.maxDef++
			l.maxRep++
		}
	}
	if l.full = complete(way, rows); l.full {
		l.n = rows
		return
	}
	if len(way) == 2 { // a column at the top
		if c := way[1].c; c != nil {
			for len(c.there) < c.present { // all of those before the first that is missing
				c.there = append(c.there, 1)
			}
			l.def = append(l.def, c.there...)
		}
		for len(l.def) < rows {
			l.def = append(l.def, 0)
		}
		l.n = rows
		return
	}
	l.next, l.elems = append(l.next[:0], make([]int, len(way))...), append(l.elems[:0], make([]int, len(way))...)
	for row := range rows {
		l.emit(1, row, 0, 0, 0)
	}
	l.n = len(l.def)
}

// complete reports whether every row has a value at the end of the way, in no list.
func complete(way chain, rows int) bool {
	for _, k := range way[1:] {
		if k.c == nil || k.kind == List || !k.c.full(rows) {
			return false
		}
	}
	return true
}

// emit appends the levels of everything in one slot of the k-th link. lists is how many
// lists are above it.
func (l *levels) emit(k, slot int, rep, def, lists uint8) {
	c := l.way[k].c
	if c == nil || !c.has(slot) {
		l.out(rep, def)
		return
	}
	at := l.next[k]
	l.next[k]++
	switch l.way[k].kind {
	case Object:
		l.emit(k+1, at, rep, def+1, lists)
	case List:
		n := int(c.lens[at])
		if n == 0 {
			l.out(rep, def+1)
			return
		}
		for range n {
			i := l.elems[k]
			l.elems[k]++
			l.emit(k+1, i, rep, def+2, lists+1)
			rep = lists + 1
		}
	default:
		l.out(rep, def+1)
	}
}

func (l *levels) out(rep, def uint8) {
	l.def = append(l.def, def)
	if l.maxRep > 0 {
		l.rep = append(l.rep, rep)
	}
}

// cut finds the end of a page that begins at first: at the first row after about n values.
// values is how many of the levels from first to last have a value.
func (l *levels) cut(first, n int) (last, values int) {
	last = min(first+n, l.n)
	if l.full {
		return last, last - first
	}
	for last < len(l.rep) && l.rep[last] != 0 {
		last++
	}
	for _, d := range l.def[first:last] {
		if d == l.maxDef {
			values++
		}
	}
	return last, values
}
