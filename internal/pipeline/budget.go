package pipeline

import (
	"math"
	"slices"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/memorylimit"
)

// Budget is the payload bytes that all pipelines of a process may have in flight together;
// each has its own bound below it. Nil, and one that was never resized, bounds nothing.
//
// A pipeline, or a value of an isolated one, that holds nothing may read one message whatever
// the others hold, and however short memory is: what is full of one pipeline's messages that wait never stops another.
type Budget struct {
	most int64

	mu      sync.Mutex
	used    int64                        // in flight
	aside   []int64                      // set aside, for each read under way
	readers int64                        // pipelines that read
	waiting map[chan<- struct{}]struct{} // told when there may be room again
}

// Resize changes the bound, from the next read on.
func (b *Budget) Resize(bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.most = bytes
}

// join counts a pipeline that reads, until it leaves.
func (b *Budget) join() (leave func()) {
	if b == nil {
		return func() {}
	}
	count := func(n int64) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.readers += n
	}
	count(1)
	return func() { count(-1) }
}

// reserve sets bytes aside for one read, and is how many: no more than want, nor than what is
// left divided by all that read, so that an idle one keeps little from the others. One that began
// to read when there were fewer, and still waits, has set more aside, of which it keeps from the
// others an equal share. They are given back when what was read is counted. None is left when it is
// 0; then freed, which has room for an element, is given one once there may be some.
func (b *Budget) reserve(want int64, freed chan<- struct{}) (bytes int64) {
	if b == nil {
		return math.MaxInt64
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.most == 0 {
		return math.MaxInt64
	}
	readers := max(b.readers, 1)
	left := b.most - b.used
	for _, n := range b.aside {
		left -= min(n, b.most/readers)
	}
	scarce := memorylimit.Short() != nil
	if left <= 0 || scarce {
		if b.waiting == nil {
			b.waiting = map[chan<- struct{}]struct{}{}
		}
		b.waiting[freed] = struct{}{}
		if scarce { // what makes room may be something else than a message that is settled
			time.AfterFunc(scarcePause, b.wake)
		}
		return 0
	}
	bytes = max(min(left/readers, want), 1)
	b.aside = append(b.aside, bytes)
	return bytes
}

// giveBack ends a reservation.
func (b *Budget) giveBack(reserved int64) {
	if b == nil || reserved == 0 || reserved == math.MaxInt64 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.Index(b.aside, reserved); i >= 0 {
		b.aside = slices.Delete(b.aside, i, i+1)
	}
	b.tell()
}

// add counts bytes that were read, or with a negative number settled.
func (b *Budget) add(bytes int64) {
	if b == nil || bytes == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used += bytes
	if bytes > 0 {
		return
	}
	// Also while the budget is used up: who holds nothing any more may read a message.
	b.tell()
}

// scarcePause is how long is waited before it is asked again whether memory is still short.
const scarcePause = 100 * time.Millisecond

// wake has those who wait for room look again.
func (b *Budget) wake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tell()
}

// tell tells those who wait that there may be room. The lock is held.
func (b *Budget) tell() {
	for freed := range b.waiting {
		select {
		case freed <- struct{}{}:
		default:
		}
	}
	clear(b.waiting)
}

// Used is how many bytes are in flight, or set aside for reads.
func (b *Budget) Used() int64 {
	if b == nil {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	sum := b.used
	for _, n := range b.aside {
		sum += n
	}
	return sum
}
