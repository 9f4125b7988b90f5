package webhook

import (
	"context"
	"fmt"
	"sync"
)

// places bounds the requests in progress, for each destination by itself: however many
// destinations hang, the places of another are its own. A destination costs memory only while
// somebody has one of its places or waits for one.
type places struct {
	each int // places of a destination

	mu   sync.Mutex
	busy map[string]*room // by destination
}

// room is the places of one destination.
type room struct {
	taken chan struct{} // one for each request in progress
	users int           // who has a place or waits for one
}

func newPlaces(each int) *places {
	return &places{each: each, busy: map[string]*room{}}
}

// enter takes a place of a destination, which leave gives back.
func (p *places) enter(ctx context.Context, destination string) (leave func(), err error) {
	r := p.use(destination)
	err = context.Cause(ctx)
	if err == nil {
		select {
		case r.taken <- struct{}{}:
			return func() {
				<-r.taken
				p.done(destination, r)
			}, nil
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	p.done(destination, r)
	return nil, fmt.Errorf("wait for a request to destination %s to end: %w", destination, err)
}

func (p *places) use(destination string) *room {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.busy[destination]
	if r == nil {
		r = &room{taken: make(chan struct{}, p.each)}
		p.busy[destination] = r
	}
	r.users++
	return r
}

func (p *places) done(destination string, r *room) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.users--; r.users == 0 {
		delete(p.busy, destination)
	}
}
