package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A lane that nobody works on, because its destination is down, keeps every segment that
// holds a value of it, with what is settled of other lanes. Compaction copies what is
// open of an old, sparse segment into the one before it, or into a smaller table of the
// same number. Values keep their lane and seq, so owners do not notice; and because only
// neighbours are merged, the segments of a lane stay in the order of its values.

// candidate is a closed segment, from the oldest on.
type candidate struct {
	id    int64
	size  int64
	below bool // all of its rows are below a checkpoint
}

func (s *Store) compactSegments(ctx context.Context, c *pgxpool.Conn) error {
	rows, err := c.Query(ctx, s.names.sql(`SELECT g.id, coalesce(pg_total_relation_size(to_regclass($1 || '.log_' || g.id)), 0),
			NOT EXISTS (SELECT 1 FROM @schema.part_extents e JOIN @schema.parts p ON p.id = e.part WHERE e.segment = g.id AND p.pos < e.last)
		FROM @schema.segments g, @schema.head h WHERE g.closed AND g.id < h.segment - $2 ORDER BY g.id`), s.names.schema, compactBehind)
	if err != nil {
		return fmt.Errorf("look for sparse segments: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (candidate, error) {
		var k candidate
		err := r.Scan(&k.id, &k.size, &k.below)
		return k, err
	})
	if err != nil {
		return fmt.Errorf("look for sparse segments: %w", err)
	}
	done := 0
	var before *candidate
	checked := map[int64]time.Time{}
	for i := range list {
		k := &list[i]
		last := s.compacted[k.id]
		checked[k.id] = last
		if !k.below || done == compactAtOnce || time.Since(last) < compactAgain {
			before = k
			continue
		}
		checked[k.id] = time.Now()
		merged, err := s.compact(ctx, c, k, before)
		if later(err) {
			err = nil // somebody reads it: another time
		}
		if err != nil {
			return fmt.Errorf("compact segment %d: %w", k.id, err)
		}
		if merged {
			done++
			continue // before stays the neighbour of the next
		}
		before = k
	}
	s.compacted = checked
	return nil
}

// liveSQL chooses the values of a segment that are not settled.
const liveSQL = `FROM @schema.lane_extents e JOIN @schema.lanes l ON l.id = e.lane AND l.first <= e.last
	CROSS JOIN LATERAL (SELECT t.* FROM @schema.log_@segment t WHERE t.lane = e.lane AND t.seq >= l.first) t WHERE e.segment = @segment`

// compact makes a segment smaller when half of it or more is settled. It reports whether
// the segment is gone.
func (s *Store) compact(ctx context.Context, c *pgxpool.Conn, k, before *candidate) (merged bool, err error) {
	var live int64
	if err := c.QueryRow(ctx, s.names.segmentSQL("SELECT coalesce(sum(t.size + 100), 0)::bigint "+liveSQL, k.id)).Scan(&live); err != nil {
		return false, err
	}
	if live == 0 || live > k.size/2 || k.size < 256<<10 && (before == nil || before.size+live > s.tuned().SegmentBytes) {
		return false, nil
	}
	merged = before != nil && before.size+live <= s.tuned().SegmentBytes
	err = s.remove(ctx, c, 100*time.Millisecond, func(tx pgx.Tx) error {
		if merged {
			return s.mergeSegment(ctx, tx, k.id, before.id)
		}
		return s.rewriteSegment(ctx, tx, k.id)
	})
	if err != nil {
		return false, err
	}
	if merged {
		before.size += live
	} else {
		k.size = live
	}
	s.o.Log.Debug("a sparse segment of the log was compacted", "segment", k.id, "bytes", live, "merged", merged)
	return merged, nil
}

// mergeSegment moves what is open of a segment to the one before it.
func (s *Store) mergeSegment(ctx context.Context, tx pgx.Tx, segment, to int64) error {
	script := []string{
		// A lane that both hold has its last value in what comes second.
		fmt.Sprintf(`DELETE FROM @schema.lane_extents d USING @schema.lane_extents e, @schema.lanes l
			WHERE d.segment = %d AND e.segment = @segment AND e.lane = d.lane AND l.id = e.lane AND l.first <= e.last`, to),
		fmt.Sprintf("INSERT INTO @schema.log_%d SELECT t.* ", to) + liveSQL,
		fmt.Sprintf(`UPDATE @schema.lane_extents e SET segment = %d FROM @schema.lanes l
			WHERE e.segment = @segment AND l.id = e.lane AND l.first <= e.last`, to),
		"DELETE FROM @schema.lane_extents WHERE segment = @segment",
		"DELETE FROM @schema.part_extents WHERE segment = @segment",
		"DROP TABLE @schema.log_@segment",
		"DELETE FROM @schema.segments WHERE id = @segment",
	}
	return s.runScript(ctx, tx, segment, script)
}

// rewriteSegment makes a new table of what is open of a segment.
func (s *Store) rewriteSegment(ctx context.Context, tx pgx.Tx, segment int64) error {
	script := []string{
		"ALTER TABLE @schema.log_@segment RENAME TO old_@segment",
		"ALTER INDEX @schema.log_@segment_lane RENAME TO old_@segment_lane",
		"ALTER INDEX @schema.log_@segment_pkey RENAME TO old_@segment_pkey",
		logSQL,
		"INSERT INTO @schema.log_@segment SELECT t.* FROM @schema.lane_extents e JOIN @schema.lanes l ON l.id = e.lane AND l.first <= e.last " +
			"CROSS JOIN LATERAL (SELECT t.* FROM @schema.old_@segment t WHERE t.lane = e.lane AND t.seq >= l.first) t WHERE e.segment = @segment",
		"DELETE FROM @schema.lane_extents e USING @schema.lanes l WHERE e.segment = @segment AND l.id = e.lane AND l.first > e.last",
		"DELETE FROM @schema.part_extents WHERE segment = @segment",
		"DROP TABLE @schema.old_@segment",
	}
	return s.runScript(ctx, tx, segment, script)
}

func (s *Store) runScript(ctx context.Context, tx pgx.Tx, segment int64, script []string) error {
	if err := s.dropFunction(ctx, tx, segment); err != nil {
		return err
	}
	for _, text := range script {
		if _, err := tx.Exec(ctx, s.names.segmentSQL(text, segment)); err != nil {
			return err
		}
	}
	return nil
}

// truncateSide gives the space of the side table back when no job is in it: after a time
// of many retries it is mostly dead rows.
func (s *Store) truncateSide(ctx context.Context, c *pgxpool.Conn) error {
	var empty bool
	err := c.QueryRow(ctx, s.names.sql(`SELECT pg_total_relation_size('@schema.side'::regclass) > $1
		AND NOT EXISTS (SELECT 1 FROM @schema.lanes WHERE retry + parked + dead > 0)`), sideBytes).Scan(&empty)
	if err != nil || !empty {
		return err
	}
	err = s.remove(ctx, c, 100*time.Millisecond, func(tx pgx.Tx) error {
		// The lanes are as of the last checkpoint; this is as of now.
		for _, text := range []string{"SET LOCAL statement_timeout = '1s'", "LOCK TABLE @schema.side IN ACCESS EXCLUSIVE MODE"} {
			if _, err := tx.Exec(ctx, s.names.sql(text)); err != nil {
				return err
			}
		}
		if err := tx.QueryRow(ctx, s.names.sql("SELECT NOT EXISTS (SELECT 1 FROM @schema.side)")).Scan(&empty); err != nil || !empty {
			return err
		}
		_, err := tx.Exec(ctx, s.names.sql("TRUNCATE @schema.side"))
		return err
	})
	if err != nil && (later(err) || sqlState(err) != "") {
		s.o.Log.Debug("the empty side table could not be truncated; it will be tried again", "error", err)
		return nil
	}
	return err
}
