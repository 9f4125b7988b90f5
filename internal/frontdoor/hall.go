package frontdoor

import (
	"context"
	"io"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// Fate is what became of a request that waited for its events.
type Fate uint8

// The fates of requests.
const (
	Settled Fate = iota + 1 // every event is delivered, filtered or dead-lettered
	Failed                  // an event was not delivered
	Stopped                 // nobody works on the events any more
	Late                    // the events were not settled in time
	Gone                    // the client does not wait any more
)

// request is the events of one HTTP request. Its fate is decided once, under its hall's lock.
type request struct {
	batch    event.Batch
	bytes    int64 // payload bytes of batch
	deadline time.Time
	fate     Fate           // 0 until it is decided; read after decided
	outcomes event.Outcomes // of Failed: one for each message
	decided  sync.WaitGroup // done when there is a fate
	waiting  bool           // no batch has it yet

	budget *Budget // its place, and the bytes held; nil when they are given back
	held   int64

	hall          atomic.Pointer[Hall] // where it is
	before, after *request             // its neighbours among those without a fate
}

// Hall is where the requests of a host wait: first to be taken by a Read, then to be settled.
// When the host stops reading, those that wait go to its successor's hall.
//
// Requests without a fate are in the order they came; as they are taken in that order, those
// that wait follow those that a batch has.
type Hall struct {
	timeout   time.Duration
	successor func() *Hall
	shut      atomic.Bool // paused or stopped
	away      func() bool // what keeps events is out of reach; nil: nobody says. Set before the first request

	mu       sync.Mutex
	oldest   *request // the requests without a fate
	youngest *request
	next     *request // the first that waits
	stopped  bool
	watching bool

	idle bool          // a take waits for wake
	wake chan struct{} // holds one when something came while idle
	stop chan struct{} // closed when stopped
	done sync.WaitGroup
}

// NewHall is a hall where requests wait no longer than timeout. successor is the hall of the
// host that takes the place of this one; nil when there is none.
func NewHall(timeout time.Duration, successor func() *Hall) *Hall {
	return &Hall{timeout: timeout, successor: successor, wake: make(chan struct{}, 1), stop: make(chan struct{})}
}

// Open reports whether requests are taken.
func (h *Hall) Open() bool { return !h.shut.Load() }

// Stopped reports whether the hall is closed for good.
func (h *Hall) Stopped() bool {
	select {
	case <-h.stop:
		return true
	default:
		return false
	}
}

// Await puts events where Read finds them and waits for their fate. Their request has a place
// in the budget and holds bytes, which are given back when the events are settled, or when
// they never will be. When ctx ends, events that no batch has are withdrawn; those that one
// has are worked on, though nobody waits. The outcomes are those of the messages of b, one by
// one, when some failed, and otherwise nil.
func (h *Hall) Await(ctx context.Context, b event.Batch, from *Budget, held int64) (Fate, event.Outcomes) {
	r := &request{batch: b, bytes: int64(b.Bytes()), deadline: time.Now().Add(h.timeout), budget: from, held: held, waiting: true}
	r.decided.Add(1)
	if !h.admit(r) {
		r.release()
		return Stopped, nil
	}
	if ctx.Done() != nil {
		stop := context.AfterFunc(ctx, r.leave)
		defer stop()
	}
	r.decided.Wait()
	return r.fate, r.outcomes
}

// admit lets r wait here, or with a successor; false when nobody takes it.
func (h *Hall) admit(r *request) bool {
	for at := h; at != nil; at = at.successor() {
		if at.add(r) {
			return true
		}
	}
	return false
}

func (h *Hall) add(r *request) bool {
	h.mu.Lock()
	if h.shut.Load() {
		h.mu.Unlock()
		return false
	}
	if !h.watching {
		h.watching = true
		h.done.Go(h.watch)
	}
	r.hall.Store(h)
	if r.before = h.youngest; r.before == nil {
		h.oldest = r
	} else {
		r.before.after = r
	}
	h.youngest = r
	if h.next == nil {
		h.next = r
	}
	wake := h.idle
	h.idle = false
	h.mu.Unlock()
	if wake {
		select {
		case h.wake <- struct{}{}:
		default: // one that was not needed is still there, and does as well
		}
	}
	return true
}

// remove takes r out of the hall. h.mu is held.
func (h *Hall) remove(r *request) {
	if h.next == r {
		h.next = r.after
	}
	if r.before == nil {
		h.oldest = r.after
	} else {
		r.before.after = r.after
	}
	if r.after == nil {
		h.youngest = r.before
	} else {
		r.after.before = r.before
	}
	r.before, r.after = nil, nil
}

// decide gives r its fate, unless it has one. h.mu is held.
func (h *Hall) decide(r *request, f Fate) {
	if r.fate != 0 {
		return
	}
	r.fate = f
	h.remove(r)
	if r.waiting { // no batch has it, and none will
		r.waiting = false
		r.release()
	}
	r.decided.Done()
}

// release gives back what r holds. The lock of its hall is held.
func (r *request) release() {
	if r.budget != nil {
		r.budget.Leave(r.held)
		r.budget = nil
	}
}

// leave withdraws r, whose client has gone.
func (r *request) leave() {
	for {
		h := r.hall.Load()
		h.mu.Lock()
		if r.hall.Load() == h {
			h.decide(r, Gone)
			h.mu.Unlock()
			return
		}
		h.mu.Unlock() // it has just moved on
	}
}

// Read waits for requests and returns the events of those that wait, up to about the given
// number of messages and bytes, but of at least one; the function decides their fates. The
// place leads from now on. When ctx ends, requests that wait move on or are turned away, and
// so are new ones until the next Read. It returns io.EOF after the stop, and the place's error
// when that has ended.
func (h *Hall) Read(ctx context.Context, place *Place, messages, bytes int) (event.Batch, func(context.Context, event.Outcomes) error, error) {
	h.resume()
	var ended <-chan struct{}
	if place != nil {
		place.Lead()
		ended = place.Ended()
	}
	for {
		if ctx.Err() != nil {
			h.pause()
			return nil, nil, context.Cause(ctx)
		}
		taken, n := h.take(messages, bytes)
		if len(taken) > 0 {
			return join(taken, n), func(_ context.Context, o event.Outcomes) error { h.settle(taken, o); return nil }, nil
		}
		if h.Stopped() {
			return nil, nil, io.EOF
		}
		select {
		case <-h.wake:
			// Handlers that are ready to run come first: what they bring shares the batch.
			runtime.Gosched()
		case <-ctx.Done():
		case <-h.stop:
		case <-ended:
			if err := place.Err(); err != nil {
				return nil, nil, fault.New(fault.Setup, err)
			}
			return nil, nil, io.EOF
		}
	}
}

// take takes what waits. When there is nothing, the next request wakes.
func (h *Hall) take(messages, bytes int) (taken []*request, n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	size := int64(0)
	for h.next != nil {
		r := h.next
		if n > 0 && (n+len(r.batch) > messages || size+r.bytes > int64(bytes)) {
			break
		}
		r.waiting = false
		h.next = r.after
		n += len(r.batch)
		size += r.bytes
		taken = append(taken, r)
	}
	if len(taken) == 0 {
		h.idle = true
		select { // a wake-up that is left from before says nothing
		case <-h.wake:
		default:
		}
	}
	return taken, n
}

func join(taken []*request, n int) event.Batch {
	if len(taken) == 1 {
		return taken[0].batch
	}
	b := make(event.Batch, 0, n)
	for _, r := range taken {
		b = append(b, r.batch...)
	}
	return b
}

// settle decides the fates of requests by the outcomes of their messages, in the order taken.
func (h *Hall) settle(taken []*request, o event.Outcomes) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := 0
	for _, r := range taken {
		f := Settled
		if o != nil {
			if own := o[at : at+len(r.batch)]; own.Err() != nil {
				f = Failed
				if r.fate == 0 {
					r.outcomes = slices.Clone(own) // o is the batch's, and others read theirs
				}
			}
		}
		at += len(r.batch)
		h.decide(r, f)
		r.release()
	}
}

func (h *Hall) resume() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.stopped {
		h.shut.Store(false)
	}
}

// pause lets those that wait move on. What a batch has is still being worked on.
func (h *Hall) pause() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.shut.Store(true)
	h.clear()
}

// clear moves the requests that wait to a successor, or turns them away. h.mu is held, and
// the hall is shut: two halls never wait for each other's lock, because each looks for one
// that is not shut after it has shut itself.
func (h *Hall) clear() {
	for h.next != nil {
		r := h.next
		next := h.successor()
		if next == nil {
			h.decide(r, Stopped)
			continue
		}
		h.remove(r)
		if !next.admit(r) {
			r.fate, r.waiting = Stopped, false
			r.release()
			r.decided.Done()
		}
	}
}

// Close decides the fate of every request: those that wait move on to a successor, the others
// are turned away.
func (h *Hall) Close() {
	h.mu.Lock()
	if !h.stopped {
		h.stopped = true
		h.shut.Store(true)
		close(h.stop)
		h.clear()
		for h.oldest != nil {
			h.decide(h.oldest, Stopped)
		}
	}
	h.mu.Unlock()
	h.done.Wait()
}

// watch expires requests until the stop.
func (h *Hall) watch() {
	tick := time.NewTicker(min(max(h.timeout/20, time.Millisecond), 250*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			h.expire(now)
			if h.away != nil && h.away() {
				h.fail()
			}
		case <-h.stop:
			return
		}
	}
}

// expire turns away the requests that have waited too long.
func (h *Hall) expire(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.oldest != nil && !h.oldest.deadline.After(now) {
		h.decide(h.oldest, Late)
	}
}

// fail turns away every request: what would keep their events cannot be reached, and nobody knows
// when it can. What a batch has of them is settled when it can.
func (h *Hall) fail() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.oldest != nil {
		h.decide(h.oldest, Failed)
	}
}

// Waiting is how many requests wait for a Read.
func (h *Hall) Waiting() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for r := h.next; r != nil; r = r.after {
		n++
	}
	return n
}
