package postgres

import (
	"context"
	"fmt"

	"github.com/weirdata/weir/internal/queue"
)

// readPauses reads what is paused, and has it stay in its queue. Every process does so with each poll,
// so that a pause holds everywhere one poll after it is durable; what a memory is made from while
// the list changes is put right by the next.
func (s *Store) readPauses(ctx context.Context) error {
	s.holding.Lock()
	defer s.holding.Unlock()
	prefix := []byte(queue.PausePrefix)
	rows, err := s.pool.Query(ctx, s.names.sql("SELECT value FROM @schema.records WHERE key >= $1 AND key < $2"), prefix, prefixEnd(prefix))
	if err != nil {
		return fmt.Errorf("read what is paused: %w", err)
	}
	defer rows.Close()
	var all []queue.Pause
	for rows.Next() {
		var value []byte
		if err := rows.Scan(&value); err != nil {
			return fmt.Errorf("read what is paused: %w", err)
		}
		p, err := queue.ParsePause(value)
		if err != nil {
			return err
		}
		all = append(all, p)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read what is paused: %w", err)
	}
	now := queue.NewPauses(all)
	if was := s.pauses.Load(); was.Equal(now) {
		now = was
	}
	s.pauses.Store(now)
	for i := range s.owned {
		if o := s.owned[i].Load(); o != nil {
			o.p.Hold(now)
		}
	}
	return nil
}
