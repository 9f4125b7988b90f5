package postgres

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/partition"
)

// elders is what is known of the oldest jobs of lanes.
type elders struct {
	mu    sync.Mutex
	lanes map[uint64]*elder
}

// elder is the oldest job of a lane: in the log, and among the side rows.
type elder struct {
	lane  *partition.Lane
	first uint64 // the value that at is of
	at    time.Time
	from  int64 // no side row of a value below it is open, nor will be
	side  time.Time
}

// Shared implements queue.Census.
func (s *Store) Shared() bool { return true }

// Lanes implements queue.Census. Of partitions that this process does not follow it knows what
// their keepers checkpoint, every two seconds.
func (s *Store) Lanes(ctx context.Context) ([]queue.LaneState, error) {
	if err := s.ready(); err != nil {
		return nil, err
	}
	s.elders.mu.Lock()
	defer s.elders.mu.Unlock()
	if err := s.watch(ctx); err != nil {
		return nil, fmt.Errorf("count the jobs of all queues: %w", meaning(err))
	}
	var lanes []partition.Lane
	others := []int{}
	for i := range s.owned {
		if o := s.owned[i].Load(); o != nil {
			lanes = append(lanes, o.p.Lanes()...)
		} else {
			others = append(others, i)
		}
	}
	known := map[uint64]*elder{}
	for i := range lanes {
		l := &lanes[i]
		if l.Jobs+l.Retry+l.Parked == 0 {
			continue
		}
		e := s.elders.lanes[l.ID]
		if e == nil {
			e = &elder{}
		}
		e.lane = l
		known[l.ID] = e
	}
	if err := s.findOldest(ctx, known); err != nil {
		return nil, fmt.Errorf("look for the oldest jobs: %w", meaning(err))
	}
	s.elders.lanes = known
	out := make([]queue.LaneState, 0, len(lanes))
	for i := range lanes {
		out = append(out, stateOf(&lanes[i], known[lanes[i].ID].oldest()))
	}
	more, err := s.checkpointed(ctx, others)
	if err != nil {
		return nil, fmt.Errorf("count the jobs of all queues: %w", meaning(err))
	}
	for i := range more {
		out = append(out, stateOf(&more[i], time.Time{}))
	}
	return queue.JoinLanes(out), nil
}

func stateOf(l *partition.Lane, oldest time.Time) queue.LaneState {
	return queue.LaneState{Queue: l.Queue, Scope: l.Scope, Open: l.Jobs + l.Retry + l.Parked, Retrying: l.Retried, Dead: l.Dead, Bytes: l.Bytes, Oldest: oldest}
}

// oldest is when the oldest open job was appended; zero when that is not known.
func (e *elder) oldest() time.Time {
	if e == nil {
		return time.Time{}
	}
	at := e.at
	if e.lane.Jobs == 0 {
		at = time.Time{}
	}
	if e.lane.Retry+e.lane.Parked > 0 && !e.side.IsZero() && (at.IsZero() || e.side.Before(at)) {
		at = e.side
	}
	return at
}

// checkpointed is what is known in the database of the lanes of partitions.
func (s *Store) checkpointed(ctx context.Context, parts []int) (lanes []partition.Lane, err error) {
	if len(parts) == 0 {
		return nil, nil
	}
	rows, err := s.pool.Query(ctx, s.names.sql(`SELECT queue, workspace, source, destination, jobs, retry, parked, retried, dead, bytes
		FROM @schema.lanes WHERE part = ANY($1) AND (jobs > 0 OR retry > 0 OR parked > 0 OR dead > 0)`), parts)
	if err != nil {
		return nil, err
	}
	var qn, w, src, dst []byte
	var l partition.Lane
	_, err = pgx.ForEachRow(rows, []any{&qn, &w, &src, &dst, &l.Jobs, &l.Retry, &l.Parked, &l.Retried, &l.Dead, &l.Bytes}, func() error {
		l.Queue, l.Scope = string(qn), queue.Scope{Workspace: string(w), Source: string(src), Destination: string(dst)}
		lanes = append(lanes, l)
		return nil
	})
	return lanes, err
}

// findOldest finds out when the oldest jobs of lanes were appended, where it has changed: a few
// statements for all of them.
func (s *Store) findOldest(ctx context.Context, lanes map[uint64]*elder) error {
	var ids, firsts []int64
	var sideIDs, sideFrom []int64
	for id, e := range lanes {
		if e.first != e.lane.First {
			e.first, e.at = e.lane.First, time.Time{}
		}
		if e.lane.Jobs > 0 && e.at.IsZero() {
			ids, firsts = append(ids, int64(id)), append(firsts, int64(e.first))
		}
		if e.side = (time.Time{}); e.lane.Retry+e.lane.Parked > 0 {
			sideIDs, sideFrom = append(sideIDs, int64(id)), append(sideFrom, e.from)
		}
	}
	if err := s.oldestValues(ctx, lanes, ids, firsts); err != nil {
		return err
	}
	if len(sideIDs) == 0 {
		return nil
	}
	rows, err := s.pool.Query(ctx, s.names.sql(`SELECT u.lane, f.seq, f.at FROM unnest($1::bigint[], $2::bigint[]) u(lane, seq)
		CROSS JOIN LATERAL (SELECT t.seq, t.at FROM @schema.side t WHERE t.lane = u.lane AND t.seq >= u.seq AND t.state IN (1, 2)
			ORDER BY t.seq, t.idx LIMIT 1) f`), sideIDs, sideFrom)
	if err != nil {
		return err
	}
	var id, seq, at int64
	_, err = pgx.ForEachRow(rows, []any{&id, &seq, &at}, func() error {
		e := lanes[uint64(id)]
		e.side = time.Unix(0, at).UTC()
		// Jobs come out of the log from First on, so that what is below it stays as it is.
		e.from = min(seq, int64(min(e.lane.First, math.MaxInt64)))
		return nil
	})
	return err
}

// oldestValues reads the headers of values, in the segments that may have them.
func (s *Store) oldestValues(ctx context.Context, lanes map[uint64]*elder, ids, firsts []int64) error {
	if len(ids) == 0 {
		return nil
	}
	current := s.history.Load().head.Load().segment
	rows, err := s.pool.Query(ctx, s.names.sql(`SELECT DISTINCT f.segment FROM unnest($1::bigint[], $2::bigint[]) u(lane, seq)
		CROSS JOIN LATERAL (SELECT e.segment FROM @schema.lane_extents e WHERE e.lane = u.lane AND e.last >= u.seq ORDER BY e.last LIMIT 1) f
		WHERE f.segment < $3 ORDER BY 1`), ids, firsts, current-1)
	if err != nil {
		return err
	}
	segments, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return err
	}
	for _, segment := range append(segments, current-1, current) {
		rows, err := s.pool.Query(ctx, s.names.segmentSQL(`SELECT l.lane, substring(l.data FROM 1 FOR 13)
			FROM unnest($1::bigint[], $2::bigint[]) u(lane, seq) JOIN @schema.log_@segment l ON l.lane = u.lane AND l.seq = u.seq`, segment), ids, firsts)
		if err != nil {
			return err
		}
		var id int64
		var header []byte
		if _, err := pgx.ForEachRow(rows, []any{&id, &header}, func() error {
			if len(header) == queue.HeaderSize {
				lanes[uint64(id)].at = queue.AppendedAt(header)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}
