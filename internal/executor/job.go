package executor

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/jsontext"
	"github.com/weirdata/weir/internal/machine"
	"github.com/weirdata/weir/internal/queue"
)

// The headers of a start job that is not a plain input.
const (
	// headerExecution names the execution, for one who waits for its end.
	headerExecution = "weir-execution"
	// headerFailed marks the job that is to be buried for an execution that failed; its
	// value is the execution's ID.
	headerFailed = "weir-failed"
)

// stepJob is the payload of a job of the step queue: a timer or a task.
type stepJob struct {
	Execution string `json:"execution"`
	Timer     uint64 `json:"timer,omitempty"` // ID of a WaitUntil
	Task      uint64 `json:"task,omitempty"`  // ID of a StartTask

	State           string          `json:"state,omitempty"`
	Resource        string          `json:"resource,omitempty"`
	TimeoutMillis   int64           `json:"timeout_ms,omitempty"`
	HeartbeatMillis int64           `json:"heartbeat_ms,omitempty"`
	Input           json.RawMessage `json:"-"` // the last member, "input"
}

// append appends the payload. The input is copied as it is: it may nest as deep as a value of
// the interpreter grew.
func (s *stepJob) append(dst []byte) []byte {
	head, err := json.Marshal(s)
	if err != nil {
		panic(err) // names and numbers have a JSON form
	}
	if dst = append(dst, head...); len(s.Input) > 0 {
		dst = append(append(append(dst[:len(dst)-1], `,"input":`...), s.Input...), '}')
	}
	return dst
}

// read reads a payload. The input is a part of it.
func (s *stepJob) read(payload []byte) error {
	head := payload
	scan := jsontext.Scan(payload)
	scan.Most = math.MaxInt
	members, ok := scan.Object(nil)
	if !ok || !scan.End() {
		return scan.Err()
	}
	for _, m := range members {
		if string(m.Name(payload)) == "input" {
			s.Input = m.Of(payload)
			head = slices.Concat(payload[:m.Value], []byte("null"), payload[m.End:])
		}
	}
	return json.Unmarshal(head, s)
}

// action is the StartTask that the job of a task stands for, without its input.
func (s *stepJob) action() machine.Action {
	return machine.Action{Kind: machine.StartTask, ID: s.Task, State: s.State, Resource: s.Resource,
		Timeout: time.Duration(s.TimeoutMillis) * time.Millisecond, Heartbeat: time.Duration(s.HeartbeatMillis) * time.Millisecond}
}

func (m *Machine) stepJob(s stepJob, at time.Time) queue.Job {
	return queue.Job{Queue: m.steps, Msg: event.New(s.append(nil)), NotBefore: at}
}

func (m *Machine) timerJob(execution string, a machine.Action, now time.Time) queue.Job {
	at := a.At
	// The timer of TimeoutSeconds, which belongs to no state, is asked for again when it
	// fires early. So it never lies in the queue long after its execution has ended.
	if latest := now.Add(deadlineLook); a.State == "" && at.After(latest) {
		at = latest
	}
	return m.stepJob(stepJob{Execution: execution, Timer: a.ID, State: a.State}, at)
}

func (m *Machine) taskJob(execution string, a machine.Action) queue.Job {
	return m.stepJob(stepJob{Execution: execution, Task: a.ID, State: a.State, Resource: a.Resource,
		TimeoutMillis: a.Timeout.Milliseconds(), HeartbeatMillis: a.Heartbeat.Milliseconds(), Input: a.Input.Append(nil)}, time.Time{})
}

// deadlineLook is how long the timer of an execution's deadline waits at most.
const deadlineLook = 15 * time.Minute

// work is a leased job on its way through the workers.
type work struct {
	job       *queue.Job
	execution string
	step      stepJob // of a job of the step queue
	start     bool
	failed    string               // ID of the execution to bury
	event     machine.Event        // what is brought to the execution
	put       func(queue.Tx) error // effect of the task that was run
	acted     bool                 // that task's effect is elsewhere
	claimed   bool
	bad       error // why the job cannot be worked on at all
}

// claims reports whether w changes an execution that others may change too. A task runs
// first, and claims when its answer is brought in; nobody knows of an execution before its
// start.
func (w *work) claims() bool {
	return w.bad == nil && !w.start && w.failed == "" && (w.step.Task == 0 || w.event.Kind != 0)
}

// read finds out what a job asks for.
func (m *Machine) read(j *queue.Job) *work {
	w := &work{job: j}
	if j.Queue == m.starts {
		h := j.Msg.Meta.Headers
		switch {
		case h.Text(headerFailed) != "":
			w.failed, w.execution = h.Text(headerFailed), h.Text(headerFailed)
		default:
			w.begins(h.Text(headerExecution))
		}
		return w
	}
	if err := w.step.read(j.Msg.Data); err != nil {
		w.bad = fmt.Errorf("read a job of queue %q: %w", j.Queue, err)
		return w
	}
	w.execution = w.step.Execution
	switch {
	case w.execution == "":
		w.bad = errors.New("the job names no execution")
	case w.step.Timer != 0:
		w.event = machine.Event{Kind: machine.TimerFired, ID: w.step.Timer}
	case w.step.Task == 0:
		w.bad = errors.New("the job is neither a timer nor a task")
	}
	return w
}

// begins makes w the start of an execution: of the given ID, or else one that follows from
// the job's, so that a job that is handed out twice starts the same execution.
func (w *work) begins(id string) {
	if id == "" {
		id = w.job.ID.String()
	}
	w.start, w.failed, w.execution = true, "", id
	w.event = machine.Event{Kind: machine.Start, Data: w.job.Msg.Data}
}

// The keys of records.
func (m *Machine) stateKey(execution string) []byte {
	return []byte("machine/" + m.o.Name + "/x/" + execution)
}

func (m *Machine) endedKey(execution string) []byte { return append(m.endedPrefix(), execution...) }

func (m *Machine) endedPrefix() []byte { return []byte("machine/" + m.o.Name + "/e/") }

func (m *Machine) definitionKey(revision string) []byte {
	return []byte("machine/" + m.o.Name + "/d/" + revision)
}

func (m *Machine) limitsKey(revision string) []byte {
	return []byte("machine/" + m.o.Name + "/l/" + revision)
}

func (m *Machine) failedKey(execution string) []byte {
	return []byte("machine/" + m.o.Name + "/f/" + execution)
}
