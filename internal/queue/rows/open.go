package rows

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"

	"github.com/weirdata/weir/internal/memorylimit"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/log"
	"github.com/weirdata/weir/internal/queue/partition"
	"github.com/weirdata/weir/internal/wire"
)

// StateDir is the directory of the state in that of its store.
const StateDir = "state"

// stateFormat is the version of the state's files. It is said here, and not left to the library, which
// would raise it by being upgraded: a state of a later version is not opened by a program with an
// earlier library. Who raises it raises FORMAT (queue/log/disk).
const stateFormat = pebble.FormatMajorVersion(24)

// The memory of the state, less where the process has little.
const (
	memTable   = 16 << 20
	cacheBytes = 32 << 20
	memoryPart = 16 // of the memory limit, for each
	leastTable = 1 << 20
)

// filterBits are those of a row in the filter of its table: one in about a hundred that are not
// there is looked for in vain.
const filterBits = 10

// Open opens the store on a log, with its state in a directory of dir, and makes it when
// the log is empty. The log belongs to the store from now on, which closes it, even when
// it cannot be opened.
func Open(ctx context.Context, l log.Log, dir string, opt Options) (*Store, error) {
	s := newStore(l, dir, opt)
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

func newStore(l log.Log, dir string, opt Options) *Store {
	opt = opt.WithDefaults()
	s := &Store{
		dir: dir, opt: opt, fs: opt.FS, log: l, hub: partition.NewHub(), recent: newRecent(opt.RecentBytes),
		requests: make(chan *request, groupRequests),
		closing:  make(chan struct{}),
		flushNow: make(chan struct{}, 1),
		changed:  changed{most: changedAtMost, at: map[uint64]uint64{}},
		names:    map[laneName]uint64{}, tails: map[uint64]uint64{}, nextLane: 1,
		partly: map[uint64]*partlyRows{}, usage: map[uint64]*usage{},
	}
	s.bounds.Store(&opt)
	s.opt.MaxBytes, s.opt.MinFree, s.opt.DeadRetention, s.opt.SegmentBytes = 0, 0, 0, 0 // see limits
	return s
}

// start opens the store and begins to work.
func (s *Store) start(ctx context.Context) error {
	if err := s.open(ctx); err != nil {
		return fmt.Errorf("open the queue store %s: %w", s.dir, errors.Join(err, s.release()))
	}
	s.part.Start()
	s.ended.Go(s.run)
	s.ended.Go(s.maintenance)
	return nil
}

func (s *Store) open(ctx context.Context) error {
	if err := s.openState(); err != nil {
		return err
	}
	if err := s.openClock(); err != nil {
		return err
	}
	s.part = partition.New(partition.Config{Storage: s, Log: s.opt.Log, Window: s.opt.Window, Now: s.opt.Now,
		Steady: s.clock.now, Lasting: true, Hub: s.hub, Epoch: s.log.Epoch()})
	at, err := s.restore()
	if err != nil {
		return err
	}
	if err := s.openSegments(); err != nil {
		return err
	}
	if err := s.log.Replay(ctx, at, s.commit, s.replay); err != nil {
		return err
	}
	s.ready = true
	return s.hold()
}

// replay applies a commit that the log has beyond the state.
func (s *Store) replay(e *log.Entry) error {
	f, err := decode(e)
	if err != nil {
		return err
	}
	if s.salvaged != nil {
		if err := s.mend(f); err != nil {
			return err
		}
	}
	s.commit = f.Number
	if err := s.apply([]*transaction{f}, true); err != nil {
		return fmt.Errorf("replay commit %d: %w", f.Number, err)
	}
	return nil
}

// pebbleOptions are those of the state: it has no log, small values, and little memory.
func (s *Store) pebbleOptions() *pebble.Options {
	table := memorylimit.Share(memTable, memoryPart, leastTable) // two at most, whose memory Pebble takes from the cache's
	o := &pebble.Options{
		FS:                    s.fs,
		DisableWAL:            true,
		MemTableSize:          uint64(table),
		Cache:                 pebble.NewCache(2*table + memorylimit.Share(cacheBytes, memoryPart, leastTable)),
		FormatMajorVersion:    stateFormat,
		MaxOpenFiles:          256,
		L0CompactionThreshold: 4,
		Logger:                pebbleLog{s.opt.Log},
		EventListener: &pebble.EventListener{
			// The read or flush that meets it returns the error as well.
			DataCorruption: func(i pebble.DataCorruptionInfo) {
				s.opt.Log.Error("the state of the queue store is damaged", "dir", s.dir, "file", i.Path, "error", i.Details)
			},
			BackgroundError: s.notWritten,
			FlushEnd:        s.flushed,
		},
	}
	// Records that are not there are asked for as often as those that are. Tables without a filter,
	// as they were written before, are read as ever.
	o.Levels[0].FilterPolicy = bloom.FilterPolicy(filterBits)
	o.EnsureDefaults()
	return o
}

func (s *Store) openState() error {
	o := s.pebbleOptions()
	defer o.Cache.Unref()
	db, err := pebble.Open(s.fs.PathJoin(s.dir, StateDir), o)
	if err != nil {
		return fmt.Errorf("%w: %w", stateError("open", err), queue.ErrCorrupt)
	}
	s.db = db
	return nil
}

// restore reads the numbers of the lanes and segments, and where the state stands.
func (s *Store) restore() (at log.Position, err error) {
	v, err := s.get([]byte{rowApplied})
	if err != nil {
		return at, err
	}
	if v != nil {
		p := wire.Reader{Rest: v}
		p.Byte()
		s.commit = p.Fixed64()
		at = log.Position{Segment: p.Fixed64(), Offset: int64(p.Fixed64())}
		s.nextLane = p.Fixed64()
		if p.Bad {
			return at, fmt.Errorf("read where the state stands: %w", queue.ErrCorrupt)
		}
		made, err := s.get([]byte{rowLog})
		if err != nil {
			return at, err
		}
		if id := s.log.Identity(); string(made) != id {
			return at, fmt.Errorf("the state was made from the log %q, and this is %q: put the right one in its place, or remove the state: %w", made, id, queue.ErrCorrupt)
		}
	}
	s.applied.Store(s.commit)
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

// openSegments compares what is open in each segment with the log that is there.
func (s *Store) openSegments() error {
	there := map[uint64]log.Segment{}
	for _, g := range s.log.Segments() {
		there[g.Number] = g
	}
	return s.each([]byte{rowSegment}, func(k, v []byte) error {
		n := binary.BigEndian.Uint64(k[1:])
		p := wire.Reader{Rest: v}
		u := &usage{live: int64(p.Fixed64()), bytes: int64(p.Fixed64()), end: int64(p.Fixed64())}
		g, found := there[n]
		switch {
		case !found && u.live > 0 && s.salvaged != nil:
			s.salvaged.DamagedSegments++
			return nil
		case !found && u.live > 0:
			return fmt.Errorf("segment %d of the log is missing, with %d batches of waiting jobs: %w", n, u.live, queue.ErrCorrupt)
		case !found:
			return nil
		case g.Size < u.end && u.live > 0 && s.salvaged == nil:
			return fmt.Errorf("segment %d of the log has %d bytes, but %d were written and acknowledged: restore it; weir store salvage goes on without: %w",
				n, g.Size, u.end, queue.ErrCorrupt)
		}
		u.end = min(u.end, g.Size)
		s.usage[n] = u
		return nil
	})
}
