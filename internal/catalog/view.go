package catalog

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/weirdata/weir/internal/parquet"
)

// View writes the statement that makes the dataset at path one view of DuckDB, called name: a
// key whose values went to several columns is one column of it again. Keys of nested objects
// stay as they are in the files. The view is of the files that the dataset has now; with pattern,
// of all that there are whenever it is asked, those of a landing that is not committed among them.
func View(ctx context.Context, w io.Writer, path, name string, pattern bool) error {
	s, err := Look(ctx, path)
	if err != nil {
		return err
	}
	defer s.Close()
	text, err := s.view(name, pattern)
	if err == nil {
		_, err = io.WriteString(w, text)
	}
	return err
}

func (s *Snapshot) view(name string, pattern bool) (string, error) {
	p, err := parse(s.Path)
	if err != nil {
		return "", err
	}
	root := p.DuckDB()
	if p.Local() {
		if root, err = filepath.Abs(s.Path); err != nil {
			return "", fmt.Errorf("find %s: %w", s.Path, err)
		}
		root = filepath.ToSlash(root)
	}
	files := literal(root + "/**/*" + suffix)
	if len(s.Files) > 0 && (!pattern || s.d.about.Adopted != nil) {
		names := make([]string, len(s.Files))
		for i, f := range s.Files {
			names[i] = literal(root + "/" + f.Name)
		}
		files = "[" + strings.Join(names, ", ") + "]"
	}
	lines := s.d.about.Adopted != nil && s.d.about.Adopted.Files == jsonFiles
	how, columns := s.duckKeys(), []string(nil)
	note := ""
	var rest *parquet.Field
	for _, f := range s.Schema.Fields {
		if f.Variant == parquet.Rest {
			rest = f
		}
	}
	for _, f := range s.Schema.Fields {
		switch {
		case lines && f.Key == malformed:
			note = "-- What is no JSON object is not in this view.\n"
			how = append(how, "ignore_errors = true")
		case lines && f.Variant == parquet.Main:
			columns = append(columns, quoted(f.Key)+" AS "+quoted(f.Name))
		case f.Variant == parquet.Main && hasValues(s.Schema.Fields, f):
			columns = append(columns, column(s.Schema.Fields, f))
		case f.Variant == parquet.Main && rest != nil:
			columns = append(columns, fmt.Sprintf("json_extract(%s, %s) AS %s", quoted(rest.Name), literal("/"+strings.NewReplacer("~", "~0", "/", "~1").Replace(f.Key)), quoted(f.Name)))
		}
	}
	if rest != nil && !lines {
		columns = append(columns, quoted(rest.Name))
	}
	for _, k := range s.Keys() {
		if slices.ContainsFunc(s.Schema.Fields, func(f *parquet.Field) bool { return strings.EqualFold(f.Name, k.Name) }) {
			continue
		}
		columns = append(columns, duckKey(k, root))
	}
	if len(columns) == 0 {
		columns = []string{"*"}
	}
	read := "read_parquet"
	if lines {
		read, how = "read_json", append(how, "format = 'newline_delimited'", "sample_size = -1")
	}
	return fmt.Sprintf("%sCREATE OR REPLACE VIEW %s AS\nSELECT\n  %s\nFROM %s(%s, %s, union_by_name = true);\n",
		note, quoted(name), strings.Join(columns, ",\n  "), read, files, strings.Join(how, ", ")), nil
}

// hasValues reports whether files have a column with values of the key of f.
func hasValues(fields []*parquet.Field, f *parquet.Field) bool {
	return f.Kind != parquet.Unknown || slices.ContainsFunc(fields, func(v *parquet.Field) bool { return v.Key == f.Key && v.Kind != parquet.Unknown })
}

const duckFile = "_weir_file"

// duckKeys is how DuckDB finds the columns in the names of folders.
func (s *Snapshot) duckKeys() (how []string) {
	var types []string
	bare := false
	for _, k := range s.Keys() {
		if k.depth() >= 0 {
			bare = true
			continue
		}
		kind := "VARCHAR"
		if k.Kind == parquet.Int {
			kind = "BIGINT" // "09" would be text to DuckDB
		}
		types = append(types, fmt.Sprintf("%s: %s", literal(k.Name), kind))
	}
	switch {
	case len(types) > 0:
		how = append(how, "hive_partitioning = true, hive_types = {"+strings.Join(types, ", ")+"}")
	default:
		how = append(how, fmt.Sprintf("hive_partitioning = %t", s.d.about.Adopted == nil))
	}
	if bare {
		how = append(how, "filename = "+literal(duckFile))
	}
	return how
}

// duckKey is a column in the names of folders as DuckDB is asked for it.
func duckKey(k Key, root string) string {
	depth := k.depth()
	if depth < 0 {
		return quoted(k.Name)
	}
	part := fmt.Sprintf("split_part(substr(%s, %d), '/', %d)", quoted(duckFile), utf8.RuneCountInString(root)+2, depth+1)
	if k.Kind == parquet.Int {
		part = "CAST(" + part + " AS BIGINT)"
	}
	return part + " AS " + quoted(k.Name)
}

func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// column is the values of the key of f as one column: numbers of two kinds are a DOUBLE, values
// of several types are JSON.
func column(fields []*parquet.Field, f *parquet.Field) string {
	var number, other *parquet.Field
	for _, v := range fields {
		switch {
		case v.Key != f.Key:
		case v.Variant == parquet.AsDouble:
			number = v
		case v.Variant == parquet.AsJSON:
			other = v
		}
	}
	as := " AS " + quoted(f.Name)
	switch {
	case number == nil && other == nil:
		return quoted(f.Name)
	case other == nil:
		return fmt.Sprintf("coalesce(%s, CAST(%s AS DOUBLE))", quoted(number.Name), quoted(f.Name)) + as
	case f.Kind == parquet.Unknown:
		return quoted(other.Name) + as
	}
	var b strings.Builder
	b.WriteString("CASE")
	for _, v := range []*parquet.Field{f, number} {
		if v != nil {
			fmt.Fprintf(&b, " WHEN %[1]s IS NOT NULL THEN to_json(%[1]s)", quoted(v.Name))
		}
	}
	fmt.Fprintf(&b, " ELSE CAST(%s AS JSON) END", quoted(other.Name))
	return b.String() + as
}

func quoted(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
