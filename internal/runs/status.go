package runs

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"

	"github.com/weirdata/weir/internal/queue"
)

// Errors of who asks.
var (
	ErrNotFound    = errors.New("status not found")
	ErrNotComplete = errors.New("source not completed")
)

// Filter chooses tasks and sources of a run; none stands for all.
type Filter struct{ Tasks, Sources []string }

func (f Filter) takes(r row) bool {
	return (len(f.Tasks) == 0 || slices.Contains(f.Tasks, r.task)) && (len(f.Sources) == 0 || slices.Contains(f.Sources, r.source))
}

// Status is how far a run is.
type Status struct {
	ID    string `json:"id"`
	Tasks []Task `json:"tasks"`
}

// Task is a task of a run.
type Task struct {
	ID      string   `json:"id"`
	Sources []Source `json:"sources"`
}

// Source is a source of a task: it is completed when all that came in has ended, here and at each of its
// destinations.
type Source struct {
	ID           string        `json:"id"`
	Completed    bool          `json:"completed"`
	Stats        Stats         `json:"stats"`
	Destinations []Destination `json:"destinations"`
}

// Destination is a destination of a source.
type Destination struct {
	ID        string `json:"id"`
	Completed bool   `json:"completed"`
	Stats     Stats  `json:"stats"`
}

// Stats are counts, of which In is at least the sum of the others.
type Stats struct {
	In     int64 `json:"in"`
	Out    int64 `json:"out"`
	Failed int64 `json:"failed"`
}

func (c Counts) stats() Stats {
	return Stats{In: max(c.In, c.Out+c.Failed), Out: c.Out, Failed: c.Failed}
}

func (s Stats) completed() bool { return s.In == s.Out+s.Failed }

// counted is the rows of a run as they are at one moment.
func counted(r queue.Reader, run string) (map[row]Counts, error) {
	rows := map[row]Counts{}
	add := func(of row, c Counts) {
		sum := rows[of]
		sum.add(c)
		rows[of] = sum
	}
	for rec, err := range r.Scan(join(sums, hash(run)), nil) {
		if err != nil {
			return nil, err
		}
		of, c, err := readSum(rec)
		if err != nil {
			return nil, err
		}
		add(of, c)
	}
	for rec, err := range r.Scan(join(changes, hash(run)), nil) {
		if err != nil {
			return nil, err
		}
		c, err := readChange(rec)
		if err != nil {
			return nil, err
		}
		for of, n := range c.rows {
			add(of, n)
		}
	}
	return rows, nil
}

// Status is how far a run is, as of the last transaction before.
func (b *Book) Status(ctx context.Context, run string, f Filter) (*Status, error) {
	var rows map[row]Counts
	err := b.store().View(ctx, func(r queue.Reader) (err error) {
		rows, err = counted(r, run)
		return err
	})
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(rows, func(r row, _ Counts) bool { return !f.takes(r) })
	if len(rows) == 0 {
		return nil, ErrNotFound
	}
	return statusOf(run, rows), nil
}

func inOrder(a, b row) int {
	return cmp.Or(cmp.Compare(a.task, b.task), cmp.Compare(a.source, b.source), cmp.Compare(a.destination, b.destination))
}

func statusOf(run string, rows map[row]Counts) *Status {
	s := &Status{ID: run}
	var task *Task
	var source *Source
	for _, r := range slices.SortedFunc(maps.Keys(rows), inOrder) {
		if task == nil || task.ID != r.task {
			s.Tasks = append(s.Tasks, Task{ID: r.task})
			task, source = &s.Tasks[len(s.Tasks)-1], nil
		}
		if source == nil || source.ID != r.source {
			task.Sources = append(task.Sources, Source{ID: r.source, Completed: true})
			source = &task.Sources[len(task.Sources)-1]
		}
		stats := rows[r].stats()
		source.Completed = source.Completed && stats.completed()
		if r.destination == "" {
			source.Stats = stats
			continue
		}
		source.Destinations = append(source.Destinations, Destination{ID: r.destination, Completed: stats.completed(), Stats: stats})
	}
	return s
}

// DeleteStatus takes away the status of a run whose sources are all completed. What failed stays until
// [Book.DeleteFailed], or as long as a status would have.
func (b *Book) DeleteStatus(ctx context.Context, run string, f Filter) error {
	if err := b.Fold(ctx); err != nil {
		return err
	}
	s, err := b.Status(ctx, run, f)
	if err != nil {
		return err
	}
	for _, t := range s.Tasks {
		for _, source := range t.Sources {
			if !source.Completed {
				return ErrNotComplete
			}
		}
	}
	return b.remove(ctx, join(sums, hash(run)), func(rec queue.Record) (row, error) {
		of, _, err := readSum(rec)
		return of, err
	}, f)
}

// DeleteFailed takes away the records of a run that failed.
func (b *Book) DeleteFailed(ctx context.Context, run string, f Filter) error {
	return b.remove(ctx, join(failed, hash(run)), func(rec queue.Record) (row, error) {
		of, _, _, err := readRecord(rec)
		return of, err
	}, f)
}

// remove takes away the records below a prefix that f takes and nobody has changed meanwhile.
func (b *Book) remove(ctx context.Context, prefix []byte, of func(queue.Record) (row, error), f Filter) error {
	return b.each(ctx, prefix, func(page []queue.Record) error {
		return b.store().Update(ctx, func(tx queue.Tx) error {
			for _, rec := range page {
				r, err := of(rec)
				if err != nil {
					return err
				}
				if !f.takes(r) {
					continue
				}
				now, err := tx.Get(rec.Key)
				if err != nil {
					return err
				}
				if !bytes.Equal(now, rec.Value) {
					continue
				}
				if err := tx.Delete(rec.Key); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// Failures are the records of a run that failed, a page of them.
type Failures struct {
	ID     string        `json:"id"`
	Tasks  []FailedTask  `json:"tasks"`
	Paging *Continuation `json:"paging,omitempty"`
}

// FailedTask is a task of which records failed.
type FailedTask struct {
	ID      string         `json:"id"`
	Sources []FailedSource `json:"sources"`
}

// FailedSource is a source of which records failed: before they had a destination, or at one.
type FailedSource struct {
	ID           string              `json:"id"`
	Records      []Failed            `json:"records"`
	Destinations []FailedDestination `json:"destinations"`
}

// FailedDestination is a destination at which records failed.
type FailedDestination struct {
	ID      string   `json:"id"`
	Records []Failed `json:"records"`
}

// Failed is a record that failed: the recordId of its event as it was, and the code of its error, or 0.
type Failed struct {
	Record json.RawMessage `json:"record"`
	Code   int             `json:"code"`
}

// Continuation is where the next page begins; it is there when a page was full.
type Continuation struct {
	Size int    `json:"size"`
	Next string `json:"next"`
}

// one is a record that failed, and where.
type one struct {
	row
	Failed
}

// Failures are records of a run that failed, at most size of them, after the one that a token names.
// A run that is not known has none.
func (b *Book) Failures(ctx context.Context, run string, f Filter, size int, after *Token) (*Failures, error) {
	var found []one
	var last *Token
	err := b.store().View(ctx, func(r queue.Reader) error {
		found, last = nil, nil
		for rec, err := range r.Scan(join(failed, hash(run)), after.key(run)) {
			if err != nil {
				return err
			}
			of, id, code, err := readRecord(rec)
			if err != nil {
				return err
			}
			if !f.takes(of) {
				continue
			}
			found = append(found, one{of, Failed{json.RawMessage(id), code}})
			if len(found) == size {
				last = &Token{of: of.hash(), record: id}
				break
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := failuresOf(run, found)
	if last != nil {
		out.Paging = &Continuation{Size: size, Next: last.String()}
	}
	return out, nil
}

func failuresOf(run string, found []one) *Failures {
	slices.SortStableFunc(found, func(a, b one) int { return inOrder(a.row, b.row) })
	out := &Failures{ID: run}
	var task *FailedTask
	var source *FailedSource
	for _, x := range found {
		if task == nil || task.ID != x.task {
			out.Tasks = append(out.Tasks, FailedTask{ID: x.task})
			task, source = &out.Tasks[len(out.Tasks)-1], nil
		}
		if source == nil || source.ID != x.source {
			task.Sources = append(task.Sources, FailedSource{ID: x.source})
			source = &task.Sources[len(task.Sources)-1]
		}
		if x.destination == "" {
			source.Records = append(source.Records, x.Failed)
			continue
		}
		if n := len(source.Destinations); n == 0 || source.Destinations[n-1].ID != x.destination {
			source.Destinations = append(source.Destinations, FailedDestination{ID: x.destination})
		}
		d := &source.Destinations[len(source.Destinations)-1]
		d.Records = append(d.Records, x.Failed)
	}
	return out
}
