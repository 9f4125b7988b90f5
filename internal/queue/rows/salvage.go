package rows

import (
	"context"
	"errors"
	"fmt"

	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/log"
	"github.com/weirdata/weir/internal/queue/partition"
)

// Salvaged is what was kept of a damaged store, and what could not be.
type Salvaged struct {
	// Damaged is where the damaged store is now, as it was found.
	Damaged string
	// Jobs that the salvaged store holds.
	Open, Dead int64
	// Commits that were acknowledged and are not in the log, of those that are known. What
	// they appended, settled or put is lost; what they settled is handed out again.
	LostCommits int64
	// Batches of open jobs that are damaged or in a segment that is missing, and their open
	// jobs; jobs of the side table and dead jobs whose record is damaged.
	LostBatches, LostJobs int64
	// Bytes of the log that are no frame and were passed over.
	DamagedBytes int64
	// Segments that are missing or whose header is damaged.
	DamagedSegments int64
	// MarkLost says that the high-water mark was lost or damaged, so that nobody knows
	// whether commits are missing at the end of the log.
	MarkLost bool
}

// Lost reports whether anything that was acknowledged is known to be missing. A segment
// that is lost need not be a loss: nothing may be open in it.
func (r *Salvaged) Lost() bool { return r.LostCommits+r.LostBatches+r.LostJobs > 0 }

// Salvage makes of a store that cannot be opened, or whose check fails, one with
// everything that can still be read, and closes it. Its log was opened to note in lost
// what it passes over. Values and records whose checksum does not match are left out, and
// so is what needs them; nothing is invented. It fails with ErrCorrupt when the state is
// damaged in a way that the log cannot make good. progress is told how many bytes of how
// many were read.
func Salvage(ctx context.Context, l log.Log, lost *log.Lost, dir string, opt Options, progress func(done, total int64)) (Salvaged, error) {
	var r Salvaged
	s := newStore(l, dir, opt)
	s.salvaged = &r
	if err := s.start(ctx); err != nil {
		return r, err
	}
	err := s.leaveOut(ctx, &r)
	if err == nil {
		_, err = s.Check(ctx, progress)
	}
	if err == nil {
		st := s.part.Totals()
		r.Open, r.Dead = st.Open(), st.Dead
	}
	r.LostCommits, r.DamagedBytes, r.MarkLost = lost.Entries, lost.Bytes, lost.EndUnknown
	r.DamagedSegments += lost.Segments
	return r, errors.Join(err, s.Close())
}

// leaveOut settles the values and drops the side rows that cannot be read, and empties the
// segments that have something else than frames.
func (s *Store) leaveOut(ctx context.Context, r *Salvaged) error {
	damaged := map[uint64]bool{}
	for _, g := range s.written() {
		whole, err := s.whole(ctx, g.Number)
		if err != nil {
			return err
		}
		damaged[g.Number] = !whole
	}
	for _, l := range s.part.Lanes() {
		if err := s.leaveOutValues(ctx, l, r, damaged); err != nil {
			return err
		}
		if err := s.leaveOutSides(ctx, l, r); err != nil {
			return err
		}
	}
	return s.flush()
}

// whole reports whether a segment is commits from its start to its end.
func (s *Store) whole(ctx context.Context, n uint64) (bool, error) {
	err := s.log.Scan(ctx, log.Position{Segment: n}, log.Position{Segment: n, Offset: s.usageOf(n).end}, func(e *log.Entry) error {
		_, err := decode(e)
		return err
	})
	if errors.Is(err, queue.ErrCorrupt) {
		return false, ctx.Err()
	}
	return err == nil, err
}

// leaveOutValues settles the values of a lane that cannot be read, and appends those once
// more that lie in a damaged segment.
func (s *Store) leaveOutValues(ctx context.Context, l partition.Lane, r *Salvaged, damaged map[uint64]bool) error {
	c := &partition.Change{}
	m := moves{s: s}
	err := s.each(row(rowValue, l.ID), func(k, v []byte) error {
		at, err := decodeLocation(v)
		if err != nil {
			return err
		}
		out := []partition.Value{{Seq: seqOf(k)}}
		if err = s.load(ctx, []location{at}, out); err == nil {
			err = checkValue(out[0])
		}
		switch {
		case err == nil && !damaged[at.Segment]:
			return ctx.Err()
		case err == nil:
			return m.add(appendEntry{lane: partition.Lane{ID: l.ID}, seq: out[0].Seq, count: at.count, crc: at.crc, value: out[0].Data})
		case !errors.Is(err, queue.ErrCorrupt) && !errors.Is(err, errMoved):
			return err
		}
		s.opt.Log.Error("a batch of waiting jobs is lost", "queue", l.Queue, "batch", out[0].Seq, "error", err)
		r.LostBatches++
		c.Left = append(c.Left, partition.Left{Lane: l.ID, Seq: out[0].Seq, Count: at.count, Size: at.size})
		return nil
	})
	if err == nil {
		err = m.submit()
	}
	if err != nil || c.Empty() {
		return err
	}
	before := s.part.Totals().Open()
	err = s.Move(ctx, c)
	r.LostJobs += before - s.part.Totals().Open()
	return err
}

func (s *Store) leaveOutSides(ctx context.Context, l partition.Lane, r *Salvaged) error {
	var lost []partition.Side
	err := s.each(row(rowSide, l.ID), func(k, _ []byte) error {
		id := parseID(l.ID, k)
		full, err := s.side(id, true)
		if err == nil {
			_, err = l.Job(&full)
		}
		if err == nil || !errors.Is(err, queue.ErrCorrupt) {
			return err
		}
		bare, serr := s.side(id, false)
		if serr != nil {
			return serr
		}
		s.opt.Log.Error("a job is lost", "job", id.String(), "error", err)
		lost = append(lost, bare)
		r.LostJobs++
		return nil
	})
	if err != nil || len(lost) == 0 {
		return err
	}
	return s.Move(ctx, s.part.Discard(lost))
}

// mend takes out of f what needs commits that are lost, and puts into it an empty batch,
// settled at once, for each batch before its own that is lost.
func (s *Store) mend(f *transaction) error {
	var appends []appendEntry
	c := &partition.Change{}
	tails := map[uint64]uint64{}
	tail := func(l partition.Lane) uint64 {
		if t, ok := tails[l.ID]; ok {
			return t
		}
		if t, ok := s.tails[l.ID]; ok {
			return t
		}
		return 0
	}
	for _, e := range f.appends {
		if e.flags&appendMoved != 0 {
			appends = append(appends, e)
			continue
		}
		t := tail(e.lane)
		switch {
		case t == 0 && e.flags&appendNew == 0:
			// The commit that named the lane is lost.
			e.flags |= appendNew
			e.lane.Queue = fmt.Sprintf("salvaged-%d", e.lane.ID)
		case t > e.seq:
			continue // it is there
		}
		for seq := t; t > 0 && seq < e.seq; seq++ {
			s.salvaged.LostBatches++
			appends = append(appends, appendEntry{lane: e.lane, seq: seq, count: 1, crc: checksum(nil), at: e.at})
			c.Left = append(c.Left, partition.Left{Lane: e.lane.ID, Seq: seq, Count: 1})
		}
		tails[e.lane.ID] = e.seq + 1
		appends = append(appends, e)
	}
	for i := range f.change.Left {
		left := f.change.Left[i]
		l, ok := s.part.StateOf(left.Lane)
		if t := tail(partition.Lane{ID: left.Lane}); t > left.Seq && (!ok || left.Seq >= l.First) {
			c.Left = append(c.Left, left)
		}
	}
	for i := range f.change.Side {
		r := f.change.Side[i]
		was, err := s.side(r.ID, false)
		if err != nil {
			return err
		}
		_, known := s.part.StateOf(r.ID.Lane)
		switch {
		case !known, r.Record == nil && was.State == partition.Gone:
			if r.State != partition.Gone {
				s.salvaged.LostJobs++
			}
			continue
		case was.State != partition.Gone:
			r.Record = nil
			r.Was, r.WasDue, r.WasAttempt = was.State, was.Due, was.Attempt
		}
		c.Side = append(c.Side, r)
	}
	f.appends, f.change = appends, c
	return nil
}
