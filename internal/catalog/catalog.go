// Package catalog keeps a dataset of Parquet files in a folder, or in a store of objects
// (package place): its layout, the versions of its schema, and the commit that makes a file part
// of it.
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
//	DATASET/_weir/owner.json                                  says who writes, in a store
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
// # Files of others
//
// Format 4 is a folder whose files somebody else writes, and that a crawl has adopted (crawl.go): no
// writer opens it, and every file of its kind that is there belongs to it. There, records are only what
// the crawl found out, as long as the file is the same.
//
// # One writer
//
// One process at a time writes to a dataset; others are told with ErrHeld, and wait. In a folder
// a lock on _weir/lock, which ends with the process, keeps them away. In a store nothing ends
// with a process: there _weir/owner.json is a lease that is renewed, and who has seen it without
// a renewal for long enough takes the dataset. That may be too early, and so the lease decides
// nothing: a writer that has lost the dataset without knowing finds its number taken at its next
// plan or commit, and has committed nothing since. Its uploads are aborted, and plans with files
// that it may create yet are kept, so that readers pass over those. Within the process any number
// of openers share one [Dataset]. Reading ([List], [Head], [Describe]) needs neither.
package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/blob/place"
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
	ownerName   = folder + "/owner.json"
	suffix      = ".parquet"
	recSuffix   = ".rec"
	formatFirst = 1 // without plans and commits
	formatNow   = 2
	formatTable = 3 // with a table that has to follow
	formatAlien = 4 // of files that others write
)

// dataset is _weir/dataset.json.
type dataset struct {
	Format      int    `json:"format"`
	PartitionBy Layout `json:"partition_by"`
	Table       string `json:"table,omitempty"` // the name of the one that follows
	// Adopted is set of one whose files others write.
	Adopted *Adopted `json:"adopted,omitempty"`
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
	// Store is how a dataset that is in a store is reached.
	Store place.Options
	// Table, if set, opens the table of the dataset's files, which is called TableName, and has
	// its own files in the dataset's bucket.
	Table     func(ctx context.Context, b blob.Bucket) (Table, error)
	TableName string
	// Warn, if set, is told what is not as it should be and stops nothing.
	Warn func(what string, err error)
}

// Dataset is a dataset opened for writing. Its methods may be called by several goroutines.
type Dataset struct {
	path      string
	layout    Layout
	bucket    blob.Bucket
	log       *journal
	exclusive chan struct{} // holds one element while nobody has the dataset for himself
	guard     guard         // keeps other processes away
	key       string        // of the place, in the table of those that are open
	refs      int           // see enter
	distant   bool          // each request takes its time
	warn      func(what string, err error)

	mu     sync.Mutex
	step   func(string)
	schema *parquet.Schema
	seen   ids

	follower *follower // of the table; nil for none

	busyMu sync.Mutex
	busy   map[string]chan struct{} // the files that are being committed; closed when they are
}

// ErrHeld says that another process writes to the dataset.
var ErrHeld = errors.New("another process writes to it")

// ErrStale says that a schema was changed by somebody else since it was read.
var ErrStale = errors.New("the dataset's schema has changed meanwhile")

// openIn opens the dataset in a bucket, called path. Unless it is fenced, which says that nobody
// else can write to it, the log alone decides who writes: who opens it last does, and others
// find out at their next plan or commit.
func openIn(ctx context.Context, bucket blob.Bucket, path string, fenced bool, o Options) (*Dataset, error) {
	d := &Dataset{
		path: path, layout: o.Layout, bucket: bucket, refs: 1, exclusive: make(chan struct{}, 1), step: o.Step, warn: o.Warn,
		log: newJournal(o.MaxLanded, fenced), seen: ids{limit: o.MaxIDs}, busy: map[string]chan struct{}{},
	}
	if d.warn == nil {
		d.warn = func(string, error) {}
	}
	d.exclusive <- struct{}{}
	if d.step == nil {
		d.step = func(string) {}
	}
	if o.Table != nil {
		t, err := o.Table(ctx, bucket)
		if err != nil {
			return nil, fmt.Errorf("open the table %s of the dataset %s: %w", o.TableName, path, err)
		}
		d.follower = follow(o.TableName, t)
		d.log.follower = d.follower
	}
	err := d.load(ctx, o.Layout)
	if err != nil && d.follower != nil {
		d.follower.stop()
		err = errors.Join(err, d.follower.table.Close())
	}
	return d, err
}

func otherLayout(path string, have, want Layout) error {
	return fault.New(fault.Setup, fmt.Errorf("open the dataset %s: it is partitioned by %v, not by %v; keep partition_by as it is, or begin a dataset in another path", path, have, want))
}

// load reads what the dataset is, or makes it one, and removes what a crash has left.
func (d *Dataset) load(ctx context.Context, want Layout) error {
	if err := d.sweep(ctx); err != nil {
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
	if have.Adopted != nil {
		return fault.New(fault.Setup, fmt.Errorf("open the dataset to write to it: %w", notOwn(d.path)))
	}
	if !slices.Equal(have.PartitionBy, want) {
		return otherLayout(d.path, have.PartitionBy, want)
	}
	if err := d.attach(ctx, have, version); err != nil {
		return err
	}
	if d.follower == nil && have.Format < formatNow {
		// From now on a version of weir that knows of no plans must not write to it: it would
		// take what is not committed for a part of it.
		if _, err := d.bucket.Replace(ctx, description, version, text); err != nil && !errors.Is(err, blob.ErrChanged) {
			return fmt.Errorf("describe the dataset: %w", err)
		}
	}
	if d.schema, err = newestSchema(ctx, d.bucket, d.path); err != nil {
		return err
	}
	if err := d.recover(ctx); err != nil {
		return err
	}
	return d.catchUp(ctx)
}

// sweep removes what dead writers have left of files that they were writing. Those of a store
// that live have lost the dataset, and what they write is undone: so none is spared.
func (d *Dataset) sweep(ctx context.Context) error {
	if d.log.fenced {
		return d.bucket.Sweep(ctx, time.Now())
	}
	err := d.bucket.Sweep(ctx, time.Now().Add(anyClock))
	if err != nil && ctx.Err() == nil {
		d.warn("what dead writers have left of their uploads cannot be removed, and costs what it is stored for", err)
		return nil
	}
	return err
}

// anyClock is more than the clock of a store can be ahead.
const anyClock = 365 * 24 * time.Hour

func readDescription(ctx context.Context, b blob.Bucket, path string) (have dataset, version blob.Version, err error) {
	text, version, err := b.Get(ctx, description)
	if err != nil {
		return have, version, err
	}
	name := at(path, description)
	if err := json.Unmarshal(text, &have); err != nil {
		return have, version, fault.New(fault.Setup, fmt.Errorf("read %s: %w; restore it, or move the dataset away", name, err))
	}
	if have.Format < formatFirst || have.Format > formatAlien {
		return have, version, fault.New(fault.Setup, fmt.Errorf("read %s: format %d is not one this version of weir knows (%d to %d); use a newer one", name, have.Format, formatFirst, formatAlien))
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
		return nil, fault.New(fault.Setup, fmt.Errorf("read %s: %w; restore the file, it describes the columns of the dataset", at(path, newest), err))
	}
	return s, nil
}

func schemaName(version int) string { return fmt.Sprintf("%s/%08d.json", schemas, version) }

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
