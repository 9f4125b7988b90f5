package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/partition"
)

// Salvaged is what Salvage kept of a damaged store, and what it could not.
type Salvaged struct {
	// Damaged is the directory that the damaged store is in now, as it was found.
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

// salvageSuffix ends the directory in which a store is salvaged; damagedSuffix that of the
// damaged one, with a number when there is one already.
const (
	salvageSuffix = ".salvage"
	damagedSuffix = ".damaged"
)

// Salvage makes of a store that cannot be opened, or whose check fails, one with
// everything that can still be read, and puts it in its place. It works on a copy whose
// segments are links, so it takes little disk space, and the damaged store is kept, as it
// was, beside the new one. Frames, values and records whose checksum does not match are
// left out, and so is what needs them; nothing is invented. The store must not be open.
// It fails with ErrCorrupt, and changes nothing, when the state is damaged in a way that
// the log cannot make good. progress is told how many bytes of how many were read.
func Salvage(ctx context.Context, dir string, opt Options, progress func(done, total int64)) (Salvaged, error) {
	opt = opt.withDefaults()
	r, err := salvage(ctx, dir, opt, progress)
	if err != nil {
		return r, fmt.Errorf("salvage the queue store %s: %w", dir, err)
	}
	return r, nil
}

func salvage(ctx context.Context, dir string, opt Options, progress func(done, total int64)) (r Salvaged, err error) {
	fs := opt.FS
	if _, err := fs.Stat(fs.PathJoin(dir, "log")); err != nil {
		return r, fmt.Errorf("there is no store: %w", err)
	}
	lock, err := fs.Lock(fs.PathJoin(dir, "LOCK"))
	if err != nil {
		return r, fmt.Errorf("lock it: %w: %w: stop the other process first", err, queue.ErrInUse)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	clone := dir + salvageSuffix
	r, err = repair(ctx, dir, clone, false, opt, progress)
	if errors.Is(err, queue.ErrCorrupt) {
		// The state is damaged. A log that is whole from its start holds all of it.
		opt.Log.Error("the state of the queue store is made again from its log", "dir", dir, "error", err)
		var again error
		if r, again = repair(ctx, dir, clone, true, opt, progress); again != nil {
			err = fmt.Errorf("%w; and without the state: %w", err, again)
		} else {
			err = nil
		}
	}
	if err != nil {
		return Salvaged{}, errors.Join(err, fs.RemoveAll(clone))
	}
	if r.Damaged, err = free(fs, dir+damagedSuffix); err != nil {
		return r, err
	}
	if err := fs.Rename(dir, r.Damaged); err != nil {
		return r, fmt.Errorf("the salvaged store is complete in %s, but cannot take the place of %s: %w", clone, dir, err)
	}
	if err := fs.Rename(clone, dir); err != nil {
		return r, fmt.Errorf("the salvaged store is complete in %s, and the damaged one now in %s, but it cannot take its place: %w", clone, r.Damaged, err)
	}
	s := &Store{fs: fs, dir: dir}
	return r, s.syncParent()
}

// free is the first name that nothing has: the path, or the path and a number.
func free(fs vfs.FS, path string) (string, error) {
	for n := 1; ; n++ {
		name := path
		if n > 1 {
			name = fmt.Sprintf("%s.%d", path, n)
		}
		if _, err := fs.Stat(name); errors.Is(err, os.ErrNotExist) {
			return name, nil
		} else if err != nil {
			return "", fmt.Errorf("look for a name for the damaged store: %w", err)
		}
	}
}

// linkDir copies a store. Files that are never written again once they are complete are
// linked where the file system can.
func linkDir(fs vfs.FS, from, to string) error {
	if err := fs.MkdirAll(to, 0o755); err != nil {
		return fmt.Errorf("create %s: %w", to, err)
	}
	names, err := fs.List(from)
	if err != nil {
		return fmt.Errorf("list %s: %w", from, err)
	}
	for _, name := range names {
		a, b := fs.PathJoin(from, name), fs.PathJoin(to, name)
		info, err := fs.Stat(a)
		switch {
		case err != nil:
		case info.IsDir():
			err = linkDir(fs, a, b)
		case name == "LOCK":
		case strings.HasSuffix(name, segmentExt) && fs.Link(a, b) == nil:
		default:
			err = vfs.Copy(fs, a, b)
		}
		if err != nil {
			return fmt.Errorf("copy %s: %w", a, err)
		}
	}
	return nil
}

// repair copies a damaged store, with or without its state, opens the copy, leaves out
// what cannot be read, and checks the rest.
func repair(ctx context.Context, dir, clone string, stateless bool, opt Options, progress func(done, total int64)) (r Salvaged, err error) {
	if err := opt.FS.RemoveAll(clone); err != nil {
		return r, fmt.Errorf("remove %s, which an earlier salvage left: %w", clone, err)
	}
	if err := linkDir(opt.FS, dir, clone); err != nil {
		return r, err
	}
	if stateless {
		if err := opt.FS.RemoveAll(opt.FS.PathJoin(clone, "state")); err != nil {
			return r, fmt.Errorf("remove the state from %s: %w", clone, err)
		}
	}
	s := newStore(clone, opt)
	s.salvaged = &r
	if err := s.start(); err != nil {
		return r, err
	}
	err = s.leaveOut(ctx, &r)
	if err == nil {
		_, err = s.Check(ctx, progress)
	}
	if err == nil {
		st := s.part.Totals()
		r.Open, r.Dead = st.Open(), st.Dead
	}
	return r, errors.Join(err, s.Close())
}

// leaveOutSegment removes a segment whose header cannot be read.
func (s *Store) leaveOutSegment(path string, cause error) error {
	s.salvaged.DamagedSegments++
	s.opt.Log.Error("a segment of the log is lost", "path", path, "error", cause)
	if err := s.fs.Remove(path); err != nil {
		return fmt.Errorf("remove segment %s, which is damaged: %w", path, err)
	}
	return nil
}

// leaveOut settles the values and drops the side rows that cannot be read, and empties the
// segments that have something else than frames.
func (s *Store) leaveOut(ctx context.Context, r *Salvaged) error {
	damaged := map[uint64]bool{}
	for _, n := range s.segmentNumbers() {
		if g := s.segments[n]; g != s.current {
			whole, err := s.whole(ctx, g)
			if err != nil {
				return err
			}
			damaged[n] = !whole
		}
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

// whole reports whether a segment is frames from its start to its end.
func (s *Store) whole(ctx context.Context, g *segment) (bool, error) {
	r, err := newFrameReader(s.fs, segmentPath(s.fs, s.dir, g.number), segmentHeader, g.size)
	if err != nil {
		return false, err
	}
	defer r.close()
	for {
		_, _, err := r.next()
		_, bad := errors.AsType[errFrame](err)
		switch {
		case isEOF(err):
			return true, ctx.Err()
		case bad:
			return false, nil
		case err != nil || ctx.Err() != nil:
			return false, errors.Join(err, ctx.Err())
		}
	}
}

// leaveOutValues settles the values of a lane that cannot be read, and appends those once
// more that lie in a damaged segment.
func (s *Store) leaveOutValues(ctx context.Context, l partition.Lane, r *Salvaged, damaged map[uint64]bool) error {
	c := &partition.Change{}
	moves := func() *request { return &request{moves: true, done: make(chan error, 1)} }
	req, size := moves(), 0
	err := s.each(row(rowValue, l.ID), func(k, v []byte) error {
		at, err := decodeLocation(v)
		if err != nil {
			return err
		}
		out := []partition.Value{{Seq: seqOf(k)}}
		if err = s.load([]location{at}, out); err == nil {
			err = checkValue(out[0])
		}
		switch {
		case err == nil && !damaged[at.segment]:
			return ctx.Err()
		case err == nil:
			req.appends = append(req.appends, appendEntry{lane: partition.Lane{ID: l.ID}, seq: out[0].Seq, count: at.count,
				flags: appendMoved, crc: at.crc, value: out[0].Data})
			if size += at.size; size < compactBytes {
				return nil
			}
			full := req
			req, size = moves(), 0
			return s.submit(full)
		case !errors.Is(err, queue.ErrCorrupt) && !errors.Is(err, errMoved) && !isEOF(err):
			return err
		}
		s.opt.Log.Error("a batch of waiting jobs is lost", "queue", l.Queue, "batch", out[0].Seq, "error", err)
		r.LostBatches++
		c.Left = append(c.Left, partition.Left{Lane: l.ID, Seq: out[0].Seq, Count: at.count, Size: at.size})
		return nil
	})
	if err == nil && len(req.appends) > 0 {
		err = s.submit(req)
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
			_, err = s.jobOf(l, full)
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

// salvageReplay applies what can be read of the log beyond the state.
func (s *Store) salvageReplay(at place) error {
	numbers := s.segmentNumbers()
	if at.segment == 0 && len(numbers) > 0 && s.segments[numbers[0]].first != 1 {
		return fmt.Errorf("the state is lost, and the log begins at commit %d only: %w", s.segments[numbers[0]].first, queue.ErrCorrupt)
	}
	s.mark.end = at
	for i, n := range numbers {
		g := s.segments[n]
		if n < at.segment {
			continue
		}
		from := int64(segmentHeader)
		if n == at.segment {
			from = min(max(at.offset, segmentHeader), max(g.found, segmentHeader))
		}
		// What follows the last commit of a segment was never acknowledged.
		last := ^uint64(0)
		if i+1 < len(numbers) {
			last = s.segments[numbers[i+1]].first - 1
		}
		if err := s.salvageSegment(g, from, last); err != nil {
			return err
		}
		s.mark.end = place{n, g.size}
	}
	return nil
}

func (s *Store) salvageSegment(g *segment, from int64, last uint64) error {
	r, err := newFrameReader(s.fs, segmentPath(s.fs, s.dir, g.number), from, g.found)
	if err != nil {
		return err
	}
	defer r.close()
	g.size = max(g.size, from)
	for {
		start := r.at
		f, _, err := r.next()
		if _, bad := errors.AsType[errFrame](err); bad {
			if f, err = r.resume(s.commit); err == nil || isEOF(err) {
				s.salvaged.DamagedBytes += r.frameAt - start
			}
		}
		switch {
		case isEOF(err):
			return nil
		case err != nil:
			return err
		case f.commit > last:
			return nil
		case f.commit <= s.commit:
			continue
		}
		s.salvaged.LostCommits += int64(f.commit - s.commit - 1)
		if err := s.mend(f); err != nil {
			return err
		}
		s.commit = f.commit
		if err := s.apply([]*frame{f}, place{g.number, r.at}, true); err != nil {
			return fmt.Errorf("replay commit %d: %w", f.commit, err)
		}
	}
}

// resume goes on to the next valid frame of a commit after the given one; io.EOF when
// there is none. frameAt is where it starts then, or the end.
func (r *frameReader) resume(after uint64) (*frame, error) {
	for at := r.at + 1; at+frameHeader <= r.end; at++ {
		r.at = at
		b, err := r.fill(frameHeader)
		if err != nil {
			return nil, err
		}
		size, commit, ok := frameSize(b)
		if !ok || commit <= after || size > r.end-at {
			continue
		}
		if b, err = r.fill(size); err != nil {
			return nil, err
		}
		if f, _, err := decodeFrame(b, at); err == nil {
			r.frameAt, r.at = at, at+size
			return f, nil
		}
	}
	r.at, r.frameAt = r.end, r.end
	return nil, io.EOF
}

// mend takes out of f what needs commits that are lost, and puts into it an empty batch,
// settled at once, for each batch before its own that is lost.
func (s *Store) mend(f *frame) error {
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
			appends = append(appends, appendEntry{lane: e.lane, seq: seq, count: 1, crc: checksum(nil), offset: e.offset})
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
