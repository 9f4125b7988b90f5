package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/weirdata/weir/internal/queue"
)

const (
	maintainEvery = time.Second
	measureEvery  = 2 * time.Second
	measureSeldom = 15 * time.Second
	// ringAge is the least time between two turns of the ring of tables of commits: the
	// outcome of a commit can be told for twice as long.
	ringAge = 10 * time.Minute
	// processAge is after how long a process that is not heard of is forgotten.
	processAge = "1 hour"
	// dropsAtOnce bounds the segments dropped in one round.
	dropsAtOnce = 16
	// compactBehind is how many segments behind the current one compaction begins: what
	// is younger is likely to be settled soon.
	compactBehind = 4
	// compactAgain is how often one segment is looked at for compaction.
	compactAgain = time.Minute
	// compactAtOnce bounds the segments compacted in one round.
	compactAtOnce = 4
	// listedAtMost is how long removals wait for a session that has listed the tables. A dump locks
	// what it has listed within seconds; a transaction that somebody forgot may be open for days.
	listedAtMost = 5 * time.Minute
	// sideBytes is the size from which on an empty side table is truncated.
	sideBytes = 64 << 20
)

// maintenance starts new segments, drops those that are settled, and measures the store.
// One process at a time does it, the others would take over.
func (s *Store) maintenance(ctx context.Context) {
	tick := time.NewTicker(maintainEvery)
	defer tick.Stop()
	measured := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if s.Away() != nil {
			continue
		}
		bounded, cancel := s.bounded(ctx, s.o.Timeout)
		if err := s.maintain(bounded); err != nil && ctx.Err() == nil && s.Away() == nil {
			s.o.Log.Warn("the segments of the log could not be looked after; it will be tried again", "error", err)
		}
		if time.Since(measured) >= s.measureEvery() {
			measured = time.Now()
			if err := s.measure(bounded); err != nil && ctx.Err() == nil {
				s.o.Log.Warn("the size of the queue store could not be measured", "error", err)
			}
		}
		cancel()
	}
}

// measureEvery is how often the size is looked at: seldom where nothing depends on it.
func (s *Store) measureEvery() time.Duration {
	if s.tuned().MaxBytes == 0 {
		return measureSeldom
	}
	return measureEvery
}

func (s *Store) maintain(ctx context.Context) error {
	return s.pool.AcquireFunc(ctx, func(c *pgxpool.Conn) error {
		var mine bool
		if err := c.QueryRow(ctx, "SELECT pg_try_advisory_lock($1, $2)", s.names.space, lockMaintain).Scan(&mine); err != nil || !mine {
			return err
		}
		defer func() {
			if _, err := c.Exec(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1, $2)", s.names.space, lockMaintain); err != nil {
				_ = c.Conn().Close(context.WithoutCancel(ctx)) // the lock ends with the session
			}
		}()
		return errors.Join(s.closeSegment(ctx, c), s.turnSegment(ctx, c), s.dropSegments(ctx, c), s.compactSegments(ctx, c), s.truncateSide(ctx, c), s.turnRing(ctx, c), s.forgetProcesses(ctx, c))
	})
}

// change runs statements in one transaction that waits for no lock longer than d.
func (s *Store) change(ctx context.Context, c *pgxpool.Conn, d time.Duration, fn func(tx pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, fmt.Sprintf("SET LOCAL lock_timeout = '%dms'", d.Milliseconds())); err != nil {
			return err
		}
		return fn(tx)
	})
}

// errListed says that somebody may have listed the tables and not locked them yet.
var errListed = errors.New("somebody is about to read the tables")

// remove runs statements after which a table is gone, or is another one of the same name. A dump
// lists the tables in a snapshot, locks them by their names, and reads them in that snapshot: a
// table that goes between the first two fails it, and of one that was made anew it finds nothing,
// in silence. So nothing is removed while another session may be in between, which is seen by its
// lock on the catalog, and looked for last, since the statements may take long. Between that look and
// the commit somebody may begin: who must not meet that holds off removals altogether, by a lock on
// the table "meta" that conflicts with the one that each of them has.
func (s *Store) remove(ctx context.Context, c *pgxpool.Conn, d time.Duration, fn func(tx pgx.Tx) error) error {
	return s.change(ctx, c, d, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, s.names.sql("LOCK TABLE @schema.meta IN ROW EXCLUSIVE MODE")); err != nil {
			return err
		}
		if err := s.listed(ctx, tx); err != nil {
			return err
		}
		if err := fn(tx); err != nil {
			return err
		}
		return s.listed(ctx, tx)
	})
}

// listed is errListed when another session has read in its transaction which tables there are,
// and removals have not waited for that for listedAtMost.
func (s *Store) listed(ctx context.Context, tx pgx.Tx) error {
	var there bool
	err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'relation' AND relation = 'pg_catalog.pg_class'::regclass
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND granted AND pid <> pg_backend_pid())`).Scan(&there)
	switch {
	case err != nil:
		return err
	case !there:
		s.putOffSince = time.Time{}
		return nil
	case s.putOffSince.IsZero():
		s.putOffSince = time.Now()
	}
	if time.Since(s.putOffSince) >= listedAtMost {
		return nil
	}
	return errListed
}

// later reports whether an error of [Store.remove] means another time.
func later(err error) bool { return errors.Is(err, errListed) || sqlState(err) == codeLockTimeout }

// closeSegment notes what the last segment but one holds: nothing is appended to it any
// more. From then on its tables need not be asked for the ends of lanes and partitions.
func (s *Store) closeSegment(ctx context.Context, c *pgxpool.Conn) error {
	err := s.change(ctx, c, time.Second, func(tx pgx.Tx) error {
		var segment int64
		err := tx.QueryRow(ctx, s.names.sql(`SELECT g.id FROM @schema.segments g JOIN @schema.head h ON g.id = h.segment - 1 WHERE NOT g.closed`)).Scan(&segment)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, text := range []string{
			`INSERT INTO @schema.lane_extents (lane, last, segment) SELECT lane, max(seq), @segment FROM @schema.log_@segment WHERE lane IS NOT NULL GROUP BY lane`,
			`INSERT INTO @schema.part_extents (part, last, segment) SELECT part, max(pos), @segment FROM @schema.log_@segment GROUP BY part`,
			`INSERT INTO @schema.lane_floors AS f (lane, next) SELECT lane, last + 1 FROM @schema.lane_extents WHERE segment = @segment
				ON CONFLICT (lane) DO UPDATE SET next = greatest(f.next, excluded.next)`,
			`INSERT INTO @schema.part_floors AS f (part, last) SELECT part, last FROM @schema.part_extents WHERE segment = @segment
				ON CONFLICT (part) DO UPDATE SET last = greatest(f.last, excluded.last)`,
			`UPDATE @schema.segments SET closed = true WHERE id = @segment`,
		} {
			if _, err := tx.Exec(ctx, s.names.segmentSQL(text, segment)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("close a segment: %w", err)
	}
	return nil
}

// settledSQL says that every value of the segment g is settled, and every row of it below
// a checkpoint.
const settledSQL = `g.closed
	AND NOT EXISTS (SELECT 1 FROM @schema.lane_extents e JOIN @schema.lanes l ON l.id = e.lane WHERE e.segment = g.id AND l.first <= e.last)
	AND NOT EXISTS (SELECT 1 FROM @schema.part_extents e JOIN @schema.parts p ON p.id = e.part WHERE e.segment = g.id AND p.pos < e.last)`

// turnSegment starts a new segment when the current one is large or old enough, and when
// the one before it is large and settled, which it keeps from being dropped: a full store
// gets no new jobs that would fill the current one.
func (s *Store) turnSegment(ctx context.Context, c *pgxpool.Conn) error {
	var segment int64
	var due bool
	err := c.QueryRow(ctx, s.names.sql("SELECT h.segment, (SELECT closed FROM @schema.segments WHERE id = h.segment - 1) FROM @schema.head h")).Scan(&segment, &due)
	if err != nil || !due {
		return err // not before what comes before the current one is closed
	}
	err = c.QueryRow(ctx, s.names.segmentSQL(`SELECT pg_total_relation_size('@schema.log_@segment'::regclass) >= $1
			OR opened < clock_timestamp() - $2::interval AND EXISTS (SELECT 1 FROM @schema.log_@segment LIMIT 1)
			OR pg_total_relation_size('@schema.log_@previous'::regclass) >= $1 AND (SELECT `+settledSQL+` FROM @schema.segments g WHERE g.id = @previous)
		FROM @schema.segments WHERE id = @segment`, segment), s.tuned().SegmentBytes, s.tuned().SegmentAge).Scan(&due)
	if err != nil || !due {
		return err
	}
	err = s.change(ctx, c, 2*time.Second, func(tx pgx.Tx) error {
		next := segment + 1
		for _, text := range []string{logSQL, commitSQL, "INSERT INTO @schema.segments (id) VALUES (@segment)"} {
			if _, err := tx.Exec(ctx, s.names.segmentSQL(text, next)); err != nil {
				return err
			}
		}
		// Every commit to the current segment has ended when this is granted.
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1, 0)", s.names.space); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, s.names.sql("UPDATE @schema.head SET segment = $1"), next)
		return err
	})
	if err != nil {
		return fmt.Errorf("start segment %d: %w", segment+1, err)
	}
	return s.readHeadFrom(ctx, of(c.Conn()), c)
}

// dropSegments drops closed segments of which every value is settled and every row is
// below a checkpoint. A dump or a backup that reads them only puts it off.
func (s *Store) dropSegments(ctx context.Context, c *pgxpool.Conn) error {
	rows, err := c.Query(ctx, s.names.sql(`SELECT g.id FROM @schema.segments g, @schema.head h WHERE g.id < h.segment - 1 AND `+settledSQL+`
		ORDER BY g.id LIMIT $1`), dropsAtOnce)
	if err != nil {
		return fmt.Errorf("look for settled segments: %w", err)
	}
	segments, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return fmt.Errorf("look for settled segments: %w", err)
	}
	for _, segment := range segments {
		err := s.remove(ctx, c, 100*time.Millisecond, func(tx pgx.Tx) error {
			if err := s.dropFunction(ctx, tx, segment); err != nil {
				return err
			}
			for _, text := range []string{
				"DROP TABLE @schema.log_@segment",
				"DELETE FROM @schema.lane_extents WHERE segment = @segment",
				"DELETE FROM @schema.part_extents WHERE segment = @segment",
				"DELETE FROM @schema.segments WHERE id = @segment",
			} {
				if _, err := tx.Exec(ctx, s.names.segmentSQL(text, segment)); err != nil {
					return err
				}
			}
			return nil
		})
		if later(err) {
			s.o.Log.Debug("a settled segment is still being read by somebody; it is dropped later", "segment", segment)
			continue
		}
		if err != nil {
			return fmt.Errorf("drop segment %d: %w", segment, err)
		}
	}
	return nil
}

// dropFunction drops the commit function of a segment, if it is there.
func (s *Store) dropFunction(ctx context.Context, tx pgx.Tx, segment int64) error {
	var function string
	err := tx.QueryRow(ctx, "SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.pronamespace = to_regnamespace($1) AND p.proname = $2",
		s.names.schema, fmt.Sprintf("commit_%d", segment)).Scan(&function)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "DROP FUNCTION "+function)
	return err
}

// turnRing empties the oldest table of commits and makes it the one that is written.
func (s *Store) turnRing(ctx context.Context, c *pgxpool.Conn) error {
	var ring int64
	var due bool
	if err := c.QueryRow(ctx, s.names.sql("SELECT ring, turned < clock_timestamp() - $1::interval FROM @schema.head"), ringAge).Scan(&ring, &due); err != nil || !due {
		return err
	}
	err := s.change(ctx, c, time.Second, func(tx pgx.Tx) error {
		for _, text := range []string{
			"SELECT pg_advisory_xact_lock(@space, 0)",
			fmt.Sprintf("TRUNCATE @schema.commits_%d", (ring+1)%3),
			"UPDATE @schema.head SET ring = ring + 1, turned = clock_timestamp()",
		} {
			if _, err := tx.Exec(ctx, s.names.sql(text)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil && sqlState(err) != codeLockTimeout {
		return fmt.Errorf("turn the ring of commits: %w", err)
	}
	return nil
}

func (s *Store) forgetProcesses(ctx context.Context, c *pgxpool.Conn) error {
	_, err := c.Exec(ctx, s.names.sql(`DELETE FROM @schema.processes p WHERE heartbeat < clock_timestamp() - $1::interval
		AND NOT EXISTS (SELECT 1 FROM @schema.parts t WHERE t.owner = p.id)
		AND NOT EXISTS (SELECT 1 FROM @schema.shares h JOIN @schema.parts t ON t.id = h.part AND t.epoch = h.epoch WHERE h.process = p.id)`), processAge)
	if err != nil {
		return fmt.Errorf("forget processes that are gone: %w", err)
	}
	return nil
}

// Full implements queue.Filling. Where the database is silent, its answer is that too.
func (s *Store) Full() error {
	if err := s.link.silence(); err != nil {
		return err
	}
	return s.overLimit()
}

// overLimit is that the store has reached its limit; nil when it has not.
func (s *Store) overLimit() error {
	if s.full.Load() {
		return fmt.Errorf("update: it has reached its limit of %d bytes: %w", s.tuned().MaxBytes, queue.ErrFull)
	}
	return nil
}

// measure compares the size of the store's tables with the limit.
func (s *Store) measure(ctx context.Context) error {
	size, err := s.size(ctx)
	if err != nil {
		return err
	}
	s.figures.bytes.Store(size)
	s.judge()
	return nil
}

// judge compares the size that was measured last with the limit.
func (s *Store) judge() {
	s.judging.Lock() // who looked with the limit of before never has the last word
	defer s.judging.Unlock()
	size, limit := s.figures.bytes.Load(), s.tuned().MaxBytes
	if full := limit > 0 && size >= limit; full != s.full.Swap(full) {
		if full {
			s.o.Log.Warn("the queue store is full: new jobs are refused until it is emptied", "bytes", size, "limit", limit)
		} else {
			s.o.Log.Info("the queue store takes new jobs again", "bytes", size, "limit", limit)
		}
	}
}

// size is the size of the store's tables.
func (s *Store) size(ctx context.Context) (int64, error) {
	var size int64
	err := s.pool.QueryRow(ctx, `SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class
		WHERE relnamespace = to_regnamespace($1) AND relkind = 'r'`, s.names.schema).Scan(&size)
	if err != nil {
		return 0, fmt.Errorf("measure the queue store: %w", meaning(err))
	}
	return size, nil
}
