// Package lease holds jobs on behalf of whoever works on them: it renews their leases until
// they are settled or given back, and releases at the end what is left.
//
// # Invariants
//
//  1. While a Holder holds a job its lease is renewed, three times in the time that it lasts,
//     so that it ends only when the process hangs or dies, or the store is away for as long.
//  2. A job is held until its result is durable, so its lease goes on while that is waited for.
//  3. Each job that is held is let go of once: by Settle, Release, Forget or Close.
//  4. After Close nothing is renewed, and what was held is handed out again at once.
//
// A lease that is lost shows when its jobs are settled: renewing reports nothing. A Holder
// that holds nothing costs nothing: there is a timer while it holds something.
package lease

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/queue"
)

// Holder holds leased jobs. Its methods may be called at once by many goroutines.
type Holder struct {
	store func() queue.Store
	lasts time.Duration

	mu     sync.Mutex
	held   map[uint64]*group // by token
	jobs   int               // of held that are not let go of
	timer  *time.Timer       // set while something is held
	closed bool
	ctx    context.Context // of renewals
	stop   context.CancelFunc
	busy   sync.WaitGroup // renewals

	waiting []*share // few results, for the next commit
	commits int      // under way, of shares
}

// group is the jobs of one lease, which is renewed as long as one of them is held. Which of
// them that is need not be known: a lease goes on for the others when some are settled.
type group struct {
	ids  []queue.ID
	left int // held
}

// New returns a Holder of jobs that are leased from store for the time lasts, which is above 0.
func New(store func() queue.Store, lasts time.Duration) *Holder {
	h := &Holder{store: store, lasts: lasts, held: map[uint64]*group{}}
	h.ctx, h.stop = context.WithCancel(context.Background())
	return h
}

// Hold holds jobs that were just leased.
func (h *Holder) Hold(jobs ...queue.Job) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range jobs {
		token := jobs[i].Lease.Token
		g := h.held[token]
		if g == nil {
			g = &group{ids: make([]queue.ID, 0, len(jobs)-i)}
			h.held[token] = g
		}
		g.ids = append(g.ids, jobs[i].ID)
		g.left++
	}
	h.jobs += len(jobs)
	h.arm()
}

// arm has what is held renewed after a third of the lease; it is called with the lock.
func (h *Holder) arm() {
	if h.timer == nil && len(h.held) > 0 && !h.closed {
		h.timer = time.AfterFunc(h.lasts/3, h.renew)
	}
}

func (h *Holder) renew() {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return
	}
	h.busy.Add(1)
	defer h.busy.Done()
	jobs := h.all()
	h.mu.Unlock()
	if len(jobs) > 0 {
		_ = h.store().Renew(h.ctx, jobs, h.lasts)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.timer = nil
	h.arm()
}

// all is the jobs of every lease, with what renewing needs of them.
func (h *Holder) all() []queue.Job {
	var jobs []queue.Job
	for token, g := range h.held {
		for _, id := range g.ids {
			jobs = append(jobs, queue.Job{ID: id, Lease: queue.Lease{Token: token}})
		}
	}
	return jobs
}

// Len is how many jobs are held.
func (h *Holder) Len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.jobs
}

// Forget lets go of jobs that were settled otherwise, or are not to be: their leases end by
// themselves, unless they are renewed for others of the same lease.
func (h *Holder) Forget(jobs ...queue.Job) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range jobs {
		h.forget(jobs[i].Lease.Token)
	}
}

func (h *Holder) forget(token uint64) {
	g := h.held[token]
	if g == nil {
		return // after Close
	}
	h.jobs--
	if g.left--; g.left == 0 {
		delete(h.held, token)
	}
}

// Results of few jobs are committed together with those that come while other commits are
// under way: a transaction costs more than what it settles then.
const (
	fewResults    = 16
	commitsAtOnce = 2
)

// Beside is what is done in the transaction that settles results, with those of them that it settles.
// It has no effect but through tx.
type Beside func(tx queue.Tx, rs []queue.Result) error

// Settle settles results in tx, and does what is to be done beside.
func (b Beside) Settle(tx queue.Tx, rs []queue.Result) error {
	if err := tx.Settle(rs...); err != nil || b == nil {
		return err
	}
	return b(tx, rs)
}

// share is the results of one Settle in a commit of several.
type share struct {
	ctx  context.Context
	rs   []queue.Result
	also Beside
	done []queue.Result
	err  error
	over chan struct{} // closed when done and err are set
}

// Settle gives results in one transaction, and one by one when a lease was lost, so that the
// others are not handed out again with it. It returns those that are durable, with an error
// that is queue.ErrLeaseLost when others were lost. Whatever becomes of them, it lets go of
// all jobs of rs: what could not be settled is handed out again when its lease has ended. also, if
// it is not nil, is part of each transaction.
func (h *Holder) Settle(ctx context.Context, rs []queue.Result, also Beside) (done []queue.Result, err error) {
	if len(rs) == 0 {
		return nil, nil
	}
	defer h.ended(rs)
	if len(rs) > fewResults {
		return h.settle(ctx, rs, also)
	}
	s := &share{ctx: ctx, rs: rs, also: also, over: make(chan struct{})}
	h.mu.Lock()
	h.waiting = append(h.waiting, s)
	lead := h.commits < commitsAtOnce
	if lead {
		h.commits++
	}
	h.mu.Unlock()
	if lead {
		h.lead()
	}
	<-s.over
	return s.done, s.err
}

// lead commits what waits, together, and has another go on with what came meanwhile.
func (h *Holder) lead() {
	h.mu.Lock()
	shares := h.waiting
	h.waiting = nil
	h.mu.Unlock()
	h.commit(shares)
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.waiting) > 0 {
		go h.lead()
		return
	}
	h.commits--
}

// commit settles shares in one transaction, and each for itself when that fails, so that
// none has the failure of another.
func (h *Holder) commit(shares []*share) {
	if len(shares) > 1 {
		together := func(tx queue.Tx) error {
			for _, s := range shares {
				if err := s.also.Settle(tx, s.rs); err != nil {
					return err
				}
			}
			return nil
		}
		if h.store().Update(shares[0].ctx, together) == nil {
			for _, s := range shares {
				s.done = s.rs
				close(s.over)
			}
			return
		}
	}
	for _, s := range shares {
		s.done, s.err = h.settle(s.ctx, s.rs, s.also)
		close(s.over)
	}
}

func (h *Holder) settle(ctx context.Context, rs []queue.Result, also Beside) (done []queue.Result, err error) {
	err = h.store().Update(ctx, func(tx queue.Tx) error { return also.Settle(tx, rs) })
	if err == nil {
		return rs, nil
	}
	if !errors.Is(err, queue.ErrLeaseLost) {
		return nil, err
	}
	lost := 0
	for i := range rs {
		r := rs[i : i+1]
		err := h.store().Update(ctx, func(tx queue.Tx) error { return also.Settle(tx, r) })
		switch {
		case err == nil:
			done = append(done, r...)
		case errors.Is(err, queue.ErrLeaseLost):
			lost++
		default:
			return done, err
		}
	}
	if lost > 0 {
		return done, fmt.Errorf("%d jobs are handed out again: %w", lost, queue.ErrLeaseLost)
	}
	return done, nil
}

func (h *Holder) ended(rs []queue.Result) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range rs {
		h.forget(rs[i].Token)
	}
}

// Release gives jobs back: they are handed out again at once, and their attempts do not count.
// A lease that was lost is no error.
func (h *Holder) Release(ctx context.Context, jobs []queue.Job) error {
	defer h.Forget(jobs...)
	return h.release(ctx, jobs)
}

func (h *Holder) release(ctx context.Context, jobs []queue.Job) error {
	if len(jobs) == 0 {
		return nil
	}
	err := h.store().Release(ctx, jobs)
	if err != nil && !errors.Is(err, queue.ErrLeaseLost) && !errors.Is(err, queue.ErrClosed) {
		return fmt.Errorf("release %d jobs, which are handed out again within %s: %w", len(jobs), h.lasts, err)
	}
	return nil
}

// Close releases what is held, and returns how many jobs that were. It is safe twice.
func (h *Holder) Close(ctx context.Context) (int, error) {
	h.mu.Lock()
	h.closed = true
	if h.timer != nil {
		h.timer.Stop()
	}
	h.mu.Unlock()
	h.stop()
	h.busy.Wait()
	h.mu.Lock()
	n, jobs := h.jobs, h.all()
	h.jobs = 0
	clear(h.held)
	h.mu.Unlock()
	return n, h.release(ctx, jobs)
}
