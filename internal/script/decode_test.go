package script

import (
	"encoding/json"
	"math/big"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func FuzzDecode(f *testing.F) {
	for _, s := range jsonSamples {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var want any
		numbers := json.NewDecoder(strings.NewReader(text))
		numbers.UseNumber() // those that no float64 holds are numbers all the same
		wantErr := numbers.Decode(&want)
		if wantErr == nil && !json.Valid([]byte(text)) {
			wantErr = errNotJSON // more than one value
		}
		got, err := Decode(text)
		if (err != nil) != (wantErr != nil) {
			t.Fatalf("%q: %v, encoding/json says %v", text, err, wantErr)
		}
		if err != nil {
			return
		}
		if diff := cmp.Diff(floats(want), floats(got)); diff != "" {
			t.Errorf("%q: -want +got:\n%s", text, diff)
		}
	})
}

// floats brings what Decode makes into the form of encoding/json.
func floats(v any) any {
	switch v := v.(type) {
	case json.Number:
		x, _ := v.Float64()
		return x
	case int:
		return float64(v)
	case *big.Int:
		f, _ := new(big.Float).SetInt(v).Float64()
		return f
	case map[string]any:
		for k, e := range v {
			v[k] = floats(e)
		}
	case []any:
		for i, e := range v {
			v[i] = floats(e)
		}
	}
	return v
}

func TestDecodeNumbers(t *testing.T) {
	t.Parallel()
	got, err := Decode(` [ 1 , -7, 12345678901234567890, 1.5, 1e3, -0, {"a":1,"a":2}, 9007199254740993.0, 1e999, 1e-400, 12345678901234567891.0 ] `)
	if err != nil {
		t.Fatal(err)
	}
	text, err := AppendValue(nil, got)
	if err != nil || string(text) != `[1,-7,12345678901234567890,1.5,1000,0,{"a":2},9007199254740993,1e999,1e-400,12345678901234567891.0]` {
		t.Errorf("got %s, %v", text, err)
	}
}
