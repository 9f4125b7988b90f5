package frontdoor

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Porter is what the sources at doors share for callers of whom nothing can be taken. It stands at
// a door for a source that is closed, so that callers are told to come back instead of finding
// nobody, and it knows why there is no room for what they bring. It implements
// connector.Refuser, and of connector.Attendant all but Attend, which is Stand with a host. The
// zero value is ready to use.
type Porter struct {
	full  atomic.Pointer[func() error] // why nothing can be written now; nil: nobody says
	mu    sync.Mutex
	place *Place // of a host that is closed; nil unless it stands there
}

// dismissal is how long Dismiss waits for requests whose bodies are still arriving.
const dismissal = 5 * time.Second

// Stand has a host that takes nothing answer at a door, whenever none does that takes something.
// At an address that is not shared (Door.Shared) it stands nowhere, since the source would find it taken.
func (p *Porter) Stand(ctx context.Context, at Door, closed func() Host) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.place != nil || !at.Shared() {
		return nil
	}
	place, err := Enter(ctx, at, closed())
	p.place = place
	return err
}

// Dismiss implements connector.Attendant.
func (p *Porter) Dismiss(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	place := p.place
	if p.place = nil; place == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, dismissal)
	defer cancel()
	return place.Leave(ctx)
}

// RefuseWhile implements connector.Refuser.
func (p *Porter) RefuseWhile(full func() error) { p.full.Store(&full) }

// Refusing reports whether requests are turned away because there is no room for their events.
func (p *Porter) Refusing() bool {
	full := p.full.Load()
	return full != nil && (*full)() != nil
}
