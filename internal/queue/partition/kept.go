package partition

import (
	"slices"

	"github.com/weirdata/weir/internal/queue"
)

const (
	keptBytes = 16 << 20 // most memory of the records that a partition keeps, unless Config says otherwise
	keptEach  = 128      // what an entry takes beside its record, about
	keptTries = 4096     // records that found no room before those that are of no use are looked for
)

// kept holds the records of jobs that the scan withheld, so that the value they are in need
// not be read again, whole, for each of them when its key is free. A record is there until its
// job is handed out. When there is no room, what is there stays: it is free first.
type kept struct {
	limit   int // of bytes
	bytes   int
	refused int
	byID    map[queue.ID]opened
}

// put keeps the record of job i of the value v of a lane, if there is room. It keeps a copy:
// a value as it was read may be a small part of a large piece of memory.
func (k *kept) put(id queue.ID, v *opened) bool {
	size := v.size(id.Index) + keptEach
	if k.bytes+size > k.limit {
		k.refused++
		return false
	}
	if _, there := k.byID[id]; there {
		return true
	}
	if k.byID == nil {
		k.byID = map[queue.ID]opened{}
	}
	k.byID[id] = opened{seq: v.seq, at: v.at, first: id.Index, data: slices.Clone(v.record(id.Index)), ends: []uint32{0, uint32(v.size(id.Index))}}
	k.bytes += size
	return true
}

// has reports whether the record of a job is kept.
func (k *kept) has(id queue.ID) bool { _, there := k.byID[id]; return there }

// take is the value of a job with its record alone, which is not kept any more.
func (k *kept) take(id queue.ID) (opened, bool) {
	v, there := k.byID[id]
	if there {
		delete(k.byID, id)
		k.bytes -= len(v.data) + keptEach
	}
	return v, there
}

// sweep drops the records of jobs that have left without being handed out here, now and then
// when there is no room.
func (k *kept) sweep(left func(queue.ID) bool) {
	if k.refused < keptTries {
		return
	}
	k.refused = 0
	for id := range k.byID {
		if left(id) {
			k.take(id)
		}
	}
}
