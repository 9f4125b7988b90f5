package gatewaysource

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/gateway"
)

// request is one HTTP request that waits for its events. Its answer is given once, under
// the hall's lock, by whoever gets there first: the ack, a timeout, a pause or the stop.
type request struct {
	batch    event.Batch
	bytes    int64 // payload bytes of batch
	deadline time.Time
	answer   *gateway.Answer // nil until it is answered; read after answered
	answered sync.WaitGroup  // done when answer is set
	held     bool            // counts in the hall: it is waiting or its events are not settled
	waiting  bool            // no batch has it yet

	before, after *request // its neighbours among the unanswered
}

// hall is where requests wait: first to be taken by a Read, then to be settled. What all
// hold together is bounded. A request counts until its events are settled, whether or
// not it was answered before.
type hall struct {
	maxRequests int
	maxBytes    int64
	timeout     time.Duration

	mu       sync.Mutex
	requests int        // handlers at work, and requests whose events are not settled
	bytes    int64      // of bodies and events
	waiting  []*request // in the order they came
	next     int        // waiting[:next] is done with
	oldest   *request   // the unanswered requests, in the order they came
	youngest *request
	paused   bool // nobody reads
	stopped  bool

	idle bool          // a take waits for wake
	wake chan struct{} // holds one when something came while idle
	stop chan struct{} // closed when stopped
}

func newHall(maxRequests int, maxBytes int64, timeout time.Duration) *hall {
	return &hall{
		maxRequests: maxRequests, maxBytes: maxBytes, timeout: timeout,
		wake: make(chan struct{}, 1), stop: make(chan struct{}),
	}
}

// enter counts a handler in; false when there is no place or nobody reads.
func (h *hall) enter() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.paused || h.stopped || h.requests >= h.maxRequests {
		return false
	}
	h.requests++
	return true
}

// open reports whether events are taken.
func (h *hall) open() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.paused && !h.stopped
}

// grow takes n more bytes; false when there are not so many.
func (h *hall) grow(n int64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.bytes+n > h.maxBytes {
		return false
	}
	h.bytes += n
	return true
}

// shrink gives back bytes.
func (h *hall) shrink(n int64) {
	if n == 0 {
		return
	}
	h.mu.Lock()
	h.bytes -= n
	h.mu.Unlock()
}

// leave gives back the place and bytes of a handler whose request did not come to wait.
func (h *hall) leave(bytes int64) {
	h.mu.Lock()
	h.requests--
	h.bytes -= bytes
	h.mu.Unlock()
}

// await puts the events of a request where Read finds them and waits for the answer. The
// handler has entered and holds body bytes, which are given back; the place and the
// bytes of the events stay taken until they are settled.
func (h *hall) await(b event.Batch, body int64, now time.Time) *gateway.Answer {
	r := &request{batch: b, bytes: int64(b.Bytes()), deadline: now.Add(h.timeout), held: true, waiting: true}
	r.answered.Add(1)
	h.mu.Lock()
	h.bytes -= body
	if h.paused || h.stopped || h.bytes+r.bytes > h.maxBytes {
		h.requests--
		h.mu.Unlock()
		return gateway.Unavailable
	}
	h.bytes += r.bytes
	h.waiting = append(h.waiting, r)
	if r.before = h.youngest; r.before == nil {
		h.oldest = r
	} else {
		r.before.after = r
	}
	h.youngest = r
	wake := h.idle
	h.idle = false
	h.mu.Unlock()
	if wake {
		select {
		case h.wake <- struct{}{}:
		default: // one that was not needed is still there, and does as well
		}
	}
	r.answered.Wait()
	return r.answer
}

// reply answers r unless it is answered. h.mu is held.
func (h *hall) reply(r *request, a *gateway.Answer) {
	if r.answer != nil {
		return
	}
	r.answer = a
	r.answered.Done()
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

// release gives back what r holds. h.mu is held.
func (h *hall) release(r *request) {
	if r.held {
		r.held = false
		h.requests--
		h.bytes -= r.bytes
	}
}

// errStopped is what take returns after the stop.
var errStopped = errors.New("the source is stopped")

// take waits for requests and takes those that wait, up to about the given number of
// messages and bytes, but at least one. When ctx ends, those that wait are turned away,
// and new ones too until the next take.
func (h *hall) take(ctx context.Context, messages, bytes int, ended <-chan struct{}) ([]*request, error) {
	h.resume()
	for {
		if ctx.Err() != nil {
			h.pause()
			return nil, context.Cause(ctx)
		}
		taken, stopped := h.grab(messages, bytes)
		if len(taken) > 0 {
			return taken, nil
		}
		if stopped {
			return nil, errStopped
		}
		select {
		case <-h.wake:
			// Handlers that are ready to run come first: what they bring shares the batch.
			runtime.Gosched()
		case <-ctx.Done():
		case <-h.stop:
		case <-ended:
			return nil, errStopped
		}
	}
}

// grab takes what waits. When there is nothing, the next request wakes.
func (h *hall) grab(messages, bytes int) (taken []*request, stopped bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopped {
		return nil, true
	}
	n, size := 0, int64(0)
	for h.next < len(h.waiting) {
		r := h.waiting[h.next]
		if n > 0 && (n+len(r.batch) > messages || size+r.bytes > int64(bytes)) {
			break
		}
		r.waiting = false
		n += len(r.batch)
		size += r.bytes
		taken = append(taken, r)
		h.skip()
	}
	if len(taken) == 0 {
		h.idle = true
		select { // a wake-up that is left from before says nothing
		case <-h.wake:
		default:
		}
	}
	return taken, false
}

// settle answers requests by the outcomes of their messages, in the order taken.
func (h *hall) settle(taken []*request, o event.Outcomes) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := 0
	for _, r := range taken {
		a := gateway.OK
		if o != nil && o[at:at+len(r.batch)].Err() != nil {
			a = gateway.Unavailable
		}
		at += len(r.batch)
		h.reply(r, a)
		h.release(r)
	}
}

func (h *hall) resume() {
	h.mu.Lock()
	h.paused = false
	h.mu.Unlock()
}

// pause turns away what waits. What a batch has is still being worked on.
func (h *hall) pause() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.paused = true
	h.turnAway()
}

// turnAway answers the requests that no batch has. h.mu is held.
func (h *hall) turnAway() {
	for _, r := range h.waiting[h.next:] {
		r.waiting = false
		h.reply(r, gateway.Unavailable)
		h.release(r)
	}
	clear(h.waiting)
	h.waiting, h.next = h.waiting[:0], 0
}

// close turns away every request that is not answered.
func (h *hall) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopped {
		return
	}
	h.stopped = true
	close(h.stop)
	h.turnAway()
	for h.oldest != nil {
		h.reply(h.oldest, gateway.Unavailable)
	}
}

// expire answers the requests that have waited too long.
func (h *hall) expire(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.oldest != nil && !h.oldest.deadline.After(now) {
		r := h.oldest
		h.reply(r, gateway.Timeout)
		if r.waiting { // no batch has it, and none will: it is the first that waits
			r.waiting = false
			h.release(r)
			h.skip()
		}
	}
}

// skip is done with the first entry of waiting, and from time to time moves the rest to
// the front. h.mu is held.
func (h *hall) skip() {
	h.waiting[h.next] = nil
	if h.next++; h.next == len(h.waiting) {
		h.waiting, h.next = h.waiting[:0], 0
	} else if h.next >= 1024 && h.next >= len(h.waiting)/2 {
		n := copy(h.waiting, h.waiting[h.next:])
		clear(h.waiting[n:])
		h.waiting, h.next = h.waiting[:n], 0
	}
}

// watch expires requests until the stop.
func (h *hall) watch() {
	period := min(max(h.timeout/20, time.Millisecond), 250*time.Millisecond)
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			h.expire(now)
		case <-h.stop:
			return
		}
	}
}
