package pubsubsource

import (
	"slices"
	"sync"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
)

// state is how far a message has come that is held.
type state uint8

const (
	waiting state = iota // received, and not read
	working              // read, and not settled
	settled              // settled, behind one of its key that is not
	leaving              // to be acknowledged, and not confirmed
	gone                 // not held any more
)

// held is a message whose lease is ours.
type held struct {
	id, key string // key is the ordering key, where the subscription keeps an order
	ack     string // the id of its newest delivery, the only one that counts
	size    int
	message *pubsubpb.PubsubMessage // until it is read
	since   time.Time               // of its first delivery to us
	until   time.Time               // the end of its lease
	state   state
	lost    bool    // its lease has ended: others may have it
	taken   bool    // and the service says so: it cannot be extended any more
	told    bool    // that its lease is not extended any more
	wait    *waiter // who waits for its acknowledgement
}

// waiter waits for acknowledgements. It is guarded by the book.
type waiter struct {
	left, unconfirmed int
	err               error
	done              chan struct{}
}

// book is every message that is held.
//
// Invariants: a message is in it once, whatever number of deliveries it had, and is not handed
// out again while it is in work. Those of one ordering key are read in the order in which they
// were received, and acknowledged in it: one is leaving only when all before it of its key are or
// have left. Where the service delivers one of a key again, it delivers all behind it again, the
// acknowledged too: then, when one is given back, and when it is not confirmed that one was
// acknowledged, it and all behind it of its key are not held any more, and are handed out anew
// when they come, so that nothing is followed for the last time by what comes before it.
type book struct {
	mu       sync.Mutex
	all      map[string]*held
	queue    []*held            // what waits, in the order it was received; may hold what is gone
	keys     map[string][]*held // the waiting, working and settled of each key, in their order
	messages int                // held
	bytes    int
	read     int // held, and read
	readSize int
	changed  chan struct{} // closed at the next change that somebody may wait for
}

func newBook() *book {
	return &book{all: map[string]*held{}, keys: map[string][]*held{}, changed: make(chan struct{})}
}

// tell wakes those who wait for a change.
func (b *book) tell() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// next is closed at the next change.
func (b *book) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changed
}

// receive takes deliveries whose leases end at until.
func (b *book) receive(ms []*pubsubpb.ReceivedMessage, now, until time.Time, ordered bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range ms {
		m := r.GetMessage()
		if h := b.all[m.GetMessageId()]; h != nil {
			if h.key == "" || h.state == leaving && len(b.keys[h.key]) == 0 {
				h.ack, h.until, h.lost, h.taken = r.GetAckId(), until, false, false
				continue
			}
			b.drop(h)
		}
		h := &held{id: m.GetMessageId(), ack: r.GetAckId(), size: len(m.GetData()), message: m, since: now, until: until}
		for name, value := range m.GetAttributes() {
			h.size += len(name) + len(value)
		}
		if ordered && m.GetOrderingKey() != "" {
			h.key = m.GetOrderingKey()
			b.keys[h.key] = append(b.keys[h.key], h)
		}
		b.all[h.id] = h
		b.messages++
		b.bytes += h.size
		b.queue = append(b.queue, h)
	}
	b.tell()
}

// full reports whether no more is to be received within the limits. One message is always held.
func (b *book) full(l limits) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.messages > 0 && (b.messages >= l.messages || b.bytes >= l.bytes)
}

// take hands out what waits: as many messages, of as many bytes of payload, and one if it alone
// is larger. What waited for longer than its lease is not handed out: it is delivered again.
// back is what is to be given back because of it.
func (b *book) take(now time.Time, messages, bytes int) (out []*held, ms []*pubsubpb.PubsubMessage, back []*held) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.queue) > 0 && len(out) < messages {
		h := b.queue[0]
		if h.state == waiting && !now.Before(h.until) {
			back = append(back, b.drop(h)...)
		}
		if h.state == waiting {
			n := len(h.message.GetData())
			if len(out) > 0 && n > bytes {
				break
			}
			bytes -= n
			ms = append(ms, h.message)
			out = append(out, h)
			h.state, h.message = working, nil
			b.read++
			b.readSize += h.size
		}
		b.queue[0] = nil
		b.queue = b.queue[1:]
	}
	return out, ms, back
}

// leave removes h from what is held.
func (b *book) leave(h *held) {
	if h.state == gone {
		return
	}
	if h.state != waiting {
		b.read--
		b.readSize -= h.size
	}
	h.state, h.message = gone, nil
	if b.all[h.id] == h {
		delete(b.all, h.id)
	}
	b.messages--
	b.bytes -= h.size
}

// drop removes h and all behind it of its key, and returns them. What is leaving stays, but for h.
func (b *book) drop(h *held) []*held {
	if h.state == leaving {
		if w := h.wait; w != nil {
			w.unconfirmed++
			w.err = errLost
			if w.left--; w.left == 0 {
				close(w.done)
			}
		}
		b.leave(h)
		if behind := b.keys[h.key]; h.key != "" && len(behind) > 0 {
			return append([]*held{h}, b.drop(behind[0])...)
		}
		return []*held{h}
	}
	if h.key == "" {
		b.leave(h)
		return []*held{h}
	}
	of := b.keys[h.key]
	at := 0
	for at < len(of) && of[at] != h {
		at++
	}
	dropped := append([]*held(nil), of[at:]...)
	for _, x := range dropped {
		b.leave(x)
	}
	b.shorten(h.key, of[:at])
	return dropped
}

func (b *book) shorten(key string, left []*held) {
	if len(left) == 0 {
		delete(b.keys, key)
		return
	}
	b.keys[key] = left
}

// settle notes what became of messages that were read: ok says of which that they are settled.
// It returns what may be acknowledged now, and what is to be given back.
func (b *book) settle(hs []*held, ok func(i int) bool) (confirm, back []*held) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, h := range hs {
		switch {
		case h.state != working:
		case !ok(i):
			back = append(back, b.drop(h)...)
		case h.key == "":
			h.state = leaving
			confirm = append(confirm, h)
		default:
			h.state = settled
			of := b.keys[h.key]
			for len(of) > 0 && of[0].state == settled {
				of[0].state = leaving
				confirm = append(confirm, of[0])
				of = of[1:]
			}
			b.shorten(h.key, of)
		}
	}
	if len(back) > 0 {
		b.tell()
	}
	return confirm, back
}

// await has w wait for the acknowledgement of hs, which are leaving.
func (b *book) await(w *waiter, hs []*held) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w.left = len(hs)
	for _, h := range hs {
		h.wait = w
	}
}

// giveUp ends the wait of w, and says what it knows.
func (b *book) giveUp(w *waiter, hs []*held, why error) (unconfirmed int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, h := range hs {
		h.wait = nil
	}
	if w.left > 0 {
		return w.unconfirmed + w.left, why
	}
	return w.unconfirmed, w.err
}

// confirmed ends what was acknowledged, or never will be for the reason err. It returns how many
// of those that are not confirmed nobody waits for.
func (b *book) confirmed(hs []*held, err error) (unheard int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, h := range hs {
		if h.state != leaving {
			continue
		}
		why := err
		if why == nil && h.lost {
			why = errLost
		}
		b.leave(h)
		if behind := b.keys[h.key]; why != nil && h.key != "" && len(behind) > 0 {
			b.drop(behind[0])
		}
		w := h.wait
		switch {
		case w != nil:
			if why != nil {
				w.unconfirmed++
				w.err = why
			}
			if w.left--; w.left == 0 {
				close(w.done)
			}
		case why != nil:
			unheard++
		}
	}
	b.tell()
	return unheard
}

// ends are what became of leases that are looked at.
type ends struct {
	extend []*held // leases to extend now
	back   []*held // waited for too long, and are dropped
	lost   int     // ended in work, since the last look
	over   int     // are not extended any more, since the last look
}

// look finds the leases to extend, which end before soon, of messages that came after old; and
// those that have ended.
func (b *book) look(now, soon, old time.Time) (e ends) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, h := range b.all {
		switch over := h.since.Before(old); {
		case over && !h.told:
			h.told = true
			e.over++
		case !over && !h.taken && h.until.Before(soon):
			e.extend = append(e.extend, h)
		}
		if !now.Before(h.until) && !h.lost {
			if h.state == waiting {
				e.back = append(e.back, b.drop(h)...)
				continue
			}
			h.lost = true
			e.lost++
		}
	}
	if len(e.back) > 0 {
		b.queue = slices.DeleteFunc(b.queue, func(h *held) bool { return h.state != waiting })
		b.tell()
	}
	return e
}

// extended notes that the leases on hs, by the ids they had, end at until.
func (b *book) extended(hs []*held, ids []string, until time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, h := range hs {
		if h.ack == ids[i] && h.until.Before(until) {
			h.until = until
		}
	}
}

// forfeit notes that the lease by the id that h had is no more. It returns what is dropped
// because it only waited, and whether h is in work.
func (b *book) forfeit(h *held, id string) (back []*held, inWork bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if h.ack != id || h.taken || h.state == gone {
		return nil, false
	}
	if h.state == waiting {
		back = b.drop(h)
		b.tell()
		return back, false
	}
	h.lost, h.taken = true, true
	return nil, true
}

// still are those of hs that are to be acknowledged.
func (b *book) still(hs []*held) []*held {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.DeleteFunc(hs, func(h *held) bool { return h.state != leaving })
}

// ids are the acknowledgement ids of hs as they are now.
func (b *book) ids(hs []*held) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	ids := make([]string, len(hs))
	for i, h := range hs {
		ids[i] = h.ack
	}
	return ids
}

// empty removes everything and returns it.
func (b *book) empty() []*held {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]*held, 0, len(b.all))
	for _, h := range b.all {
		out = append(out, h)
	}
	for _, h := range out {
		b.leave(h)
	}
	b.queue, b.keys = nil, map[string][]*held{}
	b.tell()
	return out
}

// counts are what is held, and what of it is read.
func (b *book) counts() (messages, read, readSize int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.messages, b.read, b.readSize
}

// oldest is when the message was published that waits for the longest; zero when none waits.
func (b *book) oldest() (at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, h := range b.queue {
		if h == nil || h.state != waiting {
			continue
		}
		if p := h.message.GetPublishTime().AsTime(); at.IsZero() || p.Before(at) {
			at = p
		}
	}
	return at
}
