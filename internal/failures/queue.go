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
	"github.com/weirdata/weir/internal/queue/lease"
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

	held  *lease.Holder // also of what is not chosen, until Close
	leave func()        // ends the subscription of Open

	mu     sync.Mutex
	wanted map[queue.ID]struct{} // chosen, and not leased yet
	due    time.Time             // when the last of wanted is due
}

// Open implements connector.Source. It chooses the jobs.
func (s *QueueSource) Open(ctx context.Context) error {
	s.wanted = map[queue.ID]struct{}{}
	if err := s.choose(ctx); err != nil {
		return fmt.Errorf("read failed events from queue %q: %w", s.Name, err)
	}
	s.held = lease.New(s.Store, leaseFor)
	if s.leave == nil {
		s.leave = queue.Subscribe(s.Store(), s.Name)
	}
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
	if s.held == nil {
		return nil
	}
	if s.leave != nil {
		s.leave()
		s.leave = nil
	}
	if _, err := s.held.Close(ctx); err != nil {
		return fmt.Errorf("queue %q: %w", s.Name, err)
	}
	return nil
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
	s.held.Hold(jobs...)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range jobs {
		j := &jobs[i]
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
			b, chosen = append(b, m), append(chosen, queue.Job{ID: j.ID, Lease: j.Lease})
		}
	}
	if s.held.Len() > maxHeld {
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
	done, err := s.held.Settle(ctx, rs)
	s.Plan.Tally.Settled.Add(int64(len(done)))
	if err != nil && !errors.Is(err, queue.ErrLeaseLost) {
		s.held.Hold(chosen...) // those that are not settled are given back by Close
	}
	if err != nil {
		return fmt.Errorf("settle replayed jobs of queue %q, which stay in it: %w", s.Name, err)
	}
	return nil
}

var (
	_ connector.Source = (*QueueSource)(nil)
	_ connector.Source = (*FileSource)(nil)
	_ connector.Source = (*Sources)(nil)
)
