package jsonvalue

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ text, want string }{
		{` { "b" : 1.50 , "a" : [ true , null , "x" ] } `, `{"b":1.50,"a":[true,null,"x"]}`},
		{`-0`, `-0`}, {`1E+2`, `1E+2`}, {`123456789012345678901234567890`, `123456789012345678901234567890`},
		{`"\u00e9\n\/\ud83d\ude00"`, `"é\n/😀"`},
		{"\"\xff\"", "\"\ufffd\""}, {"{\"\xed\xa0\x80\":1}", "{\"\ufffd\ufffd\ufffd\":1}"},
		{`"\ud800"`, `"\ud800"`}, {`"\udc00x\ud800"`, `"\udc00x\ud800"`},
		{`"\u0000\u001f"`, `"\u0000\u001f"`},
		{`{"a":1,"b":2,"a":3}`, `{"a":3,"b":2}`},
		{`[]`, `[]`}, {`{}`, `{}`}, {`[[],{}]`, `[[],{}]`},
	} {
		v, err := ParseString(row.text)
		if err != nil {
			t.Errorf("%s: %v", row.text, err)
			continue
		}
		if got := v.JSON(); got != row.want || v.Size() != len(got) {
			t.Errorf("%s is %s of %d bytes, want %s", row.text, got, v.Size(), row.want)
		}
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		``, ` `, `{`, `[1,]`, `{"a":1,}`, `{"a"}`, `{a:1}`, `01`, `1.`, `.5`, `-`, `1e`, `+1`, `tru`, `nul`, `"a`, `"\x"`, `"\u12"`, "\"\n\"",
		`1 2`, `NaN`, strings.Repeat("[", MaxDepth+1) + strings.Repeat("]", MaxDepth+1),
	} {
		if v, err := ParseString(text); err == nil {
			t.Errorf("%q was read as %s", text, v.JSON())
		}
	}
	if _, err := ParseUnique(`{"a":1,"b":{"c":1,"c":2}}`); err == nil {
		t.Error("a key that is there twice was accepted")
	}
}

func TestWideObject(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString(`{`)
	for i := range 100 {
		b.WriteString(`"k` + string(rune('a'+i%26)) + string(rune('a'+i/26)) + `":` + OfInt(int64(i)).JSON() + `,`)
	}
	v, err := ParseString(b.String() + `"kaa":"again"}`)
	if err != nil {
		t.Fatal(err)
	}
	if v.Len() != 100 || v.Get("kaa").Text() != "again" || v.Key(0) != "kaa" || v.Get("kbb").Text() != "27" {
		t.Errorf("the object is %s", v.JSON())
	}
}

func TestCompareNumbers(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		a, b string
		want int
	}{
		{"1", "1.0", 0}, {"1", "2", -1}, {"-0", "0", 0}, {"1e2", "100", 0}, {"0.1", "0.10000000000000000001", -1},
		{"9007199254740993", "9007199254740992", 1}, {"1e400", "1e399", 1}, {"1e999999999", "1", 1}, {"-1e999999999", "1", -1},
		{"12345678901234567890123", "12345678901234567890124", -1},
	} {
		a, b := Value{kind: Number, text: row.a}, Value{kind: Number, text: row.b}
		if got := CompareNumbers(a, b); got != row.want {
			t.Errorf("%s against %s is %d, want %d", row.a, row.b, got, row.want)
		}
	}
}

func TestLocate(t *testing.T) {
	t.Parallel()
	const text = `{ "a" : [1, {"b\n": "x"}], "c":2}`
	for _, row := range []struct {
		path []any
		want string
	}{
		{nil, `{ "a"`}, {[]any{"a"}, `[1`}, {[]any{"a", 1, "b\n"}, `"x"`}, {[]any{"c"}, `2}`}, {[]any{"a", 7}, `[1`}, {[]any{"z"}, `{ "a"`},
	} {
		if at := Locate(text, row.path); !strings.HasPrefix(text[at:], row.want) {
			t.Errorf("%v is at %q, want %q", row.path, text[at:], row.want)
		}
	}
}

func TestEqual(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		a, b string
		want bool
	}{
		{`{"a":1,"b":[2]}`, `{"b":[2.0],"a":1}`, true}, {`{"a":1}`, `{"a":1,"b":2}`, false}, {`[1,2]`, `[2,1]`, false}, {`"1"`, `1`, false}, {`true`, `true`, true},
	} {
		a, _ := ParseString(row.a)
		b, _ := ParseString(row.b)
		if Equal(a, b) != row.want {
			t.Errorf("%s equal to %s is %t", row.a, row.b, !row.want)
		}
	}
}

// FuzzParse compares with encoding/json, which differs only in what it makes of unpaired
// surrogates.
func FuzzParse(f *testing.F) {
	for _, text := range []string{`{"a":[1,2.5e3,"x\u00e9"],"b":{}}`, `"\ud800"`, `[[[]]]`, `nul`, `{"a":1,"a":2}`, "\"\xff\""} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		v, err := Parse(text)
		if (err == nil) != json.Valid(text) {
			t.Fatalf("%q: %v", text, err)
		}
		if err != nil {
			return
		}
		written := v.JSON()
		if len(written) != v.Size() || !json.Valid([]byte(written)) {
			t.Fatalf("%q has %d bytes, Size says %d", written, len(written), v.Size())
		}
		again, err := ParseString(written)
		if err != nil || again.JSON() != written || !Equal(v, again) {
			t.Fatalf("%q reads back as %q: %v", written, again.JSON(), err)
		}
	})
}

// TestDeeperThanItsParts: what grew beyond what Parse reads comes back all the same.
func TestDeeperThanItsParts(t *testing.T) {
	t.Parallel()
	v, err := ParseString(strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth))
	if err != nil {
		t.Fatal(err)
	}
	v = OfArray([]Value{v})
	if _, err := ParseString(v.JSON()); err == nil {
		t.Error("Parse read what nests too deep")
	}
	if again, err := ParseWritten(v.JSON()); err != nil || !Equal(v, again) {
		t.Errorf("it did not come back: %v", err)
	}
}
