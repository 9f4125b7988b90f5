package gateway

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirdata/weir/internal/workspace"
)

// Tally counts what became of requests with events, by the source that they are of. There are as many
// counts as the configuration names sources; requests of which no source is known are counted together,
// and so are those of an ingestion service, whose events are of several. What a script of a webhook
// source answers is counted without its text. A zero Tally is ready; many goroutines may use it.
type Tally struct {
	now     atomic.Pointer[tallied]
	mu      sync.Mutex // of who makes another tallied
	unknown Count
	inside  Count
}

// tallied are the counts of the sources of one state of the configuration. It does not change. A reload
// reads the same configuration again: what still counts by the state before is found by its id.
type tallied struct {
	of   *workspace.Workspace
	by   map[*workspace.Source]*Count
	byID map[string]*Count
}

// Count is what became of the requests of one source.
type Count struct {
	requests, events, leftOut atomic.Int64
	taken, denied             atomic.Int64 // nanoseconds since 1970 of the last one; 0: none yet
	refused                   atomic.Pointer[refusals]
}

// refusals are numbers of requests, by place in denials; the last is of answers that are not in it.
type refusals [32]atomic.Int64

// Counts is a Count at a moment.
type Counts struct {
	// Requests were taken, with so many events; LeftOut are those of suppressed users among them.
	Requests, Events, LeftOut int64
	// Taken is when the last of these came, and Denied when the last came that was refused.
	Taken, Denied time.Time
	Refused       []Refused
}

// Refused is how many requests got one answer.
type Refused struct {
	Code int
	// Answer is its text; empty for what scripts of webhook sources answer.
	Answer   string
	Requests int64
}

// denials are the answers that refuse, but those of scripts.
var denials = []*Answer{
	NilBody, InvalidMethod, InvalidJSON, EmptyBatch, NoID, NotAnEvent, NoWriteKey, NoQueryKey, InvalidWriteKey, SourceDisabled,
	NoSourceID, InvalidSourceID, InvalidReplay, NoDestination, InvalidDestination, DestinationDisabled, BadMessage,
	TooLarge, TooMany, UnreadBody, BadEncoding, Unavailable, Timeout, NoWebhook, BadForm, BadMultiform, HookFailed,
}

// placed is where an answer is in denials: answers that are made of one of these share its body.
var placed = func() map[*byte]int {
	at := make(map[*byte]int, len(denials))
	for i, a := range denials {
		at[&a.Body[0]] = i
	}
	return at
}()

// Tally counts what a request came to: the answer, and how many events were kept. Of one that is
// answered otherwise than it was decided, as a pixel is, it counts what was decided.
func (g *Gateway) Tally(c *Call, a *Answer, events int) {
	t := g.o.Tally
	if t == nil {
		return
	}
	n := &t.unknown
	switch {
	case c.kind == stream:
		n = &t.inside
	case c.source != nil:
		n = t.of(g.file.Current(), c.source)
	}
	if a == OK && c.partly != nil && c.partly.Code >= 400 {
		a = c.partly
	}
	n.add(a, events, c.leftOut, c.now)
}

// of is the count of a source; those of one that has left are of an unknown one.
func (t *Tally) of(w *workspace.Workspace, s *workspace.Source) *Count {
	now := t.now.Load()
	if now != nil {
		if n := now.by[s]; n != nil {
			return n
		}
	}
	if now == nil || now.of != w && !w.Loaded.Before(now.of.Loaded) {
		now = t.renew(w)
	}
	if n := now.byID[s.ID]; n != nil {
		return n
	}
	return &t.unknown
}

// renew is the counts for a state of the configuration, unless there are those of a newer one.
func (t *Tally) renew(w *workspace.Workspace) *tallied {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now.Load()
	if now != nil && (now.of == w || w.Loaded.Before(now.of.Loaded)) {
		return now
	}
	next := &tallied{w, make(map[*workspace.Source]*Count, len(w.Sources)), make(map[string]*Count, len(w.Sources))}
	for _, s := range w.Sources {
		var n *Count
		if now != nil {
			n = now.byID[s.ID]
		}
		if n == nil {
			n = &Count{}
		}
		next.by[s], next.byID[s.ID] = n, n
	}
	t.now.Store(next)
	return next
}

func (n *Count) add(a *Answer, events, leftOut int, at time.Time) {
	if a.Code < 400 {
		n.requests.Add(1)
	} else {
		n.refuse(a, at)
	}
	if events > 0 {
		n.events.Add(int64(events))
	}
	if leftOut > 0 && a.Code < 400 {
		n.leftOut.Add(int64(leftOut))
	}
	if a.Code < 400 || events > 0 {
		n.taken.Store(at.UnixNano())
	}
}

func (n *Count) refuse(a *Answer, at time.Time) {
	r := n.refused.Load()
	if r == nil {
		n.refused.CompareAndSwap(nil, &refusals{})
		r = n.refused.Load()
	}
	i := len(r) - 1
	if len(a.Body) > 0 {
		if k, known := placed[&a.Body[0]]; known {
			i = k
		}
	}
	r[i].Add(1)
	n.denied.Store(at.UnixNano())
}

// Counts is n as it is now.
func (n *Count) Counts() Counts {
	moment := func(nanos int64) time.Time {
		if nanos == 0 {
			return time.Time{}
		}
		return time.Unix(0, nanos).UTC()
	}
	out := Counts{Requests: n.requests.Load(), Events: n.events.Load(), LeftOut: n.leftOut.Load(), Taken: moment(n.taken.Load()), Denied: moment(n.denied.Load())}
	r := n.refused.Load()
	if r == nil {
		return out
	}
	for i := range r {
		if requests := r[i].Load(); requests > 0 {
			one := Refused{Requests: requests}
			if i < len(denials) {
				one.Code, one.Answer = denials[i].Code, string(denials[i].Body[:len(denials[i].Body)-1])
			}
			out.Refused = append(out.Refused, one)
		}
	}
	return out
}

// Of is what became of the requests of a source.
func (t *Tally) Of(s *workspace.Source) Counts {
	if now := t.now.Load(); now != nil {
		if n := now.byID[s.ID]; n != nil {
			return n.Counts()
		}
	}
	return Counts{}
}

// Unknown is what became of requests of which no source is known, and Inside of those of ingestion
// services.
func (t *Tally) Unknown() Counts { return t.unknown.Counts() }

// Inside is of the requests of ingestion services.
func (t *Tally) Inside() Counts { return t.inside.Counts() }

// Visited is a gateway that operators look at.
type Visited interface {
	// Now is the configuration that counts, and what became of requests.
	Now() (*workspace.Workspace, *Tally)
	// Reached is where it listens; empty while it does not. Hosts are the names that it answers to, none
	// for every one.
	Reached() (address string, hosts []string, tls bool)
	// Try sends an event to where the gateway listens, as a client with a write key does, and tells how it
	// is answered.
	Try(ctx context.Context, key string, event []byte) (*Tried, error)
}

// Tried is an answer to an event that was sent for a trial.
type Tried struct {
	Code    int
	Answer  string
	Seconds float64
}
