package app

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/queue"
)

const (
	// unreadEvery is how often queues are looked for that nobody reads.
	unreadEvery = 10 * time.Second
	// unreadTwice is how many looks in a row find one before it is told of: a pipeline that is
	// replaced or started again reads again soon.
	unreadTwice = 2
)

// overseeQueues tells, until stop is called, of queues that have open messages and that no
// process reads: once when that is so, and once when it is no more.
func (a *App) overseeQueues(ctx context.Context) (stop func()) {
	s, can := a.Builder.Store.(queue.Subscriber)
	if !can {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.tellUnread(ctx, s)
	}()
	return func() {
		cancel()
		<-ended
	}
}

// warnOrphans tells of queues with open messages that no pipeline or machine of b reads: of those
// of the config before, of b, and those that no process reads; but not of those that another
// process reads, and of those that were told of.
func (a *App) warnOrphans(ctx context.Context, old *generation, b *Built, told map[string]bool) {
	a.mu.Lock()
	s := a.store
	a.mu.Unlock()
	if s == nil {
		return
	}
	names := map[string]bool{}
	if old != nil {
		for _, q := range old.queues {
			names[q.Name] = true
		}
	}
	for _, q := range b.Plan.Queues {
		names[q.Name] = true
	}
	if sub, can := s.(queue.Subscriber); can {
		unread, err := sub.Unread(ctx)
		if err != nil {
			a.Log.Warn("queues that nobody reads could not be looked for; it will be tried again", meter.KeyError, err)
		}
		for _, q := range unread {
			names[q.Queue] = true
		}
	}
	reads, others := b.Plan.Reads(), func(string) bool { return false }
	if shared, can := s.(queue.Shared); can {
		if r, err := shared.ReadByOthers(ctx); err == nil { // else Unread has failed too
			others = r
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if _, implied := b.Plan.Implied[name]; implied || reads[name] || told[name] || others(name) {
			continue
		}
		if st, err := s.Stats(ctx, queue.Filter{Queue: name}); err == nil && st.Open() > 0 {
			a.Log.Warn("a queue has open messages, and no pipeline or machine of this config reads it: they wait until one does; weir queue ls shows them, and weir queue move, drain or drop --open decides about them",
				"queue", name, meter.KeyMessages, st.Open())
		}
	}
}

func (a *App) tellUnread(ctx context.Context, s queue.Subscriber) {
	tick := time.NewTicker(unreadEvery)
	defer tick.Stop()
	looks := map[string]int{} // in a row that have found it
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		found, err := s.Unread(ctx)
		if err != nil {
			if ctx.Err() == nil {
				a.Log.Warn("queues that nobody reads could not be looked for; it will be tried again", meter.KeyError, err)
			}
			continue
		}
		now := map[string]bool{}
		for _, b := range found {
			now[b.Queue] = true
			if looks[b.Queue]++; looks[b.Queue] == unreadTwice {
				a.Log.Warn("a queue has messages, and no process reads it: start one whose config has a pipeline or machine for it", "queue", b.Queue, meter.KeyMessages, b.Open)
			}
		}
		for q, n := range looks {
			if now[q] {
				continue
			}
			delete(looks, q)
			if n >= unreadTwice {
				a.Log.Info("a queue that no process read is read again, or empty", "queue", q)
			}
		}
	}
}
