package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/weirdata/weir/internal/fault"
)

// OpenWithin is Open for a database that may be away for a while when a process starts: it waits
// for that up to a limit, and calls waits with the reason of each try that failed. What will not
// pass, such as a password that is refused, is no reason to wait.
func (s *Store) OpenWithin(ctx context.Context, limit time.Duration, waits func(why error)) error {
	deadline := time.Now().Add(limit)
	for {
		err := s.there(ctx)
		if err == nil {
			return s.Open(ctx)
		}
		if !passes(err) || ctx.Err() != nil {
			return fmt.Errorf("open queue store: %w", err)
		}
		if time.Now().Add(dialEvery).After(deadline) {
			if limit > 0 {
				err = fmt.Errorf("waited for %s: %w", limit, err)
			}
			return fmt.Errorf("open queue store: %w", err)
		}
		waits(err)
		restFor(ctx, s.link.now(), dialEvery)
	}
}

// there reports whether a server is there that takes writes; nil when it is.
func (s *Store) there(ctx context.Context) error {
	c, err := s.plain(ctx)
	if err != nil {
		return err
	}
	bounded, cancel := s.bounded(ctx, connectTimeout)
	defer cancel()
	return errors.Join(ask(bounded, c), c.Close(ctx))
}

// Codes with which a server refuses connections for a while.
const (
	codeStarting     = "57P03"
	codeShutdown     = "57P01"
	codeCrashing     = "57P02"
	codeNoConnection = "08"
)

// passes reports whether what kept a connection from being made may pass by itself.
func passes(err error) bool {
	if fault.Of(err) == fault.Setup || errors.Is(err, errDSN) {
		return false
	}
	pg, refused := errors.AsType[*pgconn.PgError](err)
	if !refused {
		return true
	}
	switch pg.Code {
	case codeStarting, codeShutdown, codeCrashing, codeTooManyConnections:
		return true
	}
	return len(pg.Code) == 5 && pg.Code[:2] == codeNoConnection
}
