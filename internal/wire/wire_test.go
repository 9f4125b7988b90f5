package wire_test

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/weirdata/weir/internal/wire"
)

func sample() []byte {
	b := binary.AppendUvarint(nil, 300)
	b = binary.AppendVarint(b, math.MinInt64)
	b = append(binary.AppendUvarint(b, 4), "text"...)
	b = append(b, 7)
	b = binary.BigEndian.AppendUint32(b, 1<<31)
	return binary.BigEndian.AppendUint64(b, 1<<63)
}

// read reads a sample, and reports whether it is one.
func read(b []byte) (ok bool, r wire.Reader) {
	r.Rest = b
	ok = r.Uvarint() == 300 && r.Varint() == math.MinInt64 && r.Text() == "text" && r.Byte() == 7 &&
		r.Fixed32() == 1<<31 && r.Fixed64() == 1<<63
	return ok, r
}

// TestReader reads everything back, and knows of every cut; nothing is read behind one.
func TestReader(t *testing.T) {
	t.Parallel()
	b := sample()
	if ok, r := read(b); !ok || r.Bad || len(r.Rest) != 0 {
		t.Fatalf("a whole sample: %v, %+v", ok, r)
	}
	for i := range b {
		ok, r := read(b[:i])
		if ok || !r.Bad {
			t.Errorf("cut at %d of %d, and not noticed", i, len(b))
		}
		if r.Bad && (r.Rest != nil || r.Uvarint() != 0 || r.Varint() != 0 || r.Text() != "" || r.Byte() != 0 || r.Fixed32() != 0 || r.Fixed64() != 0) {
			t.Errorf("cut at %d: something is read of %+v", i, r)
		}
	}
	overlong := wire.Reader{Rest: []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}}
	if overlong.Uvarint() != 0 || !overlong.Bad {
		t.Errorf("a varint of eleven bytes: %+v", overlong)
	}
	much := wire.Reader{Rest: binary.AppendUvarint(nil, math.MaxUint64)}
	if much.Text() != "" || !much.Bad {
		t.Errorf("a text longer than memory: %+v", much)
	}
}

func FuzzReader(f *testing.F) {
	f.Add(sample())
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, r := read(b); len(r.Rest) > len(b) {
			t.Fatalf("%d bytes are left of %d", len(r.Rest), len(b))
		}
	})
}
