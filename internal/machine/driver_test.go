package machine

import (
	"bytes"
	"fmt"
	"testing"
	"time"
)

// began is when the tests' executions begin.
var began = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// driver runs one execution on a virtual clock and puts its bytes through the codec after
// every step, as a store would.
type driver struct {
	t      testing.TB
	def    *Definition
	x      Execution
	env    Environment
	timers []Action
	tasks  []Action // started and not answered
	// answer says what becomes of a task and how long it takes; nil leaves it open.
	answer   func(Action) (Event, bool)
	history  []HistoryEvent
	largest  int
	finished *Action
	steps    int
}

func mustParse(t testing.TB, text string) *Definition {
	t.Helper()
	def, err := Parse([]byte(text), Limits{})
	if err != nil {
		t.Fatalf("parse: %v", err)
	}
	return def
}

func newDriver(t testing.TB, text string) *driver {
	t.Helper()
	def := mustParse(t, text)
	d := &driver{t: t, def: def, x: def.New(Identity{ID: "e1", Name: "e1"})}
	d.env = Environment{Now: began, Random: func() float64 { return 0.5 }}
	return d
}

func (d *driver) step(e Event) {
	d.t.Helper()
	check := d.steps < 1000 || d.steps%97 == 0 // a year has many steps
	var before []byte
	if check {
		before = d.x.Append(nil)
	}
	next, actions, err := d.def.Step(d.x, e, d.env)
	if err != nil {
		d.t.Fatalf("step %d: %v", d.steps, err)
	}
	if check && !bytes.Equal(before, d.x.Append(nil)) {
		d.t.Fatalf("step %d changed the state it was given", d.steps)
	}
	d.steps++
	state := next.Append(nil)
	d.largest = max(d.largest, len(state))
	if d.x, err = d.def.Decode(state); err != nil {
		d.t.Fatalf("step %d: %v", d.steps, err)
	}
	if check && !bytes.Equal(d.x.Append(nil), state) {
		d.t.Fatalf("step %d: decoding and encoding gives other bytes", d.steps)
	}
	if waits := len(d.x.Outstanding()); (d.x.Status == Running) != (waits > 0) {
		d.t.Fatalf("step %d: an execution that is %s waits for %d things", d.steps, d.x.Status, waits)
	}
	for _, a := range actions {
		d.do(a)
	}
}

func (d *driver) do(a Action) {
	switch a.Kind {
	case StartTask:
		d.tasks = append(d.tasks, a)
	case WaitUntil:
		d.timers = append(d.timers, a)
	case Cancel:
		d.drop(a.ID)
	case Finish:
		if d.finished != nil {
			d.t.Fatalf("the execution finished twice")
		}
		d.finished = &a
	}
}

func (d *driver) drop(id uint64) {
	for _, list := range []*[]Action{&d.tasks, &d.timers} {
		for i, a := range *list {
			if a.ID == id {
				*list = append((*list)[:i], (*list)[i+1:]...)
				return
			}
		}
	}
	d.t.Fatalf("cancel of %d, which is not out", id)
}

// advance does the next thing there is to do; it reports whether there was one.
func (d *driver) advance() bool {
	d.t.Helper()
	for i, a := range d.tasks {
		if d.answer == nil {
			break
		}
		e, ok := d.answer(a)
		if !ok {
			continue
		}
		d.tasks = append(d.tasks[:i], d.tasks[i+1:]...)
		e.ID = a.ID
		d.step(e)
		return true
	}
	at := -1
	for i, a := range d.timers {
		if at < 0 || a.At.Before(d.timers[at].At) {
			at = i
		}
	}
	if at < 0 {
		return false
	}
	a := d.timers[at]
	d.timers = append(d.timers[:at], d.timers[at+1:]...)
	if a.At.After(d.env.Now) {
		d.env.Now = a.At
	}
	d.step(Event{Kind: TimerFired, ID: a.ID})
	return true
}

// run starts the execution and goes on until it ends or nothing is left to do.
func (d *driver) run(input string) *driver {
	d.t.Helper()
	d.env.Record = func(e HistoryEvent) { d.history = append(d.history, e) }
	d.step(Event{Kind: Start, Data: []byte(input)})
	for d.x.Status == Running && d.advance() {
		if d.steps > 1_000_000 {
			d.t.Fatal("the execution does not end")
		}
	}
	return d
}

// outcome is the end of the execution in a line.
func (d *driver) outcome() string {
	s := d.x.Status.String()
	if d.x.Output.Defined() {
		s += " " + d.x.Output.JSON()
	}
	if d.x.Error != nil {
		s += " " + *d.x.Error
	}
	if d.x.Cause != nil {
		s += ": " + *d.x.Cause
	}
	return s
}

func (d *driver) want(outcome string) {
	d.t.Helper()
	if got := d.outcome(); got != outcome {
		d.t.Errorf("the execution ended\n with %s\n want %s", got, outcome)
	}
}

func failWith(name, cause string) Event {
	return Event{Kind: TaskFailed, Error: new(name), Cause: new(cause)}
}

// fixed answers every task in the same way.
func fixed(e Event) func(Action) (Event, bool) {
	return func(Action) (Event, bool) { return e, true }
}

// sequence answers the first task with the first event and so on; the last one stays.
func sequence(events ...Event) func(Action) (Event, bool) {
	return func(Action) (Event, bool) {
		e := events[0]
		if len(events) > 1 {
			events = events[1:]
		}
		return e, true
	}
}

// single is a machine of one state S, followed by Done where its body says Next.
func single(body string) string {
	return fmt.Sprintf(`{"StartAt":"S","States":{"S":{%s},"Done":{"Type":"Pass","End":true}}}`, body)
}

// alone is a machine of one state S.
func alone(body string) string {
	return fmt.Sprintf(`{"StartAt":"S","States":{"S":{%s,"End":true}}}`, body)
}
