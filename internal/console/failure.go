package console

import (
	"time"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/tap"
)

// Rehearsal is what becomes of a message.
type Rehearsal struct {
	Pipeline string `json:"pipeline"`
	// Outcome is delivered, filtered or failed; or stopped, before a transform that asks others.
	Outcome string `json:"outcome"`
	Why     string `json:"why,omitempty"`
	// Steps are what each transform made of it, and Outputs what came to which target.
	Steps   []tap.Record `json:"steps"`
	Outputs []tap.Record `json:"outputs"`
	// Difference is that between what was read and what came out, a line each with + or -.
	Difference string `json:"difference"`
	// Case is a case for weir test that expects this.
	Case string `json:"case"`
}

// FailureLine is a failure in a list.
type FailureLine struct {
	Ref         string     `json:"ref"`
	ID          string     `json:"id"`
	Cause       string     `json:"cause"`
	Where       string     `json:"where"`
	Pipeline    string     `json:"pipeline,omitempty"`
	Machine     string     `json:"machine,omitempty"`
	Workspace   event.Text `json:"workspace,omitempty"`
	Source      event.Text `json:"source,omitempty"`
	Destination event.Text `json:"destination,omitempty"`
	MessageID   event.Text `json:"message_id,omitempty"`
	Time        time.Time  `json:"time,omitzero"` // it was read
	Died        time.Time  `json:"died,omitzero"`
	Attempts    int        `json:"attempts,omitempty"`
	Dead        bool       `json:"dead,omitempty"`
	Replayed    bool       `json:"replayed,omitempty"`
	Size        int        `json:"size"`
}

// WholeFailure is a failure with all that is known of it.
type WholeFailure struct {
	FailureLine
	Kind    string   `json:"kind"`
	Errors  []string `json:"errors"`
	Refusal string   `json:"refusal,omitempty"`
	Whole   bool     `json:"whole"`   // the payload was not cut
	AsRead  bool     `json:"as_read"` // it is as it was read, and not as transforms left it
	// Hidden says that who asks may not see what the event holds.
	Hidden  bool           `json:"hidden,omitempty"`
	Payload *event.Payload `json:"payload,omitempty"`
	Latest  *event.Payload `json:"latest,omitempty"`
	Key     event.Text     `json:"key,omitempty"`
	Headers event.Headers  `json:"headers,omitempty"`
}

// FailureCause is failures with one cause.
type FailureCause struct {
	Cause  string    `json:"cause"`
	Count  int       `json:"count"`
	Newest time.Time `json:"newest,omitzero"`
	Oldest time.Time `json:"oldest,omitzero"`
	// Where are their places, and Sample is one of them.
	Where  []string `json:"where"`
	Sample string   `json:"sample"`
}

// FailureCauses is failures by cause, the most frequent first.
type FailureCauses struct {
	Causes []FailureCause `json:"causes"`
	Total  int            `json:"total"`
	// Incomplete says that there are more failures, or causes, than were looked at.
	Incomplete bool `json:"incomplete,omitempty"`
}

// FailurePage is one page of failures.
type FailurePage struct {
	Failures []FailureLine `json:"failures"`
	Next     string        `json:"next,omitempty"`
}

// RehearseBody names a failure, or has a message, that is sent through a pipeline without writing.
type RehearseBody struct {
	Ref      string       `json:"ref,omitempty"`
	Pipeline string       `json:"pipeline,omitempty"` // of a message
	Message  *MessageBody `json:"message,omitempty"`
	Calls    bool         `json:"calls,omitempty"` // transforms may ask others
}

// MessageBody is a message as its pipeline reads it.
type MessageBody struct {
	Data        event.Payload `json:"data"`
	Key         event.Text    `json:"key,omitempty"`
	Headers     event.Headers `json:"headers,omitempty"`
	ID          string        `json:"id,omitempty"`
	Workspace   string        `json:"workspace,omitempty"`
	Source      string        `json:"source,omitempty"`
	Destination string        `json:"destination,omitempty"`
}

func (b *MessageBody) message() *event.Message {
	m := event.New(b.Data)
	m.Key, m.Meta.Headers, m.Meta.ID = string(b.Key), b.Headers, b.ID
	if s := (event.Scope{Workspace: b.Workspace, Source: b.Source, Destination: b.Destination}); s != (event.Scope{}) {
		m.Meta.Scope = &s
	}
	return m
}

// ReplayBody chooses failures that are sent again.
type ReplayBody struct {
	FailureQuery
	DryRun bool `json:"dry_run,omitempty"`
	// All must be set when nothing else chooses.
	All bool `json:"all,omitempty"`
}

// Replayed is what a replay did, or would do.
type Replayed struct {
	// Dead is how many dead messages wait in their queues again, or would.
	Dead int `json:"dead"`
	// Rows is how many failures are elsewhere, and Commands what sends them again.
	Rows     int      `json:"rows"`
	Commands []string `json:"commands,omitempty"`
}

// FailureQuery chooses failures.
type FailureQuery struct {
	Cause       string `json:"cause,omitempty"`
	Text        string `json:"text,omitempty"`
	Pipeline    string `json:"pipeline,omitempty"`
	Workspace   string `json:"workspace,omitempty"`
	Source      string `json:"source,omitempty"`
	Destination string `json:"destination,omitempty"`
	MessageID   string `json:"message_id,omitempty"`
	Since       string `json:"since,omitempty"`
	Until       string `json:"until,omitempty"`
}
