package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/partition"
)

// adminPage is how many jobs are read, requeued or dropped at once, at most, and
// adminBytes about how many bytes of them.
const (
	adminPage  = 500
	adminBytes = 4 << 20
)

// lanesOf reads the lanes that a filter chooses from a lane on, in order of ID.
func (s *Store) lanesOf(ctx context.Context, q querier, f queue.Filter, from uint64) ([]*laneRef, error) {
	where, args := "id >= $1", []any{int64(from)}
	if f.Queue != "" {
		args = append(args, []byte(f.Queue))
		where += " AND queue = $2"
	}
	if f.By != "" && f.By != queue.None {
		column, value := axisColumn(f)
		args = append(args, value)
		where += fmt.Sprintf(" AND %s = $%d", column, len(args))
	}
	rows, err := q.Query(ctx, s.names.sql("SELECT id FROM @schema.lanes WHERE "+where+" ORDER BY id"), args...)
	if err != nil {
		return nil, fmt.Errorf("read the lanes: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("read the lanes: %w", err)
	}
	if err := s.learn(ctx, q, ids); err != nil {
		return nil, err
	}
	out := make([]*laneRef, len(ids))
	for i, id := range ids {
		out[i] = s.lanes.id(uint64(id))
	}
	return out, nil
}

// lister collects one page, all of it as of one instant.
type lister struct {
	s       *Store
	q       querier
	search  *queue.Search
	limit   int
	segment int64
	parts   map[int]*owned // restored for this list only
	page    queue.Page
	full    bool
}

// List implements queue.Admin. It reads every partition from the database, whoever owns it.
func (s *Store) List(ctx context.Context, search queue.Search, after queue.ID, limit int) (queue.Page, error) {
	if err := s.ready(); err != nil {
		return queue.Page{}, err
	}
	if limit <= 0 {
		limit = queue.DefaultLimit
	}
	var l *lister
	err := s.try(ctx, func(ctx context.Context) error {
		var err error
		for range 5 { // a segment that is dropped or compacted meanwhile ends the attempt
			err = pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
				l = &lister{s: s, q: tx, search: &search, limit: limit, parts: map[int]*owned{}}
				return l.run(ctx, after)
			})
			if !isUndefinedTable(err) && !errors.Is(err, queue.ErrCorrupt) {
				return err
			}
		}
		return err
	})
	if err != nil {
		return queue.Page{}, fmt.Errorf("list jobs: %w", meaning(err))
	}
	return l.page, nil
}

func (l *lister) run(ctx context.Context, after queue.ID) error {
	if err := l.q.QueryRow(ctx, l.s.names.sql("SELECT segment FROM @schema.head")).Scan(&l.segment); err != nil {
		return err
	}
	refs, err := l.s.lanesOf(ctx, l.q, l.search.Filter, after.Lane)
	if err != nil {
		return err
	}
	for _, ref := range refs {
		from := queue.ID{Lane: ref.id}
		if ref.id == after.Lane {
			from = queue.ID{Lane: ref.id, Seq: after.Seq, Index: after.Index + 1}
		}
		if l.search.State == queue.Buried {
			err = l.eachSide(ctx, ref, from, "state = 3", func(r partition.Side) (bool, error) {
				j, err := jobOf(ref, &r)
				return err == nil && l.add(j), err
			})
		} else {
			err = l.eachOpen(ctx, ref, from)
		}
		if err != nil {
			return fmt.Errorf("queue %q: %w", ref.queue, err)
		}
		if l.full {
			break
		}
	}
	return nil
}

// add takes a job into the page where the search chooses it; false when the page is full.
func (l *lister) add(j queue.Job) bool {
	if !matches(l.search, &j) {
		return true
	}
	if len(l.page.Jobs) == l.limit {
		l.page.Next, l.full = l.page.Jobs[l.limit-1].ID, true
		return false
	}
	l.page.Jobs = append(l.page.Jobs, j)
	return true
}

// matches applies what of a search is not a choice of lanes.
func matches(q *queue.Search, j *queue.Job) bool {
	return (q.Cause == "" || strings.Contains(j.Cause, q.Cause)) &&
		(q.Before.IsZero() || j.At.Before(q.Before)) &&
		(len(q.IDs) == 0 || slices.Contains(q.IDs, j.ID))
}

func jobOf(ref *laneRef, r *partition.Side) (queue.Job, error) {
	j := queue.Job{Queue: ref.queue, Scope: ref.scope}
	if err := queue.ReadRecord(r.Record, &j, &event.Message{}); err != nil {
		return j, fmt.Errorf("read job %s: %w", r.ID, err)
	}
	scope := ref.scope
	j.Msg.Meta.Scope = &scope
	j.ID, j.Attempt, j.Cause = r.ID, r.Attempt, r.Cause
	j.At = time.Unix(0, r.At).UTC()
	switch {
	case r.State == partition.Dead:
		j.At = time.Unix(0, r.Due).UTC()
	case r.Due > 1:
		j.NotBefore = time.Unix(0, r.Due).UTC()
	}
	return j, nil
}

// eachSide calls fn for the side rows of a lane, in order of ID.
func (l *lister) eachSide(ctx context.Context, ref *laneRef, from queue.ID, state string, fn func(partition.Side) (bool, error)) error {
	for {
		rows, err := l.s.sidePage(ctx, l.q, ref, from, state)
		if err != nil {
			return err
		}
		for i := range rows {
			if more, err := fn(rows[i]); err != nil || !more {
				return err
			}
		}
		if len(rows) == 0 {
			return nil
		}
		from = rows[len(rows)-1].ID
		from.Index++
	}
}

// sidePage reads side rows of a lane from an ID on, in order of ID, not all at once.
func (s *Store) sidePage(ctx context.Context, q querier, ref *laneRef, from queue.ID, state string) ([]partition.Side, error) {
	rows, err := q.Query(ctx, s.names.sql(`SELECT seq, idx, state, due, hash, attempt, cause, at, size, record FROM (
			SELECT *, sum(size) OVER (ORDER BY seq, idx) - size AS before FROM (
				SELECT * FROM @schema.side WHERE lane = $1 AND (seq, idx) >= ($2, $3) AND `+state+` ORDER BY seq, idx LIMIT $4) v) w
		WHERE before < $5 ORDER BY seq, idx`), int64(ref.id), int64(from.Seq), int64(from.Index), adminPage, adminBytes)
	if err != nil {
		return nil, fmt.Errorf("read the side table: %w", err)
	}
	defer rows.Close()
	var out []partition.Side
	for rows.Next() {
		var r partition.Side
		var seq, hash int64
		var idx, attempt, size int32
		var state int16
		var cause []byte
		if err := rows.Scan(&seq, &idx, &state, &r.Due, &hash, &attempt, &cause, &r.At, &size, &r.Record); err != nil {
			return nil, fmt.Errorf("read the side table: %w", err)
		}
		r.ID = queue.ID{Lane: ref.id, Seq: uint64(seq), Index: uint32(idx)}
		r.State, r.Hash, r.Attempt, r.Size, r.Cause = partition.SideState(state), unsigned(hash), int(attempt), int(size), string(cause)
		out = append(out, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read the side table: %w", err)
	}
	return out, nil
}

// state is a lane as of the list's instant.
func (l *lister) state(ctx context.Context, ref *laneRef) (partition.Lane, error) {
	o := l.parts[ref.part]
	if o == nil {
		byPart, err := l.s.snapshot(ctx, l.q, []int{ref.part})
		if err != nil {
			return partition.Lane{}, err
		}
		if o, err = l.s.restore(ref.part, 0, byPart[ref.part]); err != nil {
			return partition.Lane{}, err
		}
		l.parts[ref.part] = o
	}
	lane, _ := o.p.StateOf(ref.id)
	return lane, nil
}

// eachOpen lists the open jobs of a lane, in order of ID: those of the side table come
// between those of the log.
func (l *lister) eachOpen(ctx context.Context, ref *laneRef, from queue.ID) error {
	lane, err := l.state(ctx, ref)
	if err != nil || lane.ID == 0 {
		return err
	}
	sides := &sideReader{l: l, ctx: ctx, ref: ref, from: from}
	more := true
	for seq := max(from.Seq, lane.First); more && seq < lane.Tail; {
		vs, err := l.s.values(ctx, l.q, l.segment, ref.id, seq, 1<<20)
		if err != nil {
			return err
		}
		if len(vs) == 0 {
			return fmt.Errorf("read value %d of lane %d: it is not there: %w", seq, ref.id, queue.ErrCorrupt)
		}
		for _, v := range vs {
			if more, err = l.eachRecord(ref, &lane, v, from, sides); err != nil || !more {
				return err
			}
			seq = v.Seq + 1
		}
	}
	_, err = sides.upTo(queue.ID{Lane: ref.id, Seq: 1<<64 - 1})
	return err
}

// eachRecord lists the jobs of a value that have not left the log, and the side rows
// before each.
func (l *lister) eachRecord(ref *laneRef, lane *partition.Lane, v partition.Value, from queue.ID, sides *sideReader) (more bool, err error) {
	rs, err := queue.OpenValue(v.Data)
	if err != nil {
		return false, err
	}
	var gone []uint64
	if i, found := slices.BinarySearchFunc(lane.Partly, v.Seq, func(p partition.Partly, seq uint64) int { return cmp.Compare(p.Seq, seq) }); found {
		if gone = lane.Partly[i].Bits; gone == nil {
			return true, nil
		}
	}
	for i := uint32(0); ; i++ {
		rec, err := rs.Next()
		if rec == nil || err != nil {
			return err == nil, err
		}
		id := queue.ID{Lane: ref.id, Seq: v.Seq, Index: i}
		if id.Before(from) || gone != nil && gone[i>>6]&(1<<(i&63)) != 0 {
			continue
		}
		if more, err := sides.upTo(id); err != nil || !more {
			return false, err
		}
		head, err := queue.ReadHead(rec)
		if err != nil {
			return false, err
		}
		j, err := jobOf(ref, &partition.Side{ID: id, State: partition.Retry, Record: rec, At: rs.At.UnixNano(), Due: head.NotBefore})
		if err != nil || !l.add(j) {
			return false, err
		}
	}
}

// sideReader lists open side rows of a lane, up to one ID after the other.
type sideReader struct {
	l    *lister
	ctx  context.Context
	ref  *laneRef
	from queue.ID
	rows []partition.Side
	end  bool
}

func (r *sideReader) upTo(id queue.ID) (more bool, err error) {
	for {
		if len(r.rows) == 0 && !r.end {
			if r.rows, err = r.l.s.sidePage(r.ctx, r.l.q, r.ref, r.from, "state IN (1, 2)"); err != nil {
				return false, err
			}
			if r.end = len(r.rows) == 0; !r.end {
				r.from = r.rows[len(r.rows)-1].ID
				r.from.Index++
			}
		}
		if len(r.rows) == 0 || !r.rows[0].ID.Before(id) {
			return true, nil
		}
		j, err := jobOf(r.ref, &r.rows[0])
		if err != nil || !r.l.add(j) {
			return false, err
		}
		r.rows = r.rows[1:]
	}
}

// Requeue implements queue.Admin.
func (s *Store) Requeue(ctx context.Context, search queue.Search) (int, error) {
	return s.dead(ctx, search, "requeue", func(ref *laneRef, rows []partition.Side, tx *partition.Tx) error {
		for i := range rows {
			j, err := jobOf(ref, &rows[i])
			if err != nil {
				return err
			}
			j.NotBefore = time.Time{}
			if err := tx.Append(j); err != nil {
				return err
			}
		}
		return nil
	})
}

// Drop implements queue.Admin.
func (s *Store) Drop(ctx context.Context, search queue.Search) (int, error) {
	return s.dead(ctx, search, "drop", nil)
}

// dead removes the dead jobs that a search chooses, after fn has done with them what it
// wants. Any process may: dead jobs are of no concern to the owner of their partition,
// who learns of it from the log.
func (s *Store) dead(ctx context.Context, search queue.Search, what string, fn func(*laneRef, []partition.Side, *partition.Tx) error) (int, error) {
	if err := s.ready(); err != nil {
		return 0, err
	}
	if search.State != queue.Buried {
		return 0, fault.New(fault.Invalid, fmt.Errorf("%s jobs: only dead jobs can be chosen", what))
	}
	total := 0
	var refs []*laneRef
	err := s.try(ctx, func(ctx context.Context) error {
		var err error
		refs, err = s.lanesOf(ctx, s.pool, search.Filter, 0)
		return err
	})
	for _, ref := range refs {
		for from := (queue.ID{Lane: ref.id}); err == nil && from.Lane != 0; {
			if err = ctx.Err(); err != nil {
				break
			}
			var n int
			n, from, err = s.deadPage(ctx, &search, ref, from, fn)
			total += n
		}
	}
	if err != nil {
		return total, fmt.Errorf("%s dead jobs: %w", what, meaning(err))
	}
	return total, nil
}

// deadPage handles dead jobs of a lane from an ID on, and says where to go on; zero at
// the end.
func (s *Store) deadPage(ctx context.Context, search *queue.Search, ref *laneRef, from queue.ID, fn func(*laneRef, []partition.Side, *partition.Tx) error) (int, queue.ID, error) {
	for attempts := 0; ; attempts++ {
		var rows []partition.Side
		err := s.try(ctx, func(ctx context.Context) error {
			var err error
			rows, err = s.sidePage(ctx, s.pool, ref, from, "state = 3")
			return err
		})
		if err != nil || len(rows) == 0 {
			return 0, queue.ID{}, err
		}
		next := rows[len(rows)-1].ID
		next.Index++
		var chosen []partition.Side
		for i := range rows {
			j, err := jobOf(ref, &rows[i])
			if err != nil {
				return 0, queue.ID{}, err
			}
			if matches(search, &j) {
				chosen = append(chosen, rows[i])
			}
		}
		err = s.discard(ctx, ref, chosen, fn)
		if errors.Is(err, errSide) && attempts < 10 {
			continue // somebody else has taken some of them: look again
		}
		if err != nil {
			return 0, queue.ID{}, err
		}
		return len(chosen), next, nil
	}
}

func (s *Store) discard(ctx context.Context, ref *laneRef, rows []partition.Side, fn func(*laneRef, []partition.Side, *partition.Tx) error) error {
	if len(rows) == 0 {
		return nil
	}
	tx := partition.NewTx(s.now(), nil, s.router())
	if fn != nil {
		if err := fn(ref, rows, tx); err != nil {
			return err
		}
	}
	r := &request{t: tx.Finish(), deadline: time.Now().Add(s.o.Patience), done: make(chan error, 1)}
	if err := s.bind(ctx, r); err != nil {
		return err
	}
	var none *partition.Partition
	r.changes = append(r.changes, ownedChange{part: ref.part, c: none.Discard(rows)})
	r.mask.add(ref.part)
	return s.commits.do(ctx, r)
}

// prefixEnd is the first key after all that start with prefix; nil when there is none.
func prefixEnd(prefix []byte) []byte {
	end := slices.Clone(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}
