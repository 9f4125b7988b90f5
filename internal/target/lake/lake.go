// Package lake lands JSON events in a dataset of Parquet files: packages parquet and
// catalog say what the files and folders are.
//
// # A write is a commit
//
// The engine groups messages to buffers by count, bytes and age (the limits of this
// target), and one buffer is one Write. It becomes one file for each partition it has
// events of; Write returns after all of them are committed, so a message is acknowledged
// only once it is in a file that survives power loss. What is in flight in a pipeline
// bounds how much can be buffered: a buffer larger than in_flight never fills and is
// written by its age, while nothing more is read. Half of in_flight is right: one buffer
// fills while the one before is written.
//
// With the block buffer each partition fills a buffer of its own (the limits of this target
// group by the time of the event), and those that are due at one time share a write. The group is a
// guess that only decides who waits for whom; what an event is and where it belongs, Write finds
// out.
//
// # Every event once
//
// A source delivers again what was written but not acknowledged. Three things keep that from
// being there twice:
//
//   - A message that has a position ([event.Origin]: queues, files, Kafka, Kinesis and Event
//     Hubs give one) is recognised by it, whatever the grouping and whatever the transforms
//     made of it. Files of such messages land together, by one commit that holds what they are
//     recognised by. The last positions_kept are known.
//   - The name of another file is the hash of the messages in it: of the source's id of each and
//     its payload, in order. A file that is delivered again as a whole has the name it had, and
//     is not written again. Messages without an id of the source cannot be told from new
//     ones that look the same, and so their files have random names.
//   - With dedup_field, an event whose id is in a committed file of its partition, or earlier
//     in the buffer, is not written. Equal ids have equal times in a well-made event, and so
//     one partition. This holds for any grouping of what is delivered again, and for what a
//     producer sends twice.
//
// Only ids that are in their column count: an id that is null, absent or of another type
// than the column makes an event that is never taken for another one.
//
// # Order of things in a Write
//
//	leave out what has landed ──▶ decode ──▶ drop what is there already ──▶ new version of the schema, if any ──▶ files ──▶ commit
//
// When another writer changes the schema first, the events are decoded again. A file that
// cannot be written fails its own events, not those of other partitions. What became of a
// commit that failed is found out before the next write looks at what has landed.
package lake

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/weirdata/weir/internal/blob/place"
	"github.com/weirdata/weir/internal/blob/remote"
	"github.com/weirdata/weir/internal/catalog"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/garbage"
	"github.com/weirdata/weir/internal/glue"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/parquet"
)

// Attributes of log entries.
const (
	keyPath    = "path"
	keyColumns = "columns"
	keyFiles   = "files"
	keyWhat    = "what"
	keyTable   = "table"
	keyError   = meter.KeyError
)

// Target writes to one dataset.
type Target struct {
	config  Config
	place   place.Place
	store   place.Options
	path    string // of place, for errors and the log
	layout  catalog.Layout
	options parquet.Options
	clock   clock
	log     *slog.Logger
	step    func(string) // of the dataset's commits; for tests
	order   order
	slots   chan struct{} // of files that are encoded
	unsent  chan struct{} // of files that are encoded or on their way

	resolve   func(string) string
	behind    atomic.Bool // the table is, as was said
	committed committed
	mu        sync.RWMutex
	dataset   *catalog.Dataset
	registry  *glue.Registry // nil without a table of Hive
	loosen    func()         // lets garbage gather again; nil: it was not kept from it
	warned    sync.Once
	nameless  sync.Once // that an event had no id
}

var (
	_ connector.Inspector  = (*Target)(nil)
	_ connector.Limiter    = (*Target)(nil)
	_ connector.Checker    = (*Target)(nil)
	_ connector.Successive = (*Target)(nil)
	_ catalog.Lander       = (*Target)(nil)
)

// New returns a target that is not opened.
func New(d connector.Deps, c Config) (*Target, error) {
	log := d.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	p, err := place.Parse(c.Path)
	if err != nil {
		return nil, connector.Blame("path", connector.Remedy(err, ""), err)
	}
	p = p.In(d.Path)
	return &Target{
		config: c, place: p, path: p.String(), layout: c.layout(), options: c.decoding(), log: log,
		store: place.Options{Access: c.access(), Make: true, Properties: remote.Properties{ContentType: contentType}, Resolve: d.Path, Version: d.Version, Log: log},
		clock: newClock(c), resolve: d.Path,
		slots:  make(chan struct{}, runtime.GOMAXPROCS(0)),
		unsent: make(chan struct{}, uploads(p)),
	}, nil
}

// contentType is that of all that is in a lake: nobody needs to know more of an object.
const contentType = "application/octet-stream"

// uploads is how many files are on their way at once: each waits for a disk, or for answers, so
// more than are encoded at once.
func uploads(p place.Place) int {
	if p.Local() {
		return 8
	}
	return 16
}

// Limits implements connector.Limiter.
func (t *Target) Limits() connector.Limits { return t.config.limits() }

// Inspect implements connector.Inspector.
func (t *Target) Inspect() error { return t.place.Inspect(t.store) }

// Dataset implements catalog.Lander.
func (t *Target) Dataset() string { return t.path }

// Look implements catalog.Lander.
func (t *Target) Look(ctx context.Context) (*catalog.Snapshot, error) {
	reading := t.store
	reading.Make = false
	return catalog.LookIn(ctx, t.path, reading)
}

// Check implements connector.Checker.
func (t *Target) Check(ctx context.Context) error {
	if err := catalog.Check(ctx, t.path, t.layout, t.store); err != nil {
		return err
	}
	if err := t.checkTable(ctx); err != nil {
		return err
	}
	return t.place.Check(ctx, t.store)
}

// Open implements connector.Target.
func (t *Target) Open(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dataset != nil {
		return nil
	}
	o := catalog.Options{
		Layout: t.layout, TableName: t.config.tableName(), MaxIDs: t.config.DedupMaxIDs, MaxLanded: t.config.PositionsKept, Step: t.step, Store: t.store,
		Warn: func(what string, err error) {
			t.log.Warn("the lake is written to, but not all is as it should be", keyPath, t.path, keyWhat, what, meter.KeyError, err)
		},
	}
	if o.TableName != "" {
		o.Table = t.openTable
	}
	d, err := catalog.Open(ctx, t.path, o)
	if errors.Is(err, catalog.ErrHeld) {
		return &connector.Held{Err: err}
	}
	if err != nil {
		return err
	}
	if err := t.declared(d.Schema().Fields, "", ""); err != nil {
		return errors.Join(fault.New(fault.Setup, err), d.Close())
	}
	if err := t.declare(ctx, d); err != nil {
		return errors.Join(err, d.Close())
	}
	if t.registry, err = t.openHive(d.Schema()); err != nil {
		return errors.Join(err, d.Close())
	}
	t.dataset = d
	if t.config.Buffer != nil {
		t.loosen = garbage.Tighten(tightly)
	}
	return nil
}

// tightly is the garbage, in percent of what is in use, that gathers while buffers hold much for
// long.
const tightly = 35

// declared finds a column whose type is another than the one declared for it. Paths begin
// with above, or with listed, which has [] after lists.
func (t *Target) declared(fields []*parquet.Field, above, listed string) error {
	for _, f := range fields {
		if f.Variant != parquet.Main {
			continue
		}
		path := listed + f.Key
		if want := cmp.Or(t.options.Types[path], t.options.Types[above+f.Key]); want.Kind != parquet.Unknown && !f.Is(want) && f.Kind != parquet.Unknown {
			return fmt.Errorf("open the dataset %s: types declares %s as %s, but its column is %s already, and types never change; remove it from types, or begin a dataset in another path",
				t.path, path, want, f.TypeName())
		}
		end := f
		for end.Elem != nil {
			end = end.Elem
			path += "[]"
			if want := t.options.Types[path]; want.Kind != parquet.Unknown && !end.Is(want) {
				return fmt.Errorf("open the dataset %s: types declares %s as %s, but its column is %s already, and types never change; remove it from types, or begin a dataset in another path",
					t.path, path, want, end.TypeName())
			}
		}
		if err := t.declared(end.Fields, above+f.Key+".", path+"."); err != nil {
			return err
		}
	}
	return nil
}

// Close implements connector.Target.
func (t *Target) Close(context.Context) error {
	t.mu.Lock() // waits for writes in progress
	defer t.mu.Unlock()
	if t.dataset == nil {
		return nil
	}
	err := t.dataset.Close()
	t.dataset = nil
	if t.registry != nil {
		t.registry.Close()
		t.registry = nil
	}
	if t.loosen != nil {
		t.loosen()
		t.loosen = nil
	}
	return err
}

// Write implements connector.Target.
func (t *Target) Write(ctx context.Context, b event.Batch) error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.dataset == nil {
		return fault.New(fault.Fatal, fmt.Errorf("write to the dataset %s: it is not open", t.path))
	}
	if len(b) == 0 {
		return nil
	}
	mine := successionOf(ctx)
	if t.config.DedupField != "" { // they take turns, and the first of what repeats itself is kept
		if err := t.order.await(ctx, mine); err != nil {
			return err
		}
	}
	failed := map[int]error{}
	for at := 0; at < len(b); {
		n, err := t.writeSome(ctx, mine, b[at:], func(i int, err error) { failed[at+i] = err })
		if err != nil && at == 0 {
			return err
		}
		for i := at; err != nil && i < len(b); i++ { // what is before has landed
			failed[i] = err
		}
		if at += n; err != nil || at == len(b) {
			break
		}
		if err := t.order.await(ctx, mine); err != nil {
			for i := at; i < len(b); i++ {
				failed[i] = err
			}
			break
		}
	}
	t.publish(ctx)
	if len(failed) > 0 {
		return &connector.Partial{Failed: failed}
	}
	return nil
}

// writeSome writes messages, all of them unless the dataset's schema has to change for one while
// writes that began earlier may change it: then those before it, holding nothing any more that
// others wait for. It returns how many it has dealt with.
func (t *Target) writeSome(ctx context.Context, mine *succession, b event.Batch, fail func(int, error)) (int, error) {
	if t.config.DedupField != "" {
		done, err := t.dataset.Exclusive(ctx)
		if err != nil {
			return 0, err
		}
		defer done()
	}
	if n, _ := t.dataset.Behind(); n > 0 {
		if err := t.dataset.Publish(ctx); err != nil {
			return 0, err
		}
	}
	ids, lanes := identities(b)
	held, err := t.dataset.Reserve(ctx, ids, lanes)
	if err != nil {
		return 0, err
	}
	defer held.Release()
	w := &write{t: t, dataset: t.dataset, batch: b, failed: map[int]error{}, ids: ids, lanes: lanes, held: held, order: mine}
	at := 0
	for at < len(b) && !w.early {
		at = w.round(ctx, at)
		if t.config.DedupField != "" {
			t.dataset.Trim()
		}
	}
	w.shareTwins()
	for i, err := range w.failed {
		fail(i, err)
	}
	return at, nil
}
