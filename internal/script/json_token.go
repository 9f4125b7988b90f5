package script

import (
	"math/bits"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// plainNumber says that JavaScript prints the number just as the token is written: at
// most 15 significant digits survive a float64, whatever they are.
func plainNumber(token string) bool {
	if len(token) > 17 || token == "-0" {
		return false
	}
	n, point := 0, -1
	for i := range len(token) {
		switch c := token[i]; {
		case c == '-':
		case c == '.':
			point = i
		case c >= '0' && c <= '9':
			n++
		default:
			return false
		}
	}
	if n > 15 {
		return false
	}
	if point < 0 {
		return true
	}
	if token[len(token)-1] == '0' {
		return false
	}
	// Below 1e-6 JavaScript turns to exponents: ask for a digit that rules it out.
	fraction := token[point+1:]
	lead := token[:point]
	if lead != "0" && lead != "-0" {
		return true
	}
	for i := 0; i < len(fraction) && i < 6; i++ {
		if fraction[i] != '0' {
			return true
		}
	}
	return false
}

// unquote is the string a token stands for; invalid UTF-8 and lone surrogates become
// U+FFFD. A token without escapes costs no memory.
func unquote(token string) string {
	s := token[1 : len(token)-1]
	if simpleEnd(s, 0) == len(s) {
		return s
	}
	buf := make([]byte, 0, len(s))
	for i := 0; i < len(s); {
		c := s[i]
		if c != '\\' {
			if c < utf8.RuneSelf {
				buf = append(buf, c)
				i++
				continue
			}
			r, n := utf8.DecodeRuneInString(s[i:])
			buf = utf8.AppendRune(buf, r)
			i += n
			continue
		}
		switch e := s[i+1]; e {
		case 'u':
			r, _ := hex4(s[i:])
			i += 6
			if utf16.IsSurrogate(r) {
				if low, ok := hex4(s[i:]); ok {
					if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
						r = pair
						i += 6
					}
				}
			}
			buf = utf8.AppendRune(buf, r) // a lone surrogate becomes U+FFFD
			continue
		case 'b':
			buf = append(buf, '\b')
		case 'f':
			buf = append(buf, '\f')
		case 'n':
			buf = append(buf, '\n')
		case 'r':
			buf = append(buf, '\r')
		case 't':
			buf = append(buf, '\t')
		default:
			buf = append(buf, e)
		}
		i += 2
	}
	return string(buf)
}

// simpleEnd is where the run of characters ends that begins at i and that a string of
// JSON holds as they are: ASCII without quotes, backslashes and control characters. It
// looks at eight bytes at a time.
func simpleEnd(s string, i int) int {
	const (
		ones = 0x0101010101010101
		high = 0x80 * ones
	)
	for ; i+8 <= len(s); i += 8 {
		b := s[i : i+8]
		x := uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
			uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
		// A borrow reaches bytes behind the first that counts only.
		if odd := (x | (x - 0x20*ones) | ((x ^ '"'*ones) - ones) | ((x ^ '\\'*ones) - ones)) & high; odd != 0 {
			return i + bits.TrailingZeros64(odd)>>3
		}
	}
	for ; i < len(s); i++ {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			return i
		}
	}
	return i
}

const hexDigits = "0123456789abcdef"

// appendQuoted appends s as JSON.stringify writes it: only what must be escaped is.
func appendQuoted(dst []byte, s string) []byte {
	dst = append(dst, '"')
	from := 0
	for i := 0; ; {
		if i = simpleEnd(s, i); i == len(s) {
			break
		}
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				dst = append(dst, s[from:i]...)
				dst = utf8.AppendRune(dst, utf8.RuneError)
				from = i + 1
			}
			i += n
			continue
		}
		dst = append(dst, s[from:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\t':
			dst = append(dst, '\\', 't')
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\f':
			dst = append(dst, '\\', 'f')
		case '\r':
			dst = append(dst, '\\', 'r')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		from = i
	}
	dst = append(dst, s[from:]...)
	return append(dst, '"')
}

// arrayIndex reports whether key is an array index in its canonical spelling, which
// JavaScript enumerates before all other keys, by size.
func arrayIndex(key string) (uint32, bool) {
	if key == "" || len(key) > 10 || key[0] < '0' || key[0] > '9' || (key[0] == '0' && len(key) > 1) {
		return 0, false
	}
	n, err := strconv.ParseUint(key, 10, 64)
	if err != nil || n >= 1<<32-1 {
		return 0, false
	}
	return uint32(n), true
}
