package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/partition"
)

// Salvaged is what a salvage has kept and lost.
type Salvaged struct {
	Open, Dead  int64 // jobs that are there
	Made        int64 // partitions that were made from their logs
	LostBatches int64 // values that cannot be read, or are missing
	LostJobs    int64 // jobs outside of the log that cannot be read
	Changes     int64 // rows of the log that say what was settled and cannot be read
}

// Lost reports whether anything is missing.
func (r *Salvaged) Lost() bool { return r.LostBatches+r.LostJobs > 0 }

// salvagedSQL makes the table of what was taken out of the store because it cannot be read.
const salvagedSQL = `CREATE TABLE IF NOT EXISTS @schema.salvaged (at timestamptz NOT NULL DEFAULT clock_timestamp(), lane bigint, seq bigint, idx integer, data bytea)`

// Salvage makes the store usable with what of it can be read. Partitions whose checkpoints are
// not of their logs, or that cannot be followed, are made from their logs; what cannot be read
// is moved to the table salvaged. No process may use the store.
func Salvage(ctx context.Context, o Options, progress func(done, total int64)) (Salvaged, error) {
	var r Salvaged
	s, err := New(o)
	if err != nil {
		return r, err
	}
	if err := s.Open(ctx); err != nil {
		return r, err
	}
	err = s.salvage(ctx, &r, progress)
	if err = errors.Join(err, s.Close()); err != nil {
		return r, fmt.Errorf("salvage the queue store: %w", meaning(err))
	}
	return r, nil
}

func (s *Store) salvage(ctx context.Context, r *Salvaged, progress func(done, total int64)) error {
	var others int
	err := s.pool.QueryRow(ctx, s.names.sql(`SELECT (SELECT count(*) FROM @schema.processes WHERE `+heardSQL+`)
		+ (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND starts_with(application_name, $1) AND application_name <> $2)`),
		"weir/"+s.o.Schema+"/", s.sessionName(s.process)).Scan(&others)
	if err != nil {
		return err
	}
	if others > 0 {
		return fmt.Errorf("processes are connected to it, or were until a moment ago: %w", queue.ErrInUse)
	}
	if _, err := s.pool.Exec(ctx, s.names.sql(salvagedSQL)); err != nil {
		return err
	}
	total, err := s.size(ctx)
	if err != nil {
		return err
	}
	for part := range s.owned {
		if err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
			return s.salvagePartition(ctx, tx, part, r)
		}); err != nil {
			return fmt.Errorf("partition %d: %w", part, err)
		}
		if progress != nil {
			progress(total*int64(part+1)/int64(len(s.owned)), total)
		}
	}
	return nil
}

func (s *Store) salvagePartition(ctx context.Context, tx pgx.Tx, part int, r *Salvaged) error {
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1, $2)", s.names.space, part+1); err != nil {
		return err
	}
	h := s.history.Load()
	ends, _, err := s.logEnds(ctx, tx)
	if err != nil {
		return err
	}
	next, err := s.laneNexts(ctx, tx, []int{part})
	if err != nil {
		return err
	}
	lost, err := s.loseSides(ctx, tx, part, r)
	if err != nil {
		return err
	}
	byPart, err := s.readSnapshot(ctx, h, tx, []int{part})
	sn := byPart[part]
	var o *owned
	if err == nil && !lost && sn.misfit(ends[part], next) == "" {
		if o, err = s.restore(h, part, 0, sn); err == nil {
			err = s.complete(ctx, tx, o, ends[part])
		}
		if err != nil {
			o = nil
		}
	}
	if err != nil && !errors.Is(err, queue.ErrCorrupt) {
		return err
	}
	var bad map[valueKey]bool
	for {
		if o == nil {
			if o, err = s.fromLog(ctx, tx, h, part, ends[part], next, bad, r); err != nil {
				return err
			}
			if len(bad) == 0 {
				r.Made++
			}
		}
		if len(bad) > 0 {
			break
		}
		if bad, err = s.loseValues(ctx, tx, o); err != nil {
			return err
		}
		if len(bad) == 0 {
			break
		}
		r.LostBatches += int64(len(bad))
		o = nil // made from its log, without them
	}
	return s.writeSalvaged(ctx, tx, o, r)
}

// fromLog is a partition as its log and its side table have it, without some values.
func (s *Store) fromLog(ctx context.Context, tx pgx.Tx, h *history, part int, end int64, next map[uint64]uint64, without map[valueKey]bool, r *Salvaged) (*owned, error) {
	rows, err := tx.Query(ctx, s.names.sql("SELECT id, queue, workspace, source, destination FROM @schema.lanes WHERE part = $1 ORDER BY id"), part)
	if err != nil {
		return nil, err
	}
	var lanes []partition.Lane
	var id int64
	var q, w, src, dst []byte
	if _, err := pgx.ForEachRow(rows, []any{&id, &q, &w, &src, &dst}, func() error {
		l := partition.Lane{ID: uint64(id), Queue: string(q), Scope: queue.Scope{Workspace: string(w), Source: string(src), Destination: string(dst)}}
		lanes = append(lanes, l)
		h.lanes.add(&laneRef{id: l.ID, queue: l.Queue, scope: l.Scope, part: part})
		return nil
	}); err != nil {
		return nil, err
	}
	sn, err := s.remake(ctx, tx, part, lanes, next, without, func(err error) error {
		s.o.Log.Error("a row of the log that says what was settled cannot be read: what it settled is delivered again", "partition", part, "error", err)
		r.Changes++
		return nil
	})
	if err != nil {
		return nil, err
	}
	sn.pos = end
	return s.restore(h, part, 0, sn)
}

// loseSides takes the jobs outside of the log away that cannot be read.
func (s *Store) loseSides(ctx context.Context, tx pgx.Tx, part int, r *Salvaged) (lost bool, err error) {
	rows, err := tx.Query(ctx, s.names.sql("SELECT DISTINCT l.id FROM @schema.lanes l JOIN @schema.side d ON d.lane = l.id WHERE l.part = $1"), part)
	if err != nil {
		return false, err
	}
	lanes, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return false, err
	}
	for _, lane := range lanes {
		var bad []queue.ID
		if err := s.eachSide(ctx, tx, uint64(lane), func(d *partition.Side) error {
			if _, err := (&partition.Lane{ID: uint64(lane)}).Job(d); err != nil {
				s.o.Log.Error("a job is lost", "job", d.ID.String(), "error", err)
				bad = append(bad, d.ID)
			}
			return nil
		}); err != nil {
			return false, err
		}
		for _, id := range bad {
			if _, err := tx.Exec(ctx, s.names.sql(`WITH gone AS (DELETE FROM @schema.side WHERE lane = $1 AND seq = $2 AND idx = $3 RETURNING lane, seq, idx, record)
				INSERT INTO @schema.salvaged (lane, seq, idx, data) SELECT * FROM gone`), int64(id.Lane), int64(id.Seq), int64(id.Index)); err != nil {
				return false, err
			}
			r.LostJobs++
			lost = true
		}
	}
	return lost, nil
}

// loseValues finds the values with open jobs that cannot be read, and keeps what is there of them.
func (s *Store) loseValues(ctx context.Context, tx pgx.Tx, o *owned) (map[valueKey]bool, error) {
	bad := map[valueKey]bool{}
	for _, l := range o.p.Lanes() {
		var data []partition.Value
		if err := s.eachOpenValue(ctx, tx, o, l.ID, func(v partition.Value, err error) error {
			if err == nil {
				_, err = checkValue(v)
			}
			if err != nil {
				s.o.Log.Error("a batch of waiting jobs is lost", "queue", l.Queue, "lane", l.ID, "batch", v.Seq, "error", err)
				data = append(data, v)
			}
			return nil
		}); err != nil {
			return nil, err
		}
		for _, v := range data {
			bad[valueKey{l.ID, v.Seq}] = true
			if _, err := tx.Exec(ctx, s.names.sql("INSERT INTO @schema.salvaged (lane, seq, data) VALUES ($1, $2, $3)"), int64(l.ID), int64(v.Seq), v.Data); err != nil {
				return nil, err
			}
		}
	}
	return bad, nil
}

// writeSalvaged writes the checkpoint of a partition, which belongs to nobody.
func (s *Store) writeSalvaged(ctx context.Context, tx pgx.Tx, o *owned, r *Salvaged) error {
	var lanes []partition.Lane
	for _, l := range o.p.Lanes() {
		state, _ := o.p.StateOf(l.ID)
		lanes = append(lanes, state)
		r.Open += state.Jobs + state.Retry + state.Parked
		r.Dead += state.Dead
	}
	if _, err := tx.Exec(ctx, s.names.sql("UPDATE @schema.parts SET pos = $2, owner = NULL, epoch = epoch + 1 WHERE id = $1"), o.part, o.seen); err != nil {
		return err
	}
	return s.writeLanes(ctx, tx, lanes)
}
