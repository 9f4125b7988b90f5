package jsonvalue

import (
	"math"
	"math/big"
	"strconv"
	"strings"
)

// OfInt is a whole number.
func OfInt(n int64) Value { return Value{kind: Number, text: strconv.FormatInt(n, 10)} }

// OfFloat is a number written with the fewest digits that give it back; whole numbers are
// written without a fraction. It must be finite.
func OfFloat(f float64) Value {
	if f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		return OfInt(int64(f))
	}
	text := strconv.FormatFloat(f, 'g', -1, 64)
	return Value{kind: Number, text: text}
}

// Float is v, a number, as a float64; numbers beyond its range become infinite.
func (v Value) Float() float64 {
	f, _ := strconv.ParseFloat(v.text, 64) // the text is a JSON number; out of range gives ±Inf
	return f
}

// Int is v as a whole number, and whether v is a number that is whole and fits.
func (v Value) Int() (int64, bool) {
	if v.kind != Number {
		return 0, false
	}
	if n, err := strconv.ParseInt(v.text, 10, 64); err == nil {
		return n, true
	}
	f := v.Float()
	if f != math.Trunc(f) || math.Abs(f) >= 1<<53 {
		return 0, false
	}
	return int64(f), true
}

// maxExactDigits bounds the numbers that are compared digit by digit; a power of ten
// beyond it would have to be written out.
const maxExactDigits = 400

// CompareNumbers is -1, 0 or 1 as a is less than, equal to or greater than b. Numbers are
// compared by their digits, not by the floats nearest to them, unless they have more than
// 400 digits.
func CompareNumbers(a, b Value) int {
	if x, err := strconv.ParseInt(a.text, 10, 64); err == nil {
		if y, err := strconv.ParseInt(b.text, 10, 64); err == nil {
			switch {
			case x < y:
				return -1
			case x > y:
				return 1
			}
			return 0
		}
	}
	x, y := a.Float(), b.Float()
	if x != y && !math.IsInf(x, 0) && !math.IsInf(y, 0) {
		if x < y {
			return -1
		}
		return 1
	}
	if short(a.text) && short(b.text) {
		p, ok1 := new(big.Rat).SetString(a.text)
		q, ok2 := new(big.Rat).SetString(b.text)
		if ok1 && ok2 {
			return p.Cmp(q)
		}
	}
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

// short reports whether a number can be written out in maxExactDigits digits.
func short(text string) bool {
	if len(text) > maxExactDigits {
		return false
	}
	e := strings.IndexAny(text, "eE")
	if e < 0 {
		return true
	}
	n, err := strconv.Atoi(text[e+1:])
	return err == nil && n >= -maxExactDigits && n <= maxExactDigits
}
