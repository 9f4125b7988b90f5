package parquet

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/jsontext"
)

// op is what a token holds.
type op uint8

const (
	opSkip    op = iota // a value that a later one of the same key replaced
	opAside             // a value that is in the rest; bits: where it lies in the data
	opNull              // an element of a list
	opWord              // bits: a bool, a double or a time
	opWhole             // bits: a whole number; a later value of the object may make its field a DOUBLE
	opText              // a string, or JSON; bits: where it lies in the data, see spanOf
	opEscaped           // a string that had escapes; bits: where it lies in the arena
	opObject
	opList // bits: how many elements
)

// token is one value of the object that was decoded last; an object or a list is followed
// by what it holds, up to end. It is small, and its one pointer is to what lives as long as
// the decoder: an event makes a dozen of them.
type token struct {
	field *Field
	bits  uint64
	end   int32
	op    op
}

// spanOf is the place of a text as the bits of its token. Data and arena are shorter than longest.
func spanOf(from, to int) uint64 { return uint64(from)<<32 | uint64(to) }

// longest is the most bytes of one object.
const longest = 1 << 30

// Decoder reads JSON objects. It is for one goroutine.
type Decoder struct {
	options Options
	base    *Schema
	tree    *tree
	changed bool
	was     bool // changed, before the last Decode
	strays  bool // a value went to a variant that was not there, or was refused
	late    bool // the type came that an earlier value had waited for

	data    []byte
	scan    jsontext.Scanner // of data
	objects uint64
	tokens  []token
	taps    []int32
	begin   []int32 // where in data the values of taps begin
	undo    []change
	arena   []byte // strings without their escapes, JSON that was mended
	asides  []aside
}

// change is how to take back one change of the tree.
type change struct {
	f         *Field
	created   bool
	kind      Kind
	open, big bool
}

// NewDecoder returns a decoder that begins with the schema s.
func NewDecoder(s *Schema, o Options) *Decoder {
	return &Decoder{options: o, base: s, tree: s.grow(o), taps: make([]int32, len(o.Taps)), begin: make([]int32, len(o.Taps))}
}

// Schema is the schema with all that was learnt. While nothing was, it is the one that the
// decoder was made with; otherwise its version is one higher.
func (d *Decoder) Schema() *Schema {
	if !d.changed {
		return d.base
	}
	return d.tree.schema(d.base.Version + 1)
}

// Changed reports whether the decoder has learnt a column.
func (d *Decoder) Changed() bool { return d.changed }

// Strays reports whether a value made a variant, or was refused by a type that came with these objects: another choice of types, by a [Survey] of all
// objects, may need none.
func (d *Decoder) Strays() bool { return d.strays }

// Decode reads one object of at most 1 GiB; [Rows.Append] takes it from here. The tokens
// refer to data. An error is a fault.Invalid, and nothing of data is kept.
func (d *Decoder) Decode(data []byte) error {
	d.data, d.was = jsontext.UTF8(data), d.changed
	d.scan = jsontext.Scan(d.data)
	d.scan.Most = d.options.MaxDepth
	d.tokens, d.undo, d.arena, d.asides = d.tokens[:0], d.undo[:0], d.arena[:0], d.asides[:0]
	for i := range d.taps {
		d.taps[i] = -1
	}
	if err := d.document(); err != nil {
		d.Forget()
		if m := (*misfit)(nil); errors.As(err, &m) {
			return fault.Describe(fault.Invalid, err, fault.Detail{Type: "api", Code: "SchemaMismatch", Safe: m.safe()})
		}
		return fault.Describe(fault.Invalid, fmt.Errorf("read JSON at byte %d: %w", d.scan.At, err),
			fault.Detail{Type: "api", Code: "InvalidJSON", Safe: err.Error()})
	}
	if len(d.undo) > 0 {
		d.changed = true
	}
	return nil
}

// Forget takes back what the last Decode learnt: its object will not be appended.
func (d *Decoder) Forget() {
	d.rollback(0)
	d.tokens = d.tokens[:0]
	d.changed = d.was
}

// Value is the value of a tapped field.
type Value struct {
	Kind Kind // Unknown when the object has none, or null; JSON for what fits no column
	Text []byte
	Int  int64
	Real float64
	// Fits is set when the value is in the field's own column, not in a variant.
	Fits bool
}

// Tap is the value of the i-th tapped field in the object that was decoded last. Its text is
// valid until the next Decode.
func (d *Decoder) Tap(i int) Value {
	at := d.taps[i]
	if at < 0 || int(at) >= len(d.tokens) {
		return Value{}
	}
	t := &d.tokens[at]
	v := Value{Kind: t.field.Kind, Fits: t.field.Variant == Main}
	switch t.op {
	case opAside:
		v.Kind, v.Fits, v.Text = JSON, false, d.textOf(t)
	case opText, opEscaped:
		if v.Text = d.textOf(t); v.Kind == UUID {
			v.Text = appendUUID(nil, v.Text)
		}
	case opWhole:
		v.Int, v.Real = int64(t.bits), float64(int64(t.bits))
	case opWord:
		v.Int, v.Real = int64(t.bits), math.Float64frombits(t.bits)
		if v.Kind == Double {
			v.Int = int64(v.Real)
		}
	case opSkip, opNull:
		return Value{}
	}
	return v
}

// Raw is the value of the i-th tapped field as it is written in the object that was decoded
// last; nil when that has none, or null.
func (d *Decoder) Raw(i int) []byte {
	if at := d.taps[i]; at < 0 || int(at) >= len(d.tokens) || d.tokens[at].op == opSkip {
		return nil
	}
	rest := d.data[d.begin[i]:]
	scan := jsontext.Scan(rest)
	if !scan.Value() {
		return nil
	}
	return rest[:scan.At]
}

// textOf is the text of a token that is one.
func (d *Decoder) textOf(t *token) []byte {
	from := d.data
	if t.op == opEscaped {
		from = d.arena
	}
	return from[t.bits>>32 : uint32(t.bits)]
}

var (
	errNotObject = errors.New("the event is not a JSON object")
	errLong      = errors.New("the event is longer than 1 GiB")
)

func (d *Decoder) document() error {
	if len(d.data) > longest {
		return errLong
	}
	if d.scan.Next() != '{' {
		return errNotObject
	}
	if err := d.object(d.tree.root); err != nil {
		return err
	}
	if err := d.settle(d.tree.root, 0); err != nil {
		return err
	}
	if !d.scan.End() {
		return d.scan.Problem
	}
	return nil
}

// wrong is the error of a scanner that answered false.
func (d *Decoder) wrong() error {
	if d.scan.Problem == jsontext.TooDeep {
		return errors.New(d.scan.Err().Message)
	}
	return d.scan.Problem
}

// object reads the members of an object of the group f into tokens.
func (d *Decoder) object(f *Field) error {
	if !d.scan.Enter() {
		return d.wrong()
	}
	d.objects++
	me := d.objects
	if d.scan.Next() == '}' {
		return d.leave()
	}
	var before *Field
	for {
		kid, err := d.member(f, before, me)
		if err != nil {
			return err
		}
		if kid != nil {
			before = kid
		}
		switch d.scan.Next() {
		case ',':
			d.scan.At++
		case '}':
			return d.leave()
		default:
			d.scan.More(false, '}')
			return d.wrong()
		}
	}
}

// leave passes over a closing brace.
func (d *Decoder) leave() error {
	d.scan.More(true, '}')
	return nil
}

// member reads a key and its value. Most often it is the field that followed the one before
// the last time, and its key is spelt as always.
func (d *Decoder) member(f, before *Field, me uint64) (*Field, error) {
	var guess *Field
	if before != nil {
		guess = before.next
	} else if len(f.Fields) > 0 {
		guess = f.Fields[0]
	}
	d.scan.Next()
	if at := d.scan.At; guess != nil && guess.quoted != "" && len(d.data)-at >= len(guess.quoted) && string(d.data[at:at+len(guess.quoted)]) == guess.quoted {
		d.scan.At += len(guess.quoted)
		return d.value(f, before, guess, "", me)
	}
	key, ok := d.scan.Key()
	if !ok {
		return nil, d.wrong()
	}
	return d.value(f, before, f.index[key], key, me)
}

// value reads the value of one member of the group f: of the field kid, or of a new one with
// the key when that is nil.
func (d *Decoder) value(f, before, kid *Field, key string, me uint64) (*Field, error) {
	c := d.scan.Next()
	if c == 'n' {
		if kid != nil && kid.seen == me {
			d.tokens[kid.at].op = opSkip
			if kid.tap > 0 {
				d.taps[kid.tap-1] = -1
			}
		}
		if len(d.asides) > 0 {
			d.replace(f, kid, key, me)
		}
		return kid, d.word("null")
	}
	if len(d.asides) > 0 {
		d.replace(f, kid, key, me)
	}
	if kid == nil {
		if d.options.Closed {
			return nil, d.unknown(f, key)
		}
		var err error
		if kid, err = d.create(f, strings.Clone(key)); err != nil {
			return nil, err
		}
	} else if kid.seen == me {
		d.tokens[kid.at].op = opSkip // the last of several wins
	}
	if before != nil && before.next != kid {
		before.next = kid
	}
	kid.seen, kid.at = me, int32(len(d.tokens))
	if kid.tap > 0 {
		d.taps[kid.tap-1], d.begin[kid.tap-1] = kid.at, int32(d.scan.At)
	}
	if d.plain(c, kid) {
		return kid, nil
	}
	start, mark, tokens, depth, asides := d.scan.At, len(d.undo), len(d.tokens), d.scan.Depth, len(d.asides)
	fits, err := d.fit(kid)
	if err != nil || fits {
		return kid, err
	}
	d.rollback(mark)
	d.tokens, d.asides = d.tokens[:tokens], d.asides[:asides]
	d.scan.At, d.scan.Depth = start, depth
	if done, err := d.lay(f, kid); done || err != nil {
		return kid, err
	}
	variant, err := d.variant(kid, AsJSON)
	if err != nil {
		return nil, err
	}
	return kid, d.raw(variant)
}

// plain reads the values that are the most frequent by far, strings without escapes and
// short numbers in a column of their type, and reports whether this was one; otherwise it
// has read nothing. c is the first byte of the value.
func (d *Decoder) plain(c byte, f *Field) bool {
	if c == '"' {
		if f.Kind != String {
			return false
		}
		end := jsontext.Stop(d.scan.Text, d.scan.At+1)
		if end >= len(d.data) || d.data[end] != '"' {
			return false
		}
		d.push(token{op: opText, field: f, bits: spanOf(d.scan.At+1, end)})
		d.scan.At = end + 1
		return true
	}
	if f.Kind != Int && f.Kind != Double {
		return false
	}
	n, fraction, end := jsontext.Short(d.scan.Text, d.scan.At)
	if end == 0 {
		return false
	}
	var bits uint64
	form := opWord
	switch {
	case f.Kind == Double:
		bits = math.Float64bits(decimal(n, fraction, c == '-'))
	case fraction == 0:
		bits, form = uint64(n), opWhole
	default:
		return false
	}
	d.push(token{op: form, field: f, bits: bits})
	d.scan.At = end
	return true
}

// raw reads a value as its JSON text, mended where readers of the file would stumble.
func (d *Decoder) raw(f *Field) error {
	d.scan.Next()
	start, forms := d.scan.At, d.scan.Forms
	d.scan.Forms = 0
	if !d.scan.Value() {
		return d.wrong()
	}
	half := d.scan.Forms&jsontext.Half != 0
	d.scan.Forms |= forms
	if !half {
		d.push(token{op: opText, field: f, bits: spanOf(start, d.scan.At)})
		return nil
	}
	at := len(d.arena)
	d.arena = jsontext.Mend(d.arena, d.scan.Text[start:d.scan.At])
	d.push(token{op: opEscaped, field: f, bits: spanOf(at, len(d.arena))})
	return nil
}

func (d *Decoder) push(t token) {
	t.end = int32(len(d.tokens) + 1)
	d.tokens = append(d.tokens, t)
}

// decide reports whether f holds values of kind k; a field without a kind does from now on,
// unless most of its values are of another.
func (d *Decoder) decide(f *Field, k Kind) bool {
	if f.Kind == Unknown && d.takes(f, k) {
		d.set(f, k)
	}
	return f.Kind == k
}

// takes reports whether f, which has no kind, may get the kind k.
func (d *Decoder) takes(f *Field, k Kind) bool {
	return !d.options.Closed && (f.prefer == Unknown || f.prefer == k)
}

func (d *Decoder) set(f *Field, k Kind) {
	d.note(f)
	f.Kind, f.open = k, true
	d.late = d.late || f.waited
}

func (d *Decoder) note(f *Field) {
	d.undo = append(d.undo, change{f: f, kind: f.Kind, open: f.open, big: f.big})
}

func (d *Decoder) room() error {
	if d.tree.count >= d.options.MaxColumns {
		return fmt.Errorf("the event would need more than %d columns; declare an object whose keys vary as type json", d.options.MaxColumns)
	}
	return nil
}

func (d *Decoder) create(parent *Field, key string) (*Field, error) {
	if err := d.room(); err != nil {
		return nil, err
	}
	f := &Field{Key: key, Name: nameFor(parent, key)}
	d.tree.attach(parent, f, d.options)
	d.undo = append(d.undo, change{f: f, created: true})
	if len(d.options.Types) > 0 {
		f.declare(cmp.Or(d.options.Types[f.path], d.options.Types[f.within()]))
	}
	if f.Kind == Unknown {
		f.Kind, f.prefer = d.options.Expected[f.path], d.options.Prefer[f.path]
	}
	return f, nil
}

// variant is the variant of f, made when it is not there.
func (d *Decoder) variant(f *Field, v Variant) (*Field, error) {
	have, kind := f.json, JSON
	if v == AsDouble {
		have, kind = f.double, Double
	}
	if have != nil {
		return have, nil
	}
	if err := d.room(); err != nil {
		return nil, err
	}
	d.strays = true
	x := &Field{Key: f.Key, Name: nameFor(f.parent, f.Name+"__"+string(v)), Kind: kind, Variant: v}
	d.tree.attach(f.parent, x, d.options)
	d.undo = append(d.undo, change{f: x, created: true})
	return x, nil
}

// rollback takes back all changes from the given one on.
func (d *Decoder) rollback(mark int) {
	for i := len(d.undo) - 1; i >= mark; i-- {
		u := d.undo[i]
		switch {
		case !u.created:
			u.f.Kind, u.f.open, u.f.big = u.kind, u.open, u.big
		case u.f.parent.Elem == u.f:
			u.f.parent.Elem = nil
			d.tree.count--
		default:
			d.tree.detach(u.f)
		}
	}
	d.undo = d.undo[:mark]
}
