package machine

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/weirdata/weir/internal/machine/jsonvalue"
)

// writer writes an execution. Without apart it writes all into one piece.
type writer struct {
	b      []byte
	apart  bool
	most   int // bytes of a value that stands in the head
	number uint64
	kept   *kept
	puts   []Part
	used   []uint64 // numbers that the head refers to
	given  map[jsonvalue.Value]uint64
	within bool // the frame that is written belongs to a Map whose items are parts
}

// put makes v a part, unless it is one.
func (w *writer) put(v jsonvalue.Value) (number uint64) {
	if w.given == nil {
		w.given = map[jsonvalue.Value]uint64{}
		if w.kept != nil {
			for _, s := range w.kept.series {
				if known, ok := w.kept.known[partKey{s.number, 0}]; ok && !s.fan {
					w.given[known] = s.number
				}
			}
		}
	}
	number = w.given[v]
	if number == 0 {
		w.number++
		number = w.number
		w.given[v] = number
		w.puts = append(w.puts, Part{Number: number, Data: v.Append(nil)})
	}
	return number
}

// held writes a value, or where it is.
func (w *writer) held(h *held) {
	number, size := h.number, h.size
	if number == 0 && w.apart && h.value.Defined() {
		if n := h.value.Size(); n > w.most {
			number, size = w.put(h.value), n
		}
	}
	switch {
	case number == 0 || !w.apart && h.value.Defined():
		w.b = appendValue(w.b, h.value)
	case !w.apart:
		panic("machine: an execution that is kept in parts was to be written in one piece")
	default:
		w.refer(number)
		w.b = binary.AppendUvarint(binary.AppendUvarint(append(w.b, valueApart), number), uint64(size))
	}
}

func (w *writer) refer(number uint64) {
	if !slices.Contains(w.used, number) {
		w.used = append(w.used, number)
	}
}

// fanApart writes a Map whose items and results are parts.
func (w *writer) fanApart(n *fan) {
	number, each := n.number, n.each
	if number == 0 {
		number, each = w.number+1, min(max(pieceBytes*n.count/n.items.Size(), 1), pieceItems)
		w.number += 2
		for at, items := 0, n.items.Items(); len(items) > 0; at++ {
			k := min(each, len(items))
			w.puts = append(w.puts, Part{Number: number, Place: at, Data: jsonvalue.OfArray(items[:k:k]).Append(nil)})
			items = items[k:]
		}
		for i, v := range n.results {
			if v.Defined() {
				w.puts = append(w.puts, Part{Number: number + 1, Place: i, Data: v.Append(nil)})
			}
		}
	}
	for _, late := range n.fresh {
		w.puts = append(w.puts, Part{Number: number + 1, Place: late.ordinal, Data: late.value.Append(nil)})
	}
	w.refer(number)
	w.refer(number + 1)
	w.b = append(w.b, fanApart)
	w.held(&n.input)
	for _, k := range [...]int{n.concurrency, n.next, n.left, n.size, n.count, each} {
		w.b = binary.AppendUvarint(w.b, uint64(k))
	}
	w.b = binary.AppendUvarint(w.b, number)
}

// large reports whether the items of a Map are to be parts.
func (w *writer) large(n *fan) bool {
	return w.apart && n.items.Defined() && (n.count > headItems || n.items.Size() > w.most)
}

// Append writes the execution behind b, in one piece. One that was loaded and runs cannot be
// written so: see [Definition.Rest].
func (x *Execution) Append(b []byte) []byte {
	w := writer{b: b}
	w.execution(x)
	return w.b
}

func (w *writer) execution(x *Execution) {
	start := len(w.b)
	w.b = binary.LittleEndian.AppendUint64(append(w.b, codecVersion), x.revision)
	for _, s := range [...]string{x.ID, x.Name, x.Role, x.Machine, x.MachineName} {
		w.b = appendText(w.b, s)
	}
	w.b = append(w.b, bit(x.Express), byte(x.Status))
	w.b = appendTime(appendTime(w.b, x.Started), x.Stopped)
	input := x.apart
	if input.number == 0 {
		input = hold(x.Input)
	}
	if x.root == nil {
		w.b = appendValue(w.b, x.Input)
	} else {
		w.held(&input)
	}
	w.b = appendValue(w.b, x.Output)
	w.b = appendOptional(appendOptional(w.b, x.Error), x.Cause)
	for _, n := range [...]uint64{x.Events, x.ids, x.deadline} {
		w.b = binary.AppendUvarint(w.b, n)
	}
	w.b = binary.AppendVarint(w.b, x.expires)
	if x.root == nil {
		w.b = append(w.b, 0)
		return
	}
	w.b = append(w.b, 1)
	w.frame(x.root)
	if len(w.used) > 0 || x.numbers > 0 {
		w.b[start] = codecHead
		w.b = binary.AppendUvarint(w.b, w.number)
	}
}

func (w *writer) frame(f *frame) {
	w.b = appendText(w.b, f.state.name)
	w.b = append(w.b, byte(f.phase))
	w.b = binary.AppendUvarint(w.b, uint64(f.ordinal))
	apart := f.item != nil && w.within
	switch {
	case apart && (f.asItem || f.item.value.Defined() && f.item.value == f.input.value):
		w.b = append(w.b, valueAsItem)
	case f.asItem:
		panic("machine: an item that is a part was to be written in one piece")
	default:
		w.held(&f.input)
	}
	w.b = binary.AppendUvarint(w.b, f.id)
	w.b = binary.AppendVarint(w.b, f.entered)
	w.b = binary.AppendUvarint(w.b, f.event)
	w.b = binary.AppendUvarint(w.b, f.chain)
	w.b = binary.AppendUvarint(w.b, uint64(f.retries))
	w.b = binary.AppendUvarint(w.b, uint64(len(f.used)))
	for _, n := range f.used {
		w.b = binary.AppendUvarint(w.b, uint64(n))
	}
	w.b = binary.AppendUvarint(w.b, uint64(len(f.vars)))
	for i := range f.vars {
		w.b = appendText(w.b, f.vars[i].name)
		w.held(&f.vars[i].value)
	}
	switch {
	case f.item == nil:
		w.b = append(w.b, 0)
	case apart:
		w.b = binary.AppendUvarint(append(w.b, itemApart), uint64(f.item.index))
	default:
		w.b = binary.AppendUvarint(append(w.b, 1), uint64(f.item.index))
		w.b = appendValue(w.b, f.item.value)
	}
	within := w.within
	w.within = w.fan(f.fan)
	w.b = binary.AppendUvarint(w.b, uint64(len(f.children)))
	for _, c := range f.children {
		w.frame(c)
	}
	w.within = within
}

// fan writes n; it reports whether the items are parts.
func (w *writer) fan(n *fan) (apart bool) {
	switch {
	case n == nil:
		w.b = append(w.b, 0)
		return false
	case n.number != 0 && !w.apart:
		panic("machine: items that are parts were to be written in one piece")
	case n.number != 0 || w.large(n):
		w.fanApart(n)
		return true
	}
	w.b = append(w.b, 1)
	w.held(&n.input)
	w.b = appendValue(w.b, n.items)
	for _, k := range [...]int{n.concurrency, n.next, n.left, n.size, len(n.results)} {
		w.b = binary.AppendUvarint(w.b, uint64(k))
	}
	for _, v := range n.results {
		w.b = appendValue(w.b, v)
	}
	return false
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendOptional(b []byte, s *string) []byte {
	if s == nil {
		return append(b, 0)
	}
	return appendText(append(b, 1), *s)
}

func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(b, 0)
	}
	return binary.AppendVarint(append(b, 1), t.UnixNano())
}

func appendValue(b []byte, v jsonvalue.Value) []byte {
	if !v.Defined() {
		return append(b, 0)
	}
	return v.Append(binary.AppendUvarint(append(b, 1), uint64(v.Size())))
}
