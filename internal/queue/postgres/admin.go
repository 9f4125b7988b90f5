package postgres

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

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
func (s *Store) lanesOf(ctx context.Context, h *history, q querier, f queue.Filter, from uint64) ([]*laneRef, error) {
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
	if err := s.learn(ctx, h, q, ids); err != nil {
		return nil, err
	}
	out := make([]*laneRef, len(ids))
	for i, id := range ids {
		out[i] = h.lanes.id(uint64(id))
	}
	return out, nil
}

// lister reads for one page, all of it as of one instant.
type lister struct {
	partition.Lister
	s       *Store
	h       *history
	q       querier
	segment int64
	parts   map[int]*owned // restored for this list only
}

// instant reads what is there at one instant. A segment that is dropped under it is missing, and
// one that is compacted seems empty, which looks like damage: then it is read once more, and nothing
// is removed meanwhile.
func (s *Store) instant(ctx context.Context, read func(tx pgx.Tx) error) error {
	once := func(removals string) error {
		return pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
			if removals != "" { // before anything is seen
				if _, err := tx.Exec(ctx, removals); err != nil {
					return err
				}
			}
			return read(tx)
		})
	}
	err := once("")
	for range 4 { // a process of an earlier release may remove all the same
		if !isUndefinedTable(err) && !errors.Is(err, queue.ErrCorrupt) {
			return err
		}
		err = once(s.names.sql("LOCK TABLE @schema.meta IN SHARE MODE"))
	}
	return err
}

// List implements queue.Admin. It reads every partition from the database, whoever owns it.
func (s *Store) List(ctx context.Context, search queue.Search, after queue.ID, limit int) (queue.Page, error) {
	if err := s.ready(); err != nil {
		return queue.Page{}, err
	}
	var l *lister
	err := s.try(ctx, func(ctx context.Context) error {
		return s.instant(ctx, func(tx pgx.Tx) error {
			l = &lister{h: s.history.Load(), Lister: partition.Lister{Search: search, After: after, Limit: limit}, s: s, q: tx, parts: map[int]*owned{}}
			return l.run(ctx)
		})
	})
	if err != nil {
		return queue.Page{}, fmt.Errorf("list jobs: %w", meaning(err))
	}
	return l.Page, nil
}

func (l *lister) run(ctx context.Context) error {
	if err := l.q.QueryRow(ctx, l.s.names.sql("SELECT segment FROM @schema.head")).Scan(&l.segment); err != nil {
		return err
	}
	refs, err := l.s.lanesOf(ctx, l.h, l.q, l.Search.Filter, l.After.Lane)
	if err != nil {
		return err
	}
	for _, ref := range refs {
		if _, _, there := partition.Span(&l.Search, ref.id); !there {
			continue
		}
		lane, state := ref.lane(), "state = 3"
		if l.Search.State != queue.Buried {
			state = "state IN (1, 2)"
			if lane, err = l.state(ctx, ref); err != nil {
				return fmt.Errorf("queue %q: %w", ref.queue, err)
			}
		}
		if lane.ID == 0 {
			continue
		}
		if err := l.Lane(ctx, lane, partition.Reader{
			Values: func(ctx context.Context, seq uint64) ([]partition.Value, error) {
				vs, err := l.s.values(ctx, l.q, l.segment, ref.id, seq, 1<<20)
				if err == nil && len(vs) == 0 {
					err = fmt.Errorf("read value %d of lane %d: it is not there: %w", seq, ref.id, queue.ErrCorrupt)
				}
				return vs, err
			},
			Sides: func(ctx context.Context, from, to queue.ID) ([]partition.Side, error) {
				return l.s.sidePage(ctx, l.q, ref, from, to, state)
			},
		}); err != nil {
			return fmt.Errorf("queue %q: %w", ref.queue, err)
		}
		if l.Full {
			break
		}
	}
	return nil
}

// sidePage reads side rows of a lane from an ID on to another, in order of ID, not all at once.
func (s *Store) sidePage(ctx context.Context, q querier, ref *laneRef, from, to queue.ID, state string) ([]partition.Side, error) {
	rows, err := q.Query(ctx, s.names.sql(`SELECT seq, idx, state, due, hash, attempt, cause, at, size, record FROM (
			SELECT *, sum(size) OVER (ORDER BY seq, idx) - size AS before FROM (
				SELECT * FROM @schema.side WHERE lane = $1 AND (seq, idx) >= ($2, $3) AND (seq, idx) <= ($6, $7) AND `+state+` ORDER BY seq, idx LIMIT $4) v) w
		WHERE before < $5 ORDER BY seq, idx`), int64(ref.id), int64(from.Seq), int64(from.Index), adminPage, adminBytes,
		int64(min(to.Seq, math.MaxInt64)), min(int64(to.Index), math.MaxInt32))
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
		byPart, err := l.s.snapshot(ctx, l.h, l.q, []int{ref.part})
		if err != nil {
			return partition.Lane{}, err
		}
		if o, err = l.s.restore(l.h, ref.part, 0, byPart[ref.part]); err != nil {
			return partition.Lane{}, err
		}
		l.parts[ref.part] = o
	}
	lane, _ := o.p.StateOf(ref.id)
	return lane, nil
}

// Requeue implements queue.Admin.
func (s *Store) Requeue(ctx context.Context, search queue.Search) (int, error) {
	return s.dead(ctx, search, "requeue", (*partition.Lane).Requeue)
}

// Drop implements queue.Admin.
func (s *Store) Drop(ctx context.Context, search queue.Search) (int, error) {
	return s.dead(ctx, search, "drop", func(*partition.Lane, []partition.Side, *partition.Tx) error { return nil })
}

// dead removes the dead jobs that a search chooses, after fn has done with them what it
// wants. Any process may: dead jobs are of no concern to the owner of their partition,
// who learns of it from the log.
func (s *Store) dead(ctx context.Context, search queue.Search, what string, fn func(*partition.Lane, []partition.Side, *partition.Tx) error) (int, error) {
	if err := s.ready(); err != nil {
		return 0, err
	}
	if search.State != queue.Buried {
		return 0, fault.New(fault.Invalid, fmt.Errorf("%s jobs: only dead jobs can be chosen", what))
	}
	total := 0
	h := s.history.Load()
	var refs []*laneRef
	err := s.try(ctx, func(ctx context.Context) error {
		var err error
		refs, err = s.lanesOf(ctx, h, s.pool, search.Filter, 0)
		return err
	})
	for _, ref := range refs {
		from, last, there := partition.Span(&search, ref.id)
		for there && err == nil {
			if err = ctx.Err(); err != nil {
				break
			}
			var n int
			n, from, err = s.deadPage(ctx, h, &search, ref, from, last, fn)
			total, there = total+n, from.Lane != 0
		}
	}
	if err != nil {
		return total, fmt.Errorf("%s dead jobs: %w", what, meaning(err))
	}
	return total, nil
}

// deadPage handles dead jobs of a lane from an ID on to another, and says where to go on; zero
// at the end.
func (s *Store) deadPage(ctx context.Context, h *history, search *queue.Search, ref *laneRef, from, to queue.ID, fn func(*partition.Lane, []partition.Side, *partition.Tx) error) (int, queue.ID, error) {
	for attempts := 0; ; attempts++ {
		var rows []partition.Side
		err := s.try(ctx, func(ctx context.Context) error {
			var err error
			rows, err = s.sidePage(ctx, s.pool, ref, from, to, "state = 3")
			return err
		})
		if err != nil || len(rows) == 0 {
			return 0, queue.ID{}, err
		}
		lane := ref.lane()
		chosen, err := lane.Choose(search, rows)
		if err != nil {
			return 0, queue.ID{}, err
		}
		err = s.discard(ctx, h, ref, chosen, fn)
		if errors.Is(err, errSide) && attempts < 10 {
			continue // somebody else has taken some of them: look again
		}
		if err != nil {
			return 0, queue.ID{}, err
		}
		return len(chosen), partition.After(rows[len(rows)-1].ID), nil
	}
}

func (s *Store) discard(ctx context.Context, h *history, ref *laneRef, rows []partition.Side, fn func(*partition.Lane, []partition.Side, *partition.Tx) error) error {
	if len(rows) == 0 {
		return nil
	}
	tx := partition.NewTx(s.now(), nil, s.router())
	lane := ref.lane()
	if err := fn(&lane, rows, tx); err != nil {
		return err
	}
	r := &request{h: h, t: tx.Finish(), deadline: time.Now().Add(s.tuned().Patience), done: make(chan error, 1)}
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
