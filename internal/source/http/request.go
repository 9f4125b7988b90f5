package httpsource

import (
	"sync"
	"sync/atomic"

	"github.com/weirdata/weir/internal/event"
)

// The states of a request. Whoever moves it out of waiting decides whether its events
// enter the pipeline.
const (
	waiting   int32 = iota
	taken           // part of a batch; settle will be called
	abandoned       // answered or given up by its handler before it was taken
)

// request is one accepted HTTP request on its way to a batch.
type request struct {
	batch    event.Batch
	bytes    int // payload bytes of batch
	budget   *budget
	reserved int64 // bytes held of the budget
	state    atomic.Int32
	done     chan error // holds the outcome once settled
}

func newRequest(b event.Batch, from *budget, reserved int64) *request {
	return &request{batch: b, bytes: b.Bytes(), budget: from, reserved: reserved, done: make(chan error, 1)}
}

// release gives back what r holds of the budget.
func (r *request) release() { r.budget.release(r.reserved) }

// take claims r for a batch; false when its handler has given up.
func (r *request) take() bool { return r.state.CompareAndSwap(waiting, taken) }

// taken reports whether a batch has r.
func (r *request) taken() bool { return r.state.Load() == taken }

// abandon gives r up; false when a batch has it already.
func (r *request) abandon() bool { return r.state.CompareAndSwap(waiting, abandoned) }

// settle passes on what became of r's messages. It never blocks.
func (r *request) settle(err error) { r.done <- err }

// budget bounds what all requests hold together.
type budget struct {
	maxRequests, maxBytes int64
	requests, bytes       atomic.Int64
}

// enter takes a place for a request; false when there is none.
func (b *budget) enter() bool {
	if b.requests.Add(1) > b.maxRequests {
		b.requests.Add(-1)
		return false
	}
	return true
}

// grow takes n more bytes; false when there are not so many.
func (b *budget) grow(n int64) bool {
	if b.bytes.Add(n) > b.maxBytes {
		b.bytes.Add(-n)
		return false
	}
	return true
}

func (b *budget) shrink(n int64) { b.bytes.Add(-n) }

// release gives back a place and its bytes.
func (b *budget) release(bytes int64) {
	b.bytes.Add(-bytes)
	b.requests.Add(-1)
}

// pause tells waiting requests that nobody reads any more. The zero value is not paused.
type pause struct {
	mu    sync.Mutex
	begun chan struct{} // closed while paused
	on    bool
}

func (p *pause) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.begun == nil {
		p.begun = make(chan struct{})
	}
	if !p.on {
		p.on = true
		close(p.begun)
	}
}

func (p *pause) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.on {
		p.on = false
		p.begun = make(chan struct{})
	}
}

// c is closed when the pause that is or comes next begins.
func (p *pause) c() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.begun == nil {
		p.begun = make(chan struct{})
	}
	return p.begun
}
