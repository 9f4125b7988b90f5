// Package machine interprets the States Language (Amazon States Language, JSONPath) as a
// pure function. It starts no goroutine, reads no clock and does no input or output: what
// has happened comes in as an [Event], what is to be done goes out as [Action] values, and
// everything in between is an [Execution], a value that [Definition.Decode] and
// [Execution.Append] turn from and into bytes. An execution that waits is bytes at rest.
//
// # Driving it
//
// A driver keeps executions in a durable store and their actions as jobs of a queue. One
// event is one transaction: the state that Step returned and the actions that go with it
// are committed together, or neither is.
//
//	def, err := machine.Parse(text, machine.Limits{})   // all problems at once, with places
//
//	err = store.Update(ctx, func(tx queue.Tx) error {
//		state, err := tx.Get(key)                   // nothing there: def.New(identity)
//		x, err := def.Decode(state)
//		x, actions, err := def.Step(x, event, machine.Environment{Now: now, Random: rand.Float64})
//		for _, a := range actions {
//			switch a.Kind {
//			case machine.StartTask: // job for a worker; its answer is TaskSucceeded or TaskFailed with a.ID
//			case machine.WaitUntil: // job not before a.At; when it is leased: TimerFired with a.ID
//			case machine.Cancel:    // the task or timer a.ID is not needed any more
//			case machine.Finish:    // a.Status, a.Output, a.Error, a.Cause
//			}
//		}
//		return errors.Join(tx.Put(key, x.Append(nil)), tx.Append(jobs...), tx.Settle(job.Done()))
//	})
//
// What comes back:
//
//	Start(input)              once, first
//	TaskSucceeded(id, output) a worker is done; TaskFailed(id, error, cause) or it is not
//	TaskTimedOut(id)          the task's Timeout or, with Heartbeat set, its Heartbeat passed
//	TaskSubmitted(id, output) the task is under way elsewhere; only the history records it
//	TimerFired(id)            the time of a WaitUntil has come
//	Abort(error, cause)       somebody stops the execution
//
// Events may come twice and too late: one whose ID is not awaited any more changes nothing
// and gives no actions, so at-least-once delivery is enough. The deadline of an execution
// with TimeoutSeconds is a WaitUntil like any other.
//
// A driver whose executions may be large keeps them as a head and parts, of which a step writes
// what has changed and reads what it needs: [Definition.Rest] and [Definition.Load] in place of
// Append and Decode.
//
// A driver that needs the answer of a task before it commits, because it runs the task in
// the same process, may step several events in one transaction.
//
// # Invariants
//
//  1. Step never changes its arguments and never panics for a Definition that Parse
//     accepted; the same arguments give the same results.
//  2. After Step an execution that is running has at least one outstanding ID, so it is
//     never lost; one that has ended has none.
//  3. A Step makes at most Limits.Transitions transitions; a machine that runs on without
//     ever waiting is interrupted by a timer that is due at once.
//  4. The size of an execution is bounded by its limits and does not grow with its age:
//     counters instead of a history. Who wants the history takes it from
//     [Environment.Record] as it happens. What a step of a Map writes and reads does not grow
//     with the number of its items.
//  5. An execution belongs to the revision of the definition it was started with; Decode
//     refuses any other.
//
// # What there is
//
// All states but the distributed Map, all comparators, intrinsic functions, Retry and
// Catch, the context object, Assign and variables, each with the defaults, error names and
// causes of AWS where they are known. JSONata and the distributed Map are refused by Parse.
package machine

import (
	"time"

	"github.com/weirdata/weir/internal/machine/jsonvalue"
)

// Limits bound what an execution may take. A zero field means its default.
type Limits struct {
	// Payload is the most bytes of the input or output of a state, a task or an
	// execution, and of one variable; 262,144 by default, as on AWS. A task that returns more
	// fails with States.DataLimitExceeded.
	Payload int `json:"Payload"`
	// Variables is the most bytes of all variables of an execution; 10 MiB by default.
	Variables int `json:"Variables"`
	// Transitions is how many transitions one Step may make before it gives way; 10,000 by
	// default.
	Transitions int `json:"Transitions"`
	// Events is how many history events an execution may have before it fails with
	// States.Runtime; 0 means no limit. AWS has 25,000.
	Events uint64 `json:"Events"`
	// Concurrency is how many iterations of one Map run at a time when MaxConcurrency
	// asks for more or for no limit; 40 by default, as on AWS.
	Concurrency int `json:"Concurrency"`
	// Frames is how many branches and iterations an execution may have open, all levels
	// together; 1,000 by default.
	Frames int `json:"Frames"`
}

// Defaults of Limits.
const (
	DefaultPayload     = 256 << 10
	DefaultVariables   = 10 << 20
	DefaultTransitions = 10_000
	DefaultConcurrency = 40
	DefaultFrames      = 1_000
)

func (l Limits) withDefaults() Limits {
	set := func(n *int, d int) {
		if *n <= 0 {
			*n = d
		}
	}
	set(&l.Payload, DefaultPayload)
	set(&l.Variables, DefaultVariables)
	set(&l.Transitions, DefaultTransitions)
	set(&l.Concurrency, DefaultConcurrency)
	set(&l.Frames, DefaultFrames)
	return l
}

// EventKind says what has happened.
type EventKind uint8

// The kinds of events.
const (
	Start EventKind = iota + 1
	TaskSucceeded
	TaskFailed
	TaskTimedOut
	TaskSubmitted
	TimerFired
	Abort
)

// Event is something that has happened to an execution.
type Event struct {
	Kind EventKind
	// ID is that of the action the event answers; not for Start and Abort.
	ID uint64
	// Data is JSON: the input of Start, {} when empty; the output of TaskSucceeded and
	// TaskSubmitted, null when empty.
	Data []byte
	// Error and Cause are why: TaskFailed and Abort. Nil means not given. Errors are cut
	// to 256 bytes, causes to 32,768.
	Error, Cause *string
	// Heartbeat says that it was the heartbeat that did not come: TaskTimedOut.
	Heartbeat bool
}

// ActionKind says what is to be done.
type ActionKind uint8

// The kinds of actions.
const (
	StartTask ActionKind = iota + 1
	WaitUntil
	Cancel
	Finish
)

// Action is something the driver has to do, committed with the state it came with.
type Action struct {
	Kind ActionKind
	// ID names a task or timer within its execution; ids are never used again. With the
	// execution's ID it is the idempotency key of a task.
	ID uint64
	// State is the state that wants it.
	State string
	// Resource, Input, Credentials, Token, Timeout and Heartbeat belong to StartTask. A
	// Timeout or Heartbeat of zero means none.
	Resource           string
	Input              jsonvalue.Value
	Credentials        jsonvalue.Value // Undefined when the state has none
	Token              string          // what $$.Task.Token gave
	Timeout, Heartbeat time.Duration
	// At is when a WaitUntil is due. After is how long that is from now, where the definition
	// gives a duration and no time: a clock that is set meanwhile does not change it.
	At    time.Time
	After time.Duration
	// Status, Output, Error and Cause belong to Finish: Output when it succeeded, Error
	// and Cause, each if there is one, when it did not.
	Status       Status
	Output       jsonvalue.Value
	Error, Cause *string
}

// Status is how far an execution is.
type Status uint8

// The statuses.
const (
	Pending Status = iota // not started
	Running
	Succeeded
	Failed
	TimedOut
	Aborted
)

func (s Status) String() string {
	if int(s) >= len(statusNames) {
		return "UNKNOWN"
	}
	return statusNames[s]
}

var statusNames = [...]string{"PENDING", "RUNNING", "SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"}

// Ended reports whether nothing will happen any more.
func (s Status) Ended() bool { return s > Running }

// Environment is what Step may not find out by itself.
type Environment struct {
	// Now is the time of the event.
	Now time.Time
	// Random gives numbers in [0,1) for jitter, States.MathRandom and States.UUID. Nil
	// means numbers that follow from the execution's ID and Now, and can be guessed.
	Random func() float64
	// Token makes the task token of a task. Nil means one that names the execution and
	// the task, and can be guessed.
	Token func(executionID string, task uint64) string
	// Record takes each history event as it happens. Nil means nobody wants them.
	Record func(HistoryEvent)
	// Failed takes each failure of a state and what becomes of it. Nil means nobody wants them.
	Failed func(Failure)
}

// Outcome is what becomes of a failure of a state.
type Outcome string

// The outcomes.
const (
	Retried  Outcome = "retried" // the state runs again, after Delay
	Caught   Outcome = "caught"  // the execution goes on with the state Next
	Uncaught Outcome = "failed"  // the branch or the execution fails with it
)

// Failure is a failure of a state, and what becomes of it. Error and Cause are empty where nobody
// gave one.
type Failure struct {
	State, Error, Cause string
	Outcome             Outcome
	Attempt             int           // of the state, from 1
	Delay               time.Duration // of Retried
	Next                string        // of Caught
}
