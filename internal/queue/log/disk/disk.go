// Package disk is the log in a directory of this machine: append-only files with one write
// and one fdatasync for a group of entries, for one process at a time.
//
// # Files
//
//	FORMAT             name and version of this layout, and of what a store has beside it
//	LOCK               held while the log is open
//	MARK               the high-water mark: which entries were acknowledged
//	log/000000001.seg  segments: one frame for each entry
//
// # What is detected
//
//	a torn tail           frames after the last valid one, up to the mark, are lost: refused.
//	                      Beyond the mark nothing was acknowledged: the tail is void
//	a flipped byte        every head has a CRC-32C, and data has those that its head names;
//	                      a damaged frame before the mark, or in front of one of a later
//	                      group, is refused
//	a lost segment        entries are numbered, and each segment names its first
//	a log that is short   it must go on from where Replay is told to begin, and reach the mark
//
// The mark is written before an answer and synced a moment later ([Log.Sync]), so it
// survives kill -9 exactly and a power failure up to that moment; it can never be ahead of
// the log.
//
// The kernel is asked to forget segments that are far behind the end of the log, so that a
// backlog does not fill its memory.
//
// # Bytes
//
//	segment := header frame*
//	header  := "WEIRLOG1" number(8) first(8) crc(4) 0(36)   first: its first entry; the
//	           segment before ends with the entry in front of it, whatever follows there
//	frame   := crc(4) magic(4) number(8) group(8) headSize(4) dataSize(4) head data
//	           group: the first entry that was written and synced together with this one
//
// The crc of a frame covers the rest of its header and its head. Numbers are big endian.
package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/log"
)

// FORMAT is one number for all that a store has on disk: it is raised whenever a program that
// knows the number before would read anything of the store wrong, and not for what such a
// program refuses or passes over by itself.
//
//	1  values and records of version 1, executions of version 1
//	2  values and records of version 2: programs of format 1 take the records for others
//
// A store of format 1 is one of format 2 from the first entry on that is appended to it; looking
// changes nothing. The release that knows 1 only refuses 2, and changes nothing either.
const (
	formatStart = "weir queue store\nformat "
	formatNow   = 2
)

func formatOf(version int) string { return fmt.Sprintf("%s%d\n", formatStart, version) }

// Options are how a log is opened.
type Options struct {
	// Log gets what the log does on its own.
	Log *slog.Logger
	// SegmentBytes is the size at which a new segment is begun.
	SegmentBytes int64
	// FS is the file system.
	FS vfs.FS
	// Lost makes Open and Replay pass over what is damaged, and notes what that was; nil
	// makes them refuse it.
	Lost *log.Lost
}

// Log is an open log.
type Log struct {
	dir   string
	opt   Options
	fs    vfs.FS
	lock  io.Closer
	fresh bool // there is no FORMAT yet
	older bool // FORMAT says 1; of who appends
	epoch uint32

	segmentBytes atomic.Int64 // see Options

	files atomic.Int64 // segments open for reading
	size  atomic.Int64 // of the segments

	// Of who appends, and of Replay before.
	last    uint64 // number of the last entry
	file    vfs.File
	current *segment
	torn    bool // bytes that were never acknowledged follow the end of the segment
	broken  error
	buf     []byte
	mark    mark

	markFile  vfs.File
	markDirty atomic.Bool   // the mark was written and not synced
	through   atomic.Uint64 // as Trim was told

	mu       sync.Mutex
	segments map[uint64]*segment
}

var _ log.Log = (*Log)(nil)

// Open opens the log in dir, making it when there is none.
func Open(dir string, opt Options) (*Log, error) {
	l := &Log{dir: dir, opt: opt, fs: opt.FS, segments: map[uint64]*segment{}}
	l.SetSegmentBytes(opt.SegmentBytes)
	if err := l.open(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// SetSegmentBytes changes the size at which a new segment is begun.
func (l *Log) SetSegmentBytes(n int64) { l.segmentBytes.Store(n) }

func (l *Log) path(name string) string { return l.fs.PathJoin(l.dir, name) }

func (l *Log) open() error {
	if err := l.fs.MkdirAll(l.path(LogDir), 0o750); err != nil {
		return fmt.Errorf("create the directory: %w", fault.New(fault.Setup, err))
	}
	lock, err := Lock(l.fs, l.dir)
	if err != nil {
		return fmt.Errorf("%w: close the other process, or give this one a directory of its own", err)
	}
	l.lock = lock
	if err := l.checkFormat(); err != nil {
		return err
	}
	if err := l.openMark(); err != nil {
		return err
	}
	return l.openSegments()
}

// Lock keeps every other process from opening the log in dir.
func Lock(fs vfs.FS, dir string) (io.Closer, error) {
	path := fs.PathJoin(dir, LockName)
	lock, err := fs.Lock(path)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w: %w", path, err, queue.ErrInUse)
	}
	return lock, nil
}

// checkFormat reads FORMAT. A directory that holds nothing of ours is fresh.
func (l *Log) checkFormat() error {
	path := l.path(FormatName)
	b, err := readFile(l.fs, path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		l.fresh = true
		return nil
	case err != nil:
		return err
	case string(b) == formatOf(formatNow):
		return nil
	case string(b) == formatOf(1):
		l.older = true
		return nil
	case bytes.HasPrefix(b, []byte(formatStart)):
		return fmt.Errorf("%s says %q, this program reads formats up to %d: run the release that wrote it, or a newer one: %w",
			path, bytes.TrimSpace(b[len("weir queue store\n"):]), formatNow, queue.ErrVersion)
	}
	if l.opt.Lost != nil {
		l.fresh = true
		return nil
	}
	return fmt.Errorf("read %s: it is damaged: %w", path, queue.ErrCorrupt)
}

// writeFormat makes FORMAT say formatNow: it is there as a whole, or as it was.
func (l *Log) writeFormat() error {
	path := l.path(FormatName)
	f, err := l.fs.Create(path+".new", "queue-format")
	if err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	_, err = f.Write([]byte(formatOf(formatNow)))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = l.fs.Rename(path+".new", path)
	}
	if err := errors.Join(err, syncDir(l.fs, l.dir)); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	l.older = false
	return nil
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

// openMark reads the mark. FORMAT is written when the first mark is on disk, and nothing is
// acknowledged before: without FORMAT there may be none, or a part of one, and Replay
// demands then that there are no entries.
func (l *Log) openMark() error {
	path := l.path(MarkName)
	m, damaged, err := readMark(l.fs, path)
	switch {
	case err != nil && l.opt.Lost != nil:
		l.opt.Lost.EndUnknown = !l.fresh || !errors.Is(err, os.ErrNotExist)
	case err != nil && l.fresh && (errors.Is(err, os.ErrNotExist) || errors.Is(err, queue.ErrCorrupt)):
	case err != nil:
		return fmt.Errorf("%w (weir store salvage goes on without)", err)
	case damaged:
		l.opt.Log.Warn("one slot of the high-water mark is damaged, as after a power failure", "path", path)
	}
	l.mark = m
	l.through.Store(m.state)
	f, err := l.fs.OpenReadWrite(path, "queue-mark")
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	l.markFile = f
	return nil
}

// openSegments reads the headers of the segments.
func (l *Log) openSegments() error {
	numbers, err := listSegments(l.fs, l.dir)
	if err != nil {
		return err
	}
	l.epoch = 1
	for i, n := range numbers {
		l.epoch = uint32(n + 1)
		path := l.segmentPath(n)
		g, whole, err := readSegment(l.fs, path, n)
		unused := err == nil && !whole && i == len(numbers)-1 && n > l.mark.end.Segment
		switch {
		case err == nil && whole:
			l.segments[n] = g
			l.size.Add(g.size)
		case unused:
			if err := l.fs.Remove(path); err != nil {
				return fmt.Errorf("remove segment %s, which was never used: %w", path, err)
			}
		case l.opt.Lost != nil && (err == nil || errors.Is(err, queue.ErrCorrupt)):
			l.opt.Lost.Segments++
			l.opt.Log.Error("a segment of the log is lost", "path", path, "error", err)
			if err := l.fs.Remove(path); err != nil {
				return fmt.Errorf("remove segment %s, which is damaged: %w", path, err)
			}
		case err == nil:
			return fmt.Errorf("read segment %s: its header is missing: %w", path, queue.ErrCorrupt)
		default:
			return err
		}
	}
	return nil
}

// Identity implements log.Log. The index lies in the same directory.
func (l *Log) Identity() string { return "" }

// Epoch implements log.Log: each opening begins a segment with a higher number than all
// before.
func (l *Log) Epoch() uint32 { return l.epoch }

// Size implements log.Log.
func (l *Log) Size() int64 { return l.size.Load() }

// Sync implements log.Log.
func (l *Log) Sync() error {
	if !l.markDirty.CompareAndSwap(true, false) {
		return nil
	}
	if err := l.markFile.SyncData(); err != nil {
		return fmt.Errorf("sync the high-water mark: %w: %w", err, log.ErrBroken)
	}
	return nil
}

// Close implements log.Log. It is safe twice, and after an Open that got halfway.
func (l *Log) Close() error {
	var errs []error
	if l.markFile != nil && l.broken == nil {
		errs = append(errs, l.markFile.SyncData())
	}
	for _, f := range []vfs.File{l.markFile, l.file} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	l.mu.Lock()
	for _, g := range l.segments {
		g.remove(&l.files)
	}
	l.mu.Unlock()
	if l.lock != nil {
		errs = append(errs, l.lock.Close())
	}
	l.markFile, l.file, l.lock = nil, nil, nil
	return errors.Join(errs...)
}

// syncDir makes what was created in a directory durable.
func syncDir(fs vfs.FS, path string) error {
	d, err := fs.OpenDir(path)
	if err != nil {
		return fmt.Errorf("open directory %s: %w", path, err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// SyncParent makes the directory of a log itself durable under its name.
func SyncParent(fs vfs.FS, dir string) error { return syncDir(fs, fs.PathDir(dir)) }
