package connector

import (
	"context"
	"fmt"
	"time"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
)

// Queue is a queue that the config declares.
type Queue struct {
	Name string
	// Ordered is set when the queue's block says so, or a source of the config reads the queue in
	// order: what is put into it then keeps the order of messages with one key.
	Ordered bool
	// JobStatus is what the status of job runs counts the messages of the queue as; empty: they are
	// not counted.
	JobStatus string
}

// Queue finds a queue that the config declares.
func (d Deps) Queue(name string) (Queue, error) {
	q, ok := d.Queues[name]
	if !ok {
		return q, fmt.Errorf("there is no queue %q: declare it with a block queue %q {}", name, name)
	}
	return q, nil
}

// The optional abilities of connectors that stand on the durable store.
type (
	// Redeliverer is a source that delivers a message again, later, when its outcome is an
	// [Again]: the store keeps the time, and nothing waits in memory. The engine does not
	// retry what comes from it.
	Redeliverer interface{ Redelivers() bool }

	// DeadLetterer is a Redeliverer whose other side puts aside what cannot be delivered. When
	// DeadLetters says so, which it can once the source is open, a message that is refused ends
	// as [Dead] instead of going to the failure target.
	DeadLetterer interface{ DeadLetters() bool }

	// Isolated is a source whose work is divided by an axis of the scope. The engine gives
	// each value that has work a turn to read, a share of what may be in flight and lanes
	// to write, so that no value waits for another.
	Isolated interface {
		// Isolation is the axis; with queue.None the source is read as a whole.
		Isolation() queue.Axis
		// ReadValues waits until values that have room have work and returns some of it, a
		// portion for each value. The values take turns: none has a second message before
		// every one that waits has its first. All portions together have no more than room
		// says, and each no more than the room of its value, which is called with the source's
		// locks held and is none where it is 0; both but for one message that is larger. It returns nothing when again
		// has an element: there may be more room then. Errors are those of Read.
		ReadValues(ctx context.Context, room Room, of func(value string) (messages, bytes int), again <-chan struct{}) ([]Portion, error)
	}

	// Informed is a source that wants to know which of its messages failed although they are
	// handled: the failure target has them, whole or a part of what they became. When Informs says
	// so, the engine has such a message, as it was read, say why ([event.Message.Refused]) before it is
	// settled.
	Informed interface{ Informs() bool }

	// StoreSource is a source whose messages can be settled inside a transaction of their
	// store.
	StoreSource interface {
		Source
		Store() queue.Store
		// ReadJobs is Read for engines that settle in transactions. Settle, inside a
		// transaction, ends the messages with these indexes of the batch as done; what the
		// transaction did not settle is left to the Ack.
		ReadJobs(ctx context.Context, room Room) (b event.Batch, settle SettleIn, ack Ack, err error)
	}

	// StoreTarget is a target that is a queue of the store: a write can be part of a
	// transaction.
	StoreTarget interface {
		Target
		Store() queue.Store
		// Accepts says whether m can be stored at all; the error is Invalid.
		Accepts(m *event.Message) error
		WriteIn(tx queue.Tx, b event.Batch) error
	}
)

// Value is one value of an axis by which work is isolated.
type Value struct {
	Axis queue.Axis
	Name string
}

// Valued is a target that is another one for each value that its pipeline is isolated by: a
// destination may have an address and credentials of its own. What For returns shares what
// the target has opened, costs little, and is neither opened nor closed by itself.
type Valued interface {
	For(v Value) (Target, error)
}

// Portion is what was read of one value at once. Settle is that of ReadJobs, if the source
// can; Ack is that of Read.
type Portion struct {
	Value  string
	Batch  event.Batch
	Settle SettleIn
	Ack    Ack
}

// SettleIn ends messages of one read as done, inside a transaction.
type SettleIn func(tx queue.Tx, index []int) error

// Again is the outcome of a message that a [Redeliverer] is to deliver again.
type Again struct {
	After time.Duration
	// Uncounted is set when no attempt was made.
	Uncounted bool
	Err       error
}

func (a *Again) Error() string { return fmt.Sprintf("again in %s: %v", a.After, a.Err) }
func (a *Again) Unwrap() error { return a.Err }

// Dead is the outcome of a message that is given up: its source keeps it aside, whole and
// with the reason, until somebody decides.
type Dead struct{ Err error }

func (d *Dead) Error() string { return fmt.Sprintf("given up: %v", d.Err) }
func (d *Dead) Unwrap() error { return d.Err }
