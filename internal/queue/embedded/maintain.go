package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirdata/weir/internal/queue"
)

const (
	markSync      = 100 * time.Millisecond // a written mark is synced after this
	limitsCheck   = time.Second
	expiryCheck   = time.Minute
	compactCheck  = 10 * time.Second
	compactBytes  = 4 << 20   // values moved in one commit
	defaultMargin = 1 << 30   // of Options.MinFree
	compactFloor  = 256 << 20 // dead bytes below which segments are left alone
	cachedBytes   = 256 << 20 // newest bytes of the log that the kernel may keep in memory
)

// maintenance syncs the mark, flushes the state, deletes and empties segments, watches
// the disk and lets dead jobs expire.
func (s *Store) maintenance() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	tick := time.NewTicker(markSync)
	defer tick.Stop()
	var limits, expiry, compact, clocks time.Duration
	s.checkLimits()
	for {
		select {
		case <-s.closing:
			return
		case <-s.flushNow:
			s.report("flush the state", s.flush())
			s.checkLimits()
		case <-tick.C:
			limits, expiry, compact, clocks = limits+markSync, expiry+markSync, compact+markSync, clocks+markSync
			if s.markDirty.CompareAndSwap(true, false) {
				if err := s.markFile.SyncData(); err != nil {
					_ = s.fail(fmt.Errorf("sync the high-water mark: %w", err)) // every call returns it from now on
				}
			}
		}
		if clocks >= clockCheck {
			clocks = 0
			s.report("keep the time", s.compareClocks())
		}
		if limits >= limitsCheck {
			limits = 0
			s.checkLimits()
		}
		if expiry >= expiryCheck {
			expiry = 0
			s.report("let dead jobs expire", s.expireDead(ctx))
		}
		if compact >= compactCheck {
			compact = 0
			if s.deadBytes() > compactFloor && s.enter() == nil {
				s.report("compact the log", s.compact(ctx, 2))
				s.leave()
			}
		}
	}
}

func (s *Store) report(what string, err error) {
	if err != nil && !errors.Is(err, queue.ErrClosed) {
		s.opt.Log.Warn("maintenance of the queue store failed", "task", what, "dir", s.dir, "error", err)
	}
}

// nudge has the state flushed soon.
func (s *Store) nudge() {
	select {
	case s.flushNow <- struct{}{}:
	default:
	}
}

// flush puts the state on disk and deletes the segments that are not needed any more:
// nothing in them is open, and the state on disk says so.
func (s *Store) flush() error {
	s.maintain.Lock()
	defer s.maintain.Unlock()
	s.applying.Lock()
	n := s.applied.Load()
	s.grown.Store(0)
	var dead []*segment
	s.mu.Lock()
	for _, g := range s.segments {
		next := s.segments[g.number+1]
		if g != s.current && g.live == 0 && (next == nil || next.first <= n+1) {
			dead = append(dead, g)
		}
	}
	s.mu.Unlock()
	s.applying.Unlock()
	if err := s.db.Flush(); err != nil {
		return stateError("flush", err)
	}
	s.flushed.Store(n)
	for _, g := range dead {
		if err := s.deleteSegment(g); err != nil {
			return err
		}
	}
	s.forgetOld(cachedBytes)
	return nil
}

// forgetOld has the kernel forget what it holds of segments that are more than keep bytes
// behind the end of the log: a backlog would fill its memory with what nobody reads for long, at the expense
// of other files, and taking new memory for each page costs several times what a write
// into used memory does.
func (s *Store) forgetOld(keep int64) {
	numbers := s.segmentNumbers()
	newer := int64(0)
	for _, n := range slices.Backward(numbers) {
		s.mu.Lock()
		g := s.segments[n]
		size, old := int64(0), false
		if g != nil {
			size = g.size
			old = newer >= keep && !g.dropped
			g.dropped = g.dropped || old
		}
		s.mu.Unlock()
		newer += size
		if old {
			s.report("let go of an old segment", g.forget(s.fs, s.dir, &s.files))
		}
	}
}

func (s *Store) deleteSegment(g *segment) error {
	s.mu.Lock()
	delete(s.segments, g.number)
	s.mu.Unlock()
	s.logBytes.Add(-g.size)
	g.remove(&s.files)
	path := segmentPath(s.fs, s.dir, g.number)
	if err := s.fs.Remove(path); err != nil {
		return fmt.Errorf("delete segment %s: %w", path, err)
	}
	if err := s.db.Delete(row(rowSegment, g.number), pebble.NoSync); err != nil {
		return stateError("write", err)
	}
	return nil
}

// Usage is the disk space of a store, in bytes.
type Usage struct {
	Log      int64 // segments
	Open     int64 // of those, jobs that are not settled
	State    int64
	Free     int64 // on the disk; 0 when not known
	Segments int
}

// Usage says how much disk space the store takes.
func (s *Store) Usage() (Usage, error) {
	var u Usage
	s.mu.Lock()
	for _, g := range s.segments {
		u.Log += g.size
		u.Open += g.bytes
		u.Segments++
	}
	s.mu.Unlock()
	u.State = int64(s.db.Metrics().DiskSpaceUsage())
	s.stateBytes.Store(u.State)
	d, err := s.fs.GetDiskUsage(s.dir)
	if errors.Is(err, vfs.ErrUnsupported) {
		return u, nil
	}
	if err != nil {
		return u, fmt.Errorf("ask for the free space of %s: %w", s.dir, err)
	}
	u.Free = int64(d.AvailBytes)
	return u, nil
}

func (s *Store) deadBytes() int64 {
	u := int64(0)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.segments {
		if g != s.current {
			u += g.size - g.bytes
		}
	}
	return u
}

// checkLimits decides whether the store takes new work.
func (s *Store) checkLimits() {
	u, err := s.Usage()
	if err != nil {
		s.report("check its limits", err)
		return
	}
	why := ""
	if used := u.Log + u.State; s.opt.MaxBytes > 0 && used >= s.opt.MaxBytes {
		why = fmt.Sprintf("it takes %d bytes, its limit is %d", used, s.opt.MaxBytes)
	}
	if d, err := s.fs.GetDiskUsage(s.dir); err == nil && why == "" {
		floor := uint64(s.opt.MinFree)
		if floor == 0 {
			floor = min(defaultMargin, d.TotalBytes/10)
		}
		if d.AvailBytes < floor {
			why = fmt.Sprintf("the disk has %d bytes free, %d must stay free", d.AvailBytes, floor)
		}
	}
	was := s.full.Load()
	if why == "" {
		if was != nil {
			s.full.Store(nil)
			s.opt.Log.Info("the queue store takes new work again", "dir", s.dir)
		}
		return
	}
	s.full.Store(&why)
	if was == nil {
		s.opt.Log.Warn("the queue store takes no new work", "dir", s.dir, "reason", why)
		s.nudge()
	}
}

func (s *Store) expireDead(ctx context.Context) error {
	if s.opt.DeadRetention <= 0 {
		return nil
	}
	n, err := s.Drop(ctx, queue.Search{State: queue.Buried, Before: s.opt.Now().Add(-s.opt.DeadRetention)})
	if n > 0 {
		s.opt.Log.Info("dead jobs expired", "dir", s.dir, "jobs", n)
	}
	return err
}

// Compact empties the segments that are mostly dead, by appending what is open in them
// once more, and gives their disk space back.
func (s *Store) Compact(ctx context.Context) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	if err := errors.Join(s.compact(ctx, 1), ctx.Err()); err != nil {
		return fmt.Errorf("compact the queue store %s: %w", s.dir, err)
	}
	// The first flush puts on disk that the segments are empty, and deletes them.
	if err := s.flush(); err != nil {
		return err
	}
	if err := s.db.Compact(ctx, []byte{0}, []byte{0xff}, false); err != nil {
		return stateError("compact", err)
	}
	return nil
}

// compact empties the segments of which less than a part in parts is open; parts 1
// means every segment that holds something dead.
func (s *Store) compact(ctx context.Context, parts int64) error {
	for _, n := range s.segmentNumbers() {
		s.mu.Lock()
		g := s.segments[n]
		wanted := g != nil && g != s.current && g.live > 0 && g.bytes*parts < g.size-segmentHeader-g.size/64
		s.mu.Unlock()
		if !wanted {
			continue
		}
		if err := s.empty(ctx, g); err != nil {
			return err
		}
	}
	return nil
}

// empty appends what is open in a segment once more.
func (s *Store) empty(ctx context.Context, g *segment) error {
	r, err := newFrameReader(s.fs, segmentPath(s.fs, s.dir, g.number), segmentHeader, g.size)
	if err != nil {
		return err
	}
	defer r.close()
	req := &request{moves: true, done: make(chan error, 1)}
	size := 0
	for {
		f, at, err := r.next()
		if err != nil || size >= compactBytes {
			if len(req.appends) > 0 {
				if err := s.submit(req); err != nil {
					return err
				}
			}
			req, size = &request{moves: true, done: make(chan error, 1)}, 0
		}
		if isEOF(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read segment %d at offset %d: %w: %w", g.number, at, err, queue.ErrCorrupt)
		}
		if err := errors.Join(ctx.Err(), s.stopped()); err != nil {
			return err
		}
		for i := range f.appends {
			e := &f.appends[i]
			v, err := s.get(row(rowValue, e.lane.ID, e.seq))
			if err != nil {
				return err
			}
			if v == nil {
				continue
			}
			l, err := decodeLocation(v)
			if err != nil {
				return err
			}
			if l.place != (place{g.number, e.offset}) {
				continue
			}
			moved := *e
			moved.flags = appendMoved
			req.appends = append(req.appends, moved)
			size += len(e.value)
		}
	}
}

func (s *Store) stopped() error {
	select {
	case <-s.closing:
		return queue.ErrClosed
	default:
		return nil
	}
}

// pebbleLog passes on what Pebble has to say.
type pebbleLog struct{ log *slog.Logger }

func (l pebbleLog) Infof(format string, args ...any) {
	l.log.Debug("pebble", "text", fmt.Sprintf(format, args...))
}
func (l pebbleLog) Errorf(format string, args ...any) {
	l.log.Error("pebble", "text", fmt.Sprintf(format, args...))
}
func (l pebbleLog) Fatalf(format string, args ...any) {
	l.log.Error("pebble", "text", fmt.Sprintf(format, args...))
	panic("queue state: " + fmt.Sprintf(format, args...))
}
