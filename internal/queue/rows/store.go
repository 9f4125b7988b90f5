package rows

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/memorylimit"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/log"
	"github.com/weirdata/weir/internal/queue/partition"
)

// Options are how a store is opened. The zero value is right for production.
type Options struct {
	// Log gets what the store does on its own; nil discards it.
	Log *slog.Logger
	// MaxBytes is the most disk space the store may take, in bytes, before it refuses new
	// jobs and records with queue.ErrFull; 0 means no limit but MinFree.
	MaxBytes int64
	// MinFree is the free disk space, in bytes, below which it refuses them; 0 means 1 GiB,
	// or a tenth of the disk where that is less.
	MinFree int64
	// DeadRetention is how long dead jobs are kept; 0 means for good.
	DeadRetention time.Duration
	// SegmentBytes is the size at which a new segment of the log is begun, and after how many
	// bytes of the log the state is put on disk; 0 means 64 MiB, or an eighth of MaxBytes
	// where that is less.
	SegmentBytes int64

	// RecentBytes is how much memory values take that were appended and not read yet, so
	// that a reader that keeps up does not read the log; 0 means 16 MiB, or a part of the memory
	// limit where that is less, less than 0 none.
	RecentBytes int

	// FS is the file system; nil means that of the operating system.
	FS vfs.FS
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Steady is how long it is since some moment, by a clock that goes on when the machine's
	// time is set; nil means that of Now, which has one when it is time.Now.
	Steady func() time.Duration
	// Window is the most jobs of a lane that may be scanned and not settled; 0 means
	// partition.DefaultWindow.
	Window int
}

// WithDefaults is o with what its zero values mean.
func (o Options) WithDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = 64 << 20
		if o.MaxBytes > 0 { // the segment that is written to is not given back
			o.SegmentBytes = min(o.SegmentBytes, max(o.MaxBytes/8, 64<<10))
		}
	}
	if o.RecentBytes == 0 {
		o.RecentBytes = int(memorylimit.Share(recentBytes, recentPart, leastTable))
	}
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Store is an open store. It implements queue.Store and queue.Admin.
type Store struct {
	dir  string
	opt  Options
	fs   vfs.FS
	log  log.Log
	db   *pebble.DB
	part *partition.Partition
	hub  *partition.Hub

	clock clock

	observers partition.Observers

	recent *recent
	// salvaged is set while a damaged store is opened to be salvaged, and says what for.
	salvaged *Salvaged

	requests chan *request
	closing  chan struct{} // closed when Close begins
	ended    sync.WaitGroup
	pending  sync.WaitGroup // transactions between begin and answer
	gate     sync.RWMutex   // held for writing to close
	closed   bool

	applied    atomic.Uint64 // last commit in the state
	grown      atomic.Int64  // bytes of the log since the last flush
	stateBytes atomic.Int64  // size of the state when it was looked at last
	full       atomic.Pointer[string]
	bounds     atomic.Pointer[Options] // see [Store.limits]
	wanted     atomic.Int64            // bytes for which there was no room below MaxBytes
	broken     atomic.Pointer[error]
	readers    readers
	admin      sync.Mutex // one Requeue or Drop at a time
	applying   sync.Mutex // the state is between two commits when it is free
	checking   sync.Mutex // one look at the limits at a time
	holding    sync.Mutex // one look at what is paused at a time
	maintain   sync.Mutex // one flush or compaction at a time
	flushNow   chan struct{}

	// Of the committer, and of recovery before there is one.
	names    map[laneName]uint64
	tails    map[uint64]uint64
	nextLane uint64
	partly   map[uint64]*partlyRows
	commit   uint64 // last commit in the log
	changed  changed
	ready    bool // the log was replayed
	heads    []byte
	pieces   [][]byte

	mu    sync.Mutex
	usage map[uint64]*usage // of the segments of the log

	trouble trouble // with writing the state
	elders  elders
}

// usage is what is open in a segment of the log.
type usage struct {
	live  int64 // values that are not settled
	bytes int64 // size of those
	end   int64 // offset at which its last commit ends; 0 without any
}

type laneName struct {
	queue string
	scope queue.Scope
}

var (
	_ queue.Store       = (*Store)(nil)
	_ queue.Subscriber  = (*Store)(nil)
	_ queue.Admin       = (*Store)(nil)
	_ queue.Filling     = (*Store)(nil)
	_ partition.Storage = (*Store)(nil)
)

// learn notes a lane under its name.
func (s *Store) learn(l partition.Lane) {
	s.names[laneName{l.Queue, l.Scope}] = l.ID
	s.nextLane = max(s.nextLane, l.ID+1)
}

// enter keeps Close from ending the store until leave.
func (s *Store) enter() error {
	s.gate.RLock()
	defer s.gate.RUnlock()
	if s.closed {
		return queue.ErrClosed
	}
	if err := s.broken.Load(); err != nil {
		return *err
	}
	s.pending.Add(1)
	return nil
}

func (s *Store) leave() { s.pending.Done() }

// Update implements queue.Store.
func (s *Store) Update(ctx context.Context, fn func(queue.Tx) error) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := s.try(ctx, fn)
		if !errors.Is(err, errConflict) {
			return err
		}
	}
}

// errConflict says that a record was changed between its Get and the commit.
var errConflict = errors.New("a record was changed meanwhile")

func (s *Store) try(ctx context.Context, fn func(queue.Tx) error) error {
	since := s.applied.Load()
	tx := partition.NewTx(s.opt.Now(), s.records, nil)
	tx.Lasting(s.clock.now())
	err := fn(tx)
	if err == nil {
		err = s.observers.Tell(ctx, tx, s.part.Whose)
	}
	t := tx.Finish()
	defer t.Release()
	if err != nil || t.Empty() {
		return err
	}
	c, err := s.part.Begin(ctx, t.Results)
	if err != nil {
		return err
	}
	held := pauses(t)
	if err := s.commitTx(t, c, since); err != nil || !held {
		return err
	}
	return s.hold()
}

// commitTx commits a transaction and its change. What it read was read when the state stood at
// since, or later. Values that are kept in memory do not belong to t any more then.
func (s *Store) commitTx(t *partition.Transaction, c *partition.Change, since uint64) error {
	r := newRequest(t, c)
	r.since = since
	err := s.submit(r)
	for i := range r.appends {
		if r.appends[i].kept {
			t.Appends[i].Value = nil
		}
	}
	return err
}

// Move implements partition.Storage.
func (s *Store) Move(_ context.Context, c *partition.Change) error {
	return s.submit(newRequest(nil, c))
}

// Lease implements queue.Store.
func (s *Store) Lease(ctx context.Context, q queue.Query) ([]queue.Job, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	if !q.Any {
		s.readers.leases(q.Queue)
	}
	return s.part.Lease(ctx, q)
}

// Renew implements queue.Store.
func (s *Store) Renew(_ context.Context, jobs []queue.Job, d time.Duration) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	return s.part.Renew(jobs, d)
}

// Release implements queue.Store.
func (s *Store) Release(_ context.Context, jobs []queue.Job) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	_, err := s.part.Release(jobs)
	return err
}

// Active implements queue.Store.
func (s *Store) Active(_ context.Context, q string, by queue.Axis) ([]string, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	out := s.part.Active(q, by)
	slices.Sort(out)
	return out, nil
}

// Stats implements queue.Store.
func (s *Store) Stats(_ context.Context, f queue.Filter) (queue.Stats, error) {
	if err := s.enter(); err != nil {
		return queue.Stats{}, err
	}
	defer s.leave()
	return s.part.Stats(f), nil
}

// Wake implements queue.Store.
func (s *Store) Wake(f queue.Filter) <-chan struct{} { return s.hub.Wake(f) }

// Observe implements queue.Store.
func (s *Store) Observe(o queue.Observer) (stop func()) { return s.observers.Observe(o) }

// Close implements queue.Store. It waits for the calls that are under way.
func (s *Store) Close() error {
	s.gate.Lock()
	if s.closed {
		s.gate.Unlock()
		s.ended.Wait()
		return nil
	}
	s.closed = true
	close(s.closing)
	s.gate.Unlock()
	s.pending.Wait()
	close(s.requests)
	s.ended.Wait()
	return s.release()
}

// release gives back what Open took, as far as it got, and the log.
func (s *Store) release() error {
	var errs []error
	if s.part != nil {
		s.part.Close()
	}
	s.hub.Close()
	if s.db != nil {
		if s.broken.Load() == nil && s.ready {
			errs = append(errs, s.flush(), s.saveClock())
		}
		errs = append(errs, s.db.Close())
	}
	errs = append(errs, s.log.Close())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close the queue store %s: %w", s.dir, err)
	}
	return nil
}

// fail makes the store refuse everything from now on: what it holds in memory and what
// is on disk may differ.
func (s *Store) fail(err error) error {
	err = fault.New(fault.Fatal, fmt.Errorf("the queue store %s has failed and must be opened again: %w", s.dir, err))
	if s.broken.CompareAndSwap(nil, &err) {
		s.opt.Log.Error("queue store failed", "dir", s.dir, "error", err)
		s.hub.Close()
	}
	return *s.broken.Load()
}
