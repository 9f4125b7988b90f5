package catalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/jsontext"
	"github.com/weirdata/weir/internal/parquet"
)

// A rewrite makes a new dataset of the rows of another one, with other types or partitions. The old
// one stays as it is, and can be one that a crawl has adopted. All files of the new one are one
// landing: until its commit the new dataset is there and empty, from then on it is whole. One that
// dies is undone by the next opening, as any landing is, and can be begun again.
//
// The rows are read twice: for their partitions and columns, so that the plan can name the files,
// and then for as many partitions at a time as fit into memory.

// RewriteOptions are how a dataset is rewritten.
type RewriteOptions struct {
	Layout Layout
	// TimeField is the field, as keys with dots between, that partitions are by.
	TimeField string
	// DedupField is the field with the id by which a pipeline that lands in the new dataset
	// recognises what is in it; empty for none.
	DedupField string
	// Types are of fields, by their path, that shall have another.
	Types map[string]parquet.Type
	// Closed has the new dataset no columns but those of the old one: what has none, or does not fit, goes
	// to the rest.
	Closed bool
	Large  int64 // bytes that a file has at most, about
	Memory int64 // bytes of JSON that are held at once
	DryRun bool
}

// Rewritten is what a rewrite has made.
type Rewritten struct {
	Rows       int64 `json:"rows"`
	Files      int   `json:"files"`
	Partitions int   `json:"partitions"`
	// Changes are the columns that are not as they were.
	Changes []ColumnChange `json:"changes,omitempty"`
}

// rewriter rewrites one dataset.
type rewriter struct {
	o       RewriteOptions
	from    *Snapshot
	decoder *parquet.Decoder
	parts   map[string]*rewrittenPart
	inFile  []map[string]bool // the partitions that each file has rows for
	rows    int64
	result  Rewritten
}

// rewrittenPart is a partition of the new dataset.
type rewrittenPart struct {
	rows, bytes int64
	each        int64 // rows of a file
	first       int   // of its files in the plan
	done        int   // files that are written
	open        *openFile
}

// openFile is a file on its way.
type openFile struct {
	rows        *parquet.Rows
	ids         []ID
	first, last int64
}

// Rewrite makes the dataset to of the one at from.
func Rewrite(ctx context.Context, from, to string, o RewriteOptions) (_ Rewritten, err error) {
	w, schema, err := readToRewrite(ctx, from, to, o)
	if err != nil {
		return Rewritten{}, err
	}
	defer w.from.Close()
	if o.DryRun {
		return w.result, nil
	}
	d, err := Open(ctx, to, Options{Layout: o.Layout, MaxIDs: 1, MaxLanded: 1})
	if err != nil {
		return w.result, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return w.result, w.land(ctx, d, schema)
}

// readToRewrite reads the rows for what they become.
func readToRewrite(ctx context.Context, from, to string, o RewriteOptions) (w *rewriter, schema *parquet.Schema, err error) {
	w = &rewriter{o: o, parts: map[string]*rewrittenPart{}}
	if w.from, err = Look(ctx, from); err != nil {
		return nil, nil, err
	}
	if err = apart(from, to); err == nil {
		err = w.prepare()
	}
	if err == nil {
		err = w.measure(ctx)
	}
	if err != nil {
		w.from.Close()
		return nil, nil, err
	}
	schema = w.decoder.Schema()
	w.result.Changes = changes(w.from.Schema.Fields, schema.Fields)
	w.plan()
	return w, schema, nil
}

// apart refuses to rewrite a dataset into itself.
func apart(from, to string) error {
	a, b := strings.TrimRight(from, "/"), strings.TrimRight(to, "/")
	p, err := parse(from)
	if err != nil {
		return err
	}
	q, err := parse(to)
	if err != nil {
		return err
	}
	if p.Local() && q.Local() {
		if a, err = filepath.Abs(from); err == nil {
			b, err = filepath.Abs(to)
		}
		if err != nil {
			return fmt.Errorf("find %s: %w", to, err)
		}
		a, b = filepath.ToSlash(a), filepath.ToSlash(b)
	}
	if a == b || strings.HasPrefix(b, a+"/") || strings.HasPrefix(a, b+"/") {
		return fault.New(fault.Setup, fmt.Errorf("%s and %s are in each other: name a place of its own for the new dataset", from, to))
	}
	return nil
}

// prepare makes the decoder of the new columns.
func (w *rewriter) prepare() error {
	types := maps.Clone(w.o.Types)
	if types == nil {
		types = map[string]parquet.Type{}
	}
	taps := []string{w.o.TimeField, w.o.DedupField}
	for _, field := range taps {
		if field != "" && w.from.Schema.Find(field) == nil {
			return fault.New(fault.Setup, fmt.Errorf("the dataset %s has no field %q; weir lake schema %s lists them", w.from.Path, field, w.from.Path))
		}
	}
	if len(w.o.Layout) > 0 {
		if w.o.TimeField == "" {
			return fault.New(fault.Setup, errors.New("partitions need the field with the time of an event: name it, or have none"))
		}
		if _, declared := types[w.o.TimeField]; !declared && w.from.Schema.Find(w.o.TimeField).Kind == parquet.String {
			types[w.o.TimeField] = parquet.Type{Kind: parquet.Timestamp}
		}
	}
	var reserved []string
	for _, u := range w.o.Layout {
		reserved = append(reserved, string(u))
	}
	base, err := w.withKeys().Rewritable(types, reserved)
	if err != nil {
		return err
	}
	o := asAdopted
	o.Taps, o.Types, o.Reserved, o.Closed = taps, types, reserved, w.o.Closed
	w.decoder = parquet.NewDecoder(base, o)
	return nil
}

// keys are the columns that only the folders of adopted files have.
func (w *rewriter) keys() (keys []Key) {
	if !w.from.adopted() {
		return nil // its folders say again what is in the rows
	}
	for _, k := range w.from.Keys() {
		if w.from.Schema.Find(k.Name) == nil {
			keys = append(keys, k)
		}
	}
	return keys
}

// withKeys is the schema of the rows, with what is in the names of folders.
func (w *rewriter) withKeys() *parquet.Schema {
	s := *w.from.Schema
	for _, k := range w.keys() {
		s.Fields = append(slices.Clip(s.Fields), &parquet.Field{Key: k.Name, Name: k.Name, Kind: k.Kind})
	}
	return &s
}

// eachRow calls f with every row of a file, with what is in the names of its folders.
func (w *rewriter) eachRow(ctx context.Context, file blob.Info, f func(row []byte) error) error {
	var more []byte
	if keys := w.keys(); len(keys) > 0 {
		values, all := w.from.d.about.Adopted.values(file.Name), w.from.Keys()
		for i, v := range values {
			if v == nil || !slices.Contains(keys, all[i]) {
				continue
			}
			more = append(jsontext.AppendString(append(more, ','), all[i].Name), ':')
			if n, ok := v.(int64); ok {
				more = strconv.AppendInt(more, n, 10)
			} else {
				more = jsontext.AppendString(more, v.(string))
			}
		}
	}
	if len(more) == 0 {
		return w.from.d.rows(ctx, file, f)
	}
	var whole []byte
	return w.from.d.rows(ctx, file, func(row []byte) error {
		whole = append(whole[:0], row[:len(row)-1]...)
		if rest := more; len(row) == len("{}") {
			whole = append(whole, rest[1:]...)
		} else {
			whole = append(whole, rest...)
		}
		return f(append(whole, '}'))
	})
}

// row decodes a row, and finds its partition.
func (w *rewriter) row(row []byte) (partition string, micros int64, err error) {
	if err := w.decoder.Decode(row); err != nil {
		return "", 0, err
	}
	if w.o.TimeField == "" {
		return "", 0, nil
	}
	v := w.decoder.Tap(0)
	if !v.Fits || !isTime(v.Kind) {
		if len(w.o.Layout) == 0 {
			return "", 0, nil
		}
		return "", 0, fault.New(fault.Setup, fmt.Errorf("a row has no time in %q, and so no partition; rewrite the dataset without partitions, or declare the type that the times have (such as %s=timestamp_s): %.200s", w.o.TimeField, w.o.TimeField, row))
	}
	return w.o.Layout.Partition(time.UnixMicro(v.Int)), v.Int, nil
}

// measure reads all rows for their columns and partitions.
func (w *rewriter) measure(ctx context.Context) error {
	for _, f := range w.from.Files {
		here := map[string]bool{}
		err := w.eachRow(ctx, f, func(row []byte) error {
			name, _, err := w.row(row)
			if err != nil {
				return err
			}
			p := w.parts[name]
			if p == nil {
				p = &rewrittenPart{}
				w.parts[name] = p
			}
			p.rows++
			p.bytes += int64(len(row))
			w.rows++
			here[name] = true
			return nil
		})
		if err != nil {
			return fmt.Errorf("read %s: %w", at(w.from.Path, f.Name), err)
		}
		w.inFile = append(w.inFile, here)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

// plan finds out how many files each partition gets.
func (w *rewriter) plan() {
	size := int64(0)
	for _, f := range w.from.Files {
		size += f.Size
	}
	for _, name := range w.order() {
		p := w.parts[name]
		perRow := max(size/max(w.rows, 1), 1)
		each := max(min(w.o.Large/perRow, w.o.Memory/max(p.bytes/p.rows, 1)), 1)
		files := (p.rows + each - 1) / each
		p.each, p.first = (p.rows+files-1)/files, w.result.Files
		w.result.Files += int((p.rows + p.each - 1) / p.each)
	}
	w.result.Rows, w.result.Partitions = w.rows, len(w.parts)
}

func (w *rewriter) order() []string { return slices.Sorted(maps.Keys(w.parts)) }

// land writes all files of the new dataset, and commits them.
func (w *rewriter) land(ctx context.Context, d *Dataset, schema *parquet.Schema) error {
	there, err := reading{path: d.path, bucket: d.bucket}.settled(ctx)
	if err != nil {
		return err
	}
	if len(there) > 0 {
		return fault.New(fault.Setup, fmt.Errorf("%s is a dataset with %d files already: name a place of its own for the new one", d.path, len(there)))
	}
	have := d.Schema()
	next := &parquet.Schema{Version: have.Version + 1, Fields: schema.Fields}
	if err := d.Evolve(ctx, have, next); err != nil {
		return err
	}
	if w.result.Files == 0 {
		return nil
	}
	var folders []string
	for _, name := range w.order() {
		for range w.filesOf(name) {
			folders = append(folders, name)
		}
	}
	l, err := d.Plan(ctx, folders)
	if err != nil {
		return err
	}
	written := int64(0)
	for group := range w.groups() {
		n, err := w.write(ctx, l, next, group)
		if err != nil {
			return errors.Join(err, l.Commit(ctx, func(int) bool { return true }, nil, nil), d.settle(context.WithoutCancel(ctx)))
		}
		written += n
	}
	if written != w.rows {
		err := fault.New(fault.Transient, fmt.Errorf("the dataset %s had %d rows, and %d when they were read again: it has changed meanwhile; rewrite it again", w.from.Path, w.rows, written))
		return errors.Join(err, l.Commit(ctx, func(int) bool { return true }, nil, nil), d.settle(context.WithoutCancel(ctx)))
	}
	return l.Commit(ctx, func(int) bool { return false }, nil, nil)
}

func (w *rewriter) filesOf(name string) int64 {
	p := w.parts[name]
	return (p.rows + p.each - 1) / p.each
}

// groups are the partitions that are written at a time.
func (w *rewriter) groups() func(yield func(map[string]bool) bool) {
	return func(yield func(map[string]bool) bool) {
		group, held := map[string]bool{}, int64(0)
		for _, name := range w.order() {
			need := min(w.parts[name].bytes, w.o.Memory)
			if len(group) > 0 && held+need > w.o.Memory {
				if !yield(group) {
					return
				}
				group, held = map[string]bool{}, 0
			}
			group[name] = true
			held += need
		}
		if len(group) > 0 {
			yield(group)
		}
	}
}

// write writes the files of some partitions.
func (w *rewriter) write(ctx context.Context, l *Landing, schema *parquet.Schema, group map[string]bool) (written int64, err error) {
	for i, f := range w.from.Files {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(w.inFile[i])), func(name string) bool { return group[name] }) {
			continue
		}
		err := w.eachRow(ctx, f, func(row []byte) error {
			name, micros, err := w.row(row)
			if err != nil || !group[name] {
				return err
			}
			p := w.parts[name]
			p.add(w, micros)
			written++
			if int64(p.open.rows.Len()) == p.each {
				return p.flush(ctx, l, schema, name)
			}
			return nil
		})
		if err != nil {
			return written, fmt.Errorf("rewrite %s: %w", at(w.from.Path, f.Name), err)
		}
		if ctx.Err() != nil {
			return written, context.Cause(ctx)
		}
	}
	for name := range group {
		if p := w.parts[name]; p.open != nil {
			if err := p.flush(ctx, l, schema, name); err != nil {
				return written, err
			}
		}
	}
	return written, nil
}

// add adds the row that was decoded last.
func (p *rewrittenPart) add(w *rewriter, micros int64) {
	if p.open == nil {
		p.open = &openFile{rows: parquet.NewRows(), first: math.MaxInt64, last: math.MinInt64}
	}
	f := p.open
	f.rows.Append(w.decoder)
	f.first, f.last = min(f.first, micros), max(f.last, micros)
	if w.o.DedupField == "" {
		return
	}
	switch v := w.decoder.Tap(1); {
	case v.Fits && v.Kind == parquet.String:
		f.ids = append(f.ids, Fingerprint('s', v.Text))
	case v.Fits && v.Kind == parquet.Int:
		f.ids = append(f.ids, Fingerprint('n', strconv.AppendInt(nil, v.Int, 10)))
	}
}

// flush writes the file that is open.
func (p *rewrittenPart) flush(ctx context.Context, l *Landing, schema *parquet.Schema, name string) error {
	f := p.open
	p.open = nil
	defer f.rows.Release()
	i := p.first + p.done
	if p.done++; i >= len(l.plan.Files) || folderOf(l.plan.Files[i]) != cmp.Or(name, ".") {
		return fault.New(fault.Transient, errors.New("it has more rows than when they were read for the first time: it has changed meanwhile; rewrite it again"))
	}
	r := Record{Rows: int64(f.rows.Len()), Events: int64(f.rows.Bytes()), Schema: schema.Version, At: time.Now().UTC()}
	if f.first != 0 || f.last != 0 {
		r.First, r.Last = time.UnixMicro(f.first).UTC(), time.UnixMicro(f.last).UTC()
	}
	return l.Write(ctx, i, File{Partition: name, Record: r, IDs: f.ids, Write: func(out io.Writer) error { return f.rows.Write(out, schema, nil) }})
}
