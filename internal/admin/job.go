package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
)

// Job is a job as lines of an export, answers of the API and `weir queue show --json` have
// it. Every text that is not UTF-8 is written as {"base64": "..."} instead of a string.
type Job struct {
	ID          string    `json:"id,omitempty"`
	Queue       Text      `json:"queue,omitempty"`
	State       string    `json:"state,omitempty"` // "open" or "dead"
	Workspace   Text      `json:"workspace,omitempty"`
	Source      Text      `json:"source,omitempty"`
	Destination Text      `json:"destination,omitempty"`
	At          time.Time `json:"at,omitzero"`       // appended; for a dead job, when it died
	Attempts    int       `json:"attempts,omitzero"` // that failed
	NotBefore   time.Time `json:"not_before,omitzero"`
	Cause       Text      `json:"cause,omitempty"`
	Ordered     bool      `json:"ordered,omitzero"`
	Key         Text      `json:"key,omitempty"`
	MessageID   Text      `json:"message_id,omitempty"`
	Headers     Headers   `json:"headers,omitempty"`
	Created     time.Time `json:"created,omitzero"`
	Read        time.Time `json:"read,omitzero"`
	Payload     *Payload  `json:"payload"`       // null: a message without a payload
	Raw         *Payload  `json:"raw,omitempty"` // as it was read, where that is something else
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
	if m.Data != nil {
		out.Payload = (*Payload)(&m.Data)
	}
	if raw := m.Raw(); !bytes.Equal(raw, m.Data) || (raw == nil) != (m.Data == nil) {
		out.Raw = (*Payload)(&raw)
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

// Text is a string of any bytes.
type Text string

type encoded struct {
	Base64 *[]byte `json:"base64"`
}

func marshalBytes(b []byte) ([]byte, error) {
	if !utf8.Valid(b) {
		return json.Marshal(encoded{&b})
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(string(b)); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

func unmarshalBytes(b []byte) ([]byte, error) {
	if len(b) > 0 && b[0] == '"' {
		var s string
		err := json.Unmarshal(b, &s)
		return []byte(s), err
	}
	var e encoded
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil || e.Base64 == nil {
		return nil, fmt.Errorf(`want a string, or {"base64": "..."} for bytes that are not UTF-8, not %.40q`, b)
	}
	return *e.Base64, nil
}

// MarshalJSON implements json.Marshaler.
func (t Text) MarshalJSON() ([]byte, error) { return marshalBytes([]byte(t)) }

// UnmarshalJSON implements json.Unmarshaler.
func (t *Text) UnmarshalJSON(b []byte) error {
	v, err := unmarshalBytes(b)
	*t = Text(v)
	return err
}

// Payload is a payload of any bytes.
type Payload []byte

// MarshalJSON implements json.Marshaler.
func (p *Payload) MarshalJSON() ([]byte, error) { return marshalBytes(*p) }

// UnmarshalJSON implements json.Unmarshaler.
func (p *Payload) UnmarshalJSON(b []byte) error {
	v, err := unmarshalBytes(b)
	*p = v
	return err
}

// Headers are a message's headers. They are an object, or a list of [name, value] when a
// name is not UTF-8.
type Headers map[string]string

// MarshalJSON implements json.Marshaler.
func (h Headers) MarshalJSON() ([]byte, error) {
	object, pairs := map[string]Text{}, [][2]Text{}
	for _, name := range slices.Sorted(maps.Keys(h)) {
		if utf8.ValidString(name) {
			object[name] = Text(h[name])
		}
		pairs = append(pairs, [2]Text{Text(name), Text(h[name])})
	}
	if len(object) < len(pairs) {
		return json.Marshal(pairs)
	}
	return json.Marshal(object)
}

// UnmarshalJSON implements json.Unmarshaler.
func (h *Headers) UnmarshalJSON(b []byte) error {
	*h = Headers{}
	if len(b) > 0 && b[0] == '[' {
		var pairs [][]Text
		if err := json.Unmarshal(b, &pairs); err != nil {
			return err
		}
		for _, p := range pairs {
			if len(p) != 2 {
				return fmt.Errorf("a header is [name, value], not %d texts", len(p))
			}
			(*h)[string(p[0])] = string(p[1])
		}
		return nil
	}
	var object map[string]Text
	if err := json.Unmarshal(b, &object); err != nil {
		return err
	}
	for name, v := range object {
		(*h)[name] = string(v)
	}
	return nil
}
