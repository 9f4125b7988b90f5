package disk

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/queue/log"
)

func sampleEntry() *log.Entry {
	return &log.Entry{Number: 7, Head: []byte("head"), Data: [][]byte{[]byte("first"), nil, []byte("second")}}
}

// TestFrame reads a frame back, and notices every flipped bit that the checksum is for,
// and every cut.
func TestFrame(t *testing.T) {
	t.Parallel()
	at := log.Position{Segment: 3, Offset: 100}
	want := sampleEntry()
	b, err := encode(nil, at, 5, want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decode(b, at)
	if err != nil || got.group != 5 {
		t.Fatalf("decode: %+v, %v", got, err)
	}
	want.Data = [][]byte{bytes.Join(want.Data, nil)}
	if diff := cmp.Diff(*want, got.Entry); diff != "" {
		t.Errorf("entry (-want +got):\n%s", diff)
	}
	if got.At.Offset != 136 || got.End.Offset != 100+int64(len(b)) {
		t.Errorf("data at %v, end at %v", got.At, got.End)
	}
	for i := range b {
		if _, err := decode(b[:i], at); err == nil {
			t.Fatalf("a frame cut at %d of %d was read", i, len(b))
		}
		for bit := 0; bit < 8 && i < frameHeader+len(want.Head); bit++ {
			b[i] ^= 1 << bit
			if _, err := decode(b, at); err == nil {
				t.Fatalf("bit %d of byte %d was flipped and not noticed", bit, i)
			}
			b[i] ^= 1 << bit
		}
	}
}

func FuzzFrame(f *testing.F) {
	b, err := encode(nil, log.Position{}, 7, sampleEntry())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, err := decode(b, log.Position{})
		if err != nil {
			return
		}
		if fr.At.Offset < 0 || fr.At.Offset+int64(len(fr.Data[0])) != fr.End.Offset || fr.End.Offset > int64(len(b)) {
			t.Fatalf("data at %d to %d of a frame of %d bytes", fr.At.Offset, fr.End.Offset, len(b))
		}
	})
}

func FuzzMark(f *testing.F) {
	m := mark{turn: 1, commit: 2, end: log.Position{Segment: 3, Offset: 4}, state: 5}
	f.Add(m.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, ok := decodeMark(b); ok {
			if again, ok := decodeMark(got.encode()); !ok || again != got {
				t.Fatalf("mark %+v reads back as %+v", got, again)
			}
		}
	})
}
