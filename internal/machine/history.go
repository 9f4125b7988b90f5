package machine

import (
	"strings"
	"time"

	"github.com/weirdata/weir/internal/machine/jsonvalue"
)

// HistoryEvent is one event of an execution's history, as AWS numbers and names them.
// Fields that a type of event does not have are zero.
type HistoryEvent struct {
	ID, Previous uint64
	Type         string // "PassStateEntered"
	Time         time.Time
	State        string          // Entered, Exited, iterations
	Input        jsonvalue.Value // Entered, Scheduled, ExecutionStarted
	Output       jsonvalue.Value // Exited, Succeeded, Submitted
	Error, Cause jsonvalue.Value // failures; Undefined where there is none
	Resource     string          // tasks
	Timeout      time.Duration   // Scheduled
	Heartbeat    time.Duration   // Scheduled
	Credentials  jsonvalue.Value // Scheduled
	Length       int             // MapStateStarted
	Index        int             // iterations
	Assigned     []Assigned      // Exited
}

// Assigned is a variable that a state has set.
type Assigned struct {
	Name  string
	Value jsonvalue.Value
}

// The types of the events that every visit of a state has.
var (
	enteredType = typesOfEvents("StateEntered")
	exitedType  = typesOfEvents("StateExited")
)

func typesOfEvents(suffix string) (types [len(kindNames)]string) {
	for i, k := range kindNames {
		types[i] = k + suffix
	}
	return types
}

// record counts an event and makes it the last of its chain.
func (r *run) record(f *frame, e HistoryEvent) {
	f.chain = r.recordAfter(f.chain, e)
}

// recordAfter counts an event that follows the event previous; it gives its ID.
func (r *run) recordAfter(previous uint64, e HistoryEvent) uint64 {
	r.x.Events++
	if r.env.Record != nil {
		e.ID, e.Previous, e.Time = r.x.Events, previous, r.env.Now
		r.env.Record(e)
	}
	return r.x.Events
}

// taskEvents are the types of events of a task.
type taskEvents struct{ scheduled, started, succeeded, failed, timedOut string }

func (t *taskFields) prepare() {
	f := t.family()
	t.events = taskEvents{f + "Scheduled", f + "Started", f + "Succeeded", f + "Failed", f + "TimedOut"}
}

// family is the beginning of the types of events that a task has.
func (t *taskFields) family() string {
	switch {
	case strings.HasPrefix(t.resource, "arn:") && strings.Contains(t.resource, ":lambda:") && strings.Contains(t.resource, ":function:") && !strings.Contains(t.resource, ":states:"):
		return "LambdaFunction"
	case strings.HasPrefix(t.resource, "arn:") && strings.Contains(t.resource, ":activity:"):
		return "Activity"
	}
	return "Task"
}

// shown is what causes call the resource: its ARN, or the service of an integration.
func (t *taskFields) shown() string {
	if rest, ok := strings.CutPrefix(t.resource, "arn:aws:states:::"); ok {
		service, _, _ := strings.Cut(strings.TrimPrefix(rest, "aws-sdk:"), ":")
		return service
	}
	return t.resource
}

// hasToken reports whether $$.Task.Token is there: on AWS only for tasks that others answer.
func (t *taskFields) hasToken() bool {
	return !strings.HasPrefix(t.resource, "arn:aws:") || strings.Contains(t.resource, ".waitForTaskToken") || strings.Contains(t.resource, ".sync")
}
