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

// schemaVersion is the version of the tables that this program reads and writes. It is raised
// whenever a program that knows the version before would read anything in them wrong, whether the
// tables or what is in them has changed:
//
//	1  values and records of version 1
//	2  values and records of version 2: programs of version 1 take the records for others
//
// A schema of version 1 becomes one of version 2 when it is opened, once no program of version 1
// has it open. Such a program refuses version 2, and changes nothing.
const schemaVersion = 2

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
		// This session may have seen that there are no tables: it must not believe that still.
		var there bool
		if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_class WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1) AND relname = 'meta')", s.o.Schema).Scan(&there); err != nil {
			return err
		}
		if !there {
			if err := s.create(ctx, tx); err != nil {
				return err
			}
		}
		version, err := s.fits(ctx, tx)
		if err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", n.schema+".shares").Scan(&there); err != nil {
			return err
		}
		if !there {
			if _, err := tx.Exec(ctx, n.sql(sharesSQL)); err != nil {
				return err
			}
		}
		if version == schemaVersion {
			return nil
		}
		return s.raise(ctx, tx)
	})
	if err != nil {
		return fmt.Errorf("prepare schema %s: %w", n.schema, meaning(err))
	}
	return nil
}

// errFormer says that programs of version 1 have the store open.
var errFormer = errors.New("stop them first: they would read what this release writes as something else")

// former refuses while processes of version 1 have the store open, which do not say what they lease
// from; shared says that the tables have a place for that.
func (s *Store) former(ctx context.Context, q querier, shared bool) error {
	silent := ""
	if shared {
		silent = "queues IS NULL AND "
	}
	rows, err := q.Query(ctx, s.names.sql("SELECT name FROM @schema.processes WHERE "+silent+heardSQL+" ORDER BY name LIMIT 10"))
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(names) == 0 {
		return err
	}
	return fmt.Errorf("processes of an earlier release have it open (%s): %w: %w", strings.Join(names, ", "), errFormer, queue.ErrVersion)
}

// raise brings the tables to schemaVersion.
func (s *Store) raise(ctx context.Context, tx pgx.Tx) error {
	err := s.former(ctx, tx, true)
	if err != nil {
		return err
	}
	if _, err = tx.Exec(ctx, s.names.sql("UPDATE @schema.meta SET version = $1"), schemaVersion); err == nil {
		s.o.Log.Info("the tables of the queue store have become those of this release: earlier ones refuse them from now on", "schema", s.o.Schema, "version", schemaVersion)
	}
	return err
}

// formerLeases is how many leases an opening waits for processes of version 1, one of which may have
// died just now.
const formerLeases = 2

// fits refuses a schema that this program, or these options, cannot work with, and returns its
// version.
func (s *Store) fits(ctx context.Context, q querier) (version int, err error) {
	n := s.names
	var partitions, spread int
	if err := q.QueryRow(ctx, n.sql("SELECT version, partitions, spread FROM @schema.meta")).Scan(&version, &partitions, &spread); err != nil {
		return 0, err
	}
	switch {
	case version > schemaVersion:
		return version, fmt.Errorf("schema %s has version %d, this program knows versions up to %d: run a newer release: %w", n.schema, version, schemaVersion, queue.ErrVersion)
	case version < 1:
		return version, fmt.Errorf("schema %s has version %d, which there never was: %w", n.schema, version, queue.ErrCorrupt)
	case partitions != s.o.Partitions || spread != s.o.Spread:
		return version, fault.New(fault.Setup, fmt.Errorf("schema %s was created with %d partitions and a spread of %d, the configuration says %d and %d: these are fixed, configure the former or another schema",
			n.schema, partitions, spread, s.o.Partitions, s.o.Spread))
	}
	return version, nil
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
	cfg, err := s.settings()
	if err != nil {
		return nil, err
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
	return s.enter(ctx, c, false)
}
