package file

import (
	"context"
	"errors"
	"slices"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
)

// track makes the ack of what was read from t just now.
func (s *Source) track(ctx context.Context, t *tail) (connector.Ack, error) {
	if s.saved == nil {
		return nil, nil
	}
	s.mu.Lock()
	s.reads++
	n := s.reads
	s.pending = append(s.pending, reached{read: n, position: t.where()})
	s.mu.Unlock()
	settle, err := s.commits.Track(ctx, n)
	if err != nil {
		s.broken = err // these lines are delivered by nobody: no later position may be committed
		return nil, err
	}
	return func(ctx context.Context, o event.Outcomes) error {
		if o.Err() == nil {
			return settle(ctx)
		}
		return nil // its position is never committed: the next run reads it again
	}, nil
}

// commit makes the positions durable that reads up to the given one have reached.
func (s *Source) commit(_ context.Context, read uint64) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return errors.New("save position file: the source is closed")
	}
	n := 0
	for n < len(s.pending) && s.pending[n].read <= read {
		if p := s.pending[n]; p.last {
			s.saved.forget(p.fileID)
		} else {
			s.saved.set(p.position)
		}
		n++
	}
	s.pending = slices.Delete(s.pending, 0, n)
	s.mu.Unlock()
	return s.saved.save()
}
