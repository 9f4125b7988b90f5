// Package postgres is a queue store in a PostgreSQL database, shared by any number of
// processes.
//
// # Log
//
// Lanes are spread over a fixed number of partitions. A partition is a log: rows numbered
// by pos, without gaps. A row is a value (the jobs of one lane that were appended
// together, numbered by seq within the lane) or a change (what results did). The log lives
// in segments, tables named log_<number>; only the current one is written. Beside the log
// there are the side table (jobs that failed, wait for a time, or are dead), the
// key-value records, and one checkpoint row for each lane.
//
// The hot path inserts log rows and does nothing else: no row is updated or deleted for
// the sake of a job. The end of a log is found from its index, not from a counter. So a
// transaction elsewhere that is open for hours, which keeps dead rows from being removed,
// costs nothing; and a segment whose values are all settled is dropped whole. A segment
// that is kept for a few values of a lane that does not move is compacted.
//
// # Commit
//
// Updates that come together share a transaction, which is one call of the function
// commit_<segment> with all of its data as arguments, so that no lock is held while a
// client is still sending. It takes the advisory locks of the partitions it writes to, in
// order, then numbers its rows. The lock is held until the commit is visible, and the
// numbers come from a snapshot taken under it: who reads the log up to a position has
// seen everything before it, so no row is ever skipped because it became visible late.
// An Update that cannot be committed (a record changed, a lease was lost) is taken out,
// and the others go on.
//
// A connection that breaks in a commit leaves its outcome open. Each commit writes a row
// with a number of its own in the table commits_<n>; the process writes the same row after
// it has connected again. Whoever is first decides, and Update answers accordingly.
//
// # Ownership
//
// A partition has one owner, who alone leases its jobs and settles them, from memory
// (package partition); any process appends to it. Processes send heartbeats and share the
// partitions out evenly. Taking over raises the partition's epoch under its lock; a commit
// of results names the epoch it was leased under and is refused when it is another. A
// process that was stopped or cut off can therefore never settle what another has taken
// over. The new owner reads the checkpoint and the log after it.
//
// # Wake-ups
//
// Who appends to a partition of another process sends a NOTIFY, outside of the commit and
// many at once; owners also poll. Nothing depends on a notification.
//
// # Invariants
//
//  1. Rows of a partition are written only under its advisory lock, and their pos and seq
//     follow without gaps.
//  2. The memory of an owner is what its log says up to the position it has seen, applied
//     in order of position.
//  3. A change of leased jobs is committed only while the epoch of its partition is that
//     of the lease.
//  4. A segment is dropped or compacted only when every row that goes is below the
//     checkpoint of its partition, and every value that goes below First of its lane.
//  5. Update returns nil when the server has committed, and an error when it has not. The
//     one exception is said in the error: the store was closed, or cut off for longer than
//     two turns of the ring of commits (20 minutes), before the server could be asked.
package postgres
