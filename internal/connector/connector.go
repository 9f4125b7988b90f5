// Package connector is the contract between the engine and the things it moves events
// between: sources, transforms and targets, their optional abilities, and the Spec that
// defines one.
//
// # Rules every connector keeps (conntest asserts each)
//
//  1. New touches neither network nor disk beyond reading files its config names; Open does.
//  2. Close is safe twice and without Open, and returns when the connector's goroutines have ended.
//  3. Every blocking call returns soon after its context is cancelled.
//  4. A connector never settles, retries, throttles, batches or counts: the engine does.
//  5. Write returns nil only when every message of the batch is durable at the other side.
//  6. Errors say what they mean with package fault; an error without a kind is transient.
//  7. Read, Apply and Write never modify the bytes of a message's payload in place, nor its
//     headers, origin and descriptor, which messages share.
//  8. Read returns no more messages and payload bytes than its Room has, but for the first
//     when that alone is larger: a message, or the request that several came in.
//  9. The positions of a source's messages are in the order in which it read them, within a
//     stream and partition, and are the same when it reads them again.
//  10. After Close it can be opened again, and begins anew with what the other side has, without
//     New: the engine starts what failed again without reading the config. A source reads
//     what it had read and was not settled once more, where it can; a target takes away nothing
//     that it has written. An Ack that is called after Close does nothing to what is read later.
//  11. A [Seeker] reads a range again as it was read, all of it or an error, however often and
//     whatever is read and acknowledged meanwhile, and moves nothing by it.
package connector

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sort"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/workspace"
)

// Source reads batches of messages.
type Source interface {
	Open(ctx context.Context) error
	// Read blocks until there is something to read. io.EOF means there will never be
	// more and ends the pipeline cleanly. Another error is retried by its fault kind;
	// Setup and Fatal end the pipeline. Read is called by one goroutine at a time. It returns
	// no more than there is room for, but for what cannot be divided (rule 8). What is there and
	// can be made no message of is a message that is refused ([event.Message.Refuse]), so that
	// it stops nothing else.
	Read(ctx context.Context, room Room) (event.Batch, Ack, error)
	// Close is called when every Ack has run, or the drain deadline has passed.
	Close(ctx context.Context) error
}

// Room is how much a Read may return: what may be in flight beyond what is. With the zero Room
// only the source's own limits count.
type Room struct {
	Messages int
	Bytes    int // of payloads
}

// Within is the bounds of one Read of a source that has its own, which are at least 1.
func (r Room) Within(messages, bytes int) (int, int) {
	if r.Messages > 0 {
		messages = min(messages, r.Messages)
	}
	if r.Bytes > 0 {
		bytes = min(bytes, r.Bytes)
	}
	return messages, bytes
}

// Ack tells the source what became of the messages of one Read. The engine calls it
// exactly once for each Read, from any goroutine and in any order between Reads. An
// outcome that is not nil asks the source to deliver that message again.
type Ack func(ctx context.Context, o event.Outcomes) error

// Unconfirmed is the error of an Ack after which the source cannot tell whether the other side
// knows that messages are settled: it may deliver them again. It is logged and counted.
type Unconfirmed struct {
	Messages int
	Err      error
}

func (u *Unconfirmed) Error() string {
	return fmt.Sprintf("%d messages are settled, and that is not confirmed: %v", u.Messages, u.Err)
}

// Unwrap is why.
func (u *Unconfirmed) Unwrap() error { return u.Err }

// Transform is a step that was compiled, once for a config. What it does to messages is
// done by the workers it gives out: New has read every file and found every mistake, and
// Worker reads nothing.
type Transform interface {
	// Worker makes an instance for one goroutine at a time, which may hold a script runtime
	// or scratch memory. Several goroutines may call it at once.
	Worker() (Worker, error)
}

// Worker turns one message into none, one or many.
type Worker interface {
	// Apply appends to out what m becomes: nothing (filtered), m itself, or the messages
	// of m.Split. One that filters m for a reason it knows says so with m.Drop, and only
	// then. An error means m is invalid and goes to the failure target; one of [fault.Pace], that
	// it cannot be worked on yet: a source that delivers again gets m back for that time,
	// uncounted. Apply is called by one goroutine at a time.
	Apply(ctx context.Context, out event.Batch, m *event.Message) (event.Batch, error)
}

// Caller is an optional ability of a Transform: whether its workers ask others while they work. Nobody
// runs one that does for a try, unless he was told to.
type Caller interface{ Calls() bool }

// BatchWorker is a Worker that takes the messages of a read together, because a call costs
// more than a message does. ApplyAll has one outcome for each of b, in their order: what
// Apply would append for it, and nothing of another message. It is called instead of Apply.
type BatchWorker interface {
	Worker
	ApplyAll(ctx context.Context, b event.Batch) []Outcome
}

// Outcome is what one message of a batch becomes, as with Apply.
type Outcome struct {
	Out event.Batch
	Err error
}

// Stateless is the transform whose every worker is w, which keeps nothing from one message
// to the next: its Apply may be called by many goroutines at once.
func Stateless(w Worker) Transform { return stateless{w} }

type stateless struct{ w Worker }

func (s stateless) Worker() (Worker, error) { return s.w, nil }

// Target writes batches of messages.
type Target interface {
	Open(ctx context.Context) error
	// Write returns nil when all of b is durable, but what it leaves out on purpose and says so of
	// with [event.Message.Drop], a *[Partial] when some of it is, and
	// another error when none of it is. Several goroutines may call it at once, as many
	// as Limits allow.
	Write(ctx context.Context, b event.Batch) error
	Close(ctx context.Context) error
}

// Write is a target's Write, as middleware sees it.
type Write func(context.Context, event.Batch) error

// Middleware wraps policy around Write: retry, throttle, metrics, tracing.
type Middleware func(Write) Write

// Partial is the error of a Write that succeeded for some messages: Failed holds the
// error of each that did not, by its index in the batch.
type Partial struct{ Failed map[int]error }

func (p *Partial) Error() string {
	idx := make([]int, 0, len(p.Failed))
	for i := range p.Failed {
		idx = append(idx, i)
	}
	sort.Ints(idx)
	seen := map[string]int{}
	var order []string
	for _, i := range idx {
		s := p.Failed[i].Error()
		if seen[s] == 0 {
			order = append(order, s)
		}
		seen[s]++
	}
	for i, s := range order {
		order[i] = fmt.Sprintf("%s (count: %d)", s, seen[s])
	}
	return strings.Join(order, "; ")
}

// Unwrap lets errors.As see every message's error.
func (p *Partial) Unwrap() []error {
	errs := make([]error, 0, len(p.Failed))
	for _, err := range p.Failed {
		errs = append(errs, err)
	}
	return errs
}

// The optional abilities, found by type assertion on the connector itself.
type (
	// Checker can say whether the other side can be reached and used, without writing.
	Checker interface {
		Check(ctx context.Context) error
	}
	// Limiter says how a target wants its messages grouped.
	Limiter interface{ Limits() Limits }
	// Closer is a worker of a transform that holds resources.
	Closer interface{ Close() error }
	// Holder is a source that keeps somebody waiting (an HTTP client) until its
	// messages are settled; the engine then flushes batches early.
	Holder interface{ Holds() bool }
	// Lagger is a source that knows how much there is that it has not read. Lag may be called
	// while Read is, from Open to Close, and returns soon.
	Lagger interface {
		Lag(ctx context.Context) ([]Lag, error)
	}
	// Troubled is a source that waits by itself for what it stands on besides its stream, such as
	// a table of leases, and reads less or nothing meanwhile. Trouble is why, nil when it need not
	// wait; it may be called while Read is, from Open to Close, and returns at once. The
	// pipeline is degraded while there is one.
	Troubled interface{ Trouble() error }
	// Listener is a source that binds an address, which others of the process may share only
	// where they differ by host name or path. Addr is what was bound, nil while nothing is.
	Listener interface {
		Listens() Listening
		Addr() net.Addr
	}
)

// Lag is how far a source is behind in a partition of a stream. What it does not know is
// [Unknown].
type Lag struct {
	Stream, Partition string
	Messages          int64
	Bytes             int64
	// Age is how long ago the oldest message came into the stream that was not read.
	Age time.Duration
}

// Unknown is a part of a [Lag] that a source does not know.
const Unknown = -1

// Listening is an address that is bound, and which of its requests are wanted.
type Listening struct {
	// Address is host and port, and Attribute the option that says so.
	Address, Attribute string
	// Hosts and Paths are the names and patterns that are served; none stands for every one.
	Hosts, Paths []string
	// TLS says that connections are encrypted, and Identity by which certificates: a text that
	// is equal for equal ones.
	TLS      bool
	Identity string
}

// Limits is how a target wants its messages grouped, and how many writes may run at once.
type Limits struct {
	MaxBatchMessages     int
	MaxBatchBytes        int
	MaxMessageBytes      int
	MaxConcurrentBatches int
	FlushPeriod          time.Duration
	// Eager sends a partial batch as soon as nothing more is waiting to join it: right
	// for targets where a small write costs little.
	Eager bool
	// Size is the size of a message as the target counts it against the limits in bytes; nil
	// means that of its payload.
	Size func(*event.Message) int
	// Group names what a write goes to, a topic or a destination, where a target has several:
	// messages of different groups never share a write. nil means that all may.
	Group func(*event.Message) string
	// Joint says that groups may share a write: Group then names what a target fills a buffer of
	// its own for, as one for each partition of its files, and MaxBatchMessages and MaxBatchBytes
	// are those of one group. A group is written when it is full or FlushPeriod old, and then
	// with others that are due. When as much is in flight as may be, those leave that began
	// first: they keep the source from going on.
	Joint bool
	// MaxGroups is how many groups may fill at once; 0 means any number. For one more the group
	// that began first leaves, or, where Exceeded is set, the message that would begin it is
	// refused with that error.
	MaxGroups int
	Exceeded  error
	// Alone reports whether a message must be sent in a batch of its own; nil means never.
	Alone func(*event.Message) bool
}

// Batching is the block every target accepts; its names and meaning are Snowbridge's.
type Batching struct {
	// Most messages in one write.
	MaxBatchMessages int `hcl:"max_batch_messages,optional"`
	// Most payload bytes in one write.
	MaxBatchBytes int `hcl:"max_batch_bytes,optional"`
	// Largest payload, in bytes, the target accepts; a larger one is a size violation
	// and goes to the failure target.
	MaxMessageBytes int `hcl:"max_message_bytes,optional"`
	// Most writes in progress at once.
	MaxConcurrentBatches int `hcl:"max_concurrent_batches,optional"`
	// Longest time, in milliseconds, a message waits for its batch to fill.
	FlushPeriodMillis int `hcl:"flush_period_millis,optional"`
}

// Limits is b as the engine uses it.
func (b Batching) Limits() Limits {
	return Limits{
		MaxBatchMessages:     b.MaxBatchMessages,
		MaxBatchBytes:        b.MaxBatchBytes,
		MaxMessageBytes:      b.MaxMessageBytes,
		MaxConcurrentBatches: b.MaxConcurrentBatches,
		FlushPeriod:          time.Duration(b.FlushPeriodMillis) * time.Millisecond,
	}
}

// Validate names each setting that could never work.
func (b Batching) Validate() []Problem {
	var ps []Problem
	positive := func(field string, v int) {
		if v <= 0 {
			ps = append(ps, Problem{Field: field, What: fmt.Sprintf("%s must be at least 1, not %d", field, v), Fix: "leave it out to use the default"})
		}
	}
	positive("max_batch_messages", b.MaxBatchMessages)
	positive("max_batch_bytes", b.MaxBatchBytes)
	positive("max_message_bytes", b.MaxMessageBytes)
	positive("max_concurrent_batches", b.MaxConcurrentBatches)
	positive("flush_period_millis", b.FlushPeriodMillis)
	if b.MaxMessageBytes > b.MaxBatchBytes {
		ps = append(ps, Problem{Field: "max_message_bytes",
			What: fmt.Sprintf("max_message_bytes (%d) must not be greater than max_batch_bytes (%d)", b.MaxMessageBytes, b.MaxBatchBytes),
			Fix:  "lower max_message_bytes or raise max_batch_bytes"})
	}
	return ps
}

// Problem is one thing wrong with a decoded config, found without the network.
type Problem struct {
	Field string // HCL path of the attribute within the block: "batching.max_batch_bytes"; empty for the block itself
	What  string
	Fix   string
}

// Under moves problems of a nested block to its place in the outer one; a problem without a
// field is the block's.
func Under(block string, ps []Problem) []Problem {
	out := make([]Problem, len(ps))
	for i, p := range ps {
		p.Field = strings.TrimSuffix(block+"."+p.Field, ".")
		out[i] = p
	}
	return out
}

// Validator is a config struct that can name what is wrong with it. Package config
// calls it after decoding and turns each Problem into a diagnostic with file and line.
type Validator interface{ Validate() []Problem }

// Deps is what a connector is given to live with.
type Deps struct {
	// Pipeline and Component name the place of the connector in the config.
	Pipeline, Component string
	// Log has pipeline and component set.
	Log *slog.Logger
	// Dir is the directory of the config file: relative paths in a config mean from there,
	// by [Deps.Path] and [Deps.File]. It is "" for a config that is in no file.
	Dir string
	// Lone is set where the config has one pipeline, which is in no block, as every config of
	// Snowbridge: what Snowbridge does, where that says nothing else, is then meant.
	Lone bool
	// Named is set for the connectors of a pipeline block, which no config of Snowbridge has.
	Named bool
	// Ordered says that the pipeline keeps the order of messages with one key: a target that
	// refuses a part of a batch then refuses the later messages of a refused key with it.
	Ordered bool
	// Partly is set for a target that gets a part of its pipeline's messages only, beside others.
	Partly bool
	// Version is the product's version, for headers and failure payloads.
	Version string
	// Store returns the durable store. It is opened before any connector is, and not
	// before: New must not call it.
	Store func() queue.Store
	// Queues are the queues of the config, by name.
	Queues map[string]Queue
	// Machines are the state machines of the config, by name.
	Machines map[string]Machine
	// Workspaces are the workspace blocks of the config, by name; see [Deps.Workspace].
	Workspaces map[string]workspace.Live
	// Stdout is what events are printed to; nil stands for standard output itself.
	Stdout io.Writer
	// Kept returns what with made when the name was first asked for in this process: what a
	// connector keeps for the one that replaces it at a reload. nil: nothing is kept.
	Kept func(name string, with func() any) any
}
