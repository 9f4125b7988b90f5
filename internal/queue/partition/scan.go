package partition

import (
	"context"
	"fmt"

	"github.com/weirdata/weir/internal/queue"
)

// scan leases new jobs, in order of append.
func (t *turn) scan(ctx context.Context, l *lane) error {
	p := t.p
	for t.room() {
		p.mu.Lock()
		l.skip()
		full := l.inWindow >= p.cfg.Window
		park := full && l.parkable()
		seq, tail := l.scan, l.tail
		kept := p.values.get(valueKey{l.id, seq})
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
		if kept != nil {
			done, err = t.scanValue(ctx, l, kept)
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
			t.p.keepAhead(l.id, vs[i+1:])
			return false, err
		}
		if !t.room() || len(t.delay) >= parkJobs {
			t.p.keepAhead(l.id, vs[i+1:])
			break
		}
	}
	return true, nil
}

// valuesAhead is how many values are kept that were read and not reached.
const valuesAhead = 64

// keepAhead keeps values that the scan did not reach.
func (p *Partition) keepAhead(lane uint64, vs []Value) {
	for i := range vs[:min(len(vs), valuesAhead)] {
		s, err := scanValue(lane, vs[i])
		if err != nil {
			return // the scan finds out when it gets there
		}
		p.mu.Lock()
		p.values.put(valueKey{lane, s.seq}, s)
		p.mu.Unlock()
	}
}

// budget is how many bytes to read for the jobs that are still wanted, by the average of
// the lane.
func (t *turn) budget(l *lane) int {
	average := l.bytes / max(l.jobs+l.retry+l.parked+l.dead, 1)
	return int(min(average*int64(t.ahead())+1024, int64(t.bytes), scanBytes))
}

// scanValue offers the jobs of one value; done is false when it stopped before the end.
func (t *turn) scanValue(ctx context.Context, l *lane, s *scanned) (done bool, err error) {
	p := t.p
	p.mu.Lock()
	defer p.mu.Unlock()
	for n := t.wants() + keysAhead; ; n *= 2 {
		to := s.count()
		var held *heldKeys
		if l.scan == s.seq && s.hashes != nil && l.retry+l.parked > 0 {
			// Keys are looked up for the jobs that are wanted, and for more when those are withheld.
			from := l.scanIndex
			to = min(int(from)+n, to)
			l.beginRead()
			p.mu.Unlock()
			rows, err := t.held(ctx, l, s.hashes[from:to])
			p.mu.Lock()
			if err != nil {
				l.endRead()
				return false, err
			}
			held = &heldKeys{from: from, rows: rows}
		}
		got := t.offerValue(l, s, to, held)
		if held != nil {
			l.endRead()
		}
		switch got {
		case allOffered:
			return true, nil
		case noRoom:
			return false, nil
		case notRead:
			p.mu.Unlock()
			whole, err := p.readValue(ctx, valueKey{l.id, s.seq})
			p.mu.Lock()
			if err != nil {
				return false, err
			}
			s = &whole
		}
	}
}

// offered says why offerValue has stopped.
type offered uint8

const (
	allOffered offered = iota
	noRoom             // for the next job
	notAsked           // the keys of the next jobs are to be looked up
	notRead            // the next job is to be put off, and its record is not in memory
)

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
// order.
func (t *turn) offerValue(l *lane, s *scanned, to int, held *heldKeys) offered {
	if l.scan != s.seq {
		return allOffered // every job of it has left the log by replay
	}
	k := valueKey{l.id, s.seq}
	stop := func(i uint32, why offered) offered {
		l.scanIndex = i
		t.p.values.put(k, s)
		return why
	}
	b := l.ensure(s.seq, s.count(), int(s.ends[s.count()]))
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
			if s.data != nil && !t.p.kept.put(queue.ID{Lane: l.id, Seq: s.seq, Index: i}, &s.opened) {
				t.p.kept.sweep(t.p.gone)
			}
			continue
		}
		if !t.chosen(queue.ID{Lane: l.id, Seq: s.seq, Index: i}, s.at, "") {
			if h != 0 {
				l.head(h, pos{s.seq, i})
			}
			l.free(pos{s.seq, i})
			continue
		}
		if !t.fits(s.size(i)) {
			t.full(s.size(i))
			return stop(i, noRoom)
		}
		later := t.early(s.dueOf(i))
		if later && s.data == nil {
			return stop(i, notRead)
		}
		if h != 0 {
			l.head(h, pos{s.seq, i})
		}
		if later {
			t.putOff(l, b, &s.opened, i, s.due[i])
			continue
		}
		t.lease(l, b, &s.opened, i)
	}
	if to < s.count() {
		return stop(uint32(to), notAsked)
	}
	t.p.values.drop(k)
	l.scan++
	l.scanIndex = 0
	l.inWindow += b.count
	l.advance()
	return allOffered
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
