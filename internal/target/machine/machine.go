// Package machinetarget is the target "machine": it starts an execution of a state machine
// with each message as its input. A message is delivered when its execution is durably
// started, so that no execution, however long it takes, holds up the source; with wait it is
// delivered when its execution has succeeded.
//
// When the source is a queue of the same store, the engine starts and settles in one
// transaction, so that each message starts exactly one execution. From another source with
// positions, and with wait, a message that is delivered again within ten minutes finds the
// execution that it has started.
package machinetarget

import (
	"context"
	"errors"
	"fmt"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
)

// Config is the HCL of the machine target.
type Config struct {
	// Name of the machine, which a machine block declares.
	Name string `hcl:"name"`
	// Deliver a message only when its execution has succeeded; off by default. A message
	// whose execution does not succeed is invalid and goes to the failure target. A message that
	// the source delivers again after a crash finds the execution that it has started, for ten
	// minutes after its end, where the source has positions (file, queue and others): what is
	// committed is not repeated, and a task that was under way may be. Without wait it starts no
	// second execution for ten minutes. Of the batching block, max_concurrent_batches bounds how
	// many batches wait at once.
	Wait bool `hcl:"wait,optional"`
	// How messages are grouped into transactions. A batch leaves as soon as nothing more
	// waits to join it.
	Batching *connector.Batching `hcl:"batching,block"`
}

// Validate implements connector.Validator.
func (c Config) Validate() []connector.Problem {
	ps := c.Batching.Validate()
	if c.Batching.MaxMessageBytes > queue.MaxPayload {
		ps = append(ps, connector.Problem{Field: "max_message_bytes",
			What: fmt.Sprintf("max_message_bytes must be at most %d, not %d: an execution has no larger input", queue.MaxPayload, c.Batching.MaxMessageBytes),
			Fix:  "leave it out to use the default"})
	}
	return connector.Under("batching", ps)
}

// Entry is the machine target.
var Entry = connector.Of(connector.Spec[Config, connector.Target]{
	Name: "machine", Summary: "Starts an execution of a state machine with each message.", Stability: connector.Stable, Machine: "name",
	Default: func() Config {
		return Config{Batching: &connector.Batching{MaxBatchMessages: 500, MaxBatchBytes: 16 << 20, MaxMessageBytes: queue.MaxPayload, MaxConcurrentBatches: 8, FlushPeriodMillis: 200}}
	},
	New: func(_ context.Context, d connector.Deps, c Config) (connector.Target, error) {
		m, err := d.Machine(c.Name)
		if err != nil {
			return nil, err
		}
		l := c.Batching.Limits()
		l.Eager = true
		if c.Wait {
			return &Waiting{machine: m, limits: l}, nil
		}
		return &Target{machine: m, limits: l}, nil
	},
})

// Target starts executions.
type Target struct {
	machine connector.Machine
	limits  connector.Limits
}

var (
	_ connector.Limiter     = (*Target)(nil)
	_ connector.StoreTarget = (*Target)(nil)
	_ connector.Capacity    = (*Target)(nil)
	_ connector.Limiter     = (*Waiting)(nil)
	_ connector.Capacity    = (*Waiting)(nil)
)

// Limits implements connector.Limiter.
func (t *Target) Limits() connector.Limits { return t.limits }

// Open implements connector.Target.
func (t *Target) Open(context.Context) error { return nil }

// Close implements connector.Target.
func (t *Target) Close(context.Context) error { return nil }

// Store implements connector.StoreTarget.
func (t *Target) Store() queue.Store { return t.machine.Store() }

// Accepts implements connector.StoreTarget.
func (t *Target) Accepts(m *event.Message) error { return t.machine.Accepts(m) }

// WriteIn implements connector.StoreTarget.
func (t *Target) WriteIn(tx queue.Tx, b event.Batch) error { return t.machine.StartIn(tx, b) }

// Write implements connector.Target.
func (t *Target) Write(ctx context.Context, b event.Batch) error {
	return accepted(t.machine, b, func(b event.Batch) error {
		return t.machine.Store().Update(ctx, func(tx queue.Tx) error { return t.machine.StartOnceIn(tx, b) })
	})
}

// Waiting starts executions and waits for their end.
type Waiting struct {
	machine connector.Machine
	limits  connector.Limits
}

// Limits implements connector.Limiter.
func (t *Waiting) Limits() connector.Limits { return t.limits }

// Open implements connector.Target.
func (t *Waiting) Open(context.Context) error { return nil }

// Close implements connector.Target.
func (t *Waiting) Close(context.Context) error { return nil }

// Write implements connector.Target.
func (t *Waiting) Write(ctx context.Context, b event.Batch) error {
	return accepted(t.machine, b, func(b event.Batch) error { return t.machine.Execute(ctx, b) })
}

// Full implements connector.Capacity.
func (t *Target) Full() error { return queue.FullOf(t.machine.Store()) }

// Full implements connector.Capacity.
func (t *Waiting) Full() error { return queue.FullOf(t.machine.Store()) }

// accepted starts what the machine accepts of b, and says what it does not.
func accepted(m connector.Machine, b event.Batch, start func(event.Batch) error) error {
	failed := map[int]error{}
	var part event.Batch
	var index []int
	bytes, most := 0, queue.WriteBytes()
	flush := func() {
		if len(part) == 0 {
			return
		}
		err := start(part)
		partial, some := errors.AsType[*connector.Partial](err)
		for n, i := range index {
			if some {
				err = partial.Failed[n]
			}
			if err != nil {
				failed[i] = err
			}
		}
		part, index, bytes = nil, nil, 0
	}
	for i, msg := range b {
		if err := m.Accepts(msg); err != nil {
			failed[i] = err
			continue
		}
		n := len(msg.Data) + len(msg.Raw()) + len(msg.Key) + 1024
		if bytes+n > most {
			flush()
		}
		part, index, bytes = append(part, msg), append(index, i), bytes+n
	}
	flush()
	if len(failed) > 0 {
		return &connector.Partial{Failed: failed}
	}
	return nil
}
