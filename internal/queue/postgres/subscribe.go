package postgres

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/queue"
)

// subscriptions are the queues that this process leases from: those that Subscribe names, and
// others from the first Lease or Wake on until the store is closed.
type subscriptions struct {
	mu     sync.Mutex
	queues map[string]*subscription
	asks   []chan error // of those who wait for a round
}

type subscription struct {
	open    int           // calls of Subscribe that have not ended
	named   bool          // there was one: Lease and Wake alone do not make it active
	until   time.Duration // since born: it is active up to then without any
	implied bool
	in      bool // a round has taken what there was for it
}

// linger is how long a queue counts as leased from after the last who does has ended: a
// pipeline that is started again, or replaced, need not give up its partitions for that.
func (s *Store) linger() time.Duration { return s.o.Lease }

func newSubscriptions() *subscriptions { return &subscriptions{queues: map[string]*subscription{}} }

func (n *subscriptions) of(q string) *subscription {
	sub := n.queues[q]
	if sub == nil {
		sub = &subscription{}
		n.queues[q] = sub
	}
	return sub
}

func (sub *subscription) active(now time.Duration) bool {
	return sub.open > 0 || now < sub.until || sub.implied && !sub.named
}

// active is the queues that are leased from, sorted; nil for none.
func (n *subscriptions) active(now time.Duration) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []string
	for q, sub := range n.queues {
		if sub.active(now) {
			out = append(out, q)
		} else {
			sub.in = false
		}
	}
	slices.Sort(out)
	return out
}

// joined says that a round is over in which this process was me, or no member.
func (n *subscriptions) joined(me *member) {
	if me == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, q := range me.queues {
		if sub := n.queues[q]; sub != nil {
			sub.in = true
		}
	}
}

// waiting is who waits for the round that begins now.
func (n *subscriptions) waiting() []chan error {
	n.mu.Lock()
	defer n.mu.Unlock()
	asks := n.asks
	n.asks = nil
	return asks
}

// imply has a queue that nobody has subscribed to count as leased from. It reports whether
// that is new, and whether a round has to come first.
func (n *subscriptions) imply(q string) (first, wait bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	sub := n.of(q)
	first = !sub.implied && !sub.named
	sub.implied = true
	return first, !sub.in && (sub.open > 0 || !sub.named)
}

// Subscribe implements queue.Subscriber.
func (s *Store) Subscribe(q string) (end func()) {
	n := s.subscriptions
	n.mu.Lock()
	sub := n.of(q)
	sub.open++
	sub.named = true
	n.mu.Unlock()
	s.look()
	return sync.OnceFunc(func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if sub.open--; sub.open == 0 {
			sub.until = time.Since(s.born) + s.linger()
		}
	})
}

// join makes sure that this process has its share of a queue before it leases from it for
// the first time: what nobody else works on can then be leased at once.
func (s *Store) join(ctx context.Context, q string) error {
	if _, wait := s.subscriptions.imply(q); !wait {
		return nil
	}
	ask := make(chan error, 1)
	s.subscriptions.mu.Lock()
	s.subscriptions.asks = append(s.subscriptions.asks, ask)
	s.subscriptions.mu.Unlock()
	s.look()
	select {
	case err := <-ask:
		return err
	case <-s.closed:
		return queue.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Wake implements queue.Store.
func (s *Store) Wake(f queue.Filter) <-chan struct{} {
	wake := s.hub.Wake(f)
	if first, _ := s.subscriptions.imply(f.Queue); first {
		s.look()
	}
	return wake
}

// Share is in how many partitions this process leases from a queue now, and how many there are.
func (s *Store) Share(q string) (has, of int) {
	for i := range s.owned {
		if o := s.owned[i].Load(); o != nil && o.leases(q) {
			has++
		}
	}
	return has, len(s.owned)
}
