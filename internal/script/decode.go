package script

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strconv"

	"github.com/weirdata/weir/internal/jsontext"
)

var errNotJSON = errors.New("the payload is not valid JSON")

// Decode makes Go values of a JSON text: map[string]any, []any, string, bool, nil, and
// for numbers int where they are whole, *big.Int where they are larger, or float64. A number
// that a float64 cannot hold is a json.Number. The last value of a key counts.
func Decode(text string) (any, error) {
	v, err := jsontext.Decode(text, decodeNumber)
	switch {
	case err == nil:
		return v, nil
	case errors.Is(err, jsontext.TooDeep):
		return nil, fmt.Errorf("JSON nests deeper than %d levels", maxJSONDepth)
	}
	return nil, errNotJSON
}

func decodeNumber(token string) (any, error) {
	if n, err := strconv.Atoi(token); err == nil && (n != 0 || token == "0") {
		return n, nil
	}
	if _, whole, _ := jsontext.Number(token, 0); whole && token != "-0" {
		if n, ok := new(big.Int).SetString(token, 10); ok {
			return n, nil
		}
	}
	x, ok := jsontext.Float(token)
	switch {
	case !ok:
		return json.Number(token), nil
	case jsontext.Exact(token, x):
		return x, nil
	}
	if n, ok := jsontext.Integer(token); ok { // 9007199254740993.0
		return int(n), nil
	}
	return json.Number(token), nil
}
