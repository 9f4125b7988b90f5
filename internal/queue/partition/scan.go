package partition

import (
	"context"
	"fmt"

	"github.com/weirdata/weir/internal/queue"
)

// scanned is a value as the scan sees it.
type scanned struct {
	opened
	hashes []uint64 // nil when no job is ordered
	due    []int64  // nil when no job has a time
}

// scan leases new jobs, in order of append.
func (t *turn) scan(ctx context.Context, l *lane) error {
	p := t.p
	for t.room() {
		p.mu.Lock()
		l.skip()
		full := l.inWindow >= p.cfg.Window
		park := full && l.parkable()
		seq, tail, cached := l.scan, l.tail, l.cached
		budget := t.budget(l)
		p.mu.Unlock()
		if park {
			if err := t.park(ctx, l); err != nil {
				return err
			}
			continue
		}
		if full || seq >= tail {
			return nil
		}
		var done bool
		var err error
		if cached != nil && cached.seq == seq {
			done, err = t.scanValue(ctx, l, cached)
		} else {
			done, err = t.scanFrom(ctx, l, seq, budget)
		}
		if err != nil || !done {
			return err
		}
		if len(t.delay) >= parkJobs {
			if err := t.setAside(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// scanFrom offers the jobs of values from seq on; done is false when it stopped before
// the end of one.
func (t *turn) scanFrom(ctx context.Context, l *lane, seq uint64, budget int) (done bool, err error) {
	vs, err := t.p.cfg.Storage.Values(ctx, l.id, seq, budget)
	if err != nil {
		return false, fmt.Errorf("read from value %d of lane %d: %w", seq, l.id, err)
	}
	if len(vs) == 0 || vs[0].Seq != seq {
		return false, fmt.Errorf("read value %d of lane %d: it is not there: %w", seq, l.id, queue.ErrCorrupt)
	}
	for i := range vs {
		s, err := scanValue(l.id, vs[i])
		if err != nil {
			return false, err
		}
		if done, err := t.scanValue(ctx, l, s); err != nil || !done {
			return false, err
		}
		if !t.room() || len(t.delay) >= parkJobs {
			break
		}
	}
	return true, nil
}

// scanValue reads the heads of a value.
func scanValue(lane uint64, v Value) (*scanned, error) {
	o, err := openValue(lane, v)
	if err != nil {
		return nil, err
	}
	s := &scanned{opened: o}
	for i := range uint32(s.count()) {
		head, err := queue.ReadHead(s.record(i))
		if err != nil {
			return nil, fmt.Errorf("read job %d-%d-%d: %w", lane, v.Seq, i, err)
		}
		if head.Hash != 0 {
			if s.hashes == nil {
				s.hashes = make([]uint64, s.count())
			}
			s.hashes[i] = head.Hash
		}
		if head.NotBefore != 0 {
			if s.due == nil {
				s.due = make([]int64, s.count())
			}
			s.due[i] = head.NotBefore
		}
	}
	return s, nil
}

// budget is how many bytes to read for the jobs that are still wanted, by the average of
// the lane: what is read beyond them is read again by the next turn.
func (t *turn) budget(l *lane) int {
	average := l.bytes / max(l.jobs+l.retry+l.parked+l.dead, 1)
	return int(min(average*int64(t.wants())+1024, int64(t.bytes), scanBytes))
}

// scanValue offers the jobs of one value; done is false when it stopped before the end.
func (t *turn) scanValue(ctx context.Context, l *lane, s *scanned) (done bool, err error) {
	p := t.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.hashes == nil || l.retry+l.parked == 0 {
		return t.offerValue(l, s, s.count(), nil), nil
	}
	// Keys are looked up for the jobs that are wanted, and for more when those are withheld.
	for n := t.wants() + keysAhead; ; n *= 2 {
		if l.scan != s.seq {
			return true, nil
		}
		from := int(l.scanIndex)
		to := min(from+n, s.count())
		l.beginRead()
		p.mu.Unlock()
		held, err := t.held(ctx, l, s.hashes[from:to])
		p.mu.Lock()
		if err == nil {
			done = t.offerValue(l, s, to, &heldKeys{from: uint32(from), rows: held})
		}
		l.endRead()
		if err != nil || done || int(l.scanIndex) < to {
			return done, err
		}
	}
}

// keysAhead is how many keys are looked up beside those of the jobs that are wanted.
const keysAhead = 16

// heldKeys are the open side rows that storage knew of, of the keys of the jobs of a value
// from one on.
type heldKeys struct {
	from uint32
	rows []Side
}

// of is the row of the key of job i; a zero one when there is none, or h is nil.
func (h *heldKeys) of(i uint32) Side {
	if h == nil {
		return Side{}
	}
	return h.rows[i-h.from]
}

// held looks up which of the keys have open side rows.
func (t *turn) held(ctx context.Context, l *lane, hashes []uint64) ([]Side, error) {
	out := make([]Side, len(hashes))
	var ask []uint64
	var where []int
	for i, h := range hashes {
		if h != 0 {
			ask, where = append(ask, h), append(where, i)
		}
	}
	heads, err := t.p.cfg.Storage.Heads(ctx, l.id, ask)
	if err != nil {
		return nil, fmt.Errorf("look up %d keys: %w", len(ask), err)
	}
	for i, h := range heads {
		out[where[i]] = h
	}
	return out, nil
}

// offerValue leases, withholds or puts off the jobs of a value before the one at to, in
// order; done is false when it stopped before the end.
func (t *turn) offerValue(l *lane, s *scanned, to int, held *heldKeys) (done bool) {
	if l.scan != s.seq {
		return true // every job of it has left the log by replay
	}
	b := l.ensure(s.seq, s.count(), len(s.data))
	b.hashes = s.hashes
	leased := t.count
	defer func() { l.add(counts{leased: int64(t.count - leased)}) }()
	for i := l.scanIndex; int(i) < to; i++ {
		if b.isGone(i) {
			continue
		}
		h := b.hash(i)
		if h != 0 && t.blocked(l, h, held, queue.ID{Lane: l.id, Seq: s.seq, Index: i}) {
			if l.stale(h, held, i) {
				l.check(h)
			}
			l.withhold(h, b, pos{s.seq, i})
			if !t.p.kept.put(queue.ID{Lane: l.id, Seq: s.seq, Index: i}, &s.opened) {
				t.p.kept.sweep(t.p.gone)
			}
			continue
		}
		if !t.fits(s.size(i)) {
			l.scanIndex, l.cached = i, s
			t.full(s.size(i))
			return false
		}
		if h != 0 {
			l.head(h, pos{s.seq, i})
		}
		if s.due != nil && s.due[i] > t.now {
			t.putOff(l, b, &s.opened, i, s.due[i])
			continue
		}
		t.lease(l, b, &s.opened, i)
	}
	if to < s.count() {
		l.scanIndex, l.cached = uint32(to), s
		return false
	}
	l.scan++
	l.scanIndex, l.cached = 0, nil
	l.inWindow += b.count
	l.advance()
	return true
}

// stale reports whether the rows of the key h have changed since they were looked up for the
// job i: what withholds it may have ended already, and would let nobody go on any more.
func (l *lane) stale(h uint64, held *heldKeys, i uint32) bool {
	if !l.reading {
		return false
	}
	_, fresh := l.fresh[h]
	_, changed := l.touched[held.of(i).ID]
	return fresh || changed
}

// blocked reports whether an earlier job of the key h withholds the job id.
func (t *turn) blocked(l *lane, h uint64, held *heldKeys, id queue.ID) bool {
	if l.keys[h] != nil {
		return true
	}
	if _, ok := l.fresh[h]; ok {
		return true
	}
	row := held.of(id.Index)
	return row.Open() && row.ID.Before(id)
}
