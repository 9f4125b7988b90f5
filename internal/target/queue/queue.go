// Package queuetarget is the target "queue": it appends messages to a queue of the
// durable store. A write is durable when it returns, and so the source is acknowledged.
//
// A job keeps its message's payload, key, headers, id and scope. When the source is a
// queue of the same store, the engine appends and settles in one transaction, so that a
// move between queues happens exactly once.
package queuetarget

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/runs"
)

// Config is the HCL of the queue target.
type Config struct {
	// Name of the queue, which a queue block declares.
	Name string `hcl:"name"`
	// How messages are grouped into transactions. A batch leaves as soon as nothing more
	// waits to join it. When the source is a queue of the same store, what one read became
	// is one transaction instead, and of this block only max_message_bytes and
	// max_concurrent_batches apply.
	Batching *connector.Batching `hcl:"batching,block"`
	// Leaves out a message whose id has come before from its source, which is in the transaction
	// that appends: what was appended is known, whatever dies. They count as filtered, for the reason
	// "duplicate". Default: nothing is left out.
	Deduplicate *Deduplicate `hcl:"deduplicate,block"`
}

// Validate implements connector.Validator.
func (c Config) Validate() []connector.Problem {
	ps := c.Batching.Validate()
	if c.Batching.MaxMessageBytes > queue.MaxPayload {
		ps = append(ps, connector.Problem{Field: "max_message_bytes",
			What: fmt.Sprintf("max_message_bytes must be at most %d, not %d: a queue holds no larger payload", queue.MaxPayload, c.Batching.MaxMessageBytes),
			Fix:  "leave it out to use the default"})
	}
	ps = connector.Under("batching", ps)
	if c.Deduplicate != nil {
		ps = append(ps, connector.Under("deduplicate", c.Deduplicate.Validate())...)
	}
	return ps
}

// Entry is the queue target.
var Entry = connector.Of(connector.Spec[Config, connector.Target]{
	Name: "queue", Summary: "Appends messages to a durable queue.", Stability: connector.Stable, Queue: "name",
	Default: func() Config {
		return Config{Batching: &connector.Batching{MaxBatchMessages: 1000, MaxBatchBytes: 32 << 20, MaxMessageBytes: queue.MaxPayload, MaxConcurrentBatches: 8, FlushPeriodMillis: 200}}
	},
	New: func(_ context.Context, d connector.Deps, c Config) (connector.Target, error) {
		q, err := d.Queue(c.Name)
		if err != nil {
			return nil, err
		}
		l := c.Batching.Limits()
		l.Eager = true
		t := &Target{store: d.Store, queue: q, limits: l}
		if c.Deduplicate != nil {
			t.ids = newIDs(d.Store, q.Name, c.Deduplicate, d.Log)
		}
		if q.JobStatus != "" {
			t.runs = runs.Of(d)
		}
		return t, nil
	},
})

// Target appends to one queue.
type Target struct {
	store  func() queue.Store
	queue  connector.Queue
	limits connector.Limits
	ids    *ids       // nil: nothing is left out
	runs   *runs.Book // nil: nothing is counted
	opened atomic.Bool
}

var (
	_ connector.Limiter     = (*Target)(nil)
	_ connector.StoreTarget = (*Target)(nil)
	_ connector.Capacity    = (*Target)(nil)
)

// Limits implements connector.Limiter.
func (t *Target) Limits() connector.Limits { return t.limits }

// Open implements connector.Target.
func (t *Target) Open(context.Context) error {
	if t.ids != nil {
		t.ids.open()
	}
	if t.runs != nil && !t.opened.Swap(true) {
		t.runs.Open(t.queue.Name, t.queue.JobStatus)
	}
	return nil
}

// Close implements connector.Target.
func (t *Target) Close(context.Context) error {
	if t.ids != nil {
		t.ids.close()
	}
	if t.runs != nil && t.opened.Swap(false) {
		t.runs.Close()
	}
	return nil
}

// Store implements connector.StoreTarget.
func (t *Target) Store() queue.Store { return t.store() }

// Full implements connector.Capacity.
func (t *Target) Full() error { return queue.FullOf(t.store()) }

// Write implements connector.Target. A message that no store could hold is invalid; the
// others are appended all the same.
func (t *Target) Write(ctx context.Context, b event.Batch) error {
	failed := map[int]error{}
	good := make(event.Batch, 0, len(b))
	index := make([]int, 0, len(b))
	bytes, most := 0, queue.WriteBytes()
	flush := func() {
		if len(good) == 0 {
			return
		}
		if err := t.store().Update(ctx, func(tx queue.Tx) error { return t.WriteIn(tx, good) }); err != nil {
			for _, i := range index {
				failed[i] = err
			}
		}
		good, index, bytes = good[:0], index[:0], 0
	}
	for i, m := range b {
		if err := t.Accepts(m); err != nil {
			failed[i] = err
			continue
		}
		n := queue.RecordSize(m)
		if bytes+n > most {
			flush()
		}
		good, index, bytes = append(good, m), append(index, i), bytes+n
	}
	flush()
	if len(failed) > 0 {
		return &connector.Partial{Failed: failed}
	}
	return nil
}

// Finishes implements connector.Finisher: who reads the queue does.
func (t *Target) Finishes() bool { return true }

// Accepts implements connector.StoreTarget.
func (t *Target) Accepts(m *event.Message) error {
	j := t.job(m)
	return j.Check()
}

// WriteIn implements connector.StoreTarget.
func (t *Target) WriteIn(tx queue.Tx, b event.Batch) error {
	all := b
	if t.ids != nil {
		fresh, err := t.ids.fresh(tx, b)
		if err != nil {
			return err
		}
		b = fresh
	}
	if t.runs != nil {
		if err := t.runs.Appended(tx, t.queue.JobStatus, all); err != nil {
			return err
		}
	}
	if len(b) == 0 {
		return nil
	}
	jobs := make([]queue.Job, len(b))
	for i, m := range b {
		jobs[i] = t.job(m)
	}
	return tx.Append(jobs...)
}

func (t *Target) job(m *event.Message) queue.Job {
	j := queue.Job{Queue: t.queue.Name, Msg: m, Ordered: t.queue.Ordered}
	if m.Meta.Scope != nil {
		j.Scope = *m.Meta.Scope
	}
	return j
}
