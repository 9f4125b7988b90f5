package lease

import (
	"context"
	"errors"
	"log/slog"
	"time"
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
	// means 10 s, three intervals of the Kinesis Client Library's defaults.
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

// Coordinator holds this instance's share of the shards.
type Coordinator struct{ s Settings }

// New returns a coordinator, or says what is wrong with the settings. It touches no network.
func New(s Settings) (*Coordinator, error) { return &Coordinator{s: s}, nil }

var errUnfinished = errors.New("leases cannot be taken yet")

// Open makes the table where it is missing and begins to take leases. A coordinator is opened
// once; after Close another is made.
func (c *Coordinator) Open(context.Context) error { return errUnfinished }

// Next waits for the next shard to read: one that this instance has come to hold and whose parents
// have ended. Its error is that of ctx, or the reason why the coordinator can go on no longer; then
// all leases are lost.
func (c *Coordinator) Next(context.Context) (*Lease, error) { return nil, errUnfinished }

// Drain stops the coordinator from taking more; what is held is renewed until Close.
func (c *Coordinator) Drain() {}

// Close releases everything that is held, within ctx, and ends. It is safe twice.
func (c *Coordinator) Close(context.Context) error { return nil }

// Worker is the name under which this instance is an owner in the table.
func (c *Coordinator) Worker() string { return "" }

// SubSequences says whether positions within a record that holds several are kept. If not, Save
// only what is the end of a record.
func (c *Coordinator) SubSequences() bool { return c.s.Table.SubSequences() }

// Lease is one holding of one shard, from its taking to its loss. Its methods may be called at
// once.
type Lease struct{}

// Shard is the shard that is held; Parents and Range as far as they are known.
func (l *Lease) Shard() Shard { return Shard{} }

// Position is what is done: read on after it, or from where the sentinel says. AT_TIMESTAMP means
// the time of [Start].
func (l *Lease) Position() Position { return Position{} }

// Lost is closed when the holding has ended: taken by another, out of reach for the fail-over
// time, finished or released.
func (l *Lease) Lost() <-chan struct{} { return nil }

// Held reports, by the clock, whether the shard is still held. Ask before anything is handed on
// that was waited for: a process that was stopped finds out here, before Lost is closed.
func (l *Lease) Held() bool { return false }

// Save writes that everything up to p is done, which is for the caller to be sure of. One that
// is not behind the last is done already. It is [ErrLost] when the shard is not held any more; any
// other error leaves the lease as it is, and a later Save may succeed.
func (l *Lease) Save(context.Context, Position) error { return ErrLost }

// Finish writes that the shard has been read to its end and that everything of it is done, after
// the rows of its children, which it makes. Without children it looks at the stream's list for
// them. The lease ends with it.
func (l *Lease) Finish(context.Context, []Shard) error { return ErrLost }

// Release gives the shard back, for others to take at once, and for this instance only when
// nobody has done so for the fail-over time.
func (l *Lease) Release(context.Context) error { return nil }
