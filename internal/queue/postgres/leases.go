package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
	"weak"

	"github.com/weirdata/weir/internal/queue"
)

// lease is what one Lease call handed out: to the caller one lease, in truth one of each
// partition that gave jobs.
type lease struct {
	expires int64 // by the steady clock
	open    int   // jobs that are not settled
	parts   []leasePart
}

// leasePart is what one partition gave. It does not hold on to the memory of the partition, which
// may be given up long before the lease ends.
type leasePart struct {
	part   int
	memory weak.Pointer[owned]
	token  uint64     // of the partition
	ids    []queue.ID // the jobs, when there are several parts
}

// owner is the memory of the partition; nil when another process has what was held, or will.
func (p *leasePart) owner() *owned {
	if o := p.memory.Value(); o != nil && !o.gone.Load() {
		return o
	}
	return nil
}

func (l *lease) part(part int) *leasePart {
	for i := range l.parts {
		if l.parts[i].part == part {
			return &l.parts[i]
		}
	}
	return nil
}

// leases finds leases by the token that callers know. A lease is forgotten when its last
// job is settled or, some time after, when it has expired.
type leases struct {
	mu      sync.Mutex
	last    uint64
	byToken map[uint64]*lease
	sweepAt int // the number of leases at which expired ones are looked for
}

func newLeases() *leases {
	// Tokens of an earlier life of the process, or of another process, mean nothing here.
	return &leases{last: rand.Uint64() >> 2, byToken: map[uint64]*lease{}, sweepAt: 1024}
}

func (ls *leases) add(l *lease, now int64) uint64 {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if len(ls.byToken) >= ls.sweepAt {
		for token, old := range ls.byToken {
			if old.expires < now {
				delete(ls.byToken, token)
			}
		}
		ls.sweepAt = max(1024, 2*len(ls.byToken))
	}
	ls.last++
	ls.byToken[ls.last] = l
	return ls.last
}

// forget ends all leases.
func (ls *leases) forget() {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	clear(ls.byToken)
}

// token is that of the partition for the token that the caller knows; 0 when there is none.
func (ls *leases) token(token uint64, part int) uint64 {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if l := ls.byToken[token]; l != nil {
		if p := l.part(part); p != nil && p.owner() != nil {
			return p.token
		}
	}
	return 0
}

func (ls *leases) get(token uint64) *lease {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.byToken[token]
}

func (ls *leases) extend(l *lease, expires int64) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l.expires = expires
}

// settled says that jobs of leases are settled, or released.
func (ls *leases) settled(results []queue.Result) {
	if len(results) == 0 {
		return
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for i := range results {
		if l := ls.byToken[results[i].Token]; l != nil {
			if l.open--; l.open == 0 {
				delete(ls.byToken, results[i].Token)
			}
		}
	}
}

// Lease implements queue.Store. It answers for the partitions in which this process has the
// queue, one after the other. Each gives at least one job if it has one, so with more than three
// quarters of q.Bytes used no other is asked.
func (s *Store) Lease(ctx context.Context, q queue.Query) ([]queue.Job, error) {
	if err := s.ready(); err != nil {
		return nil, err
	}
	if !q.Any { // who decides about jobs takes nothing from those who do their work
		if err := s.join(ctx, q.Queue); err != nil {
			return nil, fmt.Errorf("lease from queue %q: %w", q.Queue, meaning(err))
		}
	}
	if !s.holdsNow() {
		return nil, fmt.Errorf("lease from queue %q: the database has not been heard of for %s: its partitions may have another owner", q.Queue, s.o.Lease)
	}
	q, err := q.Complete()
	if err != nil {
		return nil, err
	}
	rooms := rooms{of: q.Room, left: map[string]*room{}}
	if q.Room != nil {
		q.Room = rooms.ask
	}
	h := s.history.Load()
	n := uint32(len(s.owned))
	first := s.turn.Load() % n
	var jobs []queue.Job
	var failed error
	l := &lease{}
	enough := q.Bytes / 4
	for i := uint32(0); i < n && q.Limit > 0 && (jobs == nil || q.Bytes > enough); i++ {
		at := (first + i) % n
		o := s.owned[at].Load()
		if o == nil || o.h != h || !o.leases(q.Queue) {
			continue
		}
		more, err := o.p.Lease(ctx, q)
		if err != nil && !errors.Is(err, queue.ErrClosed) && failed == nil {
			failed = err
		}
		if len(more) == 0 {
			continue
		}
		l.parts = append(l.parts, leasePart{part: o.part, memory: weak.Make(o), token: more[0].Lease.Token})
		if jobs == nil {
			jobs = more
			s.turn.Store(at + 1)
		} else {
			jobs = append(jobs, more...)
		}
		q.Limit -= len(more)
		for i := range more {
			q.Bytes -= len(more[i].Msg.Data)
		}
		rooms.took(q.Split, more)
	}
	if len(jobs) == 0 {
		return nil, meaning(failed)
	}
	s.stamp(h.lanes, l, jobs, q.For)
	return jobs, nil
}

// rooms is what Query.Room said of each value that a call has met, less what the partitions
// that were asked have given: the jobs of a value may lie in several.
type rooms struct {
	of   func(value string) (jobs, bytes int)
	left map[string]*room
}

type room struct{ jobs, bytes int }

func (r *rooms) ask(value string) (jobs, bytes int) {
	v := r.left[value]
	if v == nil {
		v = &room{}
		v.jobs, v.bytes = r.of(value)
		r.left[value] = v
	}
	return v.jobs, v.bytes
}

func (r *rooms) took(split queue.Axis, jobs []queue.Job) {
	if r.of == nil || split == "" {
		return
	}
	for i := range jobs {
		v := r.left[split.Of(jobs[i].Scope)]
		v.jobs--
		v.bytes -= len(jobs[i].Msg.Data)
	}
}

// stamp gives the jobs of one call one lease.
func (s *Store) stamp(lanes *directory, l *lease, jobs []queue.Job, d time.Duration) {
	one := jobs[0].Lease
	for i := range jobs {
		if e := jobs[i].Lease.Expires; e.Before(one.Expires) {
			one.Expires = e
		}
		if len(l.parts) > 1 {
			p := l.part(lanes.id(jobs[i].ID.Lane).part)
			p.ids = append(p.ids, jobs[i].ID)
		}
	}
	l.open, l.expires = len(jobs), s.steady()+int64(d)
	one.Token = s.leases.add(l, s.steady())
	for i := range jobs {
		jobs[i].Lease = one
	}
}

// Renew implements queue.Store.
func (s *Store) Renew(ctx context.Context, jobs []queue.Job, d time.Duration) error {
	if err := s.ready(); err != nil {
		return err
	}
	var lost error
	byToken := map[uint64][]queue.Job{}
	for i := range jobs {
		byToken[jobs[i].Lease.Token] = append(byToken[jobs[i].Lease.Token], jobs[i])
	}
	for token, jobs := range byToken {
		if err := s.renew(s.leases.get(token), jobs, d); err != nil {
			lost = err
		}
	}
	return lost
}

// Release implements queue.Store.
func (s *Store) Release(ctx context.Context, jobs []queue.Job) error {
	if err := s.ready(); err != nil {
		return err
	}
	var lost error
	byPart := map[int][]queue.Job{}
	given := map[queue.ID]uint64{} // the tokens that the caller knows
	for i := range jobs {
		id, ref := jobs[i].ID, s.history.Load().lanes.id(jobs[i].ID.Lane)
		var token uint64
		if ref != nil {
			token = s.leases.token(jobs[i].Lease.Token, ref.part)
		}
		if token == 0 {
			lost = fmt.Errorf("release job %s: %w", id, queue.ErrLeaseLost)
			continue
		}
		given[id] = jobs[i].Lease.Token
		byPart[ref.part] = append(byPart[ref.part], queue.Job{ID: id, Lease: queue.Lease{Token: token}})
	}
	for part, jobs := range byPart {
		o := s.owned[part].Load()
		if o == nil {
			lost = fmt.Errorf("release job %s: another process has taken over: %w", jobs[0].ID, queue.ErrLeaseLost)
			continue
		}
		released, err := o.p.Release(jobs)
		if err != nil {
			lost = err
		}
		ended := make([]queue.Result, len(released))
		for i, id := range released {
			ended[i].Token = given[id]
		}
		s.leases.settled(ended)
	}
	return lost
}

func (s *Store) renew(l *lease, jobs []queue.Job, d time.Duration) error {
	var lost error
	byPart := map[int][]queue.Job{}
	for i := range jobs {
		ref := s.history.Load().lanes.id(jobs[i].ID.Lane)
		if l == nil || ref == nil || l.part(ref.part) == nil {
			lost = fmt.Errorf("renew the lease of job %s: %w", jobs[i].ID, queue.ErrLeaseLost)
			continue
		}
		byPart[ref.part] = append(byPart[ref.part], queue.Job{ID: jobs[i].ID, Lease: queue.Lease{Token: l.part(ref.part).token}})
	}
	renewed := false
	for part, jobs := range byPart {
		o := l.part(part).owner()
		if o == nil {
			lost = fmt.Errorf("renew the lease of job %s: another process has taken over: %w", jobs[0].ID, queue.ErrLeaseLost)
			continue
		}
		if err := o.p.Renew(jobs, d); err != nil {
			lost = err
			if len(jobs) == 1 {
				continue
			}
		}
		renewed = true
	}
	if !renewed {
		return lost
	}
	s.leases.extend(l, s.steady()+int64(d))
	for i := range l.parts {
		p := &l.parts[i]
		o := p.owner()
		if _, done := byPart[p.part]; done || o == nil {
			continue
		}
		rest := make([]queue.Job, len(p.ids))
		for i, id := range p.ids {
			rest[i] = queue.Job{ID: id, Lease: queue.Lease{Token: p.token}}
		}
		_ = o.p.Renew(rest, d) // some of them may be settled: that is no loss to the caller
	}
	return lost
}
