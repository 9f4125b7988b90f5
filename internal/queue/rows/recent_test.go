package rows

import (
	"bytes"
	"testing"
)

// TestRecent keeps the newest values within the limit, hands each out once, and does not
// grow with what was taken.
func TestRecent(t *testing.T) {
	t.Parallel()
	r := newRecent(1000)
	value := func(n byte) []byte { return bytes.Repeat([]byte{n}, 200) }
	for n := range byte(7) {
		if !r.keep(1, uint64(n), value(n)) {
			t.Fatalf("value %d was not kept", n)
		}
	}
	if vs := r.take(1, 1, 1<<20); vs != nil {
		t.Errorf("value 1 should be pushed out, got %d values", len(vs))
	}
	vs := r.take(1, 2, 500)
	if len(vs) != 2 || vs[0].Seq != 2 || vs[1].Seq != 3 || !bytes.Equal(vs[1].Data, value(3)) {
		t.Errorf("took %v", vs)
	}
	if vs := r.take(1, 2, 500); vs != nil {
		t.Errorf("value 2 was handed out twice")
	}
	if vs := r.take(1, 4, 1); len(vs) != 1 || vs[0].Seq != 4 {
		t.Errorf("the first value may be larger than asked for, got %v", vs)
	}
	if r.keep(1, 7, make([]byte, 251)) {
		t.Error("a value of more than a quarter of the limit was kept")
	}
	if loose := append(make([]byte, 0, 4096), "small"...); r.keep(1, 8, loose) || cap(r.take(1, 8, 100)[0].Data) > 64 {
		t.Error("a small value holds on to a large buffer")
	}
	for n := range uint64(100_000) {
		r.keep(2, n, value(1))
		r.take(2, n, 1)
	}
	if len(r.order) > 5000 || r.bytes > 1000 {
		t.Errorf("%d places and %d bytes are remembered of values that were taken", len(r.order), r.bytes)
	}
	if none := newRecent(-1); none.keep(1, 1, []byte("x")) || none.take(1, 1, 100) != nil {
		t.Error("without memory nothing is kept")
	}
}
