package partition

import (
	"testing"

	"github.com/weirdata/weir/internal/queue"
)

// TestWithheldAreNotReadAgain hands out the jobs of two keys, one after the other, and reads
// their value once.
func TestWithheldAreNotReadAgain(t *testing.T) {
	t.Parallel()
	m := newMemory(newClock(), 0)
	defer m.p.Close()
	reads := 0
	m.reading = func() { reads++ }
	m.append(1, append(keyed("k", "1", "3", "5"), keyed("l", "2", "4", "6", "7")...)...)
	for _, want := range [][]string{{"1", "2"}, {"3", "4"}, {"5", "6"}, {"7"}} {
		jobs := wantLeased(t, m, want...)
		m.end(m.begin(t, jobs...), true)
	}
	if reads != 1 || m.p.kept.bytes != 0 || len(m.p.kept.byID) != 0 {
		t.Errorf("the value was read %d times, and %d bytes are kept", reads, m.p.kept.bytes)
	}
}

// TestKeptIsBounded: there is no room for more than the limit, until what is of no use is
// dropped; and what is kept is a copy.
func TestKeptIsBounded(t *testing.T) {
	t.Parallel()
	k := kept{limit: keptBytes}
	const size = 100_000
	v := &opened{seq: 1, data: make([]byte, 2*size), ends: []uint32{0, size, 2 * size}}
	id := func(seq uint64, i uint32) queue.ID { return queue.ID{Lane: 1, Seq: seq, Index: i} }
	n := uint64(0)
	for k.put(id(n, 1), v) {
		n++
	}
	if k.bytes > keptBytes || n != keptBytes/(size+keptEach) || k.refused != 1 {
		t.Errorf("%d records of %d bytes are kept", n, k.bytes)
	}
	v.data[size] = 1
	got, there := k.take(id(0, 1))
	if !there || got.record(1)[0] != 0 || got.size(1) != size || got.size(0) != 0 || got.size(2) != 0 {
		t.Error("what is kept is not a copy of the record alone")
	}
	if _, there := k.take(id(0, 1)); there {
		t.Error("a record is handed out twice")
	}
	k.put(id(0, 0), v)
	old := func(id queue.ID) bool { return id.Seq < n/2 }
	for range keptTries - 2 {
		if k.put(id(n, 0), v) {
			t.Fatal("there is room")
		}
		k.sweep(old)
	}
	if !k.has(id(0, 0)) {
		t.Error("swept too early")
	}
	k.put(id(n, 0), v)
	k.sweep(old)
	if k.has(id(0, 0)) || !k.has(id(n-1, 1)) || !k.put(id(n, 0), v) {
		t.Error("what is of no use was not dropped, or what is was")
	}
}
