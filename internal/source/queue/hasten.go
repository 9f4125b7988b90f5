package queuesource

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/queue"
)

var _ connector.Hastener = (*Source)(nil)

const (
	hastenJobs  = 500 // of one transaction
	hastenBytes = 4 << 20
)

// Destinations implements connector.Hastener.
func (s *Source) Destinations(ctx context.Context) ([]string, error) {
	values, err := s.store().Active(ctx, s.query.Queue, queue.ByDestination)
	if err != nil {
		return nil, fmt.Errorf("list destinations of queue %q: %w", s.query.Queue, err)
	}
	return values, nil
}

// Hasten implements connector.Hastener. Jobs that were never tried are due already. Those that an
// earlier one withholds follow it.
func (s *Source) Hasten(ctx context.Context, destination string) (n int, err error) {
	seen := map[queue.ID]struct{}{} // those that are due now would be found again
	q := queue.Query{
		Filter: queue.Filter{Queue: s.query.Queue, By: queue.ByDestination, Value: destination},
		Limit:  hastenJobs, Bytes: hastenBytes, For: s.query.For, Any: true,
		Pick: func(id queue.ID, _ time.Time, cause string) bool {
			_, known := seen[id]
			return cause != "" && !known
		},
	}
	for {
		jobs, err := s.store().Lease(ctx, q)
		if err != nil {
			return n, fmt.Errorf("take jobs of queue %q that wait: %w", s.query.Queue, err)
		}
		if len(jobs) == 0 {
			return n, nil
		}
		rs := make([]queue.Result, len(jobs))
		for i := range jobs {
			seen[jobs[i].ID] = struct{}{}
			rs[i] = jobs[i].Again(time.Time{}, jobs[i].Cause)
			rs[i].Uncounted = true
		}
		switch err := s.store().Update(ctx, func(tx queue.Tx) error { return tx.Settle(rs...) }); {
		case errors.Is(err, queue.ErrLeaseLost): // another process goes on with them
		case err != nil:
			back := s.store().Release(context.WithoutCancel(ctx), jobs)
			if errors.Is(back, queue.ErrLeaseLost) {
				back = nil
			}
			return n, fmt.Errorf("give back jobs of queue %q at once: %w", s.query.Queue, errors.Join(err, back))
		default:
			n += len(jobs)
		}
	}
}
