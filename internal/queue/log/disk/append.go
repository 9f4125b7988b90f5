package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/log"
)

const (
	keptBuffer  = 32 << 20  // a larger buffer is let go of after its write
	cachedBytes = 256 << 20 // newest bytes of the log that the kernel may keep in memory
)

// Append implements log.Log: one write and one fdatasync for the group, then the mark.
func (l *Log) Append(group []*log.Entry) error {
	if l.broken != nil {
		return l.broken
	}
	if l.older {
		if err := l.writeFormat(); err != nil {
			return err
		}
	}
	if l.torn || l.current.size >= l.segmentBytes.Load() {
		if err := l.roll(); err != nil {
			return err
		}
	}
	before := log.Position{Segment: l.current.number, Offset: l.current.size}
	at := before
	l.buf = l.buf[:0]
	for i, e := range group {
		e.Number = l.last + 1 + uint64(i)
		var err error
		if l.buf, err = encode(l.buf, at, l.last+1, e); err != nil {
			return err
		}
		at = e.End
	}
	if _, err := l.file.Write(l.buf); err != nil {
		l.void(before.Offset)
		return fmt.Errorf("write segment %d: %w", before.Segment, err)
	}
	if err := l.file.SyncData(); err != nil {
		return l.breaks(fmt.Errorf("sync segment %d: %w", before.Segment, err))
	}
	l.mu.Lock()
	l.current.size = at.Offset
	l.mu.Unlock()
	l.size.Add(int64(len(l.buf)))
	if cap(l.buf) > keptBuffer {
		l.buf = nil
	}
	l.last += uint64(len(group))
	l.mark.commit, l.mark.end, l.mark.state = l.last, at, l.through.Load()
	if err := writeMark(l.markFile, &l.mark); err != nil {
		return l.breaks(err)
	}
	l.markDirty.Store(true)
	return nil
}

func (l *Log) breaks(err error) error {
	l.broken = fmt.Errorf("%w: %w", err, log.ErrBroken)
	return l.broken
}

// void makes what a failed write left behind in the current segment no frame, should the
// process end before the next segment, which begins in front of it, says the same.
func (l *Log) void(at int64) {
	l.torn = true
	clear(l.buf)
	if _, err := l.file.WriteAt(l.buf, at); err == nil {
		_ = l.file.SyncData() // nothing was acknowledged: it is for the better only
	}
}

// roll begins a new segment: whatever follows the last entry in the current one is void.
func (l *Log) roll() error {
	g := &segment{number: l.current.number + 1, first: l.last + 1, size: segmentHeader}
	path := l.segmentPath(g.number)
	f, err := l.fs.Create(path, "queue-log")
	if err != nil {
		return fmt.Errorf("create segment %s: %w", path, err)
	}
	if _, err = f.Write(g.header()); err == nil {
		if err = f.Sync(); err == nil {
			err = syncDir(l.fs, l.path(LogDir))
		}
	}
	if err != nil {
		return fmt.Errorf("create segment %s: %w", path, errors.Join(err, f.Close(), l.fs.Remove(path)))
	}
	if l.file != nil {
		if err := l.file.Close(); err != nil {
			l.opt.Log.Warn("close a segment of the queue store", "segment", l.current.number, "error", err)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.file, l.current, l.torn = f, g, false
	l.segments[g.number] = g
	l.size.Add(g.size)
	return nil
}

// segment is the segment of a number.
func (l *Log) segment(n uint64) (*segment, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if g := l.segments[n]; g != nil {
		return g, nil
	}
	return nil, fmt.Errorf("segment %d: %w", n, log.ErrTrimmed)
}

// ReadAt implements log.Log.
func (l *Log) ReadAt(_ context.Context, b []byte, at log.Position) error {
	g, err := l.segment(at.Segment)
	if err != nil || len(b) == 0 {
		return err
	}
	return g.read(l, b, at.Offset)
}

// Scan implements log.Log. From the start of a segment it verifies the header as well.
func (l *Log) Scan(ctx context.Context, from, to log.Position, visit log.Visit) error {
	if _, err := l.segment(from.Segment); err != nil {
		return err
	}
	err := l.scan(ctx, from, to, visit)
	if errors.Is(err, os.ErrNotExist) {
		if _, gone := l.segment(from.Segment); gone != nil {
			return gone // it was trimmed before it was opened
		}
	}
	return err
}

func (l *Log) scan(ctx context.Context, from, to log.Position, visit log.Visit) error {
	path := l.segmentPath(from.Segment)
	if from.Offset == 0 {
		_, whole, err := readSegment(l.fs, path, from.Segment)
		if err != nil {
			return err
		}
		if !whole {
			return fmt.Errorf("segment %s has no header: %w", path, queue.ErrCorrupt)
		}
	}
	r, err := l.read(from.Segment, from.Offset, max(to.Offset, segmentHeader))
	if err != nil {
		return err
	}
	defer r.close()
	for {
		_, err := r.next(visit)
		_, bad := errors.AsType[log.Unreadable](err)
		switch {
		case errors.Is(err, io.EOF) && r.at < to.Offset:
			return fmt.Errorf("segment %s ends at offset %d of %d: %w", path, r.at, to.Offset, queue.ErrCorrupt)
		case errors.Is(err, io.EOF):
			return ctx.Err()
		case bad:
			return fmt.Errorf("segment %s at offset %d: %w: %w", path, r.at, err, queue.ErrCorrupt)
		case err != nil:
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// Segments implements log.Log.
func (l *Log) Segments() []log.Segment {
	numbers := l.numbers()
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]log.Segment, 0, len(numbers))
	for _, n := range numbers {
		if g := l.segments[n]; g != nil {
			out = append(out, log.Segment{Number: n, First: g.first, Size: g.size})
		}
	}
	return out
}

// Trim implements log.Log.
func (l *Log) Trim(_ context.Context, through uint64, segments ...uint64) error {
	l.through.Store(through)
	for _, n := range segments {
		g, err := l.segment(n)
		if err != nil {
			return err
		}
		l.mu.Lock()
		delete(l.segments, n)
		l.mu.Unlock()
		l.size.Add(-g.size)
		g.remove(&l.files)
		path := l.segmentPath(n)
		if err := l.fs.Remove(path); err != nil {
			return fmt.Errorf("delete segment %s: %w", path, err)
		}
	}
	l.forgetOld(cachedBytes)
	return nil
}

// forgetOld has the kernel forget what it holds of segments that are more than keep bytes
// behind the end of the log: a backlog would fill its memory with what nobody reads for
// long, at the expense of other files, and taking new memory for each page costs several
// times what a write into used memory does.
func (l *Log) forgetOld(keep int64) {
	newer := int64(0)
	for _, n := range slices.Backward(l.numbers()) {
		l.mu.Lock()
		g := l.segments[n]
		size, old := int64(0), false
		if g != nil {
			size = g.size
			old = newer >= keep && !g.dropped
			g.dropped = g.dropped || old
		}
		l.mu.Unlock()
		newer += size
		if !old {
			continue
		}
		if err := g.forget(l); err != nil {
			l.opt.Log.Warn("maintenance of the queue store failed", "task", "let go of an old segment", "dir", l.dir, "error", err)
		}
	}
}
