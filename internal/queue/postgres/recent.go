package postgres

import (
	"bytes"
	"sync"

	"github.com/weirdata/weir/internal/queue/partition"
)

// recent keeps the values that this process appended or read last, up to a number of
// bytes: what is appended is often read soon after, and a read brings more values than one
// Lease takes. Values never change.
type recent struct {
	mu    sync.Mutex
	limit int
	bytes int
	byKey map[valueKey][]byte
	order []valueKey // oldest first, from start on
	start int
}

type valueKey struct{ lane, seq uint64 }

func newRecent(limit int) *recent { return &recent{limit: limit, byKey: map[valueKey][]byte{}} }

// put keeps a copy of a value.
func (r *recent) put(lane, seq uint64, value []byte) {
	if r.fits(value) {
		r.keep(lane, seq, bytes.Clone(value))
	}
}

func (r *recent) fits(value []byte) bool { return len(value) <= r.limit/4 }

// keep keeps a value that nobody changes or reuses.
func (r *recent) keep(lane, seq uint64, value []byte) {
	if !r.fits(value) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	k := valueKey{lane, seq}
	if _, there := r.byKey[k]; there {
		return
	}
	r.byKey[k] = value
	r.order = append(r.order, k)
	r.bytes += len(value)
	for r.bytes > r.limit {
		oldest := r.order[r.start]
		r.start++
		r.bytes -= len(r.byKey[oldest])
		delete(r.byKey, oldest)
	}
	if r.start > 1024 && r.start > len(r.order)/2 {
		r.order = append(r.order[:0], r.order[r.start:]...)
		r.start = 0
	}
}

// values returns the values of a lane from seq on that are kept, up to a gap, while
// their sizes sum up to no more than bytes; the first may be larger.
func (r *recent) values(lane, seq uint64, bytes int) []partition.Value {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []partition.Value
	for ; ; seq++ {
		v, there := r.byKey[valueKey{lane, seq}]
		if !there || len(out) > 0 && len(v) > bytes {
			return out
		}
		bytes -= len(v)
		out = append(out, partition.Value{Seq: seq, Data: v})
	}
}
