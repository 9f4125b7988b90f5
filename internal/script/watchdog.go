package script

import (
	"context"
	"errors"
	"runtime"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirdata/weir/internal/garbage"
)

const (
	// tick is how often the watchdog looks.
	tick = 5 * time.Millisecond
	// idleTicks is after how many looks at nothing the watchdog ends.
	idleTicks = 200
	// soon is after how long a script may be suspected of taking memory without a look at
	// what of it is garbage, and seldom is how long after the last such suspicion.
	soon, seldom = 20 * time.Millisecond, time.Second
)

// watchdog is one goroutine for all runtimes of the process. It is there only while
// scripts run, and a script that ends before it looks costs it nothing.
//
// Nothing tells whose the memory is that a process takes. So a script that is stopped for
// memory is only suspected: its message is run once more by [Guard.Alone], while no other
// script runs, and only what happens then counts (invariant 3). Being only suspected, it can
// be stopped early, before the heap has grown out of proportion.
type watchdog struct {
	mu      sync.Mutex
	running bool
	list    []*sighting
	heap    heapMeter

	suspected time.Time // when a script was last suspected at once
}

// Guard keeps what one goroutine runs within limits of time and memory.
type Guard struct {
	timeout   time.Duration
	memory    uint64
	interrupt func(reason error)

	// state is the number of the run times two, less one while it runs.
	state    atomic.Uint64
	watched  atomic.Bool
	stopping atomic.Bool
	stopped  atomic.Bool

	until atomic.Pointer[context.Context] // whose end ends a run early; nil for none

	floor atomic.Uint64 // live heap when it began to run alone; 0 while it does not

	mu     sync.Mutex
	reason error // why it was stopped
}

// quiet is held by who runs alone, and awaited by all others.
var quiet struct {
	sync.Mutex
	only atomic.Pointer[Guard]
}

// aloneGCPercent keeps garbage small beside what is in use, so that the size of the heap
// tells what a script holds.
const aloneGCPercent = 25

// The reasons for which a guard interrupts what it runs.
var (
	ErrTime   = errors.New("runtime deadline exceeded")
	ErrMemory = errors.New("memory limit exceeded")
	ErrCut    = errors.New("nobody waits for it any more")
)

// NewGuard makes a guard that calls interrupt, on another goroutine, when a run takes
// longer than timeout or the live heap grows by more than memory bytes meanwhile. For the
// latter another script may be to blame: see [Guard.Alone].
func NewGuard(timeout time.Duration, memory int, interrupt func(reason error)) *Guard {
	return &Guard{timeout: timeout, memory: uint64(memory), interrupt: interrupt}
}

// Run runs f and returns the reason for which it was interrupted, nil when it was not.
// After Run has returned, interrupt is not called on its account.
func (g *Guard) Run(f func()) (reason error) {
	g.begin()
	defer func() { reason = g.end() }()
	f()
	return nil
}

// Alone runs f, which runs the guard, while no other guard runs: f is told nothing but the
// truth about its memory. It waits for those that run for at most the longest timeout any
// of them has.
func (g *Guard) Alone(f func()) {
	quiet.Lock()
	defer quiet.Unlock()
	quiet.only.Store(g)
	defer quiet.only.Store(nil)
	look := time.NewTicker(tick)
	for end := time.Now().Add(dog.longest()); dog.busy(g) && time.Now().Before(end); {
		<-look.C
	}
	look.Stop()
	defer garbage.Tighten(aloneGCPercent)()
	g.floor.Store(1)
	defer g.floor.Store(0)
	g.weigh()
	f()
}

// weigh begins to count what a guard that runs alone takes: once what the run before held
// has been replaced.
func (g *Guard) weigh() {
	if g.floor.Load() == 0 {
		return
	}
	runtime.GC()
	var heap heapMeter
	g.floor.Store(max(heap.live(), 1))
}

func (g *Guard) begin() {
	g.state.Add(1)
	if !g.watched.Load() {
		dog.watch(g)
	}
	// Alone sets only before it looks who runs; this runs before it looks at only.
	if only := quiet.only.Load(); only != nil && only != g {
		g.state.Add(1)
		quiet.Lock()
		g.state.Add(1)
		quiet.Unlock()
	}
}

func (g *Guard) end() error {
	g.state.Add(1)
	if g.stopping.Load() {
		// The watchdog is about to interrupt, or has: wait until it is done with it.
		g.mu.Lock()
		g.stopping.Store(false)
		g.mu.Unlock()
	}
	if g.stopped.Swap(false) {
		return g.reason
	}
	return nil
}

// sighting is what the watchdog remembers of a guard.
type sighting struct {
	guard *Guard
	state uint64    // as last seen
	since time.Time // when that state was first seen
	live  uint64    // live heap then
	told  bool      // was interrupted in this state
}

var dog watchdog

// watch has the watchdog look at g, and starts it where it sleeps.
func (w *watchdog) watch(g *Guard) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if g.watched.Load() {
		return
	}
	g.watched.Store(true)
	w.list = append(w.list, &sighting{guard: g})
	if !w.running {
		w.running = true
		go w.run()
	}
}

// busy reports whether a guard other than g runs.
func (w *watchdog) busy(g *Guard) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.list {
		if s.guard != g && s.guard.state.Load()&1 == 1 {
			return true
		}
	}
	return false
}

// longest is the longest timeout of a guard it looks at.
func (w *watchdog) longest() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	var longest time.Duration
	for _, s := range w.list {
		longest = max(longest, s.guard.timeout)
	}
	return longest
}

func (w *watchdog) run() {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	idle := 0
	for range ticker.C {
		w.mu.Lock()
		if w.look(time.Now()) {
			idle = 0
		} else {
			idle++
		}
		if idle >= idleTicks && w.forget() {
			w.running = false
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
	}
}

// forget lets go of all runtimes unless one has just begun to run. A runtime writes its
// state before it reads watched; forget writes watched before it reads the state.
func (w *watchdog) forget() bool {
	for _, s := range w.list {
		s.guard.watched.Store(false)
	}
	kept := w.list[:0]
	for _, s := range w.list {
		if s.guard.state.Load()&1 == 1 {
			s.guard.watched.Store(true)
			kept = append(kept, s)
		}
	}
	clear(w.list[len(kept):])
	w.list = kept
	return len(kept) == 0
}

// look judges every script that runs, and reports whether any does or did.
func (w *watchdog) look(now time.Time) (active bool) {
	var (
		oldest *sighting
		stuck  bool
	)
	for _, s := range w.list {
		state := s.guard.state.Load()
		if state != s.state {
			s.state, s.since, s.told = state, now, false
			active = true
			if state&1 == 1 {
				s.live = w.heap.live()
			}
			continue
		}
		if state&1 == 0 {
			continue
		}
		active = true
		// What was garbage when the script began is not room for it to grow into.
		s.live = min(s.live, w.heap.live())
		if s.told {
			stuck = true // until a built-in function returns: nobody else is blamed meanwhile
			continue
		}
		if now.Sub(s.since) >= s.guard.timeout {
			s.stop(ErrTime)
			continue
		}
		if until := s.guard.until.Load(); until != nil && (*until).Err() != nil {
			s.stop(ErrCut)
			continue
		}
		if oldest == nil || s.since.Before(oldest.since) {
			oldest = s
		}
	}
	if oldest != nil && !stuck && w.grown(oldest, now) {
		oldest.stop(ErrMemory)
	}
	return active
}

// grown reports whether the script may have taken more memory than it may use since it was
// first seen running. A script that runs alone has no garbage to speak of. Otherwise a script
// that has run for a while is suspected at once, because what doubles its memory again and
// again does so faster than it is collected; but not often, so that the innocent seldom run
// twice. Another is suspected of what is left after a collection.
func (w *watchdog) grown(s *sighting, now time.Time) bool {
	limit, objects := s.guard.memory, w.heap.objects()
	if floor := s.guard.floor.Load(); floor > 0 {
		if objects < floor+limit {
			return false
		}
		w.suspected = time.Time{} // it was right: the next may be suspected as soon
		return true
	}
	if objects < s.live+limit {
		return false
	}
	if now.Sub(s.since) >= soon && now.Sub(w.suspected) >= seldom {
		w.suspected = now
		return true
	}
	runtime.GC()
	return w.heap.live() >= s.live+limit
}

// stop interrupts the script s was seen running, unless it has ended since.
func (s *sighting) stop(reason error) {
	s.told = true
	r := s.guard
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopping.Store(true)
	if r.state.Load() != s.state {
		r.stopping.Store(false)
		return
	}
	r.reason = reason
	r.stopped.Store(true)
	r.interrupt(reason)
}

// heapMeter reads the size of the heap.
type heapMeter struct{ samples []metrics.Sample }

func (h *heapMeter) read(i int) uint64 {
	if h.samples == nil {
		h.samples = []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}}
	}
	metrics.Read(h.samples[i : i+1])
	return h.samples[i].Value.Uint64()
}

// live is what the last collection found in use.
func (h *heapMeter) live() uint64 { return h.read(0) }

// objects is live objects and garbage not yet collected.
func (h *heapMeter) objects() uint64 { return h.read(1) }
