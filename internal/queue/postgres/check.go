package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/partition"
)

// Verify reads the whole store: that each checkpoint is of its log, and the log has no gaps;
// every value that has open jobs, every job outside of the log, every record. The error names
// the first thing that is wrong. progress is told how many bytes of how many were read.
func (s *Store) Verify(ctx context.Context, progress func(done, total int64)) (map[string]int64, error) {
	if err := s.ready(); err != nil {
		return nil, err
	}
	v := verifier{s: s, h: s.history.Load()}
	total, err := s.size(ctx)
	if err != nil {
		return nil, fmt.Errorf("check the queue store: %w", err)
	}
	for part := range s.owned {
		if err := v.partition(ctx, part); err != nil {
			return nil, fmt.Errorf("check the queue store: partition %d: %w", part, meaning(err))
		}
		if progress != nil {
			progress(total*int64(part+1)/int64(len(s.owned)+1), total)
		}
	}
	var records int64
	if err := s.pool.QueryRow(ctx, s.names.sql("SELECT count(md5(value)) FROM @schema.records")).Scan(&records); err != nil {
		return nil, fmt.Errorf("check the queue store: read the records: %w", meaning(err))
	}
	if progress != nil {
		progress(total, total)
	}
	return map[string]int64{
		"partitions": int64(len(s.owned)), "log_rows_after_checkpoint": v.rows, "open_batches": v.values, "open_messages": v.jobs,
		"side_jobs": v.side, "records": records,
	}, nil
}

type verifier struct {
	s                        *Store
	h                        *history
	rows, values, jobs, side int64
}

// partition checks one partition as of one instant.
func (v *verifier) partition(ctx context.Context, part int) error {
	var one verifier
	err := v.s.instant(ctx, func(tx pgx.Tx) error {
		one = *v
		return one.inside(ctx, tx, part)
	})
	if err == nil {
		*v = one
	}
	return err
}

func (v *verifier) inside(ctx context.Context, q querier, part int) error {
	byPart, err := v.s.readSnapshot(ctx, v.h, q, []int{part})
	if err != nil {
		return err
	}
	sn := byPart[part]
	if sn == nil {
		return fmt.Errorf("it is not in the table of partitions: %w", queue.ErrCorrupt)
	}
	ends, _, err := v.s.logEnds(ctx, q)
	if err != nil {
		return err
	}
	next, err := v.s.laneNexts(ctx, q, []int{part})
	if err != nil {
		return err
	}
	if why := sn.misfit(ends[part], next); why != "" {
		return fmt.Errorf("its checkpoint is of another history than its log: %s (who reads it next makes it from the log): %w", why, queue.ErrCorrupt)
	}
	o, err := v.s.restore(v.h, part, 0, sn)
	if err != nil {
		return err
	}
	if err := v.s.complete(ctx, q, o, ends[part]); err != nil {
		return err
	}
	v.rows += int64(len(sn.log))
	for _, l := range o.p.Lanes() {
		bad := func(what string, err error) error { return fmt.Errorf("%s of queue %q: %w", what, l.Queue, err) }
		if err := v.s.eachOpenValue(ctx, q, o, l.ID, func(val partition.Value, err error) error {
			v.values++
			if err == nil {
				var n int
				n, err = checkValue(val)
				v.jobs += int64(n)
			}
			if err != nil {
				return bad(fmt.Sprintf("value %d of lane %d", val.Seq, l.ID), err)
			}
			return nil
		}); err != nil {
			return err
		}
		if err := v.s.eachSide(ctx, q, l.ID, func(r *partition.Side) error {
			v.side++
			if _, err := l.Job(r); err != nil {
				return bad("a job outside of the log", err)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// complete makes sure that the memory of a partition is all of its log, and has as many jobs
// outside of it as there are.
func (s *Store) complete(ctx context.Context, q querier, o *owned, end int64) error {
	if o.seen != end {
		return fmt.Errorf("its log goes up to row %d, of which row %d is missing: %w", end, o.seen+1, queue.ErrCorrupt)
	}
	rows, err := q.Query(ctx, s.names.sql(`SELECT d.lane, count(*) FILTER (WHERE d.state = 1), count(*) FILTER (WHERE d.state = 2), count(*) FILTER (WHERE d.state = 3)
		FROM @schema.lanes l JOIN @schema.side d ON d.lane = l.id WHERE l.part = $1 GROUP BY d.lane`), o.part)
	if err != nil {
		return fmt.Errorf("count the jobs outside of the log: %w", err)
	}
	there := map[uint64][3]int64{}
	var lane, retry, parked, dead int64
	if _, err := pgx.ForEachRow(rows, []any{&lane, &retry, &parked, &dead}, func() error {
		there[uint64(lane)] = [3]int64{retry, parked, dead}
		return nil
	}); err != nil {
		return fmt.Errorf("count the jobs outside of the log: %w", err)
	}
	for _, l := range o.p.Lanes() {
		now, _ := o.p.StateOf(l.ID)
		if n := there[l.ID]; n != [3]int64{now.Retry, now.Parked, now.Dead} {
			return fmt.Errorf("queue %q: lane %d has %d jobs outside of the log to be tried again, %d withheld and %d dead, and %d, %d and %d are there: %w",
				l.Queue, l.ID, now.Retry, now.Parked, now.Dead, n[0], n[1], n[2], queue.ErrCorrupt)
		}
	}
	return nil
}

// checkValue decodes all jobs of a value.
func checkValue(v partition.Value) (jobs int, err error) {
	rs, err := queue.OpenValue(v.Data)
	for err == nil {
		var rec []byte
		if rec, err = rs.Next(); rec == nil {
			break
		}
		jobs++
		if _, err = queue.ReadHead(rec); err == nil {
			err = queue.ReadRecord(rec, &queue.Job{}, &event.Message{})
		}
	}
	return jobs, err
}

// eachOpenValue reads the values of a lane that have open jobs. One that is not there is an
// error to fn, with its number.
func (s *Store) eachOpenValue(ctx context.Context, q querier, o *owned, lane uint64, fn func(partition.Value, error) error) error {
	var segment int64
	if err := q.QueryRow(ctx, s.names.sql("SELECT segment FROM @schema.head")).Scan(&segment); err != nil {
		return err
	}
	l, _ := o.p.StateOf(lane)
	settled := map[uint64]bool{}
	for _, p := range l.Partly {
		settled[p.Seq] = p.Bits == nil
	}
	for seq := l.First; seq < l.Tail; {
		if settled[seq] {
			seq++
			continue
		}
		vs, err := s.values(ctx, q, segment, lane, seq, 4<<20)
		if err != nil {
			return err
		}
		if len(vs) == 0 {
			err := fn(partition.Value{Seq: seq}, fmt.Errorf("it is not there: %w", queue.ErrCorrupt))
			if err != nil {
				return err
			}
			seq++
		}
		for _, v := range vs {
			seq = v.Seq + 1
			if settled[v.Seq] {
				continue
			}
			if err := fn(v, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// eachSide reads all jobs of a lane that are outside of the log.
func (s *Store) eachSide(ctx context.Context, q querier, lane uint64, fn func(*partition.Side) error) error {
	from, last, _ := partition.Span(&queue.Search{}, lane)
	for {
		rows, err := s.sidePage(ctx, q, &laneRef{id: lane}, from, last, "state IN (1, 2, 3)")
		if err != nil || len(rows) == 0 {
			return err
		}
		for i := range rows {
			if err := fn(&rows[i]); err != nil {
				return err
			}
		}
		from = partition.After(rows[len(rows)-1].ID)
	}
}
