package disk

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirdata/weir/internal/queue/log"
)

// options are those of a test, on a file system of its own unless one is given.
func options(fs vfs.FS) Options {
	if fs == nil {
		fs = vfs.NewMem()
	}
	return Options{Log: slog.New(slog.DiscardHandler), SegmentBytes: 1 << 10, FS: fs}
}

// open opens a log and replays it from its start; the numbers of what it holds are noted.
func open(t testing.TB, opt Options) (*Log, []uint64) {
	t.Helper()
	l, err := Open("store", opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // a test that cares closes it
	var numbers []uint64
	if err := l.Replay(t.Context(), log.Position{}, 0, func(e *log.Entry) error {
		numbers = append(numbers, e.Number)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return l, numbers
}

// add appends n entries, in one group, with data of the given size.
func add(t testing.TB, l *Log, n, size int) []*log.Entry {
	t.Helper()
	group := make([]*log.Entry, n)
	for i := range group {
		group[i] = &log.Entry{Head: fmt.Append(nil, i), Data: [][]byte{bytes.Repeat([]byte{byte(i)}, size)}}
	}
	if err := l.Append(group); err != nil {
		t.Fatal(err)
	}
	return group
}

// TestForgetOld lets the kernel forget the segments that are far behind the end of the
// log, once, and they are read all the same.
func TestForgetOld(t *testing.T) {
	t.Parallel()
	opt := options(vfs.Default)
	opt.SegmentBytes = 10_000
	l, err := Open(t.TempDir(), opt)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Replay(t.Context(), log.Position{}, 0, nil); err != nil {
		t.Fatal(err)
	}
	var all []*log.Entry
	for range 40 {
		all = append(all, add(t, l, 1, 2000)...)
	}
	l.forgetOld(30_000)
	newer := int64(0)
	for _, n := range slices.Backward(l.numbers()) {
		g := l.segments[n]
		if g.dropped != (newer >= 30_000) {
			t.Errorf("segment %d, with %d bytes after it: forgotten %v", n, newer, g.dropped)
		}
		newer += g.size
	}
	if newer < 60_000 {
		t.Fatalf("the log has %d bytes only", newer)
	}
	for _, e := range all {
		b := make([]byte, 2000)
		if err := l.ReadAt(t.Context(), b, e.At); err != nil || !bytes.Equal(b, e.Data[0]) {
			t.Fatalf("entry %d: %v", e.Number, err)
		}
	}
}
