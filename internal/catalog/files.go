package catalog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"golang.org/x/sync/errgroup"

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
	records, err := s.d.records(ctx, s.Files)
	if err != nil {
		return err
	}
	all := make([]FileSummary, len(s.Files))
	for i, f := range s.Files {
		all[i] = FileSummary{f.Name, records[i]}
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
		if err := View(ctx, w, p, name, false); err != nil || distinct == "" {
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

// recordsAtOnce is how many records are read at a time.
const recordsAtOnce = 16

// records are those of the files, in their order.
func (d reading) records(ctx context.Context, files []blob.Info) ([]Record, error) {
	out := make([]Record, len(files))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(recordsAtOnce)
	for i, file := range files {
		g.Go(func() (err error) {
			out[i], err = d.recordFor(ctx, file)
			return err
		})
	}
	return out, g.Wait()
}

// recordFor is the record of a data file; without one, what the file itself says.
func (d reading) recordFor(ctx context.Context, file blob.Info) (Record, error) {
	name := recordName(folderOf(file.Name), strings.TrimSuffix(base(file.Name), suffix))
	r, _, err := readRecord(ctx, d.bucket, name, at(d.path, name), false)
	if stale := d.about.Adopted != nil && err == nil && (r.Bytes != file.Size || !r.Seen.Equal(file.Modified)); !stale && !errors.Is(err, fs.ErrNotExist) {
		return r, err
	}
	if d.isJSON(file.Name) {
		rows, _, err := d.eachObject(ctx, file, func([]byte) error { return nil })
		return Record{Rows: rows, Bytes: file.Size}, err
	}
	data, err := d.open(ctx, file)
	if err != nil {
		return r, err
	}
	defer func() { _ = data.Close() }() // only read
	rows, err := parquet.CountRows(data, file.Size)
	if err != nil {
		err = fmt.Errorf("read %s: %w", at(d.path, file.Name), err)
	}
	return Record{Rows: rows, Bytes: file.Size}, err
}
