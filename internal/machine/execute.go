package machine

import (
	"time"

	"github.com/weirdata/weir/internal/machine/jsonvalue"
)

// execute runs the state f is in; a retry comes here again, without entering anew.
func (r *run) execute(f *frame) outcome {
	f.phase, f.id = ready, 0
	st := f.state
	if st.broken != "" {
		return failedOutcome(r.unusable(st))
	}
	if st.kind == failState {
		return failedOutcome(r.failState(f))
	}
	s := &scope{r: r, f: f, input: r.input(f)}
	input, fail := r.effectiveInput(st, s)
	if fail != nil {
		return failedOutcome(fail)
	}
	s.input = input
	switch st.kind {
	case passState:
		return r.pass(f, s)
	case taskState:
		return r.task(f, s)
	case choiceState:
		return r.choose(f, s)
	case waitState:
		return r.wait(f, s)
	case succeedState:
		o := r.output(f, input, s)
		o.next = nil
		return o
	case parallelState:
		return r.parallel(f, s)
	case mapState:
		return r.mapped(f, s)
	}
	return failedOutcome(raise(errorRuntime, "the state has no type"))
}

func (r *run) effectiveInput(st *state, s *scope) (jsonvalue.Value, *failure) {
	if st.inputPath == nil {
		return jsonvalue.OfObject(nil, nil), nil
	}
	if st.inputPath.identity() {
		return s.input, nil
	}
	return st.inputPath.orInvalid(s)
}

// output applies OutputPath and leads on to Next.
func (r *run) output(f *frame, v jsonvalue.Value, s *scope) outcome {
	st := f.state
	switch {
	case st.outputPath == nil:
		v = jsonvalue.OfObject(nil, nil)
	case !st.outputPath.identity():
		after := *s
		after.input = v
		var fail *failure
		if v, fail = st.outputPath.orInvalid(&after); fail != nil {
			return failedOutcome(fail)
		}
	}
	return outcome{kind: exited, next: st.next, output: v}
}

// result brings the result of f's state through ResultSelector, ResultPath and OutputPath.
func (r *run) result(f *frame, result jsonvalue.Value) outcome {
	st := f.state
	s := &scope{r: r, f: f, input: result}
	selected := result
	if st.selector != nil {
		var fail *failure
		if selected, fail = st.selector.eval(s); fail != nil {
			return failedOutcome(fail)
		}
	}
	merged, fail := r.put(st.resultPath, st.dropResult, f, selected)
	if fail != nil {
		return failedOutcome(fail)
	}
	o := r.output(f, merged, s)
	o.assign, o.seen = st.assign, result
	return o
}

func (r *run) pass(f *frame, s *scope) outcome {
	v := s.input
	if f.state.parameters != nil {
		var fail *failure
		if v, fail = f.state.parameters.eval(s); fail != nil {
			return failedOutcome(fail)
		}
	}
	if f.state.result.Defined() {
		v = f.state.result
	}
	return r.result(f, v)
}

func (r *run) choose(f *frame, s *scope) outcome {
	c := f.state.choice
	leave := func(next *state, assign *assignment) outcome {
		o := r.output(f, s.input, s)
		o.next, o.assign, o.seen = next, assign, s.input
		return o
	}
	for i := range c.rules {
		ok, fail := c.rules[i].rule.holds(s)
		if fail != nil {
			return failedOutcome(fail)
		}
		if ok {
			return leave(c.rules[i].next, c.rules[i].assign)
		}
	}
	if c.otherwise == nil {
		return failedOutcome(raise(errorRuntime, "Failed to transition out of the state. The state does not point to a next state."))
	}
	return leave(c.otherwise, f.state.assign)
}

func (r *run) wait(f *frame, s *scope) outcome {
	at, fail := f.state.wait.until(s)
	if fail != nil {
		return failedOutcome(fail)
	}
	if !at.After(r.env.Now) {
		return r.waited(f)
	}
	f.phase = waiting
	r.timer(f, at)
	return blockedOutcome
}

// waited leaves a Wait state.
func (r *run) waited(f *frame) outcome {
	f.phase = ready
	s := &scope{r: r, f: f, input: r.input(f)}
	input, fail := r.effectiveInput(f.state, s)
	if fail != nil {
		return failedOutcome(fail)
	}
	o := r.output(f, input, s)
	o.assign, o.seen = f.state.assign, input
	return o
}

func (r *run) failState(f *frame) *failure {
	s := &scope{r: r, f: f, input: r.input(f)}
	read := func(fixed *string, path expression, most int) (jsonvalue.Value, *failure) {
		if path == nil {
			return textOrNothing(fixed, most), nil
		}
		v, fail := path.eval(s)
		if fail != nil {
			return v, fail
		}
		if v.Kind() != jsonvalue.String {
			return v, raise(errorRuntime, "The path of the Fail state must lead to a string, but was: %s", quoted(v))
		}
		text := v.Text()
		return textOrNothing(&text, most), nil
	}
	name, fail := read(f.state.fail.err, f.state.fail.errPath, maxErrorBytes)
	if fail != nil {
		return fail
	}
	cause, fail := read(f.state.fail.cause, f.state.fail.causePath, maxCauseBytes)
	if fail != nil {
		return fail
	}
	return &failure{name: name, cause: cause, final: name.Text() == errorRuntime}
}

func (r *run) task(f *frame, s *scope) outcome {
	t := f.state.task
	id := r.newID()
	s.task = id
	input := s.input
	var fail *failure
	if f.state.parameters != nil {
		if input, fail = f.state.parameters.eval(s); fail != nil {
			return failedOutcome(fail)
		}
	}
	a := Action{Kind: StartTask, ID: id, State: f.state.name, Resource: t.resource, Input: input, Token: r.token(id)}
	if fail = r.times(t, s, &a); fail != nil {
		return failedOutcome(fail)
	}
	if t.credentials != nil {
		if a.Credentials, fail = t.credentials.eval(s); fail != nil {
			return failedOutcome(fail)
		}
	}
	if fail = r.fits(f, input); fail != nil {
		return failedOutcome(fail)
	}
	r.record(f, HistoryEvent{
		Type: t.events.scheduled, Input: input, Resource: t.resource,
		Timeout: a.Timeout, Heartbeat: a.Heartbeat, Credentials: a.Credentials,
	})
	r.record(f, HistoryEvent{Type: t.events.started, Resource: t.resource})
	f.phase, f.id = inTask, id
	r.actions = append(r.actions, a)
	return blockedOutcome
}

// times finds out how long a task may take.
func (r *run) times(t *taskFields, s *scope, a *Action) *failure {
	timeout, heartbeat := t.timeout, t.heartbeat
	var fail *failure
	if t.timeoutPath != nil {
		if timeout, fail = seconds(s, t.timeoutPath, "TimeoutSecondsPath"); fail != nil {
			return fail
		}
	}
	if t.heartbeatPath != nil {
		if heartbeat, fail = seconds(s, t.heartbeatPath, "HeartbeatSecondsPath"); fail != nil {
			return fail
		}
	}
	a.Timeout, a.Heartbeat = time.Duration(timeout)*time.Second, time.Duration(heartbeat)*time.Second
	return nil
}

func (r *run) taskSucceeded(f *frame, data []byte) {
	t := f.state.task
	v, err := parseData(data, "null")
	if err != nil {
		r.taskFailed(f, t.events.failed, notJSON(err))
		return
	}
	if v.Size() > r.d.limits.Payload {
		r.taskFailed(f, t.events.failed, dataLimit(resultTooLarge, t.shown()))
		return
	}
	f.phase = ready
	r.record(f, HistoryEvent{Type: t.events.succeeded, Output: v, Resource: t.resource})
	r.leave(f, r.result(f, v))
}

func (r *run) taskFailed(f *frame, event string, fail *failure) {
	f.phase = ready
	r.record(f, HistoryEvent{Type: event, Error: fail.name, Cause: fail.cause, Resource: f.state.task.resource})
	r.leave(f, failedOutcome(fail))
}
