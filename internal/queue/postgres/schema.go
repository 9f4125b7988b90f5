package postgres

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/queue"
)

// schemaVersion is the version of the tables that this program reads and writes.
const schemaVersion = 1

//go:embed schema/tables.sql
var tablesSQL string

//go:embed schema/shares.sql
var sharesSQL string

//go:embed schema/log.sql
var logSQL string

//go:embed schema/commit.sql
var commitSQL string

// names writes SQL for one schema.
type names struct {
	schema string // quoted
	space  int32  // first key of the advisory locks
}

func newNames(schema string) names {
	h := fnv.New32a()
	h.Write([]byte("weir queue " + schema))
	return names{schema: pgx.Identifier{schema}.Sanitize(), space: int32(h.Sum32())}
}

// sql fills in @schema and @space.
func (n names) sql(text string) string {
	return strings.NewReplacer("@schema", n.schema, "@space", strconv.Itoa(int(n.space))).Replace(text)
}

// segmentSQL fills in @schema, @space, @segment and @previous.
func (n names) segmentSQL(text string, segment int64) string {
	text = strings.NewReplacer("@segment", strconv.FormatInt(segment, 10), "@previous", strconv.FormatInt(segment-1, 10)).Replace(text)
	return n.sql(text)
}

// The advisory locks of a schema, as second keys: 0 is held shared by every commit and
// alone by the change of segment; 1+p belongs to partition p; -1-s to a stripe of
// records; the following to one process at a time.
const (
	lockMigrate  = -1 << 20
	lockMaintain = -1<<20 + 1
)

// migrate makes the schema, or brings it to schemaVersion, and checks that the options
// fit it. Processes that start together wait for each other.
func (s *Store) migrate(ctx context.Context, c *pgx.Conn) error {
	n := s.names
	err := pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1, $2)", n.space, lockMigrate); err != nil {
			return err
		}
		var there bool
		if err := tx.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", n.schema+".meta").Scan(&there); err != nil {
			return err
		}
		if !there {
			if err := s.create(ctx, tx); err != nil {
				return err
			}
		}
		if err := s.fits(ctx, tx); err != nil {
			return err
		}
		// A program that does not know them may have made the schema, and works beside them.
		if err := tx.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", n.schema+".shares").Scan(&there); err != nil || there {
			return err
		}
		_, err := tx.Exec(ctx, n.sql(sharesSQL))
		return err
	})
	if err != nil {
		return fmt.Errorf("prepare schema %s: %w", n.schema, meaning(err))
	}
	return nil
}

// fits refuses a schema that this program, or these options, cannot work with.
func (s *Store) fits(ctx context.Context, q querier) error {
	n := s.names
	var version, partitions, spread int
	if err := q.QueryRow(ctx, n.sql("SELECT version, partitions, spread FROM @schema.meta")).Scan(&version, &partitions, &spread); err != nil {
		return err
	}
	switch {
	case version > schemaVersion:
		return fmt.Errorf("schema %s has version %d, this program knows versions up to %d: run a newer release: %w", n.schema, version, schemaVersion, queue.ErrVersion)
	case version < schemaVersion:
		return fmt.Errorf("schema %s has version %d, which this program cannot bring to version %d: %w", n.schema, version, schemaVersion, queue.ErrVersion)
	case partitions != s.o.Partitions || spread != s.o.Spread:
		return fault.New(fault.Setup, fmt.Errorf("schema %s was created with %d partitions and a spread of %d, the configuration says %d and %d: these are fixed, configure the former or another schema",
			n.schema, partitions, spread, s.o.Partitions, s.o.Spread))
	}
	return nil
}

func (s *Store) create(ctx context.Context, tx pgx.Tx) error {
	n := s.names
	script := []string{
		"CREATE SCHEMA IF NOT EXISTS " + n.schema,
		n.sql(tablesSQL),
		n.segmentSQL(logSQL, 0),
		n.segmentSQL(logSQL, 1),
		n.segmentSQL(commitSQL, 1),
	}
	for _, text := range script {
		if _, err := tx.Exec(ctx, text); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(ctx, n.sql("INSERT INTO @schema.parts (id) SELECT generate_series(0, $1 - 1)"), s.o.Partitions); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, n.sql("INSERT INTO @schema.meta (version, partitions, spread) VALUES ($1, $2, $3)"), schemaVersion, s.o.Partitions, s.o.Spread)
	return err
}

// connectTimeout bounds one try to connect.
const connectTimeout = 5 * time.Second

// connect opens a connection of this store and sets it up.
func (s *Store) connect(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := s.bounded(ctx, connectTimeout)
	defer cancel()
	c, err := s.plain(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.prepare(ctx, c); err != nil {
		return nil, errors.Join(err, c.Close(ctx))
	}
	return c, nil
}

// plain opens a connection as the server gives it.
func (s *Store) plain(ctx context.Context) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(s.o.DSN)
	if err != nil {
		return nil, dsnError(err)
	}
	ctx, cancel := s.bounded(ctx, connectTimeout)
	defer cancel()
	c, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to PostgreSQL: %w", meaning(err))
	}
	return c, nil
}

// first opens the first connection of this store, whose session is its own, and sets it up.
func (s *Store) first(ctx context.Context) (*pgx.Conn, error) {
	c, err := s.plain(ctx)
	if err != nil {
		return nil, err
	}
	err = s.unshared(ctx, c) // before anything is set: it might be in the session of somebody else
	if err == nil {
		err = s.prepare(ctx, c)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close(ctx))
	}
	return c, nil
}

// sessionName is what the sessions of a process are called on the server, so that another
// process can end those of one that is gone.
func (s *Store) sessionName(process int64) string {
	return fmt.Sprintf("weir/%s/%x", s.o.Schema, uint64(process))
}

// prepare sets what every session needs, whatever the defaults of server and role are:
// durable commits; an end to statements, and to transactions whose client is gone; plans
// that use the indexes of tables without statistics.
func (s *Store) prepare(ctx context.Context, c *pgx.Conn) error {
	set := fmt.Sprintf(`SELECT set_config(name, value, false) FROM (VALUES
		('application_name', '%s'), ('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END), ('default_transaction_isolation', 'read committed'),
		('default_transaction_read_only', 'off'), ('statement_timeout', '%dms'), ('lock_timeout', '10s'),
		('idle_in_transaction_session_timeout', '10s'), ('client_min_messages', 'warning'),
		('tcp_keepalives_idle', '5'), ('tcp_keepalives_interval', '2'), ('tcp_keepalives_count', '3'),
		('enable_seqscan', 'off'), ('enable_bitmapscan', 'off'), ('enable_hashjoin', 'off'), ('enable_mergejoin', 'off'), ('jit', 'off')
		) AS v(name, value)`, s.sessionName(s.process), s.o.Timeout.Milliseconds())
	if _, err := c.Exec(ctx, set); err != nil {
		return fmt.Errorf("set up a session: %w", meaning(err))
	}
	return nil
}
