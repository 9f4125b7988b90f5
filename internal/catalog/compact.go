package catalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/parquet"
)

// CompactOptions are how a dataset is compacted.
type CompactOptions struct {
	// Small is the size in bytes below which files are put together, Large about how large what
	// they become is at most.
	Small, Large int64
	// Settled is how long a partition must be over, or, where the dataset has none, how old a file
	// must be.
	Settled time.Duration
	// Sort is the field that rows are sorted by, as keys with dots between: a time or a number.
	// Empty is the time of the events, where a column has it.
	Sort string
	// Dedup is the field with the id of an event: of several with one id in a partition, the one
	// that landed first stays. Empty keeps all.
	Dedup  string
	DryRun bool
	// Memory is about how many bytes of rows are held at once; one row group.
	Memory int64
	// Done, if set, is told of each compaction.
	Done func(Compaction)
	// Step, if set, is called at each step; tests crash there.
	Step func(string)

	now time.Time
}

// Compaction is what became of some files of a partition, or would.
type Compaction struct {
	Partition  string `json:"partition"`
	Files      int    `json:"files"`      // before
	Into       int    `json:"into"`       // after
	Rows       int64  `json:"rows"`       // after
	Bytes      int64  `json:"bytes"`      // before
	IntoSize   int64  `json:"into_bytes"` // after
	Duplicates int64  `json:"duplicates"`
}

const (
	// mostDedupIDs is how many ids of one partition are held in memory, at about 25 bytes each.
	mostDedupIDs = 100_000_000
	// mostSorted is how many rows are sorted at once, at 16 bytes each.
	mostSorted = 16 << 20
)

// Compact compacts the dataset at path. Others may read it, and land in it, meanwhile.
func Compact(ctx context.Context, path string, o CompactOptions) (err error) {
	c, err := openCompactor(ctx, path, o.Step)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	if c.about.Adopted != nil {
		return notOwn(path)
	}
	if c.table != "" {
		return fault.New(fault.Setup, fmt.Errorf("compact %s: its files are those of the Iceberg table %s, which would lose them: compact the table, as Spark or PyIceberg do", path, c.table))
	}
	return c.compact(ctx, o)
}

// stored is a file with what is known of it.
type stored struct {
	blob.Info
	Record
}

func (c *compactor) compact(ctx context.Context, o CompactOptions) error {
	if o.now.IsZero() {
		o.now = time.Now()
	}
	schema, err := newestSchema(ctx, c.bucket, c.path)
	if err != nil {
		return err
	}
	for _, field := range []string{o.Sort, o.Dedup} {
		if field != "" && columnOf(schema, field) == nil {
			return fault.New(fault.Setup, fmt.Errorf("the dataset %s has no field %q; weir lake schema %s lists them", c.path, field, c.path))
		}
	}
	files, err := c.settled(ctx)
	if err != nil {
		return err
	}
	for len(files) > 0 {
		dir, n := folderOf(files[0].Name), 1
		for n < len(files) && folderOf(files[n].Name) == dir {
			n++
		}
		if err := c.partition(ctx, schema, files[:n], o); err != nil {
			return fmt.Errorf("compact %s: %w", atPartition(c.path, dir), err)
		}
		files = files[n:]
	}
	return nil
}

func atPartition(path, dir string) string {
	if dir == "." {
		return path
	}
	return at(path, dir)
}

// partition compacts the files of one partition.
func (c *compactor) partition(ctx context.Context, schema *parquet.Schema, files []blob.Info, o CompactOptions) error {
	over, partitioned := c.over(files[0].Name)
	if partitioned && o.now.Sub(over) < o.Settled {
		return nil
	}
	small, others, err := c.divide(ctx, files, partitioned, o)
	if err != nil {
		return err
	}
	slices.SortFunc(small, func(a, b stored) int { return cmp.Or(a.At.Compare(b.At), strings.Compare(a.Name, b.Name)) })
	var seen *Index[struct{}]
	if o.Dedup != "" && len(small) > 0 {
		seen = &Index[struct{}]{}
		for _, f := range others {
			if err := c.remember(ctx, schema, f, o.Dedup, seen); err != nil {
				return err
			}
		}
	}
	for len(small) > 0 {
		n, size, rows := 0, int64(0), int64(0)
		for n < len(small) && (n == 0 || size+small[n].Size <= o.Large && rows+small[n].Rows <= mostSorted) {
			size += small[n].Size
			rows += small[n].Rows
			n++
		}
		bin := small[:n]
		small = small[n:]
		if n < 2 && (seen == nil || bin[0].Distinct == o.Dedup) {
			if seen != nil {
				if err := c.remember(ctx, schema, bin[0], o.Dedup, seen); err != nil {
					return err
				}
			}
			continue
		}
		done, err := c.merge(ctx, schema, bin, seen, o)
		if err != nil {
			if !o.DryRun {
				err = errors.Join(err, c.recover(context.WithoutCancel(ctx)))
			}
			return err
		}
		if o.Done != nil {
			o.Done(done)
		}
	}
	return nil
}

// divide tells the files of a partition that are to be compacted from those that are as they should
// be. One that was written just now is neither where a partition has no end.
func (c *compactor) divide(ctx context.Context, files []blob.Info, partitioned bool, o CompactOptions) (small, others []stored, err error) {
	for _, f := range files {
		r, err := c.recordFor(ctx, f)
		if err != nil {
			return nil, nil, err
		}
		written := r.At
		if written.IsZero() {
			written = f.Modified
		}
		s := stored{f, r}
		s.At = written
		switch {
		case !partitioned && o.now.Sub(written) < o.Settled:
		case f.Size < o.Small || o.Dedup != "" && r.Distinct != o.Dedup:
			small = append(small, s)
		default:
			others = append(others, s)
		}
	}
	return small, others, nil
}

// over is when the partition of a file ends; partitioned is false where the dataset has none.
func (c *compactor) over(name string) (at time.Time, partitioned bool) {
	s := Snapshot{PartitionBy: c.layout}
	units, known := s.Units(blob.Info{Name: name})
	if !known || len(units) == 0 {
		return at, false
	}
	parts := [4]int{1, 1, 1, 0}
	for i, n := range units {
		parts[i] = int(n)
	}
	at = time.Date(parts[0], time.Month(parts[1]), parts[2], parts[3], 0, 0, 0, time.UTC)
	switch c.layout[len(c.layout)-1] {
	case Year:
		return at.AddDate(1, 0, 0), true
	case Month:
		return at.AddDate(0, 1, 0), true
	case Day:
		return at.AddDate(0, 0, 1), true
	}
	return at.Add(time.Hour), true
}

// columnOf is the names of the column of a field, as keys with dots between; nil for none.
func columnOf(s *parquet.Schema, field string) (names []string) {
	fields := s.Fields
	for key := range strings.SplitSeq(field, ".") {
		i := slices.IndexFunc(fields, func(f *parquet.Field) bool { return f.Key == key && f.Variant == parquet.Main })
		if i < 0 {
			return nil
		}
		names = append(names, fields[i].Name)
		fields = fields[i].Fields
	}
	return names
}

// reader opens a file for its rows.
func (c *compactor) reader(ctx context.Context, f blob.Info) (*parquet.Reader, error) {
	return c.reading.reader(ctx, f)
}

// eachID calls f with the fingerprint of each row's id, and whether the row has one.
func eachID(r *parquet.Reader, column []string, f func(row int, id ID, known bool)) error {
	return eachCell(r, column, func(row int, cell parquet.Cell) {
		id, known := fingerprintOf(cell)
		f(row, id, known)
	})
}

// fingerprintOf is the fingerprint of an id that is in its own column, as the target makes it.
func fingerprintOf(cell parquet.Cell) (ID, bool) {
	switch cell.Kind {
	case parquet.String:
		return Fingerprint('s', cell.Text), true
	case parquet.Int:
		return Fingerprint('n', strconv.AppendInt(nil, cell.Int, 10)), true
	}
	return ID{}, false
}

// eachCell calls f with the cell of each row in a column; of one that is not there, too.
func eachCell(r *parquet.Reader, column []string, f func(row int, cell parquet.Cell)) (err error) {
	row := 0
	for g := range r.Groups() {
		scan := r.Scan(g)
		cells, err := scan.Column(column...)
		if err != nil {
			return err
		}
		for i := range scan.Len() {
			var cell parquet.Cell
			if cells != nil {
				if cell, err = cells.At(i); err != nil {
					return errors.Join(err, cells.Close())
				}
			}
			f(row, cell)
			row++
		}
		if cells != nil {
			if err := cells.Close(); err != nil {
				return err
			}
		}
	}
	return nil
}

// remember notes the ids of a file that stays as it is.
func (c *compactor) remember(ctx context.Context, schema *parquet.Schema, f stored, field string, seen *Index[struct{}]) error {
	r, err := c.reader(ctx, f.Info)
	if err != nil {
		return err
	}
	err = eachID(r, columnOf(schema, field), func(_ int, id ID, known bool) {
		if known {
			seen.Set(id, struct{}{})
		}
	})
	if seen.Len() > mostDedupIDs {
		err = errors.Join(err, fault.New(fault.Setup, fmt.Errorf("the partition has more than %d ids, too many to compare; compact it without removing duplicates", mostDedupIDs)))
	}
	return errors.Join(err, r.Close())
}
