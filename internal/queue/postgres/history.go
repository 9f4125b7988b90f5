package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirdata/weir/internal/queue"
)

// A database can become another one under a running process: a standby that lagged behind is
// promoted, or a backup is restored. Its log then ends earlier than was seen, and goes on
// differently, under positions, epochs, lanes and versions of records that were used before.
//
// So everything that a process remembers of the database is of one history, and so is every
// session: what a session reads is remembered in its own history, or an earlier one, and never
// in a later one; what is committed in a session was made from what is remembered of its
// history. When a session finds that the database has another history, all that was remembered
// is forgotten before that session is used.

// identity tells one history of the database from another.
type identity struct {
	system   int64 // system identifier of the cluster
	timeline int64 // every promotion, and every recovery to a point in time, begins another
	database uint32
	meta     uint32 // where the table meta is stored: it is another after a restore in place; 0 when it is not there
}

// history is what is remembered of the database.
type history struct {
	id      identity
	started time.Time // when the server was started that it was last compared with
	lanes   *directory
	recent  *recent
	head    atomic.Pointer[head]
	acked   *acked
	ends    []atomic.Int64 // by partition: the last position of its log that is known
	over    context.Context
	end     context.CancelFunc
}

func newHistory(o *Options, id identity, started time.Time) *history {
	h := &history{id: id, started: started, lanes: newDirectory(), recent: newRecent(o.CacheBytes), acked: &acked{}, ends: make([]atomic.Int64, o.Partitions)}
	h.over, h.end = context.WithCancel(context.Background())
	return h
}

// segment is the one that is written.
func (h *history) segment() int64 { return h.head.Load().segment }

// reached notes that the log of a partition goes up to pos.
func (h *history) reached(part int, pos int64) {
	for end := &h.ends[part]; ; {
		if old := end.Load(); old >= pos || end.CompareAndSwap(old, pos) {
			return
		}
	}
}

var (
	// errPast ends what was made from a history that is over.
	errPast = errors.New("the database has another history by now")
	// errStandby is for a server that is still a standby.
	errStandby = errors.New("the server is a standby that was not promoted: connect to the primary")
	errAbsent  = errors.New("the tables of the store are not all there: they are being restored, or this is another database; it will be tried again")
)

const sessionHistory = "weir history" // key in the custom data of a session

// of is the history that a session belongs to; nil for none.
func of(c *pgx.Conn) *history {
	h, _ := c.PgConn().CustomData()[sessionHistory].(*history)
	return h
}

// current reports whether a session of the pool may be used.
func (s *Store) current(_ context.Context, c *pgx.Conn) (bool, error) {
	return of(c) == s.history.Load(), nil
}

// identify asks a session what history its database has.
func (s *Store) identify(ctx context.Context, c querier) (identity, time.Time, error) {
	var id identity
	var started time.Time
	var standby bool
	ask := func(server string) error {
		return c.QueryRow(ctx, `SELECT pg_is_in_recovery(), `+server+`,
			(SELECT oid FROM pg_database WHERE datname = current_database()), coalesce(pg_relation_filenode(to_regclass($1)), 0), pg_postmaster_start_time()`,
			s.names.schema+".meta").Scan(&standby, &id.system, &id.timeline, &id.database, &id.meta, &started)
	}
	err := ask(`(SELECT system_identifier FROM pg_control_system()),
		CASE WHEN NOT pg_is_in_recovery() THEN ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint ELSE 0 END`)
	if sqlState(err) == codeForbidden {
		s.blind.Do(func() {
			s.o.Log.Warn("the role may not ask which timeline the server is on: a failover is noticed only when the log ends earlier than was seen; grant it EXECUTE on pg_control_system, pg_walfile_name and pg_current_wal_lsn", "error", err)
		})
		err = ask("0::bigint, 0::bigint")
	}
	if err == nil && standby {
		err = errStandby
	}
	if err != nil {
		return id, started, fmt.Errorf("ask which history the database has: %w", meaning(err))
	}
	return id, started, nil
}

// enter has a session belong to the history that its database has. When that is another than
// what is remembered, all of that is forgotten first. With whole, it is also made sure that
// the logs do not end earlier than was seen.
func (s *Store) enter(ctx context.Context, c *pgx.Conn, whole bool) error {
	id, started, err := s.identify(ctx, c)
	if err != nil {
		return err
	}
	s.entering.Lock()
	defer s.entering.Unlock()
	h := s.history.Load()
	switch {
	case h.id.meta == 0: // before the tables were seen
		if h.id != id {
			next, err := s.readHistory(ctx, c, id, started)
			if err != nil {
				return err
			}
			h = s.begins(next)
		}
	case id.meta == 0:
		return fmt.Errorf("schema %s: %w", s.names.schema, errAbsent)
	case id.system == h.id.system && id.database == h.id.database && id.timeline < h.id.timeline:
		return fmt.Errorf("the server is on timeline %d, and the database went on in timeline %d: it was the primary once, or an old backup: stop it, or if it is meant, restart this process", id.timeline, h.id.timeline)
	case id != h.id || whole || !started.Equal(h.started):
		if h, err = s.compareHistory(ctx, c, h, id, started); err != nil {
			return err
		}
	}
	c.PgConn().CustomData()[sessionHistory] = h
	return nil
}

// compareHistory compares what is remembered with a database that may have another history,
// and begins a new one when it has. It is called with entering.
func (s *Store) compareHistory(ctx context.Context, c *pgx.Conn, h *history, id identity, started time.Time) (*history, error) {
	if id != h.id {
		if err := s.restored(ctx, c); err != nil {
			return nil, err
		}
	}
	if id == h.id {
		loss, err := s.losses(ctx, c, h, ackedGlance)
		if err != nil {
			return nil, err
		}
		if loss.none() {
			h.started = started
			return h, nil
		}
	}
	loss, err := s.losses(ctx, c, h, ackedAtMost)
	if err != nil {
		return nil, err
	}
	next, err := s.readHistory(ctx, c, id, started)
	if err != nil {
		return nil, err
	}
	s.begins(next)
	args := append([]any{"why", h.id.why(id)}, loss.bounds()...)
	if loss.none() {
		s.o.Log.Warn("the database has become another one: all that was remembered of it is read again; nothing that this process knows of is missing", args...)
	} else {
		s.o.Log.Error("the database has become another one and has lost what was accepted: what was settled in it is delivered again, what was appended is gone; send it again where you can", args...)
	}
	return next, nil
}

// why says what a history differs in from the one that came before.
func (id identity) why(next identity) string {
	switch {
	case id.system != next.system || id.database != next.database:
		return "another server or database is at the address of the store"
	case id.timeline != next.timeline:
		return fmt.Sprintf("timeline %d follows %d: a standby was promoted, or a backup recovered", next.timeline, id.timeline)
	case id.meta != next.meta:
		return "the tables of the store were made anew, as by a restore"
	}
	return "the log ends earlier than was seen"
}

// restored makes sure that the tables are whole. A restore that is not one transaction makes
// the indexes last.
func (s *Store) restored(ctx context.Context, c *pgx.Conn) error {
	var missing int
	err := c.QueryRow(ctx, `SELECT count(*) FILTER (WHERE to_regclass($1 || '.' || name) IS NULL) FROM unnest($2::text[]) name`, s.names.schema, []string{
		"meta_pkey", "head_pkey", "segments_pkey", "lane_extents_pkey", "part_extents_pkey", "lane_floors_pkey", "part_floors_pkey", "lanes_pkey", "processes_pkey",
		"parts_pkey", "side_pkey", "records_pkey", "commits_0_pkey", "commits_1_pkey", "commits_2_pkey",
		"lane_extents_segment", "part_extents_segment", "lanes_part", "side_due", "side_head", "side_dead",
	}).Scan(&missing)
	if err != nil {
		return fmt.Errorf("look for the tables of the store: %w", meaning(err))
	}
	if missing > 0 {
		return fmt.Errorf("schema %s: %w", s.names.schema, errAbsent)
	}
	return s.migrate(ctx, c) // a backup may be of an earlier release
}

// readHistory reads what is to be known of a history from its beginning on.
func (s *Store) readHistory(ctx context.Context, c querier, id identity, started time.Time) (*history, error) {
	h := newHistory(&s.o, id, started)
	if id.meta == 0 {
		return h, nil
	}
	return h, s.readHeadFrom(ctx, h, c)
}

// begins forgets all that is remembered, and begins a history.
func (s *Store) begins(next *history) *history {
	s.publishing.Lock()
	old := s.history.Swap(next)
	for i := range s.owned {
		if o := s.owned[i].Load(); o != nil {
			s.disown(o)
		}
	}
	s.publishing.Unlock()
	old.end()
	s.until.Store(0)
	s.leases.forget()
	if s.pool != nil {
		s.pool.Reset()
	}
	s.look()
	return next
}

// publish has this process use its memory of a partition, unless its history is over.
func (s *Store) publish(o *owned) bool {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	if s.history.Load() != o.h {
		o.gone.Store(true)
		return false
	}
	s.owned[o.part].Store(o)
	o.p.Start()
	return true
}

// recheck looks whether the database has still the history that is remembered: over a session
// that is there, as a restore in place breaks none.
func (s *Store) recheck(ctx context.Context) error {
	c, err := s.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("look at the history of the database: %w", meaning(err))
	}
	defer c.Release()
	return s.enter(ctx, c.Conn(), true)
}

// probe looks whether a new session would find another history: a primary that was cut off
// and not stopped breaks no session either.
func (s *Store) probe(ctx context.Context) error {
	c, err := s.connect(ctx)
	if err != nil {
		return err
	}
	return c.Close(ctx)
}

// logEnds is how far the logs of partitions go.
func (s *Store) logEnds(ctx context.Context, q querier) (ends map[int]int64, ring int64, err error) {
	var segment int64
	if err := q.QueryRow(ctx, s.names.sql("SELECT segment, ring FROM @schema.head")).Scan(&segment, &ring); err != nil {
		return nil, 0, fmt.Errorf("read where the log is written: %w", meaning(err))
	}
	rows, err := q.Query(ctx, s.names.segmentSQL(`SELECT p.id, greatest(0, (SELECT f.last FROM @schema.part_floors f WHERE f.part = p.id),
			(SELECT t.pos FROM @schema.log_@previous t WHERE t.part = p.id ORDER BY t.pos DESC LIMIT 1),
			(SELECT t.pos FROM @schema.log_@segment t WHERE t.part = p.id ORDER BY t.pos DESC LIMIT 1)) FROM @schema.parts p`, segment))
	if err != nil {
		return nil, 0, fmt.Errorf("read where the log ends: %w", meaning(err))
	}
	ends = map[int]int64{}
	var part int
	var last int64
	if _, err := pgx.ForEachRow(rows, []any{&part, &last}, func() error { ends[part] = last; return nil }); err != nil {
		return nil, 0, fmt.Errorf("read where the log ends: %w", meaning(err))
	}
	if len(ends) != s.o.Partitions {
		return nil, 0, fmt.Errorf("the table of partitions has %d rows, not %d: %w", len(ends), s.o.Partitions, queue.ErrCorrupt)
	}
	return ends, ring, nil
}

// losses is what this process knows to have been committed and a database does not have.
func (s *Store) losses(ctx context.Context, q querier, h *history, atMost int) (loss, error) {
	// What is known is taken before the database is asked: it may have more by then.
	known := make([]int64, len(h.ends))
	for i := range h.ends {
		known[i] = h.ends[i].Load()
	}
	commits := h.acked.list(atMost)
	ends, ring, err := s.logEnds(ctx, q)
	if err != nil {
		return loss{}, err
	}
	var out loss
	for part, last := range known {
		if end := ends[part]; end < last {
			out.logs = append(out.logs, fmt.Sprintf("%d: %d to %d", part, end+1, last))
			out.rows += last - end
		}
	}
	if len(commits) == 0 {
		return out, nil
	}
	first := slices.MinFunc(commits, func(a, b ack) int { return cmp.Compare(a.n, b.n) })
	there, err := s.committed(ctx, q, first.n)
	if err != nil {
		return loss{}, err
	}
	for _, k := range commits {
		if k.ring >= ring-1 && !there[k.n] { // what is older may be forgotten
			out.add(k)
		}
	}
	return out, nil
}

// committed is the commits of this process from a number on that the database has.
func (s *Store) committed(ctx context.Context, q querier, from int64) (map[int64]bool, error) {
	rows, err := q.Query(ctx, s.names.sql(`SELECT n FROM @schema.commits_0 WHERE process = $1 AND n >= $2 AND NOT undone
		UNION ALL SELECT n FROM @schema.commits_1 WHERE process = $1 AND n >= $2 AND NOT undone
		UNION ALL SELECT n FROM @schema.commits_2 WHERE process = $1 AND n >= $2 AND NOT undone`), s.process, from)
	if err != nil {
		return nil, fmt.Errorf("look for the last commits: %w", meaning(err))
	}
	there := map[int64]bool{}
	var n int64
	if _, err := pgx.ForEachRow(rows, []any{&n}, func() error { there[n] = true; return nil }); err != nil {
		return nil, fmt.Errorf("look for the last commits: %w", meaning(err))
	}
	return there, nil
}

// loss is what a database has lost of what this process knows.
type loss struct {
	commits, jobs int64
	from, to      time.Time // when the commits were acknowledged
	rows          int64
	logs          []string // the positions of each partition
}

func (l *loss) none() bool { return l.commits == 0 && l.rows == 0 }

func (l *loss) add(k ack) {
	l.commits++
	l.jobs += int64(k.jobs)
	at := time.Unix(0, k.at).UTC()
	if l.from.IsZero() || at.Before(l.from) {
		l.from = at
	}
	if at.After(l.to) {
		l.to = at
	}
}

// bounds is the loss for a log.
func (l *loss) bounds() []any {
	if l.none() {
		return nil
	}
	out := []any{"log_rows", l.rows, "commits_of_this_process", l.commits, "jobs_of_this_process", l.jobs}
	if l.commits > 0 {
		out = append(out, "accepted_from", l.from.Format(time.RFC3339Nano), "accepted_to", l.to.Format(time.RFC3339Nano))
	}
	if len(l.logs) > 0 {
		slices.Sort(l.logs)
		out = append(out, "log_positions_by_partition", strings.Join(l.logs, ", "))
	}
	return out
}
