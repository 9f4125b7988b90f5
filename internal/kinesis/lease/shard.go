package lease

import (
	"context"
	"time"
)

// Shard is what the stream says of one of its shards.
type Shard struct {
	ID string
	// Parents are the shards it came from: none, one after a split, two after a merge. Those that
	// the stream does not list any more may be among them.
	Parents []string
	Range   HashRange
	// First is the sequence number the shard starts with; empty when it is not known.
	First string
	// Closed says that the shard takes no more records: it was split or merged.
	Closed bool
}

// HashRange is the part of the hash keys, 0 to 2^128-1, that a shard takes: two decimal numbers,
// both within. The zero HashRange is not known.
type HashRange struct{ From, To string }

func (r HashRange) known() bool { return decimal(r.From) && decimal(r.To) }

// Stream is asked for the shards that there are.
type Stream interface {
	// Shards lists all shards, open and closed, and of a listing in pages all pages. With a time
	// that is not zero it may leave out those that had been closed before (the filter
	// AT_TIMESTAMP of ListShards).
	Shards(ctx context.Context, at time.Time) ([]Shard, error)
}

// Start is where shards of which the table says nothing begin.
type Start struct {
	// Position is one of [TrimHorizon], [Latest] and [AtTimestamp].
	Position Position
	// Time belongs to AtTimestamp.
	Time time.Time
}
