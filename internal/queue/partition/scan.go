package partition

import (
	"context"
	"fmt"

	"github.com/weirdata/weir/internal/queue"
)

// scanned is a value as the scan sees it.
type scanned struct {
	seq    uint64
	size   int
	at     int64
	recs   [][]byte
	hashes []uint64 // nil when no job is ordered
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
		vs := []Value{cached}
		if cached.Data == nil || cached.Seq != seq {
			var err error
			if vs, err = p.cfg.Storage.Values(ctx, l.id, seq, budget); err != nil {
				return fmt.Errorf("read from value %d of lane %d: %w", seq, l.id, err)
			}
			if len(vs) == 0 || vs[0].Seq != seq {
				return fmt.Errorf("read value %d of lane %d: it is not there: %w", seq, l.id, queue.ErrCorrupt)
			}
		}
		for i := range vs {
			done, err := t.scanValue(ctx, l, vs[i])
			if err != nil || !done {
				return err
			}
			if !t.room() || len(t.delay) >= parkJobs {
				break
			}
		}
		if len(t.delay) >= parkJobs {
			if err := t.setAside(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// budget is how many bytes to read for the jobs that are still wanted, by the average of
// the lane: what is read beyond them is read again by the next turn.
func (t *turn) budget(l *lane) int {
	average := l.bytes / max(l.jobs+l.retry+l.parked+l.dead, 1)
	return int(min(average*int64(t.limit-len(t.picks))+1024, int64(t.bytes), scanBytes))
}

// scanValue offers the jobs of one value; done is false when it stopped before the end.
func (t *turn) scanValue(ctx context.Context, l *lane, v Value) (done bool, err error) {
	p := t.p
	s := scanned{seq: v.Seq, size: len(v.Data)}
	if s.recs, s.at, err = records(v); err != nil {
		return false, fmt.Errorf("read value %d of lane %d: %w", v.Seq, l.id, err)
	}
	for i, rec := range s.recs {
		head, err := queue.ReadHead(rec)
		if err != nil {
			return false, fmt.Errorf("read job %d-%d-%d: %w", l.id, v.Seq, i, err)
		}
		if head.Hash != 0 && s.hashes == nil {
			s.hashes = make([]uint64, len(s.recs))
		}
		if head.Hash != 0 {
			s.hashes[i] = head.Hash
		}
	}
	p.mu.Lock()
	lookup := s.hashes != nil && l.retry+l.parked > 0
	if s.hashes != nil {
		l.beginRead()
	}
	p.mu.Unlock()
	var held []Side
	if lookup {
		held, err = t.held(ctx, l, s.hashes)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	defer l.endRead()
	if err != nil {
		return false, err
	}
	return t.offerValue(l, &s, v, held)
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

// offerValue leases, withholds or puts off the jobs of a value, in order.
func (t *turn) offerValue(l *lane, s *scanned, v Value, held []Side) (done bool, err error) {
	if l.scan != s.seq {
		return true, nil // every job of it has left the log by replay
	}
	b := l.ensure(s.seq, len(s.recs), s.size)
	if s.hashes != nil {
		b.hashes = s.hashes
	}
	for i := l.scanIndex; int(i) < len(s.recs); i++ {
		if b.isGone(i) {
			continue
		}
		k, h := pos{s.seq, i}, b.hash(i)
		if h != 0 {
			blocked := l.keys[h] != nil
			if _, ok := l.fresh[h]; ok {
				blocked = true
			}
			if held != nil && held[i].Open() && held[i].ID.Before(queue.ID{Lane: l.id, Seq: s.seq, Index: i}) {
				blocked = true
			}
			if blocked {
				l.withhold(h, b, k)
				continue
			}
		}
		if !t.fits(len(s.recs[i])) {
			l.scanIndex, l.cached = i, v
			t.bytes = 0
			return false, nil
		}
		if err := t.place(l, b, k, s.recs[i], s.at); err != nil {
			return false, err
		}
	}
	l.scan++
	l.scanIndex, l.cached = 0, Value{}
	l.inWindow += b.count
	l.advance()
	return true, nil
}
