package lease

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
)

// Settings are what a [Coordinator] is made of.
type Settings struct {
	Table  Table
	Stream Stream
	// Name is part of the name under which this instance is an owner in the table; the rest is
	// drawn anew by each New, so that no two live workers have one name.
	Name  string
	Start Start
	// Failover is how long a holder may be out of reach of the table before its shards go to
	// others; 0 means 5 s.
	Failover time.Duration
	// ForeignFailover is the same for workers that are not ours and renew in longer intervals; 0
	// means 10 s, three intervals of the Kinesis Client Library's defaults. Where they are seen to
	// renew less often it is three times that.
	ForeignFailover time.Duration
	// Scan is how often the table is looked at; 0 means 2 s. It is longer for many leases and
	// workers.
	Scan time.Duration
	// Sync is how often the stream is asked for its shards; 0 means 60 s.
	Sync time.Duration
	// Max is the most shards this instance holds; 0 is no limit.
	Max int
	Log *slog.Logger
}

// The defaults of Settings.
const (
	DefaultFailover        = 5 * time.Second
	DefaultForeignFailover = 10 * time.Second
	DefaultScan            = 2 * time.Second
	DefaultSync            = time.Minute
)

// scanBudget is how many rows all workers together read in a second, about: 100 read units of
// DynamoDB, of which a row takes a sixteenth.
const scanBudget = 1600

// Coordinator holds this instance's share of the shards. Its methods may be called at once.
type Coordinator struct {
	s    Settings
	me   string
	kick chan struct{} // a look at the table is due

	mu       sync.Mutex
	opened   bool
	draining bool
	failed   error // why it has ended
	held     map[string]*Lease
	ready    []*Lease      // held, to be returned by Next
	changed  chan struct{} // closed when ready, failed or draining change
	resting  map[string]time.Time
	trouble  error // of the last look at the table
	reached  time.Time

	stop context.CancelFunc
	busy sync.WaitGroup
}

// New returns a coordinator, or says what is wrong with the settings. It touches no network.
func New(s Settings) (*Coordinator, error) {
	s.Failover = cmp.Or(s.Failover, DefaultFailover)
	s.ForeignFailover = cmp.Or(s.ForeignFailover, DefaultForeignFailover)
	s.Scan = cmp.Or(s.Scan, DefaultScan)
	s.Sync = cmp.Or(s.Sync, DefaultSync)
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	switch {
	case s.Table == nil || s.Stream == nil:
		return nil, errors.New("leases need a table and a stream")
	case s.Start.Position != TrimHorizon && s.Start.Position != Latest && s.Start.Position != AtTimestamp:
		return nil, fmt.Errorf("shards cannot start at %s: the starts are TRIM_HORIZON, LATEST and AT_TIMESTAMP", s.Start.Position)
	case s.Start.Position == AtTimestamp && s.Start.Time.IsZero():
		return nil, errors.New("shards that start at a time need the time")
	case s.Failover < 0 || s.ForeignFailover < 0 || s.Scan < 0 || s.Sync < 0 || s.Max < 0:
		return nil, errors.New("the times of leases and the most shards of an instance cannot be below zero")
	}
	id := make([]byte, 8)
	_, _ = rand.Read(id)
	return &Coordinator{
		s: s, me: ownerMark + s.Name + "/" + hex.EncodeToString(id), kick: make(chan struct{}, 1),
		held: map[string]*Lease{}, changed: make(chan struct{}), resting: map[string]time.Time{},
	}, nil
}

// Open makes the table where it is missing and begins to take leases. A coordinator is opened
// once; after Close another is made.
func (c *Coordinator) Open(ctx context.Context) error {
	c.mu.Lock()
	refused := c.opened || c.failed != nil
	c.opened = true
	c.mu.Unlock()
	if refused {
		return errors.New("a coordinator of leases is opened once")
	}
	if err := c.s.Table.Open(ctx); err != nil {
		return fmt.Errorf("open %s: %w", c.s.Table, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed != nil {
		return c.failed
	}
	c.reached = time.Now()
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	c.stop = stop
	c.busy.Go(func() { c.rounds(life) })
	c.busy.Go(func() { c.renewals(life) })
	return nil
}

// ErrClosed says that the coordinator was closed.
var ErrClosed = errors.New("the coordinator of leases is closed")

// Next waits for the next shard to read: one that this instance has come to hold and whose parents
// have ended. Its error is that of ctx, or the reason why the coordinator can go on no longer; then
// all leases are lost.
func (c *Coordinator) Next(ctx context.Context) (*Lease, error) {
	for {
		c.mu.Lock()
		err, changed := c.failed, c.changed
		for err == nil && !c.draining && len(c.ready) > 0 {
			l := c.ready[0]
			c.ready = c.ready[1:]
			if l.Held() {
				l.given = true
				c.mu.Unlock()
				return l, nil
			}
		}
		c.mu.Unlock()
		if err != nil {
			return nil, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Drain stops the coordinator from taking more. What Next has returned is renewed until it is
// released, finished or lost; the rest is released.
func (c *Coordinator) Drain() {
	c.mu.Lock()
	c.draining = true
	c.ready = nil
	c.notify()
	c.mu.Unlock()
	c.hurry()
}

// notify wakes Next; mu is held.
func (c *Coordinator) notify() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// hurry has the table looked at soon.
func (c *Coordinator) hurry() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// fail ends the coordinator: nothing is renewed or taken any more.
func (c *Coordinator) fail(err error) {
	c.mu.Lock()
	if c.failed == nil {
		c.failed = err
		c.notify()
	}
	c.mu.Unlock()
	for _, l := range c.holding() {
		l.end()
	}
}

// Close releases everything that is held, within ctx, and ends. It is safe twice.
func (c *Coordinator) Close(ctx context.Context) error {
	c.mu.Lock()
	stop := c.stop
	c.stop = nil
	if c.failed == nil {
		c.failed = ErrClosed
		c.notify()
	}
	c.mu.Unlock()
	if stop == nil {
		return nil
	}
	stop()
	c.busy.Wait()
	return c.release(ctx, c.holding())
}

// release gives leases back, many at once.
func (c *Coordinator) release(ctx context.Context, leases []*Lease) error {
	var mu sync.Mutex
	var errs []error
	var all sync.WaitGroup
	slots := make(chan struct{}, writers)
	for _, l := range leases {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			if err := l.Release(ctx); err != nil && !errors.Is(err, ErrLost) {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if len(errs) > 3 {
		errs = append(errs[:3], fmt.Errorf("and %d more", len(errs)-3))
	}
	return errors.Join(errs...)
}

// Worker is the name under which this instance is an owner in the table.
func (c *Coordinator) Worker() string { return c.me }

// SubSequences says whether positions within a record that holds several are kept. If not, Save
// only what is the end of a record.
func (c *Coordinator) SubSequences() bool { return c.s.Table.SubSequences() }

// Trouble is why the table could not be looked at for longer than the fail-over time; nil when it
// can.
func (c *Coordinator) Trouble() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.trouble != nil && time.Since(c.reached) > c.s.Failover {
		return c.trouble
	}
	return nil
}

// Held is the shards that this instance holds, those included that wait for their parents.
func (c *Coordinator) Held() []string {
	var ids []string
	for _, l := range c.holding() {
		ids = append(ids, l.shard.ID)
	}
	return ids
}

// holding is what is held, by name.
func (c *Coordinator) holding() []*Lease {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]*Lease, 0, len(c.held))
	for _, l := range c.held {
		list = append(list, l)
	}
	slices.SortFunc(list, func(a, b *Lease) int { return cmp.Compare(a.shard.ID, b.shard.ID) })
	return list
}

// hold notes that row was taken by a call that began then. It is nil when nothing more is to be
// held.
func (c *Coordinator) hold(row Row, s Shard, began time.Time) *Lease {
	l := newLease(c, row, s, began)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed != nil && !errors.Is(c.failed, ErrClosed) {
		return nil
	}
	c.held[row.Shard] = l
	return l
}

// offer hands a lease to Next.
func (c *Coordinator) offer(l *Lease) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed == nil && !c.draining {
		c.ready = append(c.ready, l)
		c.notify()
	}
}

// forget is told of a lease that has ended; rest keeps this instance from taking it at once.
func (c *Coordinator) forget(l *Lease, rest time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held[l.shard.ID] == l {
		delete(c.held, l.shard.ID)
	}
	c.ready = slices.DeleteFunc(c.ready, func(r *Lease) bool { return r == l })
	if rest > 0 {
		c.resting[l.shard.ID] = time.Now().Add(rest)
	}
}

// looked notes how a look at the table went.
func (c *Coordinator) looked(err error) {
	c.mu.Lock()
	first := err != nil && c.trouble == nil
	c.trouble = err
	if err == nil {
		c.reached = time.Now()
	}
	long := time.Since(c.reached)
	c.mu.Unlock()
	switch {
	case err == nil:
	case fault.Of(err) == fault.Setup && long > c.s.Failover:
		c.fail(err)
	case first:
		c.s.Log.Warn("cannot look at the leases, trying again", meter.KeyError, err)
	}
}
