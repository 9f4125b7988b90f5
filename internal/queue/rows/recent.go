package rows

import (
	"bytes"
	"slices"
	"sync"

	"github.com/weirdata/weir/internal/queue/partition"
)

// recentBytes is the memory of recent, unless Options say otherwise.
const (
	recentBytes = 16 << 20
	recentPart  = 32 // of the memory limit, at the most
)

// recent keeps the values that were appended last and not read yet, up to a number of
// bytes, so that a reader that keeps up does not read them from the log. A value is in
// one place at a time: the committer puts it in when it is durable, and it is either
// taken by a reader, whose it is then, or pushed out and its memory used again.
type recent struct {
	mu    sync.Mutex
	limit int
	bytes int // capacity of what is kept
	byKey map[valueKey][]byte
	order []valueKey // oldest first, from start on; some of them are taken
	start int
}

type valueKey struct{ lane, seq uint64 }

func newRecent(limit int) *recent { return &recent{limit: limit, byKey: map[valueKey][]byte{}} }

// keep takes over a value. It answers false when it keeps nothing, or a copy: then the
// value still is the caller's.
func (r *recent) keep(lane, seq uint64, value []byte) bool {
	if len(value) > r.limit/4 {
		return false
	}
	own := true
	if len(value) < cap(value)/2 {
		// Jobs hold on to the whole of it.
		value, own = bytes.Clone(value), false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	k := valueKey{lane, seq}
	r.byKey[k] = value
	r.order = append(r.order, k)
	r.bytes += cap(value)
	for r.bytes > r.limit {
		oldest := r.order[r.start]
		r.start++
		if v, there := r.byKey[oldest]; there {
			delete(r.byKey, oldest)
			r.bytes -= cap(v)
			partition.Recycle(v)
		}
	}
	if len(r.order) > 2*len(r.byKey)+1024 {
		r.order = slices.DeleteFunc(append(r.order[:0], r.order[r.start:]...), func(k valueKey) bool {
			_, there := r.byKey[k]
			return !there
		})
		r.start = 0
	}
	return own
}

// take hands out the values of a lane from seq on, up to one that is not kept, while
// their sizes sum up to no more than bytes; the first may be larger.
func (r *recent) take(lane, seq uint64, bytes int) []partition.Value {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []partition.Value
	for k := (valueKey{lane, seq}); ; k.seq++ {
		v, there := r.byKey[k]
		if !there || len(out) > 0 && len(v) > bytes {
			return out
		}
		bytes -= len(v)
		delete(r.byKey, k)
		r.bytes -= cap(v)
		out = append(out, partition.Value{Seq: k.seq, Data: v})
	}
}

// part is a copy of size bytes of a value from byte from on, nil when it is not kept.
func (r *recent) part(lane, seq uint64, from, size int) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	v, there := r.byKey[valueKey{lane, seq}]
	if !there || from+size > len(v) {
		return nil
	}
	return bytes.Clone(v[from : from+size])
}
