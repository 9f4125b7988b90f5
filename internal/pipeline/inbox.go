package pipeline

import (
	"sync"

	"github.com/weirdata/weir/internal/event"
)

// inbox is a queue of batches with one reader. Its length is not bounded here but by the
// budget of messages in flight: everything in it has been admitted.
type inbox struct {
	wake chan struct{} // has an element when there may be something to take

	mu      sync.Mutex
	waiting []event.Batch
	taken   []event.Batch // what the reader has now; its memory is used again
	closed  bool
}

func newInbox() *inbox { return &inbox{wake: make(chan struct{}, 1)} }

func (i *inbox) put(b event.Batch) {
	i.mu.Lock()
	i.waiting = append(i.waiting, b)
	i.mu.Unlock()
	i.signal()
}

// close says that nothing more will be put.
func (i *inbox) close() {
	i.mu.Lock()
	i.closed = true
	i.mu.Unlock()
	i.signal()
}

func (i *inbox) signal() {
	select {
	case i.wake <- struct{}{}:
	default:
	}
}

// take returns everything that waits; the slice is valid until the next take. closed is
// true when nothing more will come after it.
func (i *inbox) take() (waiting []event.Batch, closed bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	clear(i.taken)
	i.taken, i.waiting = i.waiting, i.taken[:0]
	return i.taken, i.closed
}
