package partition

import (
	"math/bits"
	"slices"
	"sync"

	"github.com/weirdata/weir/internal/queue"
)

// pos is a job of the log within its lane.
type pos struct {
	seq   uint64
	index uint32
}

func (a pos) compare(b pos) int {
	switch {
	case a.seq != b.seq:
		if a.seq < b.seq {
			return -1
		}
		return 1
	case a.index < b.index:
		return -1
	case a.index > b.index:
		return 1
	}
	return 0
}

// settling marks the token of a job whose result is being committed.
const settling = 1 << 63

// batch is a value in the window of its lane.
type batch struct {
	seq     uint64
	count   int
	size    int
	left    int      // jobs still in the log
	waiting int      // of those, withheld by their key
	gone    []uint64 // bit set: the job has left the log
	tokens  []uint64 // lease of each job; nil when none is leased
	hashes  []uint64 // ordering key of each job; nil when none has one
}

func newBatch(seq uint64, count, size int) *batch {
	return &batch{seq: seq, count: count, size: size, left: count, gone: make([]uint64, (count+63)/64)}
}

func (b *batch) isGone(i uint32) bool { return b.gone[i>>6]&(1<<(i&63)) != 0 }

func (b *batch) setGone(i uint32) bool {
	if b.isGone(i) {
		return false
	}
	b.gone[i>>6] |= 1 << (i & 63)
	b.left--
	return true
}

func (b *batch) hash(i uint32) uint64 {
	if b.hashes == nil {
		return 0
	}
	return b.hashes[i]
}

func (b *batch) token(i uint32) uint64 {
	if b.tokens == nil {
		return 0
	}
	return b.tokens[i]
}

func (b *batch) setToken(i uint32, t uint64) {
	if b.tokens == nil {
		b.tokens = make([]uint64, b.count)
	}
	b.tokens[i] = t
}

// keyState is an ordering key that has open jobs in the window. As long as it exists,
// jobs of the key that the scan meets are withheld.
type keyState struct {
	head    pos // leased, or in lane.freed
	hasHead bool
	waiters []pos // in order
}

// sideLease is a side row that is leased.
type sideLease struct {
	token uint64
	row   Side // without its record
}

// lane is the owner's memory of one lane. Its fields are guarded by Partition.mu; the
// work of finding jobs is done by the holder of scanning.
type lane struct {
	id    uint64
	queue string
	scope queue.Scope

	groups  [len(queue.Axes)]*group
	inReady [len(queue.Axes)]bool

	// The log: values below first are settled; window[i] is the value first+i, nil when
	// no job of it was scanned or has left.
	first, tail uint64
	window      []*batch
	inWindow    int // jobs of the values below scan in the window
	scan        uint64
	scanIndex   uint32 // jobs of the value at scan that were scanned
	freed       []pos  // scanned jobs that may be handed out
	keys        map[uint64]*keyState

	// The side table.
	retry, parked, dead, retried int64
	jobs, bytes                  int64
	sides                        map[queue.ID]*sideLease
	due                          [clocks]dueLine     // Retry rows, by the clock that their times are of
	checks                       map[uint64]struct{} // keys that may have a parked head
	sweeping                     bool                // parked heads left by an earlier owner are looked for
	sweepFrom                    uint64
	sweepSeq                     uint64 // the sweep goes on when the scan is past this value
	parking                      bool   // withheld jobs are on their way to the side table

	// What changed while the holder of scanning read from storage without the lock.
	reading bool
	fresh   map[uint64]struct{}   // keys that got a side row
	touched map[queue.ID]struct{} // side rows that changed

	held     bool   // paused: nothing is handed out
	visit    uint64 // the last Lease call that took a turn here
	scanning sync.Mutex
}

// at returns the batch of seq, or nil.
func (l *lane) at(seq uint64) *batch {
	if seq < l.first || seq-l.first >= uint64(len(l.window)) {
		return nil
	}
	return l.window[seq-l.first]
}

// left reports whether the job at p, which was scanned, is not in the log any more.
func (l *lane) left(p pos) bool {
	b := l.at(p.seq)
	return b == nil || b.isGone(p.index)
}

// ensure returns the batch of seq, making it when it is not there.
func (l *lane) ensure(seq uint64, count, size int) *batch {
	for uint64(len(l.window)) <= seq-l.first {
		l.window = append(l.window, nil)
	}
	b := l.window[seq-l.first]
	if b == nil {
		b = newBatch(seq, count, size)
		l.window[seq-l.first] = b
	}
	return b
}

// advance moves first over the values that are settled.
func (l *lane) advance() {
	for len(l.window) > 0 && l.window[0] != nil && l.window[0].left == 0 {
		if l.first < l.scan {
			l.inWindow -= l.window[0].count
		}
		l.window[0] = nil
		l.window = l.window[1:]
		l.first++
	}
	if l.scan < l.first {
		l.scan, l.scanIndex = l.first, 0
	}
	if len(l.window) == 0 {
		l.window = nil
	}
}

// skip moves the scan over values that were settled before this owner came; storage may
// not have them any more.
func (l *lane) skip() {
	for b := l.at(l.scan); b != nil && b.left == 0; b = l.at(l.scan) {
		l.inWindow += b.count
		l.scan++
		l.scanIndex = 0
	}
	l.advance()
}

// free makes the job at p one that may be handed out.
func (l *lane) free(p pos) {
	i, found := slices.BinarySearchFunc(l.freed, p, pos.compare)
	if !found {
		l.freed = slices.Insert(l.freed, i, p)
	}
}

// keyEnded says that the job at p with the key h is gone: the next may go on, unless it has
// already. What is committed can be read before the owner is told: a scan may have found the
// key free and made another its head, which withholds those that follow.
func (l *lane) keyEnded(h uint64, p pos) {
	if k := l.keys[h]; k != nil && k.hasHead && k.head != p {
		return
	}
	if l.parked > 0 || l.parking {
		// A parked job of the key, if there is one, comes before those in the window.
		l.check(h)
		if k := l.keys[h]; k != nil {
			k.hasHead = false
			l.dropKey(h, k)
		}
		return
	}
	l.release(h)
}

// check has the storage asked what comes next of the key h.
func (l *lane) check(h uint64) {
	if l.checks == nil {
		l.checks = map[uint64]struct{}{}
	}
	l.checks[h] = struct{}{}
}

// release makes the first withheld job of the window with the key h its head.
func (l *lane) release(h uint64) {
	k := l.keys[h]
	if k == nil {
		return
	}
	k.hasHead = false
	if len(k.waiters) == 0 {
		delete(l.keys, h)
		return
	}
	k.head, k.hasHead = k.waiters[0], true
	k.waiters = k.waiters[1:]
	if b := l.at(k.head.seq); b != nil {
		b.waiting--
	}
	l.free(k.head)
}

// dropKey forgets a key without open jobs in the window.
func (l *lane) dropKey(h uint64, k *keyState) {
	if !k.hasHead && len(k.waiters) == 0 {
		delete(l.keys, h)
	}
}

// withhold puts the job at p behind the earlier ones of its key.
func (l *lane) withhold(h uint64, b *batch, p pos) {
	if l.keys == nil {
		l.keys = map[uint64]*keyState{}
	}
	k := l.keys[h]
	if k == nil {
		k = &keyState{}
		l.keys[h] = k
	}
	k.waiters = append(k.waiters, p)
	b.waiting++
}

// head makes the job at p the earliest open one of its key.
func (l *lane) head(h uint64, p pos) {
	if l.keys == nil {
		l.keys = map[uint64]*keyState{}
	}
	k := l.keys[h]
	if k == nil {
		k = &keyState{}
		l.keys[h] = k
	}
	k.head, k.hasHead = p, true
}

// parkable reports whether the window is full and its oldest value can be moved out of
// the way, because all that is left of it is withheld.
func (l *lane) parkable() bool {
	return len(l.window) > 0 && l.first < l.scan && l.window[0] != nil && l.window[0].waiting > 0 &&
		l.window[0].waiting == l.window[0].left
}

// ready reports whether a scan might find something to do at the time now.
func (l *lane) ready(now moment, window int) bool {
	switch {
	case l.held:
		return false
	case len(l.freed) > 0, len(l.checks) > 0, l.sweeping && l.scan > l.sweepSeq, l.isDue(now):
		return true
	case l.scan >= l.tail:
		return false
	}
	return l.inWindow < window || l.parkable()
}

// state is what storage should know of the lane, without Partly.
func (l *lane) state() Lane {
	return Lane{ID: l.id, Queue: l.queue, Scope: l.scope, First: l.first, Tail: l.tail, Jobs: l.jobs, Bytes: l.bytes,
		Retry: l.retry, Parked: l.parked, Dead: l.dead, Retried: l.retried}
}

// partly is what storage should know of the value seq; false when it is below first.
func (l *lane) partly(seq uint64) (Partly, bool) {
	b := l.at(seq)
	if b == nil {
		return Partly{}, false
	}
	p := Partly{Seq: seq, Count: b.count, Size: b.size}
	if b.left > 0 {
		p.Bits = slices.Clone(b.gone)
	}
	return p, true
}

// restorePartly puts a value of which some jobs have left back into the window.
func (l *lane) restorePartly(p Partly) {
	if p.Seq < l.first {
		return
	}
	b := l.ensure(p.Seq, p.Count, p.Size)
	if p.Bits == nil {
		for i := range b.gone {
			b.gone[i] = ^uint64(0)
		}
		b.left = 0
		return
	}
	copy(b.gone, p.Bits)
	n := 0
	for _, w := range b.gone {
		n += bits.OnesCount64(w)
	}
	b.left = b.count - n
}
