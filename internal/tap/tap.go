// Package tap is listening to a pipeline while it works: what its source read, what each transform
// made of it, and what became of what was written.
//
// # Points
//
//	source          each message that is read
//	transform.N     before and after the N-th transform, from 0: pieces, filtered or failed
//	ROLE            each attempt to write to a target: target, target.NAME, filter_target, backup_target, failure_target
//
// # Invariants
//
//   - A pipeline that nobody listens to pays one load of a pointer for each read and write.
//   - Nobody waits for who listens: what is more than the budget, or than he takes, is left out and
//     counted.
//   - A tap ends by itself. It changes nothing of a message, and keeps no memory of one: what it
//     tells is copied, up to a limit for each payload.
package tap

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirdata/weir/internal/event"
)

// What a tap tells at most.
const (
	MaxRecords = 100      // in a second
	MaxBytes   = 1 << 20  // in a second
	MaxPayload = 64 << 10 // of a payload
	MaxTime    = 5 * time.Minute
	MaxTaps    = 20 // at once, all pipelines together
	waiting    = 256
)

// Hub is where pipelines can be listened to, by name; it outlasts them.
type Hub struct {
	mu    sync.Mutex
	named map[string]*Pipeline
	taps  int
}

// Pipeline is the points of the pipeline with a name.
func (h *Hub) Pipeline(name string) *Pipeline {
	if h == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.named == nil {
		h.named = map[string]*Pipeline{}
	}
	if h.named[name] == nil {
		h.named[name] = &Pipeline{name: name}
	}
	return h.named[name]
}

// Pipeline is the points of one pipeline. A nil one has nobody who listens.
type Pipeline struct {
	name string
	taps atomic.Pointer[Taps]
}

// Taps are those who listen to a pipeline.
type Taps []*Tap

// Live is who listens now; nil when nobody does.
func (p *Pipeline) Live() Taps {
	if p == nil {
		return nil
	}
	if t := p.taps.Load(); t != nil {
		return *t
	}
	return nil
}

// Options say what is told.
type Options struct {
	Pipeline string
	// Point is one of the points; empty: all.
	Point string
	// Every tells one message in so many, at each point; 0 and 1: all.
	Every int
	// Match, if set, chooses messages; at a transform by what it got.
	Match func(*event.Message) bool
	// Unbounded has everything told and Add wait for it: for messages that were made for it.
	Unbounded bool
}

// Add listens until the tap is left. It is refused when too many do.
func (h *Hub) Add(o Options) (*Tap, bool) {
	p := h.Pipeline(o.Pipeline)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.taps >= MaxTaps {
		return nil, false
	}
	h.taps++
	t := &Tap{o: o, C: make(chan Record, waiting), at: p, hub: h, seen: map[string]int{}}
	all := append(append(Taps(nil), p.Live()...), t)
	p.taps.Store(&all)
	return t, true
}

// Tap is one who listens.
type Tap struct {
	// C is what is told.
	C chan Record

	o   Options
	at  *Pipeline
	hub *Hub

	mu      sync.Mutex
	left    bool
	lost    int64
	seen    map[string]int // messages at each point
	second  int64
	records int
	bytes   int
	all     []Record // of one that is unbounded
}

// Leave ends it; it may be called twice.
func (t *Tap) Leave() {
	t.hub.mu.Lock()
	defer t.hub.mu.Unlock()
	if t.left {
		return
	}
	t.left = true
	t.hub.taps--
	var rest Taps
	for _, x := range t.at.Live() {
		if x != t {
			rest = append(rest, x)
		}
	}
	if rest == nil {
		t.at.taps.Store(nil)
		return
	}
	t.at.taps.Store(&rest)
}

// Lost is how many records were left out since it was last asked.
func (t *Tap) Lost() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.lost
	t.lost = 0
	return n
}

// Records is what an unbounded tap was told.
func (t *Tap) Records() []Record {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.all
}

// wants reports whether a message at a point is told of, by what the tap is asked for and by what
// may be told in this second.
func (t *Tap) wants(point string, m *event.Message) bool {
	if t.o.Point != "" && t.o.Point != point {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.o.Match != nil && !t.o.Match(m) {
		return false
	}
	t.seen[point]++
	if t.o.Every > 1 && t.seen[point]%t.o.Every != 1 {
		return false
	}
	if t.o.Unbounded {
		return true
	}
	if now := time.Now().Unix(); now != t.second {
		t.second, t.records, t.bytes = now, 0, 0
	}
	if t.records >= MaxRecords || t.bytes >= MaxBytes || len(t.C) == cap(t.C) {
		t.lost++
		return false
	}
	t.records++
	return true
}

// tell hands r over, unless there is no room.
func (t *Tap) tell(r *Record) {
	size := len(r.Raw) + len(r.Before.Data)
	for i := range r.After {
		size += len(r.After[i].Data)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bytes += size
	if t.o.Unbounded {
		t.all = append(t.all, *r)
		return
	}
	select {
	case t.C <- *r:
	default:
		t.lost++
	}
}
