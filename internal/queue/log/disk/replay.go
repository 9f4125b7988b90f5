package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/log"
)

// Replay implements log.Log.
func (l *Log) Replay(ctx context.Context, from log.Position, last uint64, visit log.Visit) error {
	l.last = last
	if err := l.replay(ctx, from, visit); err != nil {
		return err
	}
	if err := l.checkReach(); err != nil {
		return err
	}
	return l.begin()
}

// numbers are those of the segments, in order.
func (l *Log) numbers() []uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]uint64, 0, len(l.segments))
	for n := range l.segments {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

func (l *Log) replay(ctx context.Context, from log.Position, visit log.Visit) error {
	l.mark.end.Segment = max(l.mark.end.Segment, from.Segment)
	numbers := l.numbers()
	if len(numbers) == 0 {
		return nil
	}
	if from.Segment == 0 {
		from.Segment = numbers[0]
		if first := l.segments[numbers[0]].first; first != 1 {
			return fmt.Errorf("the state is empty, and the log begins at commit %d only: %w", first, queue.ErrCorrupt)
		}
	}
	// Where from lies behind every segment, all of them were settled and deleted.
	for i, n := range numbers {
		if n < from.Segment {
			continue
		}
		g, offset := l.segments[n], int64(0)
		if n == from.Segment {
			offset = from.Offset
		} else if g.first != l.last+1 && l.opt.Lost == nil {
			return fmt.Errorf("segment %s begins with commit %d, but commit %d is next: a segment is missing: %w", l.segmentPath(n), g.first, l.last+1, queue.ErrCorrupt)
		}
		until := uint64(math.MaxUint64)
		if i+1 < len(numbers) {
			until = l.segments[numbers[i+1]].first - 1
		}
		replay := l.replaySegment
		if l.opt.Lost != nil {
			replay = l.passSegment
		}
		if err := replay(ctx, g, offset, until, visit); err != nil {
			return err
		}
	}
	return nil
}

// replaySegment visits the frames of a segment from an offset up to the entry until, which
// is the greatest number for the last segment.
func (l *Log) replaySegment(ctx context.Context, g *segment, from int64, until uint64, visit log.Visit) error {
	path := l.segmentPath(g.number)
	if g.size < from {
		return fmt.Errorf("segment %s has %d bytes, but %d were written and acknowledged: restore it; weir store salvage goes on without: %w", path, g.size, from, queue.ErrCorrupt)
	}
	r, err := l.read(g.number, from, math.MaxInt64)
	if err != nil {
		return err
	}
	defer r.close()
	inOrder := func(e *log.Entry) error {
		if e.Number != l.last+1 {
			return fmt.Errorf("read segment %s: commit %d follows commit %d: %w", path, e.Number, l.last, queue.ErrCorrupt)
		}
		return visit(e)
	}
	for l.last != until {
		f, err := r.next(inOrder)
		bad, unreadable := errors.AsType[log.Unreadable](err)
		switch {
		case errors.Is(err, io.EOF) && until == math.MaxUint64:
			return nil
		case errors.Is(err, io.EOF):
			return fmt.Errorf("segment %s ends with commit %d, but has commits up to %d: %w", path, l.last, until, queue.ErrCorrupt)
		case unreadable:
			return l.tail(r, until, bad)
		case err != nil:
			return err
		}
		l.last = f.Number
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// tail decides what it means that no frame stands where one should: nil when it is the end
// of the log, behind which nothing was acknowledged.
func (l *Log) tail(r *frameReader, until uint64, bad log.Unreadable) error {
	at := r.at
	damaged := until != math.MaxUint64 || l.last < l.mark.commit
	if !damaged {
		follows, err := r.follows(l.last + 1)
		if err != nil {
			return err
		}
		damaged = follows
	}
	if damaged {
		return fmt.Errorf("read segment %s at offset %d, after commit %d of at least %d: %w: %w", r.path, at, l.last, l.mark.commit, bad, queue.ErrCorrupt)
	}
	return nil
}

// errBeyond says that a frame was never acknowledged: the next segment begins before it.
var errBeyond = errors.New("the next segment begins before this frame")

// passSegment visits what can be read of a segment from an offset up to the entry until,
// and passes over the rest.
func (l *Log) passSegment(ctx context.Context, g *segment, from int64, until uint64, visit log.Visit) error {
	r, err := l.read(g.number, min(from, max(g.size, segmentHeader)), g.size)
	if err != nil {
		return err
	}
	defer r.close()
	wanted := func(e *log.Entry) error {
		if e.Number > until {
			return errBeyond
		}
		if e.Number <= l.last {
			return nil
		}
		if err := visit(e); err != nil {
			return err
		}
		l.opt.Lost.Entries += int64(e.Number - l.last - 1)
		l.last = e.Number
		return ctx.Err()
	}
	for {
		start := r.at
		_, err := r.next(wanted)
		if _, bad := errors.AsType[log.Unreadable](err); bad {
			var f *frame
			f, err = r.search(l.last, func(f *frame) (bool, error) {
				err := wanted(&f.Entry)
				if _, bad := errors.AsType[log.Unreadable](err); bad {
					return false, nil
				}
				return err == nil, err
			})
			l.opt.Lost.Bytes += r.at - start
			switch {
			case f != nil:
				r.at = f.End.Offset
			case err == nil:
				return nil
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, errBeyond) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// checkReach compares what was found with the mark.
func (l *Log) checkReach() error {
	reached, want := l.last, l.mark.commit
	if reached >= want {
		l.mark.commit = reached
		return nil
	}
	if l.opt.Lost != nil {
		l.opt.Lost.Entries += int64(want - reached)
		l.opt.Log.Error("acknowledged commits are missing from the queue store", "first", reached+1, "last", want)
		l.mark.commit = reached
		return nil
	}
	return fmt.Errorf("the log ends at commit %d, but commits up to %d were acknowledged: restore the segments that are missing; weir store salvage goes on without: %w", reached, want, queue.ErrCorrupt)
}

// begin makes the log ready to be appended to. What follows the last entry was never
// acknowledged; a new segment makes it void.
func (l *Log) begin() error {
	if l.fresh && l.last > 0 && l.opt.Lost == nil {
		return fmt.Errorf("read %s: it is missing, and the store has %d commits: %w", l.path(FormatName), l.last, queue.ErrCorrupt)
	}
	l.current = &segment{number: l.mark.end.Segment}
	if numbers := l.numbers(); len(numbers) > 0 {
		l.current.number = max(l.current.number, numbers[len(numbers)-1])
	}
	if err := l.roll(); err != nil {
		return err
	}
	l.mark.end = log.Position{Segment: l.current.number, Offset: l.current.size}
	for range 2 {
		if err := writeMark(l.markFile, &l.mark); err != nil {
			return err
		}
	}
	if err := l.markFile.Sync(); err != nil {
		return fmt.Errorf("sync the high-water mark: %w", err)
	}
	if !l.fresh {
		return nil
	}
	// FORMAT says that the mark is there: it must not be found alone after a power failure.
	if err := errors.Join(syncDir(l.fs, l.dir), SyncParent(l.fs, l.dir)); err != nil {
		return fmt.Errorf("sync the directory %s: %w", l.dir, err)
	}
	return l.writeFormat()
}
