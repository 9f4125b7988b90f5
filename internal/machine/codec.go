package machine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/machine/jsonvalue"
)

// The bytes of an execution: a version byte, then its fields in order. Numbers are varints,
// texts and JSON values are a length and their bytes, an optional text or value is preceded
// by a byte that says whether it is there. States are kept by name.
//
// Version 2 is a head: a value may be the number and the size of a part, a Map may have its
// items and results in parts, and the last number given to a part ends the bytes. What refers
// to no part is written as version 1.
const (
	codecVersion = 1
	codecHead    = 2
)

// What the byte before a value, an item or a fan says beside 0, that there is none, and 1.
const (
	valueApart  = 2 // its part and size follow
	valueAsItem = 3 // the input of a frame is its item
	itemApart   = 2 // only its index follows
	fanApart    = 2 // items and results are parts
)

// maxFrameDepth bounds how deep frames nest in what is decoded; definitions nest less deep.
const maxFrameDepth = 1000

// maxCount bounds every count and place.
const maxCount = 1<<31 - 1

// ErrVersion says that the bytes are of a version that this program does not know.
var ErrVersion = errors.New("the version of the execution is unknown")

// ErrRevision says that an execution belongs to another revision of its definition.
var ErrRevision = errors.New("the execution was started with another revision of the definition")

// Decode reads what Append wrote for an execution of this definition. It keeps no reference
// to b. Errors are of kind Fatal when the bytes are damaged, Setup (and ErrRevision) when they
// belong to another definition.
func (d *Definition) Decode(b []byte) (Execution, error) { return d.decode(b, nil) }

func (d *Definition) decode(b []byte, k *kept) (Execution, error) {
	r := reader{b: b, d: d, kept: k}
	x := r.execution()
	switch {
	case errors.Is(r.err, ErrRevision):
		return Execution{}, fault.New(fault.Setup, fmt.Errorf("decode execution: %w; decode it with the definition it was started with", r.err))
	case r.err == nil && len(r.b) > 0:
		r.err = errors.New("bytes are left over")
	}
	if r.err != nil {
		return Execution{}, fault.New(fault.Fatal, fmt.Errorf("decode execution at byte %d: %w", len(b)-len(r.b), r.err))
	}
	return x, nil
}

// reader takes values off b until one is damaged.
type reader struct {
	b    []byte
	d    *Definition
	kept *kept // nil when there are no parts
	head bool  // the bytes are a head
	err  error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
		r.b = nil
	}
}

var errShort = errors.New("the bytes end too early")

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail(errShort)
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) flag() bool {
	c := r.byte()
	if c > 1 {
		r.fail(fmt.Errorf("%d is neither 0 nor 1", c))
	}
	return c == 1
}

func (r *reader) uint() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 {
		r.fail(errShort)
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *reader) int() int64 {
	n, size := binary.Varint(r.b)
	if size <= 0 {
		r.fail(errShort)
		return 0
	}
	r.b = r.b[size:]
	return n
}

// small is a number that must not be greater than most.
func (r *reader) small(most int) int {
	n := r.uint()
	if n > uint64(most) {
		r.fail(fmt.Errorf("%d is more than %d", n, most))
		return 0
	}
	return int(n)
}

// count is a number of things that take at least a byte each.
func (r *reader) count() int { return r.small(len(r.b)) }

func (r *reader) text() string {
	n := r.count()
	if r.err != nil || n > len(r.b) {
		r.fail(errShort)
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

func (r *reader) optional() *string {
	if !r.flag() {
		return nil
	}
	s := r.text()
	return &s
}

func (r *reader) time() time.Time {
	if !r.flag() {
		return time.Time{}
	}
	return time.Unix(0, r.int()).UTC()
}

func (r *reader) value() jsonvalue.Value {
	if !r.flag() {
		return jsonvalue.Value{}
	}
	return r.json()
}

// apart takes the byte that says that something is a part.
func (r *reader) apart(mark byte) bool {
	if !r.head || len(r.b) == 0 || r.b[0] != mark {
		return false
	}
	r.b = r.b[1:]
	return true
}

func (r *reader) held() held {
	if !r.apart(valueApart) {
		return hold(r.value())
	}
	h := held{number: r.uint(), size: r.small(maxCount)}
	if h.number == 0 {
		r.fail(errors.New("a part has no number"))
	}
	r.refers(series{number: h.number, n: 1})
	return h
}

// refers notes a series that the head refers to.
func (r *reader) refers(s series) {
	if r.err == nil && !slices.ContainsFunc(r.kept.series, func(o series) bool { return o.number == s.number }) {
		r.kept.series = append(r.kept.series, s)
	}
}

func (r *reader) json() jsonvalue.Value {
	v, err := jsonvalue.ParseWritten(r.text())
	if r.err == nil && err != nil {
		r.fail(fmt.Errorf("a value is not JSON: %w", err))
	}
	return v
}

func (r *reader) execution() Execution {
	var x Execution
	switch v := r.byte(); {
	case r.err == nil && v == codecHead && r.kept != nil:
		r.head, x.kept = true, r.kept
	case r.err == nil && v != codecVersion:
		r.fail(fmt.Errorf("%w: %d; this program knows %d, and %d with its parts", ErrVersion, v, codecVersion, codecHead))
	}
	if len(r.b) < 8 {
		r.fail(errShort)
		return x
	}
	x.revision = binary.LittleEndian.Uint64(r.b)
	r.b = r.b[8:]
	if x.revision != r.d.revision {
		r.fail(ErrRevision)
		return x
	}
	for _, s := range [...]*string{&x.ID, &x.Name, &x.Role, &x.Machine, &x.MachineName} {
		*s = r.text()
	}
	x.Express, x.Status = r.flag(), Status(r.byte())
	if x.Status > Aborted {
		r.fail(fmt.Errorf("%d is no status", x.Status))
	}
	x.Started, x.Stopped = r.time(), r.time()
	if x.apart = r.held(); x.apart.number == 0 {
		x.Input, x.apart = x.apart.value, held{}
	}
	x.Output = r.value()
	x.Error, x.Cause = r.optional(), r.optional()
	x.Events, x.ids, x.deadline, x.expires = r.uint(), r.uint(), r.uint(), r.int()
	if r.flag() {
		x.root = r.frame(nil, 0)
	}
	if r.head {
		x.numbers = r.uint()
	}
	if (x.Status == Running) != (x.root != nil) {
		r.fail(fmt.Errorf("an execution that is %s cannot have this state", x.Status))
	}
	return x
}

// frame reads a frame and those below it.
func (r *reader) frame(parent *frame, depth int) *frame {
	f := &frame{parent: parent}
	if depth > maxFrameDepth {
		r.fail(errors.New("frames nest too deep"))
		return f
	}
	name := r.text()
	f.state = r.d.states[name]
	if f.state == nil {
		r.fail(fmt.Errorf("the definition has no state %q", name))
		return f
	}
	f.phase = phase(r.byte())
	f.ordinal = r.small(maxCount)
	if f.asItem = r.apart(valueAsItem); !f.asItem {
		f.input = r.held()
	}
	f.id, f.entered = r.uint(), r.int()
	f.event, f.chain = r.uint(), r.uint()
	f.retries = uint32(r.small(maxCount))
	f.used = make([]uint32, r.count())
	for i := range f.used {
		f.used[i] = uint32(r.small(maxCount))
	}
	f.vars = make([]variable, r.count())
	for i := range f.vars {
		f.vars[i] = variable{r.text(), r.held()}
	}
	switch {
	case r.apart(itemApart):
		f.item = &mapItem{index: r.small(maxCount)}
		if parent == nil || parent.fan == nil || parent.fan.number == 0 || f.item.index >= parent.fan.count {
			r.fail(errFan)
			return f
		}
		f.item.number, f.item.each = parent.fan.number, parent.fan.each
	case r.flag():
		f.item = &mapItem{index: r.small(maxCount), value: r.value()}
	}
	if f.asItem && (f.item == nil || f.item.number == 0) {
		r.fail(errFan)
	}
	f.fan = r.fan()
	n := r.count()
	if err := f.check(); r.err == nil && err != nil {
		r.fail(fmt.Errorf("the frame in state %q: %w", name, err))
	}
	for i := 0; i < n && r.err == nil; i++ {
		c := r.frame(f, depth+1)
		if err := f.checkChild(c); r.err == nil && err != nil {
			r.fail(fmt.Errorf("the frame in state %q: %w", name, err))
		}
		f.children = append(f.children, c)
	}
	if r.err == nil && f.fan != nil && len(f.children) == 0 {
		r.fail(fmt.Errorf("the frame in state %q waits for no branch", name))
	}
	if r.err == nil && f.fan != nil && f.fan.number != 0 {
		r.atRest(f)
	}
	return f
}

var (
	errPhase = errors.New("its phase does not fit its state")
	errFan   = errors.New("its branches do not fit its state")
)

// check refuses what Step would never have left behind.
func (f *frame) check() error {
	block, kind := f.state.block, f.state.kind
	switch {
	case f.state.broken != "":
		return nil // it is left at the next event
	case f.parent == nil && block.owner != nil,
		f.parent != nil && block.owner != f.parent.state:
		return errors.New("the state does not belong here")
	case f.parent != nil && f.parent.state.kind == parallelState && f.ordinal != block.branch:
		return errFan
	case f.parent != nil && f.parent.state.kind == mapState && f.item == nil:
		return errFan
	case len(f.used) != 0 && len(f.used) != len(f.state.retry),
		(f.id == 0) != (f.phase == inBranches),
		(f.fan == nil) != (f.phase != inBranches):
		return errPhase
	}
	fits := false
	switch f.phase {
	case inTask:
		fits = kind == taskState
	case waiting:
		fits = kind == waitState
	case retrying:
		fits = len(f.state.retry) > 0
	case yielded:
		fits = true
	case inBranches:
		return f.checkFan()
	}
	if !fits || !f.given() {
		return errPhase
	}
	return nil
}

// given reports whether f has an input.
func (f *frame) given() bool { return f.asItem || f.input.defined() }

func (f *frame) checkFan() error {
	n := f.fan
	want := len(f.state.branches)
	switch {
	case f.state.kind == mapState && n.number != 0:
		if n.next > n.count || n.left > n.count || n.concurrency < 1 || n.each < 1 || !f.given() || !n.input.defined() {
			return errFan
		}
		return nil
	case f.state.kind == mapState:
		want = n.items.Len()
	case f.state.kind != parallelState || n.number != 0:
		return errPhase
	}
	ended := 0
	for _, v := range f.fan.results {
		if v.Defined() {
			ended++
		}
	}
	if len(f.fan.results) != want || f.fan.next > want || f.fan.left != want-ended || f.fan.concurrency < 1 ||
		!f.given() || !f.fan.input.defined() {
		return errFan
	}
	return nil
}

// atRest notes which parts a Map has, now that the iterations that go on are known.
func (r *reader) atRest(f *frame) {
	n := f.fan
	if n.left != n.count-n.next+len(f.children) {
		r.fail(fmt.Errorf("the frame in state %q: %w", f.state.name, errFan))
		return
	}
	open := make([]int, len(f.children))
	for i, c := range f.children {
		open[i] = c.ordinal
	}
	r.refers(series{number: n.number, n: (n.count + n.each - 1) / n.each, fan: true})
	r.refers(series{number: n.number + 1, n: n.next, open: open, fan: true})
}

// checkChild is called before c is among f's children.
func (f *frame) checkChild(c *frame) error {
	if f.fan == nil || c.ordinal >= min(f.fan.next, f.fan.count) || f.fan.number == 0 && f.fan.results[c.ordinal].Defined() {
		return errFan
	}
	for _, other := range f.children {
		if other.ordinal == c.ordinal {
			return errFan
		}
	}
	return nil
}

func (r *reader) fan() *fan {
	if r.apart(fanApart) {
		n := &fan{input: r.held()}
		for _, k := range [...]*int{&n.concurrency, &n.next, &n.left, &n.size, &n.count, &n.each} {
			*k = r.small(maxCount)
		}
		if n.number = r.uint(); n.number == 0 || n.each < 1 {
			r.fail(errors.New("a part has no number, or no items"))
		}
		if n.count > r.d.limits.Payload { // an item takes a byte at least
			r.fail(fmt.Errorf("a Map has %d items", n.count))
		}
		return n
	}
	if !r.flag() {
		return nil
	}
	n := &fan{input: r.held(), items: r.value()}
	n.concurrency, n.next, n.left, n.size = r.small(maxCount), r.small(maxCount), r.small(maxCount), r.small(maxCount)
	count := r.count()
	n.count = count
	n.results = make([]jsonvalue.Value, count)
	for i := range n.results {
		n.results[i] = r.value()
	}
	return n
}
