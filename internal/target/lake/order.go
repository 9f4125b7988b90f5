package lake

import (
	"context"
	"slices"
	"sync"
)

// order is that in which the batches left that are being written at once. What a column holds is
// decided by the first event that has it, so a write that has to change the schema waits until
// those that began earlier have: the same events make the same columns, however many write. With
// dedup_field every write waits, since the first of what repeats itself is kept.
type order struct {
	mu   sync.Mutex
	open []*succession // those that may change the schema still, in their order
}

// succession is one batch among them.
type succession struct{ decided chan struct{} }

type successionKey struct{}

// successionOf is the batch that a write is of, nil where nobody has said.
func successionOf(ctx context.Context) *succession {
	s, _ := ctx.Value(successionKey{}).(*succession)
	return s
}

// Begin implements connector.Successive.
func (t *Target) Begin() (mark func(context.Context) context.Context, end func()) {
	s := &succession{decided: make(chan struct{})}
	t.order.mu.Lock()
	t.order.open = append(t.order.open, s)
	t.order.mu.Unlock()
	return func(ctx context.Context) context.Context { return context.WithValue(ctx, successionKey{}, s) }, func() { t.order.decided(s) }
}

// decided says that the batch changes the schema no more; a batch that is tried again may, after
// those that came later.
func (o *order) decided(s *succession) {
	if s == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if i := slices.Index(o.open, s); i >= 0 {
		o.open = slices.Delete(o.open, i, i+1)
		close(s.decided)
	}
}

// earlier is a batch that may change the schema and began before s; nil is none.
func (o *order) earlier(s *succession) *succession {
	if s == nil {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if i := slices.Index(o.open, s); i > 0 {
		return o.open[0]
	}
	return nil
}

func (o *order) before(s *succession) bool { return o.earlier(s) != nil }

// await returns when it is s's turn.
func (o *order) await(ctx context.Context, s *succession) error {
	for {
		e := o.earlier(s)
		if e == nil {
			return nil
		}
		select {
		case <-e.decided:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
