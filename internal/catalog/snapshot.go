package catalog

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/blob/place"
	"github.com/weirdata/weir/internal/parquet"
)

// Snapshot is a dataset as it was when it was looked at: what lands later is no part of it.
type Snapshot struct {
	Path        string
	Schema      *parquet.Schema // the newest
	PartitionBy Layout
	Files       []blob.Info // in the order of the partitions
	d           reading
}

// Look takes a snapshot of the dataset at path.
func Look(ctx context.Context, path string) (*Snapshot, error) {
	return LookIn(ctx, path, place.Options{})
}

// Lander is what writes a dataset and can have others look at it, by the access that it has itself.
type Lander interface {
	// Dataset is where it is, and Look a snapshot of it; [ErrAbsent] when nothing has landed yet.
	Dataset() string
	Look(ctx context.Context) (*Snapshot, error)
}

// LookIn takes a snapshot of the dataset at path, which o says how to reach.
func LookIn(ctx context.Context, path string, o place.Options) (*Snapshot, error) {
	d, err := lookIn(ctx, path, o)
	if err != nil {
		return nil, err
	}
	s := &Snapshot{Path: path, d: d}
	s.PartitionBy = d.about.PartitionBy
	if s.Schema, err = newestSchema(ctx, d.bucket, path); err == nil {
		s.Files, err = d.settled(ctx)
	}
	if err != nil {
		d.close()
		return nil, err
	}
	return s, nil
}

// Close lets go of the dataset.
func (s *Snapshot) Close() { s.d.close() }

// Open opens a file of the snapshot.
func (s *Snapshot) Open(ctx context.Context, file blob.Info) (*parquet.Reader, error) {
	r, err := s.d.reader(ctx, file)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", at(s.Path, file.Name), err)
	}
	return r, nil
}

// adopted reports whether others write the files.
func (s *Snapshot) adopted() bool { return s.d.about.Adopted != nil }

// Keys are the columns whose values are in the names of folders.
func (s *Snapshot) Keys() (keys []Key) {
	if a := s.d.about.Adopted; a != nil {
		return a.Keys
	}
	for _, u := range s.PartitionBy {
		keys = append(keys, Key{string(u), parquet.Int})
	}
	return keys
}

// Values are those of the keys in a file: int64, string, or nil. known is false when it is in
// no folder of a partition.
func (s *Snapshot) Values(file blob.Info) (values []any, known bool) {
	if a := s.d.about.Adopted; a != nil {
		return a.values(file.Name), true
	}
	units, known := s.Units(file)
	for _, n := range units {
		values = append(values, n)
	}
	return values, known
}

// Record is what is known of a file without reading its rows.
func (s *Snapshot) Record(ctx context.Context, file blob.Info) (Record, error) {
	return s.d.recordFor(ctx, file)
}

// Units are the numbers in the name of a file's folder, such as 2026 for year, in the order of
// the layout. known is false when the folder is none of a partition.
func (s *Snapshot) Units(file blob.Info) (numbers []int64, known bool) {
	parts := strings.Split(file.Name, "/")
	if len(parts)-1 != len(s.PartitionBy) {
		return nil, false
	}
	for i, unit := range s.PartitionBy {
		text, ok := strings.CutPrefix(parts[i], string(unit)+"=")
		n, err := strconv.ParseInt(text, 10, 64)
		if !ok || err != nil {
			return nil, false
		}
		numbers = append(numbers, n)
	}
	return numbers, true
}
