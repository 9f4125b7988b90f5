package sqssource

import (
	"slices"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/event"
)

// longest is how long a message may be in flight after it was received.
const longest = 12 * time.Hour

// state is where a held message is.
type state uint8

const (
	queued    state = iota // to be handed out, alone or after those before it in its group
	working                // in the pipeline
	waiting                // for its next attempt
	leaving                // it was handled, and is being deleted
	returning              // it is being given back
	gone
)

// entry is a message that is held: received, and neither deleted nor given back.
type entry struct {
	id, handle string
	group      string
	position   []byte // of a FIFO queue
	data       []byte
	headers    event.Headers
	created    time.Time
	receives   int // how often the queue has given it out, this time included

	since    time.Time // when it was received
	until    time.Time // until when nobody else gets it
	state    state
	attempts int       // in vain since it was received
	due      time.Time // of the next attempt
	beats    bool      // it is being extended right now
	lost     bool      // the handle is of no use any more
	again    bool      // it was received once more while it was being deleted
	ack      *pending  // who waits for its deletion

	extendAt time.Time // when to extend it
	place    int       // in the heap of those; -1 when it is not extended
}

// hand is everything that a source holds. It knows the rules of time and order, and does
// nothing: what it answers, others do. Every method may be called by any goroutine.
//
// # Time
//
// A message is extended when almost half of its visibility timeout is over, from its receipt until
// it leaves, wherever it is meanwhile. One that was not extended in time is not
// handed out. Twelve hours after its receipt it is let go.
//
// # Groups
//
// Of the messages of a group the first is handed out, and the next when nobody holds the first
// any more. When the first is given back, so are all behind it, the last one first; none of them
// was begun. Only when the queue is to put the first aside at its next receipt do those behind
// it go on: each time they are given back counts as a receipt of theirs, and they would be put
// aside with it.
type hand struct {
	visibility  time.Duration
	fifo        bool
	maxReceives int // 0: the queue puts nothing aside

	mu      sync.Mutex
	held    map[string]*entry
	ready   []*entry            // to be handed out, in this order
	lines   map[string][]*entry // by group, the first may be with the pipeline
	waits   int                 // how many wait
	beside  int                 // how many are neither with the pipeline nor leaving, and
	bytes   int                 // their size
	waiting []*entry            // in no order
	beats   beats
	trouble map[string]trouble // groups whose first message failed
	expired int64              // let go after twelve hours, or lost
}

// trouble is what is known of a group whose first message was given back.
type trouble struct {
	id    string
	until time.Time
}

// mostTroubles bounds what is remembered of groups; troubleFor, how long.
const (
	mostTroubles = 1000
	troubleFor   = 15 * time.Minute
)

func newHand(visibility time.Duration, fifo bool, maxReceives int) *hand {
	return &hand{visibility: visibility, fifo: fifo, maxReceives: maxReceives,
		held: map[string]*entry{}, lines: map[string][]*entry{}, trouble: map[string]trouble{}}
}

// receive takes what a receive call has answered at an instant, and returns how many of them
// were held already: only the newest handle of a message is of use.
func (h *hand) receive(now time.Time, es []*entry) (again int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range es {
		if t, ok := h.trouble[e.group]; ok && t.id != e.id {
			delete(h.trouble, e.group) // the one that failed is through or put aside
		}
		if old := h.held[e.id]; old != nil && old.state != returning {
			old.handle, old.receives, old.lost = e.handle, e.receives, false
			old.since, old.until = now, now.Add(h.visibility)
			if old.state == leaving {
				old.again = true
			} else {
				h.schedule(old, now)
			}
			again++
			continue
		}
		e.since, e.until, e.place = now, now.Add(h.visibility), -1
		e.state = queued
		h.held[e.id] = e
		h.rest(e, 1)
		h.schedule(e, now)
		if !h.fifo {
			h.ready = append(h.ready, e)
			continue
		}
		h.enter(e)
	}
	return again
}

// enter puts a message behind those of its group that are held. The queue gives out a group in its
// order, and no more of it while some of it is held.
func (h *hand) enter(e *entry) {
	line := h.lines[e.group]
	if len(line) == 0 {
		h.ready = append(h.ready, e)
	}
	h.lines[e.group] = append(line, e)
}

// take hands out what may be worked on now, within the room, of which the first message may be
// larger.
func (h *hand) take(now time.Time, messages, size int) []*entry {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wake(now)
	var out []*entry
	for len(h.ready) > 0 && len(out) < messages {
		e := h.ready[0]
		if e.state != queued || e.lost || !now.Before(e.until) {
			h.ready = h.ready[1:]
			if e.state == queued {
				h.drop(e)
			}
			continue
		}
		if size -= len(e.data); size < 0 && len(out) > 0 {
			break
		}
		h.ready = h.ready[1:]
		e.state = working
		h.rest(e, -1)
		out = append(out, e)
	}
	if len(h.ready) == 0 {
		h.ready = nil
	}
	return out
}

// rest counts one that comes to rest here, or leaves.
func (h *hand) rest(e *entry, n int) {
	h.beside += n
	h.bytes += n * len(e.data)
}

// wake has what waited long enough handed out again.
func (h *hand) wake(now time.Time) {
	h.waiting = slices.DeleteFunc(h.waiting, func(e *entry) bool {
		if e.state != waiting {
			return true
		}
		if now.Before(e.due) {
			return false
		}
		e.state = queued
		h.waits--
		h.ready = append(h.ready, e)
		return true
	})
}

// next is when something that waits is due; zero when nothing does.
func (h *hand) next() (due time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.waiting {
		if e.state == waiting && (due.IsZero() || e.due.Before(due)) {
			due = e.due
		}
	}
	return due
}

// drop forgets a message that somebody else may have, and those of its group behind it, which
// only their turn has kept here.
func (h *hand) drop(e *entry) {
	for _, x := range h.leave(e, true, gone) {
		h.forget(x)
		h.expired++
	}
}

// done says that e was handled, and reports whether it is still held, so that it has to be
// deleted. What comes after it in its group may be handed out.
func (h *hand) done(e *entry) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e.state != working {
		return false
	}
	if t, ok := h.trouble[e.group]; ok && t.id == e.id {
		delete(h.trouble, e.group)
	}
	h.leave(e, false, leaving)
	return true
}

// again keeps e here until its next attempt.
func (h *hand) again(e *entry, due time.Time, counted bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e.state != working {
		return
	}
	if counted {
		e.attempts++
	}
	e.state, e.due = waiting, due
	h.waits++
	h.rest(e, 1)
	h.waiting = append(h.waiting, e)
}

// back says that e goes back to the queue, failed when it is for what it is. It returns those
// that go back, in the order in which they have to: e is the last.
func (h *hand) back(now time.Time, e *entry, failed bool) []*entry {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e.state >= leaving {
		return nil
	}
	aside := failed && h.maxReceives > 0 && e.receives >= h.maxReceives
	if failed && h.fifo && h.maxReceives > 0 && !aside {
		h.note(now, e)
	}
	return h.leave(e, !aside, returning)
}

// note remembers that e failed, so that no more of its group are received with it.
func (h *hand) note(now time.Time, e *entry) {
	for g, t := range h.trouble {
		if now.After(t.until) {
			delete(h.trouble, g)
		}
	}
	if len(h.trouble) < mostTroubles {
		h.trouble[e.group] = trouble{e.id, now.Add(troubleFor)}
	}
}

// careful reports whether messages are to be received one by one: with one that is likely to
// fail, those behind it in its group would be received in vain, which counts.
func (h *hand) careful(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for g, t := range h.trouble {
		if now.Before(t.until) {
			return true
		}
		delete(h.trouble, g)
	}
	return false
}

// leave ends the holding of e and, of those behind it in its group, what was not begun; without
// them the next one is to be handed out. It returns all that leave, the first of the group last.
func (h *hand) leave(e *entry, behind bool, to state) []*entry {
	out := []*entry{e}
	if h.fifo {
		line := h.lines[e.group]
		i := slices.Index(line, e)
		switch {
		case i < 0:
		case behind:
			out = append(out, line[i+1:]...)
			line = line[:i]
		default:
			line = slices.Delete(line, i, i+1)
			if i == 0 && len(line) > 0 && line[0].state == queued {
				h.ready = append(h.ready, line[0])
			}
		}
		if len(line) == 0 {
			delete(h.lines, e.group)
		} else {
			h.lines[e.group] = line
		}
	}
	for _, x := range out {
		h.still(x)
		if x.state != working {
			h.rest(x, -1)
		}
		if x.state == waiting {
			h.waits--
		}
		x.state = to
	}
	slices.Reverse(out)
	return out
}

// keep has e extended again while its deletion waits for its next attempt.
func (h *hand) keep(now time.Time, e *entry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e.state == leaving && e.place < 0 {
		h.extendLater(e, now)
	}
}

// stillAll ends the extending of es and returns their handles: nothing is extended while it is
// being deleted.
func (h *hand) stillAll(es []*entry) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	handles := make([]string, len(es))
	for i, e := range es {
		h.still(e)
		e.again = false
		handles[i] = e.handle
	}
	return handles
}

// deleted says that e is deleted. It reports whether e was received again meanwhile: then it has
// to be deleted once more, by its new handle.
func (h *hand) deleted(e *entry) (again bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e.again {
		return true
	}
	h.forget(e)
	return false
}

// returned says that es are given back.
func (h *hand) returned(es ...*entry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range es {
		h.forget(e)
	}
}

func (h *hand) forget(e *entry) {
	h.still(e)
	e.state = gone
	if h.held[e.id] == e {
		delete(h.held, e.id)
	}
}

// all is every message that is held and not on its way back or deleted, with those first that
// have to be given back first.
func (h *hand) all() (behind, first []*entry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var es []*entry
	for _, e := range h.held {
		if e.state < leaving {
			es = append(es, e)
		}
	}
	if !h.fifo {
		return nil, es
	}
	for _, line := range h.lines {
		first = append(first, line[0])
		for i := len(line) - 1; i > 0; i-- {
			behind = append(behind, line[i])
		}
	}
	return behind, first
}

// letGo ends the extending of everything.
func (h *hand) letGo() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.held {
		h.still(e)
		e.state = gone
	}
	clear(h.held)
	h.ready, h.waiting, h.lines = nil, nil, map[string][]*entry{}
}

// count is how many messages wait for their next attempt, how many are neither with the pipeline
// nor being deleted, those among them, and their size.
func (h *hand) count() (waits, beside, bytes int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.waits, h.beside, h.bytes
}

// handleOf is the newest handle of e.
func (h *hand) handleOf(e *entry) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return e.handle
}
