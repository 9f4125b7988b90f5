package executor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"time"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/machine"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/queue"
)

// work is a worker: it takes work until there is no more.
func (m *Machine) work(ctx context.Context) {
	for w := range m.ready {
		m.mu.Lock()
		draining := m.draining
		m.mu.Unlock()
		if draining || ctx.Err() != nil {
			continue // stays held, and is released
		}
		m.do(ctx, w)
	}
}

// do brings one piece of work as far as a unit that can be committed.
func (m *Machine) do(ctx context.Context, w *work) {
	u, err := m.attempt(ctx, w)
	switch {
	case err == nil && u == nil: // waits for its execution, or is no more ours
	case err == nil:
		m.units <- u
	case ctx.Err() != nil: // cut short: handed out again
	case errors.Is(err, errConflict):
		m.again(w)
	case errors.Is(err, errElsewhere), errors.Is(err, machine.ErrVersion):
		m.told.NoteAs(elsewhere, "", err.Error(), 1, err, slog.String(keyExecution, w.execution), slog.Duration(meter.KeyDelay, lookElsewhere))
		m.units <- &unit{w: w, verdict: w.job.AgainAfter(lookElsewhere, err.Error())}
	case fault.Of(err) == fault.Transient || fault.Of(err) == fault.Throttled:
		m.o.Log.Warn("cannot read an execution, trying again", meter.KeyError, err, keyExecution, w.execution)
		m.units <- &unit{w: w, verdict: w.job.AgainAfter(afterFail, err.Error())}
	default:
		m.o.Log.Error("a job of the machine is given up", meter.KeyError, err, keyExecution, w.execution)
		m.units <- m.buried(w, err)
	}
}

const keyExecution = "execution"

// lookElsewhere is when an execution is looked at again that goes on only with another version
// of the program.
const lookElsewhere = 5 * time.Minute

// attempt is do without judging the error. A panic is this job's error only.
func (m *Machine) attempt(ctx context.Context, w *work) (u *unit, err error) {
	defer func() {
		if x := recover(); x != nil {
			m.o.Meter.Panics.Add(1)
			m.o.Log.Error("a panic while an execution was stepped", keyExecution, w.execution, meter.KeyError, x, meter.KeyStack, string(debug.Stack()))
			u, err = nil, fault.New(fault.Invalid, fmt.Errorf("a panic while the execution was stepped: %v", x))
		}
	}()
	switch {
	case w.bad != nil:
		return nil, fault.New(fault.Invalid, w.bad)
	case w.failed != "":
		if u, err := m.bury(ctx, w); u != nil || err != nil {
			return u, err
		}
		w.begins("") // an operator wants it to be tried again
	case w.step.Task != 0 && w.event.Kind == 0:
		if err := m.runTask(ctx, w); err != nil {
			return nil, err
		}
		if !m.claim(w) {
			return nil, nil
		}
	}
	return m.chain(ctx, w)
}

// runTask runs the task that is a job of its own.
func (m *Machine) runTask(ctx context.Context, w *work) error {
	s := w.step
	answer, err := m.call(ctx, w.execution, s.action(), s.Input)
	if ctx.Err() != nil {
		return context.Cause(ctx) // a failure now means nothing
	}
	w.event, w.put = answered(s.Task, answer, err), answer.Put
	t, missing := m.target(s.Resource, s.Input)
	w.acted = missing == nil && t.function.Effect() == Elsewhere
	return nil
}

// answered is the event that a task's answer is.
func answered(id uint64, a Answer, err error) machine.Event {
	var known *TaskError
	switch {
	case err == nil:
		return machine.Event{Kind: machine.TaskSucceeded, ID: id, Data: a.Output}
	case errors.Is(err, errTaskTimeout):
		return machine.Event{Kind: machine.TaskTimedOut, ID: id}
	case errors.Is(err, errTaskHeartbeat):
		return machine.Event{Kind: machine.TaskTimedOut, ID: id, Heartbeat: true}
	case !errors.As(err, &known):
		known = &TaskError{Name: "States.TaskFailed", Cause: err.Error()}
	}
	return machine.Event{Kind: machine.TaskFailed, ID: id, Error: &known.Name, Cause: &known.Cause}
}

// claim makes w the one that steps its execution. Otherwise w waits for its turn.
func (m *Machine) claim(w *work) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if waiting, busy := m.busy[w.execution]; busy {
		m.busy[w.execution] = append(waiting, w)
		return false
	}
	m.busy[w.execution] = nil
	w.claimed = true
	return true
}

// task is a task to be run, and the error that it follows.
type task struct {
	machine.Action
	after string
}

// Bounds of what one chain makes before it is committed.
const (
	chainTasks = 100
	chainTime  = time.Second
)

// chain steps an execution and runs the tasks that may be run before the commit.
func (m *Machine) chain(ctx context.Context, w *work) (*unit, error) {
	u := &unit{w: w, verdict: w.job.Done(), key: m.stateKey(w.execution), start: w.start}
	def, x, err := m.load(ctx, u)
	if err != nil || def == nil {
		return u, err
	}
	if w.put != nil && slices.Contains(x.Outstanding(), w.event.ID) {
		u.puts = append(u.puts, w.put)
	}
	var (
		e     = w.event
		tasks []task    // to be run
		acted = w.acted // a function with effects elsewhere was called
		began = time.Now()
		last  = w.lastError() // why the jobs of this step are there, where something failed
	)
	for n := 0; ; n++ {
		now := m.now()
		from := len(u.failures)
		next, actions, err := def.Step(x, e, machine.Environment{Now: now, Random: rand.Float64,
			Failed: func(f machine.Failure) { u.failures = append(u.failures, f) }})
		if errors.Is(err, machine.ErrPart) {
			if changed, readErr := m.changed(ctx, u); changed || readErr != nil {
				return nil, errors.Join(errConflict, readErr)
			}
		}
		if err != nil {
			return nil, err
		}
		x = next
		if failed := u.failures[from:]; len(failed) > 0 {
			last = lastError(&failed[len(failed)-1])
		} else if n > 0 {
			last = ""
		}
		for _, a := range actions {
			switch a.Kind {
			case machine.StartTask:
				tasks = append(tasks, task{a, last})
			case machine.WaitUntil:
				u.timers = append(u.timers, timer{a.ID, after(m.timerJob(w.execution, a, now), last)})
			case machine.Cancel:
				tasks = slices.DeleteFunc(tasks, func(t task) bool { return t.ID == a.ID })
				u.timers = slices.DeleteFunc(u.timers, func(t timer) bool { return t.id == a.ID })
			case machine.Finish:
			}
		}
		at := m.inline(&x, tasks, acted)
		if at < 0 || n >= chainTasks || time.Since(began) > chainTime || x.Status.Ended() {
			break
		}
		t := tasks[at]
		tasks = slices.Delete(tasks, at, at+1)
		acted = acted || m.effect(t.Action) == Elsewhere
		answer, err := m.call(ctx, w.execution, t.Action, t.Input.Append(nil))
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err == nil && answer.Put != nil {
			u.puts = append(u.puts, answer.Put)
		}
		e = answered(t.ID, answer, err)
	}
	for _, t := range tasks {
		u.appends = append(u.appends, after(m.taskJob(w.execution, t.Action), t.after))
	}
	m.finish(u, def, &x)
	return u, nil
}

// inline is which of tasks may be run before the commit, -1 for none.
func (m *Machine) inline(x *machine.Execution, tasks []task, acted bool) int {
	for i, t := range tasks {
		if m.effect(t.Action) != Elsewhere {
			return i
		}
	}
	if len(tasks) == 1 && !acted && len(x.Outstanding()) == 1 {
		return 0
	}
	return -1
}

// effect is that of the function that a task calls.
func (m *Machine) effect(t machine.Action) Effect {
	name, _ := functionName(t.Resource)
	if invokes(t.Resource) {
		name, _ = functionName(t.Input.Get("FunctionName").Text())
	}
	if f := m.o.Functions[name]; f != nil {
		return f.Effect()
	}
	return None // it fails, and nothing happens
}

// load reads the execution that u is about: nothing when it is gone, or has ended.
func (m *Machine) load(ctx context.Context, u *unit) (*machine.Definition, machine.Execution, error) {
	ended := false
	named := u.start && u.w.execution != u.w.job.ID.String() // by one who waits for its end
	if !u.start || named {
		if err := m.o.Store().View(ctx, func(r queue.Reader) error {
			if named {
				v, err := r.Get(m.endedKey(u.w.execution))
				if ended = v != nil; ended || err != nil {
					return err
				}
			}
			v, err := r.Get(u.key)
			u.before = slices.Clone(v)
			return err
		}); err != nil {
			return nil, machine.Execution{}, fmt.Errorf("read execution %q: %w", u.w.execution, err)
		}
		u.compare = true
	}
	if named {
		u.once = m.endedKey(u.w.execution)
	}
	if u.start && u.before == nil && !ended {
		def := m.o.Definition
		x := def.New(machine.Identity{ID: "machine/" + m.o.Name + "/" + u.w.execution, Name: u.w.execution,
			Machine: "machine/" + m.o.Name, MachineName: m.o.Name})
		return def, x, nil
	}
	if u.start || u.before == nil {
		u.key, u.compare, u.once = nil, false, nil
		return nil, machine.Execution{}, nil // started already; ended already
	}
	def, x, err := m.decode(ctx, u.w.execution, u.before)
	if err == nil && x.Status.Ended() {
		u.key, u.compare = nil, false
		return nil, x, nil
	}
	return def, x, err
}

// finish makes u's record and jobs of what became of the execution.
func (m *Machine) finish(u *unit, def *machine.Definition, x *machine.Execution) {
	m.rests(u, def, x)
	if !x.Status.Ended() {
		return
	}
	u.ended = x.Status
	if m.keep(u.w.execution) > 0 {
		u.end, u.endKey = whole(def, x), m.endedKey(u.w.execution)
	}
	u.after = nil
	if x.Status == machine.Succeeded || waited(u.w.execution) {
		return
	}
	u.cause = causeOf(x)
	if u.start {
		u.verdict = u.w.job.Dead(u.cause)
		return
	}
	// The job that failed is a step; what is to be kept, and perhaps tried again, is the
	// input. A job is appended for it, which is buried as soon as it is leased.
	msg := event.New(x.Input.Append(nil))
	msg.Meta.ID = u.w.execution
	msg.SetHeader(headerFailed, u.w.execution)
	u.appends = append(u.appends, queue.Job{Queue: m.starts, Msg: msg})
	u.failed = m.failedKey(u.w.execution)
}

// causeOf is why an execution failed, in a line.
func causeOf(x *machine.Execution) string {
	s := x.Status.String()
	if x.Error != nil {
		s += " " + *x.Error
	}
	if x.Cause != nil {
		s += ": " + *x.Cause
	}
	if x.Place != "" {
		s += fmt.Sprintf(" (in state %q)", x.Place)
	}
	return s
}

// bury gives the job of a failed execution up, with the reason; nil when it was already, and
// somebody asked for it to be tried again.
func (m *Machine) bury(ctx context.Context, w *work) (*unit, error) {
	key := m.failedKey(w.failed)
	var cause []byte
	err := m.o.Store().View(ctx, func(r queue.Reader) error {
		v, err := r.Get(key)
		cause = slices.Clone(v)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read why execution %q failed: %w", w.failed, err)
	}
	if cause == nil {
		return nil, nil
	}
	return &unit{w: w, verdict: w.job.Dead(string(cause)), key: key}, nil
}

// buried gives up a job that cannot be worked on. Its execution is not touched, unless it is
// a start that somebody waits for, who hears of it.
func (m *Machine) buried(w *work, err error) *unit {
	u := &unit{w: w, verdict: w.job.Dead(err.Error()), refused: true}
	if !w.start || !waited(w.execution) {
		return u
	}
	def, env := m.o.Definition, machine.Environment{Now: m.now()}
	name, cause := "States.Runtime", err.Error()
	x := def.New(machine.Identity{ID: w.execution, Name: w.execution})
	for _, e := range []machine.Event{{Kind: machine.Start}, {Kind: machine.Abort, Error: &name, Cause: &cause}} {
		next, _, err := def.Step(x, e, env)
		if err != nil {
			return u
		}
		x = next
	}
	u.verdict = w.job.Done()
	m.finish(u, def, &x)
	return u
}
