package catalog

import "encoding/binary"

// Index maps ids of events to values. It is for ids that are fingerprints: their bits are as
// good as a hash, and nobody can choose them so that they collide. The zero Index is empty.
type Index[V any] struct {
	slots []slot[V] // a power of two, at most three quarters full
	n     int
	zero  *V // of the id of zeros, which marks slots that are free
}

type slot[V any] struct {
	id    ID
	value V
}

// Len is the number of ids.
func (x *Index[V]) Len() int {
	if x.zero != nil {
		return x.n + 1
	}
	return x.n
}

// Get is the value of the id.
func (x *Index[V]) Get(id ID) (v V, ok bool) {
	if id == (ID{}) {
		if x.zero == nil {
			return v, false
		}
		return *x.zero, true
	}
	if x.n == 0 {
		return v, false
	}
	s := x.find(id)
	return s.value, s.id == id
}

// Set sets the value of the id.
func (x *Index[V]) Set(id ID, v V) {
	if id == (ID{}) {
		zero := v // v itself would be on the heap for every id
		x.zero = &zero
		return
	}
	x.Reserve(1)
	s := x.find(id)
	if s.id != id {
		s.id = id
		x.n++
	}
	s.value = v
}

// find is the slot of the id, or the free one where it belongs. One is always free.
func (x *Index[V]) find(id ID) *slot[V] {
	mask := uint64(len(x.slots) - 1)
	for at := binary.LittleEndian.Uint64(id[:]) & mask; ; at = (at + 1) & mask {
		if s := &x.slots[at]; s.id == id || s.id == (ID{}) {
			return s
		}
	}
}

// Reserve makes room for n more ids.
func (x *Index[V]) Reserve(n int) {
	size := max(len(x.slots), 16)
	for 4*(x.n+n) > 3*size {
		size *= 2
	}
	if size == len(x.slots) {
		return
	}
	old := x.slots
	x.slots = make([]slot[V], size)
	for _, s := range old {
		if s.id != (ID{}) {
			*x.find(s.id) = s
		}
	}
}
