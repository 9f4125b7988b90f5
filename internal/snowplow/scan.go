package snowplow

import (
	"fmt"
	"math/bits"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth is how deep JSON in an event may nest.
const maxDepth = 10000

// scanner walks JSON text once, checking the grammar of RFC 8259 as it goes. After a
// method has answered false, what and i say what was wrong and where.
type scanner struct {
	s      string
	i      int
	depth  int
	spaced bool // white space outside strings was seen
	what   string
}

func (p *scanner) fail(what string) bool {
	if p.what == "" {
		p.what = what
	}
	return false
}

// err describes the failure.
func (p *scanner) err() error {
	return fmt.Errorf("invalid JSON at byte %d: %s", p.i, p.what)
}

// peek skips white space and returns the next byte, or 0 at the end.
func (p *scanner) peek() byte {
	if p.i < len(p.s) {
		if c := p.s[p.i]; c > ' ' {
			return c
		}
		return p.peekSlow()
	}
	return 0
}

func (p *scanner) peekSlow() byte {
	for p.i < len(p.s) {
		switch c := p.s[p.i]; c {
		case ' ', '\t', '\n', '\r':
			p.spaced = true
			p.i++
		default:
			return c
		}
	}
	return 0
}

// end reports whether nothing but white space is left.
func (p *scanner) end() bool {
	p.peek()
	if p.i < len(p.s) {
		return p.fail("text after the value")
	}
	return true
}

// enter steps into an object or array; leave must follow.
func (p *scanner) enter() bool {
	p.depth++
	if p.depth > maxDepth {
		return p.fail("nested deeper than " + strconv.Itoa(maxDepth))
	}
	p.i++
	return true
}

// more moves to the next element or member: more is false when the closing byte was
// consumed. first must be true for the first call after enter.
func (p *scanner) more(first bool, closing byte) (more, ok bool) {
	c := p.peek()
	if c == closing {
		p.i++
		p.depth--
		return false, true
	}
	if first {
		return true, true
	}
	if c != ',' {
		if p.i >= len(p.s) {
			return false, p.fail("unexpected end")
		}
		return false, p.fail("expected ',' or '" + string(rune(closing)) + "'")
	}
	p.i++
	return true, true
}

// key reads a member's name and the colon behind it.
func (p *scanner) key() (string, bool) {
	if p.peek() != '"' {
		return "", p.fail("expected a member name")
	}
	start := p.i
	escaped, ok := p.string()
	if !ok {
		return "", false
	}
	name := p.s[start+1 : p.i-1]
	if escaped {
		name = unquote(name)
	}
	if p.peek() != ':' {
		return "", p.fail("expected ':'")
	}
	p.i++
	return name, true
}

// skip walks over one value.
func (p *scanner) skip() bool {
	switch c := p.peek(); c {
	case '"':
		_, ok := p.string()
		return ok
	case '{':
		if !p.enter() {
			return false
		}
		for first := true; ; first = false {
			more, ok := p.more(first, '}')
			if !more {
				return ok
			}
			if p.peek() != '"' {
				return p.fail("expected a member name")
			}
			if _, ok := p.string(); !ok {
				return false
			}
			if p.peek() != ':' {
				return p.fail("expected ':'")
			}
			p.i++
			if !p.skip() {
				return false
			}
		}
	case '[':
		if !p.enter() {
			return false
		}
		for first := true; ; first = false {
			more, ok := p.more(first, ']')
			if !more {
				return ok
			}
			if !p.skip() {
				return false
			}
		}
	case 't':
		return p.literal("true")
	case 'f':
		return p.literal("false")
	case 'n':
		return p.literal("null")
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return p.number()
	}
	if p.i >= len(p.s) {
		return p.fail("unexpected end")
	}
	return p.fail("expected a value")
}

func (p *scanner) literal(word string) bool {
	if len(p.s)-p.i < len(word) || p.s[p.i:p.i+len(word)] != word {
		return p.fail("expected " + word)
	}
	p.i += len(word)
	return true
}

func (p *scanner) number() bool {
	s, i := p.s, p.i
	if s[i] == '-' {
		i++
	}
	switch {
	case i < len(s) && s[i] == '0':
		i++
	case digitAt(s, i):
		i = digits(s, i)
	default:
		p.i = i
		return p.fail("expected a digit")
	}
	if i < len(s) && s[i] == '.' {
		if !digitAt(s, i+1) {
			p.i = i
			return p.fail("expected a digit")
		}
		i = digits(s, i+1)
	}
	if i < len(s) && s[i]|0x20 == 'e' {
		j := i + 1
		if j < len(s) && (s[j] == '+' || s[j] == '-') {
			j++
		}
		if !digitAt(s, j) {
			p.i = i
			return p.fail("expected a digit")
		}
		i = digits(s, j)
	}
	p.i = i
	return true
}

func digitAt(s string, i int) bool { return i < len(s) && s[i]-'0' <= 9 }

func digits(s string, i int) int {
	for digitAt(s, i) {
		i++
	}
	return i
}

const (
	eachByte = 0x0101010101010101
	highBits = 0x8080808080808080
)

// load is the eight bytes of s from i, the first in the low byte.
func load(s string, i int) uint64 {
	_ = s[i+7]
	return uint64(s[i]) | uint64(s[i+1])<<8 | uint64(s[i+2])<<16 | uint64(s[i+3])<<24 |
		uint64(s[i+4])<<32 | uint64(s[i+5])<<40 | uint64(s[i+6])<<48 | uint64(s[i+7])<<56
}

// special marks, by the high bit, the bytes of w that end a run inside a JSON string: a
// quote, a backslash or a control character. Only the lowest mark is exact.
func special(w uint64) uint64 {
	q := w ^ (eachByte * '"')
	b := w ^ (eachByte * '\\')
	return ((q-eachByte)&^q | (b-eachByte)&^b | (w-eachByte*0x20)&^w) & highBits
}

// string walks over a string that starts at i; escaped says whether it holds a backslash.
func (p *scanner) string() (escaped, ok bool) {
	s, i := p.s, p.i+1
	for {
		for i+8 <= len(s) {
			if m := special(load(s, i)); m != 0 {
				i += bits.TrailingZeros64(m) >> 3
				break
			}
			i += 8
		}
		if i >= len(s) {
			p.i = i
			return escaped, p.fail("string without an end")
		}
		switch c := s[i]; {
		case c == '"':
			p.i = i + 1
			return escaped, true
		case c == '\\':
			escaped = true
			n := escapeLen(s, i)
			if n == 0 {
				p.i = i
				return escaped, p.fail("unknown escape in a string")
			}
			i += n
		case c < 0x20:
			p.i = i
			return escaped, p.fail("control character in a string")
		default:
			i++
		}
	}
}

// escapeLen is the length of the escape sequence at i, 0 if it is not one.
func escapeLen(s string, i int) int {
	if i+1 >= len(s) {
		return 0
	}
	switch s[i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if _, ok := hex4(s, i+2); ok {
			return 6
		}
	}
	return 0
}

func hex4(s string, i int) (rune, bool) {
	if i+4 > len(s) {
		return 0, false
	}
	var r rune
	for _, c := range []byte(s[i : i+4]) {
		switch {
		case c-'0' <= 9:
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// unquote decodes the inside of a valid JSON string.
func unquote(s string) string {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); {
		if s[i] != '\\' {
			out = append(out, s[i])
			i++
			continue
		}
		n := escapeLen(s, i)
		if n == 0 {
			return string(append(out, s[i:]...))
		}
		switch c := s[i+1]; c {
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r, _ := hex4(s, i+2)
			if utf16.IsSurrogate(r) {
				pair := utf8.RuneError
				if i+8 <= len(s) && s[i+6] == '\\' && s[i+7] == 'u' {
					if low, ok := hex4(s, i+8); ok {
						pair = utf16.DecodeRune(r, low)
					}
				}
				if r = pair; r != utf8.RuneError {
					n = 12
				}
			}
			out = utf8.AppendRune(out, r)
		default:
			out = append(out, c)
		}
		i += n
	}
	return string(out)
}
