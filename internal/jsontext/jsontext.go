// Package jsontext is what the product takes for JSON. Every format that reads or writes JSON
// stands on it, so that a text that one reader takes is taken by all, and means the same.
//
// # Texts
//
// A text is one value as RFC 8259 defines it, with white space around it and nothing else: no
// byte order mark, no second value, no NUL. Arrays and objects nest at most [MaxDepth] deep.
// That is what encoding/json takes as well, which reads what is not on a hot path.
//
// # Strings
//
// What is read as text is always UTF-8. What cannot be is valid, and is read as U+FFFD: each
// byte of a string that is not UTF-8, and each escape that is half of a surrogate pair. What
// nobody looks into is copied as it was written; [Mend] gives a text that says the same and
// that stricter readers take too. Control characters must be escaped, DEL need not be.
//
// # Numbers
//
// A number is what its digits say, whatever its length and exponent: how it is spelt says
// nothing, 5, 5.0 and 50e-1 are one number. It is kept as text for as long as possible.
// [Integer] is exact or is none. [Float] is the nearest float64 and says when there is none:
// the number is too large, or not zero and yet too small. -0 is whole, and only a float keeps
// its sign.
//
// # Objects
//
// Of members with one name the last counts, in the place of the first where the order is
// kept. Names are compared as they are read: with escapes resolved.
//
// # Writing
//
// [AppendString] escapes what must be and nothing else, in the shortest spelling, as
// JavaScript does.
//
// Nothing here allocates but for what is returned or appended. Texts that are given as bytes
// are read where they lie, so they must not change while a [Scanner] or a result refers to
// them.
package jsontext

import (
	"fmt"
	"math/bits"
	"unsafe"
)

// MaxDepth is how deep arrays and objects may nest, as in encoding/json.
const MaxDepth = 10000

// Problem is why a text is not JSON.
type Problem uint8

// The problems. The zero Problem is none.
const (
	NoProblem Problem = iota
	Truncated
	NoValue
	NoName
	NoColon
	NoCommaInObject
	NoCommaInArray
	NoDigit
	BadWord
	Unclosed
	BadEscape
	Control
	TooDeep
	Trailing
)

var problems = [...]string{
	NoProblem: "no problem", Truncated: "unexpected end", NoValue: "expected a value", NoName: "expected a member name",
	NoColon: "expected ':'", NoCommaInObject: "expected ',' or '}'", NoCommaInArray: "expected ',' or ']'", NoDigit: "expected a digit",
	BadWord: "expected true, false or null", Unclosed: "string without an end", BadEscape: "unknown escape in a string",
	Control: "control character in a string", TooDeep: "nested deeper than 10000", Trailing: "text after the value",
}

func (p Problem) Error() string { return problems[p] }

// SyntaxError says where a text stops being JSON.
type SyntaxError struct {
	Offset  int // byte in the text, from 0
	Problem Problem
	Message string // of the problem, or more exact
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("byte %d: %s", e.Offset, e.Message) }

// Unwrap is the problem.
func (e *SyntaxError) Unwrap() error { return e.Problem }

// Text is a text where it lies: as a string, or as bytes.
type Text interface{ string | []byte }

// view is text as a string, without a copy.
func view[T Text](text T) string {
	return *(*string)(unsafe.Pointer(&text)) // the header of bytes begins as that of a string
}

// Valid reports whether text is JSON.
func Valid[T Text](text T) bool {
	s := Scanner{Text: view(text)}
	return s.Value() && s.End()
}

// Check says where and why text is not JSON.
func Check[T Text](text T) error {
	s := Scanner{Text: view(text)}
	if s.Value() && s.End() {
		return nil
	}
	return s.Err()
}

// Space is the place of the first byte from i on that is no white space.
func Space(s string, i int) int {
	for i < len(s) && (s[i] == ' ' || s[i] == '\n' || s[i] == '\r' || s[i] == '\t') {
		i++
	}
	return i
}

// Form is how a string is written.
type Form uint8

// The properties of a string's text.
const (
	Escaped Form = 1 << iota // it has escapes
	Long                     // some escape is not the shortest: \u0041, \/
	Half                     // some escape is half of a surrogate pair
	Wide                     // it has bytes beyond ASCII, which may not be UTF-8
)

const (
	ones = 0x0101010101010101
	tops = 0x8080808080808080
)

// load is the eight bytes of s from i on, the first in the low byte.
func load(s string, i int) uint64 {
	b := s[i : i+8]
	return uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
		uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
}

// special has the top bit of each byte of w set that is a quote, a backslash or a control
// character; bits above the lowest one set may be wrong.
func special(w uint64) uint64 {
	q := w ^ (ones * '"')
	b := w ^ (ones * '\\')
	return ((w-ones*' ')&^w | (q-ones)&^q | (b-ones)&^b) & tops
}

// Stop is the place of the first byte from i on that is a quote, a backslash or a control
// character; the length of s when there is none.
func Stop(s string, i int) int {
	for ; i+8 <= len(s); i += 8 {
		if m := special(load(s, i)); m != 0 {
			return i + bits.TrailingZeros64(m)>>3
		}
	}
	for ; i < len(s); i++ {
		if c := s[i]; c == '"' || c == '\\' || c < ' ' {
			break
		}
	}
	return i
}

// Plain is Stop that also stops at bytes beyond ASCII.
func Plain(s string, i int) int {
	for ; i+8 <= len(s); i += 8 {
		w := load(s, i)
		if m := special(w) | w&tops; m != 0 {
			return i + bits.TrailingZeros64(m)>>3
		}
	}
	for ; i < len(s); i++ {
		if c := s[i]; c == '"' || c == '\\' || c < ' ' || c >= 0x80 {
			break
		}
	}
	return i
}

// escape is the length of the escape at i and what it makes of its string, 0 when it is none.
func escape(s string, i int) (n int, form Form) {
	if i+1 >= len(s) {
		return 0, 0
	}
	switch s[i+1] {
	case '"', '\\', 'b', 'f', 'n', 'r', 't':
		return 2, Escaped
	case '/':
		return 2, Escaped | Long
	case 'u':
		r, n := unit(s, i)
		if n == 0 {
			return 0, 0
		}
		if r < 0 {
			return n, Escaped | Long | Half
		}
		return n, Escaped | Long
	}
	return 0, 0
}

// Number passes over the number at i; whole is set when it has neither fraction nor exponent.
// end is behind it, or where the problem is.
func Number(s string, i int) (end int, whole bool, problem Problem) {
	if i < len(s) && s[i] == '-' {
		i++
	}
	switch {
	case i < len(s) && s[i] == '0':
		i++
	case digit(s, i):
		i = digits(s, i)
	default:
		return i, false, NoDigit
	}
	if i == len(s) || s[i] != '.' && s[i]|0x20 != 'e' {
		return i, true, NoProblem
	}
	if s[i] == '.' {
		if !digit(s, i+1) {
			return i, false, NoDigit
		}
		i = digits(s, i+1)
	}
	if i < len(s) && s[i]|0x20 == 'e' {
		j := i + 1
		if j < len(s) && (s[j] == '+' || s[j] == '-') {
			j++
		}
		if !digit(s, j) {
			return i, false, NoDigit
		}
		i = digits(s, j)
	}
	return i, false, NoProblem
}

func digit(s string, i int) bool { return i < len(s) && s[i]-'0' <= 9 }

func digits(s string, i int) int {
	for i < len(s) && s[i]-'0' <= 9 {
		i++
	}
	return i
}

// ValueEnd is where the value at i ends, in a text that is known to be valid.
func ValueEnd(s string, i int) int {
	switch s[i] {
	case '"':
		return StringEnd(s, i)
	case '{', '[':
		depth := 0
		for ; ; i++ {
			switch s[i] {
			case '"':
				i = StringEnd(s, i) - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
	default:
		for i < len(s) && s[i] > ' ' && s[i] != ',' && s[i] != ']' && s[i] != '}' {
			i++
		}
		return i
	}
}

// StringEnd is where the string at i ends, in a text that is known to be valid.
func StringEnd(s string, i int) int {
	for i++; ; i++ {
		switch i = Stop(s, i); s[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
	}
}

// Hash is a quick hash of a name, for those who look for repeated ones.
func Hash(name string) uint32 {
	const prime = 0x9E3779B97F4A7C15
	h := uint64(len(name)) * prime
	for ; len(name) >= 8; name = name[8:] {
		h = (h ^ load(name, 0)) * prime
		h ^= h >> 32
	}
	w := uint64(0)
	for i := range len(name) {
		w = w<<8 | uint64(name[i])
	}
	h = (h ^ w) * prime
	return uint32(h >> 32)
}
