package partition

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/weirdata/weir/internal/queue"
)

// early reports whether a job is to be put off until a due time.
func (t *turn) early(due int64) bool { return !t.any && t.now.early(due) }

// chosen reports whether a job is among those that are asked for.
func (t *turn) chosen(id queue.ID, at int64, cause string) bool {
	return t.pick == nil || t.pick(id, time.Unix(0, at).UTC(), cause)
}

// claim leases jobs of the lanes that q chooses, whether they are paused or due or not. It is
// called with the lock, and returns the first error.
func (t *turn) claim(ctx context.Context, q queue.Query) (failed error) {
	p := t.p
	t.any, t.pick = true, q.Pick
	f := normal(q.Filter)
	var lanes []*lane
	for _, l := range p.lanes {
		if l.queue == f.Queue && (f.By == queue.None || f.By.Of(l.scope) == f.Value) && l.jobs+l.retry+l.parked > 0 {
			lanes = append(lanes, l)
		}
	}
	slices.SortFunc(lanes, func(a, b *lane) int { return cmp.Compare(a.id, b.id) })
	for _, l := range lanes {
		if !t.room() || ctx.Err() != nil {
			break
		}
		p.mu.Unlock()
		err := t.claimLane(ctx, l)
		p.mu.Lock()
		p.offer(l, t.now)
		if err != nil && failed == nil {
			failed = l.trouble(err)
		}
	}
	return failed
}

func (t *turn) claimLane(ctx context.Context, l *lane) error {
	l.scanning.Lock()
	defer l.scanning.Unlock()
	for _, step := range []func(context.Context, *lane) error{t.resolve, t.claimSides, t.claimFreed, t.scan} {
		if err := step(ctx, l); err != nil {
			return errors.Join(err, t.setAside(ctx))
		}
	}
	return t.setAside(ctx)
}

// claimSides leases side rows, whenever they are due.
func (t *turn) claimSides(ctx context.Context, l *lane) error {
	for clock := range clocks {
		until := int64(math.MaxInt64)
		if clock == bySteady {
			until = -1
		}
		for from, more := start(clock), true; more && t.room(); {
			var err error
			if from, more, err = t.claimDue(ctx, l, clock, from, until); err != nil {
				return err
			}
		}
	}
	return nil
}

// claimDue leases what is chosen of one read of side rows. It says where to go on.
func (t *turn) claimDue(ctx context.Context, l *lane, clock int, from DueKey, until int64) (DueKey, bool, error) {
	p := t.p
	p.mu.Lock()
	l.beginRead()
	p.mu.Unlock()
	rows, _, err := p.cfg.Storage.Due(ctx, l.id, from, until, 1024, scanBytes)
	p.mu.Lock()
	defer p.mu.Unlock()
	defer l.endRead()
	if err != nil {
		return from, false, fmt.Errorf("read jobs that wait for their time: %w", err)
	}
	// What was read ahead may be leased now.
	l.due[clock].ahead = nil
	for i := range rows {
		r := &rows[i]
		_, changed := l.touched[r.ID]
		if changed || l.sides[r.ID] != nil || !t.chosen(r.ID, r.At, r.Cause) {
			from = r.key()
			continue
		}
		if !t.fits(len(r.Record)) {
			t.full(len(r.Record))
			return from, false, nil
		}
		t.leaseSide(l, r)
		from = r.key()
	}
	return from, len(rows) > 0, nil
}

// claimFreed leases jobs of the log that were scanned before and are not leased.
func (t *turn) claimFreed(ctx context.Context, l *lane) error {
	p := t.p
	p.mu.Lock()
	freed := slices.Clone(l.freed)
	p.mu.Unlock()
	for len(freed) > 0 && t.room() {
		n := 1
		for n < len(freed) && freed[n].seq == freed[0].seq {
			n++
		}
		if err := t.claimValue(ctx, l, freed[:n]); err != nil {
			return err
		}
		freed = freed[n:]
	}
	return nil
}

// claimValue leases what is chosen of such jobs of one value.
func (t *turn) claimValue(ctx context.Context, l *lane, taken []pos) error {
	p := t.p
	p.mu.Lock()
	some := slices.ContainsFunc(taken, func(k pos) bool { return !l.left(k) })
	p.mu.Unlock()
	if !some {
		return nil // another owner has settled them
	}
	v, err := p.value(ctx, l.id, taken[0].seq)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range taken {
		id := queue.ID{Lane: l.id, Seq: k.seq, Index: k.index}
		size := v.size(k.index)
		at, found := slices.BinarySearchFunc(l.freed, k, pos.compare)
		switch {
		case l.left(k) || !found || !t.chosen(id, v.at, ""):
			continue
		case size == 0:
			return fmt.Errorf("read value %d of lane %d: it has %d jobs only: %w", k.seq, l.id, v.count(), queue.ErrCorrupt)
		case !t.fits(size):
			t.full(size)
			return nil
		}
		l.freed = slices.Delete(l.freed, at, at+1)
		p.kept.take(id)
		b := l.at(k.seq)
		if h := b.hash(k.index); h != 0 {
			l.head(h, k)
		}
		t.lease(l, b, &v.opened, k.index)
		l.add(counts{leased: 1})
	}
	return nil
}
