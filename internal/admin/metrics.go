package admin

import (
	"context"
	"os"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/queue"
)

// unreadOf finds the queues of the open store that nobody reads.
func unreadOf(store func() (queue.Store, string, []connector.Queue)) meter.Unread {
	return func(ctx context.Context) (all []meter.QueueCounts) {
		s, _, _ := store()
		sub, can := s.(queue.Subscriber)
		if !can {
			return nil
		}
		found, err := sub.Unread(ctx)
		if err != nil {
			return nil // a gap says so
		}
		for _, b := range found {
			all = append(all, meter.QueueCounts{Queue: b.Queue, Waiting: b.Open})
		}
		return all
	}
}

// storeOf is what is told of the open store.
func storeOf(store func() (queue.Store, string, []connector.Queue)) meter.Stores {
	return func() (m meter.Store, open bool) {
		s, identity, queues := store()
		if s == nil {
			return m, false
		}
		m.Name, m.Own = identity, s
		c, can := s.(queue.Census)
		if !can {
			return m, true
		}
		if m.Shared = c.Shared(); !m.Shared { // two machines may have one at the same path
			if host, err := os.Hostname(); err == nil {
				m.Name += " on " + host
			}
		}
		ctx, done := context.WithTimeout(context.Background(), censusTimeout)
		defer done()
		lanes, err := c.Lanes(ctx)
		if err != nil {
			return m, true
		}
		m.Up = true
		for _, q := range queues { // also when they are empty
			m.Counts = append(m.Counts, meter.Backlog{Queue: q.Name, Age: -1})
		}
		now := s.Now()
		for i := range lanes {
			l := &lanes[i]
			b := meter.Backlog{Queue: l.Queue, Source: l.Scope.Source, Destination: l.Scope.Destination, Open: l.Open, Retrying: l.Retrying, Dead: l.Dead, Bytes: l.Bytes, Age: -1}
			if !l.Oldest.IsZero() {
				b.Age = max(now.Sub(l.Oldest), 0)
			}
			m.Counts = append(m.Counts, b)
		}
		return m, true
	}
}

// censusTimeout bounds how long a scrape waits for a store that is away.
const censusTimeout = 3 * time.Second

// pausedOf counts the pauses of the open store.
func pausedOf(store func() (queue.Store, string, []connector.Queue)) meter.Paused {
	return func(ctx context.Context) map[string]int {
		s, _, _ := store()
		if s == nil {
			return nil
		}
		all, err := queue.PausesOf(ctx, s)
		if err != nil {
			return nil // a gap says so
		}
		n := map[string]int{}
		for i := range all {
			n[all[i].Queue]++
		}
		return n
	}
}

// queuesOf counts the queues of the open store.
func queuesOf(store func() (queue.Store, string, []connector.Queue)) meter.Queues {
	return func(ctx context.Context) (all []meter.QueueCounts) {
		s, _, queues := store()
		if s == nil {
			return nil
		}
		for _, q := range queues {
			st, err := s.Stats(ctx, queue.Filter{Queue: q.Name})
			if err != nil {
				continue
			}
			all = append(all, meter.QueueCounts{Queue: q.Name, Waiting: st.Waiting, Leased: st.Leased, Retrying: st.Retrying, Dead: st.Dead, Bytes: st.Bytes})
		}
		return all
	}
}
