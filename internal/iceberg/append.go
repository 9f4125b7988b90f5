package iceberg

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	ice "github.com/apache/iceberg-go"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/parquet"
)

const (
	folder         = "metadata"
	metadataSuffix = ".metadata.json"
	mainBranch     = "main"
)

// File is a data file of the dataset.
type File struct {
	Name    string // of the object
	Size    int64
	Summary *parquet.Summary
}

// Commit is what became part of the dataset at once.
type Commit struct {
	Number uint64
	Files  []File
}

// Append adds the files of the commits that the table does not have, in order, all at once.
// positions makes the text of how far the dataset has been read from what it was. first says that
// the table may go through no commit yet.
func (t *Table) Append(ctx context.Context, commits []Commit, first bool, positions func(before string) string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var last error
	for range attempts {
		done, err := t.appendOnce(ctx, commits, first, positions)
		if done {
			return nil
		}
		if err != nil && !errors.Is(err, ErrConflict) {
			return err
		}
		last = err
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return fmt.Errorf("commit to the table %s: %w (%d times)", t.o.Name, last, attempts)
}

func (t *Table) appendOnce(ctx context.Context, commits []Commit, first bool, positions func(string) string) (done bool, err error) {
	f := t.files(ctx)
	m, err := t.load(ctx, f)
	if err != nil {
		return false, err
	}
	through, known, err := t.through(m)
	if err == nil && !known && !first {
		err = fault.New(fault.Setup, fmt.Errorf("the table %s does not say any more which commits of the dataset it has (the property %s): somebody else has made it anew, or changed it; drop it (without its files) and restart, so that it is made anew with all files", t.o.Name, propCommit))
	}
	if err != nil {
		return false, err
	}
	a := addition{meta: m, files: f}
	newest := uint64(0)
	for _, c := range commits {
		if known && c.Number <= through {
			continue
		}
		newest = max(newest, c.Number)
		for _, file := range c.Files {
			if err := a.add(file, t.o.Address); err != nil {
				return false, fault.New(fault.Setup, fmt.Errorf("add %s to the table %s: %w; rewrite the dataset, or give it a table without partitions (partition_by = [])", file.Name, t.o.Name, err))
			}
		}
	}
	if len(a.entries) == 0 && (known || newest == 0) {
		return true, nil
	}
	said := map[string]string{propCommit: strconv.FormatUint(newest, 10)}
	if p := positions(m.properties[propPositions]); p != "" {
		said[propPositions] = p
	}
	s, err := a.snapshot(said)
	if err != nil {
		return false, fmt.Errorf("commit to the table %s: %w", t.o.Name, err)
	}
	return t.commit(ctx, f, m, change{properties: said, snapshot: s, expire: m.expired(t.o.Snapshots)}, newest)
}

// through is the number of the last commit that the table has.
func (t *Table) through(m *metadata) (n uint64, known bool, err error) {
	text, known := m.properties[propCommit]
	if !known {
		return 0, false, nil
	}
	if n, err = strconv.ParseUint(text, 10, 64); err != nil {
		err = fault.New(fault.Setup, fmt.Errorf("the table %s has the property %s = %q, which is no number: somebody else changed it; set it to the number of the last commit whose files the table has", t.o.Name, propCommit, text))
	}
	return n, err == nil, err
}

// commit makes the change that has the table go through the number.
func (t *Table) commit(ctx context.Context, f *files, seen *metadata, c change, newest uint64) (done bool, err error) {
	err = t.catalog.commit(ctx, t.o.Name, f, seen, c)
	if err == nil {
		if len(c.expire) > 0 {
			t.sweep(ctx, seen, c.expire)
		}
		return true, nil
	}
	// It may have happened although we were not told, and another change may have followed it.
	now, loadErr := t.load(ctx, t.files(ctx))
	if loadErr == nil {
		if n, known, _ := t.through(now); known && n >= newest {
			return true, nil
		}
	}
	if !errors.Is(err, ErrConflict) {
		return false, fmt.Errorf("commit to the table %s: %w", t.o.Name, err)
	}
	if loadErr == nil {
		f.discard() // the table does not speak of them
	}
	return false, err
}

// sweep removes the lists of snapshots that have expired, and manifests that no other has. What
// cannot be removed stays: nothing asks for it.
func (t *Table) sweep(ctx context.Context, before *metadata, expired []int64) {
	f := t.files(ctx)
	now, err := t.load(ctx, f)
	if err != nil {
		return
	}
	kept, drop := map[string]bool{}, map[string]bool{}
	for i := range now.snapshots {
		all, err := f.manifests(&now.snapshots[i])
		if err != nil {
			return
		}
		for _, m := range all {
			kept[m.FilePath()] = true
		}
	}
	for _, id := range expired {
		s := before.snapshotOf(id)
		if s == nil || now.snapshotOf(id) != nil {
			continue
		}
		all, err := f.manifests(s)
		if err != nil {
			continue
		}
		drop[s.List] = true
		for _, m := range all {
			if !kept[m.FilePath()] {
				drop[m.FilePath()] = true
			}
		}
	}
	var names []string
	for uri := range maps.Keys(drop) {
		if name, err := f.name(uri); err == nil {
			names = append(names, name)
		}
	}
	_ = t.bucket.Delete(ctx, names...)
}

// dataFile is what the table says of a file.
func dataFile(m *metadata, f File, address string) (ice.DataFile, error) {
	part, err := partition(m, f.Summary)
	if err != nil {
		return nil, err
	}
	b, err := ice.NewDataFileBuilder(m.spec, ice.EntryContentData, address+"/"+f.Name, ice.ParquetFile, part, nil, nil, f.Summary.Rows, f.Size)
	if err != nil {
		return nil, err
	}
	sizes, values, nulls := map[int]int64{}, map[int]int64{}, map[int]int64{}
	low, high := map[int][]byte{}, map[int][]byte{}
	for _, c := range f.Summary.Columns {
		field, ok := m.schema.FindFieldByName(c.Name)
		if !ok {
			return nil, fmt.Errorf("the table has no column %s", c.Name)
		}
		id := field.ID
		sizes[id], values[id] = c.Bytes, c.Values
		if c.InList { // of lists, Parquet counts those that are empty too
			continue
		}
		nulls[id] = c.Nulls
		if c.Min != nil && c.Max != nil && c.Nulls < c.Values {
			low[id], high[id] = bound(field.Type, c.Min), bound(field.Type, c.Max)
		}
	}
	return b.ColumnSizes(sizes).ValueCounts(values).NullValueCounts(nulls).LowerBoundValues(low).UpperBoundValues(high).Build(), nil
}

// bound is a bound as Parquet has it in the form of the table: of a decimal as few bytes as its number needs,
// the highest first.
func bound(t ice.Type, b []byte) []byte {
	d, ok := t.(ice.DecimalType)
	if !ok {
		return b
	}
	b = slices.Clone(b)
	if d.Precision() <= 18 { // a number, and not bytes
		slices.Reverse(b)
	}
	for len(b) > 1 && (b[0] == 0 && b[1]>>7 == 0 || b[0] == 0xff && b[1]>>7 == 1) {
		b = b[1:]
	}
	return b
}
