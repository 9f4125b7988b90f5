package queue

import "context"

// Subscriber is a store that knows who leases from its queues. One that several processes
// share deals the work of a queue out among those, and gives nothing to one that does not.
type Subscriber interface {
	// Subscribe says that this process leases from a queue until end is called. Without it the
	// first Lease or Wake says so, until the store is closed.
	Subscribe(queue string) (end func())
	// Unread lists, in order of name, the queues that have open jobs and that no process leases
	// from, as far as all who share the store say.
	Unread(ctx context.Context) ([]Backlog, error)
}

// Shared is a store that several processes share.
type Shared interface {
	// ReadByOthers tells which queues processes other than this one say that they lease from.
	ReadByOthers(ctx context.Context) (reads func(queue string) bool, err error)
}

// Backlog is a queue and its open jobs.
type Backlog struct {
	Queue string
	Open  int64
}

// Subscribe is Subscriber.Subscribe, for a store that is none too.
func Subscribe(s Store, queue string) (end func()) {
	if sub, can := s.(Subscriber); can {
		return sub.Subscribe(queue)
	}
	return func() {}
}
