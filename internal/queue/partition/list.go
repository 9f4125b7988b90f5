package partition

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
)

// Job is the job of a row of the lane, or of one that is still in the log.
func (l *Lane) Job(r *Side) (queue.Job, error) {
	j := queue.Job{Queue: l.Queue}
	if err := queue.ReadRecord(r.Record, &j, &event.Message{}); err != nil {
		return j, fmt.Errorf("job %s: %w", r.ID, err)
	}
	scope := l.Scope
	j.ID, j.Scope, j.Attempt, j.Cause = r.ID, scope, r.Attempt, r.Cause
	j.Msg.Meta.Scope = &scope
	j.At = time.Unix(0, r.At).UTC()
	if r.State == Dead {
		j.At = time.Unix(0, r.Due).UTC()
	} else if r.Due > 1 {
		j.NotBefore = time.Unix(0, r.Due).UTC()
	}
	return j, nil
}

// matches applies what of a search is not a choice of lanes.
func matches(q *queue.Search, j *queue.Job) bool {
	return (q.Cause == "" || strings.Contains(j.Cause, q.Cause)) &&
		(q.Before.IsZero() || j.At.Before(q.Before)) &&
		(len(q.IDs) == 0 || slices.Contains(q.IDs, j.ID))
}

// Choose returns those rows of the lane that a search chooses.
func (l *Lane) Choose(q *queue.Search, rows []Side) ([]Side, error) {
	var chosen []Side
	for i := range rows {
		j, err := l.Job(&rows[i])
		if err != nil {
			return nil, err
		}
		if matches(q, &j) {
			chosen = append(chosen, rows[i])
		}
	}
	return chosen, nil
}

// Requeue appends the dead jobs of rows of the lane again.
func (l *Lane) Requeue(rows []Side, tx *Tx) error {
	for i := range rows {
		j, err := l.Job(&rows[i])
		if err != nil {
			return err
		}
		j.NotBefore = time.Time{}
		if err := tx.Append(j); err != nil {
			return err
		}
	}
	return nil
}

// Span is where the jobs of a lane lie that a search may choose, from the first of its IDs there
// to the last: all of the lane when it has none. It reports whether there is such a place.
func Span(q *queue.Search, lane uint64) (first, last queue.ID, there bool) {
	first, last = queue.ID{Lane: lane, Seq: math.MaxUint64}, queue.ID{Lane: lane}
	if len(q.IDs) == 0 {
		last.Seq, last.Index = math.MaxUint64, math.MaxUint32
		return queue.ID{Lane: lane}, last, true
	}
	for _, id := range q.IDs {
		if id.Lane != lane {
			continue
		}
		if there = true; id.Before(first) {
			first = id
		}
		if last.Before(id) {
			last = id
		}
	}
	return first, last, there
}

// After is the next ID of a lane.
func After(id queue.ID) queue.ID {
	id.Index++
	return id
}

// Lister collects one page of a queue.Admin's List, lane after lane, in order of ID.
type Lister struct {
	Search queue.Search
	After  queue.ID // the page begins behind it
	Limit  int      // 0 means queue.DefaultLimit
	// Until is when a due time of the steady clock comes, as Partition.Until; nil where there
	// are none.
	Until func(due int64) time.Time
	Page  queue.Page
	Full  bool // there are more jobs than the page may have
}

// Reader reads a lane for a Lister.
type Reader struct {
	// Values returns values from seq on, in order; none where there are no more.
	Values func(ctx context.Context, seq uint64) ([]Value, error)
	// Sides returns side rows from an ID on to another, with their records and in order of ID,
	// not all at once; none where there are no more. When the search is for dead jobs they are
	// dead, else those that are not open are passed over.
	Sides func(ctx context.Context, from, to queue.ID) ([]Side, error)
}

// Lane adds the jobs of a lane: those of the side table come between those of the log.
func (s *Lister) Lane(ctx context.Context, l Lane, read Reader) error {
	from, last, there := Span(&s.Search, l.ID)
	if l.ID == s.After.Lane && !s.After.Before(from) {
		from = After(s.After)
	}
	if !there || last.Before(from) {
		return nil
	}
	m := merge{Lister: s, lane: &l, read: read, from: from, next: from, last: last}
	if s.Search.State != queue.Buried {
		if err := m.values(ctx); err != nil || s.Full {
			return err
		}
	}
	return m.sides(ctx, func(queue.ID) bool { return true })
}

// merge adds the jobs of one lane.
type merge struct {
	*Lister
	lane *Lane
	read Reader
	from queue.ID // the first job to add
	last queue.ID // the last that may be added
	next queue.ID // where the next side rows begin
	rows []Side   // side rows that were read and not added
	end  bool     // there are no further ones
}

func (m *merge) add(r *Side) error {
	j, err := m.lane.Job(r)
	if err != nil || !matches(&m.Search, &j) {
		return err
	}
	if r.Due < 0 && m.Until != nil {
		j.NotBefore = m.Until(r.Due)
	}
	if len(m.Page.Jobs) == cmp.Or(m.Limit, queue.DefaultLimit) {
		m.Page.Next, m.Full = m.Page.Jobs[len(m.Page.Jobs)-1].ID, true
		return nil
	}
	m.Page.Jobs = append(m.Page.Jobs, j)
	return nil
}

func (m *merge) values(ctx context.Context) error {
	for seq := max(m.from.Seq, m.lane.First); seq < m.lane.Tail && seq <= m.last.Seq; {
		vs, err := m.read.Values(ctx, seq)
		if err != nil || len(vs) == 0 {
			return err
		}
		for _, v := range vs {
			if v.Seq > m.last.Seq {
				return nil
			}
			if err := m.value(ctx, v); err != nil || m.Full {
				return err
			}
			seq = v.Seq + 1
		}
	}
	return nil
}

// value adds the jobs of a value that have not left the log, and the side rows before each.
func (m *merge) value(ctx context.Context, v Value) error {
	rs, err := queue.OpenValue(v.Data)
	if err != nil {
		return err
	}
	var gone []uint64
	if i, found := slices.BinarySearchFunc(m.lane.Partly, v.Seq, func(p Partly, seq uint64) int { return cmp.Compare(p.Seq, seq) }); found {
		if gone = m.lane.Partly[i].Bits; gone == nil {
			return nil
		}
	}
	for i := uint32(0); ; i++ {
		rec, err := rs.Next()
		if rec == nil || err != nil {
			return err
		}
		id := queue.ID{Lane: m.lane.ID, Seq: v.Seq, Index: i}
		if id.Before(m.from) || gone != nil && gone[i>>6]&(1<<(i&63)) != 0 {
			continue
		}
		if err := m.sides(ctx, func(row queue.ID) bool { return row.Before(id) }); err != nil || m.Full {
			return err
		}
		head, err := queue.ReadHead(rec)
		if err != nil {
			return err
		}
		if err := m.add(&Side{ID: id, State: Retry, Record: rec, At: rs.At.UnixNano(), Due: head.NotBefore}); err != nil || m.Full {
			return err
		}
	}
}

// sides adds the side rows that come next, for as long as they are due.
func (m *merge) sides(ctx context.Context, due func(queue.ID) bool) error {
	for !m.Full {
		if len(m.rows) == 0 && !m.end {
			rows, err := m.read.Sides(ctx, m.next, m.last)
			if err := cmp.Or(err, ctx.Err()); err != nil {
				return err
			}
			if m.end = len(rows) == 0; !m.end {
				m.next = After(rows[len(rows)-1].ID)
			}
			m.rows = rows
		}
		if len(m.rows) == 0 || !due(m.rows[0].ID) {
			return nil
		}
		r := m.rows[0]
		m.rows = m.rows[1:]
		if m.Search.State != queue.Buried && !r.Open() {
			continue
		}
		if err := m.add(&r); err != nil {
			return err
		}
	}
	return nil
}
