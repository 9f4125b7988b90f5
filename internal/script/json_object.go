package script

import (
	"sort"
	"strconv"

	"github.com/dop251/goja"
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

// member is one key of an object.
type member struct {
	key   string
	name  string     // the key's token in the text, empty when the script added the key
	token string     // the value's token in the text, empty once the script replaced it
	value goja.Value // nil until the script looked at it
}

// object is a JavaScript object over a piece of JSON text. Its members are found when
// the script first asks for one, its values are made when asked for, and what was not
// asked for is copied when the object is written.
type object struct {
	doc     *document
	text    string
	members []member
	index   map[string]int // of members, for wide objects
	loaded  bool
	changed bool
	numeric bool // some key may be an array index
}

var _ goja.DynamicObject = (*object)(nil)

const indexFrom = 16

// load finds the members of o.
func (o *object) load() {
	o.loaded = true
	s := o.text
	found := o.doc.vm.members[:0]
	distinct := o.doc.layout.plain || o.doc.layout.tidy
	for i := skipSpace(s, 1); s[i] != '}'; {
		end := stringEnd(s, i)
		m := member{name: s[i:end], key: unquote(s[i:end])}
		if c := s[i+1]; c >= '0' && c <= '9' {
			o.numeric = true
		}
		i = skipSpace(s, skipSpace(s, end)+1)
		end = valueEnd(s, i)
		m.token = s[i:end]
		found = append(found, m)
		if i = skipSpace(s, end); s[i] == ',' {
			i = skipSpace(s, i+1)
		}
	}
	o.members = make([]member, 0, len(found)+2)
	if distinct {
		o.members = append(o.members, found...)
		for i := range o.members {
			if c := o.members[i].key; c != "" && c[0] >= '0' && c[0] <= '9' {
				o.numeric = true
			}
		}
	} else {
		for _, m := range found { // the last value of a key counts, in the place of the first
			if at := o.find(m.key); at >= 0 {
				o.members[at].token = m.token
				continue
			}
			o.add(m)
		}
	}
	clear(found)
	o.doc.vm.members = found[:0]
}

func (o *object) add(m member) {
	if m.key != "" && m.key[0] >= '0' && m.key[0] <= '9' {
		o.numeric = true
	}
	o.members = append(o.members, m)
	if o.index != nil {
		o.index[m.key] = len(o.members) - 1
	}
}

// find is the place of key among the members, or -1.
func (o *object) find(key string) int {
	if !o.loaded {
		o.load()
	}
	if len(o.members) < indexFrom {
		for i := range o.members {
			if o.members[i].key == key {
				return i
			}
		}
		return -1
	}
	if o.index == nil {
		o.index = make(map[string]int, len(o.members))
		for i := range o.members {
			o.index[o.members[i].key] = i
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
	if m.value == nil {
		m.value = o.doc.value(m.token)
	}
	return m.value
}

// Set gives key a value of the script.
func (o *object) Set(key string, v goja.Value) bool {
	if v == nil {
		v = goja.Undefined()
	}
	o.changed = true
	if i := o.find(key); i >= 0 {
		o.members[i].value, o.members[i].token = v, ""
		return true
	}
	o.add(member{key: key, value: v})
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
	o.members = append(o.members[:i], o.members[i+1:]...)
	o.index = nil
	return true
}

// Keys lists the keys as JavaScript enumerates them: array indexes by size, then the
// others as they came.
func (o *object) Keys() []string {
	if !o.loaded {
		o.load()
	}
	keys := make([]string, len(o.members))
	for n, i := range o.order() {
		keys[n] = o.members[i].key
	}
	return keys
}

// order is the places of the members as JavaScript enumerates them.
func (o *object) order() []int {
	order := make([]int, 0, len(o.members))
	if o.numeric {
		for i := range o.members {
			if _, ok := arrayIndex(o.members[i].key); ok {
				order = append(order, i)
			}
		}
		sort.Slice(order, func(a, b int) bool {
			x, _ := arrayIndex(o.members[order[a]].key)
			y, _ := arrayIndex(o.members[order[b]].key)
			return x < y
		})
	}
	n := len(order)
	for i := range o.members {
		if n > 0 {
			if _, ok := arrayIndex(o.members[i].key); ok {
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
		return js.ToValue(unquote(token))
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
	f, err := strconv.ParseFloat(token, 64)
	if err != nil {
		panic(d.vm.js.NewTypeError("number out of range: %s", token)) // refused by survey
	}
	return d.vm.js.ToValue(f)
}

// array makes a real array; only the objects in it wait to be asked for.
func (d *document) array(token string) goja.Value {
	var items []any
	var exact []exactNumber
	for i := skipSpace(token, 1); token[i] != ']'; {
		end := valueEnd(token, i)
		v := d.value(token[i:end])
		if c := token[i]; d.verbatim && (c == '-' || c >= '0' && c <= '9') && !plainNumber(token[i:end]) {
			exact = append(exact, exactNumber{index: len(items), value: v, token: token[i:end]})
		}
		items = append(items, v)
		if i = skipSpace(token, end); token[i] == ',' {
			i = skipSpace(token, i+1)
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

// parse makes the JavaScript value of a JSON text. ok is false when text is not JSON.
func (vm *VM) parse(text string, verbatim bool) (v goja.Value, l layout, ok bool) {
	l = survey(text, &vm.hashes)
	if !l.valid {
		return nil, l, false
	}
	start := skipSpace(text, 0)
	end := len(text)
	for end > start && (text[end-1] == ' ' || text[end-1] == '\n' || text[end-1] == '\t' || text[end-1] == '\r') {
		end--
	}
	d := &document{vm: vm, layout: l, verbatim: verbatim}
	return d.value(text[start:end]), l, true
}
