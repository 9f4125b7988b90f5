package rows

import (
	"fmt"
	"os"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/log"
	"github.com/weirdata/weir/internal/queue/partition"
)

// TestBytes compares the rows of the state, and its version, with what they were when FORMAT was
// raised last.
func TestBytes(t *testing.T) {
	t.Parallel()
	id := queue.ID{Lane: 7, Seq: 4211, Index: 3}
	lane := partition.Lane{ID: 7, Queue: "events", Scope: queue.Scope{Workspace: "w", Source: "s", Destination: "d"},
		First: 2, Tail: 300, Jobs: 298, Bytes: 70_000, Retry: 4, Parked: 5, Dead: 6, Retried: 3}
	side := partition.Side{ID: id, State: partition.Retry, Due: -5, Hash: 1 << 63, Attempt: 2, Cause: "refused", At: 1_700_000_000_000_000_000, Size: 99}
	place := location{Position: log.Position{Segment: 3, Offset: 1234}, size: 99, count: 2, crc: 0xdeadbeef}
	partly := partition.Partly{Seq: 4211, Count: 70, Size: 700, Bits: []uint64{1, 2}}
	clock := clock{set: -7, saved: 1_700_000_000_000_000_000}
	got := fmt.Sprintf("lane %x\nside %x\nplace %x\npartly %x\nid %x\ndue %x\nkey %x\nclock %q\nstate %d\n",
		encodeLane(&lane), encodeSide(side), place.encode(), encodePartly(&partly), idRow(rowSide, id), dueRow(id, -5), keyRow(id, 9), clock.encode(), stateFormat)
	want, err := os.ReadFile("testdata/format.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("what is written has changed. Programs that know this FORMAT read it wrong, or not: raise it in queue/log/disk, go on reading the one before, and say so in docs/compatibility.md.\ngot\n%swant\n%s", got, want)
	}
}

// TestStateFormat: the library has the version of the state, and opening gives a new state none that
// is later.
func TestStateFormat(t *testing.T) {
	t.Parallel()
	s := newStore(nil, "dir", Options{FS: vfs.NewMem()})
	if err := s.openState(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.db.Close() }()
	if v := s.db.FormatMajorVersion(); v != stateFormat || v > pebble.FormatNewest {
		t.Errorf("the state has version %d, want %d", v, stateFormat)
	}
}
