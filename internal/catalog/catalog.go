// Package catalog keeps a dataset of Parquet files in a local directory: its layout, the
// versions of its schema, and the commit that makes a file part of it.
//
// # Layout
//
//	DATASET/year=2024/month=04/day=07/hour=18/NAME.parquet   the data; all that readers need
//	DATASET/_weir/dataset.json                                format and partitioning
//	DATASET/_weir/schema/00000003.json                        one file for each version
//	DATASET/_weir/files/year=2024/.../NAME.rec                what is known of each file
//	DATASET/_weir/staging/                                    files that are being written
//	DATASET/_weir/lock                                        held by the process that writes
//
// A reader that knows nothing of this package sees the dataset with one pattern,
// DATASET/**/*.parquet: nothing in _weir ends in .parquet, and readers of Hive layouts pass
// over names that begin with an underscore.
//
// # Commit
//
// A file is in the dataset from the instant its name is in its folder, and the file is the
// commit: there is no list that could disagree with the folders.
//
//  1. the data is written to staging, with fsync
//  2. the record (rows, times, ids) is written beside it, with fsync, and renamed to its place;
//     the folder is synced
//  3. the data is renamed to its place: the commit
//  4. the folder is synced: now it survives power loss, and the commit returns nil
//
// A crash before 3 leaves files in staging, which the next Open removes, or a record without
// data, which is ignored and removed. A crash between 3 and 4 leaves a complete file with its
// record, committed though nobody was told. A commit of a name that is there already does
// nothing but step 4.
//
// # One writer
//
// One process at a time writes to a dataset, guarded by a lock on _weir/lock that ends with
// the process. Within the process any number of openers share one [Dataset]. Reading
// ([List], [Head], [Describe]) needs no lock.
package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/parquet"
)

// Unit is one level of the partition folders.
type Unit string

// The units. Times are in UTC.
const (
	Year  Unit = "year"
	Month Unit = "month"
	Day   Unit = "day"
	Hour  Unit = "hour"
)

// Units are all units, from the longest.
func Units() []Unit { return []Unit{Year, Month, Day, Hour} }

// Layout is the levels of partition folders, the first of [Units]; none puts all files into
// the dataset's own folder.
type Layout []Unit

// Partition is the folder, relative to the dataset, for an event of the given time.
func (l Layout) Partition(t time.Time) string {
	t = t.UTC()
	var b strings.Builder
	for i, u := range l {
		if i > 0 {
			b.WriteByte('/')
		}
		switch u {
		case Year:
			fmt.Fprintf(&b, "year=%04d", t.Year())
		case Month:
			fmt.Fprintf(&b, "month=%02d", t.Month())
		case Day:
			fmt.Fprintf(&b, "day=%02d", t.Day())
		case Hour:
			fmt.Fprintf(&b, "hour=%02d", t.Hour())
		}
	}
	return b.String()
}

// Bucket numbers the partition of t: times with one bucket have one folder.
func (l Layout) Bucket(t time.Time) int64 {
	if len(l) == 0 {
		return 0
	}
	if l[len(l)-1] == Hour {
		s := t.Unix()
		return (s - ((s%3600)+3600)%3600) / 3600
	}
	y, m, d := t.UTC().Date()
	return int64(y)<<16 | int64(m)<<8 | int64(d)
}

const (
	folder      = "_weir"
	schemas     = "schema"
	records     = "files"
	staging     = "staging"
	description = "dataset.json"
	lockName    = "lock"
	suffix      = ".parquet"
	recSuffix   = ".rec"
	formatNow   = 1
)

// dataset is _weir/dataset.json.
type dataset struct {
	Format      int    `json:"format"`
	PartitionBy Layout `json:"partition_by"`
}

// Options are how a dataset is opened for writing.
type Options struct {
	Layout Layout
	// MaxIDs is the most ids of events that are kept in memory; see [Dataset.Seen].
	MaxIDs int
	// Step, if set, is called at each step of a commit; tests crash there.
	Step func(name string)
}

// Dataset is a dataset opened for writing. Its methods may be called by several goroutines.
type Dataset struct {
	path      string
	layout    Layout
	exclusive chan struct{} // holds one element while nobody has the dataset for himself
	lock      *fileLock
	refs      int
	opened    time.Time

	mu        sync.Mutex
	step      func(string)
	schema    *parquet.Schema
	foldersMu sync.Mutex
	folders   map[string]bool // that exist and are synced
	seen      ids
}

// ErrStale says that a schema was changed by somebody else since it was read.
var ErrStale = errors.New("the dataset's schema has changed meanwhile")

// open holds the datasets that this process has open, by their path.
var open = struct {
	sync.Mutex
	datasets map[string]*Dataset
}{datasets: map[string]*Dataset{}}

// Open opens the dataset in the directory path, which is made when it is not there.
func Open(path string, o Options) (*Dataset, error) {
	meta := filepath.Join(path, folder)
	if err := makeFolder(meta); err != nil {
		return nil, classify(fmt.Errorf("make the folder of the dataset: %w", err))
	}
	real, err := filepath.EvalSymlinks(path)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		return nil, classify(fmt.Errorf("find the folder of the dataset: %w", err))
	}
	open.Lock()
	defer open.Unlock()
	if d := open.datasets[real]; d != nil {
		if !slices.Equal(d.layout, o.Layout) {
			return nil, otherLayout(path, d.layout, o.Layout)
		}
		d.refs++
		return d, nil
	}
	lock, err := lockFile(filepath.Join(meta, lockName))
	if errors.Is(err, errLocked) {
		return nil, fault.New(fault.Setup, fmt.Errorf("open the dataset %s: another process writes to it (it holds %s); stop it, or give each its own path",
			path, filepath.Join(meta, lockName)))
	}
	if err != nil {
		return nil, classify(fmt.Errorf("lock the dataset %s: %w", path, err))
	}
	d := &Dataset{path: real, layout: o.Layout, lock: lock, refs: 1, exclusive: make(chan struct{}, 1), opened: time.Now(), step: o.Step, folders: map[string]bool{}, seen: ids{limit: o.MaxIDs}}
	d.exclusive <- struct{}{}
	if d.step == nil {
		d.step = func(string) {}
	}
	if err := d.load(o.Layout); err != nil {
		return nil, errors.Join(classify(err), lock.release())
	}
	open.datasets[real] = d
	return d, nil
}

// makeFolder makes a folder and those above it, so that they survive power loss.
func makeFolder(path string) error {
	if info, err := os.Stat(path); err == nil {
		if !info.IsDir() {
			return &fs.PathError{Op: "open", Path: path, Err: errNotFolder}
		}
		return nil
	}
	above := filepath.Dir(path)
	if above != path {
		if err := makeFolder(above); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncFolder(above)
}

func otherLayout(path string, have, want Layout) error {
	return fault.New(fault.Setup, fmt.Errorf("open the dataset %s: it is partitioned by %v, not by %v; keep partition_by as it is, or begin a dataset in another path", path, have, want))
}

// load reads what the dataset is, or makes it one, and removes what a crash has left.
func (d *Dataset) load(want Layout) error {
	for _, name := range []string{schemas, records, staging} {
		if err := d.folder(filepath.Join(folder, name)); err != nil {
			return err
		}
	}
	left, err := os.ReadDir(filepath.Join(d.path, folder, staging))
	if err != nil {
		return fmt.Errorf("list what a crash may have left: %w", err)
	}
	for _, e := range left {
		if err := os.Remove(filepath.Join(d.path, folder, staging, e.Name())); err != nil {
			return fmt.Errorf("remove what a crash has left: %w", err)
		}
	}
	have, err := readDescription(d.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		text, err := json.Marshal(dataset{Format: formatNow, PartitionBy: append(Layout{}, want...)})
		if err == nil {
			err = d.place(filepath.Join(folder, description), append(text, '\n'))
		}
		if err != nil {
			return fmt.Errorf("describe the dataset %s: %w", d.path, err)
		}
	case err != nil:
		return err
	case !slices.Equal(have.PartitionBy, want):
		return otherLayout(d.path, have.PartitionBy, want)
	}
	d.schema, err = newestSchema(d.path)
	return err
}

func readDescription(path string) (dataset, error) {
	var have dataset
	name := filepath.Join(path, folder, description)
	text, err := os.ReadFile(name)
	if err != nil {
		return have, err
	}
	if err := json.Unmarshal(text, &have); err != nil {
		return have, fault.New(fault.Setup, fmt.Errorf("read %s: %w; restore it, or move the dataset away", name, err))
	}
	if have.Format != formatNow {
		return have, fault.New(fault.Setup, fmt.Errorf("read %s: format %d is not one this version of weir knows (%d); use a newer one", name, have.Format, formatNow))
	}
	return have, nil
}

// newestSchema is the schema with the highest version; the empty one when there is none.
func newestSchema(path string) (*parquet.Schema, error) {
	dir := filepath.Join(path, folder, schemas)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list the versions of the schema: %w", err)
	}
	newest := ""
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".json") {
			newest = max(newest, e.Name())
		}
	}
	if newest == "" {
		return &parquet.Schema{}, nil
	}
	name := filepath.Join(dir, newest)
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	s, err := parquet.Parse(text)
	if err == nil && schemaName(s.Version) != newest {
		err = fmt.Errorf("it holds version %d", s.Version)
	}
	if err != nil {
		return nil, fault.New(fault.Setup, fmt.Errorf("read %s: %w; restore the file, it describes the columns of the dataset", name, err))
	}
	return s, nil
}

func schemaName(version int) string { return fmt.Sprintf("%08d.json", version) }

// Close ends the use of the dataset. The last of those who opened it lets go of the lock.
func (d *Dataset) Close() error {
	open.Lock()
	defer open.Unlock()
	if d.refs == 0 {
		return nil
	}
	if d.refs--; d.refs > 0 {
		return nil
	}
	delete(open.datasets, d.path)
	return d.lock.release()
}

// Exclusive waits until no other writer looks for duplicates. The caller may use
// [Dataset.Seen] from then until it calls done.
func (d *Dataset) Exclusive(ctx context.Context) (done func(), err error) {
	select {
	case <-d.exclusive:
		return func() { d.exclusive <- struct{}{} }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Check reports whether the dataset at path can be opened with the layout, as far as that
// can be known without writing.
func Check(path string, layout Layout) error {
	for at := path; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		switch {
		case err == nil && !info.IsDir():
			return fault.New(fault.Setup, fmt.Errorf("use %s for a dataset: %s is a file", path, at))
		case err == nil:
			have, err := readDescription(path)
			if err == nil && !slices.Equal(have.PartitionBy, layout) {
				return otherLayout(path, have.PartitionBy, layout)
			}
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		case !errors.Is(err, fs.ErrNotExist):
			return classify(fmt.Errorf("look at %s: %w", at, err))
		case filepath.Dir(at) == at:
			return nil
		}
	}
}

// Schema is the newest schema. It must not be changed.
func (d *Dataset) Schema() *parquet.Schema {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.schema
}

// Evolve makes next, which adds to base, the newest schema, durably. It fails with ErrStale
// when the newest is not base: the events must be decoded again.
func (d *Dataset) Evolve(base, next *parquet.Schema) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.schema.Version != base.Version {
		return ErrStale
	}
	text, err := json.MarshalIndent(next, "", " ")
	if err == nil {
		err = d.place(filepath.Join(folder, schemas, schemaName(next.Version)), append(text, '\n'))
	}
	if err != nil {
		return classify(fmt.Errorf("write version %d of the schema: %w", next.Version, err))
	}
	d.step("evolved")
	d.schema = next
	return nil
}

// classify gives errors of the file system their meaning: what only somebody can change is
// Setup, a full disk and the rest may pass.
func classify(err error) error {
	if err != nil && fault.Of(err) == fault.Transient &&
		(errors.Is(err, fs.ErrPermission) || errors.Is(err, errReadOnly) || errors.Is(err, errNotFolder)) {
		return fault.New(fault.Setup, err)
	}
	return err
}
