package executor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/weirdata/weir/internal/machine"
	"github.com/weirdata/weir/internal/queue"
)

// Function does the work of Task states. Invoke may be called by several goroutines at once.
type Function interface {
	Open(ctx context.Context) error
	// Invoke runs the function. A *TaskError is what Retry and Catch of the definition see;
	// any other error counts as the task's failure with the name States.TaskFailed.
	Invoke(ctx context.Context, c Call) (Answer, error)
	// Effect says what running the function again would mean.
	Effect() Effect
	Close(ctx context.Context) error
}

// Effect is what a function leaves behind beside its answer.
type Effect uint8

// The effects.
const (
	Elsewhere     Effect = iota // anything: running it again is visible
	None                        // nothing: running it again is harmless
	InTransaction               // only what Answer.Put does, inside the step's transaction
)

// Call is one run of a task.
type Call struct {
	// ID names the task: the execution and its number in it. It is the same when the task
	// runs again after a crash, and another for each retry of the definition.
	ID string
	// Input is JSON.
	Input []byte

	clock *clock
}

// Waiting stops the clock of the task's limits of time: the function waits for a place to work
// in. Working starts it anew. A function that calls neither works from the start.
func (c Call) Waiting() { c.clock.stop() }

// Working is the end of Waiting.
func (c Call) Working() { c.clock.start() }

// clock ends a task's context when it has worked for as long as it may; nil never does.
type clock struct {
	timer *time.Timer
	most  time.Duration
}

func newClock(most time.Duration, end func()) *clock {
	return &clock{timer: time.AfterFunc(most, end), most: most}
}

func (c *clock) stop() {
	if c != nil {
		c.timer.Stop()
	}
}

func (c *clock) start() {
	if c != nil {
		c.timer.Reset(c.most)
	}
}

// Answer is what a task gave.
type Answer struct {
	Output []byte // JSON; null when empty
	// Put is the effect of a function whose effect is InTransaction; nil when there is none.
	Put func(queue.Tx) error
}

// TaskError is a failure that Retry and Catch tell by its name.
type TaskError struct{ Name, Cause string }

func (e *TaskError) Error() string { return e.Name + ": " + e.Cause }

// The names of failures that no function chose, as AWS Lambda has them.
const (
	ErrorTimedOut = "Sandbox.Timedout"  // the function's own time limit
	ErrorExited   = "Runtime.ExitError" // it ended, crashed or used too much memory
	ErrorUnknown  = "Lambda.Unknown"
	ErrorMissing  = "Lambda.ResourceNotFoundException" // there is no such function
)

// Failure is a TaskError whose cause is JSON as the Lambda runtimes write it.
func Failure(errorType, message string, trace []string) *TaskError {
	cause, err := json.Marshal(struct {
		Type    string   `json:"errorType"`
		Message string   `json:"errorMessage"`
		Trace   []string `json:"trace,omitempty"`
	}{errorType, message, trace})
	if err != nil {
		panic(err) // strings always encode
	}
	return &TaskError{Name: errorType, Cause: string(cause)}
}

// call runs the task of an action, whatever it does.
func (m *Machine) call(ctx context.Context, execution string, a machine.Action, input []byte) (Answer, error) {
	t, err := m.target(a.Resource, input)
	if err != nil {
		return Answer{}, err
	}
	c := Call{ID: fmt.Sprintf("%s-%d", execution, a.ID), Input: t.payload}
	if after, cause := limit(a); after > 0 {
		var cancel context.CancelCauseFunc
		ctx, cancel = context.WithCancelCause(ctx)
		c.clock = newClock(after, func() { cancel(cause) })
		defer func() { c.clock.stop(); cancel(nil) }()
	}
	answer, err := guarded(ctx, t.function, c)
	for _, late := range [...]error{errTaskTimeout, errTaskHeartbeat} {
		if errors.Is(context.Cause(ctx), late) {
			return Answer{}, late // an answer that comes too late does not count
		}
	}
	if err == nil && t.wrap {
		answer.Output = wrapped(answer.Output)
	}
	return answer, err
}

// Why a task was not waited for any longer.
var (
	errTaskTimeout   = errors.New("the task took longer than its TimeoutSeconds")
	errTaskHeartbeat = errors.New("the task gave no sign of life for its HeartbeatSeconds")
)

// limit is how long a task may take, 0 for no limit, and the error when it takes longer. A
// function can give no sign of life before its answer, so HeartbeatSeconds bounds the whole
// task.
func limit(a machine.Action) (time.Duration, error) {
	if a.Heartbeat > 0 && (a.Timeout == 0 || a.Heartbeat < a.Timeout) {
		return a.Heartbeat, errTaskHeartbeat
	}
	return a.Timeout, errTaskTimeout
}

// guarded keeps a panic of a function from everybody else.
func guarded(ctx context.Context, f Function, c Call) (a Answer, err error) {
	defer func() {
		if x := recover(); x != nil {
			a, err = Answer{}, Failure(ErrorExited, fmt.Sprintf("the function panicked: %v", x), nil)
		}
	}()
	return f.Invoke(ctx, c)
}
