package connector

import (
	"context"
	"fmt"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
)

// Machine is a state machine that the config declares, as those see it who start executions
// of it. It stands on the durable store.
type Machine interface {
	Store() queue.Store
	// Accepts says whether an execution can be started with m at all; the error is Invalid.
	Accepts(m *event.Message) error
	// StartIn starts an execution with each message, when tx is committed.
	StartIn(tx queue.Tx, b event.Batch) error
	// StartOnceIn is StartIn, but for messages that have started an execution already, as far as
	// their origin says who they are: those that a source delivers again after a crash.
	StartOnceIn(tx queue.Tx, b event.Batch) error
	// Execute starts an execution with each message and returns when all have ended. One
	// that did not succeed is an Invalid error of its message. When ctx ends first, the
	// executions go on nevertheless, and a message that comes again finds its own, by its origin.
	Execute(ctx context.Context, b event.Batch) error
}

// StartQueue is the queue of executions to start of the machine called name.
func StartQueue(name string) string { return "machine/" + name }

// StepQueue is the queue of timers and tasks of the machine called name.
func StepQueue(name string) string { return "machine/" + name + "/steps" }

// Machine finds a machine that the config declares.
func (d Deps) Machine(name string) (Machine, error) {
	m, ok := d.Machines[name]
	if !ok {
		return nil, fmt.Errorf("there is no machine %q: declare it with a block machine %q { ... }", name, name)
	}
	return m, nil
}
