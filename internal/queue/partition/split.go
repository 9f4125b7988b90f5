package partition

import (
	"context"
	"math"

	"github.com/weirdata/weir/internal/queue"
)

// share is what a value may get of the Lease call that walks its ring.
type share struct {
	visit uint64 // the call; of another one, nothing counts
	jobs  int    // still to come
	bytes int
	got   int // jobs
	turn  int // jobs still to come in this turn
	ahead int // jobs that are likely to come in this call, for reading
}

func (s *share) fits(size int) bool { return s.turn > 0 && (s.got == 0 || size <= s.bytes) }

// full ends the turn; when it was not over, the room for bytes is used up.
func (s *share) full() {
	if s.turn > 0 {
		s.turn, s.jobs = 0, 0
	}
}

func (s *share) took(size int) {
	s.turn--
	s.jobs--
	s.got++
	s.bytes -= size
}

// open reports whether the value may get one more job.
func (s *share) open() bool { return s.jobs > 0 && s.bytes > 0 }

// turns leases jobs of the values of an axis, one of each in its turn. It is called with the
// lock, and returns the first error.
//
// The call walks along the ring once. A value that had its turn goes behind the others and
// is met again there; one that is passed over keeps its place in front of them. So the walk
// costs a look at each value that has no room, and ends at the first that it has passed.
func (t *turn) turns(ctx context.Context, q queue.Query, visit uint64) (failed error) {
	p := t.p
	ix := p.queues[q.Queue]
	if ix == nil {
		return nil
	}
	at := axisIndex(q.Split)
	r := &ix[at].ring
	if err := p.begin(ctx, r); err != nil {
		return err
	}
	defer func() { <-r.walk }()
	t.now = p.now()
	p.tick(t.now)
	r.last()
	for here := r.ends.next; here != &r.ends && t.room() && ctx.Err() == nil; {
		g := here.group
		if !t.admit(g, q.Room, visit) {
			here = here.next
			continue
		}
		// Others may change the ring meanwhile, but for where this call is.
		var cursor node
		here.follow(&cursor)
		if err := t.turnOf(ctx, g, at); err != nil && failed == nil {
			failed = err
		}
		here = cursor.next
		cursor.unlink()
	}
	for _, l := range t.dry {
		p.offer(l, t.now)
	}
	return failed
}

// admit reports whether the value g may get one more job from this call.
func (t *turn) admit(g *group, room func(string) (int, int), visit uint64) bool {
	if g.share.visit != visit {
		g.share = share{visit: visit, jobs: math.MaxInt, bytes: math.MaxInt}
		if room != nil {
			g.share.jobs, g.share.bytes = room(g.value)
		}
	}
	return g.share.open()
}

// begin waits until no other call walks the ring r. It is called with the lock, and lets go
// of it to wait.
func (p *Partition) begin(ctx context.Context, r *ring) error {
	if r.walk == nil {
		r.walk = make(chan struct{}, 1)
	}
	select {
	case r.walk <- struct{}{}:
		return nil
	default:
	}
	p.mu.Unlock()
	defer p.mu.Lock()
	select {
	case r.walk <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// turnOf leases one job of the value g, from the first of its lanes that has one, and returns
// the first error. Lanes that had none are not in line again before the call has ended.
func (t *turn) turnOf(ctx context.Context, g *group, at int) (failed error) {
	p := t.p
	t.share = &g.share
	t.share.ahead = max(1, min(t.share.jobs, (t.limit-t.count)/max(g.ring.size, 1), valuesAhead))
	defer func() { t.share = nil }()
	before := t.count
	for t.count == before && len(g.ready) > 0 && ctx.Err() == nil {
		l := g.pop(at)
		if l.visit == t.share.visit { // it was put in line again by what this call did
			t.dry = append(t.dry, l)
			continue
		}
		if !l.ready(t.now, p.cfg.Window) {
			p.offer(l, t.now) // a later clock than ours may have put it here
			continue
		}
		t.share.turn = 1
		p.mu.Unlock()
		err := t.take(ctx, l)
		p.mu.Lock()
		if err != nil && failed == nil {
			failed = l.trouble(err)
		}
		switch {
		case t.count > before:
			g.ring.leave(g) // and behind the others, if it has more
			p.offer(l, t.now)
		case t.share.turn == 0 || t.bytes <= 0:
			g.keep(l, at) // the job that is next is too large for what is left
			return failed
		default:
			l.visit = t.share.visit
			t.dry = append(t.dry, l)
		}
	}
	if len(g.ready) == 0 {
		g.ring.leave(g)
	} else {
		g.ring.enter(g)
	}
	return failed
}

// keep puts a lane in front of the others in the line of axis i.
func (g *group) keep(l *lane, i int) {
	if l.inReady[i] {
		return
	}
	l.inReady[i] = true
	g.ready = append([]*lane{l}, g.ready...)
	g.ring.enter(g)
}
