package jsontext

import (
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// unit is the character of the escape \uXXXX at i and its length in bytes, with that of a
// second escape that completes a pair. Half a pair is negative, and its lower 16 bits are
// what was written. The length is 0 when it is no escape.
func unit(s string, i int) (r rune, n int) {
	if r, n = hex4(s, i), 6; r < 0 {
		return 0, 0
	}
	if !utf16.IsSurrogate(r) {
		return r, n
	}
	if low := hex4(s, i+6); low >= 0 {
		if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
			return pair, 12
		}
	}
	return r - 1<<16, n
}

// hex4 is the number of the escape \uXXXX at i, -1 when there is none.
func hex4(s string, i int) rune {
	if i+6 > len(s) || s[i] != '\\' || s[i+1] != 'u' {
		return -1
	}
	var r rune
	for _, c := range []byte(s[i+2 : i+6]) {
		switch {
		case c-'0' <= 9:
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}

// Unquote appends the characters of a valid JSON string, given with its quotes, as UTF-8.
func Unquote[T Text](dst []byte, quoted T) []byte { return unquote(dst, view(quoted), false) }

func unquote(dst []byte, quoted string, exact bool) []byte {
	s := quoted[1 : len(quoted)-1]
	if Plain(s, 0) == len(s) {
		return append(dst, s...)
	}
	for {
		i := strings.IndexByte(s, '\\')
		if i < 0 {
			return appendValid(dst, s)
		}
		dst = appendValid(dst, s[:i])
		if c := s[i+1]; c != 'u' {
			if at := strings.IndexByte("bfnrt", c); at >= 0 {
				c = "\b\f\n\r\t"[at]
			}
			dst, s = append(dst, c), s[i+2:]
			continue
		}
		r, n := unit(s, i)
		if exact && r < 0 {
			dst = append(dst, 0xED, 0x80|byte(r>>6)&0x3F, 0x80|byte(r)&0x3F)
		} else {
			dst = utf8.AppendRune(dst, r) // U+FFFD for what is negative
		}
		s = s[i+n:]
	}
}

// UnquoteExact is Unquote that keeps half a surrogate pair as the three bytes that UTF-8
// would have for it, from which [AppendExact] makes the escape again.
func UnquoteExact(dst []byte, quoted string) []byte { return unquote(dst, quoted, true) }

// Unquoted is the text of a valid JSON string, given with its quotes: the memory of quoted
// where it can be.
func Unquoted[T Text](quoted T) T {
	s := view(quoted[1 : len(quoted)-1])
	if Plain(s, 0) == len(s) || strings.IndexByte(s, '\\') < 0 && utf8.ValidString(s) {
		return quoted[1 : len(quoted)-1]
	}
	return T(Unquote(make([]byte, 0, len(s)), quoted))
}

// appendValid appends s with each byte that is not UTF-8 as U+FFFD.
func appendValid(dst []byte, s string) []byte {
	if utf8.ValidString(s) {
		return append(dst, s...)
	}
	for _, r := range s {
		dst = utf8.AppendRune(dst, r)
	}
	return dst
}

// Mend appends text, which must be valid, so that it says the same in UTF-8 and without
// halves of surrogate pairs.
func Mend(dst []byte, text string) []byte {
	if !utf8.ValidString(text) {
		text = string(appendValid(nil, text))
	}
	for {
		i := strings.IndexByte(text, '\\')
		if i < 0 || i+1 == len(text) {
			return append(dst, text...)
		}
		n := 2
		if text[i+1] == 'u' {
			var r rune
			if r, n = unit(text, i); r < 0 {
				dst = append(append(dst, text[:i]...), `\ufffd`...)
				text = text[i+n:]
				continue
			}
		}
		n = max(n, 2)
		dst, text = append(dst, text[:i+n]...), text[i+n:]
	}
}

// UTF8 is text itself, or where it is not UTF-8, a copy with each byte that is not as U+FFFD.
func UTF8[T Text](text T) T {
	if s := view(text); !ascii(s) && !utf8.ValidString(s) {
		return T(appendValid(nil, s))
	}
	return text
}

// ascii reports whether all of s is.
func ascii(s string) bool {
	var or uint64
	for ; len(s) >= 32; s = s[32:] {
		or |= load(s, 0) | load(s, 8) | load(s, 16) | load(s, 24)
	}
	for ; len(s) >= 8; s = s[8:] {
		or |= load(s, 0)
	}
	for i := range len(s) {
		or |= uint64(s[i])
	}
	return or&tops == 0
}

// Compact appends the valid text src without white space between tokens.
func Compact[T Text](dst []byte, src T) []byte {
	s := view(src)
	for i := 0; i < len(s); {
		switch s[i] {
		case ' ', '\n', '\r', '\t':
			i++
		case '"':
			end := StringEnd(s, i)
			dst, i = append(dst, s[i:end]...), end
		default:
			dst, i = append(dst, s[i]), i+1
		}
	}
	return dst
}

const hexDigits = "0123456789abcdef"

// AppendString appends text as a JSON string. Each byte that is not UTF-8 becomes U+FFFD.
func AppendString[T Text](dst []byte, text T) []byte { return appendString(dst, view(text), false) }

// AppendExact is AppendString of a text that UnquoteExact may have made.
func AppendExact(dst []byte, text string) []byte { return appendString(dst, text, true) }

// SizeExact is the number of bytes that AppendExact appends.
func SizeExact(s string) int {
	n := len(s) + 2
	for i := Plain(s, 0); i < len(s); i = Plain(s, i) {
		switch c := s[i]; {
		case c >= utf8.RuneSelf:
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				if halfAt(s, i) {
					n, size = n+3, 3 // six bytes of escape for three
				} else {
					n += 2 // U+FFFD for one
				}
			}
			i += size
			continue
		case c == '"' || c == '\\' || shortEscape(c) != 0:
			n++
		default:
			n += 5
		}
		i++
	}
	return n
}

// halfAt reports whether the three bytes of half a surrogate pair begin at i.
func halfAt(s string, i int) bool {
	return i+2 < len(s) && s[i] == 0xED && s[i+1] >= 0xA0 && s[i+1] <= 0xBF && s[i+2]&0xC0 == 0x80
}

// shortEscape is the letter of a control character's escape, 0 when it has none.
func shortEscape(c byte) byte {
	if c >= '\b' && c <= '\r' {
		return "btn\x00fr"[c-'\b']
	}
	return 0
}

func appendString(dst []byte, s string, exact bool) []byte {
	dst = append(dst, '"')
	from := 0
	for i := Plain(s, 0); i < len(s); i = Plain(s, i) {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				dst = append(dst, s[from:i]...)
				if exact && halfAt(s, i) {
					dst = AppendHalf(dst, 0xD000|uint16(s[i+1]&0x3F)<<6|uint16(s[i+2]&0x3F))
					n = 3
				} else {
					dst = append(dst, "\ufffd"...)
				}
				from = i + n
			}
			i += n
			continue
		}
		dst = append(dst, s[from:i]...)
		if c >= ' ' {
			dst = append(dst, '\\', c)
		} else if letter := shortEscape(c); letter != 0 {
			dst = append(dst, '\\', letter)
		} else {
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		from = i
	}
	return append(append(dst, s[from:]...), '"')
}

// AppendHalf appends the escape of half a surrogate pair, for what must come back as it was.
func AppendHalf(dst []byte, unit uint16) []byte {
	return append(dst, '\\', 'u', hexDigits[unit>>12], hexDigits[unit>>8&15], hexDigits[unit>>4&15], hexDigits[unit&15])
}
