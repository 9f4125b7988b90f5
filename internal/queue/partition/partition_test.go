package partition

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weirdata/weir/internal/queue"
)

func sampleChange() *Change {
	return &Change{
		Left: []Left{{Lane: 1, Seq: 2, Count: 3, Size: 400}, {Lane: 9, Seq: 1, Count: 200, Size: 1, Index: []uint32{0, 5, 199}}},
		Side: []Side{
			{ID: queue.ID{Lane: 1, Seq: 2, Index: 3}, State: Retry, Due: -5, Hash: 1 << 63, Attempt: 2, Cause: "why", At: 7, Size: 3, Record: []byte("rec")},
			{ID: queue.ID{Lane: 1, Seq: 2, Index: 4}, State: Gone, Was: Dead, WasDue: 3, WasAttempt: 1},
		},
	}
}

func TestChangeRoundTrip(t *testing.T) {
	t.Parallel()
	for _, c := range []*Change{{}, sampleChange()} {
		got, rest, err := DecodeChange(append(c.Encode(nil), "rest"...))
		if err != nil || string(rest) != "rest" {
			t.Fatalf("DecodeChange left %q, %v", rest, err)
		}
		if diff := cmp.Diff(c, got, cmpopts.IgnoreUnexported(Change{}), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("change (-want +got):\n%s", diff)
		}
	}
}

func FuzzDecodeChange(f *testing.F) {
	f.Add(sampleChange().Encode(nil))
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, _, err := DecodeChange(b)
		if err != nil {
			if !errors.Is(err, queue.ErrCorrupt) {
				t.Fatalf("%v is not ErrCorrupt", err)
			}
			return
		}
		again, rest, err := DecodeChange(c.Encode(nil))
		if err != nil || len(rest) != 0 {
			t.Fatalf("what was read cannot be written back: %v", err)
		}
		if diff := cmp.Diff(c, again, cmpopts.IgnoreUnexported(Change{})); diff != "" {
			t.Fatalf("written back (-want +got):\n%s", diff)
		}
	})
}

func TestHub(t *testing.T) {
	t.Parallel()
	h := NewHub()
	none := h.Wake(queue.Filter{Queue: "a"})
	same := h.Wake(queue.Filter{Queue: "a", By: queue.None, Value: "ignored"})
	d := h.Wake(queue.Filter{Queue: "a", By: queue.ByDestination, Value: "d"})
	closed := func(c <-chan struct{}) bool {
		select {
		case <-c:
			return true
		default:
			return false
		}
	}
	h.Notify("b", queue.Scope{Destination: "d"})
	if closed(none) || closed(d) {
		t.Error("woken for another queue")
	}
	h.Notify("a", queue.Scope{Destination: "x"})
	if !closed(none) || !closed(same) || closed(d) {
		t.Error("only those without an axis are to be woken")
	}
	h.Close()
	if !closed(d) || !closed(h.Wake(queue.Filter{Queue: "c"})) {
		t.Error("Close wakes everybody, for good")
	}
}

// TestMemoryOfManyValues: what goes to thousands of lanes at once takes little more than its size.
func TestMemoryOfManyValues(t *testing.T) {
	t.Parallel()
	tx := NewTx(time.Unix(1, 0), nil, nil)
	for i := range 3000 {
		jobs := plain(strings.Repeat("x", 300))
		jobs[0].Scope.Destination = strconv.Itoa(i)
		if err := tx.Append(jobs...); err != nil {
			t.Fatal(err)
		}
	}
	size, held := 0, 0
	for _, a := range tx.Finish().Appends {
		size, held = size+len(a.Value), held+cap(a.Value)
	}
	if held > 4*size+largeValues*2*valueBytes {
		t.Errorf("%d bytes take %d bytes of memory", size, held)
	}
}
