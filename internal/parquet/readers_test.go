package parquet_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/big"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/parquet"
)

// TestOtherReadersAgree writes files of random columns of every type, nested in each other, with odd
// names, and of random values, nulls and empty ones among them. DuckDB and Arrow read what was written,
// and so does this package. WEIR_MODEL_RUNS is how many files there are.
func TestOtherReadersAgree(t *testing.T) {
	t.Parallel()
	runs := 30
	if n, err := strconv.Atoi(os.Getenv("WEIR_MODEL_RUNS")); err == nil {
		runs = n
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	files := make([]*written, runs)
	for i := range files {
		files[i] = writeAny(t, rand.New(rand.NewPCG(seed, uint64(i))))
	}
	for _, reader := range []struct {
		name string
		read func(testing.TB, []*written) [][]any
	}{{"DuckDB", readDuckDB}, {"Arrow", readArrow}} {
		for i, rows := range reader.read(t, files) {
			f := files[i]
			if len(rows) != len(f.want) {
				t.Fatalf("file %d: %s reads %d rows of %d", i, reader.name, len(rows), len(f.want))
			}
			for k := range rows {
				if diff := cmp.Diff(f.want[k], f.object(t, f.schema.Fields, rows[k].(map[string]any))); diff != "" {
					t.Fatalf("file %d: row %d as %s reads it (-written +read):\n%s\n%s\n%s", i, k, reader.name, diff, f.events[k], columns(f.schema))
				}
			}
		}
	}
}

// written is a file, with what is in it.
type written struct {
	path   string
	schema *parquet.Schema
	events []string
	want   []any // objects by keys, lists, and texts of values; nothing is null but in lists
}

func writeAny(t testing.TB, r *rand.Rand) *written {
	o := options
	o.Types = map[string]parquet.Type{}
	g := &generator{r: r, types: o.Types}
	top := g.object("", 3)
	w := &written{}
	for range []int{1, 9, 60, 700}[r.IntN(4)] {
		text, value := top.value(g)
		w.events, w.want = append(w.events, text), append(w.want, value)
	}
	d := parquet.NewDecoder(&parquet.Schema{}, o)
	for _, e := range w.events {
		if err := d.Decode([]byte(e)); err != nil {
			t.Fatalf("%s: %v", e, err)
		}
	}
	d.Again()
	w.path = file(t, d, w.events...)
	w.schema = reparse(t, d.Schema())
	if d.Strays() {
		t.Fatalf("a value does not fit its type: %v\n%s", o.Types, columns(w.schema))
	}
	again := parquet.NewDecoder(w.schema, o) // what comes back can be written again
	same(t, readAll(t, file(t, again, readAll(t, w.path)...)), readAll(t, w.path))
	return w
}

// generator draws types and values.
type generator struct {
	r     *rand.Rand
	types map[string]parquet.Type
}

// drawn is a type that was drawn.
type drawn struct {
	declared parquet.Type
	kind     parquet.Kind
	keys     []string
	members  []*drawn // of an object; one of a list
}

var oddKeys = []string{"a", "A", "b c", "ü", "", "x__json", `q"uote`, "_rest", "element", "list", "日本", "select", "tab\t", "0", "a__double", strings.Repeat("long", 60)}

func (g *generator) object(path string, depth int) *drawn {
	x := &drawn{kind: parquet.Object}
	for _, i := range g.r.Perm(len(oddKeys))[:1+g.r.IntN(6)] {
		key := oddKeys[i]
		at := key
		if path != "" {
			at = path + "." + key
		}
		member := &drawn{kind: parquet.String} // below "" paths would be those of other fields
		if key != "" {
			member = g.any(at, depth-1)
		}
		x.keys, x.members = append(x.keys, key), append(x.members, member)
	}
	return x
}

func (g *generator) any(path string, depth int) *drawn {
	n := g.r.IntN(20)
	switch {
	case n >= 17 && depth > 0:
		return g.object(path, depth)
	case n >= 14 && depth > 0:
		return &drawn{kind: parquet.List, members: []*drawn{g.any(path+"[]", depth-1)}}
	}
	inferred := []parquet.Kind{parquet.Bool, parquet.Int, parquet.Double, parquet.String}
	if n < len(inferred) {
		return &drawn{kind: inferred[n]}
	}
	declared := []parquet.Type{{Kind: parquet.JSON}, {Kind: parquet.Timestamp}, {Kind: parquet.TimestampS}, {Kind: parquet.TimestampMs}, {Kind: parquet.TimestampUs},
		{Kind: parquet.TimestampNs}, {Kind: parquet.LocalTime}, {Kind: parquet.Date}, {Kind: parquet.UUID}}
	x := &drawn{declared: parquet.Type{Kind: parquet.Decimal, Digits: 1 + g.r.IntN(38)}}
	if x.declared.Scale = g.r.IntN(x.declared.Digits + 1); n-len(inferred) < len(declared) {
		x.declared = declared[n-len(inferred)]
	}
	x.kind = x.declared.Kind
	g.types[path] = x.declared
	return x
}

// value draws a value: as JSON, and as what readers make of it.
func (x *drawn) value(g *generator) (text string, value any) {
	r := g.r
	switch x.kind {
	case parquet.Object:
		parts, all := []string{}, map[string]any{}
		for i, m := range x.members {
			if r.IntN(5) == 0 {
				continue
			}
			text, v := "null", any(nil)
			if r.IntN(6) > 0 {
				text, v = m.value(g)
			}
			key, _ := json.Marshal(x.keys[i])
			parts = append(parts, string(key)+":"+text)
			if v != nil {
				all[x.keys[i]] = v
			}
		}
		return "{" + strings.Join(parts, ",") + "}", all
	case parquet.List:
		parts, all := []string{}, []any{}
		for range r.IntN(4) {
			text, v := "null", any(nil)
			if r.IntN(6) > 0 {
				text, v = x.members[0].value(g)
			}
			parts, all = append(parts, text), append(all, v)
		}
		return "[" + strings.Join(parts, ",") + "]", all
	}
	return x.plain(r)
}

func (x *drawn) plain(r *rand.Rand) (text string, value any) {
	quoted := func(s string) string { b, _ := json.Marshal(s); return string(b) }
	years := func(from, to int) time.Time {
		a, b := time.Date(from, 1, 1, 0, 0, 0, 0, time.UTC).Unix(), time.Date(to, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
		return time.Unix(a+r.Int64N(b-a), 1000*r.Int64N(1e6)).UTC()
	}
	at := years(1, 9999)
	micros := strconv.FormatInt(at.UnixMicro(), 10)
	switch x.kind {
	case parquet.Bool:
		text = strconv.FormatBool(r.IntN(2) == 0)
		return text, text
	case parquet.Int:
		text = strconv.FormatInt([]int64{r.Int64() - r.Int64(), r.Int64N(5), math.MinInt64, math.MaxInt64}[r.IntN(4)], 10)
		return text, text
	case parquet.Double:
		v := []float64{r.NormFloat64() + 0.1234567, math.Ldexp(r.Float64()+0.5, r.IntN(1900)-1000), 5e-324, math.MaxFloat64, -0.5}[r.IntN(5)]
		text = strconv.FormatFloat(v, 'e', -1, 64)
		return text, strconv.FormatFloat(v, 'g', -1, 64)
	case parquet.String:
		s := []string{"", "x", "fuchs 🦊", "\"\\\n\x00", strings.Repeat("ab", r.IntN(90)), strconv.Itoa(r.IntN(3)), "null", "[]"}[r.IntN(8)]
		return quoted(s), s
	case parquet.JSON:
		text = []string{`{"k":[1,"x"]}`, `[]`, `"s"`, `1.50`, `true`, `{}`}[r.IntN(6)]
		return text, text
	case parquet.Timestamp:
		zone := time.FixedZone("", 60*(r.IntN(2*14*60)-14*60))
		if local := at.In(zone); local.Year() >= 1 && local.Year() <= 9999 {
			return quoted(local.Format(time.RFC3339Nano)), micros
		}
		return quoted(at.Format(time.RFC3339Nano)), micros
	case parquet.TimestampS, parquet.TimestampMs, parquet.TimestampUs:
		unit := map[parquet.Kind]int64{parquet.TimestampS: 1e6, parquet.TimestampMs: 1e3, parquet.TimestampUs: 1}[x.kind]
		n := at.UnixMicro() / unit
		return strconv.FormatInt(n, 10), strconv.FormatInt(n*unit, 10)
	case parquet.TimestampNs:
		text = strconv.FormatInt(years(1700, 2200).UnixNano()+r.Int64N(1000), 10)
		return text, text
	case parquet.LocalTime:
		return quoted(at.Format("2006-01-02T15:04:05.999999")), micros
	case parquet.Date:
		text = at.Format("2006-01-02")
		return quoted(text), text
	case parquet.UUID:
		b := make([]byte, 16)
		for i := range b {
			b[i] = byte(r.Uint32() >> r.IntN(20))
		}
		h := hex.EncodeToString(b)
		text = h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
		if r.IntN(3) == 0 {
			return quoted(strings.ToUpper(text)), text
		}
		return quoted(text), text
	}
	return x.number(r)
}

// number draws a decimal number.
func (x *drawn) number(r *rand.Rand) (text string, value any) {
	n := 1 + r.IntN(x.declared.Digits)
	digits := make([]byte, n)
	for i := range digits {
		digits[i] = byte('0' + r.IntN(10))
		if r.IntN(9) == 0 {
			digits[i] = '9'
		}
	}
	all := strings.Repeat("0", max(0, x.declared.Scale+1-n)) + string(digits)
	whole, behind := all[:len(all)-x.declared.Scale], all[len(all)-x.declared.Scale:]
	if whole = strings.TrimLeft(whole, "0"); whole == "" {
		whole = "0"
	}
	text = whole
	if behind != "" {
		text += "." + behind
	}
	value = text
	if r.IntN(2) == 0 && strings.Trim(text, "0.") != "" {
		text = "-" + text
		value = text
	}
	switch r.IntN(4) {
	case 0:
		return `"` + text + `"`, value
	case 1: // the same, spelt otherwise
		return text + "e0", value
	}
	return text, value
}

// object is an object as a reader has it, by keys, with what is in the rest.
func (w *written) object(t testing.TB, fields []*parquet.Field, row map[string]any) map[string]any {
	out := map[string]any{}
	var rest map[string]any
	for _, f := range fields {
		switch v, there := row[f.Name]; {
		case !there && f.Kind != parquet.Unknown:
			t.Fatalf("no column %q was read", f.Name)
		case v == nil:
		case f.Variant == parquet.Rest:
			if err := json.Unmarshal([]byte(v.(string)), &rest); err != nil {
				t.Fatalf("%v: %s", err, v)
			}
		default:
			out[f.Key] = w.value(t, f, v)
		}
	}
	merge(out, rest)
	return out
}

func merge(into, more map[string]any) {
	for k, v := range more {
		have, isObject := into[k].(map[string]any)
		below, both := v.(map[string]any)
		if isObject && both {
			merge(have, below)
		} else if v = bare(v); v != nil {
			into[k] = v
		}
	}
}

// bare is v without members that are null.
func bare(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			if x == nil {
				delete(v, k)
			} else {
				v[k] = bare(x)
			}
		}
	case []any:
		for i, x := range v {
			v[i] = bare(x)
		}
	}
	return v
}

func (w *written) value(t testing.TB, f *parquet.Field, v any) any {
	switch f.Kind {
	case parquet.Object:
		return w.object(t, f.Fields, v.(map[string]any))
	case parquet.List:
		out := []any{}
		for _, x := range v.([]any) {
			if x != nil {
				x = w.value(t, f.Elem, x)
			}
			out = append(out, x)
		}
		return out
	case parquet.Decimal: // DuckDB leaves out a zero before the point
		minus, digits := "", v.(string)
		if strings.HasPrefix(digits, "-") {
			minus, digits = "-", digits[1:]
		}
		if strings.HasPrefix(digits, ".") {
			digits = "0" + digits
		}
		return minus + digits
	case parquet.Double:
		x, err := strconv.ParseFloat(v.(string), 64)
		if err != nil {
			t.Fatal(err)
		}
		return strconv.FormatFloat(x, 'g', -1, 64)
	}
	return v.(string)
}

// asText is an expression of DuckDB: the column as a text of each value.
func asText(f *parquet.Field, x string, depth int) string {
	switch f.Kind {
	case parquet.Object:
		return fmt.Sprintf("CASE WHEN %s IS NULL THEN NULL ELSE %s END", x, asTexts(f.Fields, x+".", depth))
	case parquet.List:
		e := fmt.Sprintf("e%d", depth)
		return fmt.Sprintf("list_transform(%s, lambda %s: %s)", x, e, asText(f.Elem, e, depth+1))
	case parquet.Timestamp, parquet.TimestampS, parquet.TimestampMs, parquet.TimestampUs, parquet.LocalTime:
		x = "epoch_us(" + x + ")"
	case parquet.TimestampNs:
		x = "epoch_ns(" + x + ")"
	}
	return "CAST(" + x + " AS VARCHAR)"
}

func asTexts(fields []*parquet.Field, above string, depth int) string {
	var parts []string
	for _, f := range fields {
		if f.Kind != parquet.Unknown {
			name := `"` + strings.ReplaceAll(f.Name, `"`, `""`) + `"`
			parts = append(parts, name+" := "+asText(f, above+name, depth))
		}
	}
	return "struct_pack(" + strings.Join(parts, ", ") + ")"
}

func readDuckDB(t testing.TB, files []*written) [][]any {
	duck := enginetest.DuckDB(t)
	var queries []string
	for i, f := range files {
		object := "NULL"
		if slices.ContainsFunc(f.schema.Fields, func(x *parquet.Field) bool { return x.Kind != parquet.Unknown }) {
			object = asTexts(f.schema.Fields, "", 0)
		}
		queries = append(queries, fmt.Sprintf("SELECT %d AS f, file_row_number AS r, to_json(%s) AS j FROM read_parquet('%s', file_row_number = true)", i, object, f.path))
	}
	out := make([][]any, len(files))
	for _, row := range duck.Query(t, strings.Join(queries, " UNION ALL ")+" ORDER BY f, r") {
		i, _ := row["f"].(json.Number).Int64()
		j, _ := row["j"].(map[string]any)
		if j == nil {
			j = map[string]any{}
		}
		out[i] = append(out[i], j)
	}
	return out
}

// arrowScript prints a line with the rows of each file, every value of them as text.
const arrowScript = `
import sys, json, uuid, datetime, decimal
import pyarrow as pa, pyarrow.parquet as pq
def numbers(t):
    if pa.types.is_timestamp(t): return pa.int64()
    if pa.types.is_list(t): return pa.list_(t.value_field.with_type(numbers(t.value_type)))
    if pa.types.is_struct(t): return pa.struct([t.field(i).with_type(numbers(t.field(i).type)) for i in range(t.num_fields)])
    return t
def text(v):
    if v is None: return None
    if isinstance(v, bool): return "true" if v else "false"
    if isinstance(v, float): return repr(v)
    if isinstance(v, decimal.Decimal): return format(v, "f")
    if isinstance(v, datetime.date): return "%04d-%02d-%02d" % (v.year, v.month, v.day)
    if isinstance(v, bytes): return str(uuid.UUID(bytes=v))
    if isinstance(v, list): return [text(x) for x in v]
    if isinstance(v, dict): return {k: text(x) for k, x in v.items()}
    return str(v)
for path in sys.stdin.read().split("\n"):
    t = pq.read_table(path, partitioning=None)
    t = t.cast(pa.schema([f.with_type(numbers(f.type)) for f in t.schema]))
    print(json.dumps(text(t.to_pylist())))
`

func readArrow(t testing.TB, files []*written) (out [][]any) {
	var paths []string
	for _, f := range files {
		paths = append(paths, f.path)
	}
	c := exec.CommandContext(t.Context(), enginetest.PyIcebergPython(t), "-c", arrowScript)
	c.Stdin = strings.NewReader(strings.Join(paths, "\n"))
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Run(); err != nil {
		t.Fatalf("ask Arrow: %v: %s", err, &stderr)
	}
	lines := bufio.NewScanner(&stdout)
	lines.Buffer(nil, 1<<30)
	for lines.Scan() {
		var rows []any
		if err := json.Unmarshal(lines.Bytes(), &rows); err != nil {
			t.Fatal(err)
		}
		out = append(out, rows)
	}
	return out
}

// TestDeclarable: the name of every type is read as that type.
func TestDeclarable(t *testing.T) {
	t.Parallel()
	for _, name := range parquet.Declarable() {
		if name == "decimal(DIGITS,SCALE)" {
			name = "decimal(38,0)"
		}
		if typ, ok := parquet.ParseType(name); !ok || typ.String() != name {
			t.Errorf("%s is read as %s, %t", name, typ, ok)
		}
	}
	for _, name := range []string{"", "object", "list", "unknown", "decimal", "decimal()", "decimal(0,0)", "decimal(39,1)", "decimal(3,4)", "decimal(3,-1)", "decimal(3,1", "Decimal(3,1)", "map", "mixed"} {
		if typ, ok := parquet.ParseType(name); ok {
			t.Errorf("%q is read as %s", name, typ)
		}
	}
}

// TestWhatFitsADeclaredType: what does not is beside the column as it was.
func TestWhatFitsADeclaredType(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ typ, fits, not string }{
		{"decimal(4,2)", `1 -12.34 99.99 12.3400 1e1 1.2e-1 120e-2 0e99999999999 "7.5" "-0.01" 0.00`, `100 1.234 -100.00 1e2 1e-3 1e99999999999 1e-99999999999 "" "x" " 1" "1 " "+1" ".5" "1." true [] {}`},
		{"decimal(9,0)", `999999999 -999999999`, `1000000000 0.5`},
		{"decimal(18,18)", `0.999999999999999999 -0.000000000000000001`, `1 1e-19`},
		{"decimal(19,0)", `9999999999999999999 -9999999999999999999 18446744073709551610e-1`, `10000000000000000000`},
		{"decimal(38,10)", `9999999999999999999999999999.9999999999 -9999999999999999999999999999.9999999999 18446744073709551616 -18446744073709551616`, `10000000000000000000000000000 0.00000000001`},
		{"uuid", `"123e4567-e89b-12d3-a456-426614174000" "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"`, `"" "123e4567e89b12d3a456426614174000" "123e4567-e89b-12d3-a456-42661417400g" "123e4567+e89b-12d3-a456-426614174000" "{123e4567-e89b-12d3-a456-4266141740}" 5`},
		{"date", `"2024-02-29" "0001-01-01" "9999-12-31"`, `"2023-02-29" "0000-01-01" "2024-2-29" "2024-02-29T00:00:00Z" "20240229" 20240229`},
		{"timestamp_local", `"2024-04-07T18:11:02" "2024-04-07 18:11:02.123456"`, `"2024-04-07T18:11:02Z" "2024-04-07T18:11:02+01:00" "2024-04-07" "2024-04-07T18:11" "2024-04-07T25:11:02" 5`},
		{"timestamp_ns", `0 -1 1712513462123456789 9223372036854775807 5.0`, `0.5 9223372036854775808 "5"`},
	} {
		typ, ok := parquet.ParseType(row.typ)
		if !ok {
			t.Fatal(row.typ)
		}
		o := options
		o.Types = map[string]parquet.Type{"v": typ}
		for i, values := range []string{row.fits, row.not} {
			for _, v := range texts(values) {
				d := parquet.NewDecoder(&parquet.Schema{}, o)
				got := readAll(t, file(t, d, `{"v":`+v+`}`))
				if fits := len(d.Schema().Fields) == 1; fits != (i == 0) {
					t.Errorf("%s fits %s: %t", v, row.typ, fits)
				}
				if i == 1 {
					if got[0] != `{"v":`+v+`}` {
						t.Errorf("%s beside %s comes back as %s", v, row.typ, got[0])
					}
				} else if a, b := numeric(t, got[0]), numeric(t, `{"v":`+v+`}`); a != b {
					t.Errorf("%s in %s comes back as %s", v, row.typ, got[0])
				}
			}
		}
	}
}

// texts are JSON values with spaces between.
func texts(all string) (out []string) {
	dec := json.NewDecoder(strings.NewReader(all))
	for dec.More() {
		var v json.RawMessage
		if dec.Decode(&v) != nil {
			return nil
		}
		out = append(out, string(v))
	}
	return out
}

// numeric is the value of an event as a number with all its digits, or in small letters.
func numeric(t testing.TB, event string) string {
	var v struct{ V any }
	dec := json.NewDecoder(strings.NewReader(event))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprint(v.V)
	if mantissa, _, big := strings.Cut(text, "e999"); big && strings.Trim(mantissa, "0.") == "" {
		text = "0"
	}
	if n, ok := new(big.Rat).SetString(text); ok {
		return n.RatString()
	}
	return strings.ReplaceAll(strings.ToLower(text), " ", "t")
}

// TestRest: what has no type waits in a column of its own, and comes back where it was.
func TestRest(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, in, want string }{
		{"a list that gets its type later", "{\"l\":[]}\n\n{\"l\":[1]}\n{\"l\":[]}", "l list of int64\n_rest json\n"},
		{"an object that does", "{\"o\":{\"x\":{}}}\n\n{\"o\":{\"x\":{\"y\":1}}}\n{\"o\":{\"x\":{}}}", "o object\n  x object\n    y int64\n_rest json\n"},
		{"within an object", "{\"o\":{\"a\":1,\"l\":[],\"p\":{\"q\":[null]}}}", "o object\n  a int64\n  l unknown\n  p unknown\n_rest json\n"},
		{"within a list", "{\"l\":[{\"a\":1,\"b\":[]},{\"c\":{}},{\"b\":[]}],\"n\":[[],[[]]]}", "l list of object\n  a int64\n  b unknown\n  _rest json\n  c unknown\nn unknown\n_rest json\n"},
		{"the last one counts", `{"l":[],"l":5,"m":{},"m":null,"o":{"x":[]},"o":{"y":[]},"p":[1],"p":[]}`, "l int64\nm unknown\no unknown\np list of int64\n_rest json\n"},
		{"a name that is taken", `{"_rest":1,"l":[]}`, "_rest int64\nl unknown\n_rest_2 json\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := &parquet.Schema{}
			for batch := range strings.SplitSeq(row.in, "\n\n") {
				d := parquet.NewDecoder(s, options)
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

// TestAgain: a list that was empty before its type was known has it, if events are decoded once more.
func TestAgain(t *testing.T) {
	t.Parallel()
	events := []string{`{"l":[],"o":{"x":{}},"i":[{"t":[]}]}`, `{"l":["a"],"o":{"x":{"y":1}},"i":[{"t":[1]}]}`}
	d := parquet.NewDecoder(&parquet.Schema{}, options)
	file(t, d, events...)
	if !d.Late() {
		t.Fatal("no type came late")
	}
	d.Again()
	same(t, readAll(t, file(t, d, events...)), events)
	if diff := cmp.Diff("l list of string\no object\n  x object\n    y int64\ni list of object\n  t list of int64\n", columns(d.Schema())); diff != "" || d.Late() {
		t.Errorf("late %t, schema (-want +got):\n%s", d.Late(), diff)
	}
}

// TestClosed: what has no column, or does not fit, is in the rest, and the columns stay as they are; or
// the event is refused.
func TestClosed(t *testing.T) {
	t.Parallel()
	o := options
	o.Closed = true
	o.Types = map[string]parquet.Type{"id": {Kind: parquet.Int}, "user.name": {Kind: parquet.String}, "tags[]": {Kind: parquet.String}, "items[].price": {Kind: parquet.Decimal, Digits: 6, Scale: 2}}
	s, added, err := (&parquet.Schema{}).Declare(o)
	if err != nil || len(added) != len(o.Types) {
		t.Fatal(added, err)
	}
	want := "id int64\nitems list of object\n  price decimal\n  _rest json\ntags list of string\nuser object\n  name string\n_rest json\n"
	if diff := cmp.Diff(want, columns(s)); diff != "" {
		t.Fatalf("declared (-want +got):\n%s", diff)
	}
	if again, added, err := s.Declare(o); again != s || added != nil || err != nil {
		t.Errorf("declared again: %v, %v", added, err)
	}
	fine := []string{`{"id":1,"user":{"name":"x"},"tags":[],"items":[{"price":1.25},null]}`, `{}`, `{"user":{}}`}
	other := []string{`{"id":1.5}`, `{"id":"x","new":{"deep":[1,{"a":null}]},"new2":2}`, `{"user":{"name":5,"more":{"x":1}},"tags":["a",1]}`, `{"items":[{"price":1.255}]}`,
		`{"new":1,"new":2,"user":{"x":1},"user":{"name":"y","z":"\ud800"}}`, `{"user":7,"id":null,"k\u00e9y":true}`}
	d := parquet.NewDecoder(s, o)
	all := append(slices.Clone(fine), other...)
	all[len(all)-2] = `{"new":2,"user":{"name":"y","z":"\ufffd"}}`
	same(t, readAll(t, file(t, d, append(slices.Clone(fine), other...)...)), all)
	if d.Changed() || d.Strays() {
		t.Errorf("columns have changed:\n%s", columns(d.Schema()))
	}
	o.Refuse = true
	d = parquet.NewDecoder(s, o)
	same(t, readAll(t, file(t, d, fine...)), fine)
	for _, e := range other {
		if err := d.Decode([]byte(e)); err == nil {
			t.Errorf("%s was taken", e)
		}
	}
	// An element that the objects of a list do not have goes to the rest of that object.
	o.Refuse = false
	d = parquet.NewDecoder(s, o)
	events := []string{`{"items":[{"price":1,"sku":"a"},{"sku":"b"}]}`}
	same(t, readAll(t, file(t, d, events...)), events)
	if d.Changed() {
		t.Errorf("columns have changed:\n%s", columns(d.Schema()))
	}
}

// TestDeclareRefuses: types that contradict each other, or the columns that are there.
func TestDeclareRefuses(t *testing.T) {
	t.Parallel()
	d := parquet.NewDecoder(&parquet.Schema{}, options)
	file(t, d, `{"s":"x","o":{"x":1},"l":[1]}`)
	for _, paths := range [][]string{{"s.x"}, {"s[]"}, {"o"}, {"l"}, {"l[].x"}, {"a", "a.b"}, {"a", "a[]"}, {"b[x]"}, {"l[][]"}} {
		o := options
		o.Types = map[string]parquet.Type{}
		for _, p := range paths {
			o.Types[p] = parquet.Type{Kind: parquet.Bool}
		}
		if _, _, err := d.Schema().Declare(o); err == nil {
			t.Errorf("%v was taken", slices.Sorted(maps.Keys(o.Types)))
		}
	}
}
