package postgres

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/queue"
)

// SQLSTATE codes of our own functions, and of the server.
const (
	codeMoved    = "WR001" // the log goes on in another segment or ring
	codeLost     = "WR002" // a partition has another owner
	codeConflict = "WR003" // a record has changed
	codeSide     = "WR004" // a side row is not what it was

	codeDeadlock      = "40P01"
	codeSerialization = "40001"
	codeLockTimeout   = "55P03"
	codeUndefinedTab  = "42P01"
	codeUndefinedFunc = "42883"
	codeRestored      = "22012" // division by zero: the tables of the store are others
	codeDiskFull      = "53100"
	codeForbidden     = "42501"

	codeTooManyConnections = "53300"
)

// sqlState is the SQLSTATE of an error that the server reported for one statement, after
// which the connection goes on and the transaction is certainly undone. It is empty for
// everything else: then the connection is lost, and with it what is known of a commit.
func sqlState(err error) string {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return ""
	}
	severity := pg.SeverityUnlocalized
	if severity == "" {
		severity = pg.Severity
	}
	if severity != "ERROR" {
		return ""
	}
	return pg.Code
}

// meaning gives an error of the database its meaning for delivery.
func meaning(err error) error {
	if err == nil {
		return nil
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch {
		case pg.Code == codeDiskFull:
			return fmt.Errorf("%w: the disk of the database is full: %w", queue.ErrFull, err)
		case strings.HasPrefix(pg.Code, "28"), pg.Code == "3D000", pg.Code == codeForbidden, pg.Code == "3F000":
			// Credentials, database, privileges, schema.
			return fault.New(fault.Setup, err)
		}
	}
	return err
}
