// Package partition is the logic that both queue backends share: leases, order per key,
// times of next attempts, filters, wake-ups and counters, for one partition of a store.
//
// # Ownership
//
// A partition is a set of lanes with one owner at a time: the embedded store owns its
// only partition; with PostgreSQL a process owns a partition through a fenced lease row.
// A [Partition] is the owner's memory of it, made from storage when ownership begins
// ([New], [Partition.Restore], [Partition.Replay]) and thrown away when it ends. Any
// process may append to any partition; only the owner leases and settles.
//
// # What storage keeps
//
//	log    values: the appended batches of a lane, numbered 1, 2, 3 ... without gaps
//	done   which jobs of a value have left the log; everything below Lane.First has
//	side   jobs that left the log unfinished, one row each: Retry, Parked or Dead,
//	       with the record of the job stored once, whatever the row's state becomes
//
// The hot path appends values and marks them done. A job enters the side table when it
// failed (Retry or Dead), when a scan met it before its time (Retry), or when it is
// withheld by its key and would hold up the window (Parked).
//
// # Transactions
//
// A backend's Update collects with a [Tx], hands the results of each partition to
// [Partition.Begin], writes appends, records and the [Change] in one durable commit, and
// calls [Partition.End] with the outcome. Changes are deltas: a backend may keep them as
// a log and replay them over an older snapshot ([Partition.State]). Begin may run for
// several transactions at once; End must be called in the order of the commits that
// touch the same lane. Of one job there is only ever one Change under way.
//
// # Memory
//
// Kept per lane: numbers, and a window of the values that are partly settled: a bit, a
// lease token and a key hash for each of their jobs. Nothing is kept for a job that was
// not scanned yet, nor for one in the side table that is not leased. Beside that there are
// caches with limits: the records of withheld jobs, and values that were handed out in part.
//
// What a Lease hands out holds about as much memory as its jobs take: their payloads are
// part of the values as they were read where those are handed out for the most part, and
// are copied otherwise.
package partition

import (
	"context"
	"log/slog"
	"time"

	"github.com/weirdata/weir/internal/queue"
)

// SideState is where a job outside of the log stands.
type SideState uint8

// The states of a side row.
const (
	Gone   SideState = iota // in a Change: the row and its record are removed
	Retry                   // handed out when Due has come; in the due index
	Parked                  // withheld by an earlier job of its key; not in the due index
	Dead                    // kept until requeued or dropped
)

// Side is a job outside of the log.
type Side struct {
	ID      queue.ID
	State   SideState
	Due     int64  // unix ns: earliest next attempt, below 0 by the steady clock; for Dead the time of death
	Hash    uint64 // of the ordering key, 0 without
	Attempt int
	Cause   string
	At      int64 // unix ns: when the job was appended
	Size    int   // bytes of its record
	// Record is the encoded job. In a Change it is set exactly when the job comes out of
	// the log: the row is new. Otherwise the stored record stays as it is.
	Record []byte
	// Was is what the row was before, in a Change whose Record is nil; WasDue its Due.
	Was        SideState
	WasDue     int64
	WasAttempt int
}

// Open reports whether the job of the row is neither done nor dead.
func (s *Side) Open() bool { return s.State == Retry || s.State == Parked }

// Value is one appended batch of a lane, at rest.
type Value struct {
	Seq  uint64
	Data []byte // never modified; queue.OpenValue reads it
	In   []byte // the memory that Data is part of, with other values; nil when it has its own
}

// DueKey is a place in the due index of a lane, which is ordered by due time, then ID.
type DueKey struct {
	Due   int64
	Seq   uint64
	Index uint32
}

// Storage is what a Partition needs of its backend. Reads must see every commit whose
// End has been called. The methods are called without locks held, by many goroutines.
type Storage interface {
	// Values returns values of a lane from seq on, in order, without gaps, below the
	// tail the Partition was told of: at least that of seq, more while their sizes sum up
	// to no more than bytes. Values of which every job has left may be gone: the
	// Partition does not ask for them, and one of them may end what is returned.
	Values(ctx context.Context, lane, seq uint64, bytes int) ([]Value, error)
	// Part returns size bytes of a value from byte from on, in memory of their own. They
	// may be unverified: the Partition knows a checksum of them.
	Part(ctx context.Context, lane, seq uint64, from, size int) ([]byte, error)
	// Due returns Retry rows with from < key and Due <= until, in order of key, at most
	// limit, and more than one only while their records sum up to no more than bytes; and
	// the Due of the first row after those returned (0 when there is none, and then the
	// rows are complete).
	Due(ctx context.Context, lane uint64, from DueKey, until int64, limit, bytes int) ([]Side, int64, error)
	// Heads returns for each hash the open side row of that key with the lowest ID, or a
	// zero Side. Records are not needed.
	Heads(ctx context.Context, lane uint64, hashes []uint64) ([]Side, error)
	// Sweep returns the heads, as Heads does, of the keys with a hash greater than after,
	// in order of hash, at most limit.
	Sweep(ctx context.Context, lane, after uint64, limit int) ([]Side, error)
	// Move makes a Change durable that the Partition makes of its own accord, in one
	// commit, and calls End with the outcome before it returns.
	Move(ctx context.Context, c *Change) error
}

// Lane is what storage knows of a lane when ownership begins, and what State answers.
type Lane struct {
	ID    uint64
	Queue string
	Scope queue.Scope
	First uint64 // every value below First is settled and may be removed; at least 1
	Tail  uint64 // the next value gets this number; at least First
	Jobs  int64  // open jobs in the log
	Bytes int64  // size of the values from First on that are not settled, and of open side records
	// Retry, Parked and Dead count the side rows; Retried those Retry rows with an Attempt.
	Retry, Parked, Dead, Retried int64
	// Partly are the values from First on of which some jobs have left the log.
	Partly []Partly
}

// Partly is a value of which some jobs, or all, have left the log.
type Partly struct {
	Seq   uint64
	Count int
	Size  int
	Bits  []uint64 // bit i is set when job i has left; nil means all have
}

// Left says which jobs of one value leave the log.
type Left struct {
	Lane  uint64
	Seq   uint64
	Count int      // jobs in the value
	Size  int      // bytes of the value
	Index []uint32 // nil means every job of the value
}

// Change is what one transaction changes in one partition, beside appends. It is a
// delta, self-contained, with a stable encoding ([Change.Encode]).
type Change struct {
	Left []Left
	Side []Side

	ends []end // what End does to the owner's memory beside applying the delta
}

// Empty reports whether c changes nothing.
func (c *Change) Empty() bool { return c == nil || len(c.Left) == 0 && len(c.Side) == 0 }

// Config is what a Partition is made with.
type Config struct {
	Storage Storage
	// Log gets what goes wrong outside of any caller's request; nil discards it.
	Log *slog.Logger
	// Epoch makes lease tokens differ from those of an earlier owner: it must grow with
	// each change of owner.
	Epoch uint32
	// Window is the most jobs of a lane that may be scanned and not settled; 0 means 262144.
	Window int
	// KeptBytes is the most memory for the records of withheld jobs; 0 means 16 MiB.
	KeptBytes int
	// OpenBytes is the most memory for values that were read and not handed out whole; 0
	// means 16 MiB.
	OpenBytes int
	// Now is the wall clock, by which times come that somebody has named; nil means time.Now.
	Now func() time.Time
	// Steady is a clock that goes on evenly when the wall clock is set, in ns above 0: leases
	// end by it. Nil means that Now is never set.
	Steady func() int64
	// Lasting says that Steady goes on where it was when ownership begins anew: waits for a
	// next attempt end by it too, and not by the wall clock.
	Lasting bool
	// Hub carries wake-ups; several partitions of one store share it.
	Hub *Hub
}

// The life of a Partition, as a backend drives it:
//
//	p := New(cfg)
//	p.Restore(lanes)                what the snapshot holds
//	p.Appended(...), p.Replay(c)    what was committed after the snapshot, in order
//	p.Start()                       from now on it hands out work
//	c, err := p.Begin(ctx, results) ... commit ... p.End(c, err == nil)
//	p.Appended(...)                 after each durable append; for PostgreSQL also
//	                                what other processes have appended
//	p.Close()                       ownership ends: every lease is lost
//
// Lease, Renew, Active and Stats answer for this partition alone; a backend that owns
// several asks each.
