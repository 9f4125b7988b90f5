package pipeline

import (
	"github.com/weirdata/weir/internal/event"
)

// What a part of a target takes in its turn (fault.Pace) holds up nothing else: its writer
// gives its place in the lane to others for as long as it waits, and then wants one again. There
// may be as many of them as there is in flight, and they cost a goroutine each.
//
// Where order is kept, the keys that wait are held: what comes behind with such a key waits
// behind them, in its order, while all others are written. A lane has one writer then, so that
// of one key never more than one write is in progress, and what waits is written before what
// came behind it.

// turns is what waits for its turn in a lane. The lane's lock is held for everything.
type turns struct {
	// back are writers that have waited and want a place; handed says that the last place went to
	// one of them.
	back   []chan struct{}
	handed bool
	// held counts the messages that wait, by key, and behind is what came behind them; in
	// ordered lanes only.
	held   map[string]int
	behind []event.Batch
}

// idle reports whether no key is held.
func (t *turns) idle() bool { return len(t.held) == 0 && len(t.behind) == 0 }

func (t *turns) hold(b event.Batch) {
	if t.held == nil {
		t.held = map[string]int{}
	}
	for _, m := range b {
		if m.Key != "" {
			t.held[m.Key]++
		}
	}
}

func (t *turns) release(b event.Batch) {
	for _, m := range b {
		if m.Key == "" {
			continue
		}
		if t.held[m.Key]--; t.held[m.Key] == 0 {
			delete(t.held, m.Key)
		}
	}
}

// waits reports whether something with m's key waits.
func (t *turns) waits(m *event.Message) bool { return m.Key != "" && t.held[m.Key] > 0 }

// free is what waits behind a key that is not held any more: of the first batch that has any.
func (t *turns) free() event.Batch {
	for i, b := range t.behind {
		out, rest := t.divide(b)
		if len(out) == 0 {
			continue
		}
		if t.behind[i] = rest; len(rest) == 0 {
			t.behind = append(t.behind[:i:i], t.behind[i+1:]...)
		}
		return out
	}
	return nil
}

// split is what may be written of b now; the rest waits behind. Nothing that is behind has a key
// that is free: see [lane.next].
func (t *turns) split(b event.Batch) event.Batch {
	out, rest := t.divide(b)
	if len(rest) > 0 {
		t.behind = append(t.behind, rest)
	}
	return out
}

func (t *turns) divide(b event.Batch) (out, rest event.Batch) {
	n := 0
	for _, m := range b {
		if t.waits(m) {
			n++
		}
	}
	switch n {
	case 0:
		return b, nil
	case len(b):
		return nil, b
	}
	out, rest = make(event.Batch, 0, len(b)-n), make(event.Batch, 0, n)
	for _, m := range b {
		if t.waits(m) {
			rest = append(rest, m)
		} else {
			out = append(out, m)
		}
	}
	return out, rest
}

// idle lets others write while what is left of a writer's batch waits for its turn.
func (l *lane) idle(left event.Batch, wait func() error) error {
	ordered := l.s.p.parts.Ordered
	l.mu.Lock()
	if ordered {
		l.turns.hold(left)
	}
	l.leave()
	l.mu.Unlock()
	err := wait()
	l.mu.Lock()
	if err != nil || l.writing < l.most { // with an error it only gives back what it has
		l.writing++
	} else {
		place := make(chan struct{})
		l.turns.back = append(l.turns.back, place)
		l.mu.Unlock()
		<-place // each writer hands its place on when it ends or waits
		l.mu.Lock()
	}
	if ordered {
		l.turns.release(left) // nobody else writes, so nothing overtakes it
	}
	l.mu.Unlock()
	return err
}

// leave gives up a writer's place: to what waits to be written, or to who wants it back. The lock
// is held.
func (l *lane) leave() {
	if l.hand() {
		return
	}
	l.writing--
	l.start()
	if l.writing < l.most && l.hand() { // what waited to be written went behind what is held
		l.writing++
	}
}

// hand gives a writer's place to one that wants it back, in turn with what waits to be written.
// The lock is held.
func (l *lane) hand() bool {
	t := &l.turns
	if len(t.back) == 0 || t.handed && len(l.full) > 0 {
		t.handed = false
		return false
	}
	close(t.back[0])
	t.back = t.back[1:]
	t.handed = true
	return true
}
