package machine

import (
	"sync"

	"github.com/weirdata/weir/internal/machine/jsonvalue"
)

// Recent remembers large values that were read from parts, so that the input of a Map is not read
// and parsed again by each of its iterations that looks at it. Parts never change, so what is
// remembered is never wrong. It is safe for concurrent use; nil remembers nothing.
type Recent struct {
	most  int // bytes of the values' texts
	least int // bytes of a value that is worth it

	mu     sync.Mutex
	bytes  int
	values []recalled // the one used last is the last
}

type recalled struct {
	key   recallKey
	value jsonvalue.Value
	bytes int
}

// recallKey is a part; the time of the start tells executions of one name apart.
type recallKey struct {
	execution string
	started   int64
	number    uint64
}

// leastRecalled is how large a value is that is worth remembering.
const leastRecalled = 4096

// NewRecent remembers values whose texts have up to a number of bytes together.
func NewRecent(most int) *Recent { return &Recent{most: most, least: leastRecalled} }

func (r *Recent) get(key recallKey) (v jsonvalue.Value, ok bool) {
	if r == nil {
		return v, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.values {
		if found := r.values[i]; found.key == key {
			r.values = append(append(r.values[:i], r.values[i+1:]...), found)
			return found.value, true
		}
	}
	return v, false
}

func (r *Recent) add(key recallKey, v jsonvalue.Value, bytes int) {
	if r == nil || bytes < r.least || bytes > r.most {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bytes += bytes
	r.values = append(r.values, recalled{key, v, bytes})
	for r.bytes > r.most {
		r.bytes -= r.values[0].bytes
		r.values = append([]recalled(nil), r.values[1:]...)
	}
}
