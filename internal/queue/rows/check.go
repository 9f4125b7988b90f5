package rows

import (
	"context"
	"fmt"

	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/log"
	"github.com/weirdata/weir/internal/queue/partition"
)

// Report is what Check has read.
type Report struct {
	Segments, Commits, Values int64 // of the log
	Open, Side, Records       int64 // batches with open jobs, jobs of the side table, records
}

// Check reads the whole store and verifies every checksum, every place and every number.
// progress, when it is not nil, is told how many bytes of how many were read: those of the
// log, of what is open in it once more, and of the state, as they were when it began. It
// never goes back, and ends with all of them. The error names the first thing that is
// damaged.
func (s *Store) Check(ctx context.Context, progress func(done, total int64)) (Report, error) {
	if err := s.enter(); err != nil {
		return Report{}, err
	}
	defer s.leave()
	s.maintain.Lock() // no segment is deleted meanwhile
	defer s.maintain.Unlock()
	var r Report
	u, err := s.Usage()
	if err != nil {
		return r, fmt.Errorf("check the queue store %s: %w", s.dir, err)
	}
	m := &meter{tell: progress, total: u.Log + u.Open + u.State}
	for _, step := range []struct {
		check func(context.Context, *Report, *meter) error
		bytes int64
	}{{s.checkLog, u.Log}, {s.checkLanes, u.Open}, {s.checkState, u.State}} {
		m.step += step.bytes
		if err := step.check(ctx, &r, m); err != nil {
			return r, fmt.Errorf("check the queue store %s: %w", s.dir, err)
		}
		m.read(m.step - m.done)
	}
	return r, nil
}

// meter tells how far a check is.
type meter struct {
	tell        func(done, total int64) // may be nil
	done, total int64
	step        int64 // what is read when the present step is over
}

// read counts n more bytes. The store may have grown meanwhile, and what a row takes on
// disk is not known: a step counts for no more than was foreseen.
func (m *meter) read(n int64) {
	m.done = min(m.done+n, m.step)
	if m.tell != nil {
		m.tell(m.done, m.total)
	}
}

func (s *Store) checkLog(ctx context.Context, r *Report, m *meter) error {
	for _, g := range s.log.Segments() {
		at := log.Position{Segment: g.Number}
		to := log.Position{Segment: g.Number, Offset: s.usageOf(g.Number).end}
		if err := s.log.Scan(ctx, at, to, func(e *log.Entry) error {
			f, err := decode(e)
			if err != nil {
				return err
			}
			r.Commits++
			r.Values += int64(len(f.appends))
			m.read(e.End.Offset - at.Offset)
			at = e.End
			return nil
		}); err != nil {
			return err
		}
		r.Segments++
	}
	return nil
}

// checkLanes reads every value that is open, and every side row.
func (s *Store) checkLanes(ctx context.Context, r *Report, m *meter) error {
	for _, l := range s.part.Lanes() {
		for seq := l.First; seq < l.Tail; {
			vs, err := s.stored(ctx, l.ID, seq, 4<<20)
			if err != nil {
				return err
			}
			now, _ := s.part.StateOf(l.ID)
			if len(vs) == 0 && now.First < now.Tail && seq < now.First {
				seq = now.First
				continue
			}
			if len(vs) == 0 {
				break
			}
			for _, v := range vs {
				if err := checkValue(v); err != nil {
					return fmt.Errorf("value %d of lane %d: %w", v.Seq, l.ID, err)
				}
				r.Open++
				seq = v.Seq + 1
				m.read(int64(len(v.Data)))
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		if err := s.eachSide(rowSide, queue.ID{Lane: l.ID}, func(row partition.Side) (bool, error) {
			r.Side++
			_, err := l.Job(&row)
			return true, err
		}); err != nil {
			return err
		}
	}
	return nil
}

func checkValue(v partition.Value) error {
	rs, err := queue.OpenValue(v.Data)
	for err == nil {
		var rec []byte
		if rec, err = rs.Next(); rec == nil {
			break
		}
		_, err = queue.ReadHead(rec)
	}
	return err
}

func (s *Store) checkState(ctx context.Context, r *Report, m *meter) error {
	// Reading every row verifies the checksum of every block.
	n, bytes := 0, 0
	return s.each(nil, func(k, v []byte) error {
		if len(k) > 0 && k[0] == rowKV {
			r.Records++
		}
		bytes += len(k) + len(v)
		if n++; n%4096 == 0 {
			m.read(int64(bytes))
			bytes = 0
		}
		return ctx.Err()
	})
}
