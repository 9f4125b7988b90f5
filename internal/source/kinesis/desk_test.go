package kinesissource

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/kinesis/lease"
)

// desk is a table of leases in memory, with coordinators that take what is free, each as many as
// it may. Tests take leases away by hand.
type desk struct {
	subs bool // keeps positions within records

	mu      sync.Mutex
	rows    map[string]*deskRow
	changed chan struct{}
	saves   map[string][]lease.Position
}

type deskRow struct {
	shard lease.Shard
	at    lease.Position
	held  *deskLease
	late  bool // not to be taken: somebody else has it
}

func newDesk() *desk {
	return &desk{subs: true, rows: map[string]*deskRow{}, changed: make(chan struct{}), saves: map[string][]lease.Position{}}
}

// change calls f with the lock and tells everybody.
func (d *desk) change(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
	close(d.changed)
	d.changed = make(chan struct{})
}

// take takes a lease away, for another.
func (d *desk) take(shard string, free bool) {
	d.change(func() {
		r := d.rows[shard]
		if r.held != nil {
			close(r.held.lost)
		}
		r.held, r.late = nil, !free
	})
}

func (d *desk) position(shard string) lease.Position {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := d.rows[shard]; r != nil {
		return r.at
	}
	return lease.Position{}
}

// history is what was saved of a shard.
func (d *desk) history(shard string) []lease.Position {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.saves[shard])
}

// until waits until f, which is called with the lock, is true.
func (d *desk) until(ctx context.Context, f func() bool) error {
	for {
		d.mu.Lock()
		done, changed := f(), d.changed
		d.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

type deskCoordinator struct {
	d *desk
	n *session
}

func (d *desk) coordinate(_ context.Context, n *session) (coordinator, error) {
	return &deskCoordinator{d, n}, nil
}

func (c *deskCoordinator) SubSequences() bool { return c.d.subs }
func (c *deskCoordinator) Worker() string     { return "test" }
func (c *deskCoordinator) Trouble() error     { return nil }

func (c *deskCoordinator) Open(ctx context.Context) error {
	shards, err := c.n.Shards(ctx, time.Time{})
	if err != nil {
		return err
	}
	c.d.change(func() {
		fresh := len(c.d.rows) == 0
		for _, s := range shards {
			if fresh && c.d.rows[s.ID] == nil {
				at := c.n.start.Position
				if len(s.Parents) > 0 {
					at = lease.TrimHorizon
				}
				c.d.rows[s.ID] = &deskRow{shard: s, at: at}
			}
		}
	})
	return nil
}

func (c *deskCoordinator) Next(ctx context.Context) (holding, error) {
	var got *deskLease
	err := c.d.until(ctx, func() bool {
		for _, id := range slices.Sorted(maps.Keys(c.d.rows)) {
			r := c.d.rows[id]
			if r.held != nil || r.late || r.at == lease.End || slices.ContainsFunc(r.shard.Parents, func(p string) bool {
				return c.d.rows[p] != nil && c.d.rows[p].at != lease.End
			}) {
				continue
			}
			got = &deskLease{d: c.d, r: r, at: r.at, lost: make(chan struct{})}
			r.held = got
			return true
		}
		return false
	})
	if err != nil {
		return nil, err
	}
	return got, nil
}

func (c *deskCoordinator) Close(context.Context) error {
	c.d.change(func() {
		for _, r := range c.d.rows {
			if r.held != nil {
				close(r.held.lost)
				r.held = nil
			}
		}
	})
	return nil
}

type deskLease struct {
	d    *desk
	r    *deskRow
	at   lease.Position
	lost chan struct{}
}

func (l *deskLease) Shard() lease.Shard       { return l.r.shard }
func (l *deskLease) Position() lease.Position { return l.at }
func (l *deskLease) Lost() <-chan struct{}    { return l.lost }

func (l *deskLease) Held() bool {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	return l.r.held == l
}

func (l *deskLease) Save(_ context.Context, p lease.Position) (err error) {
	l.d.change(func() {
		if l.r.held != l {
			err = lease.ErrLost
			return
		}
		l.d.saves[l.r.shard.ID] = append(l.d.saves[l.r.shard.ID], p)
		if p.Compare(l.r.at) > 0 {
			l.r.at = p
		}
	})
	return err
}

func (l *deskLease) Finish(_ context.Context, children []lease.Shard) (err error) {
	l.d.change(func() {
		if l.r.held != l {
			err = lease.ErrLost
			return
		}
		for _, c := range children {
			if l.d.rows[c.ID] == nil {
				l.d.rows[c.ID] = &deskRow{shard: c, at: lease.TrimHorizon}
			}
		}
		l.r.at, l.r.held = lease.End, nil
		l.d.saves[l.r.shard.ID] = append(l.d.saves[l.r.shard.ID], lease.End)
		close(l.lost)
	})
	return err
}

func (l *deskLease) Release(context.Context) error {
	l.d.change(func() {
		if l.r.held == l {
			l.r.held = nil
			close(l.lost)
		}
	})
	return nil
}
