// Package queue is jobs at rest: the contract of a durable queue store, and the bytes a
// job is kept in. Two backends implement it: queue/embedded, which is queue/rows on a log
// (queue/log), and queue/postgres; queue/storetest is its definition; queue/partition is
// the logic both share.
//
// # Words
//
// A job is one message waiting in a queue. The jobs of one queue and one scope
// (workspace, source, destination) form a lane: order is kept within a lane, and an
// axis filter is a choice of lanes. A job is open from its append until it is settled as
// done or dead. A lease hands open jobs to one worker for a time.
//
// # Promises
//
//  1. What Update returned nil for survives kill -9 and power loss. Update is all or
//     nothing over every queue, result and record it touched.
//  2. A job that was appended is handed out again and again until it is settled as done
//     or dead. Dead jobs are kept until they are requeued, dropped or expire.
//  3. A job is leased to at most one worker at a time. A result that arrives after the
//     lease ended (expiry, takeover by another process) is refused with [ErrLeaseLost],
//     and with it its whole transaction.
//  4. An ordered job is withheld as long as an earlier ordered job of its lane with the
//     same key is open, whether that is leased, waiting for its next attempt or itself
//     withheld. Jobs of other keys go on.
//  5. Lease returns as many jobs as may be handed out, up to its limits. Within a lane jobs
//     whose next attempt has come are preferred to new ones, and new ones go in order of
//     append; lanes take turns, or the values of an axis do ([Query.Split]).
//  6. Memory does not grow with the number of waiting jobs.
package queue

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// Limits of a job and of a record, in bytes. Going beyond is an Invalid error.
const (
	MaxPayload = 16 << 20 // message payload as it is now, and as it was read: each
	MaxKey     = 64 << 10 // message key
	MaxMeta    = 1 << 20  // message id and headers together
	MaxOrigin  = 64 << 10 // message origin and descriptor together
	MaxCause   = 16 << 10 // longer causes are cut, not refused
	MaxName    = 1024     // queue name and each part of a scope
	MaxRecord  = 16 << 20 // value of a key-value record
	MaxTxBytes = 64 << 20 // all jobs and records of one Update
)

// ID names one job in its store. IDs of one lane grow in the order of append.
type ID struct {
	Lane  uint64 // queue and scope, as the store numbered them
	Seq   uint64 // place of the appended batch in its lane, from 1
	Index uint32 // place of the job in its batch, from 0
}

// String is the form ParseID reads: "lane-seq-index".
func (id ID) String() string { return fmt.Sprintf("%d-%d-%d", id.Lane, id.Seq, id.Index) }

// ParseID reads the String form of an ID.
func ParseID(s string) (ID, error) {
	parts := strings.Split(s, "-")
	if len(parts) == 3 {
		lane, err1 := strconv.ParseUint(parts[0], 10, 64)
		seq, err2 := strconv.ParseUint(parts[1], 10, 64)
		index, err3 := strconv.ParseUint(parts[2], 10, 32)
		if err1 == nil && err2 == nil && err3 == nil {
			return ID{Lane: lane, Seq: seq, Index: uint32(index)}, nil
		}
	}
	return ID{}, fmt.Errorf("job id %q is not of the form lane-seq-index, like 7-4211-0", s)
}

// Before reports whether id was appended before other; both must be of one lane.
func (id ID) Before(other ID) bool {
	if id.Seq != other.Seq {
		return id.Seq < other.Seq
	}
	return id.Index < other.Index
}

// Scope says whose job it is.
type Scope = event.Scope

// Job is one message in a queue. For Append, Queue and Msg are needed and Scope, Ordered,
// NotBefore and After are read; the store sets the rest.
type Job struct {
	ID    ID
	Queue string
	Scope Scope
	// Msg is the message. As leased, its Data, Key and raw payload share memory with
	// other jobs of the same read: never write into them.
	Msg *event.Message
	// Ordered makes Msg.Key an ordering key: promise 4. Without a key it has no effect.
	Ordered bool
	// NotBefore is the earliest time to hand the job out; zero means at once.
	NotBefore time.Time
	// After, when it is above zero, is how long to wait, in place of NotBefore: a clock that is
	// set meanwhile does not change how long that is. It is for Append only.
	After time.Duration
	// Attempt counts the results "again" the job has had. Leases that expired, and
	// leases that ended with the process, do not count.
	Attempt int
	// Cause is the cause given with the last "again" or "dead".
	Cause string
	// At is when the job was appended; for a dead job when it died.
	At time.Time
	// Lease is the claim of the worker the job was handed to; zero when listed.
	Lease Lease
}

// HeaderLastError is the header of a message that was appended because something failed: what it
// was. It is shown as the cause of a job that has none of its own.
const HeaderLastError = "weir-last-error"

// Lease is the claim of one Lease call on the jobs it returned. Jobs with one token share
// one lease: it ends as a whole, unless jobs are released before, and renewing it for one
// of them renews it for all.
type Lease struct {
	Token   uint64
	Expires time.Time
}

// Verdict says what a result makes of its job.
type Verdict uint8

// The verdicts.
const (
	Done  Verdict = iota + 1 // handled; the job is gone
	Again                    // to be handed out again, not before a time
	Dead                     // kept aside with its cause until somebody decides
)

// Result settles one leased job.
type Result struct {
	ID      ID
	Token   uint64 // of the job's lease
	Verdict Verdict
	At      time.Time // Again: earliest next attempt; zero means at once
	// After, when it is not zero, is how long to wait for the next attempt, in place of At. A
	// clock that is set meanwhile does not change how long that is.
	After time.Duration
	Cause string // Again and Dead
	// Uncounted is an Again that is no attempt: the job goes back as it was.
	Uncounted bool
}

// Done is the result of a job that was handled.
func (j *Job) Done() Result { return Result{ID: j.ID, Token: j.Lease.Token, Verdict: Done} }

// Again is the result of a job that is to be tried again, not before at.
func (j *Job) Again(at time.Time, cause string) Result {
	return Result{ID: j.ID, Token: j.Lease.Token, Verdict: Again, At: at, Cause: cause}
}

// AgainAfter is the result of a job that is to be tried again when a time has passed.
func (j *Job) AgainAfter(d time.Duration, cause string) Result {
	return Result{ID: j.ID, Token: j.Lease.Token, Verdict: Again, After: d, Cause: cause}
}

// Dead is the result of a job that is given up.
func (j *Job) Dead(cause string) Result {
	return Result{ID: j.ID, Token: j.Lease.Token, Verdict: Dead, Cause: cause}
}

// Axis is a part of the scope by which work can be isolated.
type Axis string

// The axes.
const (
	None          Axis = "none"
	ByWorkspace   Axis = "workspace"
	BySource      Axis = "source"
	ByDestination Axis = "destination"
)

// Axes are all axes; the index of an axis in it is stable.
var Axes = [4]Axis{None, ByWorkspace, BySource, ByDestination}

// Of is the value of scope s on the axis; empty for None.
func (a Axis) Of(s Scope) string {
	switch a {
	case ByWorkspace:
		return s.Workspace
	case BySource:
		return s.Source
	case ByDestination:
		return s.Destination
	}
	return ""
}

// Filter chooses the lanes of one queue: all of them, or those with one value on an axis.
type Filter struct {
	Queue string
	By    Axis   // empty means None
	Value string // ignored for None
}

// Query asks for work.
type Query struct {
	Filter
	// Limit is the most jobs to return; 0 means 1000.
	Limit int
	// Bytes is the most payload bytes to return, but at least one job; 0 means 16 MiB.
	Bytes int
	// For is how long the lease lasts; 0 means one minute.
	For time.Duration
	// Split divides the work by an axis: its values take turns, a job in each, those that have
	// waited longest first, from one call to the next. A value waits from its last turn, or from
	// when it got work after having none; so no value's second job is handed out before the first
	// of every other that waits, within one partition of the store. The jobs come in the order of
	// the turns. Empty or None: not divided. With Split, By must be None.
	Split Axis
	// Room says how many jobs and payload bytes a value may get from this call, though a job at
	// least where both are above zero. Otherwise it gets none and keeps its turn. Nil means any
	// number. Room is called at most once for each value, under a lock: it must be quick, and use
	// no store.
	Room func(value string) (jobs, bytes int)
	// Any has jobs handed out that are not to be worked on yet: those that are paused, and those
	// whose time has not come. It is for who decides about jobs, not for who does their work;
	// Split must be empty. In a store that processes share they come from what this one leases
	// from already: such a query does not make it one that does. Jobs that an earlier one of their key withholds stay.
	Any bool
	// Pick, with Any, chooses jobs by their ID, when they were appended, and the cause of their
	// last result; nil chooses all. It is called under a lock: it must be quick, and use no store.
	Pick func(id ID, at time.Time, cause string) bool
}

// Defaults of a Query.
const (
	DefaultLimit = 1000
	DefaultBytes = 16 << 20
	DefaultFor   = time.Minute
)

// Complete is q with its defaults, or an error when it asks for what does not exist.
func (q Query) Complete() (Query, error) {
	if q.Limit <= 0 {
		q.Limit = DefaultLimit
	}
	if q.Bytes <= 0 {
		q.Bytes = DefaultBytes
	}
	if q.For <= 0 {
		q.For = DefaultFor
	}
	if q.Split == None {
		q.Split = ""
	}
	if q.Split != "" && q.By != "" && q.By != None {
		return q, fault.New(fault.Fatal, fmt.Errorf("lease from queue %q: the work of one %s cannot be split by %s", q.Queue, q.By, q.Split))
	}
	if q.Any && q.Split != "" {
		return q, fault.New(fault.Fatal, fmt.Errorf("lease any job of queue %q: they cannot be split by %s", q.Queue, q.Split))
	}
	return q, nil
}

// Stats counts the open and dead jobs that a filter chooses. They are kept as counters:
// asking costs the same however many jobs wait. A job that is leased counts as leased
// only; one whose last result was "again" as retrying until it is leased again.
type Stats struct {
	Waiting  int64
	Leased   int64
	Retrying int64
	Dead     int64
	// Bytes is what the open and dead jobs hold on disk. Jobs that were appended together
	// count until the last of them has ended.
	Bytes int64
}

// Open is the number of jobs that are neither done nor dead.
func (s Stats) Open() int64 { return s.Waiting + s.Leased + s.Retrying }

// Store is a durable queue store. All methods may be called at once by many goroutines.
// After Close every method returns ErrClosed, and channels of Wake are closed.
type Store interface {
	// Update runs fn and makes what it asked for durable, all or nothing. fn runs again
	// when a record it read was changed meanwhile by another Update, so it must have no
	// effect but through tx, and must not keep tx. An error of fn is returned as it is,
	// and nothing is changed. When ctx ends while the commit is under way, Update still
	// waits for its outcome. An Update that changes nothing costs nothing.
	Update(ctx context.Context, fn func(tx Tx) error) error
	// View runs fn, which may read records; all that it reads is as it was at one moment,
	// not before the last Update that returned before. fn may run again, and must not keep r.
	// An error of fn is returned as it is. A View waits for no Update, and no Update for it.
	View(ctx context.Context, fn func(r Reader) error) error
	// Lease returns work, at once: none is not an error. See Wake for waiting.
	Lease(ctx context.Context, q Query) ([]Job, error)
	// Renew makes the leases of jobs end d from now. ErrLeaseLost when a lease has ended
	// or one of jobs is settled; the other leases are renewed nevertheless.
	Renew(ctx context.Context, jobs []Job, d time.Duration) error
	// Release ends the leases of jobs, which may be handed out again at once, and not those of
	// other jobs with the same token. Their attempts do not count. ErrLeaseLost when a lease had
	// ended or one of jobs is settled; the others are released nevertheless.
	Release(ctx context.Context, jobs []Job) error
	// Active lists, sorted, the values of an axis that have open jobs in queue.
	Active(ctx context.Context, queue string, by Axis) ([]string, error)
	Stats(ctx context.Context, f Filter) (Stats, error)
	// Wake returns a channel that is closed when there may be new work for f. Ask for it
	// before the Lease that finds nothing, then wait on it: no wake-up is missed.
	Wake(f Filter) <-chan struct{}
	// Observe has every Update that settles jobs call o, in its transaction, until stop is
	// called. Updates of other processes do not.
	Observe(o Observer) (stop func())
	// Now is the time by the clock that the store's times are of: when jobs come due, and were
	// appended. It is not that of this machine where several share the store.
	Now() time.Time
	Close() error
}

// Tx is what one Update may do. It is valid until fn returns.
type Tx interface {
	// Append adds jobs. It keeps no reference to them or to their payloads.
	Append(jobs ...Job) error
	// Settle gives results for leased jobs, and keeps no reference to rs. A lost lease
	// fails the whole Update with ErrLeaseLost, at the latest at its commit.
	Settle(rs ...Result) error
	// Get returns the value of a record, nil when there is none. It sees what this tx
	// has put. The bytes must not be modified.
	Get(key []byte) ([]byte, error)
	// GetAll is Get for many keys, in one read of the store: of each key the value, or nil.
	GetAll(keys [][]byte) ([][]byte, error)
	// Put keeps a copy of key and value. Keys have 1 to 1024 bytes.
	Put(key, value []byte) error
	Delete(key []byte) error
}

// Noter is a Tx that knows notes: records that belong to the results it gives. They are Put, and a
// store that takes no new jobs or records takes them with the results, so that it can empty.
type Noter interface {
	Note(key, value []byte) error
}

// Note puts a record that belongs to the results of tx.
func Note(tx Tx, key, value []byte) error {
	if n, ok := tx.(Noter); ok {
		return n.Note(key, value)
	}
	return tx.Put(key, value)
}

// Record is one key-value record.
type Record struct{ Key, Value []byte }

// Reader is what one View may read. It is valid until fn returns.
type Reader interface {
	// Get returns the value of a record, nil when there is none. The bytes must not be modified.
	Get(key []byte) ([]byte, error)
	// Scan goes through the records whose key starts with prefix and is greater than after, in
	// order of key. It ends with the first error. The bytes belong to the caller.
	Scan(prefix, after []byte) iter.Seq2[Record, error]
}

// State is where a job can be found by List.
type State uint8

// The states that can be listed.
const (
	Open   State = iota // every open job, leased or not
	Buried              // dead jobs
)

// Search chooses jobs for List, Requeue and Drop. Zero fields choose everything.
type Search struct {
	Filter
	State State
	// Cause chooses jobs whose cause contains it.
	Cause string
	// Before chooses jobs whose At is before it.
	Before time.Time
	// IDs chooses these jobs only, when it is not empty.
	IDs []ID
}

// Page is one page of a List.
type Page struct {
	Jobs []Job
	// Next continues the list when passed as after; zero when it is complete.
	Next ID
}

// Admin is what operators need beyond Store; both backends implement it. The jobs of a
// page are in order of ID.
type Admin interface {
	// List returns up to limit jobs after the given ID, without leasing them; 0 means
	// DefaultLimit. The list of a queue that changes meanwhile may miss or repeat jobs that
	// move.
	List(ctx context.Context, s Search, after ID, limit int) (Page, error)
	// Requeue appends the dead jobs that s chooses to their queue again, with a new ID and
	// no attempts, and returns how many. State must be Buried.
	Requeue(ctx context.Context, s Search) (int, error)
	// Drop removes the dead jobs that s chooses for good and returns how many. State must
	// be Buried. Expiry is a Drop with Before.
	Drop(ctx context.Context, s Search) (int, error)
}

// Filling is a store that knows, without a write, whether it takes new jobs: [FullOf].
type Filling interface {
	// Full is an ErrFull with the reason while new jobs are refused, and otherwise nil. It
	// returns at once.
	Full() error
}

// FullOf is why s takes no new jobs now, because it is full or away; nil when it takes some, or
// does not know.
func FullOf(s Store) error {
	if err := AwayOf(s); err != nil {
		return err
	}
	if f, ok := s.(Filling); ok {
		return f.Full()
	}
	return nil
}

// Errors of a store. Test with errors.Is.
var (
	// ErrLeaseLost: a result or renewal came after the lease had ended. The job is or
	// will be handed out again; the worker forgets it.
	ErrLeaseLost = errors.New("the lease of a job has ended: the job will be handed out again")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("the queue store is closed")
	// ErrFull: the store has reached its disk limit and takes no new jobs or records.
	// Results are still accepted, so that it can empty.
	ErrFull = fault.NoRoom(errors.New("the queue store is full"), 5*time.Second)
	// ErrAway: the store cannot be reached.
	ErrAway = fault.OutOfReach(errors.New("the queue store cannot be reached"), time.Second)
	// ErrInUse: another process, or another part of this one, has the store open.
	ErrInUse = fault.New(fault.Setup, errors.New("the queue store is in use"))
	// ErrCorrupt: what is on disk is not what was written.
	ErrCorrupt = fault.New(fault.Fatal, errors.New("the queue store is damaged"))
	// ErrVersion: the store was written by a version of another format.
	ErrVersion = fault.New(fault.Setup, errors.New("the queue store has another format version"))
)

// Check refuses a job that could never be stored, with an Invalid error.
func (j *Job) Check() error {
	refuse := func(format string, args ...any) error {
		return fault.New(fault.Invalid, fmt.Errorf("append job to queue %q: "+format, append([]any{j.Queue}, args...)...))
	}
	switch {
	case j.Queue == "":
		return refuse("the job names no queue")
	case len(j.Queue) > MaxName:
		return refuse("the name of the queue has more than %d bytes", MaxName)
	case len(j.Scope.Workspace) > MaxName || len(j.Scope.Source) > MaxName || len(j.Scope.Destination) > MaxName:
		return refuse("a part of the scope has more than %d bytes", MaxName)
	case j.Msg == nil:
		return refuse("the job has no message")
	case len(j.Msg.Data) > MaxPayload:
		return refuse("the payload has %d bytes, the limit is %d", len(j.Msg.Data), MaxPayload)
	case len(j.Msg.Raw()) > MaxPayload:
		return refuse("the payload as read has %d bytes, the limit is %d", len(j.Msg.Raw()), MaxPayload)
	case len(j.Msg.Key) > MaxKey:
		return refuse("the key has %d bytes, the limit is %d", len(j.Msg.Key), MaxKey)
	}
	// A header counts as a byte at least, so that there cannot be any number of empty ones.
	meta := len(j.Msg.Meta.ID)
	for i := range j.Msg.Meta.Headers {
		h := &j.Msg.Meta.Headers[i]
		meta += max(len(h.Name)+len(h.Value), 1)
	}
	if meta > MaxMeta {
		return refuse("id and headers have %d bytes, the limit is %d", meta, MaxMeta)
	}
	if n := originSize(j.Msg); n > MaxOrigin {
		return refuse("origin and descriptor have %d bytes, the limit is %d", n, MaxOrigin)
	}
	return nil
}

// originSize is the bytes that a job keeps of its message's origin and descriptor.
func originSize(m *event.Message) int {
	n := 0
	if o := m.Meta.Origin.Earliest(); o != nil {
		n += len(o.Stream) + len(o.Partition) + len(o.Position)
	}
	if d := m.Meta.Descriptor; d != nil {
		n += len(d.JobRun) + len(d.TaskRun) + len(d.Type) + len(d.Name)
	}
	return n
}

// RecordSize is about how many bytes the job takes that m becomes, and never less.
func RecordSize(m *event.Message) int {
	return len(m.Data) + len(m.Raw()) + len(m.Key) + len(m.Meta.ID) + 192 + m.Meta.Headers.Size() + 16*len(m.Meta.Headers) + originSize(m)
}
