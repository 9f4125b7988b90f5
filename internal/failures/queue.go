package failures

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/queue"
)

// Bounds of a replay from a queue.
const (
	leaseFor = time.Minute
	listPage = 500
	// maxHeld is the most jobs that may be leased at once without being chosen: to find one
	// job, those before it in the queue have to be taken out of the way.
	maxHeld = 1_000_000
	// lateness is how long a chosen job may stay away after it is due. Somebody else has
	// it then, or had.
	lateness = 5 * time.Second
	recheck  = 250 * time.Millisecond
	release  = time.Nanosecond
)

// OfJob reads the failure that a job holds.
func OfJob(j *queue.Job, dead bool) (*Failure, error) {
	f, err := OfMessage(j.Msg)
	if err != nil {
		return nil, err
	}
	f.ID, f.Dead, f.Refusal = j.ID.String(), dead, j.Cause
	return f, nil
}

// QueueSource sends the failures of a queue that were in it when it was opened, open and
// dead ones. A failure leaves the queue when its event is settled; others go back as they
// were.
type QueueSource struct {
	Plan  Plan
	Name  string
	Store func() queue.Store

	stop   context.CancelFunc
	renews sync.WaitGroup

	mu     sync.Mutex
	wanted map[queue.ID]struct{} // chosen, and not leased yet
	held   map[queue.ID]queue.Job
	due    time.Time // when the last of wanted is due
}

// Open implements connector.Source. It chooses the jobs.
func (s *QueueSource) Open(ctx context.Context) error {
	s.wanted, s.held = map[queue.ID]struct{}{}, map[queue.ID]queue.Job{}
	if err := s.choose(ctx); err != nil {
		return fmt.Errorf("read failed events from queue %q: %w", s.Name, err)
	}
	ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	s.renews.Go(func() { s.renew(ctx) })
	return nil
}

// choose finds the jobs to send. Dead ones are made open first, which gives them new IDs:
// they are known again by their rows.
func (s *QueueSource) choose(ctx context.Context) error {
	admin, ok := s.Store().(queue.Admin)
	if !ok {
		return fault.New(fault.Setup, errors.New("the store cannot list what is in a queue"))
	}
	raised := map[uint64]int{}
	var dead []queue.ID
	var skipped Skipped
	count := 0
	full := func() bool { return s.Plan.Limit > 0 && count >= s.Plan.Limit }
	// Which open jobs there are is found out first: the raised ones come at the end.
	err := s.list(ctx, admin, queue.Open, &skipped, func(j *queue.Job, f *Failure) error {
		if !full() && s.Plan.Match(f) && s.sendable(f) {
			s.want(j)
			count++
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = s.list(ctx, admin, queue.Buried, &skipped, func(j *queue.Job, f *Failure) error {
		if !full() && s.Plan.Match(f) && s.sendable(f) {
			dead = append(dead, j.ID)
			raised[hashOf(j)]++
			count++
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.Plan.Tally.skip(skipped)
	if len(dead) == 0 {
		return nil
	}
	for first := 0; first < len(dead); first += listPage {
		ids := dead[first:min(first+listPage, len(dead))]
		if _, err := admin.Requeue(ctx, queue.Search{Filter: queue.Filter{Queue: s.Name}, State: queue.Buried, IDs: ids}); err != nil {
			return fmt.Errorf("raise dead events: %w", err)
		}
	}
	return s.list(ctx, admin, queue.Open, &Skipped{}, func(j *queue.Job, _ *Failure) error {
		if _, known := s.wanted[j.ID]; !known && raised[hashOf(j)] > 0 && j.Attempt == 0 {
			raised[hashOf(j)]--
			s.want(j)
		}
		return nil
	})
}

// sendable reports whether f has a payload; one that has none is counted.
func (s *QueueSource) sendable(f *Failure) bool {
	_, _, err := f.Replayed(s.Plan.Which)
	if err != nil {
		s.Plan.Tally.refuse(f, err)
	}
	return err == nil
}

func (s *QueueSource) want(j *queue.Job) {
	s.wanted[j.ID] = struct{}{}
	if j.NotBefore.After(s.due) {
		s.due = j.NotBefore
	}
}

func hashOf(j *queue.Job) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(j.Msg.Data) // it never fails
	_, _ = h.Write(j.Msg.Raw())
	return h.Sum64()
}

func (s *QueueSource) list(ctx context.Context, a queue.Admin, state queue.State, skipped *Skipped, fn func(*queue.Job, *Failure) error) error {
	for after := (queue.ID{}); ; {
		p, err := a.List(ctx, queue.Search{Filter: queue.Filter{Queue: s.Name}, State: state}, after, listPage)
		if err != nil {
			return err
		}
		for i := range p.Jobs {
			f, err := OfJob(&p.Jobs[i], state == queue.Buried)
			if err != nil {
				skipped.add(err, func() string { return fmt.Sprintf("queue %q, job %s", s.Name, p.Jobs[i].ID) })
				continue
			}
			if err := fn(&p.Jobs[i], f); err != nil {
				return err
			}
		}
		if after = p.Next; after == (queue.ID{}) {
			return nil
		}
	}
}

// Close implements connector.Source. What was leased and not settled is handed out again.
func (s *QueueSource) Close(ctx context.Context) error {
	if s.stop == nil {
		return nil
	}
	s.stop()
	s.renews.Wait()
	s.mu.Lock()
	jobs := s.all()
	clear(s.held)
	s.mu.Unlock()
	if len(jobs) == 0 {
		return nil
	}
	err := s.Store().Renew(ctx, jobs, release)
	if err != nil && !errors.Is(err, queue.ErrLeaseLost) && !errors.Is(err, queue.ErrClosed) {
		return fmt.Errorf("release jobs of queue %q, which are handed out again within %s: %w", s.Name, leaseFor, err)
	}
	return nil
}

// all is every job that is leased and not settled.
func (s *QueueSource) all() []queue.Job {
	jobs := make([]queue.Job, 0, len(s.held))
	for _, j := range s.held {
		jobs = append(jobs, j)
	}
	return jobs
}

func (s *QueueSource) renew(ctx context.Context) {
	tick := time.NewTicker(leaseFor / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.mu.Lock()
		jobs := s.all()
		s.mu.Unlock()
		if len(jobs) > 0 {
			// A lease that is lost shows when its jobs are settled; an outage, at the next try.
			_ = s.Store().Renew(ctx, jobs, leaseFor)
		}
	}
}

// Read implements connector.Source.
func (s *QueueSource) Read(ctx context.Context, room connector.Room) (event.Batch, connector.Ack, error) {
	messages, bytes := room.Within(readMessages, readBytes)
	last := time.Now()
	for {
		s.mu.Lock()
		left := len(s.wanted)
		s.mu.Unlock()
		if left == 0 {
			return nil, nil, io.EOF
		}
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		wake := s.Store().Wake(queue.Filter{Queue: s.Name})
		jobs, err := s.Store().Lease(ctx, queue.Query{Filter: queue.Filter{Queue: s.Name}, Limit: messages, Bytes: bytes, For: leaseFor})
		if err != nil {
			return nil, nil, fmt.Errorf("lease from queue %q: %w", s.Name, err)
		}
		if len(jobs) > 0 {
			last = time.Now()
			b, chosen, err := s.sort(jobs)
			if err != nil {
				return nil, nil, err
			}
			if len(b) > 0 {
				return b, func(ctx context.Context, o event.Outcomes) error { return s.settle(ctx, chosen, o) }, nil
			}
			continue
		}
		if now := time.Now(); now.Sub(last) > lateness && now.Sub(s.due) > lateness {
			s.Plan.Tally.Gone.Add(int64(left))
			s.mu.Lock()
			clear(s.wanted)
			s.mu.Unlock()
			return nil, nil, io.EOF
		}
		look := time.NewTimer(recheck)
		select {
		case <-wake:
		case <-look.C:
		case <-ctx.Done():
		}
		look.Stop()
	}
}

// sort makes messages of the leased jobs that are chosen, and holds all of them.
func (s *QueueSource) sort(jobs []queue.Job) (event.Batch, []queue.Job, error) {
	var b event.Batch
	var chosen []queue.Job
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range jobs {
		j := &jobs[i]
		s.held[j.ID] = queue.Job{ID: j.ID, Queue: j.Queue, Scope: j.Scope, Lease: j.Lease}
		if _, ok := s.wanted[j.ID]; !ok {
			continue
		}
		delete(s.wanted, j.ID)
		f, err := OfJob(j, false)
		if err != nil { // it was one when it was listed
			return nil, nil, fault.New(fault.Fatal, fmt.Errorf("job %s of queue %q: %w", j.ID, s.Name, err))
		}
		if j.Scope != (queue.Scope{}) {
			scope := j.Scope
			j.Msg.Meta.Scope = &scope
		}
		if m := s.Plan.message(f); m != nil {
			b, chosen = append(b, m), append(chosen, s.held[j.ID])
		}
	}
	if len(s.held) > maxHeld {
		return nil, nil, fault.New(fault.Setup, fmt.Errorf("queue %q: more than %d messages that are not chosen are before one that is: choose more, or work the queue off first", s.Name, maxHeld))
	}
	return b, chosen, nil
}

// settle ends the jobs whose messages were settled. The others stay leased until Close.
func (s *QueueSource) settle(ctx context.Context, chosen []queue.Job, o event.Outcomes) error {
	rs := make([]queue.Result, 0, len(chosen))
	for i := range chosen {
		if o == nil || o[i] == nil {
			rs = append(rs, chosen[i].Done())
		}
	}
	if len(rs) == 0 {
		return nil
	}
	err := s.Store().Update(ctx, func(tx queue.Tx) error { return tx.Settle(rs...) })
	switch {
	case errors.Is(err, queue.ErrLeaseLost):
		rs, err = s.each(ctx, rs)
	case err != nil:
		rs = nil
	}
	if err != nil {
		err = fmt.Errorf("settle replayed jobs of queue %q, which stay in it: %w", s.Name, err)
	}
	s.Plan.Tally.Settled.Add(int64(len(rs)))
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range rs {
		delete(s.held, r.ID)
	}
	return err
}

// each settles results one by one after one of them had lost its lease, so that the others
// do not stay in the queue with it. It returns those that are settled.
func (s *QueueSource) each(ctx context.Context, rs []queue.Result) (done []queue.Result, err error) {
	for _, r := range rs {
		if e := s.Store().Update(ctx, func(tx queue.Tx) error { return tx.Settle(r) }); e != nil {
			err = e
			continue
		}
		done = append(done, r)
	}
	return done, err
}

var (
	_ connector.Source = (*QueueSource)(nil)
	_ connector.Source = (*FileSource)(nil)
	_ connector.Source = (*Sources)(nil)
)
