package rows

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
	"github.com/weirdata/weir/internal/queue/log"
)

const (
	logSync       = 100 * time.Millisecond // what the log puts off is put off for so long
	limitsCheck   = time.Second
	expiryCheck   = time.Minute
	compactCheck  = 10 * time.Second
	compactBytes  = 4 << 20   // values moved in one commit
	defaultMargin = 1 << 30   // of Options.MinFree
	compactFloor  = 256 << 20 // dead bytes below which segments are left alone
	segmentStart  = 64        // bytes in front of the first commit of a segment, about
)

// maintenance syncs the log, flushes the state, trims and empties segments, watches
// the disk and lets dead jobs expire.
func (s *Store) maintenance() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	tick := time.NewTicker(logSync)
	defer tick.Stop()
	var limits, expiry, compact, clocks time.Duration
	var looked uint64 // what was applied when a full store last gave back what it can
	s.checkLimits()
	for {
		select {
		case <-s.closing:
			return
		case <-s.flushNow:
			s.report("flush the state", s.Flush())
		case <-tick.C:
			limits, expiry, compact, clocks = limits+logSync, expiry+logSync, compact+logSync, clocks+logSync
			if err := s.log.Sync(); err != nil {
				_ = s.fail(err) // every call returns it from now on
			}
		}
		if clocks >= clockCheck {
			clocks = 0
			s.report("keep the time", s.compareClocks())
		}
		if limits >= limitsCheck {
			limits = 0
			if applied := s.applied.Load(); s.full.Load() != nil && applied != looked {
				looked = applied
				s.report("make room", s.makeRoom(ctx))
			} else {
				s.checkLimits()
			}
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

// makeRoom gives back what a store that is full keeps for nothing: nobody else would, since what
// is settled there takes too little of the log to have it flushed.
func (s *Store) makeRoom(ctx context.Context) error {
	if err := s.Flush(); err != nil || s.full.Load() == nil {
		return err
	}
	floor := int64(compactFloor)
	if limit := s.limits().MaxBytes; limit > 0 {
		floor = min(floor, limit/8)
	}
	if s.deadBytes() <= floor || s.enter() != nil {
		return nil
	}
	defer s.leave()
	if err := s.compact(ctx, 2); err != nil {
		return err
	}
	return s.Flush()
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

// Flush puts the state on disk, gives back what the log keeps for nothing, and looks
// whether the store may take new work.
func (s *Store) Flush() error {
	err := s.flush()
	s.checkLimits()
	return err
}

// flush puts the state on disk and trims the segments that are not needed any more:
// nothing in them is open, and the state on disk says so.
func (s *Store) flush() error {
	s.maintain.Lock()
	defer s.maintain.Unlock()
	s.applying.Lock()
	n := s.applied.Load()
	s.grown.Store(0)
	var dead []uint64
	segments := s.log.Segments()
	for i := 0; i+1 < len(segments); i++ {
		if s.usageOf(segments[i].Number).live == 0 && segments[i+1].First <= n+1 {
			dead = append(dead, segments[i].Number)
		}
	}
	s.applying.Unlock()
	if err := s.flushState(); err != nil {
		return err
	}
	if err := s.log.Trim(context.Background(), n, dead...); err != nil {
		return err
	}
	return s.forgetTrimmed()
}

// usageOf is what is open in a segment.
func (s *Store) usageOf(segment uint64) usage {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.usage[segment]; u != nil {
		return *u
	}
	return usage{}
}

// forgetTrimmed forgets the segments that the log has no more.
func (s *Store) forgetTrimmed() error {
	segments := s.log.Segments()
	var gone []uint64
	s.mu.Lock()
	for n := range s.usage {
		if len(segments) > 0 && n < segments[len(segments)-1].Number && !slices.ContainsFunc(segments, func(g log.Segment) bool { return g.Number == n }) {
			gone = append(gone, n)
			delete(s.usage, n)
		}
	}
	s.mu.Unlock()
	for _, n := range gone {
		if err := s.db.Delete(row(rowSegment, n), pebble.NoSync); err != nil {
			return stateError("write", err)
		}
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
	for _, g := range s.usage {
		u.Open += g.bytes
	}
	s.mu.Unlock()
	u.Log, u.Segments = s.log.Size(), len(s.log.Segments())
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

// Room is what the store takes and may take, in bytes.
type Room struct {
	Taken, Limit int64 // Limit is 0 without one
	// Free is what the disk has left, and MinFree what must stay free; Known is whether the
	// system says.
	Free, MinFree int64
	Known         bool
}

// Room says how much room there is.
func (s *Store) Room() Room {
	r := Room{Limit: s.limits().MaxBytes}
	u, err := s.Usage()
	r.Taken = u.Log + u.State
	if d, derr := s.fs.GetDiskUsage(s.dir); err == nil && derr == nil {
		r.Free, r.MinFree, r.Known = int64(d.AvailBytes), int64(s.floor(d)), true
	}
	return r
}

// floor is what of a disk must stay free.
func (s *Store) floor(d vfs.DiskUsage) uint64 {
	if free := s.limits().MinFree; free > 0 {
		return uint64(free)
	}
	return min(defaultMargin, d.TotalBytes/10)
}

// written are the segments that nothing is appended to any more.
func (s *Store) written() []log.Segment {
	segments := s.log.Segments()
	return segments[:max(len(segments)-1, 0)]
}

func (s *Store) deadBytes() int64 {
	n := int64(0)
	for _, g := range s.written() {
		u := s.usageOf(g.Number)
		n += u.end - u.bytes
	}
	return n
}

// checkLimits decides whether the store takes new work.
func (s *Store) checkLimits() {
	s.checking.Lock() // who looked with the limits of before never has the last word
	defer s.checking.Unlock()
	u, err := s.Usage()
	if err != nil {
		s.report("check its limits", err)
		return
	}
	why := ""
	limit := s.limits().MaxBytes
	if used := u.Log + u.State; limit > 0 && used+s.wanted.Load() >= limit {
		why = fmt.Sprintf("it takes %d bytes, its limit is %d", used, limit)
	}
	if d, err := s.fs.GetDiskUsage(s.dir); err == nil && why == "" {
		floor := s.floor(d)
		if d.AvailBytes < floor {
			why = fmt.Sprintf("the disk has %d bytes free, %d must stay free", d.AvailBytes, floor)
		}
	}
	was := s.full.Load()
	if why == "" {
		s.wanted.Store(0)
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
	retention := s.limits().DeadRetention
	if retention <= 0 {
		return nil
	}
	n, err := s.Drop(ctx, queue.Search{State: queue.Buried, Before: s.opt.Now().Add(-retention)})
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
	for _, g := range s.written() {
		u := s.usageOf(g.Number)
		if u.live == 0 || u.bytes*parts >= u.end-segmentStart-u.end/64 {
			continue
		}
		if err := s.empty(ctx, log.Position{Segment: g.Number, Offset: u.end}); err != nil && !errors.Is(err, log.ErrTrimmed) {
			return err
		}
	}
	return nil
}

// moves is a request that puts values elsewhere, as many as are worth a commit.
type moves struct {
	s *Store
	*request
	bytes int
}

func (m *moves) add(e appendEntry) error {
	if m.request == nil {
		m.request = &request{moves: true, done: make(chan error, 1)}
	}
	e.flags = appendMoved
	m.appends = append(m.appends, e)
	if m.bytes += len(e.value); m.bytes < compactBytes {
		return nil
	}
	return m.submit()
}

func (m *moves) submit() error {
	r := m.request
	m.request, m.bytes = nil, 0
	if r == nil {
		return nil
	}
	return m.s.submit(r)
}

// empty appends what is open in a segment, up to its end, once more.
func (s *Store) empty(ctx context.Context, end log.Position) error {
	m := moves{s: s}
	err := s.log.Scan(ctx, log.Position{Segment: end.Segment}, end, func(e *log.Entry) error {
		f, err := decode(e)
		if err != nil {
			return err
		}
		if err := s.stopped(); err != nil {
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
			if l.Position != e.at {
				continue
			}
			if err := m.add(*e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return m.submit()
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
