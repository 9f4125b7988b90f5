package jsontext

import (
	"math"
	"math/big"
	"strconv"
	"strings"
)

// longest is how many digits a number may have that is looked at digit by digit: no float64
// has more before its point.
const longest = 320

// Integer is the whole number that text, a JSON number, stands for in whatever spelling: 5,
// 5.0, 50e-1. ok is false when it is not whole, or beyond 64 bits.
func Integer(text string) (n int64, ok bool) {
	if len(text) <= 18 {
		i := 0
		if text[0] == '-' {
			i = 1
		}
		for ; i < len(text) && text[i]-'0' <= 9; i++ {
			n = n*10 + int64(text[i]-'0')
		}
		if i < len(text) && text[i] == '.' {
			for i++; i < len(text) && text[i] == '0'; i++ {
			}
			if i < len(text) && text[i]-'0' <= 9 && strings.IndexByte(text[i:], 'e') < 0 && strings.IndexByte(text[i:], 'E') < 0 {
				return 0, false // a fraction
			}
		}
		if i == len(text) {
			if text[0] == '-' {
				n = -n
			}
			return n, true
		}
	}
	d := decimalOf(text)
	zeros := d.exponent
	if d.digits == "" {
		return 0, true
	}
	if zeros < 0 || len(d.digits)+zeros > 19 {
		return 0, false
	}
	whole := d.digits + "0000000000000000000"[:zeros]
	if d.negative {
		whole = "-" + whole
	}
	n, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return 0, false
	}
	return n, true
}

// Float is the float64 nearest to text, a JSON number. ok is false when there is none: then
// it is infinite, or zero, with the number's sign.
func Float(text string) (x float64, ok bool) {
	x, err := strconv.ParseFloat(text, 64)
	if err == nil && x == 0 {
		return x, !strings.ContainsAny(significand(text), "123456789")
	}
	return x, err == nil
}

// Is reports whether x is the whole number text, in whatever spelling, digit for digit.
func Is(text string, x float64) bool {
	d := decimalOf(text)
	if d.exponent < 0 || len(d.digits)+d.exponent > longest || x != math.Trunc(x) {
		return false
	}
	whole, accuracy := new(big.Float).SetFloat64(x).Int(nil)
	return accuracy == big.Exact && new(big.Int).Abs(whole).String() == d.digits+strings.Repeat("0", d.exponent) || d.digits == "" && x == 0
}

// Shortest reports whether text has the digits that x is written with: the fewest that give
// it back.
func Shortest(text string, x float64) bool {
	return decimalOf(text) == decimalOf(strconv.FormatFloat(x, 'e', -1, 64))
}

// Whole reports whether text, a JSON number in whatever spelling, has no fraction.
func Whole(text string) bool {
	d := decimalOf(text)
	return d.exponent >= 0
}

// decimal is a number as its digits, without zeros around them, times a power of ten. Zero
// has no digits.
type decimal struct {
	negative bool
	digits   string
	exponent int
}

func significand(text string) string {
	if e := strings.IndexAny(text, "eE"); e >= 0 {
		return text[:e]
	}
	return text
}

func decimalOf(text string) decimal {
	var d decimal
	d.digits = significand(text)
	if len(d.digits) < len(text) {
		e, err := strconv.Atoi(text[len(d.digits)+1:])
		if err != nil || e > math.MaxInt32 || e < math.MinInt32 {
			e = math.MaxInt32
			if text[len(d.digits)+1] == '-' {
				e = math.MinInt32
			}
		}
		d.exponent = e
	}
	d.digits, d.negative = strings.CutPrefix(d.digits, "-")
	if whole, fraction, found := strings.Cut(d.digits, "."); found {
		fraction = strings.TrimRight(fraction, "0")
		d.digits = whole + fraction
		d.exponent -= len(fraction)
	}
	d.digits = strings.TrimLeft(d.digits, "0")
	n := len(d.digits)
	d.digits = strings.TrimRight(d.digits, "0")
	d.exponent += n - len(d.digits)
	if d.digits == "" {
		return decimal{negative: d.negative}
	}
	return d
}

// AppendPlain appends number, a JSON number, as people write it: without an exponent, and
// whole numbers without a point.
func AppendPlain[T Text](dst []byte, number T) []byte {
	text := view(number)
	if strings.ContainsAny(text, ".eE") {
		if n, ok := Integer(text); ok {
			return strconv.AppendInt(dst, n, 10)
		}
		if x, ok := Float(text); ok {
			return strconv.AppendFloat(dst, x, 'f', -1, 64)
		}
	}
	return append(dst, text...)
}

// Exact reports whether x, which is Float(text), says what text says: whole numbers digit for
// digit, or in an exponent's spelling the digits that x is written with; others as the nearest.
func Exact(text string, x float64) bool {
	return math.Abs(x) < 1<<53 || !Whole(text) || Is(text, x) || Shortest(text, x)
}

// mostDigits is how many decimal digits any whole number may have that a double holds.
const mostDigits = 15

// Short reads the number at i if it has no exponent and at most 15 digits, of which the last
// are its fraction: n without its point. end is where the number ends, 0 when it is not of
// this form, or the last thing in s.
func Short(s string, i int) (n int64, fraction, end int) {
	minus := i < len(s) && s[i] == '-'
	if minus {
		i++
	}
	from := i
	for ; i < len(s) && s[i]-'0' <= 9; i++ {
		n = n*10 + int64(s[i]-'0')
	}
	digits := i - from
	if digits == 0 || digits > 1 && s[from] == '0' {
		return 0, 0, 0
	}
	if i < len(s) && s[i] == '.' {
		point := i
		for i++; i < len(s) && s[i]-'0' <= 9; i++ {
			n = n*10 + int64(s[i]-'0')
		}
		if fraction = i - point - 1; fraction == 0 {
			return 0, 0, 0
		}
	}
	if digits+fraction > mostDigits || i == len(s) || s[i]|0x20 == 'e' {
		return 0, 0, 0
	}
	if minus {
		n = -n
	}
	return n, fraction, i
}
