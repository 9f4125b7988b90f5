package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/log"
)

// The names of the parts of a log in its directory.
const (
	LogDir     = "log" // of the segments
	SegmentExt = ".seg"
	LockName   = "LOCK"
	FormatName = "FORMAT"
	MarkName   = "MARK"
)

const (
	segmentMagic  = "WEIRLOG1"
	segmentHeader = 64

	maxOpenSegments = 128 // segments kept open for reading
)

// segment is one file of the log.
type segment struct {
	number uint64
	first  uint64 // its first entry

	size    int64 // of the file, or of what was written to it; guarded by Log.mu
	dropped bool  // the kernel was told to forget it; guarded by Log.mu

	mu     sync.Mutex
	file   vfs.File // for reading; opened when first needed
	users  int
	retire bool // deleted: close the file when nobody reads it
}

// segmentPath is where the segment of a number is.
func segmentPath(fs vfs.FS, dir string, number uint64) string {
	return fs.PathJoin(dir, LogDir, fmt.Sprintf("%09d%s", number, SegmentExt))
}

func (l *Log) segmentPath(number uint64) string { return segmentPath(l.fs, l.dir, number) }

func (s *segment) header() []byte {
	b := make([]byte, 0, segmentHeader)
	b = append(b, segmentMagic...)
	b = binary.BigEndian.AppendUint64(b, s.number)
	b = binary.BigEndian.AppendUint64(b, s.first)
	b = binary.BigEndian.AppendUint32(b, checksum(b))
	return b[:segmentHeader]
}

// readSegment reads the header of a segment. whole is false when the file ends within
// it, as it does when the process died while making it.
func readSegment(fs vfs.FS, path string, number uint64) (s *segment, whole bool, err error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, false, fmt.Errorf("open segment %s: %w", path, err)
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return nil, false, fmt.Errorf("open segment %s: %w", path, err)
	}
	b := make([]byte, segmentHeader)
	if info.Size() < segmentHeader {
		return nil, false, nil
	}
	if _, err := f.ReadAt(b, 0); err != nil {
		return nil, false, fmt.Errorf("read segment %s: %w", path, err)
	}
	if checksum(b[:24]) != binary.BigEndian.Uint32(b[24:]) || string(b[:8]) != segmentMagic {
		if !slices.ContainsFunc(b, func(c byte) bool { return c != 0 }) {
			return nil, false, nil
		}
		return nil, false, fmt.Errorf("read segment %s: its header is damaged: %w", path, queue.ErrCorrupt)
	}
	s = &segment{
		number: binary.BigEndian.Uint64(b[8:]),
		first:  binary.BigEndian.Uint64(b[16:]),
		size:   info.Size(),
	}
	if s.number != number {
		return nil, false, fmt.Errorf("read segment %s: it says that it is segment %d: %w", path, s.number, queue.ErrCorrupt)
	}
	return s, true, nil
}

// listSegments lists the numbers of the segments of a log, in order.
func listSegments(fs vfs.FS, dir string) ([]uint64, error) {
	names, err := fs.List(fs.PathJoin(dir, LogDir))
	if err != nil {
		return nil, fmt.Errorf("list the segments of %s: %w", dir, err)
	}
	var out []uint64
	for _, name := range names {
		if base, ok := strings.CutSuffix(name, SegmentExt); ok {
			if n, err := strconv.ParseUint(base, 10, 64); err == nil {
				out = append(out, n)
			}
		}
	}
	slices.Sort(out)
	return out, nil
}

// read fills b from offset at.
func (s *segment) read(l *Log, b []byte, at int64) error {
	f, err := s.acquire(l)
	if err != nil {
		return err
	}
	defer s.release(&l.files)
	if _, err := f.ReadAt(b, at); err != nil {
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("%w: %w", err, queue.ErrCorrupt)
		}
		return fmt.Errorf("read %d bytes at %d of segment %d: %w", len(b), at, s.number, err)
	}
	return nil
}

// forget has the kernel forget what it holds of the file.
func (s *segment) forget(l *Log) error {
	f, err := s.acquire(l)
	if err != nil {
		return err
	}
	defer s.release(&l.files)
	dropPages(f)
	return nil
}

func (s *segment) acquire(l *Log) (vfs.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retire {
		return nil, fmt.Errorf("read segment %d: %w", s.number, log.ErrTrimmed)
	}
	if s.file == nil {
		f, err := l.fs.Open(l.segmentPath(s.number), vfs.RandomReadsOption)
		if err != nil {
			return nil, fmt.Errorf("open segment %d: %w", s.number, err)
		}
		s.file = f
		l.files.Add(1)
	}
	s.users++
	return s.file, nil
}

func (s *segment) release(files *atomic.Int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users--
	s.closeUnused(files)
}

// remove has the file closed as soon as nobody reads it.
func (s *segment) remove(files *atomic.Int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retire = true
	s.closeUnused(files)
}

// closeUnused closes the file when nobody reads it and it will not be needed again, or
// too many are open.
func (s *segment) closeUnused(files *atomic.Int64) {
	if s.users == 0 && s.file != nil && (s.retire || files.Load() > maxOpenSegments) {
		_ = s.file.Close() // only read
		s.file = nil
		files.Add(-1)
	}
}
