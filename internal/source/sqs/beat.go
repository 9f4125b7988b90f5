package sqssource

import (
	"container/heap"
	"slices"
	"time"
)

// schedule has e extended before half of its time is over, together with others: at the end of
// a sixteenth of the timeout.
func (h *hand) schedule(e *entry, now time.Time) {
	h.extendLater(e, now.Add(h.visibility/2).Truncate(h.visibility/16))
}

func (h *hand) extendLater(e *entry, at time.Time) {
	e.extendAt = at
	if e.place < 0 {
		heap.Push(&h.beats, e)
	} else {
		heap.Fix(&h.beats, e.place)
	}
}

// still ends the extending of e.
func (h *hand) still(e *entry) {
	if e.place >= 0 {
		heap.Remove(&h.beats, e.place)
	}
}

// beat is one message to extend, by the handle that it has now.
type beat struct {
	e      *entry
	handle string
}

// dueBeats is what is to be extended now, and when the next will be; zero when nothing is held.
// Those that are due soon go along.
func (h *hand) dueBeats(now time.Time) (due []beat, next time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	soon := now
	if len(h.beats) > 0 && !h.beats[0].extendAt.After(now) {
		soon = now.Add(h.visibility / 20)
	}
	for len(h.beats) > 0 && !h.beats[0].extendAt.After(soon) {
		e := h.beats[0]
		if now.Add(h.visibility).After(e.since.Add(longest)) || e.lost {
			h.still(e)
			h.abandon(e)
			continue
		}
		e.beats = true
		due = append(due, beat{e, e.handle})
		h.extendLater(e, now.Add(h.visibility/8)) // unless it succeeds
		if e.extendAt.Before(soon) || e.extendAt.Equal(soon) {
			break // the timeout is so short that everything is soon
		}
	}
	if len(h.beats) > 0 {
		next = h.beats[0].extendAt
	}
	return due, next
}

// extended says that a beat that was sent at an instant has succeeded.
func (h *hand) extended(sent time.Time, b beat) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b.e.beats = false
	if b.e.handle != b.handle || b.e.state == gone {
		return
	}
	b.e.until = sent.Add(h.visibility)
	if b.e.place >= 0 {
		h.schedule(b.e, sent)
	}
}

// unextended says that a beat has failed. When the handle is of no use any more, somebody else
// has the message, or it is deleted: it is extended no more, and not handed out.
func (h *hand) unextended(b beat, lost bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b.e.beats = false
	if !lost || b.e.handle != b.handle || b.e.state == gone {
		return
	}
	h.still(b.e)
	h.abandon(b.e)
}

// abandon is the end of a message that is not ours any more. What the pipeline works on it goes
// on with.
func (h *hand) abandon(e *entry) {
	e.lost = true
	switch e.state {
	case queued, waiting:
		h.drop(e)
	default:
		h.expired++
	}
}

// lapsed is how many messages were lost since it was asked last.
func (h *hand) lapsed() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := h.expired
	h.expired = 0
	return n
}

// beating reports whether one of es is being extended right now.
func (h *hand) beating(es []*entry) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.ContainsFunc(es, func(e *entry) bool { return e.beats })
}

// beats is a heap of what is extended, by when.
type beats []*entry

func (b beats) Len() int           { return len(b) }
func (b beats) Less(i, j int) bool { return b[i].extendAt.Before(b[j].extendAt) }
func (b beats) Swap(i, j int) {
	b[i], b[j] = b[j], b[i]
	b[i].place, b[j].place = i, j
}
func (b *beats) Push(x any) {
	e := x.(*entry)
	e.place = len(*b)
	*b = append(*b, e)
}
func (b *beats) Pop() any {
	old := *b
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*b, e.place = old[:len(old)-1], -1
	return e
}
