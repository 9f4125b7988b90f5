package rows

import (
	"context"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/partition"
)

// adminPage is how many dead jobs are requeued or dropped in one commit, at most, and
// adminBytes how many bytes of them.
const (
	adminPage  = 1000
	adminBytes = 16 << 20
)

// lanesOf are the lanes that a filter chooses, in order of ID.
func (s *Store) lanesOf(f queue.Filter) []partition.Lane {
	return slices.DeleteFunc(s.part.Lanes(), func(l partition.Lane) bool {
		if f.Queue != "" && f.Queue != l.Queue {
			return true
		}
		return f.By != "" && f.By != queue.None && f.By.Of(l.Scope) != f.Value
	})
}

// List implements queue.Admin.
func (s *Store) List(ctx context.Context, q queue.Search, after queue.ID, limit int) (queue.Page, error) {
	if err := s.enter(); err != nil {
		return queue.Page{}, err
	}
	defer s.leave()
	list := partition.Lister{Search: q, After: after, Limit: limit, Until: s.part.Until}
	for _, l := range s.lanesOf(q.Filter) {
		if l.ID < after.Lane {
			continue
		}
		now, _ := s.part.StateOf(l.ID)
		prefix := byte(rowSide)
		if q.State == queue.Buried {
			prefix = rowDead
		}
		if err := list.Lane(ctx, now, partition.Reader{
			Values: func(ctx context.Context, seq uint64) ([]partition.Value, error) {
				return s.stored(ctx, l.ID, seq, 1<<20)
			},
			Sides: func(_ context.Context, from, to queue.ID) ([]partition.Side, error) {
				return s.sidePage(prefix, from, to)
			},
		}); err != nil {
			return queue.Page{}, fmt.Errorf("list jobs of queue %q: %w", l.Queue, err)
		}
		if list.Full {
			break
		}
	}
	return list.Page, nil
}

// eachSide calls fn for the side rows of a lane that an index holds, from an ID on and in
// order of ID.
func (s *Store) eachSide(prefix byte, from queue.ID, fn func(partition.Side) (bool, error)) error {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: idRow(prefix, from), UpperBound: rowEnd(row(prefix, from.Lane))})
	if err != nil {
		return stateError("read", err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		r, err := s.side(parseID(from.Lane, it.Key()), true)
		if err != nil {
			return err
		}
		if r.State == partition.Gone || prefix == rowDead && r.State != partition.Dead {
			continue
		}
		if more, err := fn(r); err != nil || !more {
			return err
		}
	}
	if err := it.Error(); err != nil {
		return stateError("read", err)
	}
	return nil
}

// sidePage returns side rows of a lane that an index holds, from an ID on to another and in
// order of ID; none when there are no more.
func (s *Store) sidePage(prefix byte, from, to queue.ID) (rows []partition.Side, err error) {
	size := 0
	err = s.eachSide(prefix, from, func(r partition.Side) (bool, error) {
		if to.Before(r.ID) {
			return false, nil
		}
		rows = append(rows, r)
		size += len(r.Record)
		return len(rows) < adminPage && size < adminBytes, nil
	})
	return rows, err
}

// Requeue implements queue.Admin.
func (s *Store) Requeue(ctx context.Context, q queue.Search) (int, error) {
	return s.dead(ctx, q, "requeue", (*partition.Lane).Requeue)
}

// Drop implements queue.Admin.
func (s *Store) Drop(ctx context.Context, q queue.Search) (int, error) {
	return s.dead(ctx, q, "drop", func(*partition.Lane, []partition.Side, *partition.Tx) error { return nil })
}

// dead removes the dead jobs that q chooses, after fn has done with them what it wants.
func (s *Store) dead(ctx context.Context, q queue.Search, what string, fn func(*partition.Lane, []partition.Side, *partition.Tx) error) (int, error) {
	if q.State != queue.Buried {
		return 0, fmt.Errorf("%s jobs: only dead jobs can be chosen", what)
	}
	if err := s.enter(); err != nil {
		return 0, err
	}
	defer s.leave()
	s.admin.Lock()
	defer s.admin.Unlock()
	total := 0
	for _, l := range s.lanesOf(q.Filter) {
		from, last, there := partition.Span(&q, l.ID)
		for there && ctx.Err() == nil {
			rows, err := s.sidePage(rowDead, from, last)
			if err == nil && len(rows) == 0 {
				break
			}
			var chosen []partition.Side
			if err == nil {
				chosen, err = l.Choose(&q, rows)
			}
			if err == nil && len(chosen) > 0 {
				err = s.discard(&l, chosen, fn)
			}
			if err != nil {
				return total, fmt.Errorf("%s dead jobs of queue %q: %w", what, l.Queue, err)
			}
			total += len(chosen)
			from = partition.After(rows[len(rows)-1].ID)
		}
	}
	return total, ctx.Err()
}

func (s *Store) discard(l *partition.Lane, rows []partition.Side, fn func(*partition.Lane, []partition.Side, *partition.Tx) error) error {
	since := s.applied.Load()
	tx := partition.NewTx(s.opt.Now(), s.records, nil)
	if err := fn(l, rows, tx); err != nil {
		return err
	}
	t := tx.Finish()
	defer t.Release()
	return s.commitTx(t, s.part.Discard(rows), since)
}
