package admin

import (
	"context"

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
