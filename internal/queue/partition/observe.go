package partition

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/weirdata/weir/internal/queue"
)

// Observers are the observers of a store.
type Observers struct {
	mu  sync.RWMutex
	all []*queue.Observer
}

// Observe is queue.Store.Observe.
func (o *Observers) Observe(fn queue.Observer) (stop func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all = append(slices.Clone(o.all), &fn)
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.all = slices.DeleteFunc(slices.Clone(o.all), func(one *queue.Observer) bool { return one == &fn })
	}
}

// Tell calls the observers with what t settles, before t is finished. lane says whose the
// jobs of a lane are, and false when it is not known.
func (o *Observers) Tell(ctx context.Context, t *Tx, lane func(id uint64) (string, queue.Scope, bool)) error {
	o.mu.RLock()
	all := o.all
	o.mu.RUnlock()
	if len(all) == 0 || len(t.t.Results) == 0 {
		return nil
	}
	t.observed = true
	settled := make([]queue.Settlement, len(t.t.Results))
	who := queue.Settler(ctx)
	for i, r := range t.t.Results {
		s := queue.Settlement{Result: r, By: who, Now: t.now}
		var ok bool
		if s.Queue, s.Scope, ok = lane(r.ID.Lane); !ok {
			return fmt.Errorf("settle job %s: %w", r.ID, queue.ErrLeaseLost)
		}
		settled[i] = s
	}
	for _, observe := range all {
		if err := (*observe)(t, settled); err != nil {
			return err
		}
	}
	return nil
}

// Whose is whose the jobs of a lane are; false when there is no such lane.
func (p *Partition) Whose(lane uint64) (string, queue.Scope, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.lanes[lane]
	if l == nil {
		return "", queue.Scope{}, false
	}
	return l.queue, l.scope, true
}
