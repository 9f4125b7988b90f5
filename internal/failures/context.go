package failures

import (
	"bytes"
	"cmp"
	"encoding/json"

	"github.com/weirdata/weir/internal/event"
)

// Context is what a row says of its message beside the payload, so that a replay sends it
// where it was to go: which pipeline it failed in, whose it is, its key and its ID.
type Context struct {
	Pipeline string
	Scope    event.Scope
	Key, ID  string
}

// ContextOf is the context of a message that failed in a pipeline; the name may be empty.
func ContextOf(pipeline string, m *event.Message) Context {
	c := Context{Pipeline: pipeline, Key: m.Key, ID: m.Meta.ID}
	if s := m.Meta.Scope; s != nil {
		c.Scope = *s
	}
	return c
}

// contextName is the member of a row that holds its context, beside data and schema.
const contextName = "weir"

// contextJSON is a context at rest.
type contextJSON struct {
	Destination event.Text `json:"destination,omitempty"`
	ID          event.Text `json:"id,omitempty"`
	Key         event.Text `json:"key,omitempty"`
	Pipeline    event.Text `json:"pipeline,omitempty"`
	Source      event.Text `json:"source,omitempty"`
	Workspace   event.Text `json:"workspace,omitempty"`
}

// contextShare is the part of a row's limit that its context may take; a larger one is left
// out, so that there is room for the payload.
const contextShare = 4

// member is the member of a row that holds c, at most a part of limit long; empty when there
// is nothing to say.
func (c Context) member(limit int) (string, error) {
	if c == (Context{}) {
		return "", nil
	}
	var out bytes.Buffer
	out.WriteString(`,"` + contextName + `":`)
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(true) // as the rest of a row
	if err := e.Encode(contextJSON{event.Text(c.Scope.Destination), event.Text(c.ID), event.Text(c.Key), event.Text(c.Pipeline),
		event.Text(c.Scope.Source), event.Text(c.Scope.Workspace)}); err != nil {
		return "", err
	}
	text := bytes.TrimSuffix(out.Bytes(), []byte("\n"))
	if limit > 0 && len(text) > limit/contextShare {
		return "", nil
	}
	return string(text), nil
}

// context is the context that a row has.
func (c *contextJSON) context() Context {
	return Context{Pipeline: string(c.Pipeline), Key: string(c.Key), ID: string(c.ID),
		Scope: event.Scope{Workspace: string(c.Workspace), Source: string(c.Source), Destination: string(c.Destination)}}
}

// or is c, with what it does not say from other.
func (c Context) or(other Context) Context {
	if c.Scope == (event.Scope{}) {
		c.Scope = other.Scope
	}
	c.Pipeline, c.Key, c.ID = cmp.Or(c.Pipeline, other.Pipeline), cmp.Or(c.Key, other.Key), cmp.Or(c.ID, other.ID)
	return c
}
