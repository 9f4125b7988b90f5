package catalog

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/blob/place"
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
	// Written is when the newest file was.
	Written time.Time `json:"-"`
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

// Find lists the datasets at root, a folder or an address: itself, or those below it.
func Find(ctx context.Context, root string) ([]string, error) {
	p, err := parse(root)
	if err != nil {
		return nil, err
	}
	if !p.Local() {
		return findIn(ctx, root)
	}
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
		if _, err := os.Stat(at(path, description)); err == nil {
			found = append(found, path)
			return fs.SkipDir
		}
		rel, err := filepath.Rel(root, path)
		if err == nil && rel != "." && (hidden(e.Name()) ||
			strings.Count(rel, string(filepath.Separator)) >= deepest-1) {
			return fs.SkipDir
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for datasets in %s: %w", root, err)
	}
	if len(found) == 0 {
		return nil, noneIn(root)
	}
	return found, nil
}

func noneIn(root string) error {
	return fault.New(fault.Setup, fmt.Errorf("%s holds no dataset: no folder in it has %s", root, filepath.FromSlash(description)))
}

// findIn is Find in a store.
func findIn(ctx context.Context, root string) ([]string, error) {
	b, err := openToRead(ctx, root, place.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { _ = b.Close() }() // only read
	var found []string
	var search func(folder string, depth int) error
	search = func(folder string, depth int) error {
		_, err := b.Head(ctx, folder+description)
		if err == nil {
			found = append(found, strings.TrimSuffix(strings.TrimSuffix(root, "/")+"/"+folder, "/"))
		}
		if !errors.Is(err, fs.ErrNotExist) || depth == deepest {
			return err
		}
		for e, err := range blob.All(ctx, b, within(folder)) {
			if err == nil && e.Folder() && !hidden(base(e.Name)) {
				err = search(e.Name, depth+1)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	if err := search("", 1); err != nil {
		return nil, fmt.Errorf("look for datasets in %s: %w", root, err)
	}
	if len(found) == 0 {
		return nil, noneIn(root)
	}
	return found, nil
}

// hidden reports whether a folder has no data, by its name.
func hidden(name string) bool { return strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") }

// reading is a dataset that is read.
type reading struct {
	path   string
	bucket blob.Bucket
	about  dataset
	schema *parquet.Schema // the newest one, where files do not have theirs
}

// look opens the dataset at path for reading, as the environment says how.
func look(ctx context.Context, path string) (reading, error) {
	return lookIn(ctx, path, place.Options{})
}

func lookIn(ctx context.Context, path string, o place.Options) (reading, error) {
	b, err := openToRead(ctx, path, o)
	if err != nil {
		return reading{}, notDataset(path, err)
	}
	d := reading{path: path, bucket: b}
	if d.about, _, err = readDescription(ctx, b, path); err == nil && d.about.Adopted != nil {
		d.schema, err = newestSchema(ctx, b, path)
	}
	if err != nil {
		return reading{}, errors.Join(notDataset(path, err), b.Close())
	}
	return d, nil
}

func (d reading) close() { _ = d.bucket.Close() } // only read

// Describe says what the dataset at path holds.
func Describe(ctx context.Context, path string) (Summary, error) {
	s, err := Look(ctx, path)
	if err != nil {
		return Summary{Path: path}, err
	}
	defer s.Close()
	return s.Describe(ctx)
}

// Describe says what the dataset holds.
func (s *Snapshot) Describe(ctx context.Context) (Summary, error) {
	out := Summary{Path: s.Path, Schema: s.Schema.Version, Columns: countLeaves(s.Schema.Fields)}
	records, err := s.d.records(ctx, s.Files)
	if err != nil {
		return out, err
	}
	at := map[string]int{}
	for n, file := range s.Files {
		r := records[n]
		dir := folderOf(file.Name)
		i, ok := at[dir]
		if !ok {
			i = len(out.Partitions)
			at[dir] = i
			out.Partitions = append(out.Partitions, Partition{Path: dir})
		}
		out.Partitions[i].add(r)
		out.Files++
		out.Rows += r.Rows
		out.Bytes += r.Bytes
		if r.At.After(out.Written) {
			out.Written = r.At
		}
	}
	return out, nil
}

func notDataset(path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.Setup, absent{fmt.Errorf("%s is not a dataset: it has no %s", path, filepath.FromSlash(description))})
	}
	return err
}

// ErrAbsent is that there is no dataset in a place.
var ErrAbsent = errors.New("there is no dataset")

type absent struct{ error }

func (absent) Is(target error) bool { return target == ErrAbsent }

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

// objects is what a query lists but folders.
func objects(ctx context.Context, b blob.Bucket, q blob.Query) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		for e, err := range blob.All(ctx, b, q) {
			if (err != nil || !e.Folder()) && !yield(e, err) {
				return
			}
		}
	}
}

// within asks for what is in a folder; "" is the dataset's own.
func within(folder string) blob.Query {
	if folder != "" && !strings.HasSuffix(folder, "/") {
		folder += "/"
	}
	return blob.Query{Prefix: folder, Folders: true}
}

// eachFile calls f with every file of the dataset, in order.
func (d reading) eachFile(ctx context.Context, f func(blob.Info) error) error {
	files, err := d.settled(ctx)
	for i := 0; i < len(files) && err == nil; i++ {
		err = f(files[i])
	}
	return err
}

// walk calls f with every data file that is there, part of the dataset or not.
func (d reading) walk(ctx context.Context, folder string, f func(blob.Info) error) error {
	for e, err := range blob.All(ctx, d.bucket, within(folder)) {
		switch last := base(e.Name); {
		case err != nil:
			return fmt.Errorf("list the files of %s: %w", d.path, err)
		case e.Folder() && hidden(last):
			continue
		case e.Folder():
			err = d.walk(ctx, e.Name, f)
		case d.data(e.Name):
			err = f(e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// errEnough ends a walk early.
var errEnough = errors.New("enough")

// rows calls f with every row of the file as JSON. The row is valid until f returns.
func (d reading) rows(ctx context.Context, file blob.Info, f func(row []byte) error) error {
	r, err := d.reader(ctx, file)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // only read
	var row []byte
	for {
		next, err := r.Next(row[:0])
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		row = next
		if err := f(row); err != nil {
			return err
		}
	}
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
func List(ctx context.Context, w io.Writer, root string, asJSON bool) error {
	paths, err := Find(ctx, root)
	if err != nil {
		return err
	}
	all := make([]Summary, len(paths))
	for i, path := range paths {
		if all[i], err = Describe(ctx, path); err != nil {
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
func Schema(ctx context.Context, w io.Writer, path string, asJSON bool) error {
	d, err := look(ctx, path)
	if err != nil {
		return err
	}
	defer d.close()
	s, err := newestSchema(ctx, d.bucket, path)
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
		case parquet.Rest:
			from = "what has no column"
		}
		kind, end := f.TypeName(), f
		for end.Elem != nil {
			end = end.Elem
			kind += " of " + end.TypeName()
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", column+f.Name, kind, from)
		lists := strings.Repeat("[]", strings.Count(kind, " of "))
		printFields(t, end.Fields, column+f.Name+lists+".", key+f.Key+lists+".")
	}
}

// Head prints the first n rows of the dataset at path as JSON, one a line, in the order of
// the partitions.
func Head(ctx context.Context, w io.Writer, path string, n int) error {
	d, err := look(ctx, path)
	if err != nil {
		return err
	}
	defer d.close()
	if n <= 0 {
		return nil
	}
	b := bufio.NewWriter(w)
	err = d.allRows(ctx, func(_ string, row []byte) error {
		_, err := b.Write(append(row, '\n'))
		if n--; n == 0 && err == nil {
			err = errEnough
		}
		return err
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return errors.Join(err, b.Flush())
}

// Rows calls f with every row of the data files in and below the directory path as JSON, in
// the order of the partitions. The row is valid until f returns.
func Rows(ctx context.Context, path string, f func(partition string, row []byte) error) error {
	b, err := openToRead(ctx, path, place.Options{})
	if err != nil {
		return err
	}
	d := reading{path: path, bucket: b}
	defer d.close()
	return d.allRows(ctx, f)
}

func (d reading) allRows(ctx context.Context, f func(partition string, row []byte) error) error {
	return d.eachFile(ctx, func(file blob.Info) error {
		return d.rows(ctx, file, func(row []byte) error { return f(folderOf(file.Name), row) })
	})
}

// Versions lists the versions of the schema of the dataset at path.
func Versions(ctx context.Context, path string) ([]int, error) {
	d, err := look(ctx, path)
	if err != nil {
		return nil, err
	}
	defer d.close()
	var out []int
	for e, err := range objects(ctx, d.bucket, within(schemas)) {
		if err != nil {
			return nil, err
		}
		if v, err := strconv.Atoi(strings.TrimSuffix(base(e.Name), ".json")); err == nil {
			out = append(out, v)
		}
	}
	slices.Sort(out)
	return out, nil
}
