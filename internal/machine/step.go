package machine

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/machine/jsonvalue"
)

// run is one call of Step.
type run struct {
	d         *Definition
	x         *Execution
	env       Environment
	now       int64
	actions   []Action
	runnable  []*frame // to run, last first
	made      int      // transitions
	guessable *rand.Rand
}

// Step tells what an event makes of an execution: its new state, and what is to be done.
// Both belong into one transaction. An event that is not awaited changes nothing. The error
// is of kind Invalid when the event cannot be applied (Start with an input that is not JSON or
// too large, Start twice, anything before Start), of kind Setup when the execution belongs to
// another definition, and that of Parts when a part cannot be read; the state is then as it was.
func (d *Definition) Step(x Execution, e Event, env Environment) (_ Execution, _ []Action, err error) {
	if x.revision != d.revision {
		return x, nil, fault.New(fault.Setup, fmt.Errorf("step execution %q: %w", x.ID, ErrRevision))
	}
	if x.Status.Ended() {
		return x, nil, nil
	}
	if (x.Status == Pending) != (e.Kind == Start) {
		if x.Status == Pending {
			return x, nil, fault.New(fault.Invalid, fmt.Errorf("step execution %q: it has not been started; its first event must be Start", x.ID))
		}
		return x, nil, nil // started already, by the same event
	}
	defer func() {
		if p := recover(); p != nil {
			missing, ok := p.(unread)
			if !ok {
				panic(p)
			}
			err = fmt.Errorf("step execution %q: %w", x.ID, missing.err)
		}
	}()
	next := x
	next.root = x.root.clone(nil)
	r := &run{d: d, x: &next, env: env, now: env.Now.UnixNano()}
	if err := r.apply(e); err != nil {
		return x, nil, fault.New(fault.Invalid, fmt.Errorf("step execution %q: %w", x.ID, err))
	}
	r.work()
	return next, r.actions, nil
}

// apply brings an event in.
func (r *run) apply(e Event) error {
	if e.Kind == Start {
		return r.start(e.Data)
	}
	if r.x.expires != 0 && r.now >= r.x.expires {
		r.expire()
		return nil
	}
	if e.Kind == Abort {
		f := reported(e.Error, e.Cause)
		r.finish(Aborted, jsonvalue.Value{}, f)
		r.recordAfter(0, HistoryEvent{Type: "ExecutionAborted", Error: f.name, Cause: f.cause})
		return nil
	}
	if e.ID == 0 {
		return nil
	}
	if e.Kind == TimerFired && e.ID == r.x.deadline {
		// Early: a clock that differs. Ask again.
		r.actions = append(r.actions, Action{Kind: WaitUntil, ID: e.ID, At: time.Unix(0, r.x.expires).UTC()})
		return nil
	}
	var f *frame
	r.x.root.each(func(g *frame) {
		if g.id == e.ID {
			f = g
		}
	})
	if f == nil {
		return nil
	}
	r.deliver(f, e)
	return nil
}

// deliver hands an event to the frame that waits for it.
func (r *run) deliver(f *frame, e Event) {
	if (f.phase == inTask) != (e.Kind != TimerFired) {
		return
	}
	if f.state.broken != "" && e.Kind != TaskSubmitted {
		f.id, f.phase = 0, ready
		r.leave(f, failedOutcome(r.unusable(f.state)))
		return
	}
	switch e.Kind {
	case TaskSucceeded:
		f.id = 0
		r.taskSucceeded(f, e.Data)
	case TaskFailed:
		f.id = 0
		r.taskFailed(f, f.state.task.events.failed, reported(e.Error, e.Cause))
	case TaskTimedOut:
		f.id = 0
		r.taskFailed(f, f.state.task.events.timedOut, &failure{name: jsonvalue.OfString(errorTimeout), heartbeat: e.Heartbeat})
	case TaskSubmitted:
		v, err := parseData(e.Data, "null")
		if err == nil && f.state.broken == "" {
			r.record(f, HistoryEvent{Type: "TaskSubmitted", Output: v, Resource: f.state.task.resource})
		}
	case TimerFired:
		f.id = 0
		r.timerFired(f)
	}
}

func (r *run) timerFired(f *frame) {
	switch f.phase {
	case waiting:
		r.leave(f, r.waited(f))
	case retrying:
		r.leave(f, r.execute(f))
	case yielded:
		f.phase = ready
		r.runnable = append(r.runnable, f)
	}
}

func parseData(data []byte, otherwise string) (jsonvalue.Value, error) {
	if len(data) == 0 {
		return jsonvalue.ParseString(otherwise)
	}
	return jsonvalue.Parse(data)
}

func (r *run) start(data []byte) error {
	v, err := parseData(data, "{}")
	if err != nil {
		return fmt.Errorf("the input is not JSON: %w", err)
	}
	if v.Size() > r.d.limits.Payload {
		return fmt.Errorf("the input has %d bytes, at most %d are allowed", v.Size(), r.d.limits.Payload)
	}
	x := r.x
	x.Status, x.Started, x.Input = Running, r.env.Now.UTC(), v
	r.recordAfter(0, HistoryEvent{Type: "ExecutionStarted", Input: v})
	if r.d.timeout > 0 {
		at := r.env.Now.Add(r.d.timeout)
		x.expires, x.deadline = at.UnixNano(), r.newID()
		r.actions = append(r.actions, Action{Kind: WaitUntil, ID: x.deadline, At: at.UTC()})
	}
	x.root = &frame{state: r.d.top.start, input: hold(v)}
	r.runnable = append(r.runnable, x.root)
	return nil
}

func (r *run) newID() uint64 {
	r.x.ids++
	return r.x.ids
}

// token is what a task is known by outside.
func (r *run) token(task uint64) string {
	if r.env.Token != nil {
		return r.env.Token(r.x.ID, task)
	}
	var plain, encoded [256]byte
	name := strconv.AppendUint(append(append(plain[:0], r.x.ID...), '#'), task, 10)
	return string(base64.RawURLEncoding.AppendEncode(encoded[:0], name))
}

// expire ends an execution whose time is over.
func (r *run) expire() {
	r.finish(TimedOut, jsonvalue.Value{}, &failure{})
	r.recordAfter(0, HistoryEvent{Type: "ExecutionTimedOut", Error: jsonvalue.OfString(errorTimeout)})
}

// finish ends the execution and cancels what is out.
func (r *run) finish(status Status, output jsonvalue.Value, f *failure) {
	x := r.x
	r.executionInput()
	r.cancel(x.root)
	if x.deadline != 0 && (x.expires == 0 || r.now < x.expires) {
		r.actions = append(r.actions, Action{Kind: Cancel, ID: x.deadline})
	}
	x.root, x.deadline, x.expires = nil, 0, 0
	x.apart = held{}
	x.Status, x.Stopped, x.Output = status, r.env.Now.UTC(), output
	if f != nil {
		x.Error, x.Cause, x.Place = textPointer(f.name), textPointer(f.cause), f.place
	}
	r.runnable = nil
	r.actions = append(r.actions, Action{Kind: Finish, Status: status, Output: output, Error: x.Error, Cause: x.Cause})
}

// cancel takes back what f and the frames below it have out.
func (r *run) cancel(f *frame) {
	f.each(func(g *frame) {
		if g.id == 0 {
			return
		}
		kept := r.actions[:0]
		started := false
		for _, a := range r.actions {
			if a.ID == g.id && (a.Kind == StartTask || a.Kind == WaitUntil) {
				started = true // in this very step: nobody has to hear of it
				continue
			}
			kept = append(kept, a)
		}
		r.actions = kept
		if !started {
			r.actions = append(r.actions, Action{Kind: Cancel, ID: g.id, State: g.state.name})
		}
		g.id = 0
	})
}

// work runs the frames that can run until all wait or the execution has ended.
func (r *run) work() {
	for len(r.runnable) > 0 && r.x.root != nil {
		f := r.runnable[len(r.runnable)-1]
		r.runnable = r.runnable[:len(r.runnable)-1]
		switch {
		case f.phase != ready:
		case r.made >= r.d.limits.Transitions:
			f.phase = yielded
			r.timer(f, r.env.Now)
		case r.d.limits.Events > 0 && r.x.Events >= r.d.limits.Events:
			fail := raise(errorRuntime, "The execution reached the maximum number of history events (%d).", r.d.limits.Events)
			fail.own = false
			r.fails(f, fail)
		default:
			r.made++
			r.enter(f)
		}
	}
}

func (r *run) timer(f *frame, at time.Time) {
	f.id = r.newID()
	r.actions = append(r.actions, Action{Kind: WaitUntil, ID: f.id, State: f.state.name, At: at.UTC()})
}

// outcome is what became of a state.
type outcome struct {
	kind   outcomeKind
	next   *state
	output jsonvalue.Value
	fail   *failure
	assign *assignment
	seen   jsonvalue.Value // what $ means in assign
}

type outcomeKind uint8

const (
	blocked outcomeKind = iota // something is out, or branches run
	exited                     // on to next, or the block ends
	failed
)

var blockedOutcome = outcome{kind: blocked}

func failedOutcome(f *failure) outcome { return outcome{kind: failed, fail: f} }

func (r *run) enter(f *frame) {
	f.entered = r.now
	r.record(f, HistoryEvent{Type: enteredType[f.state.kind], State: f.state.name, Input: r.input(f)})
	f.event = f.chain
	r.leave(f, r.execute(f))
}

// leave does what the outcome of f's state asks for.
func (r *run) leave(f *frame, o outcome) {
	if o.kind == exited {
		o = r.exit(f, o)
	}
	if o.kind != failed {
		return
	}
	o = r.handle(f, o.fail)
	if o.kind == exited {
		if o = r.exit(f, o); o.kind == failed {
			o.fail = o.fail.located(f.state.name, f.event)
		}
	}
	if o.kind == failed {
		r.fails(f, o.fail)
	}
}

// exit leaves the state with its output, or fails because of what it is to leave with.
func (r *run) exit(f *frame, o outcome) outcome {
	if n := o.output.Size(); n > r.d.limits.Payload {
		fail := dataLimit(resultTooLarge, f.state.name)
		fail.final = true
		return failedOutcome(fail)
	}
	assigned, fail := r.assign(f, o.assign, o.seen)
	if fail != nil {
		return failedOutcome(fail)
	}
	r.record(f, HistoryEvent{Type: exitedType[f.state.kind], State: f.state.name, Output: o.output, Assigned: assigned})
	f.fan, f.children = nil, nil
	if o.next != nil {
		f.state, f.input, f.asItem, f.phase = o.next, hold(o.output), false, ready
		f.used, f.retries = f.used[:0], 0
		r.runnable = append(r.runnable, f)
		return blockedOutcome
	}
	if f.parent != nil {
		r.branchDone(f, o.output)
		return blockedOutcome
	}
	r.recordAfter(f.chain, HistoryEvent{Type: "ExecutionSucceeded", Output: o.output})
	r.finish(Succeeded, o.output, nil)
	return blockedOutcome
}

// assign sets variables; all of them see the values from before.
func (r *run) assign(f *frame, a *assignment, seen jsonvalue.Value) ([]Assigned, *failure) {
	if a == nil || len(a.names) == 0 {
		return nil, nil
	}
	s := &scope{r: r, f: f, input: seen}
	set := make([]Assigned, len(a.names))
	size := 0
	for i, e := range a.values {
		v, fail := e.eval(s)
		if fail != nil {
			return nil, fail
		}
		set[i] = Assigned{a.names[i], v}
		if size += v.Size(); size > r.d.limits.Payload {
			return nil, raise(errorRuntime, "The variables assigned by the state have more than %d bytes.", r.d.limits.Payload)
		}
	}
	for _, v := range set {
		if f.parent.variable(v.Name) != nil {
			return nil, raise(errorRuntime, "The variable '%s' belongs to an outer scope and cannot be assigned here.", v.Name)
		}
	}
	for _, v := range set {
		f.assign(v.Name, v.Value)
	}
	total := 0
	r.x.root.each(func(g *frame) {
		for i := range g.vars {
			total += len(g.vars[i].name) + g.vars[i].value.bytes()
		}
	})
	if total > r.d.limits.Variables {
		return nil, raise(errorRuntime, "The variables of the execution have more than %d bytes.", r.d.limits.Variables)
	}
	return set, nil
}

// handle asks Retry and then Catch what to do about a failure.
func (r *run) handle(f *frame, fail *failure) outcome {
	fail = fail.located(f.state.name, f.event)
	attempt := int(f.retries) + 1
	if again, ok := r.retry(f, fail); ok {
		return again
	}
	for i := range f.state.catch {
		c := &f.state.catch[i]
		if !fail.matches(c.errors) {
			continue
		}
		r.abandon(f)
		r.tell(f, fail, Failure{Outcome: Caught, Attempt: attempt, Next: c.next.name})
		output, bad := r.put(c.resultPath, c.dropResult, f, fail.output())
		if bad != nil {
			return failedOutcome(bad.located(f.state.name, f.event))
		}
		return outcome{kind: exited, next: c.next, output: output, assign: c.assign, seen: fail.output()}
	}
	r.abandon(f)
	r.tell(f, fail, Failure{Outcome: Uncaught, Attempt: attempt})
	return failedOutcome(fail)
}

// tell says what becomes of a failure of f's state.
func (r *run) tell(f *frame, fail *failure, what Failure) {
	if r.env.Failed == nil {
		return
	}
	what.State, what.Error, what.Cause = f.state.name, fail.name.Text(), fail.cause.Text()
	r.env.Failed(what)
}

// retry schedules the state again if a retrier covers the failure and has attempts left.
func (r *run) retry(f *frame, fail *failure) (outcome, bool) {
	for i := range f.state.retry {
		t := &f.state.retry[i]
		if !fail.matches(t.errors) {
			continue
		}
		if len(f.used) == 0 {
			f.used = make([]uint32, len(f.state.retry))
		}
		if f.used[i] >= t.maxAttempts {
			return outcome{}, false
		}
		f.used[i]++
		f.retries = min(f.retries+1, maxCount)
		f.fan, f.children = nil, nil
		f.phase = retrying
		delay := t.delay(f.used[i], r.random)
		r.tell(f, fail, Failure{Outcome: Retried, Attempt: int(f.retries), Delay: delay})
		r.timer(f, r.env.Now.Add(delay))
		return blockedOutcome, true
	}
	return outcome{}, false
}

// abandon notes that a Parallel or Map is given up.
func (r *run) abandon(f *frame) {
	if f.fan == nil {
		return
	}
	r.record(f, HistoryEvent{Type: f.state.kind.String() + "StateFailed"})
	f.fan, f.children = nil, nil
}

// fails ends a frame that nothing could save.
func (r *run) fails(f *frame, fail *failure) {
	if fail.place == "" {
		fail.place = f.state.name
	}
	if f.parent != nil {
		r.branchFailed(f, fail)
		return
	}
	r.recordAfter(f.chain, HistoryEvent{Type: "ExecutionFailed", Error: fail.name, Cause: fail.cause})
	r.finish(Failed, jsonvalue.Value{}, fail)
}

// put places a result into the input of f's state.
func (r *run) put(path *query, drop bool, f *frame, result jsonvalue.Value) (jsonvalue.Value, *failure) {
	if path == nil && !drop {
		return result, nil
	}
	input := r.input(f)
	if drop {
		return input, nil
	}
	v, err := path.path.Put(input, result)
	if err != nil {
		return v, raise(errorResultPath, "Unable to apply ReferencePath %s to input %s", path.text, quoted(input))
	}
	return v, nil
}

var errNotJSON = errors.New("the task's result is not JSON")

// notJSON is the failure of a task whose result cannot be read.
func notJSON(err error) *failure {
	cause := cut(strings.ToValidUTF8(fmt.Sprintf("%v: %v", errNotJSON, err), "\uFFFD"), maxCauseBytes)
	return &failure{name: jsonvalue.OfString(errorTaskFailed), cause: jsonvalue.OfString(cause)}
}
