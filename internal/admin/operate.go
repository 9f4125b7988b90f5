package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/queue"
)

// Operator is what operators do with a store and its queues: [Local] does it on a store
// that is open in this process, [Client] has the process do it that has the store open.
type Operator interface {
	// Identity names the store, without secrets.
	Identity() string
	// Queues counts the jobs of every queue, and of every value of an axis.
	Queues(ctx context.Context, by queue.Axis) (Overview, error)
	// Jobs returns up to limit jobs after the one with the ID after, fewer where they are
	// large.
	Jobs(ctx context.Context, name string, s Selection, after string, limit int) (Page, error)
	Count(ctx context.Context, name string, s Selection) (int, error)
	// Retry appends dead jobs again, Drop removes them for good.
	Retry(ctx context.Context, name string, s Selection) (int, error)
	Drop(ctx context.Context, name string, s Selection) (int, error)
	// Export writes jobs as lines of JSON; Import appends what such lines say. progress is
	// told the number so far.
	Export(ctx context.Context, name string, s Selection, w io.Writer, progress func(jobs int)) (int, error)
	Import(ctx context.Context, name string, r io.Reader, progress func(jobs int)) (int, error)
	// Pause has the jobs of a queue, or of one value, not be handed out until Resume, which says
	// whether they were paused.
	Pause(ctx context.Context, name string, r Rest) error
	Resume(ctx context.Context, name string, r Rest) (bool, error)
	// Command decides about open jobs.
	Command(ctx context.Context, name string, c Command, progress func(jobs int)) (Outcome, error)
	// Usage is the disk space of the store, Verify what there was when all of it was read.
	Usage(ctx context.Context) (map[string]int64, error)
	Verify(ctx context.Context, progress func(done, total int64)) (map[string]int64, error)
	// Compact gives back disk space.
	Compact(ctx context.Context) error
	// Backup writes the store, as it is while it is used, into a folder that it makes on the
	// machine of the process that has the store open.
	Backup(ctx context.Context, dir string, progress func(done, total int64)) error
}

// Counts are numbers of jobs, and the bytes they hold on disk.
type Counts struct {
	Open     int64 `json:"open"` // waiting, leased and retrying
	Waiting  int64 `json:"waiting"`
	Leased   int64 `json:"leased"`
	Retrying int64 `json:"retrying"`
	Dead     int64 `json:"dead"`
	Bytes    int64 `json:"bytes"`
}

func countsOf(s queue.Stats) Counts {
	return Counts{Open: s.Open(), Waiting: s.Waiting, Leased: s.Leased, Retrying: s.Retrying, Dead: s.Dead, Bytes: s.Bytes}
}

// Overview is the queues of a store.
type Overview struct {
	Queues []QueueCounts `json:"queues"`
	// Incomplete says that there are more parts of queues than were looked through, so that
	// queues that the config does not declare, and values that have dead jobs only, may be
	// missing. What is listed is exact.
	Incomplete bool `json:"incomplete,omitempty"`
}

// QueueCounts is one queue.
type QueueCounts struct {
	Name string `json:"name"`
	// Undeclared queues hold jobs, and the config has no block for them.
	Undeclared bool `json:"undeclared,omitempty"`
	// Unread queues hold open jobs, and no process leases from them.
	Unread bool `json:"unread,omitempty"`
	// ReadElsewhere says that processes other than the one that was asked lease from it.
	ReadElsewhere bool `json:"read_elsewhere,omitempty"`
	// Paused is what of it rests.
	Paused []Rest `json:"paused,omitempty"`
	Counts
	Values []ValueCounts `json:"values,omitempty"`
}

// ValueCounts is one value of an axis in a queue.
type ValueCounts struct {
	Value Text `json:"value"`
	Counts
}

// Selection chooses jobs of a queue. Its zero value chooses every open job.
type Selection struct {
	Dead bool `json:"dead,omitempty"`
	// Cause chooses jobs whose cause contains it.
	Cause string `json:"cause,omitempty"`
	// Before chooses jobs that were appended, or died, before it.
	Before time.Time `json:"before,omitzero"`
	// OlderThan chooses jobs that were appended, or died, longer ago, by the clock of the store.
	OlderThan time.Duration `json:"older_than,omitzero"`
	// By and Value choose jobs by a part of their scope.
	By    queue.Axis `json:"by,omitempty"`
	Value string     `json:"value,omitempty"`
	// IDs chooses these jobs only.
	IDs []string `json:"ids,omitempty"`
	// All must be set to retry or drop when nothing else chooses.
	All bool `json:"all,omitempty"`
}

// Empty reports whether s chooses every job.
func (s Selection) Empty() bool {
	return s.Cause == "" && s.Before.IsZero() && s.OlderThan == 0 && (s.By == "" || s.By == queue.None) && len(s.IDs) == 0
}

func (s Selection) search(name string) (queue.Search, error) {
	q := queue.Search{Filter: queue.Filter{Queue: name, By: s.By, Value: s.Value}, Cause: s.Cause, Before: s.Before}
	if s.Dead {
		q.State = queue.Buried
	}
	switch s.By {
	case "", queue.None, queue.ByWorkspace, queue.BySource, queue.ByDestination:
	default:
		return q, requestError{fmt.Errorf("jobs cannot be chosen by %q: use workspace, source or destination", s.By)}
	}
	for _, text := range s.IDs {
		id, err := queue.ParseID(text)
		if err != nil {
			return q, requestError{err}
		}
		q.IDs = append(q.IDs, id)
	}
	return q, nil
}

// requestError is a mistake of who asks.
type requestError struct{ error }

func (e requestError) Unwrap() error { return e.error }

// ErrUnsupported says that a store has no such operation.
var ErrUnsupported = errors.New("this store has no such operation")

// ErrNoQueue says that there is no queue of a name.
var ErrNoQueue = errors.New("there is no such queue")

// Page is one page of jobs.
type Page struct {
	Jobs []Job `json:"jobs"`
	// Next continues the list when passed as after; empty when it is complete.
	Next string `json:"next,omitempty"`
}

// Local operates on an open store.
type Local struct {
	Store  queue.Store
	Name   string            // identity of the store
	Config []connector.Queue // the queues of the config
	// Who operates, and Log what is told of it; nil tells nobody.
	Who string
	Log *slog.Logger
	// Reads, if set, is the queues that the pipelines and machines of the config read, of a store
	// that no process works on just now. Otherwise the store knows who reads what.
	Reads map[string]bool
}

var _ Operator = Local{}

// pageBytes is about how many payload bytes a page of jobs has at most.
const pageBytes = 8 << 20

// Identity implements Operator.
func (l Local) Identity() string { return l.Name }

func (l Local) admin() (queue.Admin, error) {
	a, ok := l.Store.(queue.Admin)
	if !ok {
		return nil, fmt.Errorf("list jobs: %w", ErrUnsupported)
	}
	return a, nil
}

// declared finds a queue of the config.
func (l Local) declared(name string) (connector.Queue, bool) {
	for _, q := range l.Config {
		if q.Name == name {
			return q, true
		}
	}
	return connector.Queue{}, false
}

// known refuses a queue that neither the config declares nor holds a job.
func (l Local) known(ctx context.Context, name string) error {
	if _, ok := l.declared(name); ok {
		return nil
	}
	st, err := l.Store.Stats(ctx, queue.Filter{Queue: name})
	if err != nil {
		return err
	}
	if st.Open()+st.Dead > 0 {
		return nil
	}
	return requestError{l.unknown(name)}
}

func (l Local) unknown(name string) error {
	names := make([]string, len(l.Config))
	for i, q := range l.Config {
		names[i] = q.Name
	}
	return fmt.Errorf("queue %q: %w; the config has %s", name, ErrNoQueue, strings.Join(names, ", "))
}

// Queues implements Operator.
func (l Local) Queues(ctx context.Context, by queue.Axis) (Overview, error) {
	var out Overview
	if _, err := (Selection{By: by}).search(""); err != nil {
		return out, err
	}
	found, complete, err := l.walk(ctx, by)
	if err != nil {
		return out, err
	}
	out.Incomplete = !complete
	rests, unread, elsewhere, err := l.attention(ctx)
	if err != nil {
		return out, err
	}
	for name := range rests {
		if found[name] == nil {
			found[name] = map[string]bool{}
		}
	}
	for _, name := range found.queues(l.Config) {
		_, declared := l.declared(name)
		q := QueueCounts{Name: name, Undeclared: !declared, Paused: rests[name]}
		st, err := l.Store.Stats(ctx, queue.Filter{Queue: name})
		if err != nil {
			return out, err
		}
		q.Counts = countsOf(st)
		q.Unread = unread[name] || l.Reads != nil && q.Open > 0 && !l.Reads[name]
		q.ReadElsewhere = elsewhere(name)
		if by != queue.None && by != "" {
			active, err := l.Store.Active(ctx, name, by)
			if err != nil {
				return out, err
			}
			for _, v := range found.values(name, active) {
				st, err := l.Store.Stats(ctx, queue.Filter{Queue: name, By: by, Value: v})
				if err != nil {
					return out, err
				}
				q.Values = append(q.Values, ValueCounts{Text(v), countsOf(st)})
			}
		}
		out.Queues = append(out.Queues, q)
	}
	return out, nil
}

// page lists jobs, a bounded number of bytes of them.
func page(ctx context.Context, a queue.Admin, s queue.Search, after queue.ID, limit int) (queue.Page, error) {
	var out queue.Page
	bytes, step := 0, 4
	for {
		p, err := a.List(ctx, s, after, min(step, limit-len(out.Jobs)))
		if err != nil {
			return out, err
		}
		for i := range p.Jobs {
			bytes += len(p.Jobs[i].Msg.Data) + len(p.Jobs[i].Msg.Raw())
		}
		out.Jobs, out.Next, after = append(out.Jobs, p.Jobs...), p.Next, p.Next
		if p.Next == (queue.ID{}) || len(out.Jobs) >= limit || bytes >= pageBytes {
			return out, nil
		}
		// As many as would fill the page if they are like those so far.
		step = min(4*len(out.Jobs), max(1, (pageBytes-bytes)*len(out.Jobs)/max(bytes, 1)))
	}
}

// MaxPage is the most jobs of one page.
const MaxPage = 1000

// Jobs implements Operator.
func (l Local) Jobs(ctx context.Context, name string, s Selection, after string, limit int) (Page, error) {
	out := Page{Jobs: []Job{}}
	a, q, err := l.choose(ctx, name, s)
	if err != nil {
		return out, err
	}
	var from queue.ID
	if after != "" {
		if from, err = queue.ParseID(after); err != nil {
			return out, requestError{err}
		}
	}
	p, err := page(ctx, a, q, from, min(max(limit, 1), MaxPage))
	if err != nil {
		return out, err
	}
	for i := range p.Jobs {
		out.Jobs = append(out.Jobs, jobOf(&p.Jobs[i], stateOf(s)))
	}
	if p.Next != (queue.ID{}) {
		out.Next = p.Next.String()
	}
	return out, nil
}

func stateOf(s Selection) string {
	if s.Dead {
		return StateDead
	}
	return StateOpen
}

// choose prepares an operation on the jobs of s.
func (l Local) choose(ctx context.Context, name string, s Selection) (queue.Admin, queue.Search, error) {
	q, err := s.search(name)
	if err != nil {
		return nil, q, err
	}
	if s.OlderThan < 0 {
		return nil, q, requestError{fmt.Errorf("older_than must not be negative, as in %s", s.OlderThan)}
	}
	if s.OlderThan > 0 {
		if since := l.Store.Now().Add(-s.OlderThan); q.Before.IsZero() || since.Before(q.Before) {
			q.Before = since
		}
	}
	if name == "" {
		return nil, q, requestError{errors.New("the name of the queue is missing")}
	}
	if err := l.known(ctx, name); err != nil {
		return nil, q, err
	}
	a, err := l.admin()
	return a, q, err
}

// each calls fn with every page of jobs that s chooses.
func (l Local) each(ctx context.Context, name string, s Selection, fn func([]queue.Job) error) error {
	a, q, err := l.choose(ctx, name, s)
	if err != nil {
		return err
	}
	for after := (queue.ID{}); ; {
		p, err := page(ctx, a, q, after, MaxPage)
		if err != nil {
			return err
		}
		if err := fn(p.Jobs); err != nil {
			return err
		}
		if after = p.Next; after == (queue.ID{}) {
			return nil
		}
	}
}

// Count implements Operator.
func (l Local) Count(ctx context.Context, name string, s Selection) (int, error) {
	n := 0
	err := l.each(ctx, name, s, func(jobs []queue.Job) error { n += len(jobs); return nil })
	return n, err
}

// Retry implements Operator.
func (l Local) Retry(ctx context.Context, name string, s Selection) (int, error) {
	return l.decide(ctx, name, s, queue.Admin.Requeue)
}

// Drop implements Operator.
func (l Local) Drop(ctx context.Context, name string, s Selection) (int, error) {
	return l.decide(ctx, name, s, queue.Admin.Drop)
}

func (l Local) decide(ctx context.Context, name string, s Selection, do func(queue.Admin, context.Context, queue.Search) (int, error)) (int, error) {
	s.Dead = true
	if s.Empty() && !s.All {
		return 0, requestError{errors.New("nothing says which dead messages: name IDs, give a filter, or say that all are meant")}
	}
	a, q, err := l.choose(ctx, name, s)
	if err != nil {
		return 0, err
	}
	return do(a, ctx, q)
}

// What stores may be able to do beside keeping jobs.
type (
	measured interface {
		Usage(ctx context.Context) (map[string]int64, error)
	}
	verified interface {
		Verify(ctx context.Context, progress func(done, total int64)) (map[string]int64, error)
	}
	compacted interface {
		Compact(ctx context.Context) error
	}
	backedUp interface {
		Backup(ctx context.Context, dir string, progress func(done, total int64)) error
	}
)

// Usage implements Operator. A store that cannot say returns nothing.
func (l Local) Usage(ctx context.Context) (map[string]int64, error) {
	if s, ok := l.Store.(measured); ok {
		return s.Usage(ctx)
	}
	return map[string]int64{}, nil
}

// Verify implements Operator.
func (l Local) Verify(ctx context.Context, progress func(done, total int64)) (map[string]int64, error) {
	if s, ok := l.Store.(verified); ok {
		return s.Verify(ctx, progress)
	}
	return nil, fmt.Errorf("check the store %s: %w", l.Name, ErrUnsupported)
}

// Compact implements Operator.
func (l Local) Compact(ctx context.Context) error {
	if s, ok := l.Store.(compacted); ok {
		return s.Compact(ctx)
	}
	return fmt.Errorf("compact the store %s: %w", l.Name, ErrUnsupported)
}

// Backup implements Operator.
func (l Local) Backup(ctx context.Context, dir string, progress func(done, total int64)) error {
	if s, ok := l.Store.(backedUp); ok {
		return s.Backup(ctx, dir, progress)
	}
	return fmt.Errorf("back up the store %s: %w", l.Name, ErrUnsupported)
}
