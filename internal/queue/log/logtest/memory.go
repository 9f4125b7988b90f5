package logtest

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/log"
)

// Memory is a place for a log in memory: the smallest that keeps every promise. Like a
// topic of a broker it does not keep a second opening out, but fences the first off; with
// FrontOnly it is also cut at its front only.
type Memory struct {
	Name      string
	FrontOnly bool
	// SegmentBytes is the size at which a new segment is begun; 0 means 1024.
	SegmentBytes int

	mu       sync.Mutex
	opened   uint32
	writer   uint32 // epoch of the opening that appends
	segments []*memorySegment
	trimmed  map[uint64]bool // given back, and kept while there is one before
	last     uint64          // number of the last entry
}

type memorySegment struct {
	number, first uint64
	bytes         []byte // of the entries, as positions see them
	entries       []*log.Entry
}

var _ Place = (*Memory)(nil)

// Open implements Place.
func (m *Memory) Open(testing.TB) (log.Log, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.opened++
	return &memoryLog{m: m, epoch: m.opened}, nil
}

// Crash implements Place. Whatever is there is durable.
func (m *Memory) Crash(testing.TB, *rand.Rand) Place {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := &Memory{
		Name: m.Name, FrontOnly: m.FrontOnly, SegmentBytes: m.SegmentBytes, opened: m.opened, last: m.last, trimmed: map[uint64]bool{},
	}
	for n := range m.trimmed {
		c.trimmed[n] = true
	}
	for _, g := range m.segments {
		c.segments = append(c.segments, &memorySegment{g.number, g.first, slices.Clone(g.bytes), slices.Clone(g.entries)})
	}
	return c
}

// roll begins a segment.
func (m *Memory) roll(number uint64) {
	m.segments = append(m.segments, &memorySegment{number: number, first: m.last + 1})
}

// find is the segment of a number, and its place; nil when it is not there.
func (m *Memory) find(n uint64) (int, *memorySegment) {
	i, found := slices.BinarySearchFunc(m.segments, n, func(g *memorySegment, n uint64) int { return int(g.number) - int(n) })
	if !found {
		return i, nil
	}
	return i, m.segments[i]
}

func (m *Memory) cut() {
	for i := 0; i < len(m.segments); {
		switch {
		case m.trimmed[m.segments[i].number]:
			m.segments = slices.Delete(m.segments, i, i+1)
		case m.FrontOnly:
			return
		default:
			i++
		}
	}
}

// memoryLog is one opening.
type memoryLog struct {
	m     *Memory
	epoch uint32
}

var _ log.Log = (*memoryLog)(nil)

func (l *memoryLog) Identity() string { return "memory " + l.m.Name }
func (l *memoryLog) Epoch() uint32    { return l.epoch }
func (l *memoryLog) Close() error     { return nil }

func (l *memoryLog) Sync() error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	return l.fenced()
}

func (l *memoryLog) fenced() error {
	if l.m.writer != l.epoch {
		return fmt.Errorf("opening %d is fenced off by %d: %w", l.epoch, l.m.writer, log.ErrBroken)
	}
	return nil
}

func (l *memoryLog) Size() int64 {
	n := int64(0)
	for _, g := range l.Segments() {
		n += g.Size
	}
	return n
}

func (l *memoryLog) Segments() []log.Segment {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	var out []log.Segment
	for _, g := range l.m.segments {
		out = append(out, log.Segment{Number: g.number, First: g.first, Size: int64(len(g.bytes))})
	}
	return out
}

func (l *memoryLog) Replay(ctx context.Context, from log.Position, last uint64, visit log.Visit) error {
	l.m.mu.Lock()
	if l.m.writer > l.epoch {
		defer l.m.mu.Unlock()
		return l.fenced()
	}
	l.m.writer = l.epoch
	segments := slices.Clone(l.m.segments)
	end := l.m.last
	l.m.mu.Unlock()
	next := last + 1
	for _, g := range segments {
		if g.number < from.Segment {
			continue
		}
		if g.number == from.Segment && int64(len(g.bytes)) < from.Offset {
			return fmt.Errorf("segment %d has %d bytes of %d: %w", g.number, len(g.bytes), from.Offset, queue.ErrCorrupt)
		}
		for _, e := range g.entries {
			if e.End.Segment == from.Segment && e.End.Offset <= from.Offset {
				continue
			}
			if e.Number != next {
				return fmt.Errorf("entry %d follows entry %d: %w", e.Number, next-1, queue.ErrCorrupt)
			}
			if err := l.visit(ctx, e, visit); err != nil {
				return err
			}
			next++
		}
	}
	if next <= end {
		return fmt.Errorf("the log ends with entry %d of %d: %w", next-1, end, queue.ErrCorrupt)
	}
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	if err := l.fenced(); err != nil {
		return err
	}
	l.m.last = max(l.m.last, last)
	number := from.Segment + 1
	if n := len(l.m.segments); n > 0 {
		number = max(number, l.m.segments[n-1].number+1)
	}
	l.m.roll(number)
	return nil
}

// visit hands a copy of an entry out, with its data in one piece.
func (l *memoryLog) visit(ctx context.Context, e *log.Entry, visit log.Visit) error {
	c := *e
	c.Head, c.Data = bytes.Clone(e.Head), [][]byte{bytes.Join(e.Data, nil)}
	err := visit(&c)
	if _, bad := err.(log.Unreadable); bad { //nolint:errorlint // what visit says itself
		return fmt.Errorf("entry %d: %w: %w", e.Number, err, queue.ErrCorrupt)
	}
	if err == nil {
		err = ctx.Err()
	}
	return err
}

// Append puts one entry after the other: a crash may come between.
func (l *memoryLog) Append(group []*log.Entry) error {
	for i, e := range group {
		if err := l.append(e, i == 0); err != nil {
			return err
		}
	}
	return nil
}

func (l *memoryLog) append(e *log.Entry, roll bool) error {
	m := l.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := l.fenced(); err != nil {
		return err
	}
	limit := m.SegmentBytes
	if limit == 0 {
		limit = 1024
	}
	g := m.segments[len(m.segments)-1]
	if roll && len(g.bytes) >= limit {
		m.roll(g.number + 1)
		g = m.segments[len(m.segments)-1]
	}
	m.last++
	e.Number = m.last
	g.bytes = append(append(g.bytes, '<'), e.Head...) // what is between data means nothing
	e.At = log.Position{Segment: g.number, Offset: int64(len(g.bytes))}
	g.bytes = append(g.bytes, bytes.Join(e.Data, nil)...)
	e.End = log.Position{Segment: g.number, Offset: int64(len(g.bytes))}
	kept := *e
	kept.Head, kept.Data = bytes.Clone(e.Head), [][]byte{bytes.Join(e.Data, nil)}
	g.entries = append(g.entries, &kept)
	return nil
}

func (l *memoryLog) ReadAt(_ context.Context, b []byte, at log.Position) error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	_, g := l.m.find(at.Segment)
	if g == nil {
		return fmt.Errorf("segment %d: %w", at.Segment, log.ErrTrimmed)
	}
	if at.Offset < 0 || at.Offset+int64(len(b)) > int64(len(g.bytes)) {
		return fmt.Errorf("read %d bytes at %d of %d of segment %d: %w", len(b), at.Offset, len(g.bytes), at.Segment, queue.ErrCorrupt)
	}
	copy(b, g.bytes[at.Offset:])
	return nil
}

func (l *memoryLog) Scan(ctx context.Context, from, to log.Position, visit log.Visit) error {
	l.m.mu.Lock()
	_, g := l.m.find(from.Segment)
	if g == nil {
		l.m.mu.Unlock()
		return fmt.Errorf("segment %d: %w", from.Segment, log.ErrTrimmed)
	}
	entries := slices.Clone(g.entries)
	l.m.mu.Unlock()
	for _, e := range entries {
		if e.End.Offset > from.Offset && e.End.Offset <= to.Offset {
			if err := l.visit(ctx, e, visit); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *memoryLog) Trim(_ context.Context, through uint64, segments ...uint64) error {
	m := l.m
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range segments {
		i, g := m.find(n)
		if g == nil || i+1 == len(m.segments) || m.segments[i+1].first > through+1 {
			return fmt.Errorf("trim segment %d, through entry %d: it is not there, or still needed", n, through)
		}
	}
	if m.trimmed == nil {
		m.trimmed = map[uint64]bool{}
	}
	for _, n := range segments {
		m.trimmed[n] = true
	}
	m.cut()
	return nil
}
