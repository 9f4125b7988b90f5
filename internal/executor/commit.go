package executor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/machine"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/outage"
	"github.com/weirdata/weir/internal/queue"
)

// unit is what one job came to: a part of a transaction.
type unit struct {
	w       *work
	verdict queue.Result
	start   bool

	key           []byte // of the execution's record; nil when it is not touched
	before, after []byte // the record, nil when there is none
	compare       bool   // before was read, and must still be there
	parts         []queue.Record
	drops         [][]byte // keys of parts
	once          []byte   // key of a record that must not be there: the end of this very execution

	timers  []timer
	appends []queue.Job
	puts    []func(queue.Tx) error // effects of functions
	end     []byte                 // record of an execution that ended and is kept
	endKey  []byte
	failed  []byte // key of the record that says why it failed
	cause   string
	ended   machine.Status
	refused bool // buried because it cannot be worked on

	failures []machine.Failure // of states, and what became of them

	conflict bool // somebody else changed the execution
}

type timer struct {
	id  uint64
	job queue.Job
}

// errConflict says that an execution was changed by another process.
var errConflict = errors.New("the execution was changed meanwhile")

// apply is u inside a transaction.
func (u *unit) apply(tx queue.Tx) error {
	if err := u.meets(tx); err != nil || u.conflict {
		return err
	}
	if err := tx.Settle(u.verdict); err != nil {
		return err
	}
	if err := u.write(tx); err != nil {
		return err
	}
	for _, t := range u.timers {
		if err := tx.Append(t.job); err != nil {
			return err
		}
	}
	if len(u.appends) > 0 {
		return tx.Append(u.appends...)
	}
	return nil
}

// meets sets conflict where the store does not have what u was made from.
func (u *unit) meets(tx queue.Tx) error {
	if u.compare {
		now, err := tx.Get(u.key)
		if err != nil {
			return err
		}
		if !bytes.Equal(now, u.before) {
			u.conflict = true
			return nil
		}
	}
	if u.once != nil {
		end, err := tx.Get(u.once)
		if err != nil {
			return err
		}
		u.conflict = end != nil
	}
	return nil
}

// write writes the records of u, and deletes those it makes unnecessary.
func (u *unit) write(tx queue.Tx) error {
	if err := u.writeHead(tx); err != nil {
		return err
	}
	for _, p := range u.parts {
		if err := tx.Put(p.Key, p.Value); err != nil {
			return err
		}
	}
	for _, key := range u.drops {
		if err := tx.Delete(key); err != nil {
			return err
		}
	}
	if u.end != nil {
		if err := tx.Put(u.endKey, u.end); err != nil {
			return err
		}
	}
	if u.failed != nil {
		if err := tx.Put(u.failed, []byte(u.cause)); err != nil {
			return err
		}
	}
	for _, put := range u.puts {
		if err := put(tx); err != nil {
			return err
		}
	}
	return nil
}

// writeHead writes the record of the execution itself, where it has changed.
func (u *unit) writeHead(tx queue.Tx) error {
	switch {
	case u.key == nil:
	case u.after != nil && !bytes.Equal(u.before, u.after):
		return tx.Put(u.key, u.after)
	case u.after == nil && (u.before != nil || !u.start):
		return tx.Delete(u.key)
	}
	return nil
}

// size is about how many bytes u adds to a transaction.
func (u *unit) size() int {
	n := len(u.after) + len(u.end) + len(u.cause)
	for i := range u.appends {
		n += len(u.appends[i].Msg.Data)
	}
	for i := range u.parts {
		n += len(u.parts[i].Key) + len(u.parts[i].Value)
	}
	for _, key := range u.drops {
		n += len(key)
	}
	return n + 256*(len(u.timers)+len(u.puts)+1)
}

// Bounds of one transaction of many units, and how many are under way at once: one is being
// put together while the other reaches the disk.
const (
	commitUnits  = 512
	commitBytes  = 8 << 20
	commitAtOnce = 2
)

// commits commits units, as many as there are, until no more come.
func (m *Machine) commits(ctx context.Context) {
	for u := range m.units {
		group := []*unit{u}
		size := u.size()
	gather:
		for len(group) < commitUnits && size < commitBytes {
			select {
			case next, ok := <-m.units:
				if !ok {
					break gather
				}
				group = append(group, next)
				size += next.size()
			default:
				break gather
			}
		}
		m.commit(ctx, group)
	}
}

// The waits between attempts of a commit that the store could not do.
const (
	commitAgain     = 100 * time.Millisecond
	commitAgainMost = 5 * time.Second
)

// commit commits a group as one transaction, and one by one when that is refused.
func (m *Machine) commit(ctx context.Context, group []*unit) {
	for delay := commitAgain; ; delay = min(2*delay, commitAgainMost) {
		err := m.o.Store().Update(ctx, func(tx queue.Tx) error {
			for _, u := range group {
				u.conflict = false
			}
			for _, u := range group {
				if err := u.apply(tx); err != nil {
					return err
				}
			}
			return nil
		})
		switch {
		case err == nil:
			for _, u := range group {
				m.committed(u)
			}
			return
		case errors.Is(err, queue.ErrClosed), fault.Of(err) == fault.Fatal:
			m.fail(fmt.Errorf("commit: %w", err))
			return // the jobs stay held; nothing can be released, and nothing is lost
		case errors.Is(err, queue.ErrLeaseLost), fault.Of(err) == fault.Invalid:
			if len(group) == 1 {
				m.refused(ctx, group[0], err)
				return
			}
			for i := range group {
				m.commit(ctx, group[i:i+1])
			}
			return
		}
		m.o.Log.Warn("cannot commit, trying again", meter.KeyError, err, meter.KeyMessages, len(group), meter.KeyDelay, delay)
		if m.hopeless() {
			return // handed out again
		}
		pause(ctx, delay)
	}
}

// hopeless reports whether the machine stops, so that an outage is not waited for.
func (m *Machine) hopeless() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.draining
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// refused judges a unit that no transaction takes.
func (m *Machine) refused(ctx context.Context, u *unit, err error) {
	if errors.Is(err, queue.ErrLeaseLost) {
		m.o.Log.Warn("a job is handed out again", meter.KeyError, err, keyExecution, u.w.execution)
		m.forget(u.w)
		return
	}
	if u.refused || u.key == nil {
		m.fail(fmt.Errorf("give up a job of execution %q: %w", u.w.execution, err))
		return
	}
	m.o.Log.Error("an execution cannot be stored", meter.KeyError, err, keyExecution, u.w.execution)
	if u.start {
		m.commit(ctx, []*unit{m.buried(u.w, err)})
		return
	}
	m.commit(ctx, []*unit{m.aborted(ctx, u, err)})
}

// aborted ends an execution that cannot be stored as it would be.
func (m *Machine) aborted(ctx context.Context, u *unit, why error) *unit {
	def, x, err := m.decode(ctx, u.w.execution, u.before)
	if err != nil {
		return m.buried(u.w, err)
	}
	name, cause := "States.DataLimitExceeded", why.Error()
	next, _, err := def.Step(x, machine.Event{Kind: machine.Abort, Error: &name, Cause: &cause}, machine.Environment{Now: m.now()})
	if err != nil {
		return m.buried(u.w, err)
	}
	end := &unit{w: u.w, verdict: u.w.job.Done(), key: u.key, before: u.before, compare: u.compare, refused: true}
	m.finish(end, def, &next)
	return end
}

// committed does what follows a commit.
func (m *Machine) committed(u *unit) {
	if u.conflict {
		// Another process stepped it. What this one found out is worth nothing: step again.
		m.o.Log.Debug("stepping an execution again", meter.KeyError, errConflict, keyExecution, u.w.execution)
		m.again(u.w)
		return
	}
	m.tellFailures(u)
	m.countEnd(u)
	if u.start && !u.refused {
		m.o.Meter.Machine.Started.Add(1)
		m.o.Meter.Read.Add(1)
		m.o.Meter.ReadBytes.Add(int64(len(u.w.job.Msg.Data)))
	}
	switch {
	case u.ended == machine.Succeeded:
		m.o.Meter.Target.Wrote(1, 0)
	case u.ended.Ended():
		m.o.Meter.Invalid.Add(1)
		if u.cause != "" {
			m.tellFailed(u, u.cause)
		}
	case u.refused && u.verdict.Verdict == queue.Dead:
		m.tellFailed(u, u.verdict.Cause)
	}
	if u.ended.Ended() && waited(u.w.execution) {
		m.ended.tell()
	}
	m.forget(u.w)
}

// countEnd counts how an execution ended.
func (m *Machine) countEnd(u *unit) {
	ended := &m.o.Meter.Machine.Ended
	switch {
	case u.refused && u.verdict.Verdict == queue.Dead:
		ended[meter.Refused].Add(1)
	case u.ended == machine.Succeeded:
		ended[meter.Succeeded].Add(1)
	case u.ended == machine.Aborted:
		ended[meter.Aborted].Add(1)
	case u.ended == machine.TimedOut:
		ended[meter.TimedOut].Add(1)
	case u.ended.Ended():
		ended[meter.Failed].Add(1)
	}
}

// failed is what is told of executions that failed (invariant 9).
var failed = &outage.Kind{Level: slog.LevelError, Text: "executions failed; their inputs are kept, dead, in the queue of the machine", Gather: time.Second, Shown: true}

// tellFailed tells of an execution that failed, or of a job that nothing could be made of.
func (m *Machine) tellFailed(u *unit, cause string) {
	m.o.Log.Debug("an execution failed", keyExecution, u.w.execution, meter.KeyError, cause)
	m.told.Note(failed, u.w.job.Scope.Destination, 1, errors.New(cause))
}

// again steps the execution of w once more. A task's answer is kept: it is not run again.
func (m *Machine) again(w *work) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.push(w)
}
