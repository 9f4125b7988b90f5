package postgres

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/partition"
)

// groupRequests is how many Updates share a transaction at most. They end before they reach
// [queue.WriteBytes] too, but for one that is larger.
const groupRequests = 4096

// stripes is the number of locks that the keys of records are hashed to.
const stripes = 128

// mask is what a request must have for itself while it commits: partitions, whose log it
// appends to, and stripes of records. Requests with masks that do not meet commit at the
// same time, others in the order they came, in one transaction or one after the other.
type mask struct {
	parts   [4]uint64
	records [2]uint64
}

func (m *mask) add(part int)      { m.parts[part>>6] |= 1 << (part & 63) }
func (m *mask) has(part int) bool { return m.parts[part>>6]&(1<<(part&63)) != 0 }
func (m *mask) addStripe(n int)   { m.records[n>>6] |= 1 << (n & 63) }

func (m *mask) join(o *mask) {
	for i := range m.parts {
		m.parts[i] |= o.parts[i]
	}
	for i := range m.records {
		m.records[i] |= o.records[i]
	}
}

func (m *mask) remove(o *mask) {
	for i := range m.parts {
		m.parts[i] &^= o.parts[i]
	}
	for i := range m.records {
		m.records[i] &^= o.records[i]
	}
}

func (m *mask) meets(o *mask) bool {
	for i := range m.parts {
		if m.parts[i]&o.parts[i] != 0 {
			return true
		}
	}
	for i := range m.records {
		if m.records[i]&o.records[i] != 0 {
			return true
		}
	}
	return false
}

// ownedChange is a Change of one partition on its way to the log.
type ownedChange struct {
	o     *owned // nil when no owner made it: it concerns dead jobs only
	part  int
	epoch int64 // of this attempt; 0 when o is nil
	c     *partition.Change
	key   changeKey // of the last attempt
}

// request is one Update that waits for its commit.
type request struct {
	h        *history // what it was made from
	t        *partition.Transaction
	lanes    []*laneRef // of t.Appends
	changes  []ownedChange
	versions map[string]int64 // of the records it read
	deadline time.Time        // no new attempt begins after it
	mask     mask
	state    atomic.Int32 // requestWaiting, then one of the others
	done     chan error
}

// brings reports whether r only brings something new: whoever does is told at once that the database
// is away or silent, and still has it.
func (r *request) brings() bool { return len(r.t.Results) == 0 && r.t.Grows() }

const (
	requestWaiting = iota
	requestTaken
	requestWithdrawn
)

func (r *request) stripes() {
	for i := range r.t.Reads {
		r.mask.addStripe(stripe(r.t.Reads[i].Key))
	}
	for i := range r.t.Writes {
		r.mask.addStripe(stripe(r.t.Writes[i].Key))
	}
}

func stripe(key []byte) int { return int(xxhash.Sum64(key) % stripes) }

// bytes is about what r sends to the database.
func (r *request) bytes() int {
	n := 0
	for i := range r.t.Appends {
		n += len(r.t.Appends[i].Value)
	}
	for i := range r.t.Writes {
		n += len(r.t.Writes[i].Key) + len(r.t.Writes[i].Value)
	}
	return n
}

// undo takes back what Begin did for a request that is not committed.
func (r *request) undo() {
	for i := range r.changes {
		if ch := &r.changes[i]; ch.o != nil {
			ch.o.p.End(ch.c, false)
		}
	}
	r.changes = nil
}

// committer makes requests durable, as many as have come together in one transaction,
// and several transactions at once as long as they do not share a partition or a stripe.
type committer struct {
	s       *Store
	n       atomic.Int64 // number of the last commit
	mu      sync.Mutex
	wake    *sync.Cond
	queue   []*request
	busy    mask
	closing bool
	workers sync.WaitGroup
}

func newCommitter(s *Store) *committer {
	c := &committer{s: s}
	c.wake = sync.NewCond(&c.mu)
	return c
}

func (c *committer) start(ctx context.Context) {
	for range c.s.o.Committers {
		c.workers.Go(func() { c.work(ctx) })
	}
}

// close lets the requests that wait commit, and ends. Nothing can be added after it.
func (c *committer) close() {
	c.mu.Lock()
	c.closing = true
	c.wake.Broadcast()
	c.mu.Unlock()
	c.workers.Wait()
}

// do waits until r is committed or is not. A request that waits for its turn is given up
// when ctx ends; one that was taken is not.
func (c *committer) do(ctx context.Context, r *request) error {
	var gone <-chan struct{} // of the database, for who does not wait for it
	if r.brings() {          // what r holds is the writer's once it is queued
		gone = c.s.link.present().Done()
	}
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		r.undo()
		return queue.ErrClosed
	}
	c.queue = append(c.queue, r)
	c.wake.Signal()
	c.mu.Unlock()
	err := ctx.Err
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
	case <-gone:
		err = func() error { return fmt.Errorf("commit an update: %w", c.s.gone()) }
	}
	if r.state.CompareAndSwap(requestWaiting, requestWithdrawn) {
		r.undo()
		return err()
	}
	return <-r.done
}

func (c *committer) work(ctx context.Context) {
	w := &writer{s: c.s}
	defer w.close()
	for {
		g := c.take()
		if g == nil {
			return
		}
		w.run(ctx, g)
		c.mu.Lock()
		c.busy.remove(&g.mask)
		if len(c.queue) > 0 {
			c.wake.Signal()
		}
		c.mu.Unlock()
	}
}

// group is the requests of one transaction.
type group struct {
	requests []*request
	stale    []*request // read a record that a request of the group writes
	mask     mask
	bytes    int
}

// take waits for requests that may commit now; nil when the committer has closed.
func (c *committer) take() *group {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if g := c.pick(); g != nil {
			c.busy.join(&g.mask)
			if len(c.queue) > 0 {
				c.wake.Signal()
			}
			return g
		}
		if c.closing && len(c.queue) == 0 {
			c.wake.Broadcast()
			return nil
		}
		c.wake.Wait()
	}
}

// pick forms a group of the requests that meet nothing busy, in the order they came: one
// that must wait makes later ones wait that share something with it.
func (c *committer) pick() *group {
	g, most := &group{}, queue.WriteBytes()
	blocked := c.busy
	written := map[string]struct{}{}
	kept := c.queue[:0]
	for i, r := range c.queue {
		if r.state.Load() == requestWithdrawn {
			continue
		}
		size := r.bytes()
		full := len(g.requests) > 0 && (g.bytes+size > most || len(g.requests) == groupRequests)
		if full {
			kept = append(kept, c.queue[i:]...)
			break
		}
		if r.mask.meets(&blocked) {
			blocked.join(&r.mask)
			kept = append(kept, r)
			continue
		}
		if !r.state.CompareAndSwap(requestWaiting, requestTaken) {
			continue
		}
		if r.readsAny(written) {
			g.stale = append(g.stale, r)
			continue
		}
		g.requests = append(g.requests, r)
		g.mask.join(&r.mask)
		g.bytes += size
		for k := range r.t.Writes {
			written[string(r.t.Writes[k].Key)] = struct{}{}
		}
	}
	clear(c.queue[len(kept):])
	c.queue = kept
	if len(g.requests) == 0 {
		return nil
	}
	return g
}

func (r *request) readsAny(written map[string]struct{}) bool {
	if len(written) == 0 {
		return false
	}
	for i := range r.t.Reads {
		if _, ok := written[string(r.t.Reads[i].Key)]; ok {
			return true
		}
	}
	return false
}

// row is one row of the log on its way.
type row struct {
	ref    *laneRef // of a value; nil for a change
	part   int
	count  int
	size   int
	values [][]byte // the values that are merged into one
	data   []byte
	seq    int   // place among the new values of its lane
	lane   int32 // place of its lane in the attempt, from 1
	change *ownedChange
}

const (
	kindValue  = 0
	kindChange = 1
)

// Values of one lane that are committed together are merged up to these limits.
const (
	mergeBytes = 256 << 10
	mergeJobs  = 4096
)

// rows lays out the log rows of a group: the values, then the changes.
func (g *group) rows() []*row {
	var rows []*row
	last := map[*laneRef]*row{}
	for _, r := range g.requests {
		for i := range r.t.Appends {
			a, ref := &r.t.Appends[i], r.lanes[i]
			before := last[ref]
			if before != nil && before.count+a.Count <= mergeJobs && before.size+len(a.Value) <= mergeBytes {
				before.values = append(before.values, a.Value)
				before.count += a.Count
				before.size += len(a.Value) - queue.HeaderSize
				continue
			}
			w := &row{ref: ref, part: ref.part, count: a.Count, size: len(a.Value), values: [][]byte{a.Value}}
			if before != nil {
				w.seq = before.seq + 1
			}
			last[ref] = w
			rows = append(rows, w)
		}
	}
	for _, w := range rows {
		w.data = merge(w)
	}
	for _, r := range g.requests {
		for i := range r.changes {
			if ch := &r.changes[i]; !ch.c.Empty() {
				rows = append(rows, &row{part: ch.part, change: ch})
			}
		}
	}
	return rows
}

// merge makes one value of those of w: the first header, with the count of all, and the
// records of all.
func merge(w *row) []byte {
	if len(w.values) == 1 {
		return w.values[0]
	}
	v := make([]byte, 0, w.size)
	v = append(v, w.values[0]...)
	for _, more := range w.values[1:] {
		v = append(v, more[queue.HeaderSize:]...)
	}
	binary.BigEndian.PutUint32(v[queue.HeaderSize-4:], uint32(w.count))
	return v
}

// changeKey names a change in the log: the commit that wrote it and its place there.
type changeKey struct {
	process, n int64
	k          uint32
}

const changeHeader = 20

// encodeChange is the log form of a change: who committed it, then the delta. The records
// of side rows are in the side table already, so they are left out.
func encodeChange(key changeKey, c *partition.Change) []byte {
	slim := partition.Change{Left: c.Left, Side: make([]partition.Side, len(c.Side))}
	copy(slim.Side, c.Side)
	for i := range slim.Side {
		slim.Side[i].Cause = ""
		if slim.Side[i].Record != nil {
			slim.Side[i].Record = []byte{}
		}
	}
	dst := make([]byte, changeHeader, changeHeader+64)
	binary.BigEndian.PutUint64(dst, uint64(key.process))
	binary.BigEndian.PutUint64(dst[8:], uint64(key.n))
	binary.BigEndian.PutUint32(dst[16:], key.k)
	return slim.Encode(dst)
}

func changeKeyOf(data []byte) (changeKey, error) {
	if len(data) < changeHeader {
		return changeKey{}, fmt.Errorf("read change of %d bytes: shorter than its header: %w", len(data), queue.ErrCorrupt)
	}
	return changeKey{
		process: int64(binary.BigEndian.Uint64(data)),
		n:       int64(binary.BigEndian.Uint64(data[8:])),
		k:       binary.BigEndian.Uint32(data[16:]),
	}, nil
}
