package jsontext_test

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/jsontext"
)

var texts = []string{
	``, ` `, `null`, `true`, `false`, `nul`, `tru`, `0`, `-0`, `00`, `01`, `-`, `1.`, `1.5e+7`, `1e`, `.5`, `1E9`, `"`, `""`, `"a`,
	`"\u00e9\ud83d\ude00\ud800x"`, `"\x"`, `"\u12g4"`, "\"tab\there\"", `"12345678\"90"`, `[]`, `[1,]`, `[,1]`, `[1 2]`, `{}`, `{"a"}`,
	`{"a":1,}`, `{"a":1 "b":2}`, `{a:1}`, ` { "a" : [ 1 , { "b" : "x y" } ] , "c\u0041" : null } `, `{"a":1}x`, "\ufeff{}", `{"a":"\n"}`,
	strings.Repeat("[", 50) + strings.Repeat("]", 50), "[\x00]", "\"\x7f\"", "\"\xff\"", `{"":""}`, `{"a":{"b":[true,false,null,-1.5e-3]}}`,
}

func TestValidAsEncodingJSON(t *testing.T) {
	t.Parallel()
	for _, text := range texts {
		if got, want := jsontext.Valid([]byte(text)), json.Valid([]byte(text)); got != want {
			t.Errorf("Valid(%q) is %t, want %t", text, got, want)
		}
	}
	for _, depth := range []int{jsontext.MaxDepth, jsontext.MaxDepth + 1} {
		text := strings.Repeat("[", depth) + strings.Repeat("]", depth)
		if got, want := jsontext.Valid([]byte(text)), depth <= jsontext.MaxDepth; got != want {
			t.Errorf("depth %d: %t", depth, got)
		}
	}
}

func TestMembers(t *testing.T) {
	t.Parallel()
	data := []byte("x { \"a\" : [1, 2] ,\"\\u0062\":{},\"c\":\"\\\"\"} y")
	s := jsontext.ScanFrom(data, 1)
	ms, ok := s.Object(nil)
	if !ok || string(data[s.At:]) != " y" {
		t.Fatalf("ok %t, the rest is %q", ok, data[s.At:])
	}
	var got []string
	for _, m := range ms {
		got = append(got, string(m.Name(data)), string(m.Of(data)), string(data[m.Start:m.End]))
	}
	want := []string{"a", "[1, 2]", `"a" : [1, 2]`, "b", "{}", `"\u0062":{}`, "c", `"\""`, `"c":"\""`}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func FuzzAsEncodingJSON(f *testing.F) {
	for _, text := range texts {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		valid := json.Valid(data)
		if got := jsontext.Valid(data); got != valid {
			t.Fatalf("Valid is %t, encoding/json says %t", got, valid)
		}
		if valid {
			var want bytes.Buffer
			if err := json.Compact(&want, data); err != nil {
				t.Fatal(err)
			}
			if got := jsontext.Compact(nil, data); !bytes.Equal(got, want.Bytes()) {
				t.Fatalf("compact: %q, want %q", got, want.Bytes())
			}
			var text string
			if data[0] == '"' && data[len(data)-1] == '"' && json.Unmarshal(data, &text) == nil {
				if got := jsontext.Unquote(nil, data); string(got) != text {
					t.Fatalf("unquote: %q, want %q", got, text)
				}
			}
			if mended := jsontext.Mend(nil, string(data)); !utf8.Valid(mended) || !json.Valid(mended) || bytes.Contains(data, []byte(`\ud`)) && !sameJSON(t, data, mended) {
				t.Fatalf("mended: %q", mended)
			}
			var members map[string]json.RawMessage
			if json.Unmarshal(data, &members) == nil && members != nil {
				s := jsontext.Scan(data)
				ms, ok := s.Object(nil)
				if !ok || !s.End() {
					t.Fatal("an object is not taken for one")
				}
				got := map[string]json.RawMessage{}
				for _, m := range ms {
					got[string(m.Name(data))] = m.Of(data)
				}
				if len(got) != len(members) {
					t.Fatalf("%d members, want %d", len(got), len(members))
				}
				for k, v := range members {
					if !bytes.Equal(got[k], v) {
						t.Fatalf("member %q is %q, want %q", k, got[k], v)
					}
				}
			}
		}
		var back string
		if err := json.Unmarshal(jsontext.AppendString(nil, string(data)), &back); err != nil {
			t.Fatalf("AppendString(%q): %v", data, err)
		}
		if want := string([]rune(string(data))); back != want {
			t.Fatalf("%q comes back as %q", want, back)
		}
		if quoted := jsontext.AppendExact(nil, string(data)); len(quoted) != jsontext.SizeExact(string(data)) || !json.Valid(quoted) {
			t.Fatalf("%q has %d bytes, not %d", quoted, len(quoted), jsontext.SizeExact(string(data)))
		}
	})
}

func BenchmarkObject(b *testing.B) {
	data := []byte(`{"type":"track","messageId":"0b9d8c1c-5a3f-4a53-b5a1-6a7b0c5f9d10","anonymousId":"anon-1","event":"Order Completed","properties":{"price":12.5,"items":[{"sku":"a","n":1},{"sku":"b","n":2}]},"context":{"library":{"name":"bench","version":"1"},"userAgent":"Mozilla/5.0 (X11; Linux x86_64)"}}`)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	var ms []jsontext.Member
	for b.Loop() {
		s := jsontext.Scan(data)
		ms, _ = s.Object(ms[:0])
	}
	if len(ms) != 6 {
		b.Fatal(len(ms))
	}
}

// sameJSON reports whether two texts say the same to encoding/json.
func sameJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	var x, y any
	for into, text := range map[*any][]byte{&x: a, &y: b} {
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		if err := d.Decode(into); err != nil {
			t.Fatal(err)
		}
	}
	return cmp.Equal(x, y)
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		text           string
		integer        int64
		isInteger      bool
		float          float64
		isFloat, exact bool
		plain          string
	}{
		{"0", 0, true, 0, true, true, "0"},
		{"-0", 0, true, math.Copysign(0, -1), true, true, "-0"},
		{"5", 5, true, 5, true, true, "5"},
		{"5.0", 5, true, 5, true, true, "5"},
		{"-50e-1", -5, true, -5, true, true, "-5"},
		{"0.5E1", 5, true, 5, true, true, "5"},
		{"1.50e3", 1500, true, 1500, true, true, "1500"},
		{"5.5", 0, false, 5.5, true, true, "5.5"},
		{"5.50", 0, false, 5.5, true, true, "5.5"},
		{"0.0", 0, true, 0, true, true, "0"},
		{"0e999999999999999999999", 0, true, 0, true, true, "0"},
		{"9007199254740993", 9007199254740993, true, 9007199254740992, true, false, "9007199254740993"},
		{"9007199254740993.0", 9007199254740993, true, 9007199254740992, true, false, "9007199254740993"},
		{"9223372036854775807", math.MaxInt64, true, 1 << 63, true, false, "9223372036854775807"},
		{"-9223372036854775808", math.MinInt64, true, -1 << 63, true, true, "-9223372036854775808"},
		{"9223372036854775808", 0, false, 1 << 63, true, true, "9223372036854775808"},
		{"18446744073709551617", 0, false, 1 << 64, true, false, "18446744073709551617"},
		{"6.02214076e23", 0, false, 6.02214076e23, true, true, "602214076000000000000000"},
		{"1e999", 0, false, math.Inf(1), false, false, "1e999"},
		{"-1e999999999999999999999", 0, false, math.Inf(-1), false, false, "-1e999999999999999999999"},
		{"1e-400", 0, false, 0, false, true, "1e-400"},
		{"1e-7", 0, false, 1e-7, true, true, "0.0000001"},
	} {
		if n, ok := jsontext.Integer(row.text); n != row.integer || ok != row.isInteger {
			t.Errorf("Integer(%s) is %d, %t", row.text, n, ok)
		}
		x, ok := jsontext.Float(row.text)
		if x != row.float || math.Signbit(x) != math.Signbit(row.float) || ok != row.isFloat {
			t.Errorf("Float(%s) is %g, %t", row.text, x, ok)
		}
		if exact := jsontext.Exact(row.text, x); exact != row.exact {
			t.Errorf("Exact(%s, %g) is %t", row.text, x, exact)
		}
		if plain := string(jsontext.AppendPlain(nil, row.text)); plain != row.plain {
			t.Errorf("%s is written as %s", row.text, plain)
		}
	}
}

// TestNumbersProperty: an integer is found in every spelling, and nothing else is one.
func TestNumbersProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64().Draw(t, "n")
		digits := strconv.FormatInt(n, 10)
		zeros := rapid.IntRange(0, 30).Draw(t, "zeros")
		for _, text := range []string{digits, digits + "." + strings.Repeat("0", zeros+1), digits + strings.Repeat("0", zeros) + "e-" + strconv.Itoa(zeros)} {
			if n == 0 && zeros > 0 && strings.Contains(text, "e") {
				continue // 00e-1 is no number
			}
			if got, ok := jsontext.Integer(text); !ok || got != n {
				t.Fatalf("Integer(%s) is %d, %t", text, got, ok)
			}
		}
		if _, ok := jsontext.Integer(digits + ".01"); ok {
			t.Fatalf("%s.01 is whole", digits)
		}
	})
}

// TestProblems: the place and the reason of what is not JSON.
func TestProblems(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		``: "byte 0: unexpected end", `{`: "byte 1: expected a member name", `{"a"`: "byte 4: expected ':'", `{"a":`: "byte 5: unexpected end",
		`{"a":1`: "byte 6: unexpected end", `[1 2]`: "byte 3: expected ',' or ']'", `{"a":1 "b"`: "byte 7: expected ',' or '}'", `[1,]`: "byte 3: expected a value",
		`tru`: "byte 0: expected true, false or null", `"a`: "byte 2: string without an end", `"\x"`: "byte 1: unknown escape in a string",
		"\"\n\"": "byte 1: control character in a string", `-`: "byte 1: expected a digit", `1 2`: "byte 2: text after the value", "\ufeff{}": "byte 0: expected a value",
		strings.Repeat("[", jsontext.MaxDepth+1): "byte 10000: nested deeper than 10000",
	} {
		if err := jsontext.Check(text); err == nil || err.Error() != want {
			t.Errorf("%.20q: %v, want %s", text, err, want)
		}
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	const text = ` {"a":1,"o":{"x":[10,{"y":"z"}],"k\u0065y":true},"a":2,"":{"":3}} `
	for path, want := range map[string]string{"a": "2", "o/x/0": "10", "o/x/1/y": `"z"`, "o/key": "true", "o/x/2": "", "o/x/-1": "", "a/b": "", "none": "", "/": "3"} {
		if got, found := jsontext.Find(text, strings.Split(path, "/")); got != want || found != (want != "") {
			t.Errorf("%s: %q, %t", path, got, found)
		}
	}
	if got, found := jsontext.Find(text, nil); !found || got != strings.TrimSpace(text) {
		t.Errorf("the whole is %q", got)
	}
}
