package connector

import (
	"context"

	"github.com/weirdata/weir/internal/event"
)

// Range is a part of a partition of a stream: what lies between two positions, with both.
type Range struct {
	Stream, Partition string
	First, Last       Position
}

// Position is where a message lies in its partition, as its [event.Origin] says: Bytes in the
// stream's order, and Sub within what is read as one.
type Position struct {
	Bytes []byte
	Sub   uint64
}

// Seeker is a source whose messages have positions (rule 9) and that can read a part of its
// stream once more (rule 11).
type Seeker interface {
	// Seek returns the messages of r again, from Open to Close and beside Read: the same
	// messages with the same bytes, keys, headers and positions in the same order, however
	// often it is called, and nothing that is not of r. It moves neither what Read returns nor
	// what is acknowledged. What the stream does not hold any more is an error of Read of the
	// result that says so, and never less than r in silence.
	Seek(ctx context.Context, r Range) (Replay, error)
}

// Replay reads one range. It is used by one goroutine at a time; several may be open at once.
type Replay interface {
	// Read returns the next messages within the room (rule 8), and io.EOF after the last, from
	// then on. An error that says that the range is not there any more is Invalid: no further
	// attempt will find it.
	Read(ctx context.Context, room Room) (event.Batch, error)
	// Close is safe twice, and after the source's.
	Close() error
}
