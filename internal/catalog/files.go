package catalog

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/parquet"
)

// FileSummary is what is known of one file.
type FileSummary struct {
	File string `json:"file"` // relative to the dataset
	Record
}

// Files prints the files of the dataset at path: a table, or as JSON one object a line.
func Files(ctx context.Context, w io.Writer, path string, asJSON bool) error {
	s, err := Look(ctx, path)
	if err != nil {
		return err
	}
	defer s.Close()
	var all []FileSummary
	for _, f := range s.Files {
		r, err := s.Record(ctx, f)
		if err != nil {
			return err
		}
		all = append(all, FileSummary{f.Name, r})
	}
	if asJSON {
		return printJSON(w, all)
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "FILE\tROWS\tSIZE\tFIRST EVENT\tLAST EVENT\tWRITTEN\tSCHEMA")
	for _, f := range all {
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%s\t%d\n", f.File, f.Rows, size(f.Bytes), instant(f.First), instant(f.Last), instant(f.At), f.Schema)
	}
	return t.Flush()
}

// Views writes the statements that make each dataset at path a view of DuckDB, called like its
// folder. With the field distinct, each that has it is a second view, NAME_distinct, with every id
// of it once.
func Views(ctx context.Context, w io.Writer, path, distinct string) error {
	paths, err := Find(ctx, path)
	if err != nil {
		return err
	}
	var taken []string
	some := distinct == ""
	for _, p := range paths {
		name, err := Name(p)
		if err != nil {
			return err
		}
		for n, base := 2, name; slices.Contains(taken, strings.ToLower(name)); n++ {
			name = fmt.Sprintf("%s_%d", base, n)
		}
		taken = append(taken, strings.ToLower(name))
		if err := View(ctx, w, p, name); err != nil || distinct == "" {
			if err != nil {
				return err
			}
			continue
		}
		column, err := columnFor(ctx, p, distinct)
		if err != nil {
			return err
		}
		if column == "" {
			continue
		}
		some = true
		if _, err := fmt.Fprintf(w, "CREATE OR REPLACE VIEW %[1]s AS SELECT * FROM %[2]s WHERE %[3]s IS NULL UNION ALL SELECT * FROM %[2]s WHERE %[3]s IS NOT NULL QUALIFY row_number() OVER (PARTITION BY %[3]s) = 1;\n",
			quoted(name+"_distinct"), quoted(name), column); err != nil {
			return err
		}
	}
	if !some {
		return fault.New(fault.Setup, fmt.Errorf("no dataset in %s has the field %q that tells events apart", path, distinct))
	}
	return nil
}

// Name is what the dataset at path is called: like its folder.
func Name(path string) (string, error) {
	if blob.Scheme(path) != "" {
		return base(strings.TrimRight(path, "/")), nil
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("find %s: %w", path, err)
	}
	return filepath.Base(abs), nil
}

// columnFor is the column of the dataset at path that has the values of a field, as DuckDB is
// asked for it; "" when there is none.
func columnFor(ctx context.Context, path, field string) (string, error) {
	d, err := look(ctx, path)
	if err != nil {
		return "", err
	}
	defer d.close()
	s, err := newestSchema(ctx, d.bucket, path)
	if err != nil {
		return "", err
	}
	var names []string
	fields := s.Fields
	for key := range strings.SplitSeq(field, ".") {
		i := slices.IndexFunc(fields, func(f *parquet.Field) bool { return f.Key == key && f.Variant == parquet.Main })
		if i < 0 {
			return "", nil
		}
		names = append(names, quoted(fields[i].Name))
		fields = fields[i].Fields
	}
	return strings.Join(names, "."), nil
}
