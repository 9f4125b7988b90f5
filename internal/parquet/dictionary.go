package parquet

import (
	"hash/maphash"
	"math/bits"
)

// A dictionary pays when values repeat: after the first trial of values less than half may
// be distinct, and later never more than most.
const (
	trial = 512
	most  = 1 << 15
)

// dictionary finds the distinct values of a column. It keeps its memory from one column to
// the next: at most 1 MiB for the table, and 4 bytes for each value.
type dictionary struct {
	index    []int32  // which of distinct each value is
	distinct []int32  // the value at which each distinct one is there first
	slots    []uint64 // a hash table of distinct: 32 bits of the hash, then the place plus one; 0 is free
}

// seed keeps whoever chooses the values from choosing where they fall in the table.
var seed = maphash.MakeSeed()

// odd spreads words over the table; see seed.
var odd = maphash.String(seed, "words") | 1

func hashText(b []byte) uint32 { return uint32(maphash.Bytes(seed, b) >> 32) }

func hashWord(w uint64) uint32 {
	high, low := bits.Mul64(w^odd, odd)
	return uint32((high ^ low) >> 16)
}

// fill finds the distinct ones of n values, and reports whether a dictionary of them pays.
// as reports whether two values are the same.
func (d *dictionary) fill(n int, hash func(i int) uint32, same func(i, k int) bool) bool {
	d.index, d.distinct = d.index[:0], d.distinct[:0]
	if n < 2 {
		return false
	}
	d.room(2 * trial)
	place := int32(0)
	for i := range n {
		if i == 0 || !same(i, i-1) {
			place = d.place(i, hash(i), same)
		}
		d.index = append(d.index, place)
		if found := len(d.distinct); found > most || i == trial && found > trial/2 {
			return false
		}
	}
	return len(d.distinct) <= n/2+1
}

// place is which of the distinct values the i-th is; it may be a new one.
func (d *dictionary) place(i int, hash uint32, same func(i, k int) bool) int32 {
	mask := uint32(len(d.slots) - 1)
	at := hash & mask
	for ; d.slots[at] != 0; at = (at + 1) & mask {
		if s := d.slots[at]; s>>32 == uint64(hash) {
			if p := int32(uint32(s)) - 1; same(i, int(d.distinct[p])) {
				return p
			}
		}
	}
	d.distinct = append(d.distinct, int32(i))
	d.slots[at] = uint64(hash)<<32 | uint64(len(d.distinct))
	if 2*len(d.distinct) > len(d.slots) {
		d.grow()
	}
	return int32(len(d.distinct) - 1)
}

// room makes the table an empty one of the given size, a power of two.
func (d *dictionary) room(size int) {
	if cap(d.slots) < size {
		d.slots = make([]uint64, size)
		return
	}
	d.slots = d.slots[:size]
	clear(d.slots)
}

// grow doubles the table.
func (d *dictionary) grow() {
	old := append([]uint64(nil), d.slots...)
	d.room(2 * len(old))
	mask := uint32(len(d.slots) - 1)
	for _, s := range old {
		if s == 0 {
			continue
		}
		at := uint32(s>>32) & mask
		for d.slots[at] != 0 {
			at = (at + 1) & mask
		}
		d.slots[at] = s
	}
}
