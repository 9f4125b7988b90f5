// Package logtest is the definition of a log: what queue/log promises, as tests that every
// log passes, and the log in memory that passes them with the least ([Memory]).
//
//	func TestLog(t *testing.T) { logtest.Run(t, func(t testing.TB) logtest.Place { ... }) }
//
// [Run] checks each promise on its own, then random histories with crashes against a plain
// list of what was appended.
package logtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/log"
)

// Place is where a log is kept. Its segments are small: some thousand bytes.
type Place interface {
	// Open opens it once more. It is refused with queue.ErrInUse, or fences off the opening
	// before.
	Open(t testing.TB) (log.Log, error)
	// Crash is the place as a failure of the power would leave it now, with any part of
	// what is not durable.
	Crash(t testing.TB, rng *rand.Rand) Place
}

// Run checks every promise. empty makes a place without a log.
func Run(t *testing.T, empty func(t testing.TB) Place) {
	t.Helper()
	for _, tt := range []struct {
		name string
		fn   func(*bundle)
	}{
		{"AppendAndReplay", testAppend},
		{"ReplayFromAnyEntry", testReplayFrom},
		{"ReplayEndsWithVisit", testVisitFails},
		{"UnreadableIsDamage", testUnreadable},
		{"BeyondTheEnd", testBeyond},
		{"ReadAt", testReadAt},
		{"Scan", testScan},
		{"Trim", testTrim},
		{"TrimmedIsNotReplayed", testReplayTrimmed},
		{"LaterOpeningFences", testFence},
		{"CrashInAnAppend", testCrash},
		{"Concurrent", testConcurrent},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.fn(&bundle{T: t, place: empty(t), rng: rand.New(rand.NewPCG(1, 2))})
		})
	}
	for seed := range uint64(12) {
		t.Run(fmt.Sprintf("History/seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			history(&bundle{T: t, place: empty(t), rng: rand.New(rand.NewPCG(seed, 3))}, 300)
		})
	}
}

// bundle is a log and what was appended to it.
type bundle struct {
	*testing.T
	place   Place
	log     log.Log
	rng     *rand.Rand
	all     []*log.Entry // acknowledged, from the first
	through uint64       // as Trim was told
	gone    map[uint64]bool
}

// entry makes an entry whose bytes tell it from every other.
func (b *bundle) entry(n int) *log.Entry {
	e := &log.Entry{Head: fmt.Appendf(nil, "head %d", n)}
	for i := range b.rng.IntN(4) {
		e.Data = append(e.Data, bytes.Repeat(fmt.Appendf(nil, "%d.%d ", n, i), b.rng.IntN(60)))
	}
	return e
}

func (b *bundle) group(n int) []*log.Entry {
	group := make([]*log.Entry, n)
	for i := range group {
		group[i] = b.entry(len(b.all) + 1 + i)
	}
	return group
}

// same reports an entry that is not the one that was appended.
func (b *bundle) same(got, want *log.Entry) {
	b.Helper()
	if got.Number != want.Number || got.At != want.At || got.End != want.End || !bytes.Equal(got.Head, want.Head) {
		b.Fatalf("visited entry %d at %v to %v with head %q, want %d at %v to %v with %q",
			got.Number, got.At, got.End, got.Head, want.Number, want.At, want.End, want.Head)
	}
	if len(got.Data) != 1 || !bytes.Equal(got.Data[0], bytes.Join(want.Data, nil)) {
		b.Fatalf("entry %d was visited with other data than it was appended with, or in %d pieces", want.Number, len(got.Data))
	}
}

// start is where the entry of an index of all may be replayed from.
func (b *bundle) start(i int) (from log.Position, last uint64) {
	if i == 0 {
		return log.Position{}, 0
	}
	return b.all[i-1].End, b.all[i-1].Number
}

// open opens the place, and replays it from the entry of an index of all.
func (b *bundle) open(i int) {
	b.Helper()
	var err error
	if b.log, err = b.place.Open(b); err != nil {
		b.Fatalf("open: %v", err)
	}
	b.Cleanup(func() { _ = b.log.Close() })
	from, last := b.start(i)
	n := i
	if err := b.log.Replay(b.Context(), from, last, func(e *log.Entry) error {
		if n == len(b.all) {
			b.Fatalf("visited entry %d, of %d that were appended", e.Number, len(b.all))
		}
		b.same(e, b.all[n])
		n++
		return nil
	}); err != nil {
		b.Fatalf("replay from %v: %v", from, err)
	}
	if n != len(b.all) {
		b.Fatalf("visited entries up to %d, of %d that were acknowledged", n, len(b.all))
	}
}

func (b *bundle) append(n int) {
	b.Helper()
	group := b.group(n)
	if err := b.log.Append(group); err != nil {
		b.Fatalf("append: %v", err)
	}
	for i, e := range group {
		if want := uint64(len(b.all) + 1); e.Number != want {
			b.Fatalf("entry %d of a group has number %d, want %d", i, e.Number, want)
		}
		if n := len(b.all); n > 0 && !b.all[n-1].At.Before(e.End) {
			b.Fatalf("entry %d ends at %v, and the data of the one before begins at %v", e.Number, e.End, b.all[n-1].At)
		}
		b.all = append(b.all, e)
	}
}

func (b *bundle) reopen(i int) {
	b.Helper()
	if err := b.log.Close(); err != nil {
		b.Fatal(err)
	}
	b.open(i)
}

// fill appends until there are n segments.
func (b *bundle) fill(n int) {
	b.Helper()
	for len(b.log.Segments()) < n {
		b.append(1 + b.rng.IntN(5))
	}
}

func testAppend(b *bundle) {
	b.open(0)
	epoch := b.log.Epoch()
	for i := range 20 {
		b.append(1 + i%7)
		if i%5 == 0 {
			b.reopen(0)
			if next := b.log.Epoch(); next <= epoch {
				b.Fatalf("epoch %d follows epoch %d", next, epoch)
			}
			epoch = b.log.Epoch()
		}
	}
	if len(b.log.Segments()) < 3 {
		b.Fatalf("%d segments: the test is for several", len(b.log.Segments()))
	}
}

func testReplayFrom(b *bundle) {
	b.open(0)
	b.fill(4)
	for i := range len(b.all) + 1 {
		b.reopen(i)
	}
}

// testVisitFails ends a replay, whose log is opened again all the same.
func testVisitFails(b *bundle) {
	b.open(0)
	b.append(5)
	if err := b.log.Close(); err != nil {
		b.Fatal(err)
	}
	l, err := b.place.Open(b)
	if err != nil {
		b.Fatal(err)
	}
	mine := errors.New("the visitor's own")
	n := 0
	if err := l.Replay(b.Context(), log.Position{}, 0, func(*log.Entry) error {
		if n++; n == 3 {
			return mine
		}
		return nil
	}); !errors.Is(err, mine) || n != 3 {
		b.Errorf("replay = %v after %d entries", err, n)
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	b.open(0)
}

// testUnreadable finds an entry that was acknowledged unreadable: nowhere in the log is
// that its end.
func testUnreadable(b *bundle) {
	b.open(0)
	b.fill(3)
	for _, bad := range []int{1, len(b.all) / 2, len(b.all)} {
		if err := b.log.Close(); err != nil {
			b.Fatal(err)
		}
		l, err := b.place.Open(b)
		if err != nil {
			b.Fatal(err)
		}
		if err := l.Replay(b.Context(), log.Position{}, 0, func(e *log.Entry) error {
			if e.Number == uint64(bad) {
				return log.Unreadable{What: "it is not"}
			}
			return nil
		}); !errors.Is(err, queue.ErrCorrupt) {
			b.Errorf("replay with entry %d of %d unreadable = %v, want ErrCorrupt", bad, len(b.all), err)
		}
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
		b.open(0)
	}
	e := b.all[0]
	if err := b.log.Scan(b.Context(), log.Position{Segment: e.At.Segment}, e.End, func(*log.Entry) error {
		return log.Unreadable{What: "it is not"}
	}); !errors.Is(err, queue.ErrCorrupt) {
		b.Errorf("scan of an unreadable entry = %v, want ErrCorrupt", err)
	}
}

// testBeyond replays from behind the end: what is not there was lost.
func testBeyond(b *bundle) {
	b.open(0)
	b.append(3)
	end := b.all[2].End
	if err := b.log.Close(); err != nil {
		b.Fatal(err)
	}
	l, err := b.place.Open(b)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() }) // it was not replayed
	end.Offset += 1000
	if err := l.Replay(b.Context(), end, 4, func(*log.Entry) error { return nil }); !errors.Is(err, queue.ErrCorrupt) {
		b.Errorf("replay from behind the end = %v, want ErrCorrupt", err)
	}
}

// read reads a part of the data of an entry. Both answers are right once its segment was
// given back, as a log may keep it.
func (b *bundle) read(e *log.Entry) {
	b.Helper()
	data := bytes.Join(e.Data, nil)
	from := b.rng.IntN(len(data) + 1)
	want := data[from : from+b.rng.IntN(len(data)-from+1)]
	got := make([]byte, len(want))
	at := e.At
	at.Offset += int64(from)
	err := b.log.ReadAt(b.Context(), got, at)
	if errors.Is(err, log.ErrTrimmed) && b.gone[e.At.Segment] {
		return
	}
	if err != nil {
		b.Fatalf("read %d bytes at %v: %v", len(got), at, err)
	}
	if !bytes.Equal(got, want) {
		b.Fatalf("read %q at %v, want %q", got, at, want)
	}
}

func testReadAt(b *bundle) {
	b.open(0)
	b.fill(4)
	for _, e := range b.all {
		b.read(e)
	}
	b.reopen(len(b.all))
	for _, e := range b.all {
		b.read(e)
	}
	end := b.all[len(b.all)-1].End
	if err := b.log.ReadAt(b.Context(), make([]byte, 10), end); !errors.Is(err, queue.ErrCorrupt) {
		b.Errorf("read behind the end = %v, want ErrCorrupt", err)
	}
}

// scan visits the entries of all from one index to another, which are of one segment.
func (b *bundle) scan(i, to int) {
	b.Helper()
	from := log.Position{Segment: b.all[i].At.Segment}
	if i > 0 && b.all[i-1].End.Segment == from.Segment {
		from = b.all[i-1].End
	}
	n := i
	err := b.log.Scan(b.Context(), from, b.all[to].End, func(e *log.Entry) error {
		b.same(e, b.all[n])
		n++
		return nil
	})
	if errors.Is(err, log.ErrTrimmed) && b.gone[from.Segment] {
		return
	}
	if err != nil || n != to+1 {
		b.Fatalf("scan of entries %d to %d = %v after entry %d", i+1, to+1, err, n)
	}
}

func testScan(b *bundle) {
	b.open(0)
	b.fill(4)
	b.reopen(0)
	for i := range b.all {
		for to := i; to < len(b.all) && b.all[to].At.Segment == b.all[i].At.Segment; to++ {
			b.scan(i, to)
		}
	}
	ctx, stop := context.WithCancel(b.Context())
	stop()
	e := b.all[1]
	if err := b.log.Scan(ctx, log.Position{Segment: e.At.Segment}, e.End, func(*log.Entry) error { return nil }); !errors.Is(err, context.Canceled) {
		b.Errorf("scan after its end = %v", err)
	}
}

// trim gives back any of the segments that end at or before the entry through.
func (b *bundle) trim(through uint64, want func(log.Segment) bool) {
	b.Helper()
	var numbers []uint64
	segments := b.log.Segments()
	for i, g := range segments {
		if i+1 < len(segments) && segments[i+1].First <= through+1 && !b.gone[g.Number] && want(g) {
			numbers = append(numbers, g.Number)
		}
	}
	if err := b.log.Trim(b.Context(), through, numbers...); err != nil {
		b.Fatalf("trim %v through entry %d: %v", numbers, through, err)
	}
	if b.gone == nil {
		b.gone = map[uint64]bool{}
	}
	for _, n := range numbers {
		b.gone[n] = true
	}
	b.through = max(b.through, through)
}

func testTrim(b *bundle) {
	b.open(0)
	b.fill(6)
	size, segments := b.log.Size(), b.log.Segments()
	second, third := segments[1].Number, segments[2].Number
	b.trim(segments[3].First-1, func(g log.Segment) bool { return g.Number == second })
	for _, e := range b.all {
		b.read(e)
	}
	b.trim(segments[3].First-1, func(g log.Segment) bool { return g.Number <= third })
	left := b.log.Segments()
	if len(left) != len(segments)-3 || left[0].Number != segments[3].Number || b.log.Size() >= size {
		b.Fatalf("three segments of %v were given back, and there are %v, %d bytes of %d", segments, left, b.log.Size(), size)
	}
	if err := b.log.ReadAt(b.Context(), nil, b.all[0].At); !errors.Is(err, log.ErrTrimmed) {
		b.Errorf("read from a segment that was given back = %v, want ErrTrimmed", err)
	}
	if err := b.log.Scan(b.Context(), log.Position{Segment: third}, log.Position{Segment: third}, nil); !errors.Is(err, log.ErrTrimmed) {
		b.Errorf("scan of a segment that was given back = %v, want ErrTrimmed", err)
	}
	b.append(3)
	b.reopen(int(b.through))
	for i, e := range b.all {
		b.read(e)
		if e.Number > b.through {
			b.scan(i, i)
		}
	}
	b.append(3)
}

// testReplayTrimmed replays what was given back.
func testReplayTrimmed(b *bundle) {
	b.open(0)
	b.fill(4)
	segments := b.log.Segments()
	b.trim(segments[2].First-1, func(log.Segment) bool { return true })
	if err := b.log.Close(); err != nil {
		b.Fatal(err)
	}
	l, err := b.place.Open(b)
	if err != nil {
		b.Fatal(err)
	}
	if err := l.Replay(b.Context(), log.Position{}, 0, func(*log.Entry) error { return nil }); !errors.Is(err, queue.ErrCorrupt) {
		b.Errorf("replay of what was given back = %v, want ErrCorrupt", err)
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	b.open(int(b.through))
}

// testFence opens the log while it is open.
func testFence(b *bundle) {
	b.open(0)
	b.append(3)
	later, err := b.place.Open(b)
	if errors.Is(err, queue.ErrInUse) {
		b.append(1) // it is kept out
		return
	}
	if err != nil {
		b.Fatal(err)
	}
	b.append(2) // not before the later one has replayed
	first := b.log
	if err := later.Close(); err != nil {
		b.Fatal(err)
	}
	b.open(0)
	if err := first.Append(b.group(2)); !errors.Is(err, log.ErrBroken) {
		b.Errorf("append of an earlier opening = %v, want ErrBroken", err)
	}
	if err := first.Sync(); !errors.Is(err, log.ErrBroken) {
		b.Errorf("sync of an earlier opening = %v, want ErrBroken", err)
	}
	b.append(2)
	if err := first.Append(b.group(1)); !errors.Is(err, log.ErrBroken) {
		b.Errorf("append of an earlier opening = %v, want ErrBroken", err)
	}
	b.reopen(0)
}

// crash goes on with the place as the power fails while a group is appended: of that, a
// prefix may be there.
func (b *bundle) crash(n int) {
	b.Helper()
	group := b.group(n)
	done := make(chan error)
	l := b.log
	go func() { done <- l.Append(group) }()
	for range b.rng.IntN(3) {
		b.place.Crash(b, b.rng)
	}
	crashed := b.place.Crash(b, b.rng)
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	b.place = crashed
	probe, err := crashed.Open(b)
	if err != nil {
		b.Fatalf("open after a crash: %v", err)
	}
	from, last := b.start(int(b.through))
	found := len(b.all)
	if err := probe.Replay(b.Context(), from, last, func(e *log.Entry) error {
		if i := int(e.Number) - 1 - len(b.all); i >= 0 && i < len(group) {
			b.same(e, group[i])
			found = int(e.Number)
		}
		return nil
	}); err != nil {
		b.Fatalf("replay after a crash: %v", err)
	}
	if err := probe.Close(); err != nil {
		b.Fatal(err)
	}
	b.all = append(b.all, group[:found-len(b.all)]...)
	b.open(int(b.through))
}

func testCrash(b *bundle) {
	b.open(0)
	for range 30 {
		b.append(1 + b.rng.IntN(3))
		b.crash(1 + b.rng.IntN(8))
	}
}

// testConcurrent reads, scans and trims while there are appends.
func testConcurrent(b *bundle) {
	b.open(0)
	b.fill(3)
	known := slices.Clone(b.all)
	stop := make(chan struct{})
	var others sync.WaitGroup
	for w := range 3 {
		others.Go(func() {
			for i := w; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				e := known[i%len(known)]
				got := make([]byte, len(bytes.Join(e.Data, nil)))
				err := b.log.ReadAt(b.Context(), got, e.At)
				if err == nil && !bytes.Equal(got, bytes.Join(e.Data, nil)) {
					err = errors.New("other data")
				}
				if err != nil && !errors.Is(err, log.ErrTrimmed) {
					b.Errorf("read entry %d: %v", e.Number, err)
				}
				if err := b.log.Scan(b.Context(), log.Position{Segment: e.At.Segment}, e.End, func(*log.Entry) error { return nil }); err != nil && !errors.Is(err, log.ErrTrimmed) {
					b.Errorf("scan to entry %d: %v", e.Number, err)
				}
				if err := b.log.Sync(); err != nil {
					b.Errorf("sync: %v", err)
				}
				_ = b.log.Size()
			}
		})
	}
	for i := range 60 {
		b.append(1 + b.rng.IntN(4))
		if i%10 == 9 {
			segments := b.log.Segments()
			b.trim(segments[len(segments)-1].First-1, func(log.Segment) bool { return b.rng.IntN(2) == 0 })
		}
	}
	close(stop)
	others.Wait()
	b.reopen(int(b.through))
}

// history does random things, and compares with what was appended.
func history(b *bundle, steps int) {
	b.open(0)
	for range steps {
		switch n := b.rng.IntN(20); {
		case n < 8:
			b.append(1 + b.rng.IntN(6))
		case n < 11 && len(b.all) > 0:
			b.read(b.all[b.rng.IntN(len(b.all))])
		case n < 14 && len(b.all) > 0:
			i := b.rng.IntN(len(b.all))
			to := i
			for to+1 < len(b.all) && b.all[to+1].At.Segment == b.all[i].At.Segment && b.rng.IntN(4) > 0 {
				to++
			}
			b.scan(i, to)
		case n < 16 && len(b.all) > int(b.through):
			b.trim(b.through+b.rng.Uint64N(uint64(len(b.all))-b.through+1), func(log.Segment) bool { return b.rng.IntN(3) > 0 })
		case n < 17:
			if err := b.log.Sync(); err != nil {
				b.Fatal(err)
			}
		case n < 19:
			b.reopen(int(b.through) + b.rng.IntN(len(b.all)-int(b.through)+1))
		default:
			b.crash(1 + b.rng.IntN(6))
		}
	}
	b.reopen(int(b.through))
}
