package jsonvalue

import (
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// wideObject is the number of keys from which repeated keys are looked for with a map.
const wideObject = 16

// SyntaxError says where a text stops being JSON.
type SyntaxError struct {
	Offset  int // byte in the text, from 0
	Message string
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("byte %d: %s", e.Offset, e.Message) }

// Parse reads one JSON value. Strings of the result share memory with a copy of the text.
func Parse(text []byte) (Value, error) { return ParseString(string(text)) }

// ParseString reads one JSON value. Strings of the result share memory with text.
func ParseString(text string) (Value, error) {
	p := parser{s: text}
	return p.whole()
}

// Members are kept in slabs that many containers share: a text of 100 bytes costs a handful of
// allocations. slabMembers bounds what a value that outlives the others holds on to.
const slabMembers = 256

// ParseUnique is ParseString that refuses a key which its object repeats.
func ParseUnique(text string) (Value, error) {
	p := parser{s: text, unique: true}
	return p.whole()
}

type parser struct {
	s      string
	i      int
	depth  int
	unique bool
	err    *SyntaxError
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
	p.space()
	v := p.value()
	if p.err == nil {
		p.space()
		if p.i < len(p.s) {
			p.fail("unexpected text after the JSON value")
		}
	}
	if p.err != nil {
		return Value{}, p.err
	}
	return v, nil
}

func (p *parser) fail(format string, args ...any) Value {
	if p.err == nil {
		p.err = &SyntaxError{Offset: p.i, Message: fmt.Sprintf(format, args...)}
	}
	return Value{}
}

func (p *parser) space() {
	for p.i < len(p.s) && isSpace(p.s[p.i]) {
		p.i++
	}
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

func (p *parser) value() Value {
	if p.i >= len(p.s) {
		return p.fail("unexpected end of the text, a value is missing")
	}
	switch c := p.s[p.i]; c {
	case '{':
		return p.object()
	case '[':
		return p.array()
	case '"':
		s, ok := p.str()
		if !ok {
			return Value{}
		}
		return Value{kind: String, text: s}
	case 't':
		return p.word("true", TrueValue)
	case 'f':
		return p.word("false", FalseValue)
	case 'n':
		return p.word("null", NullValue)
	default:
		if c == '-' || c >= '0' && c <= '9' {
			return p.number()
		}
		r, _ := utf8.DecodeRuneInString(p.s[p.i:])
		return p.fail("unexpected character %q where a value should be", r)
	}
}

func (p *parser) word(w string, v Value) Value {
	if !strings.HasPrefix(p.s[p.i:], w) {
		return p.fail("unexpected word where a value should be; did you mean %s?", w)
	}
	p.i += len(w)
	return v
}

func (p *parser) enter() bool {
	p.i++
	p.depth++
	if p.depth > MaxDepth {
		p.fail("arrays and objects nest deeper than %d", MaxDepth)
		return false
	}
	p.space()
	return true
}

func (p *parser) array() Value {
	if !p.enter() {
		return Value{}
	}
	if p.i < len(p.s) && p.s[p.i] == ']' {
		p.i++
		p.depth--
		return Value{kind: Array, in: emptyArray}
	}
	from, size := len(p.items), 1
	for {
		v := p.value()
		if p.err != nil {
			return Value{}
		}
		p.items = append(p.items, v)
		size += v.Size() + 1
		p.space()
		if p.i < len(p.s) && p.s[p.i] == ',' {
			p.i++
			p.space()
			continue
		}
		if p.i >= len(p.s) || p.s[p.i] != ']' {
			return p.fail("an array needs ',' or ']' here")
		}
		p.i++
		break
	}
	in := p.keep(fromNowhere, from)
	in.size = size
	return Value{kind: Array, in: in}
}

func (p *parser) object() Value {
	if !p.enter() {
		return Value{}
	}
	if p.i < len(p.s) && p.s[p.i] == '}' {
		p.i++
		p.depth--
		return Value{kind: Object, in: emptyObject}
	}
	fromKeys, from := len(p.keys), len(p.items)
	var index map[string]int
	for {
		if !p.member(fromKeys, from, &index) {
			return Value{}
		}
		if p.i < len(p.s) && p.s[p.i] == ',' {
			p.i++
			p.space()
			continue
		}
		if p.i >= len(p.s) || p.s[p.i] != '}' {
			return p.fail("an object needs ',' or '}' here")
		}
		p.i++
		break
	}
	in := p.keep(fromKeys, from)
	in.size = objectSize(in.keys, in.items)
	return Value{kind: Object, in: in}
}

// fromNowhere says that a container has no keys.
const fromNowhere = -1

// keep moves the members of the container that ends here from the stacks into the slabs.
func (p *parser) keep(fromKeys, from int) *inner {
	p.depth--
	n := len(p.items) - from
	slab := min(max(4, (len(p.s)-p.i)/8), slabMembers)
	if len(p.freeInner) == 0 {
		p.freeInner = make([]inner, max(1, min(slab/4, p.depth+1)))
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
	if p.i >= len(p.s) || p.s[p.i] != '"' {
		p.fail("an object needs a key in double quotes here")
		return false
	}
	start := p.i
	key, ok := p.str()
	if !ok {
		return false
	}
	at := p.find(key, fromKeys, index)
	if at >= 0 && p.unique {
		p.i = start
		p.fail("the key %q is there already; keys of one object must differ", key)
		return false
	}
	p.space()
	if p.i >= len(p.s) || p.s[p.i] != ':' {
		p.fail("an object needs ':' after the key %q", key)
		return false
	}
	p.i++
	p.space()
	v := p.value()
	if p.err != nil {
		return false
	}
	if at >= 0 {
		p.items[from+at] = v
	} else {
		if *index != nil {
			(*index)[key] = len(p.keys) - fromKeys
		}
		p.keys, p.items = append(p.keys, key), append(p.items, v)
	}
	p.space()
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

func (p *parser) number() Value {
	start := p.i
	if p.s[p.i] == '-' {
		p.i++
	}
	switch {
	case p.i < len(p.s) && p.s[p.i] == '0':
		p.i++
	case !p.digits():
		return p.fail("a number needs a digit here")
	}
	if p.i < len(p.s) && p.s[p.i] == '.' {
		p.i++
		if !p.digits() {
			return p.fail("a number needs a digit after the point")
		}
	}
	if p.i < len(p.s) && (p.s[p.i] == 'e' || p.s[p.i] == 'E') {
		p.i++
		if p.i < len(p.s) && (p.s[p.i] == '+' || p.s[p.i] == '-') {
			p.i++
		}
		if !p.digits() {
			return p.fail("a number needs a digit in its exponent")
		}
	}
	return Value{kind: Number, text: p.s[start:p.i]}
}

func (p *parser) digits() bool {
	start := p.i
	for p.i < len(p.s) && p.s[p.i] >= '0' && p.s[p.i] <= '9' {
		p.i++
	}
	return p.i > start
}

// str reads a string; the quote is at p.i.
func (p *parser) str() (string, bool) {
	p.i++
	start := p.i
	for p.i < len(p.s) {
		c := p.s[p.i]
		switch {
		case c == '"':
			s := p.s[start:p.i]
			p.i++
			return s, true
		case c == '\\':
			return p.escaped(start)
		case c < 0x20:
			p.fail("a string holds a control character that must be escaped")
			return "", false
		case c < utf8.RuneSelf:
			p.i++
		default:
			if !p.rune() {
				return "", false
			}
		}
	}
	p.fail("a string is not closed")
	return "", false
}

func (p *parser) rune() bool {
	r, n := utf8.DecodeRuneInString(p.s[p.i:])
	if r == utf8.RuneError && n == 1 {
		p.fail("a string holds a byte that is not UTF-8")
		return false
	}
	p.i += n
	return true
}

// escaped reads the rest of a string that has an escape at p.i.
func (p *parser) escaped(start int) (string, bool) {
	out := make([]byte, 0, 2*(p.i-start)+16)
	out = append(out, p.s[start:p.i]...)
	for p.i < len(p.s) {
		c := p.s[p.i]
		switch {
		case c == '"':
			p.i++
			return string(out), true
		case c == '\\':
			var ok bool
			if out, ok = p.escape(out); !ok {
				return "", false
			}
		case c < 0x20:
			p.fail("a string holds a control character that must be escaped")
			return "", false
		case c < utf8.RuneSelf:
			out = append(out, c)
			p.i++
		default:
			from := p.i
			if !p.rune() {
				return "", false
			}
			out = append(out, p.s[from:p.i]...)
		}
	}
	p.fail("a string is not closed")
	return "", false
}

func (p *parser) escape(out []byte) ([]byte, bool) {
	if p.i+1 >= len(p.s) {
		p.fail("a string is not closed")
		return nil, false
	}
	c := p.s[p.i+1]
	if c == 'u' {
		r, ok := p.hex(p.i + 2)
		if !ok {
			p.fail("\\u needs four hexadecimal digits")
			return nil, false
		}
		p.i += 6
		if utf16.IsSurrogate(r) {
			if low, ok := p.lowSurrogate(); ok && r < 0xDC00 {
				p.i += 6
				return utf8.AppendRune(out, utf16.DecodeRune(r, low)), true
			}
			return append(out, 0xE0|byte(r>>12), 0x80|byte(r>>6)&0x3F, 0x80|byte(r)&0x3F), true
		}
		return utf8.AppendRune(out, r), true
	}
	i := strings.IndexByte(`"\/bfnrt`, c)
	if i < 0 {
		p.fail("unknown escape \\%c in a string", c)
		return nil, false
	}
	p.i += 2
	return append(out, "\"\\/\b\f\n\r\t"[i]), true
}

func (p *parser) lowSurrogate() (rune, bool) {
	if !strings.HasPrefix(p.s[p.i:], `\u`) {
		return 0, false
	}
	r, ok := p.hex(p.i + 2)
	return r, ok && r >= 0xDC00 && r < 0xE000
}

func (p *parser) hex(from int) (rune, bool) {
	if from+4 > len(p.s) {
		return 0, false
	}
	var r rune
	for _, c := range []byte(p.s[from : from+4]) {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}
