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
// A queue has one owner in each partition, who alone leases its jobs there and settles them,
// from memory (package partition); any process appends. Only those own something that lease
// from the queue: they say so with their heartbeats, and share its partitions out evenly. One
// that leases from nothing, such as a gateway or a command, sends none. Which queues of a
// partition are whose is in the table of shares.
//
// Whoever takes something of a partition raises its epoch under its lock; a commit of results
// names an epoch, and is refused when it is another. The process reads the shares again then:
// when all that it has is still its own it commits under the new epoch, and otherwise gives
// its memory of the partition up. One that was stopped or cut off can therefore never settle
// what another has taken over. While a memory lives it gains queues and loses none: who gives
// one up reads the others anew.
//
// One of those who own something of a partition keeps it: it is in the column owner, and
// writes the checkpoint of all lanes. The others follow the log too, so any of them can keep
// it next. A new owner reads the checkpoint and the log after it. Of a partition that nobody
// keeps, whoever wants to count its jobs makes a memory that owns nothing.
//
// Processes of before there were shares own the queues of a partition together, and raise its
// epoch without writing shares, which makes those of before void.
//
// # Histories
//
// A database becomes another one when a standby that lagged behind is promoted, or a backup is
// restored: its log ends earlier than was seen. Every session says of which history it is, by
// the system identifier, the timeline and the place of the table meta on disk; all that is
// remembered is of one history, and is used over sessions of it only. A session that finds
// another has all of it forgotten first. A process asks again with every new session, over one
// that is there every time it polls, and over a new one every lease; and each commit is refused
// when the table is another, as a restore in place breaks no session.
//
// A checkpoint is written only over one of the same memory. One that is not of its log all the
// same, as processes of earlier versions wrote it, is replaced by what the log says.
//
// # Wake-ups
//
// Who appends to a partition of another process sends a NOTIFY, outside of the commit and
// many at once; owners also poll. Nothing depends on a notification.
//
// # Away
//
// The connection for notifications asks every second whether the database answers, and when it
// breaks it is made again: so a process knows that the database is away, since when and why, and
// hears within two seconds that it is back (link). A network that loses everything is noticed sooner,
// for the sake of those who can be told to come back: the database is silent when something waits
// for an answer and no byte has come for about a second, on any connection (silence). While it is
// away or silent, updates that only bring something new are refused at once, with queue.ErrAway,
// since whoever brings it still has it; those that settle something, and reads, wait for as long as
// a call may. When it is back, what was begun before ends, whatever it waits for: the connections of
// that time may be dead and not know it. A process whose lease has ended in between is heard of by
// the others again only after it has read a partition, since they give up some for it.
//
// # Invariants
//
//  1. Rows of a partition are written only under its advisory lock, and their pos and seq
//     follow without gaps.
//  2. The memory of an owner is what its log says up to the position it has seen, applied
//     in order of position.
//  3. A change of leased jobs is committed only under an epoch of its partition under which
//     the process was seen to own them, without a break since the lease.
//  4. A segment is dropped or compacted only when every row that goes is below the
//     checkpoint of its partition, and every value that goes below First of its lane.
//  5. What is remembered of one history of the database is never used for another.
//  6. Update returns nil when the server has committed, and an error when it has not. The
//     one exception is said in the error: the store was closed, or cut off for longer than
//     two turns of the ring of commits (20 minutes), before the server could be asked.
package postgres
