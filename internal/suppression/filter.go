package suppression

import (
	"encoding/binary"
	"sync/atomic"
	"time"
)

// filter says of most users that are not suppressed that they are not: a Bloom filter whose bits of one
// user are in one line of the processor's cache. It may be added to and asked at once.
type filter struct {
	lines [][8]uint64
	room  int64 // users, beyond which it says too rarely no
}

const (
	bitsPerUser = 16 // says yes to one in about a thousand others
	leastUsers  = 1 << 16
	probes      = 8
	// refill is how often it is looked whether the filter has become too small.
	refill = time.Second
)

// newFilter is one for so many users, and half as many more.
func newFilter(users int64) *filter {
	room := max(users+users/2, leastUsers)
	return &filter{lines: make([][8]uint64, room*bitsPerUser/512+1), room: room}
}

func (f *filter) line(h [16]byte) (line *[8]uint64, bits uint64) {
	return &f.lines[binary.BigEndian.Uint64(h[:8])%uint64(len(f.lines))], binary.BigEndian.Uint64(h[8:])
}

func (f *filter) add(h [16]byte) {
	line, bits := f.line(h)
	for i := range probes {
		bit := bits >> (7 * i) % 512
		atomic.OrUint64(&line[bit/64], 1<<(bit%64))
	}
}

func (f *filter) may(h [16]byte) bool {
	line, bits := f.line(h)
	for i := range probes {
		bit := bits >> (7 * i) % 512
		if atomic.LoadUint64(&line[bit/64])&(1<<(bit%64)) == 0 {
			return false
		}
	}
	return true
}
