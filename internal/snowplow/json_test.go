package snowplow

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/jsontext"
)

// lineOf is an event with the given fields, by name, and nothing else.
func lineOf(pairs ...string) []byte {
	var parts [NumFields]string
	for i := 0; i < len(pairs); i += 2 {
		f, ok := FieldOf(pairs[i])
		if !ok {
			panic("no field " + pairs[i])
		}
		parts[f] = pairs[i+1]
	}
	return []byte(strings.Join(parts[:], "\t"))
}

func entities(list ...string) string {
	return `{"schema":"iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-0","data":[` + strings.Join(list, ",") + `]}`
}

func entityOf(schema, data string) string {
	return fmt.Sprintf(`{"schema":"iglu:%s","data":%s}`, schema, data)
}

func TestAppendJSON(t *testing.T) {
	t.Parallel()
	page := "com.acme/webPage/jsonschema/1-0-2"
	tests := []struct {
		name  string
		pairs []string
		want  string
	}{
		{"nothing", nil, `{}`},
		{"strings keep their kind", []string{"app_id", "a", "se_value", "1.50", "br_colordepth", "24"}, `{"app_id":"a","se_value":"1.50","br_colordepth":"24"}`},
		{"escapes", []string{"page_title", "\"q\" \\ <b> & \u2028 \x01\n\r é 椅 \xff\xfe", "app_id", "plain"},
			`{"app_id":"plain","page_title":"\"q\" \\ <b> & ` + "\u2028" + ` \u0001\n\r é 椅 ` + "\uFFFD\uFFFD" + `"}`},
		{"integers", []string{"txn_id", "7", "page_urlport", "+80", "doc_width", "0", "doc_height", "007"}, `{"txn_id":7,"page_urlport":80,"doc_width":0,"doc_height":7}`},
		{"doubles", []string{"geo_latitude", "-23.5475", "geo_longitude", "46.50", "tr_total", "1e3", "tr_tax", "0.0000001", "tr_shipping", "12345678901234567890"},
			`{"geo_latitude":-23.5475,"geo_longitude":46.5,"tr_total":1000,"tr_tax":1e-07,"tr_shipping":12345678901234567000}`},
		{"booleans", []string{"br_cookies", "1", "dvce_ismobile", "0", "br_features_pdf", "true"}, `{"br_features_pdf":true,"br_cookies":true,"dvce_ismobile":false}`},
		{"timestamps", []string{"etl_tstamp", "2026-03-02 08:00:01.640", "collector_tstamp", "2026-03-02 08:00:01", "dvce_created_tstamp", "2024-02-29 23:59:59.000", "true_tstamp", "2026-12-31 00:00:00.123456789"},
			`{"etl_tstamp":"2026-03-02T08:00:01.64Z","collector_tstamp":"2026-03-02T08:00:01Z","dvce_created_tstamp":"2024-02-29T23:59:59Z","true_tstamp":"2026-12-31T00:00:00.123456789Z"}`},
		{"contexts behind atomic fields, grouped", []string{"true_tstamp", "2026-03-02 08:00:01",
			"contexts", entities(entityOf(page, `{"a":1.0}`), entityOf("org.w3/Performance_Timing/jsonschema/2-0-0", `{}`), entityOf(page, `{"a": [1, " x "] }`))},
			`{"true_tstamp":"2026-03-02T08:00:01Z","contexts_com_acme_web_page_1":[{"a":1.0},{"a":[1," x "]}],"contexts_org_w3_performance_timing_2":[{}]}`},
		{"derived takes the place of context", []string{"contexts", entities(entityOf(page, `{"a":1}`), entityOf("x-y/z-z/jsonschema/1-0-0", `null`)), "derived_contexts", entities(entityOf(page, `{"a":2}`))},
			`{"contexts_x-y_z-z_1":[null],"contexts_com_acme_web_page_1":[{"a":2}]}`},
		{"unstruct", []string{"unstruct_event", entityOf("com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0", entityOf("com.Acme/ABTest/jsonschema/10-2-3", `{"k":"\u00e9\/"}`)), "derived_contexts", entities(entityOf(page, `{}`))},
			`{"unstruct_event_com_acme_a_b_test_10":{"k":"\u00e9\/"},"contexts_com_acme_web_page_1":[{}]}`},
		{"the last data counts", []string{"contexts", `{"data":[{}],"data":[` + entityOf(page, `{"n":1}`) + `]}`}, `{"contexts_com_acme_web_page_1":[{"n":1}]}`},
		{"null contexts", []string{"contexts", "null", "derived_contexts", `{"data":null}`, "app_id", "a"}, `{"app_id":"a"}`},
		{"bad UTF-8 in data", []string{"contexts", entities(entityOf(page, "{\"a\":\"\xff\xff\"}"))}, "{\"contexts_com_acme_web_page_1\":[{\"a\":\"\uFFFD\uFFFD\"}]}"},
		{"line ends in data", []string{"contexts", entities(entityOf(page, "{\n \"a\\\" \":\r\n1}"))}, `{"contexts_com_acme_web_page_1":[{"a\" ":1}]}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			line := lineOf(tt.pairs...)
			checkLine(t, line)
			e, err := Parse(line)
			if err != nil {
				t.Fatal(err)
			}
			got, err := e.AppendJSON([]byte("before "))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff("before "+tt.want, string(got)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestAppendJSONErrors(t *testing.T) {
	t.Parallel()
	page := "com.acme/page/jsonschema/1-0-2"
	tests := []struct{ field, value, want string }{
		{"collector_tstamp", "2026-02-30 08:00:00", `field collector_tstamp: "2026-02-30 08:00:00" is not a timestamp like 2006-01-02 15:04:05.999`},
		{"collector_tstamp", "2026-02-20T08:00:00", `field collector_tstamp: "2026-02-20T08:00:00" is not a timestamp like 2006-01-02 15:04:05.999`},
		{"txn_id", "1.5", `field txn_id: "1.5" is not an integer`},
		{"txn_id", "99999999999999999999", `field txn_id: "99999999999999999999" is not an integer`},
		{"geo_latitude", "north", `field geo_latitude: "north" is not a finite number`},
		{"geo_latitude", "NaN", `field geo_latitude: "NaN" is not a finite number`},
		{"br_cookies", "yes", `field br_cookies: "yes" is not a boolean like 0 or 1`},
		{"contexts", `{"data":[}`, `field contexts: invalid JSON at byte 9: expected a value`},
		{"contexts", `{"data":[]`, `field contexts: invalid JSON at byte 10: unexpected end`},
		{"contexts", `{"data":[]}x`, `field contexts: invalid JSON at byte 11: text after the value`},
		{"contexts", `[]`, `field contexts: JSON before byte 2: expected an object`},
		{"contexts", `{"data":{}}`, `field contexts: JSON before byte 10: expected "data" as an array`},
		{"contexts", `{"data":[1]}`, `field contexts: JSON before byte 10: expected an entity as an object`},
		{"contexts", entities(entityOf(page, `[1]`)), `field contexts: JSON before byte 140: expected an entity's "data" as an object`},
		{"contexts", entities(`{"schema":7}`), `field contexts: JSON before byte 93: expected "schema" as a string`},
		{"contexts", entities(entityOf(page, `{"a":01}`)), `field contexts: invalid JSON at byte 143: expected ',' or '}'`},
		{"contexts", entities(entityOf(page, `{}`), entityOf("acme/page/1-0-0", `{}`)),
			`field contexts: entity 1: schema "iglu:acme/page/1-0-0" is not iglu:vendor/name/format/model-revision-addition: it has 3 parts`},
		{"derived_contexts", entities(`{}`), `field derived_contexts: entity 0: schema "" is not iglu:vendor/name/format/model-revision-addition: it does not start with "iglu:"`},
		{"unstruct_event", `{"data":`, `field unstruct_event: invalid JSON at byte 8: unexpected end`},
		{"unstruct_event", `null`, `field unstruct_event: JSON before byte 4: expected an object`},
		{"unstruct_event", entityOf("x", entityOf("a/b/c/0-0-0", `{}`)), `field unstruct_event: schema "iglu:a/b/c/0-0-0" is not iglu:vendor/name/format/model-revision-addition: version`},
	}
	for _, tt := range tests {
		line := lineOf("app_id", "a", tt.field, tt.value)
		checkLine(t, line)
		e, err := Parse(line)
		if err != nil {
			t.Fatal(err)
		}
		got, err := e.AppendJSON([]byte("x"))
		if err == nil || err.Error() != tt.want {
			t.Errorf("%s %q:\n got error %v\nwant       %s", tt.field, tt.value, err, tt.want)
		}
		if string(got) != "x" {
			t.Errorf("%s: dst was left as %q", tt.field, got)
		}
	}
}

func TestNesting(t *testing.T) {
	t.Parallel()
	deep := func(n int) string {
		return entities(entityOf("com.acme/page/jsonschema/1-0-0", `{"a":`+strings.Repeat("[", n)+strings.Repeat("]", n)+`}`))
	}
	e, _ := Parse(lineOf("contexts", deep(jsontext.MaxDepth-4)))
	if out, err := e.AppendJSON(nil); err != nil || !json.Valid(out) {
		t.Errorf("depth of the limit: %v", err)
	}
	e, _ = Parse(lineOf("contexts", deep(jsontext.MaxDepth-3)))
	if _, err := e.AppendJSON(nil); err == nil || !strings.Contains(err.Error(), "nested deeper than 10000") {
		t.Errorf("depth over the limit: got %v", err)
	}
}

func TestManyEntities(t *testing.T) {
	t.Parallel()
	var list []string
	for i := range 500 {
		list = append(list, entityOf(fmt.Sprintf("com.acme/page%d/jsonschema/1-0-0", i%170), fmt.Sprintf(`{"i":%d}`, i)))
	}
	checkLine(t, lineOf("contexts", entities(list...), "derived_contexts", entities(list[10:30]...)))
	checkLine(t, lineOf("contexts", entities(list[:3]...), "derived_contexts", entities(list...)))
	checkLine(t, lineOf("contexts", entities(list[:64]...), "derived_contexts", entities(list[:64]...)))
}

// checkLine compares everything this package makes of a line with the reference.
func checkLine(t interface {
	Helper()
	Errorf(string, ...any)
}, line []byte) {
	t.Helper()
	original := bytes.Clone(line)
	want, wantErr := slowMap(line)
	e, err := Parse(line)
	if err != nil {
		if bytes.Count(line, []byte("\t")) == NumFields-1 {
			t.Errorf("refused: %v", err)
		}
		return
	}
	got, err := e.AppendJSON(nil)
	if (err == nil) != (wantErr == nil) {
		t.Errorf("error %v, reference %v, of %q", err, wantErr, line)
		return
	}
	if err != nil {
		return
	}
	if !json.Valid(got) || !utf8.Valid(got) || bytes.ContainsAny(got, "\n\r\t") {
		t.Errorf("not one line of valid JSON: %q", got)
	}
	var decoded map[string]any
	if err := slowDecode(got, &decoded); err != nil {
		t.Errorf("decode %s: %v", got, err)
	}
	if diff := cmp.Diff(numbers(want), numbers(decoded)); diff != "" {
		t.Errorf("of %q (-want +got)\n%s", line, diff)
	}
	if len(got) > e.JSONSize()+len(got)/4 && utf8.Valid(line) && !bytes.ContainsAny(line, "\"\\") {
		t.Errorf("%d bytes in a buffer of %d", len(got), e.JSONSize())
	}
	checkMap(t, e, decoded, utf8.Valid(line))
	if !bytes.Equal(line, original) {
		t.Errorf("the line was written to")
	}
}

// checkMap compares Map with the decoded JSON form.
func checkMap(t interface {
	Helper()
	Errorf(string, ...any)
}, e *Event, decoded map[string]any, valid bool) {
	t.Helper()
	m, err := e.Map()
	if err != nil {
		if !strings.Contains(err.Error(), "beyond the numbers") {
			t.Errorf("map: %v", err)
		}
		return
	}
	checkKeys(t, e, m)
	if !valid {
		return // Map leaves bad UTF-8 as it stands
	}
	for name, v := range m { // a nil map is null
		if o, ok := v.(map[string]any); ok && o == nil {
			m[name] = nil
		}
		if list, ok := v.([]any); ok {
			for i, x := range list {
				if o, ok := x.(map[string]any); ok && o == nil {
					list[i] = nil
				}
			}
		}
	}
	if diff := cmp.Diff(numbers(decoded), numbers(m)); diff != "" {
		t.Errorf("map (-json +map)\n%s", diff)
	}
}

// checkKeys compares Keys and Get with Map.
func checkKeys(t interface {
	Helper()
	Errorf(string, ...any)
}, e *Event, m map[string]any) {
	t.Helper()
	keys, err := e.Keys()
	if err != nil {
		t.Errorf("keys: %v", err)
	}
	got := map[string]any{}
	for _, k := range keys {
		v, found, err := e.Get(k)
		if err != nil || !found {
			t.Errorf("get %s: %t %v", k, found, err)
		}
		got[k] = v
	}
	if len(keys) != len(got) {
		t.Errorf("a key is listed twice: %q", keys)
	}
	if diff := cmp.Diff(m, got, cmpopts.EquateNaNs()); diff != "" {
		t.Errorf("get (-map +get)\n%s", diff)
	}
}

func TestSampleAgainstReference(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../examples/snowplow/data/enriched.tsv")
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n"))
	if len(lines) != 400 {
		t.Errorf("%d lines, want 400", len(lines))
	}
	for i, line := range lines {
		if _, err := slowMap(line); err != nil {
			t.Errorf("line %d is invalid: %v", i+1, err)
		}
		checkLine(t, line)
	}
}

// anyValue makes texts that are often almost right for a field of the given kind.
func anyValue(k Kind) *rapid.Generator[string] {
	bytesOf := rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 30), func(b []byte) string { return string(b) })
	near := map[Kind][]string{
		String:   {"", "x", "\"", "é\\", "\xff", "a\nb", "longer than eight \u2028 bytes"},
		Int:      {"0", "1", "-0", "+5", "00012", "123456789012345678", "9223372036854775807", "9223372036854775808", "1e3", "-", "0x10"},
		Double:   {"0", "-0", "1.0", "1.5", "-0.1", "0.05", "00.5", ".5", "5.", "1e400", "1e-400", "NaN", "-Inf", "0x1p-2", "1_0", "123456789.123456", "123456789012345.6", "9007199254740993", "-0.0", "1e21", "123456789012345678901234"},
		Bool:     {"0", "1", "true", "F", "TRUE", "yes", "2"},
		Time:     {"2026-03-02 08:00:01.640", "2026-02-29 08:00:01", "2024-02-29 08:00:01.1", "2026-13-01 00:00:00", "2026-01-01 24:00:00", "2026-01-01 00:00:60", "2026-01-01 7:00:00", "2026-01-01 00:00:00.", "2026-01-01 00:00:00,5", "2026-01-01 00:00:00.1234567890", "0000-01-01 00:00:00", "2026-01-01 00:00:00.000", "2026-01-01 00:00:00Z"},
		Contexts: {"", "null", "{}", `{"data":null}`, `{"data":[null]}`},
		Unstruct: {"", "null", "{}", `{"data":null}`, `{"data":{"schema":"iglu:a/b/c/1-0-0"}}`},
	}[k]
	if k != Contexts && k != Unstruct {
		return rapid.OneOf(rapid.SampledFrom(near), rapid.SampledFrom(near), bytesOf)
	}
	return rapid.Custom(func(t *rapid.T) string {
		schema := rapid.SampledFrom([]string{"iglu:com.acme/page/jsonschema/1-0-0", "iglu:com.acme/PageView/jsonschema/2-1-0", "iglu:a-b.c/D_E-F/x/12-0-3", "iglu:a/b/c/1-0", "iglu:a/b/c/1-0-00", "iglu:a/b/c/0-0-0", "iglu:é/b/c/1-0-0", "http:a/b/c/1-0-0", "iglu:a/b/c/1-0-0\\n"})
		data := rapid.SampledFrom([]string{`{}`, `{"a":1}`, `null`, `[]`, `{"a":[1,{"b":null},"\u00e9\ud83d\ude00\ud800"],"a":2e5}`, "{ \"x\" :\n[ true , -0.5e+3 ] }", `{"a":1e999}`, `{"a":.5}`, `{"a":"\x"}`, "{\"\xff\":\"\x01\"}", `{"a":tru}`, `{"a":1,}`, "{\"q\":\"\xff\"}", `{"k\"ey":{"":""}}`})
		en := rapid.Custom(func(t *rapid.T) string {
			s, d := schema.Draw(t, "schema"), data.Draw(t, "data")
			return rapid.SampledFrom([]string{`{"schema":"` + s + `","data":` + d + `}`, `{"data":` + d + `, "schema":"` + s + `","more":[1]}`, `{"sch\u0065ma":"` + s + `"}`}).Draw(t, "entity")
		})
		text := rapid.SampledFrom(near).Draw(t, "plain")
		switch {
		case rapid.IntRange(0, 3).Draw(t, "shape") == 0:
		case k == Contexts:
			text = `{"schema":"x","data":[` + strings.Join(rapid.SliceOfN(en, 0, 5).Draw(t, "entities"), " ,") + `]}`
		default:
			text = `{"schema":"x","data":` + en.Draw(t, "entity") + `}`
		}
		if rapid.IntRange(0, 5).Draw(t, "damage") == 0 && text != "" { // cut or change a byte
			at := rapid.IntRange(0, len(text)-1).Draw(t, "at")
			return text[:at] + rapid.SampledFrom([]string{"", "\"", "}", "]", ",", ":", "x", "\x00", " "}).Draw(t, "by") + text[at+1:]
		}
		return text
	})
}

func TestAnyLineAgainstReference(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var parts [NumFields]string
		for range rapid.IntRange(1, 4).Draw(t, "filled") {
			f := rapid.OneOf(rapid.IntRange(0, NumFields-1), rapid.SampledFrom([]int{int(contextsField), int(unstructField), int(derivedField)})).Draw(t, "field")
			parts[f] = strings.ReplaceAll(anyValue(fields[f].kind).Draw(t, "value"), "\t", " ")
		}
		checkLine(t, []byte(strings.Join(parts[:], "\t")))
	})
}

func TestAnyBytes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 5), NumFields, NumFields).Draw(t, "fields")
		line := bytes.Join(parts, []byte("\t"))
		checkLine(t, line)
		if e, err := Parse(line); err == nil {
			for f := range Field(NumFields) {
				_, _ = e.AppendText(nil, f)
			}
		}
	})
}

func FuzzAppendJSON(f *testing.F) {
	f.Add([]byte(strings.Repeat("\t", NumFields-1)))
	f.Add(lineOf("app_id", "a", "geo_latitude", "1.50", "collector_tstamp", "2026-03-02 08:00:01.640", "br_cookies", "1",
		"contexts", entities(entityOf("com.acme/page/jsonschema/1-0-0", `{"a":[1,null]}`)),
		"unstruct_event", entityOf("x", entityOf("com.acme/PageView/jsonschema/2-1-0", `{"b":"é"}`))))
	f.Add([]byte("not\tan\tevent"))
	f.Fuzz(func(t *testing.T, line []byte) { checkLine(t, line) })
}

// FuzzContexts needs no luck to make 131 fields.
func FuzzContexts(f *testing.F) {
	f.Add(entities(entityOf("com.acme/page/jsonschema/1-0-0", `{"a":[1,null]}`)), entityOf("x", entityOf("com.acme/PageView/jsonschema/2-1-0", `{"b":"é"}`)))
	f.Add("null", `{"data":{"schema":"iglu:a/b/c/1-0-0","data":null}}`)
	f.Fuzz(func(t *testing.T, contexts, unstruct string) {
		tabless := strings.NewReplacer("\t", " ")
		checkLine(t, lineOf("contexts", tabless.Replace(contexts), "unstruct_event", tabless.Replace(unstruct)))
	})
}
