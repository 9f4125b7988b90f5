package rows

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/weirdata/weir/internal/queue"
)

// readers are the queues that this process, the only one, leases from.
type readers struct {
	mu     sync.Mutex
	queues map[string]*reader
}

type reader struct {
	open  int  // calls of Subscribe that have not ended
	named bool // there was one
}

func (r *readers) of(q string) *reader {
	if r.queues == nil {
		r.queues = map[string]*reader{}
	}
	if r.queues[q] == nil {
		r.queues[q] = &reader{}
	}
	return r.queues[q]
}

// leases says that a queue is leased from.
func (r *readers) leases(q string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.of(q)
}

func (r *readers) reads(q string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	one := r.queues[q]
	return one != nil && (one.open > 0 || !one.named)
}

// Subscribe implements queue.Subscriber.
func (s *Store) Subscribe(q string) (end func()) {
	r := &s.readers
	r.mu.Lock()
	defer r.mu.Unlock()
	one := r.of(q)
	one.open++
	one.named = true
	return sync.OnceFunc(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		one.open--
	})
}

// Unread implements queue.Subscriber.
func (s *Store) Unread(context.Context) ([]queue.Backlog, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	var found []queue.Backlog
	for _, q := range s.part.Queues() {
		if n := s.part.Stats(queue.Filter{Queue: q}).Open(); n > 0 && !s.readers.reads(q) {
			found = append(found, queue.Backlog{Queue: q, Open: n})
		}
	}
	slices.SortFunc(found, func(a, b queue.Backlog) int { return cmp.Compare(a.Queue, b.Queue) })
	return found, nil
}
