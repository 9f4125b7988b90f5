package embedded

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/partition"
)

// adminPage is how many dead jobs are requeued or dropped in one commit, at most, and
// adminBytes how many bytes of them.
const (
	adminPage  = 1000
	adminBytes = 16 << 20
)

// lanesOf are the lanes that a filter chooses, in order of ID.
func (s *Store) lanesOf(f queue.Filter) []partition.Lane {
	return slices.DeleteFunc(s.part.Lanes(), func(l partition.Lane) bool {
		if f.Queue != "" && f.Queue != l.Queue {
			return true
		}
		return f.By != "" && f.By != queue.None && f.By.Of(l.Scope) != f.Value
	})
}

// List implements queue.Admin.
func (s *Store) List(ctx context.Context, q queue.Search, after queue.ID, limit int) (queue.Page, error) {
	if err := s.enter(); err != nil {
		return queue.Page{}, err
	}
	defer s.leave()
	var page queue.Page
	for _, l := range s.lanesOf(q.Filter) {
		if l.ID < after.Lane {
			continue
		}
		from := queue.ID{Lane: l.ID}
		if l.ID == after.Lane {
			from = queue.ID{Lane: l.ID, Seq: after.Seq, Index: after.Index + 1}
		}
		var err error
		full := false
		add := func(j queue.Job) bool {
			if !matches(&q, &j) {
				return true
			}
			if len(page.Jobs) == limit {
				page.Next, full = page.Jobs[limit-1].ID, true
				return false
			}
			page.Jobs = append(page.Jobs, j)
			return ctx.Err() == nil
		}
		if q.State == queue.Buried {
			err = s.eachSide(l, rowDead, from, func(r partition.Side) (bool, error) {
				j, err := s.jobOf(l, r)
				return err == nil && add(j), err
			})
		} else {
			err = s.eachOpen(l, from, add)
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			return queue.Page{}, fmt.Errorf("list jobs of queue %q: %w", l.Queue, err)
		}
		if full {
			break
		}
	}
	return page, nil
}

// matches applies what of a search is not a choice of lanes.
func matches(q *queue.Search, j *queue.Job) bool {
	return (q.Cause == "" || strings.Contains(j.Cause, q.Cause)) &&
		(q.Before.IsZero() || j.At.Before(q.Before)) &&
		(len(q.IDs) == 0 || slices.Contains(q.IDs, j.ID))
}

func (s *Store) jobOf(l partition.Lane, r partition.Side) (queue.Job, error) {
	j := queue.Job{Queue: l.Queue}
	if err := queue.ReadRecord(r.Record, &j, &event.Message{}); err != nil {
		return j, fmt.Errorf("job %s: %w", r.ID, err)
	}
	scope := l.Scope
	j.ID, j.Scope, j.Attempt, j.Cause = r.ID, scope, r.Attempt, r.Cause
	j.Msg.Meta.Scope = &scope
	j.At = time.Unix(0, r.At).UTC()
	if r.State == partition.Dead {
		j.At = time.Unix(0, r.Due).UTC()
	} else {
		j.NotBefore = s.part.Until(r.Due)
	}
	return j, nil
}

// eachSide calls fn for the side rows of a lane that an index holds, in order of ID.
func (s *Store) eachSide(l partition.Lane, prefix byte, from queue.ID, fn func(partition.Side) (bool, error)) error {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: idRow(prefix, from), UpperBound: rowEnd(row(prefix, l.ID))})
	if err != nil {
		return stateError("read", err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		r, err := s.side(parseID(l.ID, it.Key()), true)
		if err != nil {
			return err
		}
		if r.State == partition.Gone || prefix == rowDead && r.State != partition.Dead {
			continue
		}
		if more, err := fn(r); err != nil || !more {
			return err
		}
	}
	if err := it.Error(); err != nil {
		return stateError("read", err)
	}
	return nil
}

// eachOpen calls add for the open jobs of a lane, in order of ID, until it says that it
// wants no more: those of the side table come between those of the log.
func (s *Store) eachOpen(l partition.Lane, from queue.ID, add func(queue.Job) bool) error {
	sides := sidePages{s: s, lane: l, next: from}
	more := true
	seq := max(from.Seq, l.First)
	for {
		vs, err := s.stored(context.Background(), l.ID, seq, 1<<20)
		if err != nil {
			return err
		}
		if len(vs) == 0 {
			break
		}
		for _, v := range vs {
			if err := s.eachRecord(l, v, from, func(j queue.Job) (bool, error) {
				var err error
				if more, err = sides.upTo(j.ID, add); err != nil || !more {
					return false, err
				}
				more = add(j)
				return more, nil
			}); err != nil || !more {
				return err
			}
			seq = v.Seq + 1
		}
	}
	_, err := sides.upTo(queue.ID{Lane: l.ID, Seq: 1<<64 - 1}, add)
	return err
}

// sidePages reads the open side rows of a lane in order of ID, a page at a time.
type sidePages struct {
	s        *Store
	lane     partition.Lane
	next     queue.ID // where the next page begins
	complete bool     // there is no next page
	jobs     []queue.Job
}

// upTo calls add for the jobs before id; more is false once add wants no more.
func (p *sidePages) upTo(id queue.ID, add func(queue.Job) bool) (more bool, err error) {
	for {
		for len(p.jobs) == 0 {
			if p.complete {
				return true, nil
			}
			if err := p.load(); err != nil {
				return false, err
			}
		}
		if !p.jobs[0].ID.Before(id) {
			return true, nil
		}
		j := p.jobs[0]
		p.jobs = p.jobs[1:]
		if !add(j) {
			return false, nil
		}
	}
}

func (p *sidePages) load() error {
	n := 0
	p.complete = true
	return p.s.eachSide(p.lane, rowSide, p.next, func(r partition.Side) (bool, error) {
		if n++; n > adminPage {
			p.next, p.complete = r.ID, false
			return false, nil
		}
		if !r.Open() {
			return true, nil
		}
		j, err := p.s.jobOf(p.lane, r)
		p.jobs = append(p.jobs, j)
		return true, err
	})
}

// eachRecord calls fn for the jobs of a value that have not left the log.
func (s *Store) eachRecord(l partition.Lane, v partition.Value, from queue.ID, fn func(queue.Job) (bool, error)) error {
	rs, err := queue.OpenValue(v.Data)
	if err != nil {
		return err
	}
	part, err := s.get(row(rowPartly, l.ID, v.Seq))
	if err != nil {
		return err
	}
	var gone partition.Partly
	if part != nil {
		if gone, err = decodePartly(row(rowPartly, l.ID, v.Seq), part); err != nil {
			return err
		}
		if gone.Bits == nil {
			return nil
		}
	}
	for i := uint32(0); ; i++ {
		rec, err := rs.Next()
		if rec == nil || err != nil {
			return err
		}
		id := queue.ID{Lane: l.ID, Seq: v.Seq, Index: i}
		if id.Before(from) || gone.Bits != nil && gone.Bits[i>>6]&(1<<(i&63)) != 0 {
			continue
		}
		j, err := s.jobOf(l, partition.Side{ID: id, Record: rec, At: rs.At.UnixNano()})
		if err != nil {
			return err
		}
		h, err := queue.ReadHead(rec)
		if err != nil {
			return err
		}
		if h.NotBefore > 1 {
			j.NotBefore = time.Unix(0, h.NotBefore).UTC()
		}
		if more, err := fn(j); err != nil || !more {
			return err
		}
	}
}

// Requeue implements queue.Admin.
func (s *Store) Requeue(ctx context.Context, q queue.Search) (int, error) {
	return s.dead(ctx, q, "requeue", func(l partition.Lane, rows []partition.Side, t *partition.Tx) error {
		for _, r := range rows {
			j, err := s.jobOf(l, r)
			if err != nil {
				return err
			}
			j.NotBefore = time.Time{}
			if err := t.Append(j); err != nil {
				return err
			}
		}
		return nil
	})
}

// Drop implements queue.Admin.
func (s *Store) Drop(ctx context.Context, q queue.Search) (int, error) {
	return s.dead(ctx, q, "drop", nil)
}

// dead removes the dead jobs that q chooses, after fn has done with them what it wants.
func (s *Store) dead(ctx context.Context, q queue.Search, what string, fn func(partition.Lane, []partition.Side, *partition.Tx) error) (int, error) {
	if q.State != queue.Buried {
		return 0, fmt.Errorf("%s jobs: only dead jobs can be chosen", what)
	}
	if err := s.enter(); err != nil {
		return 0, err
	}
	defer s.leave()
	s.admin.Lock()
	defer s.admin.Unlock()
	total := 0
	for _, l := range s.lanesOf(q.Filter) {
		from := queue.ID{Lane: l.ID}
		for ctx.Err() == nil {
			rows, next, err := s.deadPage(l, &q, from)
			if err == nil && len(rows) > 0 {
				err = s.discard(l, rows, fn)
			}
			if err != nil {
				return total, fmt.Errorf("%s dead jobs of queue %q: %w", what, l.Queue, err)
			}
			total += len(rows)
			if next == (queue.ID{}) {
				break
			}
			from = next
		}
	}
	return total, ctx.Err()
}

// deadPage reads dead jobs that q chooses, and where to go on; zero at the end.
func (s *Store) deadPage(l partition.Lane, q *queue.Search, from queue.ID) (rows []partition.Side, next queue.ID, err error) {
	size := 0
	err = s.eachSide(l, rowDead, from, func(r partition.Side) (bool, error) {
		if len(rows) == adminPage || size > adminBytes {
			next = r.ID
			return false, nil
		}
		j, err := s.jobOf(l, r)
		if err != nil {
			return false, err
		}
		if matches(q, &j) {
			rows = append(rows, r)
			size += len(r.Record)
		}
		return true, nil
	})
	return rows, next, err
}

func (s *Store) discard(l partition.Lane, rows []partition.Side, fn func(partition.Lane, []partition.Side, *partition.Tx) error) error {
	tx := partition.NewTx(s.opt.Now(), s.record, nil)
	if fn != nil {
		if err := fn(l, rows, tx); err != nil {
			return err
		}
	}
	t := tx.Finish()
	defer t.Release()
	return s.commitTx(t, s.part.Discard(rows))
}
