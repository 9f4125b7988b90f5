package parquet

import (
	"encoding/binary"
	"math"
	"math/big"
	"math/bits"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

// exact is the largest whole number up to which a double holds all of them.
const exact = 1 << 53

// stop is the place, from i on, of the first byte that is a quote, a backslash or a control
// character; the length of data when there is none.
func stop(data []byte, i int) int {
	for ; i+8 <= len(data); i += 8 {
		if m := special(binary.LittleEndian.Uint64(data[i:])); m != 0 {
			return i + bits.TrailingZeros64(m)>>3
		}
	}
	for ; i < len(data); i++ {
		if c := data[i]; c == '"' || c == '\\' || c < ' ' {
			break
		}
	}
	return i
}

const (
	ones = 0x0101010101010101
	tops = 0x8080808080808080
)

// special has the top bit of each byte of w set that stop looks for; bits above the lowest
// one set may be wrong.
func special(w uint64) uint64 {
	q := w ^ (ones * '"')
	b := w ^ (ones * '\\')
	return ((w-ones*' ')&^w | (q-ones)&^q | (b-ones)&^b) & tops
}

// ascii reports whether all of data is.
func ascii(data []byte) bool {
	var or uint64
	for ; len(data) >= 32; data = data[32:] {
		or |= binary.LittleEndian.Uint64(data) | binary.LittleEndian.Uint64(data[8:]) |
			binary.LittleEndian.Uint64(data[16:]) | binary.LittleEndian.Uint64(data[24:])
	}
	for _, c := range data {
		or |= uint64(c)
	}
	return or&tops == 0
}

// text reads a string. It is a part of the data, or the end of the arena when it has
// escapes. raw is set when it holds half a surrogate pair, which no UTF-8 text can: then
// text has the three bytes that stand for the half in its place.
func (d *Decoder) text() (text []byte, escaped, raw bool, err error) {
	start := d.pos + 1
	i := stop(d.data, start)
	switch {
	case i == len(d.data):
		d.pos = i
		return nil, false, false, errTruncated
	case d.data[i] == '"':
		d.pos = i + 1
		return d.data[start:i], false, false, nil
	case d.data[i] == '\\':
		text, raw, err = d.escaped(start, i)
		return text, true, raw, err
	}
	d.pos = i
	return nil, false, false, errControl
}

// escaped reads the rest of a string from its first escape on.
func (d *Decoder) escaped(start, i int) (text []byte, half bool, err error) {
	at := len(d.arena)
	d.arena = append(d.arena, d.data[start:i]...)
	for i < len(d.data) {
		switch c := d.data[i]; {
		case c == '"':
			d.pos = i + 1
			return d.arena[at:len(d.arena):len(d.arena)], half, nil
		case c == '\\':
			r, n := unescape(d.data[i:])
			if n == 0 {
				d.pos = i
				return nil, false, errEscape
			}
			if utf16.IsSurrogate(r) {
				half = true
				d.arena = append(d.arena, 0xE0|byte(r>>12), 0x80|byte(r>>6)&0x3F, 0x80|byte(r)&0x3F)
			} else {
				d.arena = utf8.AppendRune(d.arena, r)
			}
			i += n
		case c < ' ':
			d.pos = i
			return nil, false, errControl
		default:
			end := stop(d.data, i)
			d.arena = append(d.arena, d.data[i:end]...)
			i = end
		}
	}
	d.pos = len(d.data)
	return nil, false, errTruncated
}

// unescape reads one escape at the start of s; n is 0 when it is malformed. Half a surrogate
// pair is returned as it is.
func unescape(s []byte) (r rune, n int) {
	if len(s) < 2 {
		return 0, 0
	}
	switch s[1] {
	case '"', '\\', '/':
		return rune(s[1]), 2
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
		r, ok := hex4(s)
		if !ok {
			return 0, 0
		}
		if utf16.IsSurrogate(r) {
			if low, ok := hex4(s[6:]); ok && s[6] == '\\' && s[7] == 'u' {
				if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
					return pair, 12
				}
			}
		}
		return r, 6
	}
	return 0, 0
}

// hex4 reads the digits of \uXXXX at the start of s.
func hex4(s []byte) (rune, bool) {
	if len(s) < 6 {
		return 0, false
	}
	var r rune
	for _, c := range s[2:6] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// mostDigits is how many decimal digits any whole number may have that a double holds.
const mostDigits = 15

// short reads the number at data[i] if it has no exponent and at most mostDigits digits, of
// which the last are its fraction: n without its point. end is where the number ends, 0 when
// it is not of this form.
func short(data []byte, i int) (n int64, fraction, end int) {
	minus := i < len(data) && data[i] == '-'
	if minus {
		i++
	}
	from := i
	for ; i < len(data) && data[i]-'0' <= 9; i++ {
		n = n*10 + int64(data[i]-'0')
	}
	digits := i - from
	if digits == 0 || digits > 1 && data[from] == '0' {
		return 0, 0, 0
	}
	if i < len(data) && data[i] == '.' {
		point := i
		for i++; i < len(data) && data[i]-'0' <= 9; i++ {
			n = n*10 + int64(data[i]-'0')
		}
		if fraction = i - point - 1; fraction == 0 {
			return 0, 0, 0
		}
	}
	if digits+fraction > mostDigits || i == len(data) || data[i]|0x20 == 'e' {
		return 0, 0, 0
	}
	if minus {
		n = -n
	}
	return n, fraction, i
}

var powers = [...]float64{1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15}

// decimal is the double nearest to the number that short has read: n and the power are
// exact, so that dividing them rounds once.
func decimal(n int64, fraction int, minus bool) float64 {
	x := float64(n)
	if fraction == 0 {
		return x
	}
	if minus && n == 0 {
		return math.Copysign(0, -1)
	}
	return x / powers[fraction]
}

// number reads a number; whole is set when it has neither fraction nor exponent.
func (d *Decoder) number() (text []byte, whole bool, err error) {
	start, i, whole := d.pos, d.pos, true
	digits := func() bool {
		from := i
		for i < len(d.data) && d.data[i] >= '0' && d.data[i] <= '9' {
			i++
		}
		return i > from
	}
	if d.data[i] == '-' {
		i++
	}
	zero := i < len(d.data) && d.data[i] == '0'
	first := i
	ok := digits() && (!zero || i == first+1)
	if ok && i < len(d.data) && d.data[i] == '.' {
		whole = false
		i++
		ok = digits()
	}
	if ok && i < len(d.data) && d.data[i]|0x20 == 'e' {
		whole = false
		i++
		if i < len(d.data) && (d.data[i] == '+' || d.data[i] == '-') {
			i++
		}
		ok = digits()
	}
	d.pos = i
	if !ok {
		return nil, false, errNumber
	}
	return d.data[start:i], whole, nil
}

// parseInt is the value of a whole number, if 64 bits hold it.
func parseInt(text []byte) (int64, bool) {
	if len(text) <= 18 {
		n, i := int64(0), 0
		if text[0] == '-' {
			i = 1
		}
		for ; i < len(text); i++ {
			n = n*10 + int64(text[i]-'0')
		}
		if text[0] == '-' {
			n = -n
		}
		return n, true
	}
	n, err := strconv.ParseInt(unsafe.String(unsafe.SliceData(text), len(text)), 10, 64)
	return n, err == nil
}

// parseDouble is false for a number beyond the range of a double.
func parseDouble(text []byte) (float64, bool) {
	x, err := strconv.ParseFloat(unsafe.String(unsafe.SliceData(text), len(text)), 64)
	return x, err == nil
}

// exactly reports whether x is the whole number of text.
func exactly(text []byte, x float64) bool {
	if len(text) > 320 {
		return false
	}
	n, ok := new(big.Int).SetString(string(text), 10)
	if !ok {
		return false
	}
	f, accuracy := new(big.Float).SetFloat64(x).Int(nil)
	return accuracy == big.Exact && f.Cmp(n) == 0
}

// micros is n, in the unit of the kind k, as microseconds.
func micros(k Kind, n int64) (int64, bool) {
	unit := unitOf(k)
	return n * unit, n <= math.MaxInt64/unit && n >= math.MinInt64/unit
}

// unitOf is how many microseconds one unit of the kind k has.
func unitOf(k Kind) int64 {
	switch k {
	case TimestampS:
		return 1_000_000
	case TimestampMs:
		return 1_000
	}
	return 1
}

// skip passes over one value and checks its syntax.
func (d *Decoder) skip() error {
	switch c := d.space(); {
	case c == '"':
		at := len(d.arena)
		_, _, _, err := d.text()
		d.arena = d.arena[:at]
		return err
	case c == '-' || c >= '0' && c <= '9':
		_, _, err := d.number()
		return err
	case c == 't':
		return d.literal("true")
	case c == 'f':
		return d.literal("false")
	case c == 'n':
		return d.literal("null")
	case c == '{':
		return d.skipAll('}', true)
	case c == '[':
		return d.skipAll(']', false)
	}
	return d.unexpected()
}

// skipAll passes over an object or an array.
func (d *Decoder) skipAll(end byte, keys bool) error {
	if err := d.enter(); err != nil {
		return err
	}
	defer func() { d.depth-- }()
	d.pos++
	if d.space() == end {
		d.pos++
		return nil
	}
	for {
		if keys {
			if d.space() != '"' {
				return d.unexpected()
			}
			if err := d.skip(); err != nil {
				return err
			}
			if d.space() != ':' {
				return d.unexpected()
			}
			d.pos++
		}
		if err := d.skip(); err != nil {
			return err
		}
		switch d.space() {
		case ',':
			d.pos++
		case end:
			d.pos++
			return nil
		default:
			return d.unexpected()
		}
	}
}
