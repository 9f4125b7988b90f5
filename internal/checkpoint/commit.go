package checkpoint

import (
	"context"
	"sync"
)

// Committer commits positions as they become committable, for acknowledgements that
// arrive at the same time and in any order.
//
// Invariants: one commit runs at a time; the positions it is called with only grow; a
// settle function returns nil only when every position that its call set free has been
// committed. Calls that wait for a commit share the next one. A commit that fails is
// made up for by the next one, or by Flush.
type Committer[P any] struct {
	tracker *Tracker[P]
	commit  func(context.Context, P) error
	turn    chan struct{} // holds an element while a commit runs

	mu        sync.Mutex
	free      P      // highest position that may be committed
	freed     uint64 // how often free has moved
	committed uint64 // what freed was at the last commit that succeeded
}

// NewCommitter returns a committer that lets at most limit positions be unresolved and
// commits with commit.
func NewCommitter[P any](limit int, commit func(context.Context, P) error) *Committer[P] {
	return &Committer[P]{tracker: New[P](limit), commit: commit, turn: make(chan struct{}, 1)}
}

// Track notes that pos was read, as [Tracker.Track] does. settle is called once what was
// read up to pos since the position before is durable elsewhere; when it is not, settle is
// never called and no later position is committed.
func (c *Committer[P]) Track(ctx context.Context, pos P) (settle func(context.Context) error, err error) {
	resolve, err := c.tracker.Track(ctx, pos)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		c.mu.Lock()
		p, moved := resolve() // under the lock, so that free only grows
		if moved {
			c.free = p
			c.freed++
		}
		mine := c.freed
		c.mu.Unlock()
		if !moved {
			return nil
		}
		return c.upTo(ctx, mine)
	}, nil
}

// Flush commits what a failed commit has left.
func (c *Committer[P]) Flush(ctx context.Context) error {
	c.mu.Lock()
	mine := c.freed
	c.mu.Unlock()
	return c.upTo(ctx, mine)
}

// Open is the number of positions that are not yet committable.
func (c *Committer[P]) Open() int { return c.tracker.Open() }

// upTo commits the highest free position unless somebody has committed it since.
func (c *Committer[P]) upTo(ctx context.Context, mine uint64) error {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	c.mu.Lock()
	pos, freed, done := c.free, c.freed, c.committed >= mine
	c.mu.Unlock()
	if done {
		return nil
	}
	if err := c.commit(ctx, pos); err != nil {
		return err
	}
	c.mu.Lock()
	c.committed = freed
	c.mu.Unlock()
	return nil
}
