// Package conversion is the transform "formatConversion": it reads JSON records as a table of Hive does,
// by the columns that the table declares, as Amazon Data Firehose does before it writes Parquet. What
// it writes is JSON with those columns, in their types; the target "lake" makes Parquet of it.
//
// # Deserialisers
//
// "openx" (the OpenX JSON SerDe) finds keys whatever their case, and may be told of dots in keys and of
// other names; it takes numbers and bools that are written as text, makes text of anything for a
// string, and reads timestamps as ISO 8601, as "yyyy-M-d HH:mm:ss", or as seconds or milliseconds since
// 1970. "hive" (the Hive JSON SerDe) takes no number that is written as text, and reads timestamps as
// "yyyy-MM-dd HH:mm:ss" or in the formats that it is told.
//
// # Invariants
//
//   - A record whose value does not fit its column is invalid as a whole, and whole in the failure
//     target (format-conversion-failed). No value is cut, rounded to another integer, or made null.
//   - A column whose key is absent or null is left out.
//   - A key without a column is left out, as with Firehose, or makes the record invalid, as
//     unknown_keys says.
//   - A record with two keys for one column is as its later one says.
package conversion

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/firehose"
	"github.com/weirdata/weir/internal/firehose/prefix"
	"github.com/weirdata/weir/internal/jsontext"
)

// Config is the transform's HCL block.
type Config struct {
	// Columns are those of the table with their types, as Hive and Glue declare them: { id = "bigint",
	// at = "timestamp", tags = "array<string>", user = "struct<id:bigint,name:string>" }. Names are
	// lower-case letters, digits and _. Types are boolean, tinyint, smallint, int, bigint, float, double,
	// decimal(p,s), string, char(n), varchar(n), date, timestamp, array<...>, map<string,...> and
	// struct<name:...>.
	Columns map[string]string `hcl:"columns"`
	// Deserializer says by which rules records are read: "openx" (default), or "hive".
	Deserializer string `hcl:"deserializer,optional"`
	// CaseInsensitive finds keys whatever their case; true by default. For openx; hive always does.
	CaseInsensitive *bool `hcl:"case_insensitive,optional"`
	// ConvertDotsInJSONKeysToUnderscores finds the key "a.b" for the column a_b; off by default. For
	// openx.
	ConvertDotsInJSONKeysToUnderscores bool `hcl:"convert_dots_in_json_keys_to_underscores,optional"`
	// ColumnToJSONKeyMappings are the keys of columns that are called otherwise: { ts = "timestamp" }.
	// For openx.
	ColumnToJSONKeyMappings map[string]string `hcl:"column_to_json_key_mappings,optional"`
	// TimestampFormats are the patterns of timestamps, in the letters of Java, or "millis" for
	// milliseconds since 1970; the first that fits counts. For hive.
	TimestampFormats []string `hcl:"timestamp_formats,optional"`
	// UnknownKeys says what becomes of a key without a column: "drop" (default) leaves it out, as
	// Firehose does; "invalid" makes the record invalid.
	UnknownKeys string `hcl:"unknown_keys,optional"`
}

const (
	openx, hive   = "openx", "hive"
	drop, invalid = "drop", "invalid"
	millis        = "millis"
)

// Validate implements connector.Validator.
func (c Config) Validate() []connector.Problem {
	var ps []connector.Problem
	refuse := func(field, fix, format string, args ...any) {
		ps = append(ps, connector.Problem{Field: field, What: fmt.Sprintf(format, args...), Fix: fix})
	}
	if len(c.Columns) == 0 {
		refuse("columns", `write columns = { id = "bigint" }`, "columns declares none")
	}
	for _, name := range sorted(c.Columns) {
		if name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			refuse("columns", "use lower-case letters, digits and _; column_to_json_key_mappings names a key that is otherwise", "columns has the name %q", name)
		}
		if _, err := parseType(c.Columns[name]); err != nil {
			refuse("columns", "write a type as Glue has it", "column %s: %v", name, err)
		}
	}
	if c.Deserializer != openx && c.Deserializer != hive {
		refuse("deserializer", `use "openx", or "hive"`, "deserializer must not be %q", c.Deserializer)
	}
	if c.UnknownKeys != drop && c.UnknownKeys != invalid {
		refuse("unknown_keys", `use "drop", or "invalid"`, "unknown_keys must not be %q", c.UnknownKeys)
	}
	for _, name := range sorted(c.ColumnToJSONKeyMappings) {
		if _, ok := c.Columns[name]; !ok {
			refuse("column_to_json_key_mappings", "name a column first, and then its key", "column_to_json_key_mappings has %q, which is no column", name)
		}
	}
	if c.Deserializer == hive {
		for field, set := range map[string]bool{"case_insensitive": c.CaseInsensitive != nil, "column_to_json_key_mappings": len(c.ColumnToJSONKeyMappings) > 0,
			"convert_dots_in_json_keys_to_underscores": c.ConvertDotsInJSONKeysToUnderscores} {
			if set {
				refuse(field, `take it out, or set deserializer = "openx"`, "%s is of openx, as with Firehose", field)
			}
		}
	}
	if c.Deserializer == openx && len(c.TimestampFormats) > 0 {
		refuse("timestamp_formats", `take it out, or set deserializer = "hive"`, "timestamp_formats is of hive, as with Firehose")
	}
	for _, f := range c.TimestampFormats {
		if _, err := parseFormat(f); err != nil {
			refuse("timestamp_formats", `write it as "yyyy-MM-dd HH:mm:ss"`, "timestamp_formats: %v", err)
		}
	}
	return ps
}

func sorted(m map[string]string) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Entry is the transform's place in the registry.
var Entry = connector.Of(connector.Spec[Config, connector.Transform]{
	Name:      "formatConversion",
	Summary:   "Reads JSON records by the columns of a table, by the rules of the OpenX or Hive JSON SerDe.",
	Stability: connector.Experimental,
	Default:   func() Config { return Config{Deserializer: openx, UnknownKeys: drop} },
	New: func(_ context.Context, _ connector.Deps, c Config) (connector.Transform, error) {
		r := &reader{strict: c.Deserializer == hive, unknown: c.UnknownKeys == invalid, dots: c.ConvertDotsInJSONKeysToUnderscores,
			fold: c.CaseInsensitive == nil || *c.CaseInsensitive, keys: map[string]int{}, top: &column{kind: isStruct}}
		for _, f := range c.TimestampFormats {
			layout, err := parseFormat(f)
			if err != nil {
				return nil, connector.Blame("timestamp_formats", "", err)
			}
			r.formats = append(r.formats, layout)
		}
		for i, name := range sorted(c.Columns) {
			of, err := parseType(c.Columns[name])
			if err != nil {
				return nil, connector.Blame("columns", "", err)
			}
			r.top.names, r.top.fields = append(r.top.names, name), append(r.top.fields, of)
			key := name
			if mapped := c.ColumnToJSONKeyMappings[name]; mapped != "" {
				key = mapped
			}
			r.keys[r.folded(key)] = i
		}
		return connector.Stateless(r), nil
	},
})

// reader reads records.
type reader struct {
	strict, unknown, dots, fold bool
	top                         *column
	keys                        map[string]int // the column of a key, as it is folded
	formats                     []string       // Go's layouts, or millis
}

// folded is a key as columns are found by.
func (r *reader) folded(key string) string {
	if r.fold {
		key = strings.ToLower(key)
	}
	return key
}

// The codes of records that could not be converted, as Firehose has them.
const (
	codeParse     = "DataFormatConversion.ParseError"
	codeMalformed = "DataFormatConversion.MalformedData"
)

func refuse(code, format string, args ...any) error {
	return (&firehose.Failure{Type: firehose.ConversionFailedType, Attempts: 1, Code: code, Message: fmt.Sprintf(format, args...)}).Refuse()
}

// Apply implements connector.Worker.
func (r *reader) Apply(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
	if err := jsontext.Check(m.Data); err != nil {
		return out, refuse(codeParse, "the record is not JSON: %v", err)
	}
	data, err := r.members(make([]byte, 0, len(m.Data)), m.Data, r.top, func(key string) (int, bool) { i, ok := r.keys[key]; return i, ok })
	if err != nil {
		return out, refuse(codeMalformed, "%v", err)
	}
	m.Replace(data)
	return append(out, m), nil
}

// members appends an object with the columns of c that data, an object, has values for.
func (r *reader) members(dst, data []byte, c *column, index func(key string) (int, bool)) ([]byte, error) {
	s := jsontext.Scan(data)
	var few [32]jsontext.Member
	members, ok := s.Object(few[:0])
	if !ok {
		return dst, fmt.Errorf("%s is no object", shown(data))
	}
	values := make([][]byte, len(c.names))
	for _, m := range members {
		key := string(m.Name(data))
		i, known := index(r.folded(key))
		if !known && r.dots {
			i, known = index(r.folded(strings.ReplaceAll(key, ".", "_")))
		}
		if known {
			values[i] = m.Of(data)
		} else if r.unknown {
			return dst, fmt.Errorf("there is no column for the key %.200q", key)
		}
	}
	dst = append(dst, '{')
	first := true
	for i, value := range values {
		if value == nil || string(value) == "null" {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(jsontext.AppendString(dst, c.names[i]), ':')
		var err error
		if dst, err = r.value(dst, value, c.fields[i]); err != nil {
			return dst, fmt.Errorf("%s: %w", c.names[i], err)
		}
	}
	return append(dst, '}'), nil
}

// fields finds the fields of a struct.
func (r *reader) fields(c *column) func(string) (int, bool) {
	return func(key string) (int, bool) {
		i := slices.Index(c.names, key)
		return i, i >= 0
	}
}

const mostShown = 80

func shown(value []byte) string {
	if len(value) > mostShown {
		return string(value[:mostShown]) + "…"
	}
	return string(value)
}

// parseFormat is a pattern as Go's layouts have it.
func parseFormat(text string) (string, error) {
	if text == millis {
		return millis, nil
	}
	if _, err := prefix.ParseLayout(text); err != nil {
		return "", err
	}
	return goLayout(text)
}
