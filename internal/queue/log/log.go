// Package log is the contract of the log under a queue store: a sequence of numbered
// entries that is appended to in groups, read by position, and given back from the front
// or in the middle, a segment at a time. What an entry means is the affair of queue/rows,
// which keeps its index beside any log; queue/log/disk is the log in files of this
// machine, and queue/log/logtest the definition of the promises below as tests.
//
// # Words
//
// An entry is a head and data. The head is small and always read whole; the data is made
// of pieces that are also read alone, by position. Entries are numbered 1, 2, 3 ...
// without gaps. A segment is what the log stores and gives back as one: a file, a table, a
// range of a topic. Segments have growing numbers that are never used again, and each
// holds whole entries, that follow each other.
//
// # Promises
//
//  1. What Append returned nil for survives kill -9 and power loss: Replay visits it, in
//     order, unchanged, until its segment is trimmed.
//  2. What Append returned another error for than ErrBroken is never visited, nor read,
//     by anyone. After ErrBroken a group may be there, and then in a prefix of its
//     entries; the log takes nothing more until it is opened again.
//  3. Of what was under way when the process or the machine ended, Replay visits a prefix
//     of the entries, each of them whole.
//  4. What is not what was appended is refused with queue.ErrCorrupt, never skipped and
//     never taken for the end of the log: an entry that was acknowledged and is missing
//     or damaged, a segment that is missing in between. Heads are verified by the log;
//     the checksums of data are in the heads, because it is read alone, and whoever visits
//     an entry verifies them.
//  5. One opening appends at a time. Once Replay of a later opening has returned, nothing
//     that an earlier one appends is ever acknowledged or visited, and its Epoch is lower.
package log

import (
	"context"
	"errors"
	"fmt"
)

// MaxPart is the most bytes of a head, and of the data of an entry.
const MaxPart = 1 << 30

// Position is a place in a log. Offset 0 is the start of a segment, in front of its first
// entry. The bytes of one entry's data have offsets that follow each other, and entries
// have growing ones. Who reads data of several entries whose offsets lie close may read
// what is between them along, which means nothing: a log where a read of several costs
// more than several reads keeps the offsets of its entries far apart.
type Position struct {
	Segment uint64
	Offset  int64
}

// Before reports whether p comes before other.
func (p Position) Before(other Position) bool {
	if p.Segment != other.Segment {
		return p.Segment < other.Segment
	}
	return p.Offset < other.Offset
}

// Entry is one entry. Who appends gives Head and Data, and is given the rest. Who is
// visited finds the data in one piece, and may keep it.
type Entry struct {
	Number uint64
	Head   []byte
	Data   [][]byte
	At     Position // where the first byte of the data is
	End    Position // where the entry ends, and the next begins unless a segment does
}

// Segment is what the log stores and gives back as one.
type Segment struct {
	Number uint64
	First  uint64 // its first entry
	Size   int64  // offset at which what is there of it ends, as far as that is known
}

// Visit is called for one entry after the other. It verifies the data and answers
// Unreadable when it is not what was appended.
type Visit func(*Entry) error

// Unreadable says that no whole entry stands at a place. Whether that is the end of the
// log or damage, what stands around it decides.
type Unreadable struct{ What string }

// Error implements error.
func (u Unreadable) Error() string { return u.What }

// Log is an open log. Replay comes first and once; after it Append is called by one
// goroutine at a time, and the other methods by any number.
type Log interface {
	// Identity tells this log from any other that could be found in its place, so that an
	// index is never used with a log it was not made from; empty when index and log cannot
	// be parted.
	Identity() string
	// Epoch is higher than that of every opening before.
	Epoch() uint32
	// Segments are those that are there, in order; the last one is written to.
	Segments() []Segment
	// Replay visits every entry after number last, which ends at from, to the end of the
	// log, and makes the log ready to be appended to. The zero position is the start of the
	// log. An error of visit ends it, but for Unreadable: see promises 3 and 4.
	Replay(ctx context.Context, from Position, last uint64, visit Visit) error
	// Append makes a group durable, at once and in its order, and sets number and places of
	// its entries. It keeps nothing of them. Whatever it takes, it waits for the outcome.
	Append(group []*Entry) error
	// ReadAt fills b with data from a position on. ErrTrimmed when its segment is gone.
	ReadAt(ctx context.Context, b []byte, at Position) error
	// Scan visits the entries between two positions of one segment, each the start of the
	// segment or the end of an entry. An entry that is not whole is ErrCorrupt, and ends it.
	Scan(ctx context.Context, from, to Position, visit Visit) error
	// Trim gives back segments, of which nothing is needed any more: neither to be read nor,
	// as everything up to the entry through is durable elsewhere, to be replayed. The last
	// segment is never among them. A log that can only be cut at its front may keep some
	// until those before are trimmed as well.
	Trim(ctx context.Context, through uint64, segments ...uint64) error
	// Sync is called several times a second, and does what the log puts off for the sake of
	// Append. An error means what ErrBroken does.
	Sync() error
	// Size is the number of bytes that the log takes.
	Size() int64
	// Close ends the log; it is safe twice. What was appended stays.
	Close() error
}

// Errors of a log, beside those of package queue. Test with errors.Is.
var (
	// ErrBroken: what of the log is durable is not known, or another opening has taken
	// over. It must be opened again.
	ErrBroken = errors.New("the log must be opened again")
	// ErrTrimmed: the segment was given back.
	ErrTrimmed = errors.New("the segment of the log was given back")
)

// Lost is what a log that is opened to be salvaged has passed over, where it would
// otherwise be refused.
type Lost struct {
	// Entries that are known to be missing.
	Entries int64
	// Bytes that are no entry and were passed over.
	Bytes int64
	// Segments that are missing or whose start is damaged.
	Segments int64
	// EndUnknown says that nobody knows whether entries are missing at the end.
	EndUnknown bool
}

// TooLarge is the error of an entry that no log takes.
func TooLarge() error { return fmt.Errorf("one transaction has more than %d bytes: split it", MaxPart) }
