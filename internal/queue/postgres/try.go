package postgres

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/queue"
)

// tryPresent runs a read for who does not wait for a database that is away or silent: it ends with
// that as soon as it is found.
func (s *Store) tryPresent(ctx context.Context, read func(context.Context) error) error {
	bounded, cancel := s.link.during(ctx, s.link.present())
	defer cancel()
	ended := s.link.asks()
	defer ended()
	err := s.try(bounded, read)
	if err != nil && bounded.Err() != nil && ctx.Err() == nil {
		return s.gone()
	}
	return err
}

// gone is why what only brings something new is not waited for.
func (s *Store) gone() error { return cmp.Or(s.Away(), s.link.silence(), queue.ErrAway) }

// try runs a read, and again while the database is away, for as long as Patience allows.
func (s *Store) try(ctx context.Context, read func(context.Context) error) error {
	deadline := time.Now().Add(s.tuned().Patience)
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		turn, err := s.link.now(), s.Away()
		if err == nil {
			bounded, cancel := s.link.during(ctx, turn)
			err = read(bounded)
			cancel()
			if err == nil || ctx.Err() != nil || sqlState(err) != "" || errors.Is(err, queue.ErrCorrupt) || fault.Of(meaning(err)) == fault.Setup {
				return err
			}
		}
		if time.Now().Add(pause).After(deadline) {
			return err
		}
		select {
		case <-time.After(pause):
		case <-turn.Done():
		case <-s.closed:
			return queue.ErrClosed
		case <-ctx.Done():
			return err
		}
	}
}
