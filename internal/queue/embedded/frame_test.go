package embedded

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/partition"
)

func sampleFrame() *frame {
	value := []byte("value")
	return &frame{
		commit: 7, group: 5,
		appends: []appendEntry{
			{lane: partition.Lane{ID: 1, Queue: "q", Scope: queue.Scope{Workspace: "w", Destination: "d"}}, seq: 1, count: 2, flags: appendNew, value: value, crc: checksum(value)},
			{lane: partition.Lane{ID: 2}, seq: 9, count: 1, value: value, crc: checksum(value)},
		},
		change: &partition.Change{Left: []partition.Left{{Lane: 1, Seq: 1, Count: 2, Size: 5}}},
		writes: []writeEntry{{key: []byte("k"), value: value, put: true, crc: checksum(value)}, {key: []byte("gone")}},
	}
}

// TestFrame reads a frame back, and notices every flipped bit and every cut.
func TestFrame(t *testing.T) {
	t.Parallel()
	want := sampleFrame()
	b, err := want.encode(nil, 100)
	if err != nil {
		t.Fatal(err)
	}
	got, size, err := decodeFrame(b, 100)
	if err != nil || size != int64(len(b)) {
		t.Fatalf("decodeFrame = %d bytes, %v", size, err)
	}
	opts := cmp.Options{
		cmp.AllowUnexported(frame{}, appendEntry{}, writeEntry{}),
		cmpopts.IgnoreUnexported(partition.Change{}), cmpopts.EquateEmpty(),
	}
	if diff := cmp.Diff(want, got, opts); diff != "" {
		t.Errorf("frame (-want +got):\n%s", diff)
	}
	for i := range b {
		if _, _, err := decodeFrame(b[:i], 100); err == nil {
			t.Fatalf("a frame cut at %d of %d was read", i, len(b))
		}
		for bit := range 8 {
			b[i] ^= 1 << bit
			if _, _, err := decodeFrame(b, 100); err == nil {
				t.Fatalf("bit %d of byte %d was flipped and not noticed", bit, i)
			}
			b[i] ^= 1 << bit
		}
	}
}

func FuzzFrame(f *testing.F) {
	b, err := sampleFrame().encode(nil, 0)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, size, err := decodeFrame(b, 0)
		if err != nil {
			return
		}
		if size > int64(len(b)) {
			t.Fatalf("a frame of %d bytes was read from %d", size, len(b))
		}
		for _, e := range fr.appends {
			if e.offset < 0 || e.offset+int64(len(e.value)) > size {
				t.Fatalf("a value at %d lies outside of its frame", e.offset)
			}
		}
	})
}

func FuzzMark(f *testing.F) {
	m := mark{turn: 1, commit: 2, end: place{3, 4}, state: 5}
	f.Add(m.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, ok := decodeMark(b); ok {
			if again, ok := decodeMark(got.encode()); !ok || again != got {
				t.Fatalf("mark %+v reads back as %+v", got, again)
			}
		}
	})
}

func FuzzRows(f *testing.F) {
	f.Add(encodeLane(&partition.Lane{ID: 1, First: 1, Tail: 2, Queue: "q"}))
	f.Add(encodePartly(&partition.Partly{Seq: 1, Count: 3, Size: 4, Bits: []uint64{5}}))
	f.Add(encodeSide(partition.Side{ID: queue.ID{Lane: 1, Seq: 2}, State: partition.Dead, Cause: "c"}))
	f.Add((&location{place: place{1, 2}, size: 3, count: 4, crc: 5}).encode())
	key := row(rowLane, 1, 2)
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = decodeLane(key[:9], b)
		_, _ = decodePartly(key, b)
		_, _ = decodeSide(b)
		_, _ = decodeLocation(b)
	})
}
