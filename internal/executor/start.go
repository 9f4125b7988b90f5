package executor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/machine"
	"github.com/weirdata/weir/internal/machine/jsonvalue"
	"github.com/weirdata/weir/internal/queue"
)

// waitedPrefix begins the IDs of executions that somebody waits for.
const waitedPrefix = "wait-"

func waited(execution string) bool { return strings.HasPrefix(execution, waitedPrefix) }

// keepWaited is how long the end of an execution is kept at least for the one who waits for
// it.
const keepWaited = remembered

// keep is how long the end of an execution is kept.
func (m *Machine) keep(execution string) time.Duration {
	if waited(execution) {
		return max(m.o.Keep, keepWaited)
	}
	return m.o.Keep
}

// Store implements connector.Machine.
func (m *Machine) Store() queue.Store { return m.o.Store() }

// Accepts implements connector.Machine.
func (m *Machine) Accepts(msg *event.Message) error {
	j := m.startJob(msg, "")
	if err := j.Check(); err != nil {
		return err
	}
	if len(msg.Data) == 0 {
		return nil
	}
	if _, err := jsonvalue.Parse(msg.Data); err != nil {
		return fault.New(fault.Invalid, fmt.Errorf("start machine %q: the input is not JSON: %w", m.o.Name, err))
	}
	if most := m.o.MaxPayload; len(msg.Data) > most {
		return fault.New(fault.Invalid, fmt.Errorf("start machine %q: the input has %d bytes, at most %d are allowed", m.o.Name, len(msg.Data), most))
	}
	return nil
}

// StartIn implements connector.Machine.
func (m *Machine) StartIn(tx queue.Tx, b event.Batch) error {
	jobs := make([]queue.Job, len(b))
	for i, msg := range b {
		jobs[i] = m.startJob(msg, "")
	}
	return tx.Append(jobs...)
}

// startJob is the job that starts an execution with msg. Headers that mean something to
// the machine are never those of a message.
func (m *Machine) startJob(msg *event.Message, id string) queue.Job {
	headers := msg.Meta.Headers
	_, named := headers.Get(headerExecution)
	_, failed := headers.Get(headerFailed)
	if named || failed || id != "" {
		twin := event.New(msg.Data)
		twin.Key, twin.Meta, twin.Times = msg.Key, msg.Meta, msg.Times
		twin.SetRaw(msg.Raw())
		twin.Meta.Headers = headers.Del(headerExecution).Del(headerFailed)
		if id != "" {
			twin.SetHeader(headerExecution, id)
		}
		msg = twin
	}
	j := queue.Job{Queue: m.starts, Msg: msg}
	if s := msg.Meta.Scope; s != nil {
		j.Scope = *s
	}
	return j
}

// How often the ends of executions are looked for; those of this process are told at once.
const (
	endedLook     = 20 * time.Millisecond
	endedLookMost = time.Second
)

// Execute implements connector.Machine.
func (m *Machine) Execute(ctx context.Context, b event.Batch) error {
	open, ids, known := make(map[int]string, len(b)), make([]string, len(b)), make([]bool, len(b))
	n := names{machine: m.o.Name}
	for i, msg := range b {
		ids[i], known[i] = n.of(msg)
		ids[i] = waitedPrefix + ids[i]
		open[i] = ids[i]
	}
	if err := m.startWaited(ctx, b, ids, known); err != nil {
		return err
	}
	failed := map[int]error{}
	for delay := endedLook; ; delay = min(2*delay, endedLookMost) {
		told := m.ended.wait()
		if err := m.collect(ctx, open, known, failed); err != nil && ctx.Err() == nil {
			return err
		}
		if len(open) == 0 {
			break
		}
		t := time.NewTimer(delay)
		select {
		case <-told:
			delay = endedLook
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			for i := range open {
				failed[i] = context.Cause(ctx)
			}
			return &connector.Partial{Failed: failed}
		}
		t.Stop()
	}
	if len(failed) > 0 {
		return &connector.Partial{Failed: failed}
	}
	return nil
}

// collect takes the executions that have ended out of open. The end of one that succeeded is
// remembered where its message would find it; one that failed is done with.
func (m *Machine) collect(ctx context.Context, open map[int]string, known []bool, failed map[int]error) error {
	ends := make(map[int][]byte, len(open))
	if err := m.o.Store().View(ctx, func(r queue.Reader) error {
		clear(ends)
		for i, id := range open {
			v, err := r.Get(m.endedKey(id))
			if err != nil {
				return err
			}
			ends[i] = slices.Clone(v)
		}
		return nil
	}); err != nil {
		return fmt.Errorf("look for executions that ended: %w", err)
	}
	var gone [][]byte
	for i, b := range ends {
		if b == nil {
			continue
		}
		_, x, err := m.decode(ctx, open[i], b)
		if err != nil {
			return err
		}
		if x.Status != machine.Succeeded {
			failed[i] = fault.New(fault.Invalid, fmt.Errorf("execution %q of machine %q: %w", open[i], m.o.Name, errors.New(causeOf(&x))))
		}
		if known[i] && x.Status != machine.Succeeded || !known[i] && m.o.Keep == 0 {
			gone = append(gone, m.endedKey(open[i]))
		}
		delete(open, i)
	}
	if len(gone) == 0 {
		return nil
	}
	// When this fails, sweep does it later.
	_ = m.o.Store().Update(ctx, func(tx queue.Tx) error {
		for _, key := range gone {
			if err := tx.Delete(key); err != nil {
				return err
			}
		}
		return nil
	})
	return nil
}

// broadcast wakes all who wait.
type broadcast struct {
	mu sync.Mutex
	ch chan struct{}
}

func (b *broadcast) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *broadcast) tell() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}
