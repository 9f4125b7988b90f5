package lease

import (
	"context"
	"errors"
)

// Row is what a table says of one shard.
type Row struct {
	Shard string
	// Owner is the worker that holds the shard, empty when nobody does.
	Owner string
	// Counter is raised by everything an owner writes.
	Counter int64
	// Position is what is done, or where to start. It is none only in tables that keep no
	// sentinels: the shard starts where the settings say, or at its beginning below a parent.
	Position Position
	// Unread says, in such tables, that the shard has ended and no position was ever saved in it.
	Unread bool
	// Parents and Range are as in [Shard], where the table keeps them.
	Parents []string
	Range   HashRange
	// Children are the shards that follow, once this one has ended.
	Children []string
	// Switches is how often the owner changed since the last position.
	Switches int64
	// HandedFrom is the worker that still works on the shard while a leader of the Kinesis Client
	// Library 3.x hands it to Owner.
	HandedFrom string
}

// Ended reports whether the shard has been read to its end.
func (r Row) Ended() bool { return r.Position == End }

// take is the row with another owner, but for its counter.
func (r *Row) take(worker string) {
	if r.Owner != "" && r.Owner != worker {
		r.Switches++
	}
	r.Owner = worker
}

// save is the row with another position, but for its counter.
func (r *Row) save(p Position, children []string) {
	r.Position, r.Switches = p, 0
	r.describe(children, HashRange{})
}

func (r *Row) describe(children []string, keys HashRange) {
	if len(children) > 0 {
		r.Children = children
	}
	if keys.known() {
		r.Range = keys
	}
}

// Broken is a row that cannot be understood. Its shard cannot be read until somebody mends it.
type Broken struct {
	Shard string
	Err   error
}

// Rows is a table's content.
type Rows struct {
	Rows   []Row
	Broken []Broken
}

var (
	// ErrMoved says that a row is not as it was: somebody else holds the shard.
	ErrMoved = errors.New("the lease has another owner or was changed meanwhile")
	// ErrLost says that a holding has ended. What was read under it and is not done yet is read
	// again by whoever holds the shard next.
	ErrLost = errors.New("the lease of the shard is lost")
	// errNoRow says that a shard has no row.
	errNoRow = errors.New("the shard has no lease")
)

// Table keeps a row for each shard. Every change is durable when it returns nil, names only what
// it changes, and is made only when the row is as the caller last saw it: otherwise it is
// [ErrMoved]. After any other error it may have been made or not. All methods may be called at
// once.
type Table interface {
	// String names the table for people: `DynamoDB table "app"`.
	String() string
	// SubSequences says whether the table keeps [Position.Sub]. Where it does not, a position is
	// the whole record.
	SubSequences() bool
	// Open makes what is missing, waits until it can be used, and refuses what it is not made for.
	Open(ctx context.Context) error
	// Watch is called with what every look at the table has found, before anything is decided. Its
	// error ends the coordinator, [errNotYet] lets it take nothing until the next look.
	Watch(ctx context.Context, rows Rows) error
	// Scan reads all rows; those written before it was called are in it when latest is true, and
	// may be missing or older otherwise.
	Scan(ctx context.Context, latest bool) (Rows, error)
	// Get reads the latest row of one shard, or is errNoRow.
	Get(ctx context.Context, shard string) (Row, error)
	// Create adds a row without an owner, unless the shard has one.
	Create(ctx context.Context, row Row) error
	// Take makes worker the owner of a row that is as seen.
	Take(ctx context.Context, seen Row, worker string) (Row, error)
	// Renew raises the counter of a row that the caller holds.
	Renew(ctx context.Context, held Row) (Row, error)
	// Save renews a row with a new position, and children where there are some.
	Save(ctx context.Context, held Row, p Position, children []string) (Row, error)
	// Release takes the owner from a row.
	Release(ctx context.Context, held Row) error
	// Describe adds what the stream says of a shard to its row, and nothing else.
	Describe(ctx context.Context, shard string, children []string, r HashRange) error
	// Delete removes the row of a shard that has ended. Tables that keep such rows do nothing.
	Delete(ctx context.Context, row Row) error
}

// errNotYet is for [Table.Watch]: others still work with the table in a way that ours cannot share.
var errNotYet = errors.New("not yet")
