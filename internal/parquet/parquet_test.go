package parquet_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/parquet"
)

var options = parquet.Options{MaxDepth: 16, MaxColumns: 1000}

// file decodes events, which must be accepted, into a file.
func file(t testing.TB, d *parquet.Decoder, events ...string) string {
	t.Helper()
	rows := parquet.NewRows()
	for _, e := range events {
		if err := d.Decode([]byte(e)); err != nil {
			t.Fatalf("%s: %v", e, err)
		}
		rows.Append(d)
	}
	defer rows.Release() // the next file is made in the same memory, by whichever test
	return save(t, rows, d.Schema())
}

func save(t testing.TB, rows *parquet.Rows, s *parquet.Schema) string {
	t.Helper()
	var b bytes.Buffer
	if err := rows.Write(&b, s, nil); err != nil {
		t.Fatal(err)
	}
	f, err := os.CreateTemp(t.TempDir(), "*.parquet")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(b.Bytes()); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

func readAll(t testing.TB, path string) []string {
	t.Helper()
	r, err := parquet.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var out []string
	for {
		row, err := r.Next(nil)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(row))
	}
	if int64(len(out)) != r.NumRows() {
		t.Fatalf("%d rows were read of %d", len(out), r.NumRows())
	}
	return out
}

// columns prints the columns of a schema, one a line.
func columns(s *parquet.Schema) string {
	var b strings.Builder
	var walk func(fields []*parquet.Field, indent string)
	walk = func(fields []*parquet.Field, indent string) {
		for _, f := range fields {
			kind := f.Kind.String()
			e := f.Elem
			for ; e != nil; e = e.Elem {
				kind += " of " + e.Kind.String()
				if e.Kind == parquet.Object {
					break
				}
			}
			fmt.Fprintf(&b, "%s%s %s\n", indent, f.Name, kind)
			walk(f.Fields, indent+"  ")
			if e != nil {
				walk(e.Fields, indent+"  ")
			}
		}
	}
	walk(s.Fields, "")
	return b.String()
}

// TestInference gives batches of events, one a line, with an empty line between batches,
// and shows the schema they lead to. Every event is read back.
func TestInference(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, in, want string }{
		{"scalars", `{"b":true,"i":1,"d":1.5,"s":"x","n":null}`, "b bool\ni int64\nd double\ns string\n"},
		{"whole numbers widen within a batch", "{\"x\":1}\n{\"x\":1.5}\n{\"x\":2}", "x double\n"},
		{"they do not once in a file", "{\"x\":1}\n\n{\"x\":1.5}\n{\"x\":2.0}", "x int64\nx__double double\n"},
		{"nor when digits would be lost", "{\"x\":9007199254740993}\n{\"x\":1.5}", "x int64\nx__double double\n"},
		{"large numbers beside fractions", "{\"x\":1.5}\n{\"x\":9007199254740993}\n{\"x\":9007199254740992}", "x double\nx__json json\n"},
		{"numbers beyond any type", `{"a":1e999,"b":18446744073709551617,"c":9223372036854775808,"d":-9223372036854775808}`,
			"a unknown\na__json json\nb unknown\nb__json json\nc double\nd int64\n"},
		{"conflicts", "{\"x\":\"a\"}\n{\"x\":1}\n{\"x\":{\"y\":1}}\n{\"x\":[1]}\n{\"x\":false}", "x string\nx__json json\n"},
		{"objects", "{\"o\":{\"a\":1}}\n{\"o\":{\"b\":\"x\"}}\n{\"o\":{}}\n{\"o\":{\"a\":null}}\n{}", "o object\n  a int64\n  b string\n"},
		{"an object against a scalar", "{\"o\":{\"a\":1}}\n{\"o\":5}", "o object\n  a int64\no__json json\n"},
		{"empty things without a type", "{\"o\":{},\"l\":[],\"n\":[null],\"e\":{\"x\":null}}\n{\"l\":[1]}",
			"o unknown\nl list of int64\nn unknown\ne unknown\n_rest json\n"},
		{"lists", "{\"l\":[1,2]}\n{\"l\":[]}\n{\"l\":[null,3]}\n{\"l\":[4.5]}", "l list of double\n"},
		{"a list that does not fit", "{\"l\":[1,2]}\n\n{\"l\":[1.5]}\n{\"l\":[\"a\",1]}", "l list of int64\nl__json json\n"},
		{"lists of objects", `{"l":[{"a":1},{"b":[{"c":[]},{"c":["x"]}]},null,{"a":"y"}]}`,
			"l list of object\n  a int64\n  b list of object\n    c list of string\n    _rest json\n  a__json json\n"},
		{"a list that does not fit leaves no columns", "{\"l\":[{\"a\":1}]}\n\n{\"l\":[{\"b\":2},7]}", "l list of object\n  a int64\nl__json json\n"},
		{"lists of lists", `{"l":[[1],[],[2,3],null]}`, "l list of list of int64\n"},
		{"names", `{"a b":1,"A_B":2,"a.b":3,"":4,"ä":5,"year":6,"x":{"year":7}}`, "a_b int64\nA_B_2 int64\na_b_3 int64\n_ int64\nä int64\nyear_2 int64\nx object\n  year int64\n"},
		{"names of variants are taken", "{\"x__json\":1,\"x\":1}\n{\"x\":\"a\"}", "x__json int64\nx int64\nx__json_2 json\n"},
		{"half a surrogate pair", `{"s":"a"}` + "\n" + `{"s":"\ud800"}` + "\n" + `{"s":"\ud83e\udd8a"}`, "s string\ns__json json\n"},
		{"not UTF-8", "{\"s\":\"a\xffb\",\"\xff\":1}", "s string\n_ int64\n"},
		{"half a surrogate pair in a key", `{"\ud800":1}`, "_ int64\n"},
		{"whole numbers spelt with a point", "{\"x\":1.5}\n{\"x\":9007199254740993.0}\n{\"x\":9007199254740992.0}\n{\"x\":1e18}\n{\"x\":6.02214076e23}", "x double\nx__json json\n"},
		{"such numbers first", "{\"x\":9007199254740993.0}\n{\"x\":5.0}\n{\"x\":90071992547409930e-1}", "x int64\n"},
		{"such numbers beyond 64 bits", "{\"x\":12345678901234567891.0}\n{\"x\":12345678901234567890e0}", "x unknown\nx__json json\n"},
		{"numbers that would be zero", "{\"x\":0.5}\n{\"x\":1e-400}\n{\"x\":0e-400}", "x double\nx__json json\n"},
		{"escapes", `{"s":"\"\\\/\b\f\n\r\t\u0000é","\u0061":1}`, "s string\na int64\n"},
		{"the last of several keys wins", `{"x":1,"x":2,"y":1,"y":null,"o":{"a":1,"a":3}}`, "x int64\ny int64\no object\n  a int64\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			o := options
			o.Reserved = []string{"year"}
			s := &parquet.Schema{}
			for batch := range strings.SplitSeq(row.in, "\n\n") {
				d := parquet.NewDecoder(s, o)
				events := strings.Split(batch, "\n")
				same(t, readAll(t, file(t, d, events...)), events)
				s = reparse(t, d.Schema())
			}
			if diff := cmp.Diff(row.want, columns(s)); diff != "" {
				t.Errorf("schema (-want +got):\n%s", diff)
			}
		})
	}
}

// TestMended: what stands in a file is UTF-8, and JSON that the strictest reader takes.
func TestMended(t *testing.T) {
	t.Parallel()
	o := options
	o.Types = map[string]parquet.Type{"j": {Kind: parquet.JSON}}
	d := parquet.NewDecoder(&parquet.Schema{}, o)
	got := readAll(t, file(t, d, "{\"j\":{\"k\\ud83d\\n\":[\"\\udc00\\ud83e\\udd8a\\\\ud800\xff\"]},\"s\":\"cut \\ud83d\"}"))
	want := []string{"{\"j\":{\"k\\ufffd\\n\":[\"\\ufffd\\ud83e\\udd8a\\\\ud800\ufffd\"]},\"s\":\"cut \\ufffd\"}"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func reparse(t testing.TB, s *parquet.Schema) *parquet.Schema {
	t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	again, err := parquet.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return again
}

// same compares events by what they mean.
func same(t testing.TB, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d rows came back of %d", len(got), len(want))
	}
	for i := range want {
		if w, g := meaning(t, want[i]), meaning(t, got[i]); !reflect.DeepEqual(w, g) {
			t.Errorf("row %d came back as %s, was %s", i, got[i], want[i])
		}
	}
}

// meaning is what a JSON text means: numbers exactly, members that are null left out.
func meaning(t testing.TB, text string) any {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return canonical(v)
}

func canonical(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, x := range v {
			if x != nil {
				out[k] = canonical(x)
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = canonical(x)
		}
		return out
	case json.Number:
		if !strings.ContainsAny(string(v), ".eE") {
			n, _ := new(big.Int).SetString(string(v), 10)
			if f, accuracy := new(big.Float).SetInt(n).Float64(); accuracy == big.Exact {
				return f + 0 // -0 is 0
			}
			return n.String()
		}
		f, err := v.Float64()
		if err != nil {
			return string(v)
		}
		exact, _ := new(big.Rat).SetString(string(v))
		if held, _ := new(big.Rat).SetString(strconv.FormatFloat(f, 'g', -1, 64)); exact.IsInt() && exact.Cmp(held) != 0 && exact.Cmp(new(big.Rat).SetFloat64(f)) != 0 || f == 0 && exact.Sign() != 0 {
			return exact.RatString() // a whole number that f is not
		}
		return f + 0
	}
	return v
}

func TestRefused(t *testing.T) {
	t.Parallel()
	for _, in := range []string{
		"", " ", "1", "null", "[]", `"x"`, "{", "{}x", "{} {}", `{"a"}`, `{"a":}`, `{"a":1,}`, `{a:1}`, `{"a":01}`, `{"a":-}`, `{"a":1.}`,
		`{"a":.5}`, `{"a":1e}`, `{"a":+1}`, `{"a":tru}`, `{"a":truex}`, `{"a":nul}`, `{"a":"x`, `{"a":"\x"}`, `{"a":"\u12"}`, "{\"a\":\"\n\"}",
		`{"a":[1,]}`, `{"a":[1 2]}`, `{"a":NaN}`, `{"a":Infinity}`, `{"a":-Infinity}`, `{"a":[`, `{"a":[1`, `{"a":{"b":1}`, `{"a":"x","a":}`, `{"new":1,"l":[1,{"x":tru}]}`,
		strings.Repeat(`{"a":`, 17) + "1" + strings.Repeat("}", 17), `{"a":` + strings.Repeat("[", 16) + strings.Repeat("]", 16) + "}",
		`{"j":` + strings.Repeat("[", 100000),
	} {
		d := parquet.NewDecoder(&parquet.Schema{}, options)
		err := d.Decode([]byte(in))
		if err == nil || fault.Of(err) != fault.Invalid {
			t.Errorf("%.80q: error %v, want an invalid one", in, err)
		}
		if d.Changed() || len(d.Schema().Fields) > 0 {
			t.Errorf("%.80q left columns: %s", in, columns(d.Schema()))
		}
		events := []string{`{"a":{"b":[{"c":1}]}}`, `{"l":true}`}
		same(t, readAll(t, file(t, d, events...)), events)
	}
}

// TestTruncated cuts an event anywhere, also where the decoder knows what must follow.
func TestTruncated(t *testing.T) {
	t.Parallel()
	event := `{"s":"text","e":"\u00e9\ud83e\udd8a","i":-12,"d":1.25,"b":true,"n":null,"o":{"x":1,"y":{"z":"deep"}},"l":[1,null,2],"t":"2024-04-07T18:11:02Z"}`
	o := options
	o.Types = map[string]parquet.Type{"t": {Kind: parquet.Timestamp}}
	for _, known := range []bool{false, true} {
		d := parquet.NewDecoder(&parquet.Schema{}, o)
		for end := range event {
			if known {
				if err := d.Decode([]byte(event)); err != nil {
					t.Fatal(err)
				}
			}
			cut := make([]byte, end) // no longer than it must be
			copy(cut, event)
			if err := d.Decode(cut); fault.Of(err) != fault.Invalid {
				t.Errorf("%s: error %v", cut, err)
			}
		}
		same(t, readAll(t, file(t, d, event)), []string{event})
	}
}

func TestTooManyColumns(t *testing.T) {
	t.Parallel()
	d := parquet.NewDecoder(&parquet.Schema{}, parquet.Options{MaxDepth: 5, MaxColumns: 4})
	if err := d.Decode([]byte(`{"a":1,"o":{"b":2,"c":3,"d":4}}`)); err == nil || fault.Of(err) != fault.Invalid {
		t.Errorf("error %v", err)
	}
	events := []string{`{"a":1,"o":{"b":2,"c":3}}`, `{"a":4}`}
	same(t, readAll(t, file(t, d, events...)), events)
	if err := d.Decode([]byte(`{"a":"x"}`)); err == nil || fault.Of(err) != fault.Invalid {
		t.Errorf("a variant too many: error %v", err)
	}
}

func TestDeclaredTypes(t *testing.T) {
	t.Parallel()
	o := options
	o.Types = map[string]parquet.Type{"t": {Kind: parquet.Timestamp}, "o.s": {Kind: parquet.TimestampS}, "ms": {Kind: parquet.TimestampMs},
		"us": {Kind: parquet.TimestampUs}, "j": {Kind: parquet.JSON}, "d": {Kind: parquet.Double}, "n": {Kind: parquet.String}}
	events := []string{
		`{"t":"2024-04-07T18:11:02.123456Z","o":{"s":1712513462},"ms":-1,"us":1712513462000001,"j":{"any":[{}]},"d":1,"n":"1"}`,
		`{"t":"yesterday","o":{"s":"x"},"ms":1.5,"us":1e30,"j":7,"d":2.5,"n":1}`,
		`{"t":5,"o":{"s":99999999999999999},"ms":"soon","j":"s"}`,
	}
	d := parquet.NewDecoder(&parquet.Schema{}, o)
	same(t, readAll(t, file(t, d, events...)), events)
	want := "t timestamp\no object\n  s timestamp_s\n  s__json json\nms timestamp_ms\nus timestamp_us\nj json\nd double\nn string\n" +
		"t__json json\nus__json json\nn__json json\nms__json json\n"
	if diff := cmp.Diff(want, columns(d.Schema())); diff != "" {
		t.Errorf("schema (-want +got):\n%s", diff)
	}
}

// TestDeclaredTypesInLists: the path of a field passes over lists, or names them.
func TestDeclaredTypesInLists(t *testing.T) {
	t.Parallel()
	o := options
	o.Types = map[string]parquet.Type{"items.price": {Kind: parquet.Double}, "rows[][].at": {Kind: parquet.TimestampS}, "rows.deep.n": {Kind: parquet.String}}
	events := []string{`{"items":[{"price":1}],"rows":[[{"at":5}]],"price":2}`, `{"rows":[[{"deep":[{"n":"7"}]}]]}`}
	d := parquet.NewDecoder(&parquet.Schema{}, o)
	same(t, readAll(t, file(t, d, events...)), events)
	want := "items list of object\n  price double\nrows list of list of object\n  at timestamp_s\n  deep list of object\n    n string\nprice int64\n"
	if diff := cmp.Diff(want, columns(d.Schema())); diff != "" {
		t.Errorf("schema (-want +got):\n%s", diff)
	}
}

// TestTapsAreInNoList: of several values none is the one.
func TestTapsAreInNoList(t *testing.T) {
	t.Parallel()
	o := options
	o.Taps = []string{"l.t", "l[].t"}
	d := parquet.NewDecoder(&parquet.Schema{}, o)
	for range 2 { // with a new column, and with one that is known
		if err := d.Decode([]byte(`{"l":[{"t":1},{"t":2}],"x":3}`)); err != nil {
			t.Fatal(err)
		}
		if a, b := d.Tap(0), d.Tap(1); a.Kind != parquet.Unknown || b.Kind != parquet.Unknown {
			t.Errorf("taps %+v, %+v", a, b)
		}
		d = parquet.NewDecoder(d.Schema(), o)
	}
}

func TestTaps(t *testing.T) {
	t.Parallel()
	o := options
	o.Taps = []string{"a.t", "id"}
	d := parquet.NewDecoder(&parquet.Schema{}, o)
	for _, row := range []struct {
		in     string
		t, id  parquet.Kind
		fits   bool
		number int64
	}{
		{`{"a":{"t":5},"id":"x"}`, parquet.Int, parquet.String, true, 5},
		{`{"a":{"t":7.5},"id":"x"}`, parquet.Double, parquet.String, true, 7},
		{`{"id":7}`, parquet.Unknown, parquet.JSON, false, 0},
		{`{"a":{"t":1,"t":null},"id":null}`, parquet.Unknown, parquet.Unknown, false, 0},
		{`{"b":{"t":1},"t":1,"a":{"t":2,"t":3}}`, parquet.Double, parquet.Unknown, false, 3},
	} {
		if err := d.Decode([]byte(row.in)); err != nil {
			t.Fatal(err)
		}
		at, id := d.Tap(0), d.Tap(1)
		if at.Kind != row.t || at.Int != row.number || id.Kind != row.id || id.Fits != row.fits {
			t.Errorf("%s: time %+v, id %+v", row.in, at, id)
		}
	}
}

// TestForget drops every other event after it was decoded: neither its row nor its columns stay.
func TestForget(t *testing.T) {
	t.Parallel()
	d := parquet.NewDecoder(&parquet.Schema{}, options)
	rows := parquet.NewRows()
	for i := range 10 {
		if err := d.Decode(fmt.Appendf(nil, `{"a":%d,"gone%d":{"x":[1]}}`, i, i)); err != nil {
			t.Fatal(err)
		}
		d.Forget()
		if err := d.Decode(fmt.Appendf(nil, `{"a":%d}`, i)); err != nil {
			t.Fatal(err)
		}
		rows.Append(d)
	}
	if got := columns(d.Schema()); got != "a int64\n" {
		t.Errorf("schema %s", got)
	}
	if got := readAll(t, save(t, rows, d.Schema())); len(got) != 10 || got[9] != `{"a":9}` {
		t.Errorf("rows %v", got)
	}
}

// TestLaterSchema writes rows with the schema of a later batch, as happens when another
// batch adds columns first.
func TestLaterSchema(t *testing.T) {
	t.Parallel()
	first := parquet.NewDecoder(&parquet.Schema{}, options)
	if err := first.Decode([]byte(`{"a":1,"o":{"x":1},"l":[{"y":2}]}`)); err != nil {
		t.Fatal(err)
	}
	later := parquet.NewDecoder(first.Schema(), options)
	event := `{"a":2,"o":{"x":3},"l":[{"y":4},{}]}`
	rows := parquet.NewRows()
	if err := later.Decode([]byte(event)); err != nil {
		t.Fatal(err)
	}
	rows.Append(later)
	if later.Changed() {
		t.Fatal("the schema changed")
	}
	other := parquet.NewDecoder(first.Schema(), options)
	if err := other.Decode([]byte(`{"a":"s","o":{"new":1,"x":2},"l":[{"z":[1]}],"n":true}`)); err != nil {
		t.Fatal(err)
	}
	same(t, readAll(t, save(t, rows, reparse(t, other.Schema()))), []string{event})
}

func TestLargeFile(t *testing.T) {
	t.Parallel()
	d := parquet.NewDecoder(&parquet.Schema{}, options)
	var events []string
	for i := range 30_000 {
		events = append(events, fmt.Sprintf(`{"i":%d,"id":"%064x","type":"t%d","l":[%d,null,%d],"s":%q,"z":%v}`, i*i, i, i%7, i, i+1, strings.Repeat("v", i%90), i%3 == 0))
	}
	same(t, readAll(t, file(t, d, events...)), events)
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	good, err := os.ReadFile(file(t, parquet.NewDecoder(&parquet.Schema{}, options), `{"a":1}`))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for i, data := range [][]byte{nil, []byte("PAR1"), []byte("text that is no Parquet at all"), good[:len(good)-3], good[4:]} {
		path := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if r, err := parquet.Open(path); err == nil {
			r.Close()
			t.Errorf("a damaged file of %d bytes was opened", len(data))
		}
	}
}

// anyValue draws a JSON text.
func anyValue(depth int) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		most := 7
		if depth == 0 {
			most = 5
		}
		switch rapid.IntRange(0, most).Draw(t, "kind") {
		case 0:
			return rapid.SampledFrom([]string{"null", "true", "false"}).Draw(t, "word")
		case 1:
			return fmt.Sprint(rapid.Int64().Draw(t, "int"))
		case 2:
			return rapid.SampledFrom([]string{"0", "-0", "1", "1.5", "-2.25e-7", "5.0", "1e3", "1e999", "-1E+400", "9007199254740992", "9007199254740993",
				"18446744073709551616", "123456789012345678901234567890", "0.1", "1e22", "4.9e-324"}).Draw(t, "number")
		case 3, 4:
			s, err := json.Marshal(rapid.String().Draw(t, "string"))
			if err != nil {
				t.Fatal(err)
			}
			return string(s)
		case 5:
			return rapid.SampledFrom([]string{`""`, `"\ud800"`, `"\ud83e\udd8a"`, `"\u0000"`, `"a"`, "{}", "[]", "[null]"}).Draw(t, "special")
		case 6:
			return "[" + strings.Join(rapid.SliceOfN(anyValue(depth-1), 0, 4).Draw(t, "list"), ",") + "]"
		}
		return anyObject(depth-1).Draw(t, "object")
	})
}

func anyObject(depth int) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		n := rapid.IntRange(0, 4).Draw(t, "members")
		keys := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "A", "c d", "", "ü", "x__json", "a__double", `q"`}), n, n, rapid.ID).Draw(t, "keys")
		var parts []string
		for _, k := range keys {
			key, err := json.Marshal(k)
			if err != nil {
				t.Fatal(err)
			}
			parts = append(parts, string(key)+":"+anyValue(depth).Draw(t, "value"))
		}
		return "{" + strings.Join(parts, " , ") + "}"
	})
}

// TestAnyObjects is the promise of the package: any objects, in any batches, come back.
func TestAnyObjects(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := &parquet.Schema{}
		type kept struct {
			path   string
			events []string
		}
		var files []kept
		for range rapid.IntRange(1, 3).Draw(rt, "batches") {
			events := rapid.SliceOfN(anyObject(3), 1, 6).Draw(rt, "events")
			d := parquet.NewDecoder(s, options)
			files = append(files, kept{file(t, d, events...), events})
			older := columns(s)
			s = reparse(t, d.Schema())
			if d.Changed() == (older == columns(s)) {
				rt.Fatalf("changed is %t, and the schema went from\n%sto\n%s", d.Changed(), older, columns(s))
			}
		}
		for _, f := range files {
			got := readAll(t, f.path)
			for i := range f.events {
				if w, g := meaning(t, f.events[i]), meaning(t, got[i]); !reflect.DeepEqual(w, g) {
					rt.Fatalf("row %d came back as %s, was %s", i, got[i], f.events[i])
				}
			}
		}
	})
}

// FuzzDecode compares the decoder with encoding/json: what one accepts the other does, and
// it means the same after a file.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{"{}", `{"a":1}`, `{"a":[1,{"b":"\u00e9\n"}],"c":{"d":null,"e":-1.5e-3}}`, `{"a":1,"a":"x"}`, `{"a":[[],[null]],"a b":{}}`, `{"":"\ud800"}`, "[1]"} {
		f.Add([]byte(`{"a":1.5}`), []byte(s))
	}
	f.Add([]byte(`{"a":0,"s":"x"}`), []byte(`{"a":0,"s":"`))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		d := parquet.NewDecoder(&parquet.Schema{}, parquet.Options{MaxDepth: 1000, MaxColumns: 5000})
		var accepted []string
		rows := parquet.NewRows()
		for _, data := range [][]byte{first, second, first} {
			err := d.Decode(data)
			var m map[string]any
			valid := json.Valid(data) && json.Unmarshal(data, &m) == nil && m != nil
			if err == nil && !valid {
				t.Fatalf("accepted %q, which is no JSON object", data)
			}
			if err != nil {
				if fault.Of(err) != fault.Invalid {
					t.Fatalf("error of kind %s: %v", fault.Of(err), err)
				}
				continue
			}
			rows.Append(d)
			accepted = append(accepted, string(data))
		}
		if len(accepted) == 0 {
			return
		}
		got := readAll(t, save(t, rows, d.Schema()))
		for i := range accepted {
			if w, g := meaning(t, accepted[i]), meaning(t, got[i]); !reflect.DeepEqual(w, g) {
				t.Fatalf("row %d came back as %s, was %s", i, got[i], accepted[i])
			}
		}
	})
}
