package catalog

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/weirdata/weir/internal/parquet"
)

// View writes the statement that makes the dataset at path one view of DuckDB, called name: a
// key whose values went to several columns is one column of it again. Keys of nested objects
// stay as they are in the files.
func View(ctx context.Context, w io.Writer, path, name string) error {
	d, err := look(ctx, path)
	if err != nil {
		return err
	}
	defer d.close()
	s, err := newestSchema(ctx, d.bucket, path)
	if err != nil {
		return err
	}
	about, _, err := readDescription(ctx, d.bucket, path)
	if err != nil {
		return err
	}
	files, err := pattern(path)
	if err != nil {
		return err
	}
	var columns, units []string
	for _, f := range s.Fields {
		if f.Variant == parquet.Main {
			columns = append(columns, column(s.Fields, f))
		}
	}
	for _, unit := range about.PartitionBy {
		columns = append(columns, quoted(string(unit)))
		units = append(units, fmt.Sprintf("'%s': BIGINT", unit)) // "09" would be text to DuckDB
	}
	hive := "hive_partitioning = true"
	if len(units) > 0 {
		hive += ", hive_types = {" + strings.Join(units, ", ") + "}"
	}
	_, err = fmt.Fprintf(w, "CREATE OR REPLACE VIEW %s AS\nSELECT\n  %s\nFROM read_parquet('%s', %s, union_by_name = true);\n",
		quoted(name), strings.Join(columns, ",\n  "), strings.ReplaceAll(files, "'", "''"), hive)
	return err
}

// pattern is the files of the dataset at path, as DuckDB finds them.
func pattern(path string) (string, error) {
	p, err := parse(path)
	if err != nil {
		return "", err
	}
	if p.Local() {
		abs, err := filepath.Abs(path)
		if err != nil {
			return "", fmt.Errorf("find %s: %w", path, err)
		}
		return filepath.ToSlash(filepath.Join(abs, "**", "*.parquet")), nil
	}
	return p.DuckDB() + "/**/*.parquet", nil
}

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
