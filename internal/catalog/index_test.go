package catalog

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// anyID draws ids of which many are alike, the one of zeros among them.
var anyID = rapid.Custom(func(t *rapid.T) ID {
	var id ID
	binary.LittleEndian.PutUint64(id[:], rapid.SampledFrom([]uint64{0, 1, 16, 1 << 40}).Draw(t, "low"))
	id[15] = byte(rapid.IntRange(0, 40).Draw(t, "high"))
	return id
})

// TestIndexIsAMap compares an index with a map, whatever is set in it.
func TestIndexIsAMap(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var x Index[int]
		want := map[ID]int{}
		for i, id := range rapid.SliceOfN(anyID, 0, 300).Draw(t, "ids") {
			if v, ok := x.Get(id); v != want[id] || ok != (want[id] > 0) {
				t.Fatalf("before it is set: %d %t, want %d", v, ok, want[id])
			}
			x.Set(id, i+1)
			want[id] = i + 1
			if v, ok := x.Get(id); !ok || v != i+1 || x.Len() != len(want) {
				t.Fatalf("after it is set: %d %t of %d, want %d of %d", v, ok, x.Len(), i+1, len(want))
			}
		}
		for id, v := range want {
			if got, ok := x.Get(id); !ok || got != v {
				t.Fatalf("at the end: %d %t, want %d", got, ok, v)
			}
		}
	})
}

func TestSortedIDs(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 2, 3, 1000} {
		for _, alike := range []bool{false, true} { // alike ones are not spread, and sorted as well
			ids := make([]ID, n)
			for i := range ids {
				binary.BigEndian.PutUint64(ids[i][:], r.Uint64())
				if alike {
					ids[i] = ID{15: byte(r.IntN(256))}
				}
			}
			want := slices.Clone(ids)
			slices.SortFunc(want, func(a, b ID) int { return bytes.Compare(a[:], b[:]) })
			if got := sorted(ids); !slices.Equal(got, want) {
				t.Errorf("%d ids, alike %t: not in order", n, alike)
			}
		}
	}
}

func TestIndexDoesNotAllocateForEachID(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	const n = 1000
	var x Index[int32]
	id := ID{0: 1}
	fill := func() {
		for range n {
			binary.LittleEndian.PutUint64(id[8:], r.Uint64())
			binary.LittleEndian.PutUint64(id[:], r.Uint64())
			x.Set(id, 7)
			if _, ok := x.Get(id); !ok {
				t.Fatal("an id is not there")
			}
		}
	}
	x.Reserve(7 * n)
	if got := testing.AllocsPerRun(5, fill); got > 0 {
		t.Errorf("%v allocations for %d ids in a table with room, want none", got, n)
	}
}
