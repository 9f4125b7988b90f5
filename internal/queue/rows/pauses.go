package rows

import (
	"context"
	"fmt"
	"strings"

	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/partition"
)

// pauses reports whether a transaction changes what is paused.
func pauses(t *partition.Transaction) bool {
	for i := range t.Writes {
		if strings.HasPrefix(string(t.Writes[i].Key), queue.PausePrefix) {
			return true
		}
	}
	return false
}

// hold has what is paused stay in its queue: from the start, and from the commit on that says
// so. Of two commits at once the later hold knows of both.
func (s *Store) hold() error {
	s.holding.Lock()
	defer s.holding.Unlock()
	var all []queue.Pause
	v := view{ctx: context.Background(), at: s.db.NewSnapshot()}
	defer func() { _ = v.at.Close() }() // only read
	for r, err := range v.Scan([]byte(queue.PausePrefix), nil) {
		if err != nil {
			return fmt.Errorf("read what is paused: %w", err)
		}
		p, err := queue.ParsePause(r.Value)
		if err != nil {
			return err
		}
		all = append(all, p)
	}
	s.part.Hold(queue.NewPauses(all))
	return nil
}
