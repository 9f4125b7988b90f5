package embedded

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/partition"
)

const (
	formatName = "FORMAT"
	format     = "weir queue store\nformat 1\n"
	memTable   = 16 << 20
	cacheBytes = 32 << 20
)

// Open opens the store in dir, making it when there is none.
func Open(dir string, opt Options) (*Store, error) {
	s := newStore(dir, opt.withDefaults())
	if err := s.start(); err != nil {
		return nil, err
	}
	return s, nil
}

func newStore(dir string, opt Options) *Store {
	return &Store{
		dir: dir, opt: opt, fs: opt.FS, hub: partition.NewHub(), recent: newRecent(opt.RecentBytes),
		requests: make(chan *request, groupRequests),
		closing:  make(chan struct{}),
		flushNow: make(chan struct{}, 1),
		names:    map[laneName]uint64{}, tails: map[uint64]uint64{}, nextLane: 1,
		partly: map[uint64]*partlyRows{}, segments: map[uint64]*segment{},
	}
}

// start opens the store and begins to work.
func (s *Store) start() error {
	if err := s.open(); err != nil {
		return fmt.Errorf("open the queue store %s: %w", s.dir, errors.Join(err, s.release()))
	}
	s.part.Start()
	s.ended.Go(s.run)
	s.ended.Go(s.maintenance)
	return nil
}

func (s *Store) path(name string) string { return s.fs.PathJoin(s.dir, name) }

func (s *Store) open() error {
	if err := s.fs.MkdirAll(s.path("log"), 0o755); err != nil {
		return fmt.Errorf("create the directory: %w", fault.New(fault.Setup, err))
	}
	lock, err := s.fs.Lock(s.path("LOCK"))
	if err != nil {
		return fmt.Errorf("lock %s: %w: %w: close the other process, or give this one a directory of its own", s.path("LOCK"), err, queue.ErrInUse)
	}
	s.lock = lock
	fresh, err := s.checkFormat()
	if err != nil {
		return err
	}
	if err := s.openMark(fresh); err != nil {
		return err
	}
	if err := s.openState(); err != nil {
		return err
	}
	epoch, err := s.epoch()
	if err != nil {
		return err
	}
	if err := s.openClock(); err != nil {
		return err
	}
	s.part = partition.New(partition.Config{Storage: s, Log: s.opt.Log, Window: s.opt.Window, Now: s.opt.Now,
		Steady: s.clock.now, Lasting: true, Hub: s.hub, Epoch: epoch})
	at, err := s.restore()
	if err != nil {
		return err
	}
	if err := s.openSegments(); err != nil {
		return err
	}
	replay := s.replay
	if s.salvaged != nil {
		replay = s.salvageReplay
	}
	if err := replay(at); err != nil {
		return err
	}
	if err := s.checkReach(); err != nil {
		return err
	}
	return s.begin(fresh)
}

// epoch makes lease tokens of different openings differ: each opening begins a segment
// with a higher number than all before.
func (s *Store) epoch() (uint32, error) {
	numbers, err := listSegments(s.fs, s.dir)
	if err != nil || len(numbers) == 0 {
		return 1, err
	}
	return uint32(numbers[len(numbers)-1] + 1), nil
}

// checkFormat reads FORMAT. A directory that holds nothing of ours is fresh.
func (s *Store) checkFormat() (fresh bool, err error) {
	b, err := readFile(s.fs, s.path(formatName))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return true, nil
	case err != nil:
		return false, err
	case string(b) == format:
		return false, nil
	case bytes.HasPrefix(b, []byte("weir queue store\nformat ")):
		return false, fmt.Errorf("%s says %q, this program reads format 1: %w", s.path(formatName), bytes.TrimSpace(b[len("weir queue store\n"):]), queue.ErrVersion)
	}
	if s.salvaged != nil {
		return true, nil
	}
	return false, fmt.Errorf("read %s: it is damaged: %w", s.path(formatName), queue.ErrCorrupt)
}

func readFile(fs vfs.FS, path string) ([]byte, error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	defer func() { _ = f.Close() }() // only read
	b, err := io.ReadAll(f)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return b, nil
}

func (s *Store) openMark(fresh bool) error {
	path := s.path(markName)
	m, damaged, err := readMark(s.fs, path)
	if !fresh || !errors.Is(err, os.ErrNotExist) {
		if err != nil && s.salvaged == nil {
			return fmt.Errorf("%w (weir store salvage goes on without)", err)
		}
		if err != nil {
			s.salvaged.MarkLost = true
		}
		if damaged {
			s.opt.Log.Warn("one slot of the high-water mark is damaged, as after a power failure", "path", path)
		}
		s.mark = m
	}
	f, err := s.fs.OpenReadWrite(path, "queue-mark")
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	s.markFile = f
	return nil
}

// pebbleOptions are those of the state: it has no log, small values, and little memory.
func (s *Store) pebbleOptions() *pebble.Options {
	o := &pebble.Options{
		FS:                    s.fs,
		DisableWAL:            true,
		MemTableSize:          memTable,
		Cache:                 pebble.NewCache(cacheBytes),
		FormatMajorVersion:    pebble.FormatNewest,
		MaxOpenFiles:          256,
		L0CompactionThreshold: 4,
		Logger:                pebbleLog{s.opt.Log},
		EventListener: &pebble.EventListener{
			// The read or flush that meets it returns the error as well.
			DataCorruption: func(i pebble.DataCorruptionInfo) {
				s.opt.Log.Error("the state of the queue store is damaged", "dir", s.dir, "file", i.Path, "error", i.Details)
			},
			BackgroundError: func(err error) {
				s.opt.Log.Error("the state of the queue store was not written", "dir", s.dir, "error", err)
			},
		},
	}
	o.EnsureDefaults()
	return o
}

func (s *Store) openState() error {
	o := s.pebbleOptions()
	defer o.Cache.Unref()
	db, err := pebble.Open(s.path("state"), o)
	if err != nil {
		return fmt.Errorf("%w: %w", stateError("open", err), queue.ErrCorrupt)
	}
	s.db = db
	return nil
}

// restore reads the numbers of the lanes and segments, and where the state stands.
func (s *Store) restore() (at place, err error) {
	v, err := s.get([]byte{rowApplied})
	if err != nil {
		return at, err
	}
	if v != nil {
		p := parser{b: v}
		p.byte()
		s.commit = p.fixed64()
		at = place{p.fixed64(), int64(p.fixed64())}
		s.nextLane = p.fixed64()
		if p.bad {
			return at, fmt.Errorf("read where the state stands: %w", queue.ErrCorrupt)
		}
	}
	s.applied.Store(s.commit)
	s.flushed.Store(s.commit)
	var lanes []partition.Lane
	byID := map[uint64]int{}
	err = s.each([]byte{rowLane}, func(k, v []byte) error {
		l, err := decodeLane(k, v)
		byID[l.ID] = len(lanes)
		lanes = append(lanes, l)
		s.learn(l)
		s.tails[l.ID] = l.Tail
		return err
	})
	if err != nil {
		return at, err
	}
	err = s.each([]byte{rowPartly}, func(k, v []byte) error {
		part, err := decodePartly(k, v)
		if err != nil {
			return err
		}
		lane := binary.BigEndian.Uint64(k[1:])
		i, ok := byID[lane]
		if !ok {
			return fmt.Errorf("value %d belongs to lane %d, which is not there: %w", part.Seq, lane, queue.ErrCorrupt)
		}
		lanes[i].Partly = append(lanes[i].Partly, part)
		if s.partly[lane] == nil {
			s.partly[lane] = &partlyRows{rows: map[uint64]struct{}{}}
		}
		s.partly[lane].add(part.Seq)
		return nil
	})
	if err != nil {
		return at, err
	}
	return at, s.part.Restore(lanes)
}

// each calls fn for the rows with a prefix. fn must not keep what it is given.
func (s *Store) each(prefix []byte, fn func(k, v []byte) error) error {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: rowEnd(prefix)})
	if err != nil {
		return stateError("read", err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return stateError("read", err)
		}
		if err := fn(it.Key(), v); err != nil {
			return err
		}
	}
	if err := it.Error(); err != nil {
		return stateError("read", err)
	}
	return nil
}

// openSegments reads the headers of the segments, and what is open in each.
func (s *Store) openSegments() error {
	numbers, err := listSegments(s.fs, s.dir)
	if err != nil {
		return err
	}
	for i, n := range numbers {
		path := segmentPath(s.fs, s.dir, n)
		g, whole, err := readSegment(s.fs, path, n)
		if missing := err == nil && !whole && (i != len(numbers)-1 || n <= s.mark.end.segment); s.salvaged != nil && (missing || errors.Is(err, queue.ErrCorrupt)) {
			if err := s.leaveOutSegment(path, err); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		if !whole {
			if i != len(numbers)-1 || n <= s.mark.end.segment {
				return fmt.Errorf("read segment %s: its header is missing: %w", path, queue.ErrCorrupt)
			}
			if err := s.fs.Remove(path); err != nil {
				return fmt.Errorf("remove segment %s, which was never used: %w", path, err)
			}
			continue
		}
		s.segments[n] = g
	}
	return s.each([]byte{rowSegment}, func(k, v []byte) error {
		n := binary.BigEndian.Uint64(k[1:])
		p := parser{b: v}
		live, open, size := int64(p.fixed64()), int64(p.fixed64()), int64(p.fixed64())
		g := s.segments[n]
		if g == nil && live > 0 && s.salvaged != nil {
			s.salvaged.DamagedSegments++
			return nil
		}
		if g == nil && live > 0 {
			return fmt.Errorf("segment %s is missing, with %d batches of waiting jobs: %w", segmentPath(s.fs, s.dir, n), live, queue.ErrCorrupt)
		}
		if g == nil {
			return nil
		}
		if g.found < size && live > 0 && s.salvaged == nil {
			return g.short(s, size)
		}
		g.live, g.bytes, g.size = live, open, min(size, max(g.found, segmentHeader))
		return nil
	})
}

// short is the error of a segment whose file ends before what the state knows of it.
func (s *segment) short(in *Store, size int64) error {
	return fmt.Errorf("segment %s has %d bytes, but %d were written and acknowledged: restore it; weir store salvage goes on without: %w",
		segmentPath(in.fs, in.dir, s.number), s.found, size, queue.ErrCorrupt)
}

// replay applies what the log has beyond the state.
func (s *Store) replay(at place) error {
	numbers := s.segmentNumbers()
	if len(numbers) == 0 {
		return nil
	}
	if at.segment == 0 {
		at = place{numbers[0], segmentHeader}
		if s.segments[numbers[0]].first != 1 {
			return fmt.Errorf("the state is empty, and the log begins at commit %d only: %w", s.segments[numbers[0]].first, queue.ErrCorrupt)
		}
	}
	if s.segments[at.segment] == nil && numbers[len(numbers)-1] < at.segment {
		// Everything up to where the state stands was settled and deleted.
		s.mark.end = at
		return nil
	}
	for i, n := range numbers {
		g := s.segments[n]
		if n < at.segment {
			continue
		}
		from := int64(segmentHeader)
		if n == at.segment {
			from = at.offset
			if g.found < from {
				return g.short(s, from)
			}
		} else if g.first != s.commit+1 {
			return fmt.Errorf("segment %s begins with commit %d, but commit %d is next: a segment is missing: %w", segmentPath(s.fs, s.dir, n), g.first, s.commit+1, queue.ErrCorrupt)
		}
		last := uint64(math.MaxUint64)
		if i+1 < len(numbers) {
			last = s.segments[numbers[i+1]].first - 1
		}
		size, err := s.replaySegment(g, from, last)
		if err != nil {
			return err
		}
		g.size = size
		at = place{n, size}
	}
	s.mark.end = at
	return nil
}

func (s *Store) segmentNumbers() []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]uint64, 0, len(s.segments))
	for n := range s.segments {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

// replaySegment applies the frames of a segment from an offset up to the commit last,
// which is the greatest number for the last segment, and returns where they end.
func (s *Store) replaySegment(g *segment, from int64, last uint64) (int64, error) {
	path := segmentPath(s.fs, s.dir, g.number)
	r, err := newFrameReader(s.fs, path, from, math.MaxInt64)
	if err != nil {
		return 0, err
	}
	defer r.close()
	for s.commit != last {
		f, at, err := r.next()
		var bad errFrame
		switch {
		case errors.Is(err, io.EOF) && last == math.MaxUint64:
			return r.at, nil
		case errors.Is(err, io.EOF):
			return 0, fmt.Errorf("segment %s ends with commit %d, but has commits up to %d: %w", path, s.commit, last, queue.ErrCorrupt)
		case errors.As(err, &bad):
			if last != math.MaxUint64 || s.commit < s.mark.commit || r.follows(s.commit+1) {
				return 0, fmt.Errorf("read segment %s at offset %d, after commit %d of at least %d: %w: %w", path, at, s.commit, s.mark.commit, bad, queue.ErrCorrupt)
			}
			return at, nil
		case err != nil:
			return 0, err
		case f.commit != s.commit+1:
			return 0, fmt.Errorf("read segment %s at offset %d: commit %d follows commit %d: %w", path, at, f.commit, s.commit, queue.ErrCorrupt)
		}
		s.commit = f.commit
		if err := s.apply([]*frame{f}, place{g.number, r.at}, true); err != nil {
			return 0, fmt.Errorf("replay commit %d: %w", f.commit, err)
		}
	}
	return r.at, nil
}

// checkReach compares what was found with the mark.
func (s *Store) checkReach() error {
	reached, want := s.commit, s.mark.commit
	if reached >= want {
		s.mark.commit = reached
		return nil
	}
	if s.salvaged != nil {
		s.salvaged.LostCommits += int64(want - reached)
		s.opt.Log.Error("acknowledged commits are missing from the queue store", "first", reached+1, "last", want)
		s.mark.commit = reached
		return nil
	}
	return fmt.Errorf("the log ends at commit %d, but commits up to %d were acknowledged: restore the segments that are missing; weir store salvage goes on without: %w", reached, want, queue.ErrCorrupt)
}

// begin makes the store ready to write.
func (s *Store) begin(fresh bool) error {
	if fresh && s.commit > 0 && s.salvaged == nil {
		return fmt.Errorf("read %s: it is missing, and the store has %d commits: %w", s.path(formatName), s.commit, queue.ErrCorrupt)
	}
	// What follows the last commit was never acknowledged; a new segment makes it void.
	s.current = &segment{number: s.mark.end.segment}
	for n := range s.segments {
		s.current.number = max(s.current.number, n)
	}
	if err := s.roll(); err != nil {
		return err
	}
	s.mark.end = place{s.current.number, s.current.size}
	for _, g := range s.segments {
		s.logBytes.Add(g.size)
	}
	for range 2 {
		if err := writeMark(s.markFile, &s.mark); err != nil {
			return err
		}
	}
	if err := s.markFile.Sync(); err != nil {
		return fmt.Errorf("sync the high-water mark: %w", err)
	}
	if !fresh {
		return nil
	}
	return errors.Join(s.replaceFile(formatName, []byte(format)), s.syncParent())
}

// syncParent makes the directory of a new store itself durable.
func (s *Store) syncParent() error {
	d, err := s.fs.OpenDir(s.fs.PathDir(s.dir))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
