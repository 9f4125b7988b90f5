package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/parquet"
)

// Table is a table of the files of a dataset, for engines that read tables. It follows the
// commits of the log: what has landed is the log's to say, and the table gets it in the order of
// the numbers, with the number it then goes through in the same change. So nothing is in it twice,
// whatever dies in between, and what is missing is what lies behind that number.
type Table interface {
	// Columns are the ids of the columns of a version of the schema, by their full names; the
	// table has these columns from then on.
	Columns(ctx context.Context, s *parquet.Schema) (map[string]int32, error)
	// Through is the number of the last commit that the table has; known is false when it
	// never had any, or is not there.
	Through(ctx context.Context) (n uint64, known bool, err error)
	// Append adds the files of the commits behind the one that the table goes through. first
	// says that it may be one without any. positions tells how far the dataset has been read,
	// from what the table said of that before.
	Append(ctx context.Context, all []Published, first bool, positions func(before string) string) error
	Close() error
}

// Published is a commit as a table gets it.
type Published struct {
	Number uint64
	Files  []TableFile
}

// TableFile is a file of a commit.
type TableFile struct {
	Name    string // of the object
	Size    int64
	Summary *parquet.Summary // nil until it is needed
}

// follower is what a table has to get yet.
type follower struct {
	name  string
	table Table

	publishing chan struct{} // holds one element while nobody publishes

	// The journal's lock guards these.
	open    map[uint64]bool           // plans that may be committed yet
	pending map[uint64]*pendingCommit // commits that the table may not have
	said    map[string]TableFile      // files of this process that are on their way
	begun   bool                      // the table goes through some commit
	through uint64                    // which one
	failed  error                     // of the last try
	again   bool                      // it is being tried again
	stop    context.CancelFunc
	life    context.Context
	retries sync.WaitGroup
}

// pendingCommit is a commit on its way to the table.
type pendingCommit struct {
	files []TableFile
	lanes []reach
}

func follow(name string, t Table) *follower {
	f := &follower{name: name, table: t, publishing: make(chan struct{}, 1), open: map[uint64]bool{}, pending: map[uint64]*pendingCommit{}, said: map[string]TableFile{}}
	f.publishing <- struct{}{}
	f.life, f.stop = context.WithCancel(context.Background())
	return f
}

// closeTime is how long the end of a dataset waits for its table to get what is left. The next
// opening gives it that too.
const closeTime = 30 * time.Second

// called is the name of the table; empty without one.
func (f *follower) called() string {
	if f == nil {
		return ""
	}
	return f.name
}

// listen has what the file says of itself kept for the table.
func (d *Dataset) listen(file *File) {
	f := d.follower
	if f == nil || file.Summary == nil {
		return
	}
	name, write, summary := fileName(file.Partition, file.Name), file.Write, file.Summary
	file.Write = func(w io.Writer) error {
		c := &counter{to: w}
		err := write(c)
		if err == nil {
			d.log.mu.Lock()
			f.said[name] = TableFile{name, c.n, summary()}
			d.log.mu.Unlock()
		}
		return err
	}
}

// attach has the description name the table of the dataset.
func (d *Dataset) attach(ctx context.Context, have dataset, version blob.Version) error {
	want := d.follower.called()
	if err := d.agree(have, want); err != nil || have.Table == want {
		return err
	}
	if err := d.notLeft(ctx); err != nil {
		return err
	}
	text, err := json.Marshal(dataset{Format: formatTable, PartitionBy: have.PartitionBy, Table: want})
	if err == nil {
		_, err = d.bucket.Replace(ctx, description, version, append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("describe the dataset: %w", err)
	}
	return nil
}

// Columns are the ids that the dataset's table has given the columns of s; nil without a table.
func (d *Dataset) Columns(ctx context.Context, s *parquet.Schema) (map[string]int32, error) {
	if d.follower == nil {
		return nil, nil
	}
	return d.follower.table.Columns(ctx, s)
}

// catchUp finds out which commits the table has not got. One that has never had any gets all
// files that there are.
func (d *Dataset) catchUp(ctx context.Context) error {
	f, j := d.follower, d.log
	if f == nil {
		return nil
	}
	through, known, err := f.table.Through(ctx)
	if err != nil {
		return err
	}
	f.again = true // whoever opens the dataset tries again
	defer func() { f.again = false }()
	if f.begun, f.through = known, through; known {
		// The log keeps every commit behind the one that the table goes through.
		if newest := j.next - 1; newest < through || len(j.kept) > 0 && j.kept[0].number > through+1 {
			return fault.New(fault.Setup, fmt.Errorf("open the dataset %s: its table %s goes through commit %d, and its log does not begin there: one of them was set back, or is of an earlier dataset; drop the table (without its files), so that it is made anew",
				d.path, f.name, through))
		}
		for _, k := range j.kept {
			if k.number <= through {
				continue
			}
			o, _, err := readOutcome(ctx, d.bucket, d.path, k.number, false)
			if err != nil {
				return err
			}
			f.add(o)
		}
		return d.Publish(ctx)
	}
	all := &pendingCommit{}
	err = reading{path: d.path, bucket: d.bucket}.eachFile(ctx, func(i blob.Info) error {
		all.files = append(all.files, TableFile{Name: i.Name, Size: i.Size})
		return nil
	})
	if err != nil || len(all.files) == 0 {
		return err
	}
	if _, err := f.table.Columns(ctx, d.schema); err != nil {
		return err
	}
	f.pending[j.next-1] = all
	return d.Publish(ctx)
}

// add notes a commit that the table has to get. The journal's lock is held.
func (f *follower) add(o outcome) {
	if len(o.Files) == 0 {
		return
	}
	p := &pendingCommit{lanes: o.Lanes}
	for _, name := range o.Files {
		said, ok := f.said[name]
		if !ok {
			said.Name = name
		}
		delete(f.said, name)
		p.files = append(p.files, said)
	}
	f.pending[o.Number] = p
}

// settled notes what became of a plan. The journal's lock is held.
func (j *journal) settled(o outcome, p *plan) {
	f := j.follower
	if f == nil {
		return
	}
	delete(f.open, o.Number)
	f.add(o)
	for _, name := range p.Files {
		delete(f.said, name)
	}
}

// unpublished reports whether the table may have to get the commit yet. The journal's lock is
// held.
func (j *journal) unpublished(n uint64) bool {
	return j.follower != nil && (!j.follower.begun || n > j.follower.through)
}

// ready are the commits that the table can get: those before the first plan whose outcome is
// open, in order.
func (j *journal) ready() (numbers []uint64, commits []*pendingCommit) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f := j.follower
	for n := range f.pending {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	for i, n := range numbers {
		for open := range f.open {
			if open < n {
				return numbers[:i], commits
			}
		}
		commits = append(commits, f.pending[n])
	}
	return numbers, commits
}

// Behind is how many commits the dataset's table has not got, and the error of the last try.
func (d *Dataset) Behind() (commits int, err error) {
	f := d.follower
	if f == nil {
		return 0, nil
	}
	d.log.mu.Lock()
	defer d.log.mu.Unlock()
	return len(f.pending), f.failed
}

// Publish gives the table the commits that it has not got. What it cannot be given is tried
// again, in the background, and before anything else lands.
func (d *Dataset) Publish(ctx context.Context) error {
	f := d.follower
	if f == nil {
		return nil
	}
	select {
	case <-f.publishing:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { f.publishing <- struct{}{} }()
	return d.publish(ctx)
}

func (d *Dataset) publish(ctx context.Context) error {
	f, j := d.follower, d.log
	numbers, commits := j.ready()
	if len(numbers) == 0 {
		return nil
	}
	d.step("publishing")
	err := d.summarise(ctx, commits)
	if err == nil {
		all := make([]Published, len(numbers))
		var lanes []reach
		for i, c := range commits {
			all[i] = Published{numbers[i], c.files}
			lanes = append(lanes, c.lanes...)
		}
		err = f.table.Append(ctx, all, !f.begun, func(before string) string { return furthest(before, lanes) })
	}
	d.step("published")
	j.mu.Lock()
	defer j.mu.Unlock()
	f.failed = err
	if err != nil {
		err = fmt.Errorf("give %d commits of the dataset %s to its table %s: %w", len(numbers), d.path, f.name, err)
		if !f.again && f.life.Err() == nil {
			f.again = true
			f.retries.Go(d.tryAgain)
		}
		return err
	}
	f.begun, f.through = true, max(f.through, numbers[len(numbers)-1])
	for _, n := range numbers {
		delete(f.pending, n)
	}
	return nil
}

// tryAgain publishes until that succeeds.
func (d *Dataset) tryAgain() {
	f := d.follower
	for wait := time.Second; ; wait = min(2*wait, time.Minute) {
		select {
		case <-f.life.Done():
			return
		case <-time.After(wait):
		}
		select {
		case <-f.life.Done():
			return
		case <-f.publishing:
		}
		err := d.publish(f.life)
		d.log.mu.Lock()
		if err == nil {
			f.again = false
		}
		d.log.mu.Unlock()
		f.publishing <- struct{}{}
		if err == nil {
			return
		}
	}
}

// end publishes what is left, and lets go of the table.
func (f *follower) end(ctx context.Context, d *Dataset) error {
	if f == nil {
		return nil
	}
	f.stop()
	f.retries.Wait()
	return errors.Join(d.Publish(ctx), f.table.Close())
}

// summarise reads what files say of themselves that this process has not written.
func (d *Dataset) summarise(ctx context.Context, commits []*pendingCommit) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for _, c := range commits {
		for i := range c.files {
			if file := &c.files[i]; file.Summary == nil {
				g.Go(func() error { return d.summary(ctx, file) })
			}
		}
	}
	return g.Wait()
}

func (d *Dataset) summary(ctx context.Context, file *TableFile) error {
	if file.Size == 0 {
		info, err := d.bucket.Head(ctx, file.Name)
		if err != nil {
			return err
		}
		file.Size = info.Size
	}
	data, err := blob.OpenRandom(ctx, d.bucket, file.Name)
	if err != nil {
		return err
	}
	defer func() { _ = data.Close() }() // only read
	if file.Summary, err = parquet.ReadSummary(data, file.Size); err != nil {
		return fmt.Errorf("read %s: %w", at(d.path, file.Name), err)
	}
	return nil
}

// mostPositions is of how many lanes a table says how far they go: those that went on last.
const mostPositions = 256

// furthest is how far the lanes go that a table has, as JSON: those it had, and what it gets.
func furthest(before string, lanes []reach) string {
	var all []reach
	if json.Unmarshal([]byte(before), &all) != nil {
		all = nil // somebody else wrote it; it is told, and nothing depends on it
	}
	for _, r := range lanes {
		i := slices.IndexFunc(all, func(x reach) bool { return x.Stream == r.Stream && x.Partition == r.Partition })
		if i >= 0 {
			if all[i].Last.Compare(r.Last) > 0 {
				r = all[i]
			}
			all = slices.Delete(all, i, i+1)
		}
		all = append(all, r)
	}
	if len(all) == 0 {
		return ""
	}
	text, err := json.Marshal(all[max(0, len(all)-mostPositions):])
	if err != nil {
		panic(fmt.Sprintf("positions have a JSON form: %v", err))
	}
	return string(text)
}

// agree finds out whether the dataset has the table that it is opened with. The description
// says which one it is, so that no writer leaves it behind: neither one without a table, nor a
// version of weir that knows of none.
func (d *Dataset) agree(have dataset, table string) error {
	switch {
	case table == "" && have.Table != "":
		return fault.New(fault.Setup, fmt.Errorf("open the dataset %s: it has the table %s, which would not get what is written; give the target the block table, or take \"table\" out of %s, after which another table can be made, and this one not go on",
			d.path, have.Table, at(d.path, description)))
	case have.Table != "" && have.Table != table:
		return fault.New(fault.Setup, fmt.Errorf("open the dataset %s: it has the table %s already, not %s; change the name in the block table", d.path, have.Table, table))
	}
	return nil
}

// notLeft refuses a table that the dataset was not described with, and that has some commits:
// others followed, or not, that nobody can tell.
func (d *Dataset) notLeft(ctx context.Context) error {
	_, known, err := d.follower.table.Through(ctx)
	if err == nil && known {
		err = fault.New(fault.Setup, fmt.Errorf("open the dataset %s: its table %s was left behind, and may miss files; drop it (without its files), so that it is made anew", d.path, d.follower.name))
	}
	return err
}
