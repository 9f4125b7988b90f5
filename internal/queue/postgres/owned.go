package postgres

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/partition"
)

// owned is a partition of which this process leases from some queues, or which it keeps, or
// only looks at: the memory of all of it, and how far it has followed the partition's log.
type owned struct {
	s     *Store
	h     *history // that it is of
	part  int
	epoch atomic.Int64 // under which all of holds is known to be this process's
	p     *partition.Partition

	holds   atomic.Pointer[[]string] // queues that are leased from, sorted: while o lives they only become more
	keeper  atomic.Bool              // this process writes its checkpoints
	alone   atomic.Bool              // no other process has a part of it, as far as is known
	gone    atomic.Bool              // another process has what was held, or will
	leaving atomic.Bool              // nothing is leased any more: some of it is about to be handed on

	tail     sync.Mutex // held while the log is read
	mu       sync.Mutex
	seen     int64 // the last position of the log that p knows
	saved    int64 // the position of the last checkpoint
	written  int64 // the position of the checkpoint that the database has
	rewound  bool  // which is past the end of the log: the next one goes back
	dirty    map[uint64]struct{}
	expected map[changeKey]*partition.Change
}

// queues are those that this process leases from.
func (o *owned) queues() []string {
	if q := o.holds.Load(); q != nil {
		return *q
	}
	return nil
}

// leases reports whether jobs of a queue may be leased.
func (o *owned) leases(q string) bool {
	_, held := slices.BinarySearch(o.queues(), q)
	return held && !o.leaving.Load()
}

// entry is one row of the log, as an owner follows it.
type entry struct {
	pos         int64
	ref         *laneRef // of a value; nil for a change
	seq         uint64
	count, size int
	key         changeKey
	change      *partition.Change
}

// expect says that the change with this key may appear in the log: its results are those
// of jobs that p has leased.
func (o *owned) expect(key changeKey, c *partition.Change) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.expected[key] = c
}

func (o *owned) unexpect(key changeKey) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.expected, key)
}

// settle ends a committed change that p has not seen in its log: an empty one, or one of
// a partition that has another owner by now.
func (o *owned) settle(ch *ownedChange) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, open := o.expected[ch.key]; !open && !ch.c.Empty() {
		return
	}
	delete(o.expected, ch.key)
	o.p.End(ch.c, true)
}

// committed follows a commit of this process, whose rows come after base. When others
// have appended before it, their rows are read first, and these with them.
func (o *owned) committed(ctx context.Context, base int64, entries []entry) {
	o.mu.Lock()
	if o.gone.Load() {
		o.mu.Unlock()
		return
	}
	if o.seen == base {
		err := o.follow(entries)
		o.mu.Unlock()
		if err != nil {
			o.s.broken(o, err)
		}
		return
	}
	o.mu.Unlock()
	o.catchUp(ctx)
}

// follow applies rows of the log, in order; those that were applied before are skipped.
// It is called with mu.
func (o *owned) follow(entries []entry) error {
	for i := range entries {
		e := &entries[i]
		if e.pos <= o.seen {
			continue
		}
		if e.pos != o.seen+1 {
			return fmt.Errorf("follow the log of partition %d: row %d comes after %d: %w", o.part, e.pos, o.seen, queue.ErrCorrupt)
		}
		if err := o.apply(e); err != nil {
			return fmt.Errorf("follow the log of partition %d: row %d: %w", o.part, e.pos, err)
		}
		o.seen = e.pos
		o.h.reached(o.part, e.pos)
	}
	return nil
}

func (o *owned) apply(e *entry) error {
	if e.ref != nil {
		o.dirty[e.ref.id] = struct{}{}
		return o.p.Appended(e.ref.lane(), e.seq, e.count, e.size)
	}
	for i := range e.change.Left {
		o.dirty[e.change.Left[i].Lane] = struct{}{}
	}
	for i := range e.change.Side {
		o.dirty[e.change.Side[i].ID.Lane] = struct{}{}
	}
	if c, mine := o.expected[e.key]; mine {
		delete(o.expected, e.key)
		o.p.End(c, true)
		return nil
	}
	return o.p.Replay(e.change)
}

// catchUp reads what is new in the log and follows it. What cannot be read now is read by
// the next poll.
func (o *owned) catchUp(ctx context.Context) {
	if err := o.s.follow(ctx, []*owned{o}); err != nil && ctx.Err() == nil {
		o.s.o.Log.Warn("the log of a partition could not be read; it will be tried again", "partition", o.part, "error", err)
	}
}

// follow reads what is new in the logs of partitions, and follows it.
func (s *Store) follow(ctx context.Context, parts []*owned) error {
	for _, o := range parts { // in order of partition, so that two callers do not block each other
		o.tail.Lock()
	}
	defer func() {
		for _, o := range parts {
			o.tail.Unlock()
		}
	}()
	h := s.history.Load()
	if err := s.readHead(ctx); err != nil {
		return err
	}
	after := map[int]int64{}
	for _, o := range parts {
		o.mu.Lock()
		after[o.part] = o.seen
		o.mu.Unlock()
	}
	began := time.Now()
	byPart, err := s.readTail(ctx, h, after)
	s.timed(meter.Follow, began, err)
	if err != nil {
		return err
	}
	for _, o := range parts {
		o.mu.Lock()
		var err error
		if !o.gone.Load() && o.h == h {
			err = o.follow(byPart[o.part])
		}
		o.mu.Unlock()
		if err != nil {
			s.broken(o, err)
		}
	}
	return nil
}

// readTail reads the rows of partitions after the given positions. A segment in which nothing is
// open any more may be dropped after it was looked where the log is written, and before it is
// read: the log is written in another by then.
func (s *Store) readTail(ctx context.Context, h *history, after map[int]int64) (byPart map[int][]entry, err error) {
	for range segmentsGone {
		byPart = map[int][]entry{}
		err = s.readLog(ctx, h, s.pool, h.head.Load().segment, after, func(part int, e entry) {
			byPart[part] = append(byPart[part], e)
		})
		if !isUndefinedTable(err) {
			break
		}
		if err := s.readHead(ctx); err != nil {
			return nil, err
		}
	}
	return byPart, err
}

// segmentsGone is how often in a row the segment that is read may have been dropped.
const segmentsGone = 4

// readLog reads the rows of partitions after the given positions, in order of position
// within each partition, newest segment last.
func (s *Store) readLog(ctx context.Context, h *history, q querier, current int64, after map[int]int64, each func(part int, e entry)) error {
	parts, from := make([]int32, 0, len(after)), make([]int64, 0, len(after))
	for p, pos := range after {
		parts, from = append(parts, int32(p)), append(from, pos)
	}
	// The two newest segments are not in the table of extents, or need not be.
	rows, err := q.Query(ctx, s.names.sql(`SELECT DISTINCT e.segment FROM unnest($1::integer[], $2::bigint[]) u(part, pos)
		JOIN @schema.part_extents e ON e.part = u.part AND e.last > u.pos WHERE e.segment < $3 ORDER BY 1`), parts, from, current-1)
	if err != nil {
		return fmt.Errorf("find segments of the log: %w", err)
	}
	segments, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return fmt.Errorf("find segments of the log: %w", err)
	}
	for _, segment := range append(segments, current-1, current) {
		if err := s.readSegment(ctx, h, q, segment, parts, from, each); err != nil {
			return fmt.Errorf("read segment %d of the log: %w", segment, err)
		}
	}
	return nil
}

type logRow struct {
	part int
	kind int16
	lane int64
	data []byte
	entry
}

func (s *Store) readSegment(ctx context.Context, h *history, q querier, segment int64, parts []int32, from []int64, each func(part int, e entry)) error {
	rows, err := q.Query(ctx, s.names.segmentSQL(`SELECT t.part, t.pos, t.kind, coalesce(t.lane, 0), coalesce(t.seq, 0), t.count, t.size,
			CASE t.kind WHEN 1 THEN t.data END
		FROM unnest($1::integer[], $2::bigint[]) u(part, pos)
		CROSS JOIN LATERAL (SELECT * FROM @schema.log_@segment l WHERE l.part = u.part AND l.pos > u.pos ORDER BY l.pos) t`, segment), parts, from)
	if err != nil {
		return err
	}
	var found []logRow
	var lanes []int64
	seen := map[int64]bool{}
	for rows.Next() {
		var r logRow
		var seq int64
		if err := rows.Scan(&r.part, &r.pos, &r.kind, &r.lane, &seq, &r.count, &r.size, &r.data); err != nil {
			rows.Close()
			return err
		}
		r.seq = uint64(seq)
		if r.kind == kindValue && !seen[r.lane] {
			seen[r.lane] = true
			lanes = append(lanes, r.lane)
		}
		found = append(found, r)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if err := s.learn(ctx, h, q, lanes); err != nil {
		return err
	}
	for i := range found {
		r := &found[i]
		if r.kind == kindValue {
			r.ref = h.lanes.id(uint64(r.lane))
		} else if err := r.decode(); err != nil {
			return err
		}
		each(r.part, r.entry)
	}
	return nil
}

func (r *logRow) decode() error {
	var err error
	if r.key, err = changeKeyOf(r.data); err == nil {
		r.change, _, err = partition.DecodeChange(r.data[changeHeader:])
	}
	return err
}

// broken gives up the memory of a partition that does not fit its log, so that it is
// made anew.
func (s *Store) broken(o *owned, err error) {
	s.o.Log.Error("the memory of a partition differs from the database: it is read anew", "partition", o.part, "error", err)
	s.disown(o)
}

// disown forgets a partition: every lease of it is lost.
func (s *Store) disown(o *owned) {
	o.gone.Store(true)
	s.owned[o.part].CompareAndSwap(o, nil)
	o.p.Close()
	s.look()
}

// readHead learns where the log is written.
func (s *Store) readHead(ctx context.Context) error {
	return s.readHeadFrom(ctx, s.history.Load(), s.pool)
}

func (s *Store) readHeadFrom(ctx context.Context, h *history, q querier) error {
	var now head
	if err := q.QueryRow(ctx, s.names.sql("SELECT segment, ring FROM @schema.head")).Scan(&now.segment, &now.ring); err != nil {
		return fmt.Errorf("read where the log is written: %w", meaning(err))
	}
	for {
		old := h.head.Load()
		if old != nil && (now.segment < old.segment || now.ring < old.ring) || h.head.CompareAndSwap(old, &now) {
			return nil
		}
	}
}

// isUndefinedTable reports whether a statement named a table that was dropped.
func isUndefinedTable(err error) bool {
	return sqlState(err) == codeUndefinedTab
}
