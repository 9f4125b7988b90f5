package machine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/machine/jsonvalue"
)

// The bytes of an execution: a version byte, then its fields in order. Numbers are varints,
// texts and JSON values are a length and their bytes, an optional text or value is preceded
// by a byte that says whether it is there. States are kept by name.
const codecVersion = 1

// maxFrameDepth bounds how deep frames nest in what is decoded; definitions nest less deep.
const maxFrameDepth = 1000

// maxCount bounds every count and place.
const maxCount = 1<<31 - 1

// Append writes the execution behind b.
func (x *Execution) Append(b []byte) []byte {
	b = append(b, codecVersion)
	b = binary.LittleEndian.AppendUint64(b, x.revision)
	for _, s := range [...]string{x.ID, x.Name, x.Role, x.Machine, x.MachineName} {
		b = appendText(b, s)
	}
	b = append(b, bit(x.Express), byte(x.Status))
	b = appendTime(appendTime(b, x.Started), x.Stopped)
	b = appendValue(appendValue(b, x.Input), x.Output)
	b = appendOptional(appendOptional(b, x.Error), x.Cause)
	for _, n := range [...]uint64{x.Events, x.ids, x.deadline} {
		b = binary.AppendUvarint(b, n)
	}
	b = binary.AppendVarint(b, x.expires)
	if x.root == nil {
		return append(b, 0)
	}
	return x.root.append(append(b, 1))
}

func (f *frame) append(b []byte) []byte {
	b = appendText(b, f.state.name)
	b = append(b, byte(f.phase))
	b = binary.AppendUvarint(b, uint64(f.ordinal))
	b = appendValue(b, f.input)
	b = binary.AppendUvarint(b, f.id)
	b = binary.AppendVarint(b, f.entered)
	b = binary.AppendUvarint(b, f.event)
	b = binary.AppendUvarint(b, f.chain)
	b = binary.AppendUvarint(b, uint64(f.retries))
	b = binary.AppendUvarint(b, uint64(len(f.used)))
	for _, n := range f.used {
		b = binary.AppendUvarint(b, uint64(n))
	}
	b = binary.AppendUvarint(b, uint64(len(f.vars)))
	for _, v := range f.vars {
		b = appendValue(appendText(b, v.name), v.value)
	}
	if f.item == nil {
		b = append(b, 0)
	} else {
		b = binary.AppendUvarint(append(b, 1), uint64(f.item.index))
		b = appendValue(b, f.item.value)
	}
	b = f.fan.append(b)
	b = binary.AppendUvarint(b, uint64(len(f.children)))
	for _, c := range f.children {
		b = c.append(b)
	}
	return b
}

func (n *fan) append(b []byte) []byte {
	if n == nil {
		return append(b, 0)
	}
	b = appendValue(appendValue(append(b, 1), n.input), n.items)
	for _, k := range [...]int{n.concurrency, n.next, n.left, n.size, len(n.results)} {
		b = binary.AppendUvarint(b, uint64(k))
	}
	for _, v := range n.results {
		b = appendValue(b, v)
	}
	return b
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

// ErrRevision says that an execution belongs to another revision of its definition.
var ErrRevision = errors.New("the execution was started with another revision of the definition")

// Decode reads what Append wrote for an execution of this definition. It keeps no reference
// to b. Errors are of kind Fatal when the bytes are damaged, Setup (and ErrRevision) when they
// belong to another definition.
func (d *Definition) Decode(b []byte) (Execution, error) {
	r := reader{b: b, d: d}
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
	b   []byte
	d   *Definition
	err error
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
	v, err := jsonvalue.ParseWritten(r.text())
	if r.err == nil && err != nil {
		r.fail(fmt.Errorf("a value is not JSON: %w", err))
	}
	return v
}

func (r *reader) execution() Execution {
	var x Execution
	if v := r.byte(); r.err == nil && v != codecVersion {
		r.fail(fmt.Errorf("version %d is unknown, this program knows version %d", v, codecVersion))
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
	x.Input, x.Output = r.value(), r.value()
	x.Error, x.Cause = r.optional(), r.optional()
	x.Events, x.ids, x.deadline, x.expires = r.uint(), r.uint(), r.uint(), r.int()
	if r.flag() {
		x.root = r.frame(nil, 0)
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
	f.input = r.value()
	f.id, f.entered = r.uint(), r.int()
	f.event, f.chain = r.uint(), r.uint()
	f.retries = uint32(r.small(maxCount))
	f.used = make([]uint32, r.count())
	for i := range f.used {
		f.used[i] = uint32(r.small(maxCount))
	}
	f.vars = make([]variable, r.count())
	for i := range f.vars {
		f.vars[i] = variable{r.text(), r.value()}
	}
	if r.flag() {
		f.item = &mapItem{index: r.small(maxCount), value: r.value()}
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
	if !fits || !f.input.Defined() {
		return errPhase
	}
	return nil
}

func (f *frame) checkFan() error {
	want := len(f.state.branches)
	switch f.state.kind {
	case parallelState:
	case mapState:
		want = f.fan.items.Len()
	default:
		return errPhase
	}
	ended := 0
	for _, v := range f.fan.results {
		if v.Defined() {
			ended++
		}
	}
	if len(f.fan.results) != want || f.fan.next > want || f.fan.left != want-ended || f.fan.concurrency < 1 ||
		!f.input.Defined() || !f.fan.input.Defined() {
		return errFan
	}
	return nil
}

// checkChild is called before c is among f's children.
func (f *frame) checkChild(c *frame) error {
	if f.fan == nil || c.ordinal >= f.fan.next || f.fan.results[c.ordinal].Defined() {
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
	if !r.flag() {
		return nil
	}
	n := &fan{input: r.value(), items: r.value()}
	n.concurrency, n.next, n.left, n.size = r.small(maxCount), r.small(maxCount), r.small(maxCount), r.small(maxCount)
	count := r.count()
	n.results = make([]jsonvalue.Value, count)
	for i := range n.results {
		n.results[i] = r.value()
	}
	return n
}
