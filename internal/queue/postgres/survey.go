package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/queue"
)

// Survey finds, in place of Open, what would keep a process from working, and the queues that have
// open jobs and that no process leases from. It writes nothing: of a schema that is not there it
// only asks whether it could be made.
func (s *Store) Survey(ctx context.Context) ([]queue.Backlog, error) {
	c, err := s.first(ctx)
	if err != nil {
		return nil, err
	}
	var found []queue.Backlog
	if err = ask(ctx, c); err == nil {
		err = pgx.BeginTxFunc(ctx, c, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
			found, err = s.survey(ctx, tx)
			return err
		})
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err = errors.Join(err, c.Close(bounded)); err != nil {
		return nil, fmt.Errorf("look at schema %s: %w", s.names.schema, meaning(err))
	}
	return found, nil
}

func (s *Store) survey(ctx context.Context, q querier) ([]queue.Backlog, error) {
	n := s.names
	var made, shared, may bool
	err := q.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL, to_regclass($2) IS NOT NULL,
		coalesce(has_schema_privilege(to_regnamespace($3)::oid, 'CREATE'), has_database_privilege(current_database(), 'CREATE'))`,
		n.schema+".meta", n.schema+".shares", n.schema).Scan(&made, &shared, &may)
	switch {
	case err != nil:
		return nil, err
	case !may && made:
		return nil, fault.New(fault.Setup, fmt.Errorf("the role may not make tables in schema %s, where the log goes on in a new one from time to time: grant it CREATE on the schema", n.schema))
	case !may:
		return nil, fault.New(fault.Setup, fmt.Errorf("the role may not make schema %s: grant it CREATE on the database", n.schema))
	}
	if err := s.seats(ctx, q); err != nil {
		return nil, err
	}
	var length int
	if err := q.QueryRow(ctx, "SELECT length($1::text)", s.o.Name).Scan(&length); err != nil {
		return nil, fmt.Errorf("the database cannot hold the name of this process, %q: %w", s.o.Name, err)
	}
	if !made {
		return nil, nil
	}
	version, err := s.fits(ctx, q)
	if err == nil && version < schemaVersion {
		err = s.former(ctx, q, shared)
	}
	if err == nil {
		err = s.owns(ctx, q)
	}
	if err != nil || !shared || version < schemaVersion {
		return nil, err // no process has said yet what it leases from; and to look raises no version
	}
	return s.backlogs(ctx, q)
}

// seats refuses a server that could never give a process its connections.
func (s *Store) seats(ctx context.Context, q querier) error {
	var server, role, database int
	err := q.QueryRow(ctx, `SELECT CASE WHEN r.rolsuper THEN current_setting('max_connections')::int ELSE current_setting('max_connections')::int
				- current_setting('superuser_reserved_connections')::int - coalesce(current_setting('reserved_connections', true)::int, 0) END,
			CASE WHEN r.rolsuper THEN -1 ELSE r.rolconnlimit END, CASE WHEN r.rolsuper THEN -1 ELSE d.datconnlimit END
		FROM pg_roles r, pg_database d WHERE r.rolname = current_user AND d.datname = current_database()`).Scan(&server, &role, &database)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for the limits of connections: %w", err)
	}
	need := s.o.Committers + s.o.Readers + 1
	for _, limit := range []struct {
		of   string
		most int
	}{{"the server", server}, {"the role", role}, {"the database", database}} {
		if limit.most >= 0 && limit.most < need {
			return fault.New(fault.Setup, fmt.Errorf("a process may need %d connections (max_committers + max_readers + 1), and %s has no more than %d: raise that, or lower these", need, limit.of, limit.most))
		}
	}
	return nil
}

// owns refuses a role that may not do with the tables what a process does with them: it makes new
// ones like them and drops those of which nothing is needed.
func (s *Store) owns(ctx context.Context, q querier) error {
	var table, owner string
	err := q.QueryRow(ctx, `SELECT relname::text, pg_get_userbyid(relowner)::text FROM pg_class
		WHERE relnamespace = to_regnamespace($1) AND relkind = 'r' AND NOT pg_has_role(relowner, 'USAGE') ORDER BY relname LIMIT 1`, s.names.schema).Scan(&table, &owner)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("look for the owner of the tables: %w", err)
	}
	return fault.New(fault.Setup, fmt.Errorf("table %s in schema %s belongs to role %q: a process drops tables of the log, so connect as that role, or grant it to the one of the DSN", table, s.names.schema, owner))
}

// backlogs is what Unread says, read over one connection and as of one instant.
func (s *Store) backlogs(ctx context.Context, q querier) ([]queue.Backlog, error) {
	v, err := s.readCluster(ctx, q, "")
	if err != nil {
		return nil, fmt.Errorf("look at the processes that share the queue: %w", err)
	}
	read, known := v.read()
	if !known {
		return nil, nil
	}
	open := map[string]int64{}
	kept, epochs := []int{}, map[int]int64{}
	for i := range v.parts {
		if p := &v.parts[i]; v.kept(p) {
			kept = append(kept, p.id)
		} else {
			epochs[p.id] = p.epoch
		}
	}
	rows, err := q.Query(ctx, s.names.sql("SELECT queue, sum(jobs + retry + parked)::bigint FROM @schema.lanes WHERE part = ANY($1) GROUP BY queue"), kept)
	if err != nil {
		return nil, err
	}
	var name []byte
	var n int64
	if _, err := pgx.ForEachRow(rows, []any{&name, &n}, func() error { open[string(name)] += n; return nil }); err != nil {
		return nil, err
	}
	if err := s.countUnkept(ctx, q, epochs, open); err != nil {
		return nil, err
	}
	var found []queue.Backlog
	for name, n := range open {
		if n > 0 && !slices.ContainsFunc(read, func(r []byte) bool { return string(r) == name }) {
			found = append(found, queue.Backlog{Queue: name, Open: n})
		}
	}
	slices.SortFunc(found, func(a, b queue.Backlog) int { return cmp.Compare(a.Queue, b.Queue) })
	return found, nil
}

// countUnkept adds the open jobs of partitions that nobody keeps, of which no checkpoint says what
// has come since, to those of their queues.
func (s *Store) countUnkept(ctx context.Context, q querier, epochs map[int]int64, open map[string]int64) error {
	h := s.history.Load()
	for part, epoch := range epochs { // one at a time: only one is in memory
		sn, err := s.snapshot(ctx, h, q, []int{part})
		if err != nil {
			return fmt.Errorf("read partition %d: %w", part, err)
		}
		if sn[part] == nil {
			return fmt.Errorf("partition %d is not in the table of partitions: %w", part, queue.ErrCorrupt)
		}
		o, err := s.restore(h, part, epoch, sn[part])
		if err != nil {
			return err
		}
		counted := map[string]bool{}
		for _, l := range o.p.Lanes() {
			if !counted[l.Queue] {
				counted[l.Queue] = true
				st := o.p.Stats(queue.Filter{Queue: l.Queue})
				open[l.Queue] += st.Open()
			}
		}
	}
	return nil
}
