package jsonvalue

import (
	"fmt"
	"math"

	"github.com/weirdata/weir/internal/jsontext"
)

// wideObject is the number of keys from which repeated keys are looked for with a map.
const wideObject = 16

// SyntaxError says where a text stops being JSON.
type SyntaxError = jsontext.SyntaxError

// Parse reads one JSON value. Strings of the result share memory with a copy of the text.
func Parse(text []byte) (Value, error) { return ParseString(string(text)) }

// ParseString reads one JSON value. Strings of the result share memory with text.
func ParseString(text string) (Value, error) { return parse(text, 0, false) }

// ParseUnique is ParseString that refuses a key which its object repeats.
func ParseUnique(text string) (Value, error) { return parse(text, 0, true) }

// ParseWritten reads what [Value.Append] wrote, however deep it nests: a value may be deeper
// than those it was made of.
func ParseWritten(text string) (Value, error) { return parse(text, math.MaxInt, false) }

func parse(text string, depth int, unique bool) (Value, error) {
	p := parser{Scanner: jsontext.Scanner{Text: jsontext.UTF8(text), Most: depth}, unique: unique}
	return p.whole()
}

// Members are kept in slabs that many containers share: a text of 100 bytes costs a handful of
// allocations. slabMembers bounds what a value that outlives the others holds on to.
const slabMembers = 256

type parser struct {
	jsontext.Scanner
	unique bool
	again  string   // the key that was repeated, where that is refused
	keys   []string // of open objects, innermost last
	items  []Value  // of open arrays and objects

	freeKeys  []string // rest of a slab
	freeItems []Value
	freeInner []inner
}

func (p *parser) whole() (Value, error) {
	var keys [16]string
	var items [16]Value
	p.keys, p.items = keys[:0], items[:0]
	v, ok := p.value()
	if ok && p.End() {
		return v, nil
	}
	err := p.Err()
	switch {
	case p.again != "":
		err.Message = fmt.Sprintf("the key %q is there already; keys of one object must differ", p.again)
	case p.Problem == jsontext.NoName:
		err.Message = "an object needs a key in double quotes here"
	}
	return Value{}, err
}

func (p *parser) value() (v Value, ok bool) {
	switch c := p.Next(); c {
	case '{':
		return p.object()
	case '[':
		return p.array()
	case '"':
		text, ok := p.text()
		return Value{kind: String, text: text}, ok
	case 't':
		return TrueValue, p.Word("true")
	case 'f':
		return FalseValue, p.Word("false")
	case 'n':
		return NullValue, p.Word("null")
	default:
		start := p.At
		ok := p.Value() // a number, or nothing
		return Value{kind: Number, text: p.Text[start:p.At]}, ok
	}
}

// text reads a string.
func (p *parser) text() (string, bool) {
	start := p.At
	form, ok := p.String()
	switch {
	case !ok:
		return "", false
	case form&jsontext.Escaped != 0:
		return string(jsontext.UnquoteExact(make([]byte, 0, p.At-start), p.Text[start:p.At])), true
	}
	return p.Text[start+1 : p.At-1], true
}

func (p *parser) array() (Value, bool) {
	if !p.Enter() {
		return Value{}, false
	}
	from, size := len(p.items), 1
	for first := true; ; first = false {
		more, ok := p.More(first, ']')
		switch {
		case !ok:
			return Value{}, false
		case !more && first:
			return Value{kind: Array, in: emptyArray}, true
		case !more:
			in := p.keep(fromNowhere, from)
			in.size = size
			return Value{kind: Array, in: in}, true
		}
		v, ok := p.value()
		if !ok {
			return Value{}, false
		}
		p.items = append(p.items, v)
		size += v.Size() + 1
	}
}

func (p *parser) object() (Value, bool) {
	if !p.Enter() {
		return Value{}, false
	}
	fromKeys, from := len(p.keys), len(p.items)
	var index map[string]int
	for first := true; ; first = false {
		more, ok := p.More(first, '}')
		switch {
		case !ok:
			return Value{}, false
		case !more && first:
			return Value{kind: Object, in: emptyObject}, true
		case !more:
			in := p.keep(fromKeys, from)
			in.size = objectSize(in.keys, in.items)
			return Value{kind: Object, in: in}, true
		}
		if !p.member(fromKeys, from, &index) {
			return Value{}, false
		}
	}
}

// fromNowhere says that a container has no keys.
const fromNowhere = -1

// keep moves the members of the container that ends here from the stacks into the slabs.
func (p *parser) keep(fromKeys, from int) *inner {
	n := len(p.items) - from
	slab := min(max(4, (len(p.Text)-p.At)/8), slabMembers)
	if len(p.freeInner) == 0 {
		p.freeInner = make([]inner, max(1, min(slab/4, p.Depth+1)))
	}
	in := &p.freeInner[0]
	p.freeInner = p.freeInner[1:]
	if n > len(p.freeItems) {
		p.freeItems = make([]Value, max(n, slab))
	}
	in.items = p.freeItems[:n:n]
	p.freeItems = p.freeItems[n:]
	copy(in.items, p.items[from:])
	p.items = p.items[:from]
	if fromKeys != fromNowhere {
		if n > len(p.freeKeys) {
			p.freeKeys = make([]string, max(n, slab))
		}
		in.keys = p.freeKeys[:n:n]
		p.freeKeys = p.freeKeys[n:]
		copy(in.keys, p.keys[fromKeys:])
		p.keys = p.keys[:fromKeys]
	}
	return in
}

// member reads a key and its value into the object whose members begin at fromKeys and from.
func (p *parser) member(fromKeys, from int, index *map[string]int) bool {
	if p.Next() != '"' {
		return p.Fail(jsontext.NoName)
	}
	start := p.At
	key, ok := p.text()
	if !ok {
		return false
	}
	at := p.find(key, fromKeys, index)
	if at >= 0 && p.unique {
		p.At, p.again = start, key
		return p.Fail(jsontext.NoName)
	}
	if !p.Colon() {
		return false
	}
	v, ok := p.value()
	if !ok {
		return false
	}
	if at >= 0 {
		p.items[from+at] = v
		return true
	}
	if *index != nil {
		(*index)[key] = len(p.keys) - fromKeys
	}
	p.keys, p.items = append(p.keys, key), append(p.items, v)
	return true
}

// find is the place of key among the keys from fromKeys on, or -1.
func (p *parser) find(key string, fromKeys int, index *map[string]int) int {
	keys := p.keys[fromKeys:]
	if len(keys) < wideObject {
		for i, k := range keys {
			if k == key {
				return i
			}
		}
		return -1
	}
	if *index == nil {
		*index = make(map[string]int, 4*wideObject)
		for i, k := range keys {
			(*index)[k] = i
		}
	}
	if i, ok := (*index)[key]; ok {
		return i
	}
	return -1
}
