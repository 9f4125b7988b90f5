package failures

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
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
	deadPage = 50 // dead jobs that are read at once, whole
	// maxHeld is the most jobs that may be leased at once without being chosen: to find one
	// job, those before it in the queue have to be taken out of the way.
	maxHeld = 1_000_000
	// lateness is how long a chosen job may stay away after it is due before it is looked for:
	// somebody else has it then, or had. One that is still there is waited for until the lease of
	// a replay that was killed would have ended.
	lateness = 5 * time.Second
	patience = leaseFor + 2*lateness
	recheck  = 250 * time.Millisecond
)

// OfJob reads the failure that a job holds.
func OfJob(j *queue.Job, dead bool) (*Failure, error) {
	f, err := OfMessage(j.Msg)
	if err != nil {
		return nil, err
	}
	f.Context = f.Context.or(Context{Scope: j.Scope})
	f.ID, f.Dead, f.Refusal = j.ID.String(), dead, j.Cause
	return f, nil
}

// QueueSource sends the failures of a queue that were in it when it was opened, open and
// dead ones. A failure leaves the queue when its event is settled; others go back as they
// were. A dead one stays dead, with its ID and its reason, until then, so that a replay that
// is killed finds it where it was.
type QueueSource struct {
	Plan  Plan
	Name  string
	Store func() queue.Store

	held  *lease.Holder // also of what is not chosen, until Close
	leave func()        // ends the subscription of Open

	mu     sync.Mutex
	wanted map[queue.ID]struct{} // chosen, and not leased yet
	due    time.Time             // when the last of wanted is due
	dead   []queue.ID            // chosen, and not read yet
	ahead  []queue.Job           // of dead: read, and there was no room
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

// admin is the store as it lists jobs.
func (s *QueueSource) admin() (queue.Admin, error) {
	admin, ok := s.Store().(queue.Admin)
	if !ok {
		return nil, fault.New(fault.Setup, errors.New("the store cannot list what is in a queue"))
	}
	return admin, nil
}

// choose finds the jobs to send.
func (s *QueueSource) choose(ctx context.Context) error {
	admin, err := s.admin()
	if err != nil {
		return err
	}
	var skipped Skipped
	count := 0
	for _, state := range []queue.State{queue.Open, queue.Buried} {
		err := s.list(ctx, admin, state, &skipped, func(j *queue.Job, f *Failure) {
			if s.Plan.Limit > 0 && count >= s.Plan.Limit || !s.Plan.Match(f) || !s.sendable(f) {
				return
			}
			if count++; state == queue.Open {
				s.want(j)
			} else {
				s.dead = append(s.dead, j.ID)
			}
		})
		if err != nil {
			return err
		}
	}
	s.Plan.Tally.skip(skipped)
	return nil
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

func (s *QueueSource) list(ctx context.Context, a queue.Admin, state queue.State, skipped *Skipped, fn func(*queue.Job, *Failure)) error {
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
			fn(&p.Jobs[i], f)
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
	last, looked := time.Now(), time.Time{}
	for {
		s.mu.Lock()
		left := len(s.wanted)
		s.mu.Unlock()
		if left == 0 {
			return s.readDead(ctx, messages, bytes)
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
		if now := time.Now(); now.Sub(last) > lateness && now.Sub(s.due) > lateness && now.After(looked.Add(lateness)) {
			looked = now
			if err := s.forgo(ctx, now.Sub(last) > patience && now.Sub(s.due) > patience); err != nil {
				return nil, nil, err
			}
			continue
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
		if m := s.message(j, f); m != nil {
			b, chosen = append(b, m), append(chosen, queue.Job{ID: j.ID, Lease: j.Lease})
		}
	}
	if s.held.Len() > maxHeld {
		return nil, nil, fault.New(fault.Setup, fmt.Errorf("queue %q: more than %d messages that are not chosen are before one that is: choose more, or work the queue off first", s.Name, maxHeld))
	}
	return b, chosen, nil
}

// forgo gives up the chosen jobs that are not in the queue any more: somebody else has worked
// on them. With all, it gives up those too that somebody holds for too long.
func (s *QueueSource) forgo(ctx context.Context, all bool) error {
	admin, err := s.admin()
	if err != nil {
		return err
	}
	s.mu.Lock()
	ids := slices.Collect(maps.Keys(s.wanted))
	s.mu.Unlock()
	gone := map[queue.ID]struct{}{}
	for page := range slices.Chunk(ids, listPage) {
		for _, id := range page {
			gone[id] = struct{}{}
		}
		if all {
			continue
		}
		jobs, err := s.find(ctx, admin, queue.Open, page)
		if err != nil {
			return err
		}
		for i := range jobs {
			delete(gone, jobs[i].ID)
		}
	}
	s.Plan.Tally.Gone.Add(int64(len(gone)))
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range gone {
		delete(s.wanted, id)
	}
	return nil
}

// find is the jobs with these IDs that are still there.
func (s *QueueSource) find(ctx context.Context, admin queue.Admin, state queue.State, ids []queue.ID) ([]queue.Job, error) {
	var jobs []queue.Job
	for after := (queue.ID{}); ; {
		p, err := admin.List(ctx, queue.Search{Filter: queue.Filter{Queue: s.Name}, State: state, IDs: ids}, after, len(ids))
		if err != nil {
			return nil, fmt.Errorf("look for failed events in queue %q: %w", s.Name, err)
		}
		jobs = append(jobs, p.Jobs...)
		if after = p.Next; after == (queue.ID{}) {
			return jobs, nil
		}
	}
}

// readDead reads chosen jobs that are dead. They are not leased: nothing hands out dead jobs.
func (s *QueueSource) readDead(ctx context.Context, messages, most int) (event.Batch, connector.Ack, error) {
	admin, err := s.admin()
	if err != nil {
		return nil, nil, err
	}
	for {
		if len(s.ahead) == 0 {
			if len(s.dead) == 0 {
				return nil, nil, io.EOF
			}
			ids := s.dead[:min(len(s.dead), deadPage)]
			jobs, err := s.find(ctx, admin, queue.Buried, ids)
			if err != nil {
				return nil, nil, err
			}
			s.Plan.Tally.Gone.Add(int64(len(ids) - len(jobs)))
			s.ahead, s.dead = jobs, s.dead[len(ids):]
		}
		var b event.Batch
		var ids []queue.ID
		for bytes := 0; len(s.ahead) > 0 && len(b) < messages; s.ahead = s.ahead[1:] {
			j := &s.ahead[0]
			f, err := OfJob(j, true)
			if err != nil { // it was one when it was listed
				return nil, nil, fault.New(fault.Fatal, fmt.Errorf("job %s of queue %q: %w", j.ID, s.Name, err))
			}
			if bytes += len(f.Payload) + len(f.Latest); len(b) > 0 && bytes > most {
				break
			}
			if m := s.message(j, f); m != nil {
				b, ids = append(b, m), append(ids, j.ID)
			}
		}
		if len(b) > 0 {
			return b, func(ctx context.Context, o event.Outcomes) error { return s.drop(ctx, admin, ids, o) }, nil
		}
	}
}

// message is the message that is sent of a job.
func (s *QueueSource) message(j *queue.Job, f *Failure) *event.Message {
	if j.Scope != (queue.Scope{}) {
		scope := j.Scope
		j.Msg.Meta.Scope = &scope
	}
	return s.Plan.message(f)
}

// drop removes the dead jobs whose messages were settled.
func (s *QueueSource) drop(ctx context.Context, admin queue.Admin, ids []queue.ID, o event.Outcomes) error {
	done := ids[:0:0]
	for i, id := range ids {
		if o == nil || o[i] == nil {
			done = append(done, id)
		}
	}
	if len(done) == 0 {
		return nil // with no ID, every one would be chosen
	}
	if _, err := admin.Drop(ctx, queue.Search{Filter: queue.Filter{Queue: s.Name}, State: queue.Buried, IDs: done}); err != nil {
		return fmt.Errorf("take replayed events out of queue %q, where they stay: %w", s.Name, err)
	}
	s.Plan.Tally.Settled.Add(int64(len(done)))
	return nil
}

// settle ends the jobs whose messages were settled. The others stay leased until Close.
func (s *QueueSource) settle(ctx context.Context, chosen []queue.Job, o event.Outcomes) error {
	rs := make([]queue.Result, 0, len(chosen))
	for i := range chosen {
		if o == nil || o[i] == nil {
			rs = append(rs, chosen[i].Done())
		}
	}
	done, err := s.held.Settle(ctx, rs, nil)
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
