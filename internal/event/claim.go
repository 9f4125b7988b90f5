package event

import (
	"errors"
	"sync"
	"sync/atomic"
)

// Outcomes says what became of each message of a read batch, in the order it was read;
// nil at an index (or a nil slice) means delivered, filtered or dead-lettered: handled.
type Outcomes []error

// Err is nil when every message was handled, and otherwise the first error.
func (o Outcomes) Err() error {
	for _, err := range o {
		if err != nil {
			return err
		}
	}
	return nil
}

// ErrUnsettled is the outcome of a message that the pipeline let go of without
// handling it, because it stopped first. The source delivers it again.
var ErrUnsettled = errors.New("the pipeline stopped before the message was handled")

// claim is one read message's place in its batch. Descendants of the message share it.
type claim struct {
	batch  *tracker
	index  int32
	open   atomic.Int32 // descendants not settled yet
	joined []*claim     // set on the claim of a joined message instead of batch
}

// tracker is one read batch: how many of its messages are open, and what became of them.
type tracker struct {
	open atomic.Int64
	done func(Outcomes)
	tag  any

	mu       sync.Mutex
	size     int
	outcomes Outcomes // allocated at the first failure
}

// Track gives each message of b a claim. done runs exactly once, on the goroutine that
// settles the last descendant, with the outcome of each message. An empty batch is
// done at once.
func Track(b Batch, done func(Outcomes)) { TrackTagged(b, nil, done) }

// TrackTagged is Track with something of the engine's that [Root] finds again.
func TrackTagged(b Batch, tag any, done func(Outcomes)) {
	t := &tracker{done: done, size: len(b), tag: tag}
	if len(b) == 0 {
		done(nil)
		return
	}
	t.open.Store(int64(len(b)))
	claims := make([]claim, len(b))
	for i, m := range b {
		c := &claims[i]
		c.batch, c.index = t, int32(i)
		c.open.Store(1)
		m.claim = c
	}
	watch(t)
}

// Settle ends m's journey: err is nil when the message is durable where it was meant to
// go (target, failure target, filter target), and otherwise why it is not. Only package
// pipeline calls it. Settling a message a second time has no effect; builds with the
// invariants tag panic instead.
func Settle(m *Message, err error) {
	c := m.claim
	if c == nil {
		if m.settled {
			settledTwice(m)
		}
		return
	}
	m.claim, m.settled = nil, true
	c.settle(err)
}

// Root says which message of which read m comes from: the tag of the read, the index of
// the message in it, and how many of that message's descendants are open. ok is false for
// a message that nobody waits for, or that stands for several ([Join]).
func Root(m *Message) (tag any, index, open int, ok bool) {
	c := m.claim
	if c == nil || c.batch == nil {
		return nil, 0, 0, false
	}
	return c.batch.tag, int(c.index), int(c.open.Load()), true
}

// Tracked reports whether somebody still waits for m.
func Tracked(m *Message) bool { return m.claim != nil }

func (c *claim) add(n int) { c.open.Add(int32(n)) }

func (c *claim) settle(err error) {
	if err != nil {
		c.fail(err)
	}
	if c.open.Add(-1) > 0 {
		return
	}
	if c.joined != nil {
		for _, j := range c.joined {
			// A joined claim has recorded the failure already: pass on the end only.
			j.settle(nil)
		}
		return
	}
	t := c.batch
	if t.open.Add(-1) == 0 {
		t.mu.Lock()
		o := t.outcomes
		t.mu.Unlock()
		t.done(o)
	}
}

// Place is a message's place in its read batch, as it was before a transform had the
// message: the claim, and how many descendants it had open.
type Place struct {
	claim *claim
	open  int32
}

// PlaceOf remembers m's place, so that [Place.Pass] can set right what a transform does
// to it.
func PlaceOf(m *Message) Place {
	if m.claim == nil {
		return Place{}
	}
	return Place{m.claim, m.claim.open.Load()}
}

// Pass makes exactly the messages of out hold the place that m held, whatever was split,
// cloned, made anew, left out or listed twice on the way; with an empty out, m holds it
// again. It is safe only while every descendant of the read message is with the calling
// goroutine, as all are between reading and routing. A message listed twice is replaced
// by a copy the second time, so that each has one owner.
func (p Place) Pass(m *Message, out Batch) {
	c := p.claim
	if c == nil {
		return
	}
	if len(out) == 1 && out[0] == m && m.claim == c && c.open.Load() == p.open {
		return
	}
	if len(out) == 0 {
		m.claim, m.spent, m.children = c, nil, 0
		c.open.Store(p.open)
		return
	}
	for i, x := range out {
		if x.claim == &seen {
			twin := x.derive(x.Data)
			out[i] = &twin
			x = &twin
		}
		x.claim, x.settled = &seen, false
	}
	for _, x := range out {
		x.claim = c
	}
	c.open.Store(p.open - 1 + int32(len(out)))
}

// Places are the places of messages that a transform has together; some may descend from one
// message that was read.
type Places struct {
	at   []Place
	open map[*claim]int32 // after what was passed so far
}

// PlacesOf remembers the places of the messages of b, before a transform has them.
func PlacesOf(b Batch) Places {
	p := Places{at: make([]Place, len(b)), open: make(map[*claim]int32, len(b))}
	for i, m := range b {
		p.at[i] = PlaceOf(m)
		if c := p.at[i].claim; c != nil {
			p.open[c] = p.at[i].open
		}
	}
	return p
}

// Pass is [Place.Pass] for the i-th message. It has to be called for each of them, once, in
// any order, when the transform is done with all; what it made of one is no part of another's.
func (p *Places) Pass(i int, m *Message, out Batch) {
	c := p.at[i].claim
	if c == nil {
		return
	}
	Place{c, p.open[c]}.Pass(m, out)
	p.open[c] = c.open.Load()
}

// seen marks the messages that Pass has come across.
var seen claim

// fail records err for the read message, the first failure of its descendants standing
// for all. The copy keeps err from escaping to the heap on the path without failures.
func (c *claim) fail(err error) {
	if c.joined != nil {
		for _, j := range c.joined {
			j.fail(err)
		}
		return
	}
	e := err
	t := c.batch
	t.mu.Lock()
	if t.outcomes == nil {
		t.outcomes = make(Outcomes, t.size)
	}
	if t.outcomes[c.index] == nil {
		t.outcomes[c.index] = e
	}
	t.mu.Unlock()
}
