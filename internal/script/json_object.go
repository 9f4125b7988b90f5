package script

import (
	"slices"
	"sort"

	"github.com/dop251/goja"

	"github.com/weirdata/weir/internal/jsontext"
)

// document is one JSON text that objects of a VM are views of.
type document struct {
	vm     *VM
	layout layout
	// verbatim keeps what a script has not touched as it was written: numbers with all
	// their digits, keys in their order. Without it the text is what JSON.stringify gives.
	verbatim bool
	// exact remembers the numbers of arrays that a float64 would not print the same.
	exact map[*goja.Object][]exactNumber
}

// exactNumber is an array element as it was written.
type exactNumber struct {
	index int
	value goja.Value
	token string
}

// member is one key of an object: where its name and its value stand in the object's
// text. It holds no pointers, so that an object nobody looks into costs next to nothing.
type member struct {
	name, nameEnd   uint32 // the name's token; none when the script added the key
	token, tokenEnd uint32 // the value's token; none once the script replaced the value
	made            int32  // place of what was made, plus one; 0 until the script looked at the value
	odd             bool   // the name is not what stands between the quotes of its token
}

// made is what a member has beside the text.
type made struct {
	key   string // the name, when the script added the key
	value goja.Value
}

// object is a JavaScript object over a piece of JSON text. Its members are found when
// the script first asks for one, its values are made when asked for, and what was not
// asked for is copied when the object is written.
type object struct {
	doc     *document
	text    string
	members []member
	made    []made
	index   map[string]int // of members, once there was much to search
	work    int            // members looked at to find one
	loaded  bool
	changed bool
	numeric bool // some key may be an array index
}

var _ goja.DynamicObject = (*object)(nil)

// How many members an object has, and how many were looked at, before it gets an index.
const indexFrom, indexAfter = 16, 512

// load finds the members of o.
func (o *object) load() {
	s, scratch := o.text, &o.doc.vm.scratch
	scratch.members = scratch.members[:0]
	for i := jsontext.Space(s, 1); s[i] != '}'; {
		end := jsontext.StringEnd(s, i)
		m := member{name: uint32(i), nameEnd: uint32(end), odd: jsontext.Plain(s, i+1) != end-1}
		i = jsontext.Space(s, jsontext.Space(s, end)+1)
		end = jsontext.ValueEnd(s, i)
		m.token, m.tokenEnd = uint32(i), uint32(end)
		scratch.members = append(scratch.members, m)
		if i = jsontext.Space(s, end); s[i] == ',' {
			i = jsontext.Space(s, i+1)
		}
	}
	o.hold(scratch.found(0, 2))
}

// hold gives o its members as they stand in the text.
func (o *object) hold(members []member) {
	o.loaded = true
	if o.doc.layout.distinct {
		o.members = members
		if o.doc.layout.plain {
			return // no key begins with a digit
		}
	} else {
		o.members = members[:0]
		for _, m := range members { // the last value of a key counts, in the place of the first
			if at := o.find(o.nameOf(&m)); at >= 0 {
				o.members[at].token, o.members[at].tokenEnd = m.token, m.tokenEnd
				continue
			}
			o.add(m)
		}
	}
	for i := range o.members {
		m := &o.members[i]
		// The name may be spelled with an escape.
		if c := o.text[m.name+1]; c >= '0' && c <= '9' || m.odd {
			o.numeric = true
		}
	}
}

// nameOf is the key of m.
func (o *object) nameOf(m *member) string {
	switch {
	case m.nameEnd == 0:
		return o.made[m.made-1].key
	case m.odd:
		return jsontext.Unquoted(o.text[m.name:m.nameEnd])
	}
	return o.text[m.name+1 : m.nameEnd-1]
}

// key is the key of the member at place i.
func (o *object) key(i int) string { return o.nameOf(&o.members[i]) }

// value is the value of m, nil when it was not made.
func (o *object) value(m *member) goja.Value {
	if m.made == 0 {
		return nil
	}
	return o.made[m.made-1].value
}

func (o *object) add(m member) {
	o.members = append(o.members, m)
	if o.index != nil {
		o.index[o.nameOf(&m)] = len(o.members) - 1
	}
}

// find is the place of key among the members, or -1.
func (o *object) find(key string) int {
	if !o.loaded {
		o.load()
	}
	if o.index == nil && (len(o.members) < indexFrom || o.work < indexAfter) {
		for i := range o.members {
			m := &o.members[i]
			if m.nameEnd != 0 && !m.odd {
				if int(m.nameEnd-m.name)-2 == len(key) && o.text[m.name+1:m.nameEnd-1] == key {
					o.work += i
					return i
				}
			} else if o.nameOf(m) == key {
				o.work += i
				return i
			}
		}
		o.work += len(o.members)
		return -1
	}
	if o.index == nil {
		o.index = make(map[string]int, len(o.members))
		for i := range o.members {
			o.index[o.key(i)] = i
		}
	}
	if i, ok := o.index[key]; ok {
		return i
	}
	return -1
}

// Get makes the value of key, once.
func (o *object) Get(key string) goja.Value {
	i := o.find(key)
	if i < 0 {
		return nil
	}
	m := &o.members[i]
	if m.made == 0 {
		o.give(m, "", o.doc.value(o.text[m.token:m.tokenEnd]))
	}
	return o.made[m.made-1].value
}

// give makes m hold a value, and a key where that is not in the text.
func (o *object) give(m *member, key string, v goja.Value) {
	if o.made == nil {
		o.made = make([]made, 0, 4)
	}
	o.made = append(o.made, made{key, v})
	m.made = int32(len(o.made))
}

// Set gives key a value of the script.
func (o *object) Set(key string, v goja.Value) bool {
	if v == nil {
		v = goja.Undefined()
	}
	o.changed = true
	if i := o.find(key); i >= 0 {
		m := &o.members[i]
		m.token, m.tokenEnd = 0, 0
		if m.made == 0 {
			o.give(m, "", v)
		} else {
			o.made[m.made-1].value = v
		}
		return true
	}
	var m member
	o.give(&m, key, v)
	if key != "" && key[0] >= '0' && key[0] <= '9' {
		o.numeric = true
	}
	o.add(m)
	return true
}

// Has reports whether o has key.
func (o *object) Has(key string) bool { return o.find(key) >= 0 }

// Delete removes key.
func (o *object) Delete(key string) bool {
	i := o.find(key)
	if i < 0 {
		return true
	}
	o.changed = true
	gone := o.members[i].made
	o.members = slices.Delete(o.members, i, i+1)
	o.index, o.work = nil, 0
	if gone > 0 {
		o.forget(gone)
	}
	return true
}

// forget lets go of what a deleted member had, so that a script that adds and deletes in
// turn does not make o grow.
func (o *object) forget(place int32) {
	last := int32(len(o.made))
	if place != last {
		o.made[place-1] = o.made[last-1]
		for i := range o.members {
			if o.members[i].made == last {
				o.members[i].made = place
				break
			}
		}
	}
	o.made[last-1] = made{}
	o.made = o.made[:last-1]
}

// Keys lists the keys as JavaScript enumerates them: array indexes by size, then the
// others as they came.
func (o *object) Keys() []string {
	if !o.loaded {
		o.load()
	}
	keys := make([]string, len(o.members))
	for n, i := range o.order() {
		keys[n] = o.key(i)
	}
	return keys
}

// order is the places of the members as JavaScript enumerates them.
func (o *object) order() []int {
	order := make([]int, 0, len(o.members))
	if o.numeric {
		for i := range o.members {
			if _, ok := arrayIndex(o.key(i)); ok {
				order = append(order, i)
			}
		}
		sort.Slice(order, func(a, b int) bool {
			x, _ := arrayIndex(o.key(order[a]))
			y, _ := arrayIndex(o.key(order[b]))
			return x < y
		})
	}
	n := len(order)
	for i := range o.members {
		if n > 0 {
			if _, ok := arrayIndex(o.key(i)); ok {
				continue
			}
		}
		order = append(order, i)
	}
	return order
}

// value makes the JavaScript value of a token.
func (d *document) value(token string) goja.Value {
	js := d.vm.js
	switch token[0] {
	case '"':
		return js.ToValue(jsontext.Unquoted(token))
	case '{':
		return js.NewDynamicObject(&object{doc: d, text: token})
	case '[':
		return d.array(token)
	case 't':
		return d.vm.yes
	case 'f':
		return d.vm.no
	case 'n':
		return goja.Null()
	}
	return d.number(token)
}

func (d *document) number(token string) goja.Value {
	if len(token) <= 15 {
		n, neg, i := int64(0), false, 0
		if token[0] == '-' {
			neg, i = true, 1
		}
		for ; i < len(token) && token[i] >= '0' && token[i] <= '9'; i++ {
			n = n*10 + int64(token[i]-'0')
		}
		if i == len(token) && (n != 0 || !neg) {
			if neg {
				n = -n
			}
			return d.vm.js.ToValue(n)
		}
	}
	f, _ := jsontext.Float(token) // beyond the range it is infinite, as in the language
	return d.vm.js.ToValue(f)
}

// array makes a real array; only the objects in it wait to be asked for.
func (d *document) array(token string) goja.Value {
	var items []any
	var exact []exactNumber
	for i := jsontext.Space(token, 1); token[i] != ']'; {
		end := jsontext.ValueEnd(token, i)
		v := d.value(token[i:end])
		if c := token[i]; d.verbatim && (c == '-' || c >= '0' && c <= '9') && !plainNumber(token[i:end]) {
			exact = append(exact, exactNumber{index: len(items), value: v, token: token[i:end]})
		}
		items = append(items, v)
		if i = jsontext.Space(token, end); token[i] == ',' {
			i = jsontext.Space(token, i+1)
		}
	}
	a := d.vm.js.NewArray(items...)
	if exact != nil {
		if d.exact == nil {
			d.exact = map[*goja.Object][]exactNumber{}
		}
		d.exact[a] = exact
	}
	return a
}

// parse makes the JavaScript value of a JSON text. ok is false when text is not JSON, and,
// unless it is verbatim, when goja's JSON.parse does not take one of its numbers.
func (vm *VM) parse(text string, verbatim bool) (v goja.Value, l layout, ok bool) {
	l = survey(text, &vm.scratch)
	if !l.valid || l.far && !verbatim {
		return nil, l, false
	}
	start := jsontext.Space(text, 0)
	end := len(text)
	for end > start && (text[end-1] == ' ' || text[end-1] == '\n' || text[end-1] == '\t' || text[end-1] == '\r') {
		end--
	}
	d := &document{vm: vm, layout: l, verbatim: verbatim}
	if text[start] != '{' {
		return d.value(text[start:end]), l, true
	}
	o := &object{doc: d, text: text[start:end]}
	o.hold(vm.scratch.found(start, 2))
	return vm.js.NewDynamicObject(o), l, true
}
