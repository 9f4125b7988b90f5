package lease

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/meter"
)

// writers is how many rows are written at once, at most.
const writers = 32

// Lease is one holding of one shard, from its taking to its loss. Its methods may be called at
// once.
type Lease struct {
	c     *Coordinator
	shard Shard
	start Position
	lost  chan struct{}
	turn  chan struct{} // held by who writes to the row

	mu      sync.Mutex
	row     Row // as this holding has left it
	renewed time.Time
	next    time.Time // when to renew
	ended   bool
	notice  time.Time // when who held it before has noticed
	offered bool      // to Next; only the rounds use it
	given   bool      // by Next; under the mutex of the coordinator
}

func newLease(c *Coordinator, row Row, s Shard, began time.Time) *Lease {
	l := &Lease{c: c, shard: s, start: row.Position, lost: make(chan struct{}), turn: make(chan struct{}, 1)}
	l.took(row, began)
	return l
}

// took notes that the row was written by a call that began then.
func (l *Lease) took(row Row, began time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.row, l.renewed = row, began
	every := l.c.s.Failover / 4
	l.next = began.Add(every - rand.N(every/10+1))
}

// Shard is the shard that is held; Parents and Range as far as they are known.
func (l *Lease) Shard() Shard { return l.shard }

// Position is what was done when the shard was taken: read on after it, or from where the sentinel
// says. AT_TIMESTAMP means the time of [Start].
func (l *Lease) Position() Position { return l.start }

// Lost is closed when the holding has ended: taken by another, out of reach for the fail-over
// time, finished or released.
func (l *Lease) Lost() <-chan struct{} { return l.lost }

// Held reports, by the clock, whether the shard is still held. Ask before anything is handed on
// that was waited for: a process that was stopped finds out here, before Lost is closed.
func (l *Lease) Held() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.ended && time.Since(l.renewed) < l.c.s.Failover
}

// end makes the holding one that has ended, and reports whether it was not yet.
func (l *Lease) end() bool {
	l.mu.Lock()
	was := l.ended
	l.ended = true
	l.mu.Unlock()
	if was {
		return false
	}
	close(l.lost)
	l.c.forget(l, 0)
	return true
}

// drop ends a holding that was lost.
func (l *Lease) drop(why string) {
	if l.end() {
		l.c.s.Log.Info("lost the lease of a shard", "shard", l.shard.ID, "reason", why)
		l.c.hurry()
	}
}

func (l *Lease) state() (row Row, until time.Time, ended bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.row, l.renewed.Add(l.c.s.Failover), l.ended
}

// write changes the row as one who holds it. change is called with the row as it is now, and again
// when that was not so: an answer that did not arrive leaves behind a row that has changed, and is
// still ours.
func (l *Lease) write(ctx context.Context, change func(context.Context, Row) (Row, error)) error {
	select {
	case l.turn <- struct{}{}:
	case <-l.lost:
		return ErrLost
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-l.turn }()
	for again := false; ; again = true {
		row, until, ended := l.state()
		began := time.Now()
		if !ended && !began.Before(until) {
			l.drop("the table was out of reach for the fail-over time")
			ended = true
		}
		if ended {
			return ErrLost
		}
		after, err := l.call(ctx, until, row, change)
		switch {
		case err == nil:
			l.took(after, began)
			return nil
		case !errors.Is(err, ErrMoved):
			return err
		case again:
			l.drop("its row changes under this holder")
			return ErrLost
		}
		if err := l.readBack(ctx, until); err != nil {
			return err
		}
	}
}

// call is one call of the table: it ends early enough for another before the time is over.
func (l *Lease) call(ctx context.Context, until time.Time, row Row, change func(context.Context, Row) (Row, error)) (Row, error) {
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	ctx, cancel = context.WithTimeout(ctx, l.c.s.Failover/5)
	defer cancel()
	return change(ctx, row)
}

// readBack finds out whether a row that is not as it was left is another's.
func (l *Lease) readBack(ctx context.Context, until time.Time) error {
	row, err := l.call(ctx, until, Row{}, func(ctx context.Context, _ Row) (Row, error) { return l.c.s.Table.Get(ctx, l.shard.ID) })
	switch {
	case errors.Is(err, errNoRow):
		l.drop("its row is gone")
		return ErrLost
	case err != nil:
		return fmt.Errorf("read back the lease of %s: %w", l.shard.ID, err)
	case row.Owner == "":
		l.drop("somebody released it")
		return ErrLost
	case row.Owner != l.c.me || row.HandedFrom != "":
		l.drop("taken by " + row.Owner)
		return ErrLost
	}
	l.mu.Lock()
	l.row = row
	l.mu.Unlock()
	return nil
}

// errDone ends a write that is not needed.
var errDone = errors.New("done already")

// Save writes that everything up to p is done, which is for the caller to be sure of. One that
// is not behind the last is done already. It is [ErrLost] when the shard is not held any more; any
// other error leaves the lease as it is, and a later Save may succeed.
func (l *Lease) Save(ctx context.Context, p Position) error {
	if !p.IsRecord() {
		return fmt.Errorf("save position %s of %s: it is not that of a record", p, l.shard.ID)
	}
	err := l.save(ctx, p, nil)
	if err != nil && !errors.Is(err, ErrLost) {
		return fmt.Errorf("save position %s of %s in %s: %w", p, l.shard.ID, l.c.s.Table, err)
	}
	return err
}

func (l *Lease) save(ctx context.Context, p Position, children []string) error {
	err := l.write(ctx, func(ctx context.Context, row Row) (Row, error) {
		if p.Compare(row.Position) <= 0 {
			return row, errDone
		}
		return l.c.s.Table.Save(ctx, row, p, children)
	})
	if errors.Is(err, errDone) {
		return nil
	}
	return err
}

// Finish writes that the shard has been read to its end and that everything of it is done, after
// the rows of its children, which it makes: they start at their beginning, or still at the time of
// the settings when no position was ever saved in this one. Without children it looks at the
// stream's list for them. The lease ends with it; after any other error than [ErrLost] it may be called again.
func (l *Lease) Finish(ctx context.Context, children []Shard) error {
	if !l.Held() {
		return ErrLost
	}
	row, _, _ := l.state()
	start := TrimHorizon
	if row.Position == AtTimestamp {
		start = AtTimestamp // nothing since that time was in it, so the time may be in a child
	}
	children, err := l.c.succeed(ctx, l.shard, children, start)
	if err != nil {
		return fmt.Errorf("make the leases of what follows %s: %w", l.shard.ID, err)
	}
	ids := make([]string, len(children))
	for i, s := range children {
		ids[i] = s.ID
	}
	if err := l.save(ctx, End, ids); err != nil {
		if errors.Is(err, ErrLost) {
			return err
		}
		return fmt.Errorf("save the end of %s in %s: %w", l.shard.ID, l.c.s.Table, err)
	}
	if l.end() {
		l.c.s.Log.Info("a shard has been read to its end", "shard", l.shard.ID, "children", ids)
	}
	l.c.hurry()
	return nil
}

// Release gives the shard back, for others to take at once, and for this instance only when
// nobody has done so for the fail-over time.
func (l *Lease) Release(ctx context.Context) error {
	select {
	case l.turn <- struct{}{}:
	case <-l.lost:
		return ErrLost
	case <-ctx.Done():
		l.end() // it goes to others when its time is over
		return fmt.Errorf("release the lease of %s: %w", l.shard.ID, context.Cause(ctx))
	}
	defer func() { <-l.turn }()
	row, until, _ := l.state()
	if !l.end() {
		return ErrLost
	}
	l.c.forget(l, l.c.s.Failover+l.c.s.Scan)
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	for {
		_, err := l.call(ctx, until, row, func(ctx context.Context, row Row) (Row, error) { return row, l.c.s.Table.Release(ctx, row) })
		switch {
		case err == nil:
			return nil
		case errors.Is(err, ErrMoved):
			return nil // somebody else's, or an answer that did not arrive
		}
		select {
		case <-time.After(l.c.retry()):
		case <-ctx.Done():
			return fmt.Errorf("release the lease of %s in %s, which others take %s later now: %w", l.shard.ID, l.c.s.Table, l.c.s.Failover, err)
		}
	}
}

// retry is how long to wait before the table is asked again.
func (c *Coordinator) retry() time.Duration {
	return c.s.Failover/20 + rand.N(c.s.Failover/40+1)
}

// renewals renews what is held until ctx ends. A renewal that fails is tried again many times
// before the fail-over time is over, so a table that does not answer for a while costs nothing.
func (c *Coordinator) renewals(ctx context.Context) {
	tick := time.NewTicker(max(c.s.Failover/20, time.Millisecond))
	defer tick.Stop()
	var all sync.WaitGroup
	defer all.Wait()
	slots := make(chan struct{}, writers)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, l := range c.holding() {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return
			}
			if !l.due() {
				<-slots
				continue
			}
			all.Go(func() {
				defer func() { <-slots }()
				l.renew(ctx)
			})
		}
	}
}

// due reports whether the row is to be renewed now, and ends a holding whose time is over.
func (l *Lease) due() bool {
	l.mu.Lock()
	now := time.Now()
	over, due := !now.Before(l.renewed.Add(l.c.s.Failover)), !now.Before(l.next)
	if due {
		l.next = now.Add(l.c.s.Failover) // until this renewal has ended
	}
	l.mu.Unlock()
	if over {
		l.drop("the table was out of reach for the fail-over time")
		return false
	}
	return due
}

func (l *Lease) renew(ctx context.Context) {
	err := l.write(ctx, l.c.s.Table.Renew)
	if err == nil || errors.Is(err, ErrLost) || ctx.Err() != nil {
		return
	}
	l.c.s.Log.Debug("cannot renew the lease of a shard, trying again", "shard", l.shard.ID, meter.KeyError, err)
	l.mu.Lock()
	l.next = time.Now().Add(l.c.retry())
	l.mu.Unlock()
}
