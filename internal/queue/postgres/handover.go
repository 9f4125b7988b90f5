package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weirdata/weir/internal/queue"
)

// handOn gives up a partition but for the queues to keep: nothing of it is leased any more,
// and when what is leased is settled, or has had half a minute, it is free. What is kept is
// read anew then.
func (s *Store) handOn(o *owned, keep []string) {
	if o.leaving.Swap(true) {
		return
	}
	s.tasks.Go(func() {
		deadline := time.Now().Add(30 * time.Second)
		for o.leased() > 0 && time.Now().Before(deadline) && !o.gone.Load() {
			select {
			case <-time.After(20 * time.Millisecond):
			case <-s.closed:
				return // Close hands everything on
			}
		}
		ctx, cancel := context.WithTimeout(s.live, max(s.o.Lease, s.tuned().Patience))
		defer cancel()
		if err := s.release(ctx, []*owned{o}, map[int][]string{o.part: keep}); err != nil {
			s.o.Log.Warn("a partition could not be handed on; it will be tried again", "partition", o.part, "error", err)
		}
		s.look()
	})
}

// leased is how many jobs of the partition are leased.
func (o *owned) leased() int64 {
	var n int64
	seen := map[string]bool{}
	for _, l := range o.p.Lanes() {
		if !seen[l.Queue] {
			seen[l.Queue] = true
			n += o.p.Stats(queue.Filter{Queue: l.Queue}).Leased
		}
	}
	return n
}

// release gives partitions up but for the queues to keep, after a checkpoint.
func (s *Store) release(ctx context.Context, list []*owned, keep map[int][]string) error {
	var errs []error
	if err := s.checkpoint(ctx, list); err != nil && !errors.Is(err, errFenced) { // what is another's need not be written down
		errs = append(errs, err)
	}
	for _, o := range list {
		s.disown(o)
	}
	return errors.Join(append(errs, s.yield(ctx, keep))...)
}

// yield changes the table of shares: of these partitions this process keeps these queues
// only. It has no memory of them any more.
func (s *Store) yield(ctx context.Context, keep map[int][]string) error {
	given := false
	err := s.reassign(ctx, keysOf(keep), false, func(v *cluster, p *partState) (partState, bool) {
		mine := p.of(s.process)
		if len(mine) == 0 && p.keeper != s.process || !contains(mine, keep[p.id]) {
			return *p, false
		}
		given = true
		return v.yield(p, s.process, keep[p.id]), true
	})
	if err != nil {
		return fmt.Errorf("hand on %d partitions: %w", len(keep), meaning(err))
	}
	if given {
		s.tell(ctx, messageFree)
	}
	return nil
}

// leave hands everything on and signs off.
func (s *Store) leave(ctx context.Context) error {
	var list []*owned
	all := map[int][]string{} // also what was being taken over when the store closed
	for i := range s.owned {
		all[i] = nil
		if o := s.owned[i].Load(); o != nil {
			list = append(list, o)
		}
	}
	if s.announced.Load() == nil {
		for _, o := range list {
			s.disown(o)
		}
		return nil
	}
	s.moves.gave(len(list))
	if err := s.release(ctx, list, all); err != nil {
		return err
	}
	if _, err := s.pool.Exec(ctx, s.names.sql("DELETE FROM @schema.processes WHERE id = $1"), s.process); err != nil {
		return fmt.Errorf("sign off: %w", err)
	}
	return nil
}
