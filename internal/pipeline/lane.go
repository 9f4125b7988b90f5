package pipeline

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/retry"
)

// lane is one batcher and its writers. It has no goroutine but those of writes in
// progress, so that a lane with nothing to write costs bytes only. What waits in it is
// bounded by what may be in flight: everything in it has been admitted.
type lane struct {
	s      *sink
	write  connector.Write
	policy retry.Policy // for what a queue takes back
	most   int          // writers at once

	mu      sync.Mutex
	filling []*filling          // one of each group at most, in the order they began
	byGroup map[string]*filling // of a target that groups
	begun   uint64              // how many batches have begun to fill
	waved   uint64              // of them, those that leave together; see wave
	timer   *time.Timer
	timed   time.Time     // when timer fires; zero when it is not set
	full    []event.Batch // what waits for a writer, in order
	writing int           // writers at work; more than none whenever full is not empty and not cut
	closing bool          // nothing more will come
	turns   turns
}

// put adds messages. It never blocks: what the target does not take is dealt with here, the
// rest by the writers.
func (l *lane) put(b event.Batch) {
	p := l.s.p
	var refused []rejected
	l.mu.Lock()
	if l.s.ctx.Err() != nil {
		l.mu.Unlock()
		p.abandon(b, context.Cause(l.s.ctx))
		return
	}
	if l.s.whole {
		refused = l.addWhole(b, refused)
	} else {
		for _, m := range b {
			refused = l.add(m, len(b), refused)
		}
	}
	l.start()
	l.mu.Unlock()
	var failures []Failure
	for _, r := range refused {
		if r.err == nil {
			failures = l.s.oversized(r.m, failures)
			continue
		}
		failures = l.s.undelivered(l.s.ctx, l.policy, r.m, r.err, failures)
	}
	l.s.noteRefused(failures)
	p.bury(failures)
}

// add puts m into the batch that is filling, and sends that when it is full. What the
// target does not take is appended to refused; without an error it is too large.
func (l *lane) add(m *event.Message, coming int, refused []rejected) []rejected {
	lim := &l.s.limits
	x, err := l.s.measure(m)
	if err != nil {
		return append(refused, rejected{m, err})
	}
	if l.s.large(x.size) {
		return append(refused, rejected{m, nil})
	}
	f := l.fill(x.group)
	if f != nil && (x.alone || lim.MaxBatchBytes > 0 && f.bytes+x.size > lim.MaxBatchBytes) {
		l.flush(f) // what came before leaves before
		f = nil
	}
	if x.alone {
		l.full = append(l.full, event.Batch{m})
		return refused
	}
	if f == nil {
		if lim.MaxGroups > 0 && len(l.filling) >= lim.MaxGroups {
			if lim.Exceeded != nil {
				return append(refused, rejected{m, lim.Exceeded})
			}
			l.flush(l.filling[0])
		}
		if lim.Joint { // there may be many groups
			coming = 0
		}
		f = l.begin(x.group, min(lim.MaxBatchMessages, max(coming, 16)))
	}
	f.batch = append(f.batch, m)
	f.bytes += x.size
	// Full: by count, or because one more message of average size would not fit.
	if len(f.batch) >= lim.MaxBatchMessages || (lim.MaxBatchBytes > 0 && lim.MaxBatchBytes-f.bytes < f.bytes/len(f.batch)) {
		l.flush(f)
	}
	return refused
}

// flush ends a batch that is filling. The lock is held.
func (l *lane) flush(f *filling) { l.full = append(l.full, l.take(f)) }

// start has writers begin as long as there is something to write and one is free, and sets
// the time of what is left to fill. The lock is held.
func (l *lane) start() {
	for l.writing < l.most {
		b := l.next()
		if b == nil {
			break
		}
		l.writing++
		t := l.s.begin()
		l.s.wg.Go(func() { l.writeAll(b, t) })
	}
	n := len(l.filling)
	if n == 0 || !l.filling[n-1].due.IsZero() && !l.timed.IsZero() {
		return // the timer fires for the first of them, or before
	}
	now := time.Now()
	for i := n - 1; i >= 0 && l.filling[i].due.IsZero(); i-- {
		l.filling[i].due = now.Add(l.s.limits.FlushPeriod)
	}
	if !l.timed.IsZero() && n > 1 {
		return
	}
	l.timed = l.filling[0].due
	if wait := l.timed.Sub(now); l.timer == nil {
		l.timer = time.AfterFunc(wait, l.overdue)
	} else {
		l.timer.Reset(wait)
	}
}

// next is what a free writer writes.
func (l *lane) next() event.Batch {
	if !l.s.p.parts.Ordered || l.turns.idle() {
		return l.ready()
	}
	if b := l.turns.free(); b != nil {
		return b
	}
	for b := l.ready(); b != nil; b = l.ready() {
		if b = l.turns.split(b); len(b) > 0 {
			return b
		}
	}
	return nil
}

// ready is a batch that waits, or the one that is filling if it is to leave without waiting
// for more: an eager one, one that reading waits for, the last.
func (l *lane) ready() event.Batch {
	if len(l.full) > 0 {
		b := l.full[0]
		l.full[0] = nil
		if l.full = l.full[1:]; len(l.full) == 0 {
			l.full = nil
		}
		return b
	}
	switch {
	case len(l.filling) == 0 || !l.s.eager && !l.closing && !l.s.p.starved.Load():
		return nil
	case !l.s.limits.Joint:
		return l.take(l.filling[0])
	case l.s.eager || l.closing:
		return l.join(l.filling)
	}
	return l.wave()
}

// overdue sends the batches that are filling and whose time is over. There may be none: the
// timer may have been set for one that has left.
func (l *lane) overdue() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.timed = time.Time{}
	due := 0
	for due < len(l.filling) && !l.filling[due].due.IsZero() && !now.Before(l.filling[due].due) {
		due++
	}
	for left := slices.Clone(l.filling[:due]); len(left) > 0; {
		if !l.s.limits.Joint {
			l.flush(left[0])
			left = left[1:]
			continue
		}
		before := len(l.filling)
		l.full = append(l.full, l.join(left))
		left = left[before-len(l.filling):]
	}
	l.start()
}

// poke has what is filling leave if there is a reason not to wait for more.
func (l *lane) poke() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.start()
}

// close has everything leave.
func (l *lane) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closing = true
	l.start()
	if l.timer != nil {
		l.timer.Stop()
	}
}

// cut gives back what has not begun to be written.
func (l *lane) cut() {
	l.mu.Lock()
	for len(l.filling) > 0 {
		l.flush(l.filling[0])
	}
	left := slices.Concat(l.turns.behind, l.full)
	l.full, l.turns.behind = nil, nil
	l.mu.Unlock()
	for _, b := range left {
		l.s.p.abandon(b, context.Cause(l.s.ctx))
	}
}

// writeAll is a writer: it writes b, which t is of, and then what waits, until nothing does.
func (l *lane) writeAll(b event.Batch, t succession) {
	ctx := l.s.ctx
	writing := ctx
	if l.most > 1 || l.s.p.parts.Ordered { // a lone writer keeps the order of everything
		writing = retry.WithIdle(ctx, l.idle)
	}
	for b != nil {
		if ctx.Err() != nil {
			l.s.p.abandon(b, context.Cause(ctx))
		} else {
			l.s.settle(ctx, l.policy, b, l.s.recovered(t.in(writing), l.write, b)) // a middleware may panic too
		}
		t.over()
		l.mu.Lock()
		b, t = nil, succession{}
		if !l.hand() {
			if b = l.next(); b == nil {
				l.leave()
			} else {
				t = l.s.begin()
			}
		}
		l.mu.Unlock()
	}
}

// succession is the place of a batch among those of a target that has to know it; the zero value
// is that of a batch of another.
type succession struct {
	mark func(context.Context) context.Context
	end  func()
}

// begin is called for each batch, in the order in which they leave their lane.
func (s *sink) begin() (t succession) {
	if one, ok := s.base.(connector.Successive); ok {
		t.mark, t.end = one.Begin()
	}
	return t
}

func (t succession) in(ctx context.Context) context.Context {
	if t.mark == nil {
		return ctx
	}
	return t.mark(ctx)
}

func (t succession) over() {
	if t.end != nil {
		t.end()
	}
}
