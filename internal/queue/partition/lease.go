package partition

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

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
	now   moment
	limit int
	bytes int
	count int                                                // jobs of picks
	share *share                                             // of the value whose turn it is; nil when the work is not split
	any   bool                                               // jobs that are not due are leased too
	pick  func(id queue.ID, at time.Time, cause string) bool // with any; nil picks all
	g     *grant
	picks []pick
	delay []Side  // jobs the scan met before their time
	ends  []end   // of delay, one for each
	dry   []*lane // had nothing for the value whose turn it was
	read  []*lane // have side rows ahead
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

// ahead is how many jobs to read at once.
func (t *turn) ahead() int {
	if t.share != nil && t.share.turn > 0 {
		return t.share.ahead
	}
	return t.wants()
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
	t := &turn{p: p, now: p.now(), limit: q.Limit, bytes: q.Bytes, g: &grant{token: p.tokens}}
	picks := pickSlices.Get().(*[]pick)
	t.picks = (*picks)[:0]
	defer func() {
		clear(t.picks) // what was handed out must not be kept alive
		*picks = t.picks
		pickSlices.Put(picks)
	}()
	p.tick(t.now)
	switch {
	case q.Any:
		err = t.claim(ctx, q)
	case q.Split != "":
		err = t.turns(ctx, q, p.visits)
	default:
		err = t.lanes(ctx, q, p.visits)
	}
	for _, l := range t.read {
		for c := range l.due {
			l.due[c].ahead = nil
		}
	}
	jobs, damaged := t.hand(ctx, q.For)
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

// due leases side rows whose time has come, by either clock.
func (t *turn) due(ctx context.Context, l *lane) error {
	p := t.p
	for clock := range l.due {
		for t.room() {
			p.mu.Lock()
			d := &l.due[clock]
			if d.next == 0 || d.next > t.now.of(clock) {
				p.mu.Unlock()
				break
			}
			if len(d.ahead) == 0 {
				p.mu.Unlock()
				if err := t.readDue(ctx, l, clock); err != nil {
					return err
				}
				p.mu.Lock()
			}
			t.leaseDue(l, clock)
			p.mu.Unlock()
		}
	}
	return nil
}

// readDue reads side rows whose time has come by a clock, ahead.
func (t *turn) readDue(ctx context.Context, l *lane, clock int) error {
	p, d := t.p, &l.due[clock]
	p.mu.Lock()
	bound, from := d.next, d.from
	p.setDue(l, clock, 0)
	d.moved = false
	l.beginRead()
	p.mu.Unlock()
	rows, next, err := p.cfg.Storage.Due(ctx, l.id, from, t.now.of(clock), min(t.ahead(), 1024), t.bytes)
	p.mu.Lock()
	defer p.mu.Unlock()
	defer l.endRead()
	if err != nil {
		p.setDue(l, clock, lower(d.next, bound))
		return fmt.Errorf("read jobs that are due: %w", err)
	}
	if clockOf(next) != clock {
		next = 0 // the rows of the other clock come behind those of this one
	}
	if n := len(rows); n > 0 && !d.moved {
		from = rows[n-1].key()
	}
	d.ahead = slices.DeleteFunc(rows, func(r Side) bool {
		_, changed := l.touched[r.ID]
		return changed || l.sides[r.ID] != nil
	})
	d.aheadNext = lower(d.next, next)
	if len(d.ahead) == 0 {
		if !d.moved {
			d.from = from
		}
		p.setDue(l, clock, d.aheadNext)
		return nil
	}
	p.setDue(l, clock, lower(d.ahead[0].Due, d.next))
	t.read = append(t.read, l)
	return nil
}

// leaseDue leases of the rows that were read as many as there is room for.
func (t *turn) leaseDue(l *lane, clock int) {
	for d := &l.due[clock]; len(d.ahead) > 0 && t.room(); {
		r := &d.ahead[0]
		if !t.fits(len(r.Record)) {
			t.full(len(r.Record))
			return
		}
		t.leaseSide(l, r)
		if !d.moved {
			d.from = r.key()
		}
		d.ahead = d.ahead[1:]
		next := d.aheadNext
		if len(d.ahead) > 0 {
			next = lower(d.ahead[0].Due, next)
		}
		t.p.setDue(l, clock, next)
	}
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
	for t.room() {
		taken, some := t.takeFreed(l)
		switch {
		case !some:
			return nil
		case len(taken) == 0:
			continue
		}
		if err := t.leaseFreed(ctx, l, taken); err != nil {
			return err
		}
	}
	return nil
}

// takeFreed takes the next of them that are of one value; some is false when there are none.
func (t *turn) takeFreed(l *lane) (taken []pos, some bool) {
	p := t.p
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for n < len(l.freed) && n < t.wants() && l.freed[n].seq == l.freed[0].seq {
		if p.kept.has(queue.ID{Lane: l.id, Seq: l.freed[n].seq, Index: l.freed[n].index}) {
			n = max(n, 1) // a record that is kept is alone
			break
		}
		n++
	}
	taken = slices.Clone(l.freed[:n])
	l.freed = l.freed[n:]
	if len(l.freed) == 0 {
		l.freed = nil
	}
	// Another owner may have settled what this one is about to give up.
	return slices.DeleteFunc(taken, func(k pos) bool { return l.left(k) }), n > 0
}

// leaseFreed leases what was taken, or puts it off, or frees it again.
func (t *turn) leaseFreed(ctx context.Context, l *lane, taken []pos) error {
	p := t.p
	v, err := t.openFreed(ctx, l, taken)
	p.mu.Lock()
	defer p.mu.Unlock()
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
		if h := b.hash(k.index); h != 0 {
			l.head(h, k)
		}
		if t.early(v.dueOf(k.index)) {
			t.putOff(l, b, &v.opened, k.index, v.dueOf(k.index))
			continue
		}
		t.lease(l, b, &v.opened, k.index)
		l.add(counts{leased: 1})
	}
	return err
}

// openFreed finds the value of the jobs taken, with the records of those that are to be put off.
func (t *turn) openFreed(ctx context.Context, l *lane, taken []pos) (scanned, error) {
	p := t.p
	seq := taken[0].seq
	p.mu.Lock()
	one, there := p.kept.take(queue.ID{Lane: l.id, Seq: seq, Index: taken[0].index})
	p.mu.Unlock()
	if there {
		return t.openKept(l, one)
	}
	v, err := p.value(ctx, l.id, seq)
	for _, k := range taken {
		if err != nil {
			break
		}
		if v.size(k.index) == 0 {
			return v, fmt.Errorf("read value %d of lane %d: it has %d jobs only: %w", seq, l.id, v.count(), queue.ErrCorrupt)
		}
		if v.data == nil && t.early(v.dueOf(k.index)) {
			v, err = p.readValue(ctx, valueKey{l.id, seq})
		}
	}
	return v, err
}

// openKept is a record that was kept, as the value of its job alone.
func (t *turn) openKept(l *lane, one opened) (scanned, error) {
	v := scanned{opened: one}
	head, err := queue.ReadHead(one.record(one.first))
	if err != nil {
		return v, fmt.Errorf("read job %d-%d-%d: %w", l.id, one.seq, one.first, err)
	}
	if t.early(head.NotBefore) {
		v.due = make([]int64, one.first+1)
		v.due[one.first] = head.NotBefore
	}
	return v, nil
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
