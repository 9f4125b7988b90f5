package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/weirdata/weir/internal/fault"
)

// A connection may lead to a pooler. One that gives each transaction another session of the server
// cannot be worked with: what the store sets for its sessions, durable commits among it, would hold
// for others and not for it; notifications would reach nobody; and the lock of the one who looks
// after the segments would be kept by a session that nobody has. One that keeps a session for a
// connection is as good as none.

// errPooled says so.
var errPooled = fault.New(fault.Setup, errors.New("a pooler gives each transaction another session of the server, and the store needs sessions of its own: for durable commits whatever the defaults of the server are, for notifications, and for locks; "+
	"connect to PostgreSQL directly, or set pool_mode = session for this database"))

const (
	// poolerLooks is how often two connections are compared.
	poolerLooks = 3
	// codeProtocol is what a pooler of statements says to a transaction.
	codeProtocol = "08P01"
	// poolerTime is how long that may take: a pooler may have no session left.
	poolerTime = 10 * time.Second
)

// unshared makes sure that the session behind a connection is its own. A server tells the number of
// its process when a connection begins; a pooler tells another. Whether it shares sessions, a second
// connection finds out, which gets the session that the first one had, or pushes it out of that.
func (s *Store) unshared(ctx context.Context, c *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, poolerTime)
	defer cancel()
	is, err := session(ctx, c)
	if err != nil || is == c.PgConn().PID() {
		return err
	}
	other, err := s.plain(ctx)
	if err != nil {
		return fmt.Errorf("a pooler is between, and gives no second connection: %w", err)
	}
	for range poolerLooks {
		if err = compare(ctx, c, other); err != nil {
			break
		}
	}
	bounded, end := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer end()
	_ = other.Close(bounded) // it has done nothing
	if err != nil {
		return fmt.Errorf("look at the pooler between: %w", err)
	}
	return nil
}

// compare refuses two connections that share sessions.
func compare(ctx context.Context, c, other *pgx.Conn) error {
	before, err := session(ctx, c)
	if err != nil {
		return err
	}
	if _, err := other.Exec(ctx, "BEGIN READ ONLY"); err != nil {
		if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == codeProtocol {
			err = fmt.Errorf("%w: %w", errPooled, err) // it gives each statement another session
		}
		return err
	}
	second, err := session(ctx, other)
	after := before
	if err == nil && second != before {
		after, err = session(ctx, c)
	}
	if _, rerr := other.Exec(ctx, "ROLLBACK"); err == nil {
		err = rerr
	}
	if err == nil && (second == before || after != before) {
		return errPooled
	}
	return err
}

// session is the number of the server's process that a connection leads to.
func session(ctx context.Context, c *pgx.Conn) (uint32, error) {
	var pid int64
	if err := c.QueryRow(ctx, "SELECT pg_backend_pid()", pgx.QueryExecModeSimpleProtocol).Scan(&pid); err != nil {
		return 0, fmt.Errorf("ask PostgreSQL for a session: %w", meaning(err))
	}
	return uint32(pid), nil
}
