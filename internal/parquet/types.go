package parquet

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"

	pq "github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"

	"github.com/weirdata/weir/internal/jsontext"
)

// Type is the type that is declared for a field.
type Type struct {
	Kind          Kind
	Digits, Scale int // of a Decimal: how many digits it has, and how many of them behind the point
}

// mostDigits is how many a decimal can have: those of 16 bytes.
const mostDigits = 38

// declarable are the kinds that may be declared by their name alone.
var declarable = [...]Kind{Bool, Int, Double, String, JSON, Timestamp, TimestampS, TimestampMs, TimestampUs, TimestampNs, LocalTime, Date, UUID}

// Declarable are the names of the types that may be declared for a field.
func Declarable() []string {
	var names []string
	for _, k := range declarable {
		names = append(names, k.String())
	}
	return append(names, "decimal(DIGITS,SCALE)")
}

// ParseType is the declarable type with the given name: of a decimal with how many digits it has, up
// to 38, and how many of them are behind the point.
func ParseType(name string) (Type, bool) {
	for _, k := range declarable {
		if kindNames[k] == name {
			return Type{Kind: k}, true
		}
	}
	inside, ok := strings.CutPrefix(name, "decimal(")
	inside, closed := strings.CutSuffix(inside, ")")
	digits, scale, both := strings.Cut(inside, ",")
	if !ok || !closed {
		return Type{}, false
	}
	t := Type{Kind: Decimal}
	var err error
	if t.Digits, err = strconv.Atoi(strings.TrimSpace(digits)); err == nil && both {
		t.Scale, err = strconv.Atoi(strings.TrimSpace(scale))
	}
	return t, err == nil && t.width() > 0
}

// String is the name of the type.
func (t Type) String() string {
	if t.Kind == Decimal {
		return fmt.Sprintf("decimal(%d,%d)", t.Digits, t.Scale)
	}
	return t.Kind.String()
}

// decimalBytes are how many bytes numbers of so many digits need, from one on.
var decimalBytes = [mostDigits + 1]int{0, 4, 4, 4, 4, 4, 4, 4, 4, 4, 8, 8, 8, 8, 8, 8, 8, 8, 8, 9, 9, 9, 10, 10, 11, 11, 11, 12, 12, 13, 13, 13, 14, 14, 15, 15, 16, 16, 16}

// width is the [Field.Width] of a field of the type.
func (t Type) width() int {
	switch t.Kind {
	case Date:
		return 4
	case LocalTime:
		return 8
	case UUID:
		return 16
	case Decimal:
		if t.Digits >= 1 && t.Digits <= mostDigits && t.Scale >= 0 && t.Scale <= t.Digits {
			return decimalBytes[t.Digits]
		}
	}
	return 0
}

// declare makes f one of the type.
func (f *Field) declare(t Type) {
	f.Kind, f.Digits, f.Scale, f.Width = t.Kind, t.Digits, t.Scale, t.width()
}

// declared is the type of f.
func (f *Field) declared() Type {
	if f.Kind != Decimal {
		return Type{Kind: f.Kind}
	}
	return Type{f.Kind, f.Digits, f.Scale}
}

// TypeName is the type of f as it is declared; that of a column of files that somebody else wrote
// is its kind.
func (f *Field) TypeName() string {
	if f.Width == 0 {
		return f.Kind.String()
	}
	return f.declared().String()
}

// Is reports whether f is of the type.
func (f *Field) Is(t Type) bool { return f.declared() == t }

// texts reports whether the values of f are bytes, and not words.
func (f *Field) texts() bool {
	return f.Kind == String || f.Kind == JSON || f.Width > 8
}

// fitText puts the text of a string into f, whose kind holds text of one form only.
func (d *Decoder) fitText(f *Field, text []byte) bool {
	var word int64
	switch f.Kind {
	case Decimal:
		if end, _, problem := jsontext.Number(string(text), 0); problem != jsontext.NoProblem || end != len(text) || end == 0 {
			return false
		}
		return d.fitDecimal(f, string(text))
	case UUID:
		at := len(d.arena)
		arena, ok := parseUUID(d.arena, text)
		if d.arena = arena; ok {
			d.push(token{op: opEscaped, field: f, bits: spanOf(at, len(arena))})
		}
		return ok
	case Date:
		at, ok := day(text)
		if !ok {
			return false
		}
		word = int64(at)
	default:
		read := local
		if f.Kind == Timestamp {
			read = Instant
		}
		at, ok := read(text)
		if !ok || !readable(at.UnixMicro()) {
			return false
		}
		word = at.UnixMicro()
	}
	d.push(token{op: opWord, field: f, bits: uint64(word)})
	return true
}

// local is the time of RFC 3339 text that lacks a zone, as if it were in UTC.
func local(text []byte) (time.Time, bool) {
	if len(text) < len("2006-01-02T15:04:05") {
		return time.Time{}, false
	}
	if c := text[len(text)-1]; c-'0' > 9 {
		return time.Time{}, false
	}
	return Instant(append(append(make([]byte, 0, len(text)+1), text...), 'Z'))
}

// day is the days since 1970 of a date of the years 1 to 9999.
func day(text []byte) (int, bool) {
	const form = "2006-01-02"
	if len(text) != len(form) {
		return 0, false
	}
	at, ok := utc(append(append(make([]byte, 0, 20), text...), "T00:00:00Z"...))
	if !ok || !readable(at.UnixMicro()) {
		return 0, false
	}
	seconds := at.Unix()
	return int(seconds / 86400), true // midnight: nothing is rounded
}

// parseUUID appends the 16 bytes of a UUID in its usual form of 36 characters.
func parseUUID(dst, text []byte) ([]byte, bool) {
	if len(text) != 36 {
		return dst, false
	}
	out, high, odd := dst, byte(0), false
	for i, c := range text {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if c != '-' {
				return dst, false
			}
			continue
		}
		switch {
		case c-'0' <= 9:
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return dst, false
		}
		if odd {
			out = append(out, high<<4|c)
		}
		high, odd = c, !odd
	}
	return out, true
}

// fitDecimal puts the number of a text into f, when it has no more digits than f, on either side
// of the point.
func (d *Decoder) fitDecimal(f *Field, text string) bool {
	digits, minus, ok := unscaled(text, f.Digits, f.Scale)
	if !ok {
		return false
	}
	high, low := uint64(0), uint64(0)
	for _, c := range digits {
		over, sum := bits.Mul64(low, 10)
		high = high*10 + over
		var carry uint64
		low, carry = bits.Add64(sum, uint64(c-'0'), 0)
		high += carry
	}
	if minus {
		var borrow uint64
		low, borrow = bits.Sub64(0, low, 0)
		high, _ = bits.Sub64(0, high, borrow)
	}
	if f.Width <= 8 {
		d.push(token{op: opWord, field: f, bits: low})
		return true
	}
	at := len(d.arena)
	for i := f.Width - 1; i >= 0; i-- {
		if part := low; i >= 8 {
			part = high
			d.arena = append(d.arena, byte(part>>(8*(i-8))))
		} else {
			d.arena = append(d.arena, byte(part>>(8*i)))
		}
	}
	d.push(token{op: opEscaped, field: f, bits: spanOf(at, len(d.arena))})
	return true
}

// unscaled are the digits of a number times ten to the scale, if that is whole and has no more than
// most of them.
func unscaled(text string, most, scale int) (digits string, minus, ok bool) {
	text, minus = strings.CutPrefix(text, "-")
	exponent := int64(0)
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		n, err := strconv.ParseInt(text[i+1:], 10, 32)
		switch e := text[i+1:]; {
		case err == nil:
			exponent = n
		case strings.HasPrefix(e, "-"): // beyond all that could be made good by digits
			exponent = -1 << 40
		default:
			exponent = 1 << 40
		}
		text = text[:i]
	}
	whole, behind, _ := strings.Cut(text, ".")
	exponent -= int64(len(behind))
	digits = strings.TrimLeft(whole+behind, "0")
	if digits == "" {
		return "", false, true
	}
	all := len(digits)
	digits = strings.TrimRight(digits, "0")
	zeros := exponent + int64(all-len(digits)+scale)
	if zeros < 0 || len(digits) > most || zeros > int64(most-len(digits)) {
		return "", false, false
	}
	return digits + strings.Repeat("0", int(zeros)), minus, true
}

// ownType is how values of f are read that no kind alone tells; nil where one does.
func ownType(f *Field) *foreign {
	switch f.Kind {
	case Decimal:
		return decimals(physical(f), f.Scale)
	case UUID:
		return quoting(uuid)
	case Date:
		return quoting(date)
	case LocalTime:
		_, local, _ := timestamps(format.Int64, &format.TimestampType{Unit: format.TimeUnit{Value: &format.MicroSeconds{}}})
		return local
	case TimestampNs:
		return &foreign{
			text: func(dst []byte, v pq.Value) []byte { return strconv.AppendInt(dst, v.Int64(), 10) },
			cell: moments(func(v pq.Value) time.Time { return time.Unix(0, v.Int64()) }).cell,
		}
	}
	return nil
}
