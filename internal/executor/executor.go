// Package executor runs executions of States Language machines over the durable store.
// The interpreter (package machine) says what an event makes of an execution; this package
// brings it the events, does what it asks for, and commits each step.
//
// # At rest
//
// A machine NAME has two queues and some records in the store:
//
//	queue  machine/NAME         one job for each execution to start; the payload is its input
//	queue  machine/NAME/steps   timers that are not due yet, and tasks for any worker, as JSON
//	record machine/NAME/x/ID    a running execution: the revision of its definition, then its head
//	record machine/NAME/p/ID/N  a part of it, by number and place: what is large is written once
//	record machine/NAME/e/ID    an execution that ended and is kept for a while, in one piece
//	record machine/NAME/d/REV   the text of each definition that was ever run
//	record machine/NAME/l/REV   the limits it was run with, as JSON
//	record machine/NAME/f/ID    an execution that failed and is about to be buried
//	record machine/NAME/w/ID    when a message, known by its origin, has started an execution
//
// An execution that waits is these bytes and a job with a time: no goroutine, no memory.
//
// # A step
//
// A job is leased, its execution is read, stepped, and one transaction settles the job,
// writes or deletes the execution and appends the jobs that follow. Transactions of many
// executions are committed as one; when that is refused, each is committed alone, so that
// one execution never fails another.
//
// A chain saves commits: the answer of a task that runs in this process is stepped before
// anything is committed, and what both made is committed together. Functions without effects
// (JavaScript) and functions whose effect is part of the transaction (a queue of the same
// store) may be chained at will. Of functions with effects elsewhere a chain holds one, and
// only when nothing else can happen to the execution meanwhile; otherwise the task becomes a
// job of its own, so that tasks of parallel branches run at the same time.
//
// # Promises
//
//  1. An execution that was started is never lost: until it has ended it has an open job.
//  2. A crash resumes every execution at its last committed step. A task whose answer is
//     committed never runs again. A task with effects that was under way runs again: its
//     function is called at least once. An effect on a queue of the same store happens
//     exactly once.
//  3. One execution's failure, timeout or panic never changes another's outcome.
//  4. What is leased at once, the workers and what one transaction holds are bounded.
//  5. An execution that succeeded leaves nothing behind, unless it is to be kept. One that
//     failed leaves a dead job of queue machine/NAME with its input and the reason; retrying
//     that job starts a new execution.
//  6. An execution goes on with the definition it was started with, and the limits that had. One
//     that this version of the program cannot read waits for one that can: its job stays open.
package executor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/machine"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/outage"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/lease"
)

// Options are what a machine is made of.
type Options struct {
	Name       string
	Definition *machine.Definition
	// MaxPayload is the limit of payloads that Definition was parsed with, in bytes; 0 means
	// machine.DefaultPayload.
	MaxPayload int
	// Functions do the work of Task states, by name.
	Functions map[string]Function
	// Store returns the durable store; it is open before Open is called.
	Store func() queue.Store
	Log   *slog.Logger
	// Look is the command that lists the executions that failed, for the log.
	Look string
	// Meter counts: read is executions started, written those that succeeded, invalid
	// those that did not, in flight the jobs that are worked on.
	Meter *meter.Pipeline
	// Workers is the most tasks that run at once; 0 means DefaultWorkers.
	Workers int
	// InFlight is the most jobs leased at once; 0 means DefaultInFlight.
	InFlight int
	// Lease is how long a worker may hang before its job is given to another; 0 means a
	// minute.
	Lease time.Duration
	// Drain is how long work in progress may go on after a stop; 0 means 30 s.
	Drain time.Duration
	// Keep is how long the record of an execution stays after it ended; 0 means not at all.
	Keep time.Duration
}

// Defaults of Options.
const (
	DefaultWorkers  = 32
	DefaultInFlight = 1024
	defaultLease    = time.Minute
	defaultDrain    = 30 * time.Second
	recentBytes     = 2 << 20
)

// Machine runs the executions of one machine.
type Machine struct {
	o           Options
	starts      string // queue
	steps       string // queue
	definitions definitions
	recent      *machine.Recent // bounded by recentBytes, or one payload where that is more

	held *lease.Holder // what is worked on

	mu       sync.Mutex
	busy     map[string][]*work // executions that are being stepped, and what waits for them
	draining bool
	failed   error
	stop     context.CancelFunc // of the lease loop

	ready chan *work // never blocks: as large as what is in flight
	units chan *unit // likewise
	freed chan struct{}

	told   *outage.Teller
	ended  broadcast // of executions somebody waits for
	opened atomic.Bool
	open   map[string]Function // functions that are to be closed
	state  atomic.Int32
}

var _ connector.Machine = (*Machine)(nil)

// State is where a machine is in its life.
type State int32

// The states.
const (
	Built State = iota
	Running
	Draining
	Ended
)

// New makes a machine that is not open. It touches neither network nor disk.
func New(o Options) *Machine {
	if o.Workers <= 0 {
		o.Workers = DefaultWorkers
	}
	if o.MaxPayload <= 0 {
		o.MaxPayload = machine.DefaultPayload
	}
	if o.InFlight <= 0 {
		o.InFlight = DefaultInFlight
	}
	if o.Lease <= 0 {
		o.Lease = defaultLease
	}
	if o.Drain <= 0 {
		o.Drain = defaultDrain
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Meter == nil {
		o.Meter = meter.NewPipeline(StartQueue(o.Name))
	}
	if o.Meter.Machine == nil {
		o.Meter.Machine = &meter.Machine{Name: o.Name}
	}
	m := &Machine{
		o: o, starts: StartQueue(o.Name), steps: StepQueue(o.Name),
		busy:  map[string][]*work{},
		ready: make(chan *work, o.InFlight), units: make(chan *unit, o.InFlight), freed: make(chan struct{}, 1),
	}
	m.recent = machine.NewRecent(max(recentBytes, o.MaxPayload))
	m.told = outage.New(o.Log, "", o.Look)
	m.held = lease.New(o.Store, o.Lease)
	m.definitions.set(o.Definition)
	return m
}

// StartQueue is the queue of executions to start of the machine called name.
func StartQueue(name string) string { return connector.StartQueue(name) }

// StepQueue is the queue of timers and tasks of the machine called name.
func StepQueue(name string) string { return connector.StepQueue(name) }

// Name is the machine's name.
func (m *Machine) Name() string { return m.o.Name }

// Meter is the machine's counters.
func (m *Machine) Meter() *meter.Pipeline { return m.o.Meter }

// now is the time that executions go by: that of the store, which hands their timers out.
func (m *Machine) now() time.Time { return m.o.Store().Now() }

// State is where the machine is in its life.
func (m *Machine) State() State { return State(m.state.Load()) }

// Open opens the functions and records the definition.
func (m *Machine) Open(ctx context.Context) error {
	if !m.opened.CompareAndSwap(false, true) {
		return nil
	}
	m.open = map[string]Function{}
	for name, f := range m.o.Functions {
		if err := f.Open(ctx); err != nil {
			return errors.Join(fmt.Errorf("machine %q: open function %q: %w", m.o.Name, name, err), m.Close(ctx))
		}
		m.open[name] = f
	}
	if err := m.recordDefinition(ctx); err != nil {
		return errors.Join(err, m.Close(ctx))
	}
	return nil
}

// Close closes the functions that Open has opened: another machine may have others of them
// open. It is safe without Open and twice.
func (m *Machine) Close(ctx context.Context) error {
	if !m.opened.CompareAndSwap(true, false) {
		return nil
	}
	var errs []error
	for name, f := range m.open {
		if err := f.Close(ctx); err != nil {
			errs = append(errs, fmt.Errorf("machine %q: close function %q: %w", m.o.Name, name, err))
		}
	}
	return errors.Join(errs...)
}

// Run works on executions until ctx ends, then lets what is under way finish within the
// drain time, hands the rest back to the store and closes the functions. Executions are not
// touched by a stop: they go on at the next start.
func (m *Machine) Run(ctx context.Context) (err error) {
	after := context.WithoutCancel(ctx)
	defer func() { err = errors.Join(err, m.Close(after)); m.state.Store(int32(Ended)) }()
	if err := m.Open(ctx); err != nil {
		return err
	}
	m.state.Store(int32(Running))
	endStarts, endSteps := queue.Subscribe(m.o.Store(), m.starts), queue.Subscribe(m.o.Store(), m.steps)
	defer endStarts()
	defer endSteps()
	leasing, stop := context.WithCancel(ctx)
	defer stop()
	m.mu.Lock()
	m.stop = stop
	m.mu.Unlock()
	work, cut := context.WithCancel(after)
	defer cut()
	var workers, committers, sweeper sync.WaitGroup
	for range m.o.Workers {
		workers.Go(func() { m.work(work) })
	}
	for range commitAtOnce {
		committers.Go(func() { m.commits(after) })
	}
	sweeping, ended := context.WithCancel(after)
	sweeper.Go(func() { m.sweeps(sweeping) })

	m.lease(leasing)

	m.state.Store(int32(Draining))
	m.mu.Lock()
	m.draining = true
	close(m.ready)
	m.mu.Unlock()
	patience := time.AfterFunc(m.o.Drain*3/4, cut)
	workers.Wait()
	patience.Stop()
	close(m.units)
	committers.Wait()
	ended()
	sweeper.Wait()
	m.told.End()
	m.release(after)
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.failed
}

// fail ends the machine with an error.
func (m *Machine) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failed == nil {
		m.failed = fmt.Errorf("machine %q: %w", m.o.Name, err)
	}
	m.stop()
}

// How long the lease loop waits without a wake-up, and after an error.
const (
	look      = 30 * time.Second
	afterFail = time.Second
)

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// lease takes jobs while there is room, steps before starts: what runs is finished before
// more is begun.
func (m *Machine) lease(ctx context.Context) {
	for ctx.Err() == nil {
		wakeSteps := m.o.Store().Wake(queue.Filter{Queue: m.steps})
		wakeStarts := m.o.Store().Wake(queue.Filter{Queue: m.starts})
		room := m.room()
		took, wait := 0, look
		var back <-chan struct{}
		for _, q := range [...]string{m.steps, m.starts} {
			if took >= room {
				break
			}
			jobs, err := m.o.Store().Lease(ctx, queue.Query{Filter: queue.Filter{Queue: q}, Limit: room - took, For: m.o.Lease})
			if err != nil {
				if ctx.Err() != nil {
					return
				}
				if fault.Of(err) == fault.Fatal || errors.Is(err, queue.ErrClosed) {
					m.fail(err)
					return
				}
				if back = queue.Leasing(m.o.Store()); isClosed(back) {
					m.o.Log.Warn("cannot lease jobs, trying again", meter.KeyError, err)
					wait, back = afterFail, nil
				}
				break
			}
			took += len(jobs)
			m.admit(jobs)
		}
		if took > 0 {
			continue
		}
		if room == 0 {
			wakeSteps, wakeStarts = nil, nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-wakeSteps:
		case <-wakeStarts:
		case <-back: // a store that was away tells of that itself
		case <-m.freed:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// room is how many jobs may be leased; 0 until it is worth the while.
func (m *Machine) room() int {
	if free := m.o.InFlight - m.held.Len(); free >= max(m.o.InFlight/8, 1) {
		return free
	}
	return 0
}

// admit takes leased jobs in.
func (m *Machine) admit(jobs []queue.Job) {
	m.held.Hold(jobs...)
	m.o.Meter.InFlight.Add(int64(len(jobs)))
	for i := range jobs {
		m.dispatch(m.read(&jobs[i]))
	}
}

// dispatch hands work to a worker, or lets it wait while its execution is being stepped.
func (m *Machine) dispatch(w *work) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if w.claims() {
		if waiting, busy := m.busy[w.execution]; busy {
			m.busy[w.execution] = append(waiting, w)
			return
		}
		m.busy[w.execution] = nil
		w.claimed = true
	}
	m.push(w)
}

// push needs m.mu. What is not pushed because the machine drains stays held, and is released.
func (m *Machine) push(w *work) {
	if !m.draining {
		m.ready <- w
	}
}

// leave gives up w's claim on its execution, to what waits for it.
func (m *Machine) leave(w *work) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !w.claimed {
		return
	}
	w.claimed = false
	waiting := m.busy[w.execution]
	if len(waiting) == 0 {
		delete(m.busy, w.execution)
		return
	}
	next := waiting[0]
	m.busy[w.execution] = waiting[1:]
	next.claimed = true
	m.push(next)
}

// forget ends the work on a job: it is settled, or will be handed out again.
func (m *Machine) forget(w *work) {
	m.leave(w)
	m.held.Forget(*w.job)
	m.o.Meter.InFlight.Add(-1)
	if m.room() > 0 {
		select {
		case m.freed <- struct{}{}:
		default:
		}
	}
}

// release hands what was not worked on back to the store.
func (m *Machine) release(ctx context.Context) {
	n, err := m.held.Close(ctx)
	m.o.Meter.InFlight.Add(-int64(n))
	if err != nil {
		m.o.Log.Warn("jobs are handed out again only when their lease ends", meter.KeyError, err, meter.KeyMessages, n)
	}
}
