package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/weirdata/weir/internal/queue/partition"
)

// A checkpoint that says more than its log, or other numbers than are in it, was written from
// the memory of another history: by a process of a version that did not notice, say, that a
// standby had been promoted. What it says of what is settled means nothing then. The partition
// is made from its log alone: what is not known to be settled is delivered again.

// trusted compares the checkpoints of partitions with their logs, and replaces in out those that
// do not fit. q must read all of it at one instant.
func (s *Store) trusted(ctx context.Context, q querier, out map[int]*snapshot) error {
	ends, _, err := s.logEnds(ctx, q)
	if err != nil {
		return err
	}
	next, err := s.laneNexts(ctx, q, keysOfSnapshots(out))
	if err != nil {
		return err
	}
	for part, sn := range out {
		why := sn.misfit(ends[part], next)
		if why == "" {
			continue
		}
		made, err := s.remake(ctx, q, part, sn.lanes, next, nil, nil)
		if err != nil {
			return fmt.Errorf("make partition %d from its log: %w", part, err)
		}
		open := int64(0)
		for i := range made.lanes {
			open += made.lanes[i].Jobs
		}
		s.o.Log.Error("the checkpoint of a partition is of another history of the database than its log: the partition is made from the log, and what is not known to be settled is delivered again",
			"partition", part, "why", why, "checkpoint", sn.pos, "log_end", ends[part], "open_jobs_of_the_log", open)
		made.pos, made.written = ends[part], sn.pos
		out[part] = made
	}
	return nil
}

func keysOfSnapshots(of map[int]*snapshot) []int {
	out := make([]int, 0, len(of))
	for part := range of {
		out = append(out, part)
	}
	slices.Sort(out)
	return out
}

// misfit says why a checkpoint, with the log after it, is not of the log; empty when it is.
func (sn *snapshot) misfit(end int64, next map[uint64]uint64) string {
	if sn.pos > end {
		return fmt.Sprintf("it is at %d and the log ends at %d", sn.pos, end)
	}
	tails := map[uint64]uint64{}
	for i := range sn.lanes {
		tails[sn.lanes[i].ID] = sn.lanes[i].Tail
	}
	for i := range sn.log {
		if r := sn.log[i].ref; r != nil {
			tails[r.id]++
		}
	}
	for lane, tail := range tails {
		if n := next[lane]; n != 0 && n != tail {
			return fmt.Sprintf("with it lane %d goes up to %d, and in the log to %d", lane, tail, n)
		}
	}
	return ""
}

// laneNexts is the numbers that the next values of the lanes of partitions get.
func (s *Store) laneNexts(ctx context.Context, q querier, parts []int) (map[uint64]uint64, error) {
	var segment int64
	if err := q.QueryRow(ctx, s.names.sql("SELECT segment FROM @schema.head")).Scan(&segment); err != nil {
		return nil, err
	}
	rows, err := q.Query(ctx, s.names.segmentSQL(`SELECT l.id, greatest(1, (SELECT f.next FROM @schema.lane_floors f WHERE f.lane = l.id),
			(SELECT t.seq + 1 FROM @schema.log_@previous t WHERE t.lane = l.id ORDER BY t.seq DESC LIMIT 1),
			(SELECT t.seq + 1 FROM @schema.log_@segment t WHERE t.lane = l.id ORDER BY t.seq DESC LIMIT 1))
		FROM @schema.lanes l WHERE l.part = ANY($1)`, segment), parts)
	if err != nil {
		return nil, fmt.Errorf("read the ends of lanes: %w", err)
	}
	out := map[uint64]uint64{}
	var lane, next int64
	if _, err := pgx.ForEachRow(rows, []any{&lane, &next}, func() error { out[uint64(lane)] = uint64(next); return nil }); err != nil {
		return nil, fmt.Errorf("read the ends of lanes: %w", err)
	}
	return out, nil
}

// found is a value that is in the log.
type found struct {
	count, size int
	all         bool // every job has left
	gone        []uint64
}

func (v *found) leave(index uint32) {
	if int(index) >= v.count {
		return
	}
	if v.gone == nil {
		v.gone = make([]uint64, (v.count+63)/64)
	}
	v.gone[index>>6] |= 1 << (index & 63)
}

func (v *found) left(i int) bool {
	return v.all || v.gone != nil && v.gone[i>>6]&(1<<(i&63)) != 0
}

func (v *found) open() (n int64) {
	for i := range v.count {
		if !v.left(i) {
			n++
		}
	}
	return n
}

// remake makes the state of a partition from all rows of its log that are there, and from its
// side table, as if some values were not there. A change that cannot be read is an error, or
// what unreadable makes of it.
func (s *Store) remake(ctx context.Context, q querier, part int, lanes []partition.Lane, next map[uint64]uint64, without map[valueKey]bool, unreadable func(error) error) (*snapshot, error) {
	values, lefts, err := s.wholeLog(ctx, q, part, unreadable)
	if err != nil {
		return nil, err
	}
	for k := range without {
		delete(values[k.lane], k.seq)
	}
	for _, c := range lefts {
		for i := range c.Left {
			l := &c.Left[i]
			v := values[l.Lane][l.Seq]
			if v == nil || v.count != l.Count {
				continue // of a value of another history
			}
			v.all = v.all || l.Index == nil
			for _, index := range l.Index {
				v.leave(index)
			}
		}
	}
	sn := &snapshot{rewound: true}
	byID := map[uint64]*partition.Lane{}
	for i := range lanes {
		l := &partition.Lane{ID: lanes[i].ID, Queue: lanes[i].Queue, Scope: lanes[i].Scope}
		byID[l.ID] = l
	}
	if err := s.wholeSide(ctx, q, part, byID, values); err != nil {
		return nil, err
	}
	for i := range lanes {
		l := byID[lanes[i].ID]
		fillLane(l, values[l.ID], next[l.ID])
		sn.lanes = append(sn.lanes, *l)
	}
	return sn, nil
}

// fillLane has a lane hold the values that are in the log; tail is the number of the next one.
func fillLane(l *partition.Lane, values map[uint64]*found, tail uint64) {
	l.Tail = max(tail, 1)
	l.First = l.Tail
	for seq, v := range values {
		if v.open() > 0 {
			l.First = min(l.First, seq)
		}
	}
	for seq := l.First; seq < l.Tail; seq++ {
		v := values[seq]
		if v == nil { // its segment is gone, or it was compacted away: it was settled
			l.Partly = append(l.Partly, partition.Partly{Seq: seq, Count: 1})
			continue
		}
		open := v.open()
		l.Jobs += open
		if open > 0 {
			l.Bytes += int64(v.size)
		}
		switch {
		case open == 0:
			l.Partly = append(l.Partly, partition.Partly{Seq: seq, Count: v.count, Size: v.size})
		case open < int64(v.count):
			l.Partly = append(l.Partly, partition.Partly{Seq: seq, Count: v.count, Size: v.size, Bits: v.gone})
		}
	}
}

// wholeLog reads all rows of a partition's log that are there: values by lane and number, and
// the changes.
func (s *Store) wholeLog(ctx context.Context, q querier, part int, unreadable func(error) error) (values map[uint64]map[uint64]*found, changes []*partition.Change, err error) {
	rows, err := q.Query(ctx, s.names.sql("SELECT id FROM @schema.segments ORDER BY id"))
	if err != nil {
		return nil, nil, fmt.Errorf("find segments of the log: %w", err)
	}
	segments, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, nil, fmt.Errorf("find segments of the log: %w", err)
	}
	values = map[uint64]map[uint64]*found{}
	for _, segment := range segments {
		rows, err := q.Query(ctx, s.names.segmentSQL(`SELECT kind, coalesce(lane, 0), coalesce(seq, 0), count, size, CASE kind WHEN 1 THEN data END
			FROM @schema.log_@segment WHERE part = $1 ORDER BY pos`, segment), part)
		if err != nil {
			return nil, nil, fmt.Errorf("read segment %d of the log: %w", segment, err)
		}
		var r logRow
		var seq int64
		_, err = pgx.ForEachRow(rows, []any{&r.kind, &r.lane, &seq, &r.count, &r.size, &r.data}, func() error {
			if r.kind != kindValue {
				if err := r.decode(); err != nil && unreadable != nil {
					return unreadable(err)
				} else if err != nil {
					return err
				}
				changes = append(changes, r.change)
				return nil
			}
			if values[uint64(r.lane)] == nil {
				values[uint64(r.lane)] = map[uint64]*found{}
			}
			values[uint64(r.lane)][uint64(seq)] = &found{count: r.count, size: r.size}
			return nil
		})
		if err != nil {
			return nil, nil, fmt.Errorf("read segment %d of the log: %w", segment, err)
		}
	}
	return values, changes, nil
}

// wholeSide counts the side rows of lanes; the jobs of them have left the log.
func (s *Store) wholeSide(ctx context.Context, q querier, part int, lanes map[uint64]*partition.Lane, values map[uint64]map[uint64]*found) error {
	rows, err := q.Query(ctx, s.names.sql(`SELECT d.lane, d.seq, d.idx, d.state, d.attempt, d.size
		FROM @schema.lanes l JOIN @schema.side d ON d.lane = l.id WHERE l.part = $1`), part)
	if err != nil {
		return fmt.Errorf("read the side table: %w", err)
	}
	var lane, seq int64
	var idx uint32
	var state int16
	var attempt int
	var size int64
	_, err = pgx.ForEachRow(rows, []any{&lane, &seq, &idx, &state, &attempt, &size}, func() error {
		l := lanes[uint64(lane)]
		switch partition.SideState(state) {
		case partition.Retry:
			l.Retry++
			if attempt > 0 {
				l.Retried++
			}
		case partition.Parked:
			l.Parked++
		default:
			l.Dead++
		}
		l.Bytes += size
		if v := values[uint64(lane)][uint64(seq)]; v != nil {
			v.leave(idx)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the side table: %w", err)
	}
	return nil
}
