package machine

import (
	"errors"
	"fmt"
	"slices"

	"github.com/weirdata/weir/internal/machine/jsonvalue"
)

// An execution is kept in one piece ([Execution.Append], [Definition.Decode]), or as a head and
// parts ([Definition.Rest], [Definition.Load]). Each step writes the head anew, so it stays small:
// large values, the items of a Map and the results of its iterations are parts. A part is written
// once, read when it is needed and dropped when no head refers to it any more. So what a Map
// costs grows with its items, and not with their square.
//
// A part is known by a number, which an execution gives out once, and a place:
//
//	a large value       its number, place 0
//	the items of a Map  its number; the n-th piece of some items, an array, at place n
//	their results       the number that follows; the result of the n-th item at place n

// Part is a part of an execution at rest.
type Part struct {
	Number uint64
	Place  int
	Data   []byte
}

// Rest is an execution as it is to be kept from now on.
type Rest struct {
	Head []byte
	Put  []Part // to be written with the head
	Drop []Part // without data: to be deleted with the head that was there before
}

// Parts reads n parts of a number, from a place on: nil for one that is not there.
type Parts func(number uint64, first, n int) ([][]byte, error)

// Bounds of what stands in a head.
const (
	headValues = 4096 // bytes of values, shared by the frames
	leastValue = 64   // bytes of a value that stands in any head
	headItems  = 16   // of a Map whose items and results stand in the head
	pieceBytes = 4096 // about; of a piece of items
	pieceItems = 64
)

// kept is what an execution that was loaded has at rest. It is shared by all that Step makes of it.
type kept struct {
	read   Parts
	recent *Recent
	of     recallKey // of the execution, without a number
	series []series  // that the head refers to
	known  map[partKey]jsonvalue.Value
}

type partKey struct {
	number uint64
	place  int
}

// series is what is at rest of a number: its places below n but those that are open.
type series struct {
	number uint64
	n      int
	open   []int // of the results of a Map: those that are not there yet
	fan    bool  // items or results of a Map
}

// unread is what a step panics with that needs a part and does not get it.
type unread struct{ err error }

// ErrPart says that a part is not where its head says.
var ErrPart = errors.New("a part of the execution is not there")

// value is the part at a place.
func (k *kept) value(number uint64, at int) jsonvalue.Value {
	key := partKey{number, at}
	if v, ok := k.known[key]; ok {
		return v
	}
	v := k.several(number, at, 1)[0]
	if !v.Defined() {
		panic(unread{fmt.Errorf("part %d of it, place %d: %w", number, at, ErrPart)})
	}
	k.note(key, v)
	return v
}

func (k *kept) note(key partKey, v jsonvalue.Value) {
	if k.known == nil {
		k.known = map[partKey]jsonvalue.Value{}
	}
	k.known[key] = v
}

// large is a large value that is a part of its own.
func (k *kept) large(h *held) jsonvalue.Value {
	key := k.of
	key.number = h.number
	v, ok := k.recent.get(key)
	if ok {
		k.note(partKey{h.number, 0}, v)
		return v
	}
	v = k.value(h.number, 0)
	k.recent.add(key, v, h.size)
	return v
}

// several reads n places of a number, Undefined where there is nothing.
func (k *kept) several(number uint64, first, n int) []jsonvalue.Value {
	texts, err := k.read(number, first, n)
	if err != nil {
		panic(unread{err})
	}
	values := make([]jsonvalue.Value, n)
	for i, text := range texts {
		if text == nil {
			continue
		}
		if values[i], err = jsonvalue.ParseWritten(string(text)); err != nil {
			panic(unread{fmt.Errorf("part %d of it, place %d: %w", number, first+i, err)})
		}
	}
	return values
}

// held is a value that may be at rest.
type held struct {
	value  jsonvalue.Value // Undefined while it is only at rest
	number uint64          // of the part, 0 when there is none
	size   int             // of the value, when it is a part
}

func hold(v jsonvalue.Value) held { return held{value: v} }

func (h *held) defined() bool { return h.number != 0 || h.value.Defined() }

func (h *held) bytes() int {
	if h.number != 0 {
		return h.size
	}
	return h.value.Size()
}

// get is the value, read if need be.
func (r *run) get(h *held) jsonvalue.Value {
	if h.number != 0 && !h.value.Defined() {
		h.value = r.x.kept.large(h)
	}
	return h.value
}

// input is the input of f's state.
func (r *run) input(f *frame) jsonvalue.Value {
	if f.asItem {
		return r.itemValue(f.item)
	}
	return r.get(&f.input)
}

// executionInput is $$.Execution.Input.
func (r *run) executionInput() jsonvalue.Value {
	if r.x.apart.number != 0 && !r.x.Input.Defined() {
		r.x.Input = r.get(&r.x.apart)
	}
	return r.x.Input
}

// itemValue is $$.Map.Item.Value.
func (r *run) itemValue(item *mapItem) jsonvalue.Value {
	if item.value.Defined() {
		return item.value
	}
	return r.piece(item.number, item.index, item.each)
}

// piece is an item of a Map whose items are at rest, each of them in a piece.
func (r *run) piece(number uint64, index, each int) jsonvalue.Value {
	v := r.x.kept.value(number, index/each)
	if v.Kind() != jsonvalue.Array || index%each >= v.Len() {
		panic(unread{fmt.Errorf("part %d of it, place %d, has no item %d: %w", number, index/each, index%each, ErrPart)})
	}
	return v.Item(index % each)
}

// results are the results of all branches or iterations of n.
func (r *run) results(n *fan) []jsonvalue.Value {
	if n.number == 0 {
		return n.results
	}
	values := r.x.kept.several(n.number+1, 0, n.count)
	for _, late := range n.fresh {
		values[late.ordinal] = late.value
	}
	if at := slices.IndexFunc(values, func(v jsonvalue.Value) bool { return !v.Defined() }); at >= 0 {
		panic(unread{fmt.Errorf("part %d of it, place %d: %w", n.number+1, at, ErrPart)})
	}
	return values
}

// Load reads the head of an execution of this definition, and its parts when a step needs them.
// Like the head, they must be those of one moment. Errors are those of Decode; Step returns one
// of parts as it is, and ErrPart for a part that is not there. What was read before may be
// remembered.
func (d *Definition) Load(head []byte, parts Parts, recent *Recent) (Execution, error) {
	k := &kept{read: parts, recent: recent}
	x, err := d.decode(head, k)
	k.of = recallKey{execution: x.ID, started: x.Started.UnixNano()}
	return x, err
}

// Rest is x, an execution of this definition, as it is to be kept: as a whole when it has ended.
func (d *Definition) Rest(x *Execution) Rest {
	w := writer{apart: true, number: x.numbers, kept: x.kept}
	frames := 0
	x.root.each(func(*frame) { frames++ })
	w.most = max(d.headValues/max(frames, 1), min(leastValue, d.headValues))
	w.execution(x)
	rest := Rest{Head: w.b, Put: w.puts}
	if x.kept == nil {
		return rest
	}
	for _, s := range x.kept.series {
		if slices.Contains(w.used, s.number) {
			continue
		}
		for at := range s.n {
			if !slices.Contains(s.open, at) {
				rest.Drop = append(rest.Drop, Part{Number: s.number, Place: at})
			}
		}
	}
	return rest
}
