package executor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/machine"
	"github.com/weirdata/weir/internal/queue"
)

// Seen is an execution as operators see it: as far as it is recorded.
type Seen struct {
	ID     string
	Status machine.Status
	// Started and Stopped are zero where that has not been, or is not recorded.
	Started, Stopped time.Time
	// At is where its threads are, Place the state that it failed in, and Cause why, in a line.
	At    []machine.Standing
	Place string
	Cause string
	// Due is when the next timer of a state fires; zero where none waits, or it was not looked up.
	Due time.Time
	// Events counts those of its history.
	Events uint64
	// Job is that of a failed execution, in the queue of the machine.
	Job string
	// Trouble is why its record cannot be read.
	Trouble string

	// Definition, Input and Output are of one that was looked at alone.
	Definition    *machine.Definition
	Input, Output []byte
}

// Bounds of looking.
const (
	lookThreads = 100    // threads of an execution
	lookTimers  = 20_000 // jobs that are looked through for the timers of executions
	lookPage    = 500    // records that are read at once
)

// Running calls fn with the executions that go on, in the order of their IDs, from after one on, until fn
// returns false. Those whose record cannot be read are told with their trouble.
func (m *Machine) Running(ctx context.Context, after string, fn func(*Seen) bool) error {
	return m.look(ctx, m.stateKey(""), after, fn)
}

// Kept is the same for those that have ended and are kept.
func (m *Machine) Kept(ctx context.Context, after string, fn func(*Seen) bool) error {
	return m.look(ctx, m.endedPrefix(), after, fn)
}

func (m *Machine) look(ctx context.Context, prefix []byte, after string, fn func(*Seen) bool) error {
	var from []byte
	if after != "" {
		from = append(slices.Clone(prefix), after...)
	}
	for {
		var page []queue.Record
		err := m.o.Store().View(ctx, func(r queue.Reader) error {
			page = page[:0]
			for rec, err := range r.Scan(prefix, from) {
				if err != nil {
					return err
				}
				if page = append(page, rec); len(page) == lookPage {
					break
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("machine %q: read its executions: %w", m.o.Name, err)
		}
		for i := range page {
			s, _ := m.seen(ctx, string(page[i].Key[len(prefix):]), page[i].Value)
			if !fn(s) {
				return nil
			}
		}
		if len(page) < lookPage {
			return nil
		}
		from = page[len(page)-1].Key
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// seen is what a record says of an execution.
func (m *Machine) seen(ctx context.Context, id string, record []byte) (*Seen, *machine.Execution) {
	s := &Seen{ID: id}
	def, x, err := m.decode(ctx, id, record)
	if err != nil {
		s.Status, s.Trouble = machine.Running, err.Error()
		return s, nil
	}
	s.Status, s.Started, s.Stopped, s.Events, s.Definition = x.Status, x.Started, x.Stopped, x.Events, def
	s.At = x.Standings(lookThreads)
	if x.Status.Ended() && x.Status != machine.Succeeded {
		s.Cause = causeOf(&x)
	}
	return s, &x
}

// Failed calls fn with the executions that failed, in the order of their jobs, from after one on.
func (m *Machine) Failed(ctx context.Context, after queue.ID, fn func(*Seen, queue.ID) bool) error {
	return m.each(ctx, queue.Search{Filter: queue.Filter{Queue: m.starts}, State: queue.Buried}, after, func(j *queue.Job) bool {
		return fn(failedOf(j), j.ID)
	})
}

func failedOf(j *queue.Job) *Seen {
	s := &Seen{ID: j.Msg.Meta.Headers.Text(headerFailed), Status: machine.Failed, Stopped: j.At, Cause: j.Cause, Place: placeOf(j.Cause), Job: j.ID.String()}
	if s.ID == "" {
		if s.ID = j.Msg.Meta.Headers.Text(headerExecution); s.ID == "" {
			s.ID = j.ID.String() // it failed with the job that started it
		}
	}
	for status := machine.Failed; status <= machine.Aborted; status++ {
		if strings.HasPrefix(j.Cause, status.String()) {
			s.Status = status
		}
	}
	return s
}

// placeOf is the state that a cause names, as causeOf writes it.
func placeOf(cause string) string {
	const before, behind = ` (in state "`, `")`
	at := strings.LastIndex(cause, before)
	if at < 0 || !strings.HasSuffix(cause, behind) {
		return ""
	}
	return cause[at+len(before) : len(cause)-len(behind)]
}

// errAdmin is that the store cannot list.
var errAdmin = errors.New("the store cannot list what is in a queue")

// each calls fn with the jobs that s chooses.
func (m *Machine) each(ctx context.Context, s queue.Search, after queue.ID, fn func(*queue.Job) bool) error {
	a, can := m.o.Store().(queue.Admin)
	if !can {
		return errAdmin
	}
	for {
		p, err := a.List(ctx, s, after, lookPage)
		if err != nil {
			return fmt.Errorf("machine %q: list jobs: %w", m.o.Name, err)
		}
		for i := range p.Jobs {
			if !fn(&p.Jobs[i]) {
				return nil
			}
		}
		if after = p.Next; after == (queue.ID{}) {
			return nil
		}
	}
}

// Timers sets Due of executions that wait, looking through a bounded number of jobs; all is false where
// there are more.
func (m *Machine) Timers(ctx context.Context, of []*Seen) (all bool, err error) {
	by := map[string]*Seen{}
	for _, s := range of {
		if s.Waits() {
			by[s.ID] = s
		}
	}
	if len(by) == 0 {
		return true, nil
	}
	looked, left := 0, true
	err = m.each(ctx, queue.Search{Filter: queue.Filter{Queue: m.steps}}, queue.ID{}, func(j *queue.Job) bool {
		if looked++; looked > lookTimers {
			left = false
			return false
		}
		var job stepJob
		if job.read(j.Msg.Data) != nil || job.Timer == 0 || job.State == "" { // that of a deadline is of no state
			return true
		}
		if s := by[job.Execution]; s != nil && (s.Due.IsZero() || j.NotBefore.Before(s.Due)) {
			s.Due = j.NotBefore
		}
		return true
	})
	return left, err
}

// Waits reports whether a thread of s waits for a time.
func (s *Seen) Waits() bool {
	return slices.ContainsFunc(s.At, func(t machine.Standing) bool { return t.Phase == "waiting" || t.Phase == "retrying" })
}

// Look is one execution with what it was started with and what it came to; nil where there is none. One
// that failed is found by its job too.
func (m *Machine) Look(ctx context.Context, id string, job queue.ID) (*Seen, error) {
	if job != (queue.ID{}) {
		return m.lookFailed(ctx, job)
	}
	for range 3 { // it may change, and its parts with it
		var record []byte
		err := m.o.Store().View(ctx, func(r queue.Reader) error {
			for _, key := range [][]byte{m.stateKey(id), m.endedKey(id)} {
				v, err := r.Get(key)
				if err != nil || v != nil {
					record = slices.Clone(v)
					return err
				}
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("machine %q: read execution %q: %w", m.o.Name, id, err)
		}
		if record == nil {
			return nil, nil
		}
		s, x := m.seen(ctx, id, record)
		if x == nil {
			return s, nil
		}
		if s.Input, err = x.InputText(); errors.Is(err, machine.ErrPart) {
			continue
		} else if err != nil {
			return nil, fmt.Errorf("machine %q: execution %q: %w", m.o.Name, id, err)
		}
		if x.Output.Defined() {
			s.Output = x.Output.Append(nil)
		}
		return s, nil
	}
	return nil, fmt.Errorf("machine %q: execution %q changes faster than it can be read: look again", m.o.Name, id)
}

func (m *Machine) lookFailed(ctx context.Context, id queue.ID) (found *Seen, err error) {
	err = m.each(ctx, queue.Search{Filter: queue.Filter{Queue: m.starts}, State: queue.Buried, IDs: []queue.ID{id}}, queue.ID{}, func(j *queue.Job) bool {
		found = failedOf(j)
		found.Definition, found.Input = m.o.Definition, slices.Clone(j.Msg.Data)
		return false
	})
	return found, err
}

// Definition is that of executions that are started now.
func (m *Machine) Definition() *machine.Definition { return m.o.Definition }

// Keeps is how long executions stay after they ended.
func (m *Machine) Keeps() time.Duration { return m.o.Keep }

// Starts is the queue of executions that are to be started, and Steps that of timers and tasks.
func (m *Machine) Starts() string { return m.starts }

// Steps is the queue of timers and tasks.
func (m *Machine) Steps() string { return m.steps }

// Now is the time that executions go by; ok is false while no store is open.
func (m *Machine) Now() (now time.Time, ok bool) {
	s := m.o.Store()
	if s == nil {
		return now, false
	}
	return s.Now(), true
}
