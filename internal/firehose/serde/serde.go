// Package serde reads JSON records as a table of Hive does, by the columns that the table declares, as
// Amazon Data Firehose does before it writes Parquet.
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
//   - A record whose value does not fit its column is refused as a whole ([firehose.Failure], of the
//     type format-conversion-failed). No value is cut, rounded to another integer, or made null.
//   - A column whose key is absent or null is left out.
//   - A key without a column is left out, as with Firehose, or makes the record invalid, as
//     unknown_keys says.
//   - A record with two keys for one column is as its later one says.
package serde

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/firehose"
	"github.com/weirdata/weir/internal/jsontext"
)

// Options say how records are read.
type Options struct {
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

// Defaults are the options of who says nothing else.
func Defaults() Options { return Options{Deserializer: openx, UnknownKeys: drop} }

// Column is one that a table declares.
type Column struct {
	Name string
	Type string // as Hive and Glue have it
}

// Columns are those of a map of types by name, in the order of their names.
func Columns(types map[string]string) []Column {
	all := make([]Column, 0, len(types))
	for _, name := range slices.Sorted(maps.Keys(types)) {
		all = append(all, Column{name, types[name]})
	}
	return all
}

// Problems are what is wrong with o, for columns with these types; nil for columns that are not known
// yet.
func (o Options) Problems(types map[string]string) []connector.Problem {
	var ps []connector.Problem
	refuse := func(field, fix, format string, args ...any) {
		ps = append(ps, connector.Problem{Field: field, What: fmt.Sprintf(format, args...), Fix: fix})
	}
	for _, c := range Columns(types) {
		if c.Name == "" || strings.Trim(c.Name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			refuse("columns", "use lower-case letters, digits and _; column_to_json_key_mappings names a key that is otherwise", "columns has the name %q", c.Name)
		}
		if _, err := parseType(c.Type); err != nil {
			refuse("columns", "write a type as Glue has it", "column %s: %v", c.Name, err)
		}
	}
	if o.Deserializer != openx && o.Deserializer != hive {
		refuse("deserializer", `use "openx", or "hive"`, "deserializer must not be %q", o.Deserializer)
	}
	if o.UnknownKeys != drop && o.UnknownKeys != invalid {
		refuse("unknown_keys", `use "drop", or "invalid"`, "unknown_keys must not be %q", o.UnknownKeys)
	}
	for _, name := range slices.Sorted(maps.Keys(o.ColumnToJSONKeyMappings)) {
		if _, ok := types[name]; types != nil && !ok {
			refuse("column_to_json_key_mappings", "name a column first, and then its key", "column_to_json_key_mappings has %q, which is no column", name)
		}
	}
	if o.Deserializer == hive {
		for field, set := range map[string]bool{"case_insensitive": o.CaseInsensitive != nil, "column_to_json_key_mappings": len(o.ColumnToJSONKeyMappings) > 0,
			"convert_dots_in_json_keys_to_underscores": o.ConvertDotsInJSONKeysToUnderscores} {
			if set {
				refuse(field, `take it out, or set deserializer = "openx"`, "%s is of openx, as with Firehose", field)
			}
		}
	}
	if o.Deserializer == openx && len(o.TimestampFormats) > 0 {
		refuse("timestamp_formats", `take it out, or set deserializer = "hive"`, "timestamp_formats is of hive, as with Firehose")
	}
	for _, f := range o.TimestampFormats {
		if _, err := parseFormat(f); err != nil {
			refuse("timestamp_formats", `write it as "yyyy-MM-dd HH:mm:ss"`, "timestamp_formats: %v", err)
		}
	}
	return ps
}

// New returns a reader of records as a table with these columns has them.
func New(columns []Column, o Options) (*Reader, error) {
	r := &Reader{strict: o.Deserializer == hive, unknown: o.UnknownKeys == invalid, dots: o.ConvertDotsInJSONKeysToUnderscores,
		fold: o.CaseInsensitive == nil || *o.CaseInsensitive, keys: map[string]int{}, top: &column{kind: isStruct}}
	for _, f := range o.TimestampFormats {
		layout, err := parseFormat(f)
		if err != nil {
			return nil, connector.Blame("timestamp_formats", "", err)
		}
		r.formats = append(r.formats, layout)
	}
	for i, c := range columns {
		of, err := parseType(c.Type)
		if err != nil {
			return nil, connector.Blame("columns", "", fmt.Errorf("column %s: %w", c.Name, err))
		}
		r.top.names, r.top.fields = append(r.top.names, c.Name), append(r.top.fields, of)
		key := c.Name
		if mapped := o.ColumnToJSONKeyMappings[c.Name]; mapped != "" {
			key = mapped
		}
		r.keys[r.folded(key)] = i
	}
	return r, nil
}

// Reader reads records. Several goroutines may use it.
type Reader struct {
	strict, unknown, dots, fold bool
	top                         *column
	keys                        map[string]int // the column of a key, as it is folded
	formats                     []string       // Go's layouts, or millis
}

// folded is a key as columns are found by.
func (r *Reader) folded(key string) string {
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

// Refuse is the error of a record that is refused for what a value of it is.
func Refuse(format string, args ...any) error { return refuse(codeMalformed, format, args...) }

// Convert appends a record as JSON with the columns of the table, in their types.
func (r *Reader) Convert(dst, record []byte) ([]byte, error) {
	if err := jsontext.Check(record); err != nil {
		return dst, refuse(codeParse, "the record is not JSON: %v", err)
	}
	out, err := r.members(dst, record, r.top, func(key string) (int, bool) { i, ok := r.keys[key]; return i, ok })
	if err != nil {
		return dst, refuse(codeMalformed, "%v", err)
	}
	return out, nil
}

// members appends an object with the columns of c that data, an object, has values for.
func (r *Reader) members(dst, data []byte, c *column, index func(key string) (int, bool)) ([]byte, error) {
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
func (r *Reader) fields(c *column) func(string) (int, bool) {
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
	return goLayout(text)
}
