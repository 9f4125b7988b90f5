package console

import (
	"sync"
	"time"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/tap"
)

// follower listens for single messages at all points of some pipelines, and keeps for a while what it
// heard: of one message at a time, and of the last few what was heard then. It holds no payloads.
type follower struct {
	taps *tap.Hub

	mu    sync.Mutex
	end   func()      // ends listening for who is followed now, and waits for that; nil: nobody is
	order []*followed // the newest last
	over  bool
}

// followed is what was heard of one message.
type followed struct {
	id    string
	until time.Time

	mu      sync.Mutex
	heard   []tap.Record
	more    bool // than is kept
	missing []string
}

// Bounds of what is followed.
const (
	followTime     = time.Minute
	mostListening  = 12 // of the taps that there may be at once
	mostHeard      = 200
	mostRemembered = 50
)

// follow listens at pipelines for a message, until another one is followed or a time has passed. It
// returns when it does.
func (f *follower) follow(id string, pipelines []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.end != nil {
		f.end()
	}
	one := &followed{id: id, until: time.Now().Add(followTime)}
	if f.order = append(f.order, one); len(f.order) > mostRemembered {
		f.order = f.order[1:]
	}
	if f.over {
		return
	}
	stop := make(chan struct{})
	var wait sync.WaitGroup
	f.end = sync.OnceFunc(func() { close(stop); wait.Wait() })
	for i, name := range pipelines {
		var t *tap.Tap
		if i < mostListening {
			t, _ = f.taps.Add(tap.Options{Pipeline: name, Match: func(m *event.Message) bool { return m.Meta.ID == id }})
		}
		if t == nil {
			one.missing = append(one.missing, name)
			continue
		}
		wait.Go(func() { one.listen(t, stop) })
	}
}

// listen keeps what t tells until stop, or until nobody is interested any more.
func (o *followed) listen(t *tap.Tap, stop <-chan struct{}) {
	defer t.Leave()
	end := time.NewTimer(time.Until(o.until))
	defer end.Stop()
	for {
		select {
		case r := <-t.C:
			o.keep(r)
		case <-stop:
			return
		case <-end.C:
			return
		}
	}
}

func (o *followed) keep(r tap.Record) {
	r.Before, r.After, r.Raw = tap.State{}, nil, nil
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.heard) == mostHeard {
		o.more = true
		return
	}
	o.heard = append(o.heard, r)
}

// of is what was heard of a message; nil when it was not followed, or that is forgotten.
func (f *follower) of(id string) *followed {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, o := range f.order {
		if o.id == id {
			return o
		}
	}
	return nil
}

// close ends listening.
func (f *follower) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.over = true
	if f.end != nil {
		f.end()
	}
}
