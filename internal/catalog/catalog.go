// Package catalog keeps a dataset of Parquet files in a local directory: its layout, the
// versions of its schema, and the commit that makes a file part of it.
//
// # Layout
//
//	DATASET/year=2024/month=04/day=07/hour=18/NAME.parquet   the data; all that readers need
//	DATASET/_weir/dataset.json                                format and partitioning
//	DATASET/_weir/schema/00000003.json                        one file for each version
//	DATASET/_weir/files/year=2024/.../NAME.rec                what is known of each file
//	DATASET/_weir/plans/000000000007.json                     what a landing is about to create
//	DATASET/_weir/commits/000000000007.rec                    what became of it
//	DATASET/_weir/compactions/, replaced/                     see compaction.go
//	DATASET/_weir/staging/                                    files that are being written;
//	                                                          staging.lock beside it
//	DATASET/_weir/lock                                        held by the process that writes
//
// A reader that knows nothing of this package sees the dataset with one pattern,
// DATASET/**/*.parquet: nothing in _weir ends in .parquet, and readers of Hive layouts pass
// over names that begin with an underscore.
//
// # Commit
//
// There are two ways in which a file becomes part of the dataset. Data, records, plans and
// descriptions are objects of package blob: each is created whole, once, durably, and nothing
// is renamed.
//
// A file by itself ([Dataset.Commit]) is there from the instant its name is in its folder:
//
//  1. the data is written, which nobody sees
//  2. the record (rows, times, ids) is created
//  3. the data is created: the commit
//
// A crash before 3 leaves what the next Open sweeps from staging, or a record without data,
// which is ignored and removed. A crash within 3 leaves a complete file with its record,
// committed though nobody was told. A commit of a name that is there already makes sure that
// it survives power loss, and does nothing else.
//
// Files together ([Dataset.Plan]) are there from the instant of one commit, which also says
// by their ids what has landed, so that it does not land again:
//
//  1. the plan, which names the files, is created, while data and records are written
//  2. the data of each is created
//  3. the commit of the plan's number is created
//
// A plan has one outcome, whoever decides it: the commit of its number is created once. Who
// opens the dataset creates an empty one for every plan that has none, and removes its files;
// whoever was at it cannot commit it any more. So a plan is undone, never done again: its
// source delivers the events once more, in any grouping, through transforms that need not
// make the same of them. No clock decides anything. Names of planned files hold the number and
// an id of the writer, and are never used again. Until the plan is removed, the readers of this
// package pass over files that do not belong to the dataset by it; a reader that only knows
// the pattern sees them between 2 and 3, and after a crash until the next Open.
//
// Plans that are settled are removed, and then commits whose ids are beyond those that are
// kept, in this order: without its commit a plan would be undone.
//
// Format 1 has no plans. A dataset of it is taken over when it is opened for writing: its
// files are each there by themselves, and its description says format 2 from then on, which a
// version of weir that knows of no plans refuses.
//
// # One writer
//
// One process at a time writes to a dataset, guarded by a lock on _weir/lock that ends with
// the process; others are told with ErrHeld, and wait. A writer that has lost the dataset
// without knowing finds its number taken at its next plan or commit, and has committed
// nothing since. Within the process any number of openers share one [Dataset]. Reading
// ([List], [Head], [Describe]) needs no lock.
package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/blob/directory"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/parquet"
)

const (
	folder      = "_weir"
	schemas     = folder + "/schema"
	records     = folder + "/files"
	plans       = folder + "/plans"
	commits     = folder + "/commits"
	staging     = folder + "/staging"
	description = folder + "/dataset.json"
	lockName    = folder + "/lock"
	suffix      = ".parquet"
	recSuffix   = ".rec"
	formatFirst = 1 // without plans and commits
	formatNow   = 2
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
	// MaxLanded is the most ids of landings that are kept; see [Dataset.Reserve].
	MaxLanded int
	// Step, if set, is called at each step of a commit; tests crash there.
	Step func(name string)
}

// Dataset is a dataset opened for writing. Its methods may be called by several goroutines.
type Dataset struct {
	path      string
	layout    Layout
	bucket    blob.Bucket
	log       *journal
	exclusive chan struct{} // holds one element while nobody has the dataset for himself
	lock      releaser      // keeps other processes away; nil: the log alone does
	refs      int

	mu     sync.Mutex
	step   func(string)
	schema *parquet.Schema
	seen   ids

	busyMu sync.Mutex
	busy   map[string]chan struct{} // the files that are being committed; closed when they are
}

// releaser is a lock that is held.
type releaser interface{ Release() error }

// ErrHeld says that another process writes to the dataset.
var ErrHeld = errors.New("another process writes to it")

// ErrStale says that a schema was changed by somebody else since it was read.
var ErrStale = errors.New("the dataset's schema has changed meanwhile")

// open holds the datasets that this process has open, by their path.
var open = struct {
	sync.Mutex
	datasets map[string]*Dataset
}{datasets: map[string]*Dataset{}}

// bucketAt are the options of the bucket of a dataset.
func bucketAt(step func(string)) directory.Options {
	o := directory.Options{Staging: staging}
	if step != nil {
		o.Step = func(name, _ string) { step(name) }
	}
	return o
}

// Open opens the dataset in the directory path, which is made when it is not there.
func Open(ctx context.Context, path string, o Options) (*Dataset, error) {
	if err := local(path); err != nil {
		return nil, err
	}
	bucket, err := directory.Make(path, bucketAt(o.Step))
	if err != nil {
		return nil, fmt.Errorf("open the dataset: %w", err)
	}
	real, err := filepath.EvalSymlinks(path)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("find the folder of the dataset: %w", err), bucket.Close())
	}
	open.Lock()
	defer open.Unlock()
	if d := open.datasets[real]; d != nil {
		if !slices.Equal(d.layout, o.Layout) {
			return nil, errors.Join(otherLayout(path, d.layout, o.Layout), bucket.Close())
		}
		d.refs++
		_ = bucket.Close() // nothing was done with it
		return d, nil
	}
	lock, err := bucket.Lock(lockName)
	if errors.Is(err, directory.ErrLocked) {
		return nil, errors.Join(fault.New(fault.Setup, fmt.Errorf("open the dataset %s: %w (it holds %s); stop it, or give each its own path",
			path, ErrHeld, filepath.Join(path, lockName))), bucket.Close())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the dataset: %w", err), bucket.Close())
	}
	d, err := openIn(ctx, bucket, real, lock, o)
	if err != nil {
		return nil, errors.Join(err, lock.Release(), bucket.Close())
	}
	open.datasets[real] = d
	return d, nil
}

// openIn opens the dataset in a bucket, called path. Without a lock, the log alone decides who
// writes: who opens it last does, and others find out at their next plan or commit.
func openIn(ctx context.Context, bucket blob.Bucket, path string, lock releaser, o Options) (*Dataset, error) {
	d := &Dataset{
		path: path, layout: o.Layout, bucket: bucket, lock: lock, refs: 1, exclusive: make(chan struct{}, 1), step: o.Step,
		log: newJournal(o.MaxLanded, lock != nil), seen: ids{limit: o.MaxIDs}, busy: map[string]chan struct{}{},
	}
	d.exclusive <- struct{}{}
	if d.step == nil {
		d.step = func(string) {}
	}
	err := d.load(ctx, o.Layout)
	return d, err
}

// local refuses an address where the path of a folder should be: it would make a folder
// named after it.
func local(path string) error {
	if scheme := blob.Scheme(path); scheme != "" {
		return fault.New(fault.Setup, fmt.Errorf("%q is an address (%s://): a dataset is in a folder of the file system; name a folder", path, scheme))
	}
	return nil
}

func otherLayout(path string, have, want Layout) error {
	return fault.New(fault.Setup, fmt.Errorf("open the dataset %s: it is partitioned by %v, not by %v; keep partition_by as it is, or begin a dataset in another path", path, have, want))
}

// load reads what the dataset is, or makes it one, and removes what a crash has left.
func (d *Dataset) load(ctx context.Context, want Layout) error {
	if err := d.bucket.Sweep(ctx, time.Now()); err != nil {
		return err
	}
	text, err := json.Marshal(dataset{Format: formatNow, PartitionBy: append(Layout{}, want...)})
	if err != nil {
		return fmt.Errorf("describe the dataset %s: %w", d.path, err)
	}
	text = append(text, '\n')
	if _, err := d.bucket.Create(ctx, description, text); err != nil && !errors.Is(err, blob.ErrExists) {
		return fmt.Errorf("describe the dataset: %w", err)
	}
	have, version, err := readDescription(ctx, d.bucket, d.path)
	if err != nil {
		return err
	}
	if !slices.Equal(have.PartitionBy, want) {
		return otherLayout(d.path, have.PartitionBy, want)
	}
	if have.Format < formatNow {
		// From now on a version of weir that knows of no plans must not write to it: it would
		// take what is not committed for a part of it.
		if _, err := d.bucket.Replace(ctx, description, version, text); err != nil && !errors.Is(err, blob.ErrChanged) {
			return fmt.Errorf("describe the dataset: %w", err)
		}
	}
	if d.schema, err = newestSchema(ctx, d.bucket, d.path); err != nil {
		return err
	}
	return d.recover(ctx)
}

func readDescription(ctx context.Context, b blob.Bucket, path string) (have dataset, version blob.Version, err error) {
	text, version, err := b.Get(ctx, description)
	if err != nil {
		return have, version, err
	}
	name := filepath.Join(path, description)
	if err := json.Unmarshal(text, &have); err != nil {
		return have, version, fault.New(fault.Setup, fmt.Errorf("read %s: %w; restore it, or move the dataset away", name, err))
	}
	if have.Format < formatFirst || have.Format > formatNow {
		return have, version, fault.New(fault.Setup, fmt.Errorf("read %s: format %d is not one this version of weir knows (%d to %d); use a newer one", name, have.Format, formatFirst, formatNow))
	}
	return have, version, nil
}

// newestSchema is the schema with the highest version; the empty one when there is none.
func newestSchema(ctx context.Context, b blob.Bucket, path string) (*parquet.Schema, error) {
	newest := ""
	for e, err := range blob.All(ctx, b, blob.Query{Prefix: schemas + "/", Folders: true}) {
		if err != nil {
			return nil, fmt.Errorf("list the versions of the schema: %w", err)
		}
		if strings.HasSuffix(e.Name, ".json") {
			newest = e.Name // in order
		}
	}
	if newest == "" {
		return &parquet.Schema{}, nil
	}
	text, _, err := b.Get(ctx, newest)
	if err != nil {
		return nil, err
	}
	s, err := parquet.Parse(text)
	if err == nil && schemaName(s.Version) != newest {
		err = fmt.Errorf("it holds version %d", s.Version)
	}
	if err != nil {
		return nil, fault.New(fault.Setup, fmt.Errorf("read %s: %w; restore the file, it describes the columns of the dataset", filepath.Join(path, newest), err))
	}
	return s, nil
}

func schemaName(version int) string { return fmt.Sprintf("%s/%08d.json", schemas, version) }

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
	err := d.bucket.Close()
	if d.lock != nil {
		err = errors.Join(d.lock.Release(), err)
	}
	return err
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
func Check(ctx context.Context, path string, layout Layout) error {
	err := local(path)
	if err == nil {
		err = directory.Check(path)
	}
	if err != nil {
		return err
	}
	b, err := directory.Open(path, bucketAt(nil))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = b.Close() }() // only read
	have, _, err := readDescription(ctx, b, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && !slices.Equal(have.PartitionBy, layout) {
		return otherLayout(path, have.PartitionBy, layout)
	}
	return err
}

// Schema is the newest schema. It must not be changed.
func (d *Dataset) Schema() *parquet.Schema {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.schema
}

// Evolve makes next, which adds to base, the newest schema, durably. It fails with ErrStale
// when the newest is not base: the events must be decoded again.
func (d *Dataset) Evolve(ctx context.Context, base, next *parquet.Schema) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.schema.Version != base.Version {
		return ErrStale
	}
	text, err := json.MarshalIndent(next, "", " ")
	if err == nil {
		err = blob.Ensure(ctx, d.bucket, schemaName(next.Version), append(text, '\n'))
	}
	if errors.Is(err, blob.ErrExists) {
		return d.adopt(ctx, err)
	}
	if err != nil {
		return fmt.Errorf("write version %d of the schema: %w", next.Version, err)
	}
	d.step("evolved")
	d.schema = next
	return nil
}

// adopt takes the schema that is there for the newest: an earlier try wrote it, and was not
// told. Its events are decoded again, perhaps to other columns.
func (d *Dataset) adopt(ctx context.Context, taken error) error {
	newest, err := newestSchema(ctx, d.bucket, d.path)
	if err != nil {
		return err
	}
	if newest.Version <= d.schema.Version {
		return fmt.Errorf("write a version of the schema after %d: %w", d.schema.Version, taken)
	}
	d.schema = newest
	return ErrStale
}

// claim waits until nobody else in this process commits the file of the name, and keeps
// others from it until done is called.
func (d *Dataset) claim(ctx context.Context, name string) (done func(), err error) {
	for {
		done, other := d.tryClaim(name)
		if other == nil {
			return done, nil
		}
		select {
		case <-other:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// tryClaim is claim without waiting; other is closed when the one who has the file is done.
func (d *Dataset) tryClaim(name string) (done func(), other <-chan struct{}) {
	d.busyMu.Lock()
	defer d.busyMu.Unlock()
	if c := d.busy[name]; c != nil {
		return nil, c
	}
	mine := make(chan struct{})
	d.busy[name] = mine
	return func() {
		d.busyMu.Lock()
		defer d.busyMu.Unlock()
		delete(d.busy, name)
		close(mine)
	}, nil
}

// fileName is the name of a data file, recordName that of its record.
func fileName(partition, name string) string   { return path.Join(partition, name+suffix) }
func recordName(partition, name string) string { return path.Join(records, partition, name+recSuffix) }

// base is the last part of an object's name, folderOf what is before it; "." for nothing.
func base(name string) string     { return path.Base(name) }
func folderOf(name string) string { return path.Dir(name) }
