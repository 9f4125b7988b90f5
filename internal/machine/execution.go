package machine

import (
	"time"

	"github.com/weirdata/weir/internal/machine/jsonvalue"
)

// Identity is what the context object says about an execution and its machine.
type Identity struct {
	ID          string // $$.Execution.Id
	Name        string // $$.Execution.Name
	Role        string // $$.Execution.RoleArn
	Machine     string // $$.StateMachine.Id
	MachineName string // $$.StateMachine.Name
	// Express says that the execution cannot be redriven: $$.Execution has no RedriveCount.
	Express bool
}

// Execution is the state of one run of a machine. It is a value: Step returns a new one and
// never writes into the one it was given.
type Execution struct {
	Identity
	Status Status
	// Started and Stopped are when the execution began and ended; zero if it has not.
	Started, Stopped time.Time
	// Input is what the execution was started with, Output what it succeeded with. The Input of
	// one that runs and was loaded is Undefined until a step has needed it.
	Input, Output jsonvalue.Value
	// Error and Cause are why it failed; each is nil when there is none.
	Error, Cause *string
	// Place is the state that it failed in, as long as the execution is in memory; empty when it
	// was no state that failed.
	Place string
	// Events counts the history events so far.
	Events uint64

	revision uint64 // of the definition
	ids      uint64 // last ID given to a task or timer
	deadline uint64 // ID of the timer of TimeoutSeconds
	expires  int64  // nanoseconds since 1970, 0 is never
	root     *frame

	apart   held   // Input as a part
	numbers uint64 // last number given to a part
	kept    *kept  // nil when nothing is at rest in parts
}

// phase is what a frame is doing.
type phase uint8

const (
	ready    phase = iota // to enter its state
	inTask                // a task is out
	waiting               // in a Wait state
	retrying              // to run its state again
	yielded               // interrupted before entering its state
	inBranches
)

// frame is one thread of an execution: the execution itself, a branch of a Parallel or an
// iteration of a Map. It is in one state.
type frame struct {
	state   *state
	phase   phase
	ordinal int        // place among its siblings: branch or item
	input   held       // of the state, as it came
	asItem  bool       // the input is that of item, and not kept twice
	id      uint64     // of the task or timer that is out
	entered int64      // nanoseconds since 1970
	event   uint64     // history ID of the Entered event
	chain   uint64     // history ID of the last event of this frame
	retries uint32     // all retries of this visit
	used    []uint32   // by retrier
	vars    []variable // assigned in this frame's scope
	item    *mapItem   // of an iteration

	parent   *frame
	children []*frame
	fan      *fan // of a Parallel or Map that runs
}

type variable struct {
	name  string
	value held
}

// mapItem is $$.Map.Item.
type mapItem struct {
	index  int
	value  jsonvalue.Value // Undefined while it is only at rest,
	number uint64          // as one of each items of a piece of this part
	each   int
}

// fan is the progress of a Parallel or Map.
type fan struct {
	input       held              // effective input, for ItemSelector
	items       jsonvalue.Value   // of a Map; Undefined when they are parts
	count       int               // of branches or items
	concurrency int               // of a Map
	next        int               // first branch or item not begun
	left        int               // not ended
	results     []jsonvalue.Value // Undefined where there is none yet; nil when they are parts
	size        int               // bytes of results

	number uint64   // of the parts of a Map: its items; its results have the next one
	each   int      // items in a piece
	fresh  []result // that are no parts yet
}

type result struct {
	ordinal int
	value   jsonvalue.Value
}

// New is an execution that has not been started.
func (d *Definition) New(id Identity) Execution {
	return Execution{Identity: id, revision: d.revision}
}

// Outstanding lists the IDs of the tasks and timers that are awaited, in no order.
func (x *Execution) Outstanding() []uint64 {
	var ids []uint64
	if x.deadline != 0 {
		ids = append(ids, x.deadline)
	}
	x.root.each(func(f *frame) {
		if f.id != 0 {
			ids = append(ids, f.id)
		}
	})
	return ids
}

// States lists the states the execution is in, outer before inner.
func (x *Execution) States() []string {
	var names []string
	x.root.each(func(f *frame) { names = append(names, f.state.name) })
	return names
}

// each visits f and all frames below it.
func (f *frame) each(visit func(*frame)) {
	if f == nil {
		return
	}
	visit(f)
	for _, c := range f.children {
		c.each(visit)
	}
}

// clone copies f and what is below it; values are shared.
func (f *frame) clone(parent *frame) *frame {
	if f == nil {
		return nil
	}
	c := *f
	c.parent = parent
	c.used = append([]uint32(nil), f.used...)
	c.vars = append([]variable(nil), f.vars...)
	if f.fan != nil {
		n := *f.fan
		n.results = append([]jsonvalue.Value(nil), n.results...)
		n.fresh = append([]result(nil), n.fresh...)
		c.fan = &n
	}
	c.children = nil
	if len(f.children) > 0 {
		c.children = make([]*frame, len(f.children))
		for i, child := range f.children {
			c.children[i] = child.clone(&c)
		}
	}
	return &c
}

// variable looks a name up in f's scope and those around it; nil when it is not assigned.
func (f *frame) variable(name string) *held {
	for ; f != nil; f = f.parent {
		for i := range f.vars {
			if f.vars[i].name == name {
				return &f.vars[i].value
			}
		}
	}
	return nil
}

// assign sets a variable of f's scope.
func (f *frame) assign(name string, v jsonvalue.Value) {
	for i := range f.vars {
		if f.vars[i].name == name {
			f.vars[i].value = hold(v)
			return
		}
	}
	f.vars = append(f.vars, variable{name, hold(v)})
}

// currentItem is the item of the innermost iteration f is in, or nil.
func (f *frame) currentItem() *mapItem {
	for ; f != nil; f = f.parent {
		if f.item != nil {
			return f.item
		}
	}
	return nil
}

// timestamp is a time as the context object shows it.
func timestamp(nanos int64) jsonvalue.Value {
	return jsonvalue.OfString(time.Unix(0, nanos).UTC().Format("2006-01-02T15:04:05.000Z"))
}

// context is the context object as an expression sees it, with null in place of what may be
// large and is not seen.
func (r *run) context(s *scope, sees sight) jsonvalue.Value {
	x := r.x
	var execution, state, machine, root jsonvalue.Builder
	input := jsonvalue.NullValue
	if sees.input {
		input = r.executionInput()
	}
	execution.Set("Id", jsonvalue.OfString(x.ID)).Set("Input", input).
		Set("StartTime", timestamp(x.Started.UnixNano())).Set("Name", jsonvalue.OfString(x.Name)).
		Set("RoleArn", jsonvalue.OfString(x.Role))
	if !x.Express {
		execution.Set("RedriveCount", jsonvalue.OfInt(0))
	}
	machine.Set("Id", jsonvalue.OfString(x.Machine)).Set("Name", jsonvalue.OfString(x.MachineName))
	state.Set("Name", jsonvalue.OfString(s.f.state.name)).Set("EnteredTime", timestamp(s.f.entered))
	switch s.f.state.kind {
	case taskState, parallelState, mapState:
		state.Set("RetryCount", jsonvalue.OfInt(int64(s.f.retries)))
	}
	root.Set("Execution", execution.Object()).Set("StateMachine", machine.Object()).Set("State", state.Object())
	if s.task != 0 && s.f.state.task.hasToken() {
		var task jsonvalue.Builder
		root.Set("Task", task.Set("Token", jsonvalue.OfString(r.token(s.task))).Object())
	}
	item := s.item
	if item == nil {
		item = s.f.currentItem()
	}
	if item != nil {
		var i, m jsonvalue.Builder
		value := jsonvalue.NullValue
		if sees.item {
			value = r.itemValue(item)
		}
		i.Set("Index", jsonvalue.OfInt(int64(item.index))).Set("Value", value)
		root.Set("Map", m.Set("Item", i.Object()).Object())
	}
	return root.Object()
}
