package partition

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/memorylimit"
	"github.com/weirdata/weir/internal/queue"
)

// DefaultWindow is the most jobs of one lane that may be scanned and not settled, unless
// Config says otherwise.
const DefaultWindow = 1 << 18

// Partition is the owner's memory of one partition. Its methods may be called at once
// by many goroutines, but for Restore, Replay and Start.
type Partition struct {
	cfg Config

	mu      sync.Mutex
	lanes   map[uint64]*lane
	queues  map[string]*index
	grants  map[uint64]*grant
	expiry  grants
	dues    [clocks]dueLanes
	kept    kept
	values  openValues
	pauses  *queue.Pauses
	tokens  uint64 // the last token given
	visits  uint64
	timer   *time.Timer
	armed   int64 // when timer fires, steady; 0 when it does not
	started bool
	closed  bool
}

// New returns the memory of an empty partition.
func New(cfg Config) *Partition {
	if cfg.Window <= 0 {
		cfg.Window = DefaultWindow
	}
	if cfg.KeptBytes <= 0 {
		cfg.KeptBytes = keptBytes
	}
	if cfg.OpenBytes <= 0 {
		cfg.OpenBytes = int(memorylimit.Share(openBytes, openPart, openLeast))
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Partition{
		cfg:    cfg,
		lanes:  map[uint64]*lane{},
		queues: map[string]*index{},
		grants: map[uint64]*grant{},
		kept:   kept{limit: cfg.KeptBytes},
		values: openValues{limit: cfg.OpenBytes},
		dues:   [clocks]dueLanes{{clock: byWall}, {clock: bySteady}},
		tokens: uint64(cfg.Epoch&(1<<31-1)) << 32,
	}
}

// Restore takes over what a snapshot knows of the lanes.
func (p *Partition) Restore(lanes []Lane) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range lanes {
		s := &lanes[i]
		if p.lanes[s.ID] != nil || s.First < 1 || s.Tail < s.First {
			return fmt.Errorf("restore lane %d of queue %q: first %d, tail %d: %w", s.ID, s.Queue, s.First, s.Tail, queue.ErrCorrupt)
		}
		l := p.newLane(s)
		l.jobs, l.retry, l.parked, l.dead, l.retried = s.Jobs, s.Retry, s.Parked, s.Dead, s.Retried
		l.sweeping = s.Parked > 0
		l.add(counts{open: s.Jobs + s.Retry + s.Parked, retried: s.Retried, dead: s.Dead, bytes: s.Bytes})
		for _, part := range s.Partly {
			l.restorePartly(part)
		}
		l.advance()
		if s.Retry > 0 {
			for c := range l.due { // the first look finds out when
				p.setDue(l, c, start(c).Due+1)
			}
		}
	}
	return nil
}

func (p *Partition) newLane(s *Lane) *lane {
	l := &lane{id: s.ID, queue: s.Queue, scope: s.Scope, first: s.First, tail: s.Tail, scan: s.First, held: p.pauses.Hold(s.Queue, s.Scope)}
	for c := range l.due {
		l.due[c].index, l.due[c].from = -1, start(c)
	}
	p.lanes[s.ID] = l
	p.join(l)
	return l
}

// Appended says that a value is durable. Values of a lane come in the order of their
// numbers, each once; the first one of a lane may have any number.
func (p *Partition) Appended(ref Lane, seq uint64, count, size int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.lanes[ref.ID]
	if l == nil {
		ref.First, ref.Tail = seq, seq
		l = p.newLane(&ref)
	}
	if seq != l.tail {
		return fmt.Errorf("append value %d to lane %d: its tail is %d: %w", seq, l.id, l.tail, queue.ErrCorrupt)
	}
	l.tail++
	l.jobs += int64(count)
	l.add(counts{open: int64(count), bytes: int64(size)})
	p.offer(l, moment{wall: 0, steady: 0})
	return nil
}

// Replay applies a Change that was committed before ownership began.
func (p *Partition) Replay(c *Change) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range c.Side {
		if l := p.lanes[c.Side[i].ID.Lane]; l != nil && c.Side[i].State == Parked {
			l.sweeping = true
		}
	}
	return p.apply(c)
}

// Start begins to hand out work.
func (p *Partition) Start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.started = true
	now := p.now()
	for _, l := range p.lanes {
		p.offer(l, now)
	}
	p.arm(now)
}

// Close ends ownership: every lease is lost.
func (p *Partition) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed, p.started = true, false
	if p.timer != nil {
		p.timer.Stop()
	}
}

func (p *Partition) now() moment {
	m := moment{wall: p.cfg.Now().UnixNano()}
	m.steady = m.wall
	if p.cfg.Steady != nil {
		m.steady = p.cfg.Steady()
	}
	return m
}

// apply makes the delta c part of the memory.
func (p *Partition) apply(c *Change) error {
	for i := range c.Left {
		f := &c.Left[i]
		l := p.lanes[f.Lane]
		if l == nil || f.Seq < l.first || f.Seq >= l.tail {
			return fmt.Errorf("settle jobs of value %d of lane %d: there is no such value: %w", f.Seq, f.Lane, queue.ErrCorrupt)
		}
		b := l.ensure(f.Seq, f.Count, f.Size)
		n := 0
		if f.Index == nil {
			for w := range b.gone {
				b.gone[w] = ^uint64(0)
			}
			n, b.left = b.left, 0
		}
		for _, ix := range f.Index {
			if int(ix) < b.count && b.setGone(ix) {
				n++
			}
		}
		d := counts{open: -int64(n)}
		if b.left == 0 && n > 0 {
			d.bytes = -int64(b.size)
		}
		l.jobs -= int64(n)
		l.add(d)
	}
	for i := range c.Side {
		if err := p.applySide(&c.Side[i]); err != nil {
			return err
		}
	}
	for i := range c.Left {
		p.lanes[c.Left[i].Lane].advance()
	}
	return nil
}

func (p *Partition) applySide(s *Side) error {
	l := p.lanes[s.ID.Lane]
	if l == nil {
		return fmt.Errorf("move job %s aside: there is no such lane: %w", s.ID, queue.ErrCorrupt)
	}
	var d counts
	tally := func(state SideState, attempt int, n int64) {
		switch state {
		case Retry:
			l.retry += n
			d.open += n
			if attempt > 0 {
				l.retried += n
				d.retried += n
			}
		case Parked:
			l.parked += n
			d.open += n
		case Dead:
			l.dead += n
			d.dead += n
		}
	}
	if s.Record != nil {
		d.bytes += int64(s.Size)
	} else {
		tally(s.Was, s.WasAttempt, -1)
	}
	tally(s.State, s.Attempt, 1)
	if s.State == Gone {
		d.bytes -= int64(s.Size)
	}
	l.add(d)
	if was := &l.due[clockOf(s.WasDue)]; s.Was == Retry && slices.ContainsFunc(was.ahead, func(r Side) bool { return r.ID == s.ID }) {
		was.ahead = nil
	}
	if l.reading {
		l.touched[s.ID] = struct{}{}
		if s.Open() && s.Hash != 0 {
			l.fresh[s.Hash] = struct{}{}
		}
	}
	if s.State == Retry {
		k, c := s.key(), clockOf(s.Due)
		due := &l.due[c]
		switch n := len(due.ahead); {
		case l.reading || k.compare(due.from) <= 0:
			l.rewind(c)
		case n > 0 && k.compare(due.ahead[n-1].key()) <= 0:
			due.ahead = nil
		case n > 0:
			due.aheadNext = lower(due.aheadNext, s.Due)
		}
		p.setDue(l, c, lower(due.next, s.Due))
	}
	return nil
}

// State is what storage should keep of the lanes that c touches: numbers, and the
// values in c of which jobs are left or which are not yet below First.
func (p *Partition) State(c *Change) []Lane {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []Lane
	place := map[uint64]int{}
	touch := func(id uint64) *Lane {
		i, ok := place[id]
		if !ok {
			i = len(out)
			place[id] = i
			out = append(out, p.lanes[id].state())
		}
		return &out[i]
	}
	for i := range c.Left {
		s := touch(c.Left[i].Lane)
		if part, ok := p.lanes[s.ID].partly(c.Left[i].Seq); ok {
			s.Partly = append(s.Partly, part)
		}
	}
	for i := range c.Side {
		touch(c.Side[i].ID.Lane)
	}
	return out
}

// Numbers is what storage should keep of the lane id, without Partly; the lane must be
// there.
func (p *Partition) Numbers(id uint64) Lane {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lanes[id].state()
}

// StateOf is what storage should keep of one lane, with all of its Partly; false when
// there is no such lane.
func (p *Partition) StateOf(id uint64) (Lane, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.lanes[id]
	if l == nil {
		return Lane{}, false
	}
	s := l.state()
	for _, b := range l.window {
		if b != nil && b.left < b.count {
			part, _ := l.partly(b.seq)
			s.Partly = append(s.Partly, part)
		}
	}
	return s, true
}

// Lanes lists the lanes of the partition with their numbers, in order of ID.
func (p *Partition) Lanes() []Lane {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]Lane, 0, len(p.lanes))
	for _, l := range p.lanes {
		out = append(out, l.state())
	}
	slices.SortFunc(out, func(a, b Lane) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Queues are the names of the queues that have lanes in this partition.
func (p *Partition) Queues() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.queues))
}

// Active is queue.Store.Active for this partition; the values are not sorted.
func (p *Partition) Active(q string, by queue.Axis) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	ix := p.queues[q]
	if ix == nil {
		return nil
	}
	var out []string
	for value, g := range ix[axisIndex(normal(queue.Filter{By: by}).By)].groups {
		if g.open > 0 {
			out = append(out, value)
		}
	}
	return out
}

// Totals are the Stats of all queues of this partition together.
func (p *Partition) Totals() queue.Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tick(p.now())
	var t queue.Stats
	for _, ix := range p.queues {
		for _, g := range ix[axisIndex(queue.None)].groups {
			st := g.stats()
			t.Waiting += st.Waiting
			t.Leased += st.Leased
			t.Retrying += st.Retrying
			t.Dead += st.Dead
			t.Bytes += st.Bytes
		}
	}
	return t
}

// Stats is queue.Store.Stats for this partition.
func (p *Partition) Stats(f queue.Filter) queue.Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tick(p.now())
	if g := p.group(f); g != nil {
		return g.stats()
	}
	return queue.Stats{}
}
