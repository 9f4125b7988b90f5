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
	g     *grant
	picks []pick
	delay []Side // jobs the scan met before their time
	ends  []end
}

// pick is a job that was leased.
type pick struct {
	lane    *lane
	id      queue.ID
	rec     []byte
	at      int64
	due     int64
	attempt int
	cause   string
}

// pickSlices holds the memory of picks between turns.
var pickSlices = sync.Pool{New: func() any { s := make([]pick, 0, queue.DefaultLimit); return &s }}

func (t *turn) room() bool { return len(t.picks) < t.limit && t.bytes > 0 }

// fits reports whether one more record may be handed out: the first always may.
func (t *turn) fits(size int) bool {
	return len(t.picks) == 0 || len(t.picks) < t.limit && size <= t.bytes
}

// Lease is queue.Store.Lease for this partition.
func (p *Partition) Lease(ctx context.Context, q queue.Query) ([]queue.Job, error) {
	if q.Limit <= 0 {
		q.Limit = queue.DefaultLimit
	}
	if q.Bytes <= 0 {
		q.Bytes = queue.DefaultBytes
	}
	if q.For <= 0 {
		q.For = queue.DefaultFor
	}
	axis := axisIndex(normal(q.Filter).By)
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, queue.ErrClosed
	}
	p.visits++
	p.tokens++
	visit := p.visits
	t := &turn{p: p, now: p.nanos(), limit: q.Limit, bytes: q.Bytes, g: &grant{token: p.tokens}}
	picks := pickSlices.Get().(*[]pick)
	t.picks = (*picks)[:0]
	defer func() {
		clear(t.picks) // what was handed out must not be kept alive
		*picks = t.picks
		pickSlices.Put(picks)
	}()
	p.tick(t.now)
	group := p.group(q.Filter)
	var failed error
	for group != nil && t.room() && ctx.Err() == nil {
		l := group.next(axis, visit)
		if l == nil {
			break
		}
		if !l.ready(t.now, p.cfg.Window) {
			continue
		}
		p.mu.Unlock()
		err := t.take(ctx, l)
		p.mu.Lock()
		p.offer(l, t.now)
		if err != nil && failed == nil {
			failed = fmt.Errorf("lease from queue %q (scope %q, %q, %q): %w", l.queue, l.scope.Workspace, l.scope.Source, l.scope.Destination, err)
		}
	}
	jobs, err := t.hand(q.For)
	p.arm(t.now)
	p.mu.Unlock()
	switch {
	case err != nil:
		return nil, err
	case len(jobs) == 0 && failed != nil:
		return nil, failed
	case len(jobs) == 0:
		return nil, ctx.Err()
	}
	return jobs, nil
}

// hand makes jobs of what was picked and gives them their lease. It is called with the
// lock, and lets go of it to decode.
func (t *turn) hand(d time.Duration) ([]queue.Job, error) {
	if len(t.picks) == 0 {
		return nil, nil
	}
	p := t.p
	t.g.expires = p.nanos() + int64(d)
	t.g.open = len(t.picks)
	p.grants[t.g.token] = t.g
	heap.Push(&p.expiry, t.g)
	p.mu.Unlock()
	jobs, err := t.decode()
	p.mu.Lock()
	if err != nil {
		if p.grants[t.g.token] != nil {
			p.expire(t.g, t.now)
		}
		return nil, err
	}
	return jobs, nil
}

func (t *turn) decode() ([]queue.Job, error) {
	jobs := make([]queue.Job, len(t.picks))
	messages := make([]event.Message, len(t.picks))
	lease := queue.Lease{Token: t.g.token, Expires: time.Unix(0, t.g.expires).UTC()}
	for i := range t.picks {
		k, j := &t.picks[i], &jobs[i]
		if err := queue.ReadRecord(k.rec, j, &messages[i]); err != nil {
			return nil, fmt.Errorf("lease job %s: %w", k.id, err)
		}
		messages[i].Meta.Scope = &k.lane.scope
		j.ID, j.Queue, j.Scope, j.Lease = k.id, k.lane.queue, k.lane.scope, lease
		j.Attempt, j.Cause, j.At = k.attempt, k.cause, time.Unix(0, k.at).UTC()
		if k.due > 1 {
			j.NotBefore = time.Unix(0, k.due).UTC()
		}
	}
	return jobs, nil
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
		rows, next, err := p.cfg.Storage.Due(ctx, l.id, from, t.now, min(t.limit-len(t.picks), 1024))
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
					t.bytes = 0
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
	t.pick(pick{lane: l, id: r.ID, rec: r.Record, at: r.At, due: r.Due, attempt: r.Attempt, cause: r.Cause})
}

func (t *turn) pick(k pick) {
	t.picks = append(t.picks, k)
	t.bytes -= len(k.rec)
}

// freed leases jobs of the log that were handed out before, or withheld.
func (t *turn) freed(ctx context.Context, l *lane) error {
	p := t.p
	for t.room() {
		p.mu.Lock()
		n := 0
		for n < len(l.freed) && n < t.limit-len(t.picks) && l.freed[n].seq == l.freed[0].seq {
			n++
		}
		taken := slices.Clone(l.freed[:n])
		l.freed = l.freed[n:]
		if len(l.freed) == 0 {
			l.freed = nil
		}
		p.mu.Unlock()
		if n == 0 {
			return nil
		}
		v, err := p.value(ctx, l.id, taken[0].seq)
		var recs [][]byte
		var at int64
		if err == nil {
			recs, at, err = records(v)
		}
		if err == nil && int(taken[n-1].index) >= len(recs) {
			err = fmt.Errorf("read value %d of lane %d: it has %d jobs only: %w", v.Seq, l.id, len(recs), queue.ErrCorrupt)
		}
		p.mu.Lock()
		for i, k := range taken {
			if err != nil || !t.fits(len(recs[k.index])) {
				for _, k := range taken[i:] {
					l.free(k)
				}
				t.bytes = 0
				break
			}
			if err = t.place(l, l.at(k.seq), k, recs[k.index], at); err != nil {
				l.free(k)
			}
		}
		p.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// place leases a job of the log that nothing withholds, or puts it off until its time.
func (t *turn) place(l *lane, b *batch, k pos, rec []byte, at int64) error {
	id := queue.ID{Lane: l.id, Seq: k.seq, Index: k.index}
	head, err := queue.ReadHead(rec)
	if err != nil {
		return fmt.Errorf("read job %s: %w", id, err)
	}
	if head.Hash != 0 {
		l.head(head.Hash, k)
	}
	if head.NotBefore > t.now {
		t.delay = append(t.delay, Side{ID: id, State: Retry, Due: head.NotBefore, Hash: head.Hash, At: at, Size: len(rec), Record: rec})
		t.ends = append(t.ends, end{lane: l, id: id, hash: head.Hash, stays: true})
		return nil
	}
	b.setToken(k.index, t.g.token)
	l.add(counts{leased: 1})
	if n := len(t.g.values); n == 0 || t.g.values[n-1] != (valueRef{l, k.seq}) {
		t.g.values = append(t.g.values, valueRef{l, k.seq})
	}
	t.pick(pick{lane: l, id: id, rec: rec, at: at, due: head.NotBefore})
	return nil
}

// setAside commits the jobs that the scan met before their time.
func (t *turn) setAside(ctx context.Context) error {
	if len(t.delay) == 0 {
		return nil
	}
	c := &Change{Side: t.delay, ends: t.ends}
	t.delay, t.ends = nil, nil
	t.p.mu.Lock()
	for i := range c.Side {
		id := c.Side[i].ID
		if n := len(c.Left); n == 0 || c.Left[n-1].Seq != id.Seq || c.Left[n-1].Lane != id.Lane {
			b := c.ends[i].lane.at(id.Seq)
			c.Left = append(c.Left, Left{Lane: id.Lane, Seq: id.Seq, Count: b.count, Size: b.size})
		}
		f := &c.Left[len(c.Left)-1]
		f.Index = append(f.Index, id.Index)
	}
	t.p.mu.Unlock()
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
