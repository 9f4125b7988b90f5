package catalog

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/parquet"
)

// Summary is what a dataset holds.
type Summary struct {
	Path       string      `json:"path"`
	Schema     int         `json:"schema_version"`
	Columns    int         `json:"columns"`
	Partitions []Partition `json:"partitions"`
	Files      int         `json:"files"`
	Rows       int64       `json:"rows"`
	Bytes      int64       `json:"bytes"`
}

// Partition is what one folder of a dataset holds.
type Partition struct {
	Path  string    `json:"path"` // relative to the dataset; "." for the dataset's own folder
	Files int       `json:"files"`
	Rows  int64     `json:"rows"`
	Bytes int64     `json:"bytes"`
	First time.Time `json:"first,omitzero"` // earliest time of an event
	Last  time.Time `json:"last,omitzero"`
}

// deepest is how many folders below the given one datasets are looked for.
const deepest = 4

// Find lists the datasets in the directory root: itself, or those below it.
func Find(root string) ([]string, error) {
	info, err := os.Stat(root)
	if err != nil {
		return nil, fault.New(fault.Setup, fmt.Errorf("look for datasets: %w", err))
	}
	if !info.IsDir() {
		return nil, fault.New(fault.Setup, fmt.Errorf("look for datasets: %s is a file; name the folder of a dataset, or one that holds datasets", root))
	}
	var found []string
	err = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return err
		}
		if _, err := os.Stat(filepath.Join(path, folder, description)); err == nil {
			found = append(found, path)
			return fs.SkipDir
		}
		rel, err := filepath.Rel(root, path)
		if err == nil && rel != "." && (strings.HasPrefix(e.Name(), ".") || strings.HasPrefix(e.Name(), "_") ||
			strings.Count(rel, string(filepath.Separator)) >= deepest-1) {
			return fs.SkipDir
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for datasets in %s: %w", root, err)
	}
	if len(found) == 0 {
		return nil, fault.New(fault.Setup, fmt.Errorf("%s holds no dataset: no folder in it has %s", root, filepath.Join(folder, description)))
	}
	return found, nil
}

// Describe says what the dataset at path holds.
func Describe(path string) (Summary, error) {
	s := Summary{Path: path}
	if _, err := readDescription(path); err != nil {
		return s, notDataset(path, err)
	}
	schema, err := newestSchema(path)
	if err != nil {
		return s, err
	}
	s.Schema, s.Columns = schema.Version, countLeaves(schema.Fields)
	at := map[string]int{}
	err = eachFile(path, func(rel string) error {
		r, err := recordFor(path, rel)
		if err != nil {
			return err
		}
		dir := filepath.ToSlash(filepath.Dir(rel))
		i, ok := at[dir]
		if !ok {
			i = len(s.Partitions)
			at[dir] = i
			s.Partitions = append(s.Partitions, Partition{Path: dir})
		}
		s.Partitions[i].add(r)
		s.Files++
		s.Rows += r.Rows
		s.Bytes += r.Bytes
		return nil
	})
	return s, err
}

func notDataset(path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.Setup, fmt.Errorf("%s is not a dataset: it has no %s", path, filepath.Join(folder, description)))
	}
	return err
}

func (p *Partition) add(r Record) {
	p.Files++
	p.Rows += r.Rows
	p.Bytes += r.Bytes
	if p.First.IsZero() || !r.First.IsZero() && r.First.Before(p.First) {
		p.First = r.First
	}
	if r.Last.After(p.Last) {
		p.Last = r.Last
	}
}

// eachFile calls f with the path, relative to the dataset, of every data file, in order.
func eachFile(path string, f func(rel string) error) error {
	err := filepath.WalkDir(path, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && p != path && (strings.HasPrefix(e.Name(), "_") || strings.HasPrefix(e.Name(), ".")) {
			return fs.SkipDir
		}
		if e.IsDir() || !strings.HasSuffix(e.Name(), suffix) {
			return nil
		}
		rel, err := filepath.Rel(path, p)
		if err != nil {
			return err
		}
		return f(rel)
	})
	if err != nil && !errors.Is(err, errEnough) {
		return fmt.Errorf("list the files of %s: %w", path, err)
	}
	return nil
}

// errEnough ends a walk early.
var errEnough = errors.New("enough")

// recordFor is the record of a data file; without one, what the file itself says.
func recordFor(path, rel string) (Record, error) {
	r, _, err := readRecord(filepath.Join(path, folder, records, strings.TrimSuffix(rel, suffix)+recSuffix), false)
	if !errors.Is(err, fs.ErrNotExist) {
		return r, err
	}
	name := filepath.Join(path, rel)
	info, err := os.Stat(name)
	if err != nil {
		return r, err
	}
	rows, err := parquet.CountRows(name)
	return Record{Rows: rows, Bytes: info.Size()}, err
}

func countLeaves(fields []*parquet.Field) int {
	n := 0
	for _, f := range fields {
		for f.Elem != nil {
			f = f.Elem
		}
		switch f.Kind {
		case parquet.Unknown:
		case parquet.Object:
			n += countLeaves(f.Fields)
		default:
			n++
		}
	}
	return n
}

// List prints the datasets in root: for a terminal a table with a line for each partition
// and one for the dataset, as JSON an array of [Summary].
func List(w io.Writer, root string, asJSON bool) error {
	paths, err := Find(root)
	if err != nil {
		return err
	}
	all := make([]Summary, len(paths))
	for i, path := range paths {
		if all[i], err = Describe(path); err != nil {
			return err
		}
	}
	if asJSON {
		return printJSON(w, all)
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "DATASET\tPARTITION\tFILES\tROWS\tSIZE\tFIRST EVENT\tLAST EVENT")
	for _, s := range all {
		for _, p := range s.Partitions {
			fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%s\t%s\t%s\n", s.Path, p.Path, p.Files, p.Rows, size(p.Bytes), instant(p.First), instant(p.Last))
		}
		fmt.Fprintf(t, "%s\t(all %d)\t%d\t%d\t%s\t\t\n", s.Path, len(s.Partitions), s.Files, s.Rows, size(s.Bytes))
	}
	return t.Flush()
}

func instant(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05")
}

// size is n as people read it.
func size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	x, i := float64(n), 0
	for x >= 1024 && i < len(units)-1 {
		x, i = x/1024, i+1
	}
	if i == 0 {
		return strconv.FormatInt(n, 10) + " B"
	}
	return strconv.FormatFloat(x, 'f', 1, 64) + " " + units[i]
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// Schema prints the columns of the dataset at path, one a line with its type and the key it
// comes from, or the newest version of the schema as JSON.
func Schema(w io.Writer, path string, asJSON bool) error {
	if _, err := readDescription(path); err != nil {
		return notDataset(path, err)
	}
	s, err := newestSchema(path)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(w, s)
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "COLUMN\tTYPE\tVALUES OF")
	printFields(t, s.Fields, "", "")
	return t.Flush()
}

func printFields(t *tabwriter.Writer, fields []*parquet.Field, column, key string) {
	for _, f := range fields {
		if f.Kind == parquet.Unknown {
			continue
		}
		from := strconv.Quote(key + f.Key)
		switch f.Variant {
		case parquet.AsDouble:
			from += " that are other numbers"
		case parquet.AsJSON:
			from += " of other types"
		}
		kind, end := f.Kind.String(), f
		for end.Elem != nil {
			end = end.Elem
			kind += " of " + end.Kind.String()
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", column+f.Name, kind, from)
		lists := strings.Repeat("[]", strings.Count(kind, " of "))
		printFields(t, end.Fields, column+f.Name+lists+".", key+f.Key+lists+".")
	}
}

// Head prints the first n rows of the dataset at path as JSON, one a line, in the order of
// the partitions.
func Head(w io.Writer, path string, n int) error {
	if _, err := readDescription(path); err != nil {
		return notDataset(path, err)
	}
	if n <= 0 {
		return nil
	}
	b := bufio.NewWriter(w)
	var row []byte
	err := eachFile(path, func(rel string) error {
		r, err := parquet.Open(filepath.Join(path, rel))
		if err != nil {
			return err
		}
		defer func() { _ = r.Close() }() // only read
		for ; n > 0; n-- {
			next, err := r.Next(row[:0])
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			row = next
			if _, err := b.Write(append(row, '\n')); err != nil {
				return err
			}
		}
		return errEnough
	})
	return errors.Join(err, b.Flush())
}

// Rows calls f with every row of the dataset at path as JSON. The row is valid until f returns.
func Rows(path string, f func(partition string, row []byte) error) error {
	var row []byte
	return eachFile(path, func(rel string) error {
		r, err := parquet.Open(filepath.Join(path, rel))
		if err != nil {
			return err
		}
		defer func() { _ = r.Close() }() // only read
		for {
			next, err := r.Next(row[:0])
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			row = next
			if err := f(filepath.ToSlash(filepath.Dir(rel)), row); err != nil {
				return err
			}
		}
	})
}

// Versions lists the versions of the schema of the dataset at path.
func Versions(path string) ([]int, error) {
	entries, err := os.ReadDir(filepath.Join(path, folder, schemas))
	if err != nil {
		return nil, notDataset(path, err)
	}
	var out []int
	for _, e := range entries {
		if v, err := strconv.Atoi(strings.TrimSuffix(e.Name(), ".json")); err == nil {
			out = append(out, v)
		}
	}
	slices.Sort(out)
	return out, nil
}
