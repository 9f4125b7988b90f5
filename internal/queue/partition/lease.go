package partition

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
)

const (
	scanBytes  = 4 << 20 // most bytes read from storage at once
	keysAtOnce = 256     // keys looked up at once
	parkJobs   = 4096    // withheld jobs moved out of the window at once
)

// turn is one Lease call.
type turn struct {
	p     *Partition
	now   int64
	limit int
	bytes int
	count int    // jobs of picks
	share *share // of the value whose turn it is; nil when the work is not split
	g     *grant
	picks []pick
	delay []Side  // jobs the scan met before their time
	ends  []end   // of delay, one for each
	dry   []*lane // had nothing for the value whose turn it was
}

// pick is what was leased: jobs of one value that follow each other, or one side row.
type pick struct {
	lane     *lane
	value    opened
	from, to uint32 // the jobs of value: from is the first, to the one after the last
	side     *Side  // set: value is not
}

// pickSlices holds the memory of picks between turns.
var pickSlices = sync.Pool{New: func() any { return new([]pick) }}

func (t *turn) room() bool { return t.wants() > 0 }

// wants is how many jobs may still be picked, if they are small enough.
func (t *turn) wants() int {
	switch {
	case t.bytes <= 0:
		return 0
	case t.share != nil:
		return min(t.limit-t.count, t.share.turn)
	}
	return t.limit - t.count
}

// fits reports whether one more record may be handed out: the first always may.
func (t *turn) fits(size int) bool {
	return (t.count == 0 || t.count < t.limit && size <= t.bytes) && (t.share == nil || t.share.fits(size))
}

// full says that a record of that size did not fit: nothing more is picked, or nothing more
// of the value whose turn it is.
func (t *turn) full(size int) {
	if t.share != nil && !t.share.fits(size) {
		t.share.full()
		return
	}
	t.bytes = 0
}

// took says that a record was picked.
func (t *turn) took(size int) {
	t.count++
	t.bytes -= size
	if t.share != nil {
		t.share.took(size)
	}
}

// Lease is queue.Store.Lease for this partition.
func (p *Partition) Lease(ctx context.Context, q queue.Query) ([]queue.Job, error) {
	q, err := q.Complete()
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, queue.ErrClosed
	}
	p.visits++
	p.tokens++
	t := &turn{p: p, now: p.nanos(), limit: q.Limit, bytes: q.Bytes, g: &grant{token: p.tokens}}
	picks := pickSlices.Get().(*[]pick)
	t.picks = (*picks)[:0]
	defer func() {
		clear(t.picks) // what was handed out must not be kept alive
		*picks = t.picks
		pickSlices.Put(picks)
	}()
	p.tick(t.now)
	if q.Split != "" {
		err = t.turns(ctx, q, p.visits)
	} else {
		err = t.lanes(ctx, q, p.visits)
	}
	jobs, damaged := t.hand(q.For)
	p.arm(t.now)
	p.mu.Unlock()
	switch {
	case len(jobs) > 0:
		return jobs, nil
	case damaged != nil:
		return nil, damaged
	case err != nil:
		return nil, err
	}
	return nil, ctx.Err()
}

// lanes leases jobs of the lanes that q chooses, as many of each as there are. It is called
// with the lock, and returns the first error.
func (t *turn) lanes(ctx context.Context, q queue.Query, visit uint64) (failed error) {
	p := t.p
	axis, group := axisIndex(normal(q.Filter).By), p.group(q.Filter)
	for group != nil && t.room() && ctx.Err() == nil {
		l := group.next(axis, visit)
		if l == nil {
			break
		}
		if !l.ready(t.now, p.cfg.Window) {
			p.offer(l, t.now) // a later clock than ours may have put it here
			continue
		}
		p.mu.Unlock()
		err := t.take(ctx, l)
		p.mu.Lock()
		p.offer(l, t.now)
		if err != nil && failed == nil {
			failed = l.trouble(err)
		}
	}
	return failed
}

// trouble says of which lane err is.
func (l *lane) trouble(err error) error {
	return fmt.Errorf("lease from queue %q (scope %q, %q, %q): %w", l.queue, l.scope.Workspace, l.scope.Source, l.scope.Destination, err)
}

// hand makes jobs of what was picked and gives them their lease. It is called with the
// lock, and lets go of it to decode. A job that cannot be read keeps nobody from the others:
// it stays leased, and comes again when the lease has ended.
func (t *turn) hand(d time.Duration) ([]queue.Job, error) {
	if t.count == 0 {
		return nil, nil
	}
	p := t.p
	t.g.expires = p.nanos() + int64(d)
	t.g.open = t.count
	p.grants[t.g.token] = t.g
	heap.Push(&p.expiry, t.g)
	p.mu.Unlock()
	jobs, err := t.decode()
	p.mu.Lock()
	if len(jobs) == 0 && p.grants[t.g.token] != nil {
		p.expire(t.g, t.now)
	}
	if len(jobs) > 0 && err != nil {
		p.cfg.Log.Error("jobs that cannot be read stay in the queue", "jobs", t.count-len(jobs), "error", err)
	}
	return jobs, err
}

// decode allocates the jobs in one piece and their messages in another: all else that a
// message holds, but for headers, is memory of the values as they were read. It returns the
// first error beside the jobs that could be read.
func (t *turn) decode() (jobs []queue.Job, failed error) {
	jobs = make([]queue.Job, t.count)
	messages := make([]event.Message, t.count)
	var d queue.Decoder
	lease := queue.Lease{Token: t.g.token, Expires: time.Unix(0, t.g.expires).UTC()}
	n := 0
	read := func(k *pick, id queue.ID, rec []byte) (*queue.Job, bool) {
		err := k.decode(&d, &jobs[n], &messages[n], id, rec, lease)
		if err == nil {
			n++
			return &jobs[n-1], true
		}
		jobs[n], messages[n] = queue.Job{}, event.Message{}
		if failed == nil {
			failed = k.lane.trouble(err)
		}
		return nil, false
	}
	for i := range t.picks {
		k := &t.picks[i]
		if s := k.side; s != nil {
			if j, ok := read(k, s.ID, s.Record); ok {
				j.Attempt, j.Cause, j.At = s.Attempt, s.Cause, time.Unix(0, s.At).UTC()
				if s.Due > 1 {
					j.NotBefore = time.Unix(0, s.Due).UTC()
				}
			}
			continue
		}
		id, at := queue.ID{Lane: k.lane.id, Seq: k.value.seq}, time.Unix(0, k.value.at).UTC()
		for id.Index = k.from; id.Index < k.to; id.Index++ {
			if j, ok := read(k, id, k.value.record(id.Index)); ok {
				j.At = at
			}
		}
	}
	return jobs[:n], failed
}

func (k *pick) decode(d *queue.Decoder, j *queue.Job, m *event.Message, id queue.ID, rec []byte, lease queue.Lease) error {
	if err := d.Read(rec, j, m); err != nil {
		return fmt.Errorf("lease job %s: %w", id, err)
	}
	m.Meta.Scope = &k.lane.scope
	j.ID, j.Queue, j.Scope, j.Lease = id, k.lane.queue, k.lane.scope, lease
	return nil
}

// take leases jobs of one lane: those whose next attempt has come, those that were
// handed out before, then new ones.
func (t *turn) take(ctx context.Context, l *lane) error {
	l.scanning.Lock()
	defer l.scanning.Unlock()
	for _, step := range []func(context.Context, *lane) error{t.resolve, t.due, t.freed, t.scan} {
		if err := step(ctx, l); err != nil {
			return errors.Join(err, t.setAside(ctx))
		}
	}
	return t.setAside(ctx)
}

// beginRead notes what changes in l while storage is read without the lock.
func (l *lane) beginRead() {
	l.reading = true
	l.fresh, l.touched = map[uint64]struct{}{}, map[queue.ID]struct{}{}
}

func (l *lane) endRead() { l.reading, l.fresh, l.touched = false, nil, nil }

// due leases side rows whose time has come.
func (t *turn) due(ctx context.Context, l *lane) error {
	p := t.p
	for t.room() {
		p.mu.Lock()
		bound, from := l.nextDue, l.dueFrom
		if bound == 0 || bound > t.now {
			p.mu.Unlock()
			return nil
		}
		p.setDue(l, 0)
		l.dueMoved = false
		l.beginRead()
		p.mu.Unlock()
		rows, next, err := p.cfg.Storage.Due(ctx, l.id, from, t.now, min(t.wants(), 1024))
		p.mu.Lock()
		if err != nil {
			p.setDue(l, lower(l.nextDue, bound))
			l.endRead()
			p.mu.Unlock()
			return fmt.Errorf("read jobs that are due: %w", err)
		}
		last := from
		for i := range rows {
			r := &rows[i]
			if _, changed := l.touched[r.ID]; !changed && l.sides[r.ID] == nil {
				if !t.fits(len(r.Record)) {
					next = r.Due
					t.full(len(r.Record))
					break
				}
				t.leaseSide(l, r)
			}
			last = DueKey{Due: r.Due, Seq: r.ID.Seq, Index: r.ID.Index}
		}
		if !l.dueMoved {
			l.dueFrom = last
		}
		p.setDue(l, lower(l.nextDue, next))
		l.endRead()
		p.mu.Unlock()
		if next == 0 || next > t.now {
			return nil
		}
	}
	return nil
}

func (t *turn) leaseSide(l *lane, r *Side) {
	s := &sideLease{token: t.g.token, row: *r}
	s.row.Record = nil
	if l.sides == nil {
		l.sides = map[queue.ID]*sideLease{}
	}
	l.sides[r.ID] = s
	t.g.sides = append(t.g.sides, r.ID)
	d := counts{leased: 1}
	if r.Attempt > 0 {
		d.leasedRetried = 1
	}
	l.add(d)
	t.picks = append(t.picks, pick{lane: l, side: r})
	t.took(len(r.Record))
}

// freed leases jobs of the log that were handed out before, or withheld.
func (t *turn) freed(ctx context.Context, l *lane) error {
	p := t.p
	for t.room() {
		p.mu.Lock()
		n := 0
		for n < len(l.freed) && n < t.wants() && l.freed[n].seq == l.freed[0].seq {
			if p.kept.has(queue.ID{Lane: l.id, Seq: l.freed[n].seq, Index: l.freed[n].index}) {
				n = max(n, 1) // a record that is kept is alone
				break
			}
			n++
		}
		taken := slices.Clone(l.freed[:n])
		l.freed = l.freed[n:]
		if len(l.freed) == 0 {
			l.freed = nil
		}
		// Another owner may have settled what this one is about to give up.
		taken = slices.DeleteFunc(taken, func(k pos) bool { return l.left(k) })
		p.mu.Unlock()
		switch {
		case n == 0:
			return nil
		case len(taken) == 0:
			continue
		}
		v, heads, err := p.openFreed(ctx, l, taken)
		p.mu.Lock()
		b := l.at(taken[0].seq)
		for i, k := range taken {
			if err != nil || !t.fits(v.size(k.index)) {
				for _, k := range taken[i:] {
					l.free(k)
				}
				if err == nil {
					t.full(v.size(k.index))
				}
				break
			}
			if l.left(k) {
				continue
			}
			if heads[i].Hash != 0 {
				l.head(heads[i].Hash, k)
			}
			if heads[i].NotBefore > t.now {
				t.putOff(l, b, &v, k.index, heads[i].NotBefore)
				continue
			}
			t.lease(l, b, &v, k.index)
			l.add(counts{leased: 1})
		}
		p.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// openFreed reads the value of the jobs taken, and their heads.
func (p *Partition) openFreed(ctx context.Context, l *lane, taken []pos) (v opened, heads []queue.Head, err error) {
	p.mu.Lock()
	v, there := p.kept.take(queue.ID{Lane: l.id, Seq: taken[0].seq, Index: taken[0].index})
	p.mu.Unlock()
	if !there {
		raw, err := p.value(ctx, l.id, taken[0].seq)
		if err == nil {
			v, err = openValue(l.id, raw)
		}
		if err != nil {
			return v, nil, err
		}
	}
	heads = make([]queue.Head, len(taken))
	for i, k := range taken {
		if v.size(k.index) == 0 {
			return v, nil, fmt.Errorf("read value %d of lane %d: it has %d jobs only: %w", v.seq, l.id, v.count(), queue.ErrCorrupt)
		}
		if heads[i], err = queue.ReadHead(v.record(k.index)); err != nil {
			return v, nil, fmt.Errorf("read job %d-%d-%d: %w", l.id, v.seq, k.index, err)
		}
	}
	return v, heads, nil
}

// gone reports whether a job has left the log.
func (p *Partition) gone(id queue.ID) bool {
	l := p.lanes[id.Lane]
	return l == nil || l.left(pos{id.Seq, id.Index})
}

// lease leases a job of the log that nothing withholds. The caller counts it.
func (t *turn) lease(l *lane, b *batch, v *opened, index uint32) {
	b.setToken(index, t.g.token)
	t.took(v.size(index))
	if n := len(t.picks); n > 0 {
		if k := &t.picks[n-1]; k.lane == l && k.side == nil && k.value.seq == v.seq && k.to == index && k.value.size(index) > 0 {
			k.to++
			return
		}
	}
	t.picks = append(t.picks, pick{lane: l, value: *v, from: index, to: index + 1})
	if n := len(t.g.values); n == 0 || t.g.values[n-1].batch != b {
		t.g.values = append(t.g.values, valueRef{l, b})
	}
}

// putOff has a job of the log moved to the side table until its time.
func (t *turn) putOff(l *lane, b *batch, v *opened, index uint32, due int64) {
	rec := v.record(index)
	t.delay = append(t.delay, Side{ID: queue.ID{Lane: l.id, Seq: b.seq, Index: index}, State: Retry, Due: due, Hash: b.hash(index),
		At: v.at, Size: len(rec), Record: rec})
	t.ends = append(t.ends, end{lane: l, batch: b, index: []uint32{index}, stays: true})
}

// setAside commits the jobs that the scan met before their time.
func (t *turn) setAside(ctx context.Context) error {
	if len(t.delay) == 0 {
		return nil
	}
	c := &Change{Side: t.delay, ends: t.ends}
	t.delay, t.ends = nil, nil
	for i := range c.Side {
		id, b := c.Side[i].ID, c.ends[i].batch
		if n := len(c.Left); n == 0 || c.Left[n-1].Seq != id.Seq || c.Left[n-1].Lane != id.Lane {
			c.Left = append(c.Left, Left{Lane: id.Lane, Seq: id.Seq, Count: b.count, Size: b.size})
		}
		f := &c.Left[len(c.Left)-1]
		f.Index = append(f.Index, id.Index)
	}
	return t.move(ctx, c)
}

// move commits what the partition does of its own accord.
func (t *turn) move(ctx context.Context, c *Change) error {
	if c.Empty() {
		return nil
	}
	if err := t.p.cfg.Storage.Move(ctx, c); err != nil {
		return fmt.Errorf("move %d jobs aside: %w", len(c.Side), err)
	}
	return nil
}
