package jsonvalue

import "unicode/utf8"

// Append writes v as compact JSON. Undefined is written as null.
func (v Value) Append(b []byte) []byte {
	switch v.kind {
	case False:
		return append(b, "false"...)
	case True:
		return append(b, "true"...)
	case Number:
		return append(b, v.text...)
	case String:
		return appendQuoted(b, v.text)
	case Array:
		b = append(b, '[')
		for i := range v.in.items {
			if i > 0 {
				b = append(b, ',')
			}
			b = v.in.items[i].Append(b)
		}
		return append(b, ']')
	case Object:
		b = append(b, '{')
		for i := range v.in.items {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendQuoted(b, v.in.keys[i])
			b = append(b, ':')
			b = v.in.items[i].Append(b)
		}
		return append(b, '}')
	}
	return append(b, "null"...)
}

// JSON is v as compact JSON.
func (v Value) JSON() string {
	return string(v.Append(make([]byte, 0, v.Size())))
}

// Size is the number of bytes of v as compact JSON. It is known without writing it.
func (v Value) Size() int {
	switch v.kind {
	case False:
		return 5
	case Number:
		return len(v.text)
	case String:
		return quotedSize(v.text)
	case Array, Object:
		return v.in.size
	}
	return 4
}

const hexDigits = "0123456789abcdef"

// plain says which ASCII bytes stand for themselves in a string.
var plain = func() (t [utf8.RuneSelf]bool) {
	for c := range t {
		t[c] = c >= 0x20 && c != '"' && c != '\\'
	}
	return t
}()

func quotedSize(s string) int {
	n := len(s) + 2
	for i := range len(s) {
		c := s[i]
		switch {
		case c < utf8.RuneSelf && plain[c]:
		case c >= utf8.RuneSelf:
			if c == 0xED && surrogateAt(s, i) {
				n += 3 // six bytes of escape for three
			}
		case c == '"' || c == '\\' || c == '\n' || c == '\r' || c == '\t' || c == '\b' || c == '\f':
			n++
		default:
			n += 5
		}
	}
	return n
}

// surrogateAt reports whether the three bytes of an unpaired surrogate begin at i.
func surrogateAt(s string, i int) bool { return i+2 < len(s) && s[i] == 0xED && s[i+1] >= 0xA0 }

func appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c < utf8.RuneSelf && plain[c] || c >= utf8.RuneSelf && !surrogateAt(s, i) {
			continue
		}
		b = append(b, s[from:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		case '\b':
			b = append(b, '\\', 'b')
		case '\f':
			b = append(b, '\\', 'f')
		case 0xED:
			r := 0xD000 | int(s[i+1]&0x3F)<<6 | int(s[i+2]&0x3F)
			b = append(b, '\\', 'u', 'd', hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
			i += 2
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		from = i + 1
	}
	b = append(b, s[from:]...)
	return append(b, '"')
}
