package conversion_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/firehose"
	"github.com/weirdata/weir/internal/transform/conversion"
)

func TestExamples(t *testing.T) { conntest.Examples(t, conntest.One(conversion.Entry), "../../..") }

func build(t testing.TB, change func(*conversion.Config)) (connector.Transform, []connector.Problem) {
	t.Helper()
	var ps []connector.Problem
	tr, err := conversion.Entry.Build(t.Context(), connector.Deps{}, func(into any) error {
		c := into.(*conversion.Config)
		change(c)
		if ps = c.Validate(); len(ps) > 0 {
			return errors.New(ps[0].What)
		}
		return nil
	})
	if err != nil && len(ps) == 0 {
		t.Fatal(err)
	}
	return tr, ps
}

// TestValues: what a value becomes in a column of a type, by both deserialisers; empty is a record that
// is invalid.
func TestValues(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ kind, in, openx, hive string }{
		{"boolean", `true`, `true`, `true`},
		{"boolean", `"FALSE"`, `false`, ``},
		{"boolean", `1`, ``, ``},
		{"tinyint", `127`, `127`, `127`},
		{"tinyint", `128`, ``, ``},
		{"tinyint", `-128`, `-128`, `-128`},
		{"smallint", `40000`, ``, ``},
		{"int", `2147483647`, `2147483647`, `2147483647`},
		{"int", `2147483648`, ``, ``},
		{"int", `1.0`, `1`, `1`},
		{"int", `1.5`, ``, ``},
		{"int", `"42"`, `42`, ``},
		{"int", `"x"`, ``, ``},
		{"int", `[1]`, ``, ``},
		{"bigint", `9223372036854775807`, `9223372036854775807`, `9223372036854775807`},
		{"bigint", `9223372036854775808`, ``, ``},
		{"bigint", `1e3`, `1000`, `1000`},
		{"bigint", `1e30`, ``, ``},
		{"double", `1.25`, `1.25`, `1.25`},
		{"float", `"1.25"`, `1.25`, ``},
		{"double", `"NaN"`, ``, ``},
		{"double", `1e999`, ``, ``},
		{"decimal(5,2)", `123.45`, `123.45`, `123.45`},
		{"decimal(5,2)", `1`, `1.00`, `1.00`},
		{"decimal(5,2)", `1234`, ``, ``},
		{"decimal(5,2)", `1.234`, ``, ``},
		{"decimal(5,2)", `"7.5"`, `7.50`, ``},
		{"decimal(5,2)", `1e999999999`, ``, ``},
		{"decimal(38,0)", `12345678901234567890123456789012345678`, `12345678901234567890123456789012345678`, `12345678901234567890123456789012345678`},
		{"decimal", `1.5`, ``, ``},
		{"string", `"a\u00e9\"b"`, `"aé\"b"`, `"aé\"b"`},
		{"string", `12.50`, `"12.50"`, `"12.50"`},
		{"string", `false`, `"false"`, `"false"`},
		{"string", `{"a": [1, 2]}`, `"{\"a\":[1,2]}"`, ``},
		{"varchar(3)", `"äöü"`, `"äöü"`, `"äöü"`},
		{"varchar(3)", `"abcd"`, ``, ``},
		{"date", `"2026-02-28"`, `"2026-02-28"`, `"2026-02-28"`},
		{"date", `"2026-02-30"`, ``, ``},
		{"date", `20260228`, ``, ``},
		{"timestamp", `"2017-02-07T15:13:01.39256Z"`, `"2017-02-07T15:13:01.39256Z"`, ``},
		{"timestamp", `"2017-02-07T15:13:01+02:00"`, `"2017-02-07T13:13:01Z"`, ``},
		{"timestamp", `"2017-2-7 15:13:01.123456789"`, `"2017-02-07T15:13:01.123456789Z"`, ``},
		{"timestamp", `"2017-02-07 15:13:01.5"`, `"2017-02-07T15:13:01.5Z"`, `"2017-02-07T15:13:01.5Z"`},
		{"timestamp", `1518033528`, `"2018-02-07T19:58:48Z"`, ``},
		{"timestamp", `1518033528123`, `"2018-02-07T19:58:48.123Z"`, ``},
		{"timestamp", `1518033528.123`, `"2018-02-07T19:58:48.123Z"`, ``},
		{"timestamp", `"1518033528"`, `"2018-02-07T19:58:48Z"`, ``},
		{"timestamp", `-1.5`, `"1969-12-31T23:59:58.5Z"`, ``},
		{"timestamp", `99999999999999999`, ``, ``},
		{"timestamp", `"yesterday"`, ``, ``},
		{"timestamp", `true`, ``, ``},
		{"array<int>", `[1, null, 3]`, `[1,null,3]`, `[1,null,3]`},
		{"array<int>", `[]`, `[]`, `[]`},
		{"array<int>", `[1,"2"]`, `[1,2]`, ``},
		{"array<int>", `1`, ``, ``},
		{"map<string,int>", `{"A b":1,"c":null}`, `{"A b":1,"c":null}`, `{"A b":1,"c":null}`},
		{"map<string,int>", `{"a":"x"}`, ``, ``},
		{"map<string,int>", `[1]`, ``, ``},
		{"struct<id:int,name:string>", `{"NAME":"n","ID":1,"more":[{}]}`, `{"id":1,"name":"n"}`, `{"id":1,"name":"n"}`},
		{"struct<id:int>", `"x"`, ``, ``},
		{"array<struct<at:timestamp,tags:array<string>>>", `[{"at":0,"tags":[1]}]`, `[{"at":"1970-01-01T00:00:00Z","tags":["1"]}]`, ``},
	} {
		for deserializer, want := range map[string]string{"openx": row.openx, "hive": row.hive} {
			tr, ps := build(t, func(c *conversion.Config) {
				c.Columns, c.Deserializer = map[string]string{"v": row.kind}, deserializer
			})
			if len(ps) > 0 {
				t.Fatal(ps)
			}
			in := `{"V": ` + row.in + `}`
			m := event.New([]byte(in))
			out, err := conntest.Worker(t, tr).Apply(t.Context(), nil, m)
			if want == "" {
				f, ok := errors.AsType[*firehose.Failure](err)
				if !ok || f.Type != firehose.ConversionFailedType || f.Code != "DataFormatConversion.MalformedData" || fault.Of(err) != fault.Invalid || string(m.Data) != in {
					t.Errorf("%s, %s of %s: %s, %v", deserializer, row.kind, row.in, m.Data, err)
				}
				continue
			}
			if err != nil || len(out) != 1 || string(m.Data) != `{"v":`+want+`}` || !json.Valid(m.Data) {
				t.Errorf("%s, %s of %s is %s (%v), want %s", deserializer, row.kind, row.in, m.Data, err, want)
			}
		}
	}
}

// TestKeys: which key is which column.
func TestKeys(t *testing.T) {
	t.Parallel()
	no := false
	for _, row := range []struct {
		name     string
		change   func(*conversion.Config)
		in, want string
	}{
		{"absent and null", func(*conversion.Config) {}, `{"b":null}`, `{}`},
		{"the later one", func(*conversion.Config) {}, `{"a":1,"A":2}`, `{"a":"2"}`},
		{"others go", func(*conversion.Config) {}, `{"x":1,"b":"c"}`, `{"b":"c"}`},
		{"others are refused", func(c *conversion.Config) { c.UnknownKeys = "invalid" }, `{"x":1,"b":"c"}`, ``},
		{"case", func(c *conversion.Config) { c.CaseInsensitive = &no }, `{"A":1,"b":2}`, `{"b":"2"}`},
		{"dots", func(c *conversion.Config) {
			c.Columns["u_id"], c.ConvertDotsInJSONKeysToUnderscores = "int", true
		}, `{"U.id":1}`, `{"u_id":1}`},
		{"no dots", func(c *conversion.Config) { c.Columns["u_id"] = "int" }, `{"u.id":1}`, `{}`},
		{"mapped", func(c *conversion.Config) { c.ColumnToJSONKeyMappings = map[string]string{"a": "Time Stamp"} }, `{"time stamp":1,"a":2}`, `{"a":"1"}`},
		{"escapes", func(*conversion.Config) {}, `{"\u0061":1}`, `{"a":"1"}`},
		{"no JSON", func(*conversion.Config) {}, `{"a":1`, ``},
		{"two", func(*conversion.Config) {}, `{"a":1}{"a":2}`, ``},
		{"an array", func(*conversion.Config) {}, `[{"a":1}]`, ``},
		{"nothing", func(*conversion.Config) {}, ``, ``},
		{"formats", func(c *conversion.Config) {
			c.Columns = map[string]string{"a": "timestamp", "b": "timestamp"}
			c.Deserializer, c.TimestampFormats = "hive", []string{"dd/MMM/yyyy'T'HH:mm:ss.SSS", "millis"}
		}, `{"a":"07/Feb/2018T19:58:48.123","b":1518033528123}`, `{"a":"2018-02-07T19:58:48.123Z","b":"2018-02-07T19:58:48.123Z"}`},
	} {
		tr, ps := build(t, func(c *conversion.Config) {
			c.Columns = map[string]string{"a": "string", "b": "string"}
			row.change(c)
		})
		if len(ps) > 0 {
			t.Fatalf("%s: %v", row.name, ps)
		}
		m := event.New([]byte(row.in))
		_, err := conntest.Worker(t, tr).Apply(t.Context(), nil, m)
		if (err != nil) != (row.want == "") || err == nil && string(m.Data) != row.want {
			t.Errorf("%s: %s, %v; want %s", row.name, m.Data, err, row.want)
		}
	}
}

func TestConformance(t *testing.T) {
	conntest.Transform(t, conntest.TransformCase{
		New: func(t *testing.T) connector.Transform {
			tr, _ := build(t, func(c *conversion.Config) {
				c.Columns = map[string]string{"a": "array<map<string,int>>", "b": "timestamp"}
			})
			return tr
		},
		Inputs: [][]byte{[]byte(`{"a":[{"x":1}],"b":7}`)},
	})
}

func TestValidate(t *testing.T) {
	t.Parallel()
	yes := true
	for _, row := range []struct {
		field  string
		change func(*conversion.Config)
	}{
		{"columns", func(c *conversion.Config) { c.Columns = nil }},
		{"columns", func(c *conversion.Config) { c.Columns = map[string]string{"A": "int"} }},
		{"columns", func(c *conversion.Config) { c.Columns = map[string]string{"a": "uuid"} }},
		{"columns", func(c *conversion.Config) { c.Columns = map[string]string{"a": "array<int"} }},
		{"columns", func(c *conversion.Config) { c.Columns = map[string]string{"a": "map<int,int>"} }},
		{"columns", func(c *conversion.Config) { c.Columns = map[string]string{"a": "struct<a:int,a:int>"} }},
		{"columns", func(c *conversion.Config) { c.Columns = map[string]string{"a": "struct<>"} }},
		{"columns", func(c *conversion.Config) { c.Columns = map[string]string{"a": "decimal(50,2)"} }},
		{"columns", func(c *conversion.Config) { c.Columns = map[string]string{"a": "int>"} }},
		{"columns", func(c *conversion.Config) {
			c.Columns = map[string]string{"a": strings.Repeat("array<", 100) + "int" + strings.Repeat(">", 100)}
		}},
		{"deserializer", func(c *conversion.Config) { c.Deserializer = "avro" }},
		{"unknown_keys", func(c *conversion.Config) { c.UnknownKeys = "keep" }},
		{"column_to_json_key_mappings", func(c *conversion.Config) { c.ColumnToJSONKeyMappings = map[string]string{"x": "y"} }},
		{"case_insensitive", func(c *conversion.Config) { c.Deserializer, c.CaseInsensitive = "hive", &yes }},
		{"timestamp_formats", func(c *conversion.Config) { c.TimestampFormats = []string{"millis"} }},
		{"timestamp_formats", func(c *conversion.Config) { c.Deserializer, c.TimestampFormats = "hive", []string{"YYYY-MM-dd"} }},
	} {
		_, ps := build(t, func(c *conversion.Config) {
			c.Columns = map[string]string{"a": "int"}
			row.change(c)
		})
		if len(ps) != 1 || ps[0].Field != row.field || ps[0].Fix == "" {
			t.Errorf("%s: %v", row.field, ps)
		}
	}
}

// FuzzApply: whatever a record is, it is refused as it was or becomes JSON.
func FuzzApply(f *testing.F) {
	f.Add([]byte(`{"a":[1,"2"],"b":{"x":"2026-01-01T00:00:00Z"},"c":{"k":1.5}}`))
	f.Add([]byte(`{"a":[ ]  , "c" : {"k": "\ud800"}}`))
	tr, _ := build(f, func(c *conversion.Config) {
		c.Columns = map[string]string{"a": "array<string>", "b": "struct<x:timestamp>", "c": "map<string,decimal(20,5)>"}
	})
	w := conntest.Worker(f, tr)
	f.Fuzz(func(t *testing.T, data []byte) {
		m := event.New(data)
		if _, err := w.Apply(t.Context(), nil, m); err == nil && !json.Valid(m.Data) {
			t.Errorf("%q became %q", data, m.Data)
		} else if err != nil && !bytes.Equal(m.Data, data) {
			t.Errorf("%q was changed and refused", data)
		}
	})
}
