package script

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
)

var errNotJSON = errors.New("the payload is not valid JSON")

// Decode makes Go values of a JSON text: map[string]any, []any, string, bool, nil, and
// for numbers int where they are whole, *big.Int where they are larger, or float64. The
// last value of a key counts.
func Decode(text string) (any, error) {
	var scratch scratch
	l := survey(text, &scratch)
	switch {
	case l.deep:
		return nil, fmt.Errorf("JSON nests deeper than %d levels", maxJSONDepth)
	case !l.valid:
		return nil, errNotJSON
	}
	v, _ := decode(text, skipSpace(text, 0))
	return v, nil
}

func decode(s string, i int) (any, int) {
	switch s[i] {
	case '"':
		end := stringEnd(s, i)
		return unquote(s[i:end]), end
	case 't':
		return true, i + 4
	case 'f':
		return false, i + 5
	case 'n':
		return nil, i + 4
	case '{':
		m := map[string]any{}
		for i = skipSpace(s, i+1); s[i] != '}'; {
			end := stringEnd(s, i)
			key := unquote(s[i:end])
			i = skipSpace(s, skipSpace(s, end)+1)
			m[key], i = decode(s, i)
			i = next(s, i)
		}
		return m, i + 1
	case '[':
		list := []any{}
		for i = skipSpace(s, i+1); s[i] != ']'; {
			var v any
			v, i = decode(s, i)
			list = append(list, v)
			i = next(s, i)
		}
		return list, i + 1
	}
	end, _ := numberEnd(s, i)
	return decodeNumber(s[i:end]), end
}

// next skips the comma after an element.
func next(s string, i int) int {
	if i = skipSpace(s, i); s[i] == ',' {
		i = skipSpace(s, i+1)
	}
	return i
}

func decodeNumber(token string) any {
	if n, err := strconv.Atoi(token); err == nil && (n != 0 || token == "0") {
		return n
	}
	if digits(token, min(1, len(token)-1)) == len(token) && token != "-0" {
		if n, ok := new(big.Int).SetString(token, 10); ok {
			return n
		}
	}
	f, err := strconv.ParseFloat(token, 64)
	if err != nil {
		return math.MaxFloat64 // refused by survey
	}
	return f
}
