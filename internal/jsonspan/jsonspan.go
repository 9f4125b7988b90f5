// Package jsonspan finds where the members of a JSON object and the elements of an array
// lie within their text, without decoding them, so that a text can be changed by copying
// what stays. Every function checks the whole text it passes over against RFC 8259
// (escapes and numbers included; that strings are UTF-8 is the caller's matter) and never
// allocates, except for members that are appended.
//
// Nesting beyond [MaxDepth] is not valid.
package jsonspan

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// MaxDepth is how deep values may be nested, as in encoding/json.
const MaxDepth = 10000

// Member is where a member of an object lies: data[Start:End] is all of it.
type Member struct {
	Start   int // its key's opening quote
	KeyEnd  int // its key's closing quote; the key is data[Start+1:KeyEnd]
	Value   int // the first byte of its value
	End     int // after its value
	Escaped bool
}

// Key is the text of m's key between the quotes, with its escapes.
func (m Member) Key(data []byte) []byte { return data[m.Start+1 : m.KeyEnd] }

// Name is m's key without escapes.
func (m Member) Name(data []byte) []byte {
	if !m.Escaped {
		return data[m.Start+1 : m.KeyEnd]
	}
	return Unquote(nil, data[m.Start:m.KeyEnd+1])
}

// Of is the text of m's value.
func (m Member) Of(data []byte) []byte { return data[m.Value:m.End] }

// Scanner passes over a text from At on. Spaces counts the white space between tokens.
type Scanner struct {
	Data   []byte
	At     int
	Spaces int
}

// Valid reports whether data is one JSON value, with nothing but white space around it.
func Valid(data []byte) bool {
	s := Scanner{Data: data}
	return s.Value() && s.End()
}

// End reports whether nothing but white space is left.
func (s *Scanner) End() bool {
	s.space()
	return s.At == len(s.Data)
}

// Next is the first byte after white space, which it passes over; 0 at the end.
func (s *Scanner) Next() byte {
	s.space()
	if s.At == len(s.Data) {
		return 0
	}
	return s.Data[s.At]
}

// Take passes over white space and c; false when another byte comes next.
func (s *Scanner) Take(c byte) bool {
	if s.Next() != c || s.At == len(s.Data) {
		return false
	}
	s.At++
	return true
}

func (s *Scanner) space() {
	for s.At < len(s.Data) {
		switch s.Data[s.At] {
		case ' ', '\n', '\r', '\t':
			s.At++
			s.Spaces++
		default:
			return
		}
	}
}

// Value passes over one value; false when it is not valid.
func (s *Scanner) Value() bool { return s.value(0) }

// Member passes over a key, the colon, and white space up to the value, whose End is not
// known yet; false when there is no valid key.
func (s *Scanner) Member() (m Member, ok bool) {
	if s.Next() != '"' {
		return m, false
	}
	m.Start = s.At
	escaped, ok := s.str()
	if !ok {
		return m, false
	}
	m.KeyEnd, m.Escaped = s.At-1, escaped
	if !s.Take(':') {
		return m, false
	}
	s.space()
	m.Value = s.At
	return m, true
}

// Object passes over an object and appends its members to into; false when it is not a
// valid object.
func (s *Scanner) Object(into []Member) ([]Member, bool) {
	if !s.Take('{') {
		return into, false
	}
	if s.Next() == '}' {
		s.At++
		return into, true
	}
	for {
		m, ok := s.Member()
		if !ok || !s.value(1) {
			return into, false
		}
		m.End = s.At
		into = append(into, m)
		switch s.Next() {
		case ',':
			s.At++
		case '}':
			s.At++
			return into, true
		default:
			return into, false
		}
	}
}

func (s *Scanner) value(depth int) bool {
	switch c := s.Next(); c {
	case '"':
		_, ok := s.str()
		return ok
	case '{':
		s.At++
		return depth < MaxDepth && s.object(depth+1)
	case '[':
		s.At++
		return depth < MaxDepth && s.array(depth+1)
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	default:
		return (c == '-' || (c >= '0' && c <= '9')) && s.number()
	}
}

// object passes over what follows an opening brace.
func (s *Scanner) object(depth int) bool {
	if s.Next() == '}' {
		s.At++
		return true
	}
	for {
		if s.Next() != '"' {
			return false
		}
		if _, ok := s.str(); !ok || !s.Take(':') || !s.value(depth) {
			return false
		}
		switch s.Next() {
		case ',':
			s.At++
		case '}':
			s.At++
			return true
		default:
			return false
		}
	}
}

func (s *Scanner) array(depth int) bool {
	if s.Next() == ']' {
		s.At++
		return true
	}
	for {
		if !s.value(depth) {
			return false
		}
		switch s.Next() {
		case ',':
			s.At++
		case ']':
			s.At++
			return true
		default:
			return false
		}
	}
}

func (s *Scanner) literal(word string) bool {
	if len(s.Data)-s.At < len(word) || string(s.Data[s.At:s.At+len(word)]) != word {
		return false
	}
	s.At += len(word)
	return true
}

func (s *Scanner) number() bool {
	d, i := s.Data, s.At
	if i < len(d) && d[i] == '-' {
		i++
	}
	digits := func() bool {
		start := i
		for i < len(d) && d[i]-'0' < 10 {
			i++
		}
		return i > start
	}
	if i < len(d) && d[i] == '0' {
		i++
	} else if !digits() {
		return false
	}
	if i < len(d) && d[i] == '.' {
		i++
		if !digits() {
			return false
		}
	}
	if i < len(d) && d[i]|0x20 == 'e' {
		i++
		if i < len(d) && (d[i] == '+' || d[i] == '-') {
			i++
		}
		if !digits() {
			return false
		}
	}
	s.At = i
	return true
}

const (
	ones = 0x0101010101010101
	tops = 0x8080808080808080
)

// special has the top bit of each byte of w set that is a quote, a backslash or a control
// character; bits above the lowest one set may be wrong.
func special(w uint64) uint64 {
	q := w ^ (ones * '"')
	b := w ^ (ones * '\\')
	return ((w - ones*0x20) &^ w & tops) | ((q - ones) &^ q & tops) | ((b - ones) &^ b & tops)
}

// str passes over a string from its opening quote.
func (s *Scanner) str() (escaped, ok bool) {
	d, i := s.Data, s.At+1
	for {
		for i+8 <= len(d) {
			if m := special(binary.LittleEndian.Uint64(d[i:])); m != 0 {
				i += bits.TrailingZeros64(m) >> 3
				break
			}
			i += 8
		}
		if i >= len(d) {
			return false, false
		}
		switch c := d[i]; {
		case c == '"':
			s.At = i + 1
			return escaped, true
		case c == '\\':
			escaped = true
			if i+1 >= len(d) {
				return false, false
			}
			switch d[i+1] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
				i += 2
			case 'u':
				if _, ok := hex4(d, i+2); !ok {
					return false, false
				}
				i += 6
			default:
				return false, false
			}
		case c < 0x20:
			return false, false
		default:
			i++
		}
	}
}

func hex4(d []byte, i int) (r rune, ok bool) {
	if i+4 > len(d) {
		return 0, false
	}
	for _, c := range d[i : i+4] {
		switch {
		case c >= '0' && c <= '9':
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

// Unquote appends the characters of a valid JSON string, given with its quotes. Half a
// surrogate pair becomes U+FFFD.
func Unquote(dst, quoted []byte) []byte {
	d := quoted[1 : len(quoted)-1]
	for {
		i := bytes.IndexByte(d, '\\')
		if i < 0 {
			return append(dst, d...)
		}
		dst = append(dst, d[:i]...)
		c := d[i+1]
		if c != 'u' {
			if at := strings.IndexByte("bfnrt", c); at >= 0 {
				c = "\b\f\n\r\t"[at]
			}
			dst, d = append(dst, c), d[i+2:]
			continue
		}
		r, _ := hex4(d, i+2)
		d = d[i+6:]
		if utf16.IsSurrogate(r) {
			low := rune(utf8.RuneError)
			if len(d) >= 6 && d[0] == '\\' && d[1] == 'u' {
				low, _ = hex4(d, 2)
			}
			if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
				d = d[6:]
			}
		}
		dst = utf8.AppendRune(dst, r)
	}
}

// Compact appends the valid JSON text src without white space between tokens.
func Compact(dst, src []byte) []byte {
	for i := 0; i < len(src); {
		switch src[i] {
		case ' ', '\n', '\r', '\t':
			i++
		case '"':
			s := Scanner{Data: src, At: i}
			if _, ok := s.str(); !ok { // not valid: keep what is there
				return append(dst, src[i:]...)
			}
			dst, i = append(dst, src[i:s.At]...), s.At
		default:
			dst, i = append(dst, src[i]), i+1
		}
	}
	return dst
}

// AppendString appends text as a JSON string. What is not UTF-8 becomes U+FFFD.
func AppendString[T string | []byte](dst []byte, text T) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c >= utf8.RuneSelf:
			r, size := utf8.DecodeRuneInString(string(text[i:min(i+utf8.UTFMax, len(text))]))
			if r == utf8.RuneError && size == 1 {
				dst = append(append(dst, text[start:i]...), "\ufffd"...)
				start = i + 1
			}
			i += size
		case c == '"' || c == '\\':
			dst = append(append(dst, text[start:i]...), '\\', c)
			i++
			start = i
		case c < 0x20:
			dst = append(append(dst, text[start:i]...), '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			i++
			start = i
		default:
			i++
		}
	}
	return append(append(dst, text[start:]...), '"')
}
