// Package queuesource is the source "queue": it leases jobs from a queue of the durable
// store and settles them when their messages are.
//
// A message that was not delivered goes back into the queue with the time of its next
// attempt, which the pipeline's retry block decides; nothing waits in memory, and other
// messages go on. When its attempts are used up it is dead: kept in the queue, whole and
// with the reason, until somebody retries or drops it. A message that the pipeline let go
// of because it stopped is handed out again at once, and the attempt does not count. A
// crash ends the leases, and the jobs are handed out again.
//
// Isolation divides the work by workspace, source or destination: the values that have
// work take turns, and each has a share of what may be in flight and writers of its own, so
// that one that is stuck holds up no other, however many are.
//
// # Positions and ranges
//
// A partition of the stream is a lane of the queue, and a position in it the number of the
// append and that of the job in it, as in [queue.ID]. A range is read with Seek without leasing
// anything: its jobs are those that are open, whoever has them and whenever they are due, and
// those that are dead, in the order of append. A job that is done has left the queue, and a
// range that had it is gone: Seek says so where the first or the last job of the range or one
// between others is missing. It cannot know of those that were the last of one append, with
// jobs of a later append in the range after them; who wants to read a range again leaves its
// jobs unsettled until then. A job that was dead and is to be tried again is at a new position.
package queuesource

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/lease"
	"github.com/weirdata/weir/internal/runs"
)

// Config is the HCL of the queue source.
type Config struct {
	// Name of the queue, which a queue block declares.
	Name string `hcl:"name"`
	// By what the work is divided, so that one value never waits for another: "none",
	// "workspace", "source" or "destination". The values that have work take turns, a message
	// each; a value may have half of what is left of the pipeline's in_flight in flight, and
	// always one message; batching and max_concurrent_batches count for each value.
	Isolation string `hcl:"isolation,optional"`
	// Keep the order of messages with one key: while one waits for its next attempt, later
	// ones with its key wait too, and the others go on. Applies to messages that are
	// appended while it is set. A process that fills the queue, and does not read it, needs
	// ordered = true in the queue block of its config.
	Ordered bool `hcl:"ordered,optional"`
	// Without effect: it was the most values that were worked on at once, and all are now. At
	// least 1.
	MaxIsolated int `hcl:"max_isolated,optional"`
	// Most messages leased at once. At least 1.
	MaxBatchMessages int `hcl:"max_batch_messages,optional"`
	// Most payload bytes leased at once. At least 1.
	MaxBatchBytes int `hcl:"max_batch_bytes,optional"`
	// Seconds until a lease ends that is not renewed, which happens when the process hangs
	// or dies. At least 3.
	LeaseSeconds int `hcl:"lease_seconds,optional"`
	// End the pipeline when the queue has no open message left, and every pipeline and machine
	// of the config that fills it has ended, instead of waiting for more. Messages that wait for their next attempt are open, dead ones are not.
	StopWhenEmpty bool `hcl:"stop_when_empty,optional"`
}

// isolations are the values of the option isolation.
var isolations = []string{string(queue.None), string(queue.ByWorkspace), string(queue.BySource), string(queue.ByDestination)}

// Validate implements connector.Validator.
func (c Config) Validate() []connector.Problem {
	var ps []connector.Problem
	least := func(field string, got, least int) {
		if got < least {
			ps = append(ps, connector.Problem{Field: field, What: fmt.Sprintf("%s must be at least %d, not %d", field, least, got), Fix: "leave it out to use the default"})
		}
	}
	least("max_isolated", c.MaxIsolated, 1)
	least("max_batch_messages", c.MaxBatchMessages, 1)
	least("max_batch_bytes", c.MaxBatchBytes, 1)
	least("lease_seconds", c.LeaseSeconds, 3)
	if !slices.Contains(isolations, c.Isolation) {
		ps = append(ps, connector.Problem{Field: "isolation", What: fmt.Sprintf("there is no isolation %q", c.Isolation),
			Fix: `write "none", "workspace", "source" or "destination"`})
	}
	return ps
}

// Entry is the queue source.
var Entry = connector.Of(connector.Spec[Config, connector.Source]{
	Name: "queue", Summary: "Reads messages from a durable queue, and returns what is not delivered to it.", Stability: connector.Stable, Queue: "name",
	Default: func() Config {
		return Config{Isolation: string(queue.None), MaxIsolated: 64, MaxBatchMessages: 1000, MaxBatchBytes: 16 << 20, LeaseSeconds: 60}
	},
	New: func(_ context.Context, d connector.Deps, c Config) (connector.Source, error) {
		q, err := d.Queue(c.Name)
		if err != nil {
			return nil, err
		}
		s := &Source{
			store: d.Store, config: c, log: d.Log,
			query: queue.Query{Filter: queue.Filter{Queue: q.Name, By: queue.None}, Limit: c.MaxBatchMessages, Bytes: c.MaxBatchBytes,
				For: time.Duration(c.LeaseSeconds) * time.Second},
		}
		if c.StopWhenEmpty {
			s.settled = make(chan struct{}, 1)
		}
		if q.JobStatus != "" {
			s.runs, s.stage = runs.Of(d), q.JobStatus
		}
		return s, nil
	},
})

// idleLook is how often an idle source looks for work that no wake-up told it of.
const idleLook = 30 * time.Second

// emptyCheck is how often a source that ends with its queue counts what is left, while
// others hold the last of it.
const emptyCheck = time.Second

// Source leases jobs of one queue.
type Source struct {
	store  func() queue.Store
	config Config
	log    *slog.Logger // may be nil
	query  queue.Query
	end    <-chan struct{} // of what fills the queue; nil when nothing is known of that

	runs    *runs.Book    // nil: nothing is counted
	stage   string        // that they count the queue as
	held    *lease.Holder // every read since Open that is not settled
	leave   func()        // ends the subscription of Open
	loose   sync.Once     // for the warning about messages without order
	settled chan struct{} // has an element when jobs were settled since the last look; nil when it does not matter
}

var (
	_ connector.StoreSource = (*Source)(nil)
	_ connector.Redeliverer = (*Source)(nil)
	_ connector.Lagger      = (*Source)(nil)
	_ connector.Isolated    = (*Source)(nil)
	_ connector.Seeker      = (*Source)(nil)
)

// Ends implements connector.Ender.
func (s *Source) Ends() bool { return s.config.StopWhenEmpty }

// FeedUntil implements connector.Fed.
func (s *Source) FeedUntil(end <-chan struct{}) { s.end = end }

// Redelivers implements connector.Redeliverer.
func (s *Source) Redelivers() bool { return true }

// Store implements connector.StoreSource.
func (s *Source) Store() queue.Store { return s.store() }

// Isolation implements connector.Isolated.
func (s *Source) Isolation() queue.Axis { return queue.Axis(s.config.Isolation) }

// ended reports whether the queue is to be worked on until it is empty, and is.
func (s *Source) ended(ctx context.Context) (bool, error) {
	if !s.config.StopWhenEmpty || !s.fed() {
		return false, nil
	}
	st, err := s.store().Stats(ctx, s.query.Filter)
	if err != nil {
		return false, fmt.Errorf("count queue %q: %w", s.query.Queue, err)
	}
	return st.Open() == 0, nil
}

// fed reports whether nothing fills the queue any more.
func (s *Source) fed() bool {
	select {
	case <-s.end:
		return true
	default:
		return s.end == nil
	}
}

// Lag implements connector.Lagger: the jobs that are open and not leased.
func (s *Source) Lag(ctx context.Context) ([]connector.Lag, error) {
	st, err := s.store().Stats(ctx, s.query.Filter)
	if err != nil {
		return nil, fmt.Errorf("count queue %q: %w", s.query.Queue, err)
	}
	return []connector.Lag{{Stream: s.query.Queue, Messages: st.Waiting + st.Retrying, Bytes: connector.Unknown, Age: connector.Unknown}}, nil
}

// Open implements connector.Source.
func (s *Source) Open(context.Context) error {
	s.held = lease.New(s.store, s.query.For)
	if s.leave == nil {
		s.leave = queue.Subscribe(s.store(), s.query.Queue)
		if s.runs != nil {
			s.runs.Open(s.query.Queue, s.stage)
		}
	}
	return nil
}

// Close implements connector.Source. What was read and not settled is handed out again.
func (s *Source) Close(ctx context.Context) error {
	if s.held == nil {
		return nil
	}
	if s.leave != nil {
		s.leave()
		s.leave = nil
		if s.runs != nil {
			s.runs.Close()
		}
	}
	if _, err := s.held.Close(ctx); err != nil {
		return fmt.Errorf("queue %q: %w", s.query.Queue, err)
	}
	return nil
}

// tellLoose warns once of messages that have a key and no order, though they are read in order:
// who put them into the queue did not know that they are.
func (s *Source) tellLoose(jobs []queue.Job) {
	if !s.config.Ordered || s.log == nil {
		return
	}
	there := false
	for i := range jobs {
		there = there || !jobs[i].Ordered && jobs[i].Msg.Key != ""
	}
	if !there {
		return
	}
	s.loose.Do(func() {
		s.log.Warn("the queue is read in order and holds messages that were put into it without: those may come out of the order of their keys; write ordered = true into the queue block of every config that fills it", "queue", s.query.Queue)
	})
}

// reading is the jobs of one read.
type reading struct {
	held    *lease.Holder // of the Open that it was read after
	jobs    []queue.Job
	settled []bool  // in a transaction of the engine
	status  *status // nil: there is nothing to count
}

// Read implements connector.Source.
func (s *Source) Read(ctx context.Context, room connector.Room) (event.Batch, connector.Ack, error) {
	b, _, ack, err := s.ReadJobs(ctx, room)
	return b, ack, err
}

// ReadJobs implements connector.StoreSource.
func (s *Source) ReadJobs(ctx context.Context, room connector.Room) (event.Batch, connector.SettleIn, connector.Ack, error) {
	q := s.query
	q.Limit, q.Bytes = room.Within(q.Limit, q.Bytes)
	jobs, err := s.wait(ctx, q, nil)
	if err != nil {
		return nil, nil, nil, err
	}
	p := s.portion("", jobs)
	return p.Batch, p.Settle, p.Ack, nil
}

// ReadValues implements connector.Isolated.
func (s *Source) ReadValues(ctx context.Context, room connector.Room, of func(string) (messages, bytes int), again <-chan struct{}) ([]connector.Portion, error) {
	q := s.query
	q.Limit, q.Bytes = room.Within(q.Limit, q.Bytes)
	q.Split, q.Room = s.Isolation(), of
	jobs, err := s.wait(ctx, q, again)
	if err != nil || len(jobs) == 0 {
		return nil, err
	}
	var order []string // of the first job of each value
	byValue := map[string][]queue.Job{}
	for i := range jobs {
		v := q.Split.Of(jobs[i].Scope)
		if byValue[v] == nil {
			order = append(order, v)
		}
		byValue[v] = append(byValue[v], jobs[i])
	}
	portions := make([]connector.Portion, len(order))
	for i, v := range order {
		portions[i] = s.portion(v, byValue[v])
	}
	return portions, nil
}

// portion is leased jobs as the engine has them.
func (s *Source) portion(value string, jobs []queue.Job) connector.Portion {
	s.held.Hold(jobs...)
	s.tellLoose(jobs)
	l := &reading{held: s.held, jobs: jobs, settled: make([]bool, len(jobs)), status: s.statusOf(jobs)}
	settle := func(tx queue.Tx, index []int) error {
		rs := results.take()
		defer results.give(rs)
		for _, i := range index {
			*rs = append(*rs, l.jobs[i].Done())
			l.settled[i] = true
		}
		return l.status.beside().Settle(tx, *rs)
	}
	return connector.Portion{Value: value, Batch: messages(jobs, s.store().Now()), Settle: settle,
		Ack: func(ctx context.Context, o event.Outcomes) error { return s.settle(ctx, l, o) }}
}

// results holds the memory of results between transactions: a store copies what it is
// given.
var results resultPool

type resultPool struct{ pool sync.Pool }

func (p *resultPool) take() *[]queue.Result {
	if rs, ok := p.pool.Get().(*[]queue.Result); ok {
		return rs
	}
	return new([]queue.Result)
}

func (p *resultPool) give(rs *[]queue.Result) {
	clear(*rs) // causes must not be kept alive
	*rs = (*rs)[:0]
	p.pool.Put(rs)
}

// wait leases jobs as soon as there are any, or returns none when again has an element.
func (s *Source) wait(ctx context.Context, q queue.Query, again <-chan struct{}) ([]queue.Job, error) {
	for {
		wake := s.store().Wake(q.Filter)
		jobs, err := s.store().Lease(ctx, q)
		away := err != nil && !leasing(s.store())
		if err != nil && !away {
			return nil, fmt.Errorf("lease from queue %q: %w", s.query.Queue, err)
		}
		if len(jobs) > 0 {
			return jobs, nil
		}
		patience := idleLook
		var back <-chan struct{}
		if away { // the store has told of it, and says when it is back: there is no use in trying meanwhile
			back = queue.Leasing(s.store())
		} else if s.config.StopWhenEmpty {
			ended, err := s.ended(ctx)
			if err != nil {
				return nil, err
			}
			if ended {
				return nil, io.EOF
			}
			patience = emptyCheck
		}
		end := s.end
		if !s.config.StopWhenEmpty || s.fed() {
			end = nil
		}
		look := time.NewTimer(patience)
		select {
		case <-wake:
		case <-back:
		case <-end: // look again: it may be empty
		case <-s.settled:
		case <-look.C:
		case <-again:
			look.Stop()
			return nil, nil
		case <-ctx.Done():
			look.Stop()
			return nil, context.Cause(ctx)
		}
		look.Stop()
	}
}

// leasing reports whether jobs can be leased now.
func leasing(s queue.Store) bool {
	select {
	case <-queue.Leasing(s):
		return true
	default:
		return false
	}
}

// settle gives the results of one read's jobs, and hands back what the pipeline let go of.
func (s *Source) settle(ctx context.Context, l *reading, o event.Outcomes) error {
	kept := results.take()
	rs := (*kept)[:0]
	defer func() {
		*kept = rs
		results.give(kept)
	}()
	var back []queue.Job
	for i := range l.jobs {
		var err error
		if o != nil {
			err = o[i]
		}
		switch {
		case err == nil && l.settled[i]:
			l.held.Forget(l.jobs[i])
		case err == nil:
			rs = append(rs, l.jobs[i].Done())
		case unsettled(err):
			back = append(back, l.jobs[i])
		default:
			rs = append(rs, verdict(&l.jobs[i], err))
			l.status.failed(&rs[len(rs)-1], err)
		}
	}
	_, err := l.held.Settle(ctx, rs, l.status.beside())
	if err = errors.Join(err, l.held.Release(ctx, back)); err != nil {
		err = fmt.Errorf("settle jobs of queue %q: %w", s.query.Queue, err)
	}
	select {
	case s.settled <- struct{}{}:
	default:
	}
	return err
}

// unsettled reports whether a message was let go of before anything became of it.
func unsettled(err error) bool {
	var again *connector.Again
	var dead *connector.Dead
	return errors.Is(err, event.ErrUnsettled) && !errors.As(err, &again) && !errors.As(err, &dead)
}

// verdict is the result of a job whose message ended with err, which is not nil.
func verdict(j *queue.Job, err error) queue.Result {
	var again *connector.Again
	var dead *connector.Dead
	switch {
	case errors.As(err, &dead):
		return j.Dead(dead.Err.Error())
	case errors.As(err, &again):
		r := j.AgainAfter(again.After, again.Err.Error())
		r.Uncounted = again.Uncounted
		return r
	case fault.Of(err) == fault.Invalid:
		return j.Dead(err.Error())
	}
	return j.Again(time.Time{}, err.Error())
}
