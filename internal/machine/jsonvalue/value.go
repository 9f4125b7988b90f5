// Package jsonvalue is a JSON text as an immutable tree.
//
// Objects keep the order of their keys, numbers keep the digits they were written with,
// and a value never changes once it is made: a function that "sets" something returns a
// new tree that shares what stayed the same. So trees may be shared between goroutines
// and kept in a state that must not change behind its owner's back.
//
// Invariants:
//
//  1. Parse accepts what package jsontext takes for JSON, and nothing else.
//  2. A key that an object repeats keeps its first place and takes its last value.
//  3. Append writes a text that Parse reads back to an equal value, and Size is its length.
//  4. An unpaired surrogate, legal as a \u escape, survives: it is kept as the three bytes
//     UTF-8 would have for it and written as the escape again.
package jsonvalue

import "github.com/weirdata/weir/internal/jsontext"

// MaxDepth is how deep arrays and objects may nest in what Parse reads.
const MaxDepth = jsontext.MaxDepth

// Kind says what a value is.
type Kind uint8

// The kinds. The zero Value is Undefined: not JSON, but the absence of a value.
const (
	Undefined Kind = iota
	Null
	False
	True
	Number
	String
	Array
	Object
)

func (k Kind) String() string {
	return [...]string{"undefined", "null", "boolean", "boolean", "number", "string", "array", "object"}[k]
}

// Value is a JSON value, or nothing when it is the zero Value.
type Value struct {
	kind Kind
	text string // the digits of a number, the characters of a string
	in   *inner // the members of an array or object
}

type inner struct {
	keys  []string // of an object; same length as items
	items []Value
	size  int // bytes of the compact text
}

var emptyArray, emptyObject = &inner{size: 2}, &inner{size: 2}

// The constants of JSON.
var (
	NullValue  = Value{kind: Null}
	TrueValue  = Value{kind: True}
	FalseValue = Value{kind: False}
)

// OfBool is true or false.
func OfBool(b bool) Value {
	if b {
		return TrueValue
	}
	return FalseValue
}

// OfString is a string.
func OfString(s string) Value { return Value{kind: String, text: s} }

// OfArray is an array of items, which the caller must not change afterwards.
func OfArray(items []Value) Value {
	if len(items) == 0 {
		return Value{kind: Array, in: emptyArray}
	}
	size := 1 + len(items)
	for i := range items {
		size += items[i].Size()
	}
	return Value{kind: Array, in: &inner{items: items, size: size}}
}

// OfObject is an object of keys and items of the same length and order, which the caller
// must not change afterwards. Keys must differ from each other.
func OfObject(keys []string, items []Value) Value {
	if len(keys) == 0 {
		return Value{kind: Object, in: emptyObject}
	}
	return Value{kind: Object, in: &inner{keys: keys, items: items, size: objectSize(keys, items)}}
}

func objectSize(keys []string, items []Value) int {
	size := 1 + 2*len(keys)
	for i := range items {
		size += jsontext.SizeExact(keys[i]) + items[i].Size()
	}
	return size
}

// Kind says what v is.
func (v Value) Kind() Kind { return v.kind }

// Defined reports whether there is a value at all.
func (v Value) Defined() bool { return v.kind != Undefined }

// IsBool reports whether v is true or false.
func (v Value) IsBool() bool { return v.kind == True || v.kind == False }

// Bool is v as a boolean, false for everything that is not true.
func (v Value) Bool() bool { return v.kind == True }

// Text is the characters of a string or the digits of a number, and empty otherwise.
func (v Value) Text() string { return v.text }

// Len is the number of members of an array or object.
func (v Value) Len() int {
	if v.in == nil {
		return 0
	}
	return len(v.in.items)
}

// Item is the i-th member of an array or object.
func (v Value) Item(i int) Value { return v.in.items[i] }

// Items are the members of an array or object; the caller must not change them.
func (v Value) Items() []Value {
	if v.in == nil {
		return nil
	}
	return v.in.items
}

// Key is the i-th key of an object.
func (v Value) Key(i int) string { return v.in.keys[i] }

// Keys are the keys of an object; the caller must not change them.
func (v Value) Keys() []string {
	if v.in == nil {
		return nil
	}
	return v.in.keys
}

// Get is the member of an object with the given key, Undefined when there is none or v is
// no object.
func (v Value) Get(key string) Value {
	if v.kind != Object {
		return Value{}
	}
	for i, k := range v.in.keys {
		if k == key {
			return v.in.items[i]
		}
	}
	return Value{}
}

// With is v, an object, with key set to item: in place when it is there, else at the end.
func (v Value) With(key string, item Value) Value {
	n := v.Len()
	for i, k := range v.Keys() {
		if k == key {
			items := make([]Value, n)
			copy(items, v.in.items)
			items[i] = item
			return OfObject(v.in.keys, items)
		}
	}
	keys := make([]string, n, n+1)
	copy(keys, v.Keys())
	items := make([]Value, n, n+1)
	copy(items, v.Items())
	return OfObject(append(keys, key), append(items, item))
}

// WithItem is v, an array, with its i-th item replaced.
func (v Value) WithItem(i int, item Value) Value {
	items := make([]Value, v.Len())
	copy(items, v.in.items)
	items[i] = item
	return OfArray(items)
}

// Equal reports whether two values mean the same: numbers by value, objects whatever the
// order of their keys.
func Equal(a, b Value) bool {
	if a.kind != b.kind {
		return false
	}
	switch a.kind {
	case Number:
		return a.text == b.text || CompareNumbers(a, b) == 0
	case String:
		return a.text == b.text
	case Array:
		if a.in == b.in {
			return true
		}
		if len(a.in.items) != len(b.in.items) {
			return false
		}
		for i := range a.in.items {
			if !Equal(a.in.items[i], b.in.items[i]) {
				return false
			}
		}
	case Object:
		return equalObjects(a, b)
	}
	return true
}

func equalObjects(a, b Value) bool {
	if a.in == b.in {
		return true
	}
	n := len(a.in.keys)
	if n != len(b.in.keys) {
		return false
	}
	var index map[string]int
	if n > wideObject {
		index = make(map[string]int, n)
		for i, k := range b.in.keys {
			index[k] = i
		}
	}
	for i, k := range a.in.keys {
		var other Value
		switch {
		case b.in.keys[i] == k:
			other = b.in.items[i]
		case index != nil:
			j, ok := index[k]
			if !ok {
				return false
			}
			other = b.in.items[j]
		default:
			other = b.Get(k)
		}
		if !Equal(a.in.items[i], other) {
			return false
		}
	}
	return true
}

// Builder makes an object key by key. The zero Builder is ready to use.
type Builder struct {
	keys  []string
	items []Value
}

// Set adds a key that was not set before.
func (b *Builder) Set(key string, item Value) *Builder {
	b.keys, b.items = append(b.keys, key), append(b.items, item)
	return b
}

// Object is the object made so far; the Builder must not be used afterwards.
func (b *Builder) Object() Value { return OfObject(b.keys, b.items) }
