package catalog

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/blob/directory"
	"github.com/weirdata/weir/internal/blob/place"
	"github.com/weirdata/weir/internal/fault"
)

// Compaction puts the rows of many files into few. It has a log of its own, beside that of
// landings, so that it goes on while a pipeline lands:
//
//	_weir/compactions/000000000003.json   what is about to be created, and replaced by it
//	_weir/compactions/000000000003.done   what became of it
//	_weir/replaced/year=2024/.../NAME.old what was replaced, until it is expired
//	_weir/compact.lock                    held by the process that compacts; in a store nobody holds it,
//	                                      and of two who compact at once one is undone
//
// Its steps are these, and a crash between any two of them is made good by the next compaction:
//
//  1. the plan is created: from now on readers pass over the new files
//  2. the new files are created, each with its record behind it; the old ones are copied aside
//  3. the outcome is created: the commit. From now on readers pass over the old files
//  4. the old files are removed, then their records, then the plan
//
// A plan without an outcome is undone: whoever finds it creates an empty one, so that nobody can
// commit it any more, and removes its files. Readers of this package see the old files or the new
// ones, never both and never neither: they list the files between two looks at the log that agree,
// and find what is removed meanwhile where it was copied. Who lists the folder himself sees both
// between 2 and 4, and misses the file he had listed after 4.
//
// A file's record is created behind the file here, not before: a writer that looks for duplicates
// removes records whose file is not there.

const (
	compactions = folder + "/compactions"
	replaced    = folder + "/replaced"
	compactLock = folder + "/compact.lock"
	doneSuffix  = ".done"
	oldSuffix   = ".old"
)

// compaction is _weir/compactions/NUMBER.json.
type compaction struct {
	Number   uint64   `json:"compaction"`
	Writer   string   `json:"writer"`
	Files    []string `json:"files"` // that may be created, relative to the dataset
	Replaces []string `json:"replaces"`
}

// compacted is _weir/compactions/NUMBER.done. Without Replaced it was undone.
type compacted struct {
	Number     uint64    `json:"compaction"`
	Writer     string    `json:"writer"`
	At         time.Time `json:"at"`
	Partition  string    `json:"partition,omitempty"`
	Files      []string  `json:"files,omitempty"`
	Replaced   []string  `json:"replaced,omitempty"`
	Rows       int64     `json:"rows,omitempty"`
	Duplicates int64     `json:"duplicates,omitempty"`
	Before     int64     `json:"bytes_before,omitempty"`
	After      int64     `json:"bytes_after,omitempty"`
}

func compactionName(n uint64) string { return fmt.Sprintf("%s/%012d.json", compactions, n) }
func doneName(n uint64) string       { return fmt.Sprintf("%s/%012d%s", compactions, n, doneSuffix) }
func oldName(file string) string     { return replaced + "/" + file + oldSuffix }

// readLog reads an object of the log of compactions.
func readLog(ctx context.Context, b blob.Bucket, where, name string, into any) error {
	text, _, err := b.Get(ctx, name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fault.New(fault.Setup, fmt.Errorf("read %s: %w; restore the file: it says which files belong to the dataset", at(where, name), err))
	}
	return nil
}

// merges is the log of compactions as readers see it.
type merges struct {
	absent map[string]bool // files that may be there and do not belong to the dataset
	state  string          // differs when the log does
}

// readMerges reads which files are not, or no longer, part of the dataset by a compaction.
func readMerges(ctx context.Context, b blob.Bucket, where string) (m merges, err error) {
	m.absent = map[string]bool{}
	planned, err := numbers(ctx, b, compactions, ".json", 0)
	if err != nil {
		return m, err
	}
	done, err := numbers(ctx, b, compactions, doneSuffix, 0)
	if err != nil {
		return m, err
	}
	newest := uint64(0)
	if len(done) > 0 {
		newest = done[len(done)-1]
	}
	m.state = fmt.Sprint(planned, newest)
	for _, n := range planned {
		var p compaction
		var o compacted
		if err := readLog(ctx, b, where, compactionName(n), &p); errors.Is(err, blob.ErrNotFound) {
			continue // it is over meanwhile
		} else if err != nil {
			return m, err
		}
		err := readLog(ctx, b, where, doneName(n), &o)
		if err != nil && !errors.Is(err, blob.ErrNotFound) {
			return m, err
		}
		m.state += fmt.Sprint(" ", n, err == nil)
		for _, name := range p.Files {
			if !slices.Contains(o.Files, name) {
				m.absent[name] = true
			}
		}
		for _, name := range o.Replaced {
			m.absent[name] = true
		}
	}
	return m, nil
}

// mostLooks is how often a list of files is made while compactions go on.
const mostLooks = 100

// settled lists the files of the dataset, as they were at one moment of
// the log of compactions.
func (d reading) settled(ctx context.Context) ([]blob.Info, error) {
	for range mostLooks {
		before, err := readMerges(ctx, d.bucket, d.path)
		if err != nil {
			return nil, err
		}
		landing, err := unsettledFiles(ctx, d.bucket, d.path)
		if err != nil {
			return nil, err
		}
		var files []blob.Info
		if err := d.walk(ctx, "", func(f blob.Info) error { files = append(files, f); return nil }); err != nil {
			return nil, err
		}
		// What is planned by now may be there in part.
		landingNow, err := unsettledFiles(ctx, d.bucket, d.path)
		if err != nil {
			return nil, err
		}
		after, err := readMerges(ctx, d.bucket, d.path)
		if err != nil {
			return nil, err
		}
		if before.state == after.state {
			return slices.DeleteFunc(files, func(f blob.Info) bool {
				return landing[f.Name] || landingNow[f.Name] || after.absent[f.Name]
			}), nil
		}
	}
	return nil, fault.New(fault.Transient, fmt.Errorf("list the files of %s: it is being compacted all the time; ask again", d.path))
}

// open opens a data file, or what was kept of it when it was replaced.
func (d reading) open(ctx context.Context, file blob.Info) (blob.Random, error) {
	data, err := blob.OpenRandom(ctx, d.bucket, file.Name)
	if errors.Is(err, blob.ErrNotFound) {
		if old, oldErr := blob.OpenRandom(ctx, d.bucket, oldName(file.Name)); oldErr == nil {
			return old, nil
		}
		err = fault.New(fault.Transient, fmt.Errorf("open %s: it was there a moment ago, and is expired by now: %w; ask again", at(d.path, file.Name), err))
	}
	return data, err
}

// compactor compacts one dataset.
type compactor struct {
	table string // the name of the one that follows the dataset
	reading
	layout Layout
	lock   *directory.Lock // nil in a store
	fenced bool            // a lock keeps others away; else the log alone does
	writer string
	next   uint64
	step   func(string)
}

// openCompactor makes the caller the one who compacts the dataset at path, and makes good what a
// crash has left.
func openCompactor(ctx context.Context, path string, step func(string)) (*compactor, error) {
	o := place.Options{}
	if step != nil {
		o.Step = func(name, _ string) { step(name) }
	}
	b, err := openToRead(ctx, path, o)
	if err != nil {
		return nil, notDataset(path, err)
	}
	if _, _, err := readDescription(ctx, b, path); err != nil {
		return nil, errors.Join(notDataset(path, err), b.Close())
	}
	var lock *directory.Lock
	if folder, ok := b.(*directory.Bucket); ok {
		l, err := folder.Lock(compactLock)
		if errors.Is(err, directory.ErrLocked) {
			err = fault.New(fault.Setup, fmt.Errorf("compact %s: another process compacts it; wait until it is done", path))
		}
		if err != nil {
			return nil, errors.Join(err, b.Close())
		}
		lock = l
	}
	c, err := compactIn(ctx, b, path, lock != nil, step)
	if err != nil {
		if lock != nil {
			err = errors.Join(err, lock.Release())
		}
		return nil, errors.Join(err, b.Close())
	}
	c.lock = lock
	return c, nil
}

func compactIn(ctx context.Context, b blob.Bucket, path string, fenced bool, step func(string)) (*compactor, error) {
	c := &compactor{reading: reading{path: path, bucket: b}, fenced: fenced, writer: rand.Text(), step: step}
	if c.step == nil {
		c.step = func(string) {}
	}
	about, _, err := readDescription(ctx, b, path)
	if err != nil {
		return nil, err
	}
	c.about, c.layout, c.table = about, about.PartitionBy, about.Table
	err = c.recover(ctx)
	return c, err
}

func (c *compactor) close() error {
	var err error
	if c.lock != nil {
		err = c.lock.Release()
	}
	return errors.Join(err, c.bucket.Close())
}

// recover settles every plan that is there.
func (c *compactor) recover(ctx context.Context) error {
	planned, err := numbers(ctx, c.bucket, compactions, ".json", 0)
	if err != nil {
		return err
	}
	done, err := numbers(ctx, c.bucket, compactions, doneSuffix, 0)
	if err != nil {
		return err
	}
	for _, n := range append(slices.Clone(planned), done...) {
		c.next = max(c.next, n+1)
	}
	c.next = max(c.next, 1)
	for _, n := range planned {
		var p compaction
		if err := readLog(ctx, c.bucket, c.path, compactionName(n), &p); errors.Is(err, blob.ErrNotFound) {
			continue
		} else if err != nil {
			return err
		}
		o, err := c.end(ctx, compacted{Number: n, Writer: c.writer, At: time.Now().UTC()})
		if err != nil {
			return fmt.Errorf("settle compaction %d of %s: %w", n, c.path, err)
		}
		if err := c.clear(ctx, p, o); err != nil {
			return fmt.Errorf("settle compaction %d of %s: %w", n, c.path, err)
		}
	}
	return nil
}

// end makes o the outcome of its number, unless there is one: then it is that one.
func (c *compactor) end(ctx context.Context, o compacted) (compacted, error) {
	text, err := json.Marshal(o)
	if err != nil {
		return o, err
	}
	err = blob.Ensure(ctx, c.bucket, doneName(o.Number), append(text, '\n'))
	if errors.Is(err, blob.ErrExists) {
		var have compacted
		err = readLog(ctx, c.bucket, c.path, doneName(o.Number), &have)
		return have, err
	}
	return o, err
}

// clear removes what does not belong to the dataset by the outcome of a plan, then the plan. Where
// no lock has ended its writer, that may create files later still: then the plan of one that was
// undone stays until it is expired.
func (c *compactor) clear(ctx context.Context, p compaction, o compacted) error {
	// The outcome may be that of a plan that had the number before, and was removed with it: who
	// has planned this one did not know, and cannot commit it either.
	files, undone := slices.Clone(o.Replaced), len(o.Replaced) == 0 || o.Writer != p.Writer
	for _, f := range p.Files {
		if !slices.Contains(o.Files, f) {
			files = append(files, f)
		}
	}
	var behind []string
	for _, f := range files {
		behind = append(behind, recordName(folderOf(f), strings.TrimSuffix(base(f), suffix)))
	}
	if undone {
		for _, f := range p.Replaces {
			behind = append(behind, oldName(f))
		}
	}
	if err := c.bucket.Delete(ctx, files...); err != nil {
		return err
	}
	c.step("old files removed")
	if err := c.bucket.Delete(ctx, behind...); err != nil {
		return err
	}
	c.step("old records removed")
	if undone && !c.fenced {
		return nil
	}
	return c.bucket.Delete(ctx, compactionName(p.Number))
}

// keep copies a file aside, for readers that have it on their list.
func (c *compactor) keep(ctx context.Context, file blob.Info) (err error) {
	in, err := c.bucket.Open(ctx, file.Name, 0, -1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := c.bucket.Writer(ctx, oldName(file.Name))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Abort()) }()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	if err := out.Commit(ctx); !errors.Is(err, blob.ErrExists) {
		return err
	}
	return nil
}

// Expired is what an expiry has removed.
type Expired struct {
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
}

// Expire removes what was replaced in the dataset at path before the given time: nobody who has
// listed it earlier can read it any more. That of a compaction goes too which says what it was.
func Expire(ctx context.Context, path string, before time.Time, dryRun bool) (e Expired, err error) {
	c, err := openCompactor(ctx, path, nil)
	if err != nil {
		return e, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	return c.expire(ctx, before, dryRun)
}

func (c *compactor) expire(ctx context.Context, before time.Time, dryRun bool) (e Expired, err error) {
	var gone []string
	for o, err := range objects(ctx, c.bucket, blob.Query{Prefix: replaced + "/"}) {
		if err != nil {
			return e, fmt.Errorf("list what was replaced in %s: %w", c.path, err)
		}
		if o.Modified.Before(before) {
			gone = append(gone, o.Name)
			e.Files++
			e.Bytes += o.Size
		}
	}
	if dryRun {
		return e, nil
	}
	for o, err := range objects(ctx, c.bucket, within(compactions)) {
		if err != nil {
			return e, fmt.Errorf("list the compactions of %s: %w", c.path, err)
		}
		n, isDone := numberOf(o.Name, doneSuffix)
		if _, isPlan := numberOf(o.Name, ".json"); o.Modified.Before(before) && (isPlan || isDone && n != c.next-1) {
			gone = append(gone, o.Name)
		}
	}
	if len(gone) == 0 {
		return e, nil
	}
	// Plans first: one without its outcome would be undone.
	slices.SortStableFunc(gone, func(a, b string) int { return order(a) - order(b) })
	for part := range slices.Chunk(gone, blob.MaxList) {
		if err := c.bucket.Delete(ctx, part...); err != nil {
			return e, err
		}
	}
	return e, nil
}

func order(name string) int {
	if strings.HasPrefix(name, compactions) && strings.HasSuffix(name, ".json") {
		return 0
	}
	return 1
}
