package partition

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/weirdata/weir/internal/queue"
)

// This file keeps the order of keys beyond the window: what is parked, and what goes on.

// resolve makes the heads of keys due that were parked.
func (t *turn) resolve(ctx context.Context, l *lane) error {
	for {
		p := t.p
		p.mu.Lock()
		hashes := make([]uint64, 0, min(len(l.checks), keysAtOnce))
		for h := range l.checks {
			if len(hashes) == keysAtOnce {
				break
			}
			hashes = append(hashes, h)
			delete(l.checks, h)
		}
		p.mu.Unlock()
		if len(hashes) == 0 {
			return t.sweep(ctx, l)
		}
		again := func(err error) error {
			p.mu.Lock()
			defer p.mu.Unlock()
			for _, h := range hashes {
				l.check(h)
			}
			return err
		}
		heads, fresh, err := t.heads(l, func() ([]Side, error) { return p.cfg.Storage.Heads(ctx, l.id, hashes) })
		if err != nil {
			return again(fmt.Errorf("look up %d keys: %w", len(hashes), err))
		}
		c := &Change{}
		p.mu.Lock()
		for i, h := range hashes {
			k := l.keys[h]
			_, changed := fresh[h]
			switch {
			case changed:
				l.check(h)
			case k != nil && k.hasHead: // the end of that job has it looked up again
			case heads[i].State == Parked:
				c.Side = append(c.Side, promote(heads[i]))
			case heads[i].State == Gone && k != nil:
				l.release(h)
			}
		}
		p.mu.Unlock()
		if err := t.move(ctx, c); err != nil {
			return again(err)
		}
	}
}

// heads reads side rows of l, and says which keys got others meanwhile: what was read of those
// does not count.
func (t *turn) heads(l *lane, read func() ([]Side, error)) (rows []Side, fresh map[uint64]struct{}, err error) {
	p := t.p
	p.mu.Lock()
	l.beginRead()
	p.mu.Unlock()
	rows, err = read()
	p.mu.Lock()
	defer p.mu.Unlock()
	fresh = l.fresh
	l.endRead()
	return rows, fresh, err
}

// promote makes a parked row due at its own time.
func promote(s Side) Side {
	s.Was, s.WasDue, s.WasAttempt = s.State, s.Due, s.Attempt
	s.State, s.Record = Retry, nil
	s.Due = cmp.Or(s.Due, 1) // below zero it is of the steady clock
	return s
}

// sweep looks for parked heads whose key ended with an earlier owner. A row counts only
// once the scan has passed its place, so that no earlier job of its key can still be
// unseen in the log.
func (t *turn) sweep(ctx context.Context, l *lane) error {
	p := t.p
	for {
		p.mu.Lock()
		going, after := l.sweeping && l.scan > l.sweepSeq, l.sweepFrom
		p.mu.Unlock()
		if !going {
			return nil
		}
		heads, fresh, err := t.heads(l, func() ([]Side, error) { return p.cfg.Storage.Sweep(ctx, l.id, after, keysAtOnce) })
		if err != nil {
			return fmt.Errorf("look for parked keys: %w", err)
		}
		c := &Change{}
		p.mu.Lock()
		for i := range heads {
			h := &heads[i]
			if h.ID.Seq >= l.scan {
				l.sweepSeq = h.ID.Seq
				break
			}
			if _, changed := fresh[h.Hash]; changed {
				break // it is read again
			}
			after = h.Hash
			if k := l.keys[h.Hash]; h.State == Parked && (k == nil || !k.hasHead) {
				c.Side = append(c.Side, promote(*h))
			}
		}
		p.mu.Unlock()
		if err := t.move(ctx, c); err != nil {
			return err
		}
		p.mu.Lock()
		l.sweepFrom = after
		l.sweeping = len(heads) == keysAtOnce || len(heads) > 0 && after != heads[len(heads)-1].Hash
		p.mu.Unlock()
	}
}

// park moves the withheld jobs of the oldest values to the side table, so that the scan
// can go on.
func (t *turn) park(ctx context.Context, l *lane) error {
	p := t.p
	c := &Change{}
	want := map[queue.ID]sideSource{}
	p.mu.Lock()
	for _, b := range l.window {
		if b == nil || b.seq >= l.scan || b.waiting != b.left || len(want) >= parkJobs {
			break
		}
		if b.left == 0 {
			continue
		}
		e := end{lane: l, batch: b, stays: true, park: true}
		for i := range uint32(b.count) {
			if b.isGone(i) {
				continue
			}
			want[queue.ID{Lane: l.id, Seq: b.seq, Index: i}] = sideSource{}
			e.index = append(e.index, i)
			l.unwait(b.hash(i), b, pos{b.seq, i})
		}
		c.ends = append(c.ends, e)
		c.Left = append(c.Left, Left{Lane: l.id, Seq: b.seq, Count: b.count, Size: b.size, Index: e.index})
	}
	l.parking = true
	p.mu.Unlock()
	err := p.fetch(ctx, want)
	if err == nil {
		for i := range c.ends {
			e := &c.ends[i]
			for _, ix := range e.index {
				id := queue.ID{Lane: l.id, Seq: e.batch.seq, Index: ix}
				src := want[id]
				c.Side = append(c.Side, Side{ID: id, State: Parked, Due: src.due, Hash: e.batch.hash(ix), At: src.at, Size: len(src.record), Record: src.record})
			}
		}
		err = t.move(ctx, c)
	} else {
		p.End(c, false)
	}
	p.mu.Lock()
	l.parking = false
	p.mu.Unlock()
	return err
}

// unwait takes the job at k out of the line of its key.
func (l *lane) unwait(h uint64, b *batch, k pos) {
	ks := l.keys[h]
	if ks == nil {
		return
	}
	if i, found := slices.BinarySearchFunc(ks.waiters, k, pos.compare); found {
		ks.waiters = slices.Delete(ks.waiters, i, i+1)
		b.waiting--
	}
	l.dropKey(h, ks)
}
