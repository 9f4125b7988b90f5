package order

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/weirdata/weir/internal/queue"
)

// Worker carries orders out on an open store.
type Worker struct {
	Store queue.Store
	// Remains, if set, lists the records that a job of a queue leaves behind when it is dropped.
	// They are deleted with it.
	Remains func(ctx context.Context, s queue.Store, j *queue.Job) ([][]byte, error)
}

const (
	stepJobs  = 500 // of one transaction, at most
	stepBytes = 4 << 20
	stepLease = time.Minute
	// lookAgain is how long is waited for jobs that others have in hand.
	lookAgain = 200 * time.Millisecond
	joinLooks = 5 // after how many looks it is looked again whether anybody leases from the queue
)

// Carry does what can be done of o now, and returns how many jobs that were. progress may be nil.
func (w Worker) Carry(ctx context.Context, o *Order, progress func(jobs int)) (int, error) {
	n := 0
	for {
		jobs, err := w.Store.Lease(ctx, queue.Query{Filter: o.Search.Filter, Limit: stepJobs, Bytes: stepBytes, For: stepLease, Any: true, Pick: o.pick()})
		if err != nil {
			return n, fmt.Errorf("take jobs of queue %q: %w", o.Search.Queue, err)
		}
		if len(jobs) == 0 {
			return n, nil
		}
		switch err := w.step(ctx, o, jobs); {
		case errors.Is(err, queue.ErrLeaseLost): // another process has taken over: it goes on
			return n, nil
		case err != nil:
			back := w.Store.Release(context.WithoutCancel(ctx), jobs)
			if errors.Is(back, queue.ErrLeaseLost) {
				back = nil // they are given back already
			}
			return n, fmt.Errorf("%s jobs of queue %q: %w", o.Kind, o.Search.Queue, errors.Join(err, back))
		}
		if n += len(jobs); progress != nil {
			progress(n)
		}
	}
}

// step is one transaction.
func (w Worker) step(ctx context.Context, o *Order, jobs []queue.Job) error {
	var remains [][]byte
	if o.Kind == Drop && w.Remains != nil {
		for i := range jobs {
			keys, err := w.Remains(ctx, w.Store, &jobs[i])
			if err != nil {
				return err
			}
			remains = append(remains, keys...)
		}
	}
	return w.Store.Update(ctx, func(tx queue.Tx) error {
		if err := o.settle(tx, jobs, remains, w.Store.Now()); err != nil {
			return err
		}
		return o.count(tx, w.Store, jobs)
	})
}

// Finish carries o out until nothing is left of what it chooses, and deletes it then. Jobs that
// others have in hand are waited for until patience is over: then left is set, and whoever has the
// store open goes on with the order. n counts what this process has done.
func (w Worker) Finish(ctx context.Context, o *Order, patience time.Duration, progress func(jobs int)) (n int, left bool, err error) {
	a, ok := w.Store.(queue.Admin)
	if !ok {
		return 0, false, errors.New("the store cannot list jobs, so nobody would know when the order is carried out")
	}
	var end func()
	defer func() {
		if end != nil {
			end()
		}
	}()
	for since, looks := time.Now(), 0; ; looks++ {
		if end == nil && looks%joinLooks == 0 {
			if end, err = w.join(ctx, o.Search.Queue); err != nil {
				return n, true, err
			}
		}
		done, err := w.Carry(ctx, o, func(jobs int) {
			if progress != nil {
				progress(n + jobs)
			}
		})
		if n += done; err != nil {
			return n, true, err
		}
		if done > 0 {
			since = time.Now()
		}
		left, err := o.Left(ctx, a)
		if err != nil {
			return n, true, err
		}
		if !left {
			return n, false, w.Store.Update(ctx, func(tx queue.Tx) error { return tx.Delete(o.key()) })
		}
		if time.Since(since) >= patience {
			return n, true, nil
		}
		select {
		case <-time.After(lookAgain):
		case <-ctx.Done():
			return n, true, ctx.Err()
		}
	}
}

// join has this process lease from a queue that nobody else does, until end is called. It is nil
// where somebody does, or what the queue holds is not known yet to all.
func (w Worker) join(ctx context.Context, name string) (end func(), err error) {
	sub, can := w.Store.(queue.Subscriber)
	if !can {
		return nil, nil
	}
	unread, err := sub.Unread(ctx)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(unread, func(b queue.Backlog) bool { return b.Queue == name }) {
		return nil, nil
	}
	return sub.Subscribe(name), nil
}

// Continue goes on with the orders that are open, once each, and returns the first error beside
// how many jobs that were. It is for a process that has the store open, now and then.
func (w Worker) Continue(ctx context.Context, told func(o *Order, jobs int, left bool)) (failed error) {
	all, err := Open(ctx, w.Store)
	if err != nil {
		return err
	}
	for _, o := range all {
		n, left, err := w.Finish(ctx, o, 0, nil)
		if err != nil && failed == nil {
			failed = err
		}
		if err == nil && (n > 0 || !left) {
			told(o, n, left)
		}
	}
	return failed
}
