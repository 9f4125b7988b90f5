package partition

import (
	"sync"
	"sync/atomic"

	"github.com/weirdata/weir/internal/queue"
)

// Hub carries wake-ups from the partitions of a store to those who wait for work. It
// keeps one channel for each filter somebody asked for since it was last woken.
type Hub struct {
	waiting atomic.Int64
	mu      sync.Mutex
	chans   map[queue.Filter]chan struct{}
	closed  bool
}

// NewHub returns a Hub.
func NewHub() *Hub { return &Hub{chans: map[queue.Filter]chan struct{}{}} }

// normal gives equal filters one form.
func normal(f queue.Filter) queue.Filter {
	if f.By == "" || f.By == queue.None {
		f.By, f.Value = queue.None, ""
	}
	return f
}

// Wake is queue.Store.Wake.
func (h *Hub) Wake(f queue.Filter) <-chan struct{} {
	f = normal(f)
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.chans[f]
	if c == nil {
		c = make(chan struct{})
		if h.closed {
			close(c)
			return c
		}
		h.chans[f] = c
		h.waiting.Add(1)
	}
	return c
}

// Notify wakes those who wait for a lane of queue q with scope s.
func (h *Hub) Notify(q string, s queue.Scope) {
	if h.waiting.Load() == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range queue.Axes {
		f := queue.Filter{Queue: q, By: a, Value: a.Of(s)}
		if c := h.chans[f]; c != nil {
			close(c)
			delete(h.chans, f)
			h.waiting.Add(-1)
		}
	}
}

// Close wakes everybody, for good.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for f, c := range h.chans {
		close(c)
		delete(h.chans, f)
		h.waiting.Add(-1)
	}
}
