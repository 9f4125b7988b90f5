package admin

import (
	"bytes"
	"time"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
)

// Job is a job as lines of an export, answers of the API and `weir queue show --json` have
// it. Every text that is not UTF-8 is written as {"base64": "..."} instead of a string.
type Job struct {
	ID          string        `json:"id,omitempty"`
	Queue       Text          `json:"queue,omitempty"`
	State       string        `json:"state,omitempty"` // "open" or "dead"
	Workspace   Text          `json:"workspace,omitempty"`
	Source      Text          `json:"source,omitempty"`
	Destination Text          `json:"destination,omitempty"`
	At          time.Time     `json:"at,omitzero"`       // appended; for a dead job, when it died
	Attempts    int           `json:"attempts,omitzero"` // that failed
	NotBefore   time.Time     `json:"not_before,omitzero"`
	Cause       Text          `json:"cause,omitempty"`
	Ordered     bool          `json:"ordered,omitzero"`
	Key         Text          `json:"key,omitempty"`
	MessageID   Text          `json:"message_id,omitempty"`
	Headers     event.Headers `json:"headers,omitempty"`
	Origin      *Origin       `json:"origin,omitempty"` // where it was read first
	Event       *Descriptor   `json:"event,omitempty"`  // what is known of it beside its payload
	Created     time.Time     `json:"created,omitzero"`
	Read        time.Time     `json:"read,omitzero"`
	Payload     *Payload      `json:"payload"`       // null: a message without a payload
	Raw         *Payload      `json:"raw,omitempty"` // as it was read, where that is something else
	// Hidden says that who asks may not see what the event holds.
	Hidden bool `json:"hidden,omitempty"`
	// Bytes is the size of a payload that is left out.
	Bytes int `json:"bytes,omitempty"`
}

// hide takes out of j what its event holds.
func (j *Job) hide(hidden bool) {
	if j.Payload != nil {
		j.Bytes = len(*j.Payload)
	}
	j.Key, j.Headers, j.Payload, j.Raw, j.Hidden = "", nil, nil, nil, hidden
}

// Text is a string of any bytes.
type Text = event.Text

// Payload is a payload of any bytes.
type Payload = event.Payload

// Origin is where a message was read first; its position is base64.
type Origin struct {
	Stream    Text      `json:"stream,omitempty"`
	Partition Text      `json:"partition,omitempty"`
	Position  []byte    `json:"position,omitempty"`
	Sub       uint64    `json:"sub,omitzero"`
	At        time.Time `json:"at,omitzero"`
}

// Descriptor is what is known of an event beside its payload.
type Descriptor struct {
	JobRun    Text `json:"job_run,omitempty"`
	TaskRun   Text `json:"task_run,omitempty"`
	Type      Text `json:"type,omitempty"`
	Name      Text `json:"name,omitempty"`
	Transient bool `json:"transient,omitzero"`
}

// The states of a job.
const (
	StateOpen = "open"
	StateDead = "dead"
)

// jobOf is j as it is shown.
func jobOf(j *queue.Job, state string) Job {
	m := j.Msg
	out := Job{
		ID: j.ID.String(), Queue: Text(j.Queue), State: state,
		Workspace: Text(j.Scope.Workspace), Source: Text(j.Scope.Source), Destination: Text(j.Scope.Destination),
		At: j.At, Attempts: j.Attempt, NotBefore: j.NotBefore, Cause: Text(j.Cause), Ordered: j.Ordered,
		Key: Text(m.Key), MessageID: Text(m.Meta.ID), Headers: m.Meta.Headers, Created: m.Times.Created, Read: m.Times.Read,
	}
	if o := m.Meta.Origin.Earliest(); o != nil {
		out.Origin = &Origin{Text(o.Stream), Text(o.Partition), o.Position, o.Sub, o.At}
	}
	if d := m.Meta.Descriptor; d != nil {
		out.Event = &Descriptor{Text(d.JobRun), Text(d.TaskRun), Text(d.Type), Text(d.Name), d.Transient}
	}
	if m.Data != nil {
		out.Payload = (*Payload)(&m.Data)
	}
	if raw := m.Raw(); !bytes.Equal(raw, m.Data) || (raw == nil) != (m.Data == nil) {
		out.Raw = (*Payload)(&raw)
	}
	if out.Cause == "" {
		out.Cause = Text(m.Meta.Headers.Text(queue.HeaderLastError))
	}
	if state == StateDead {
		out.Attempts++ // the store counts those that were to be tried again
	}
	return out
}

// job is j as it is appended: a new job, without attempts.
func (j *Job) job(name string, ordered bool, now time.Time) queue.Job {
	m := &event.Message{Key: string(j.Key)}
	m.Meta.ID, m.Meta.Headers = string(j.MessageID), j.Headers
	if o := j.Origin; o != nil {
		m.Meta.Origin = &event.Origin{Stream: string(o.Stream), Partition: string(o.Partition), Position: o.Position, Sub: o.Sub, At: o.At}
	}
	if d := j.Event; d != nil {
		m.Meta.Descriptor = &event.Descriptor{JobRun: string(d.JobRun), TaskRun: string(d.TaskRun), Type: string(d.Type), Name: string(d.Name), Transient: d.Transient}
	}
	m.Times.Created, m.Times.Read = j.Created, j.Read
	if m.Times.Created.IsZero() {
		m.Times.Created = now
	}
	if m.Times.Read.IsZero() {
		m.Times.Read = m.Times.Created
	}
	if j.Payload != nil {
		m.Data = *j.Payload
	}
	m.SetRaw(m.Data)
	if j.Raw != nil {
		m.SetRaw(*j.Raw)
	}
	out := queue.Job{Queue: name, Msg: m, Ordered: ordered || j.Ordered,
		Scope: queue.Scope{Workspace: string(j.Workspace), Source: string(j.Source), Destination: string(j.Destination)}}
	if j.NotBefore.After(now) {
		out.NotBefore = j.NotBefore
	}
	return out
}
