package parquet

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/weirdata/weir/internal/jsontext"
)

// restName is the name of the column of what has no column.
const restName = "_rest"

// aside is a member that has no column.
type aside struct {
	in       *Field // the object it is a member of
	key      string
	from, to int  // of its value in the data; 0: another value of the key took the place of those before
	half     bool // readers would stumble over it
}

// Late reports whether the type of a field came after a value that had waited for it: if the objects are
// decoded once more, behind [Decoder.Again], that value is in its column too.
func (d *Decoder) Late() bool { return d.late }

// Again has the same objects decoded once more, with all that was learnt of them.
func (d *Decoder) Again() {
	d.late = false
	d.undo = d.undo[:0]
	d.tree.again(d.tree.root)
}

// again takes out the columns of the rest that no file has: they are made again where they are needed.
func (t *tree) again(f *Field) {
	if r := f.rest; r != nil && r.fresh {
		f.Fields = slices.Delete(f.Fields, r.place, r.place+1)
		for i, k := range f.Fields {
			k.place = i
		}
		delete(f.names, strings.ToLower(r.Name))
		f.rest = nil
		t.count--
	}
	for _, k := range f.Fields {
		k.waited = false
		t.again(k)
	}
	if f.Elem != nil {
		t.again(f.Elem)
	}
}

// replace notes that a value of the key takes the place of those that came before in the object f.
func (d *Decoder) replace(f, kid *Field, key string, me uint64) {
	if kid != nil && kid.seen != me {
		return
	}
	if kid != nil {
		key = kid.Key
	}
	d.asides = append(d.asides, aside{in: f, key: key})
}

// unknown reads a value of the object f that has no column.
func (d *Decoder) unknown(f *Field, key string) error {
	if d.options.Refuse {
		path := key
		if f.path != "" {
			path = f.path + "." + key
		}
		return &misfit{path: path}
	}
	_, err := d.putAside(f, key)
	return err
}

// misfit is that an object has a value which no column holds, where such are refused.
type misfit struct{ path, kind string }

func (m *misfit) Error() string {
	if m.kind == "" {
		return fmt.Sprintf("the event has a field %q, for which the dataset has no column", m.path)
	}
	return fmt.Sprintf("the value of %q does not fit its column, which is of type %s", m.path, m.kind)
}

// IsMisfit reports whether an object was refused for a value that no column holds.
func IsMisfit(err error) bool {
	m := (*misfit)(nil)
	return errors.As(err, &m)
}

// safe is the error without what is of the event.
func (m *misfit) safe() string {
	if m.kind == "" {
		return "a field has no column"
	}
	return "a value does not fit its column of type " + m.kind
}

// lay puts a value that does not fit the field kid of f where it belongs, unless that is a variant.
func (d *Decoder) lay(f, kid *Field) (done bool, err error) {
	waits := false
	if c := d.scan.Text[d.scan.At]; kid.Kind == Unknown && (c == '[' || c == '{') {
		here := d.scan
		if !d.scan.Value() {
			return false, d.wrong()
		}
		waits = typeless(d.scan.Text[here.At:d.scan.At])
		d.scan = here
	}
	switch {
	case d.options.Refuse && !waits:
		d.strays = d.strays || kid.open || kid.Kind == Unknown && !d.options.Closed
		return false, &misfit{kid.path, kid.TypeName()}
	case kid.json != nil || !waits && !d.options.Closed:
		return false, nil
	}
	kid.waited = kid.waited || waits
	at, err := d.putAside(f, kid.Key)
	if err == nil { // at the place that the field knows
		d.push(token{op: opAside, field: kid, bits: spanOf(at.from, at.to)})
	}
	return true, err
}

// putAside reads a value as one of the rest.
func (d *Decoder) putAside(f *Field, key string) (aside, error) {
	d.scan.Next()
	a := aside{in: f, key: key, from: d.scan.At}
	forms := d.scan.Forms
	d.scan.Forms = 0
	if !d.scan.Value() {
		return a, d.wrong()
	}
	a.to, a.half = d.scan.At, d.scan.Forms&jsontext.Half != 0
	d.scan.Forms |= forms
	d.asides = append(d.asides, a)
	return a, nil
}

// typeless reports whether a list or an object, which is valid, tells no type: there is nothing but such, and
// null, in it.
func typeless(text string) bool {
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			i = jsontext.StringEnd(text, i)
			if i = jsontext.Space(text, i); text[i] != ':' { // no key
				return false
			}
		case 'n':
			i += len("null") - 1
		case '[', ']', '{', '}', ' ', '\t', '\n', '\r', ',':
		default:
			return false
		}
	}
	return true
}

// restOf is the column of the rest of the object f, made when it is not there.
func (d *Decoder) restOf(f *Field) (*Field, error) {
	if f.rest != nil {
		return f.rest, nil
	}
	if err := d.room(); err != nil {
		return nil, err
	}
	r := &Field{Name: nameFor(f, restName), Kind: JSON, Variant: Rest, fresh: true}
	d.tree.attach(f, r, d.options)
	d.undo = append(d.undo, change{f: r, created: true})
	return r, nil
}

// settle puts what was set aside since the mark into the rest of the object f.
func (d *Decoder) settle(f *Field, mark int) error {
	if len(d.asides) == mark {
		return nil
	}
	top := &branch{}
	for i := range d.asides[mark:] {
		a := &d.asides[mark+i]
		top.below(a.in, f).put(a)
	}
	d.asides = d.asides[:mark]
	if top.empty() {
		return nil
	}
	rest, err := d.restOf(f)
	if err != nil {
		return err
	}
	at := len(d.arena)
	d.arena = top.append(d.arena, d.scan.Text)
	d.push(token{op: opEscaped, field: rest, bits: spanOf(at, len(d.arena))})
	return nil
}

// branch is an object of the rest.
type branch struct {
	keys    []string // in the order of their first values
	members map[string]member
}

// member is one of a branch: a value, a branch, or nothing any more.
type member struct {
	value *aside
	under *branch
}

// below is the branch of the object f, which is top or in it.
func (b *branch) below(f, top *Field) *branch {
	if f == top {
		return b
	}
	b = b.below(f.parent, top)
	m := b.members[f.Key]
	if m.under == nil {
		m = member{under: &branch{}}
		b.set(f.Key, m)
	}
	return m.under
}

func (b *branch) set(key string, m member) {
	if b.members == nil {
		b.members = map[string]member{}
	}
	if _, there := b.members[key]; !there {
		b.keys = append(b.keys, key)
	}
	b.members[key] = m
}

func (b *branch) put(a *aside) {
	if a.to > 0 {
		b.set(a.key, member{value: a})
	} else if _, there := b.members[a.key]; there {
		b.members[a.key] = member{}
	}
}

func (b *branch) empty() bool {
	for _, m := range b.members {
		if m.value != nil || m.under != nil && !m.under.empty() {
			return false
		}
	}
	return true
}

func (b *branch) append(dst []byte, data string) []byte {
	dst = append(dst, '{')
	some := false
	for _, key := range b.keys {
		m := b.members[key]
		if m.value == nil && (m.under == nil || m.under.empty()) {
			continue
		}
		if some {
			dst = append(dst, ',')
		}
		some = true
		dst = append(jsontext.AppendString(dst, key), ':')
		switch a := m.value; {
		case a == nil:
			dst = m.under.append(dst, data)
		case a.half:
			dst = jsontext.Mend(dst, data[a.from:a.to])
		default:
			dst = append(dst, data[a.from:a.to]...)
		}
	}
	return append(dst, '}')
}

// AppendMerged appends the JSON object with the members of two: where both have a key, their values are
// objects, which are merged too.
func AppendMerged(dst, object, rest []byte) []byte {
	inner, outer := jsontext.Scan(rest), jsontext.Scan(object)
	more, ok := inner.Object(nil)
	all, whole := outer.Object(nil)
	if !ok || !whole {
		return append(dst, object...) // no reader of this package makes such
	}
	at := make(map[string]int, len(more))
	for i, m := range more {
		at[string(m.Name(rest))] = i
	}
	dst = append(dst, '{')
	for _, m := range all {
		dst = comma(dst)
		dst = append(jsontext.AppendString(dst, m.Name(object)), ':')
		name := string(m.Name(object))
		i, both := at[name]
		if value := m.Of(object); both && value[0] == '{' && more[i].Of(rest)[0] == '{' {
			delete(at, name)
			dst = AppendMerged(dst, value, more[i].Of(rest))
		} else {
			dst = append(dst, value...)
		}
	}
	for i, m := range more {
		if k, left := at[string(m.Name(rest))]; left && k == i {
			dst = comma(dst)
			dst = append(jsontext.AppendString(dst, m.Name(rest)), ':')
			dst = append(dst, m.Of(rest)...)
		}
	}
	return append(dst, '}')
}

// comma appends a comma behind a member.
func comma(dst []byte) []byte {
	if dst[len(dst)-1] == '{' {
		return dst
	}
	return append(dst, ',')
}
