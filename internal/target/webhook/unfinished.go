package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/jsontext"
	"github.com/weirdata/weir/internal/usertransform"
)

// Finishes implements connector.Finisher.
func (t *Target) Finishes() bool { return true }

// finish takes an event through the user transformation that it could not pass before, and sends
// what that makes of it.
func (t *Target) finish(ctx context.Context, e *endpoint, m *event.Message, why string) error {
	if t.engine == nil {
		return fault.Describe(fault.Invalid, errors.New(why), fault.Detail{Type: "transformation", Code: "400", Safe: "the user transformation failed"})
	}
	w := t.file.Current()
	s := w.BySource(m.Meta.Scope.Source)
	if s == nil {
		return aborted("410", fmt.Sprintf("the source %q is not in the workspace configuration any more: put it back and send the event again, or delete the failure", m.Meta.Scope.Source))
	}
	c := s.To(m.Meta.Scope.Destination)
	if c == nil || c.Destination.Transformation() == nil {
		return aborted("410", "the user transformation that the event has to pass is not in the workspace configuration any more: delete the failure, or connect the destination again")
	}
	r := t.engine.Run(ctx, w, s, c, event.Batch{m}, usertransform.Whole)[0]
	if r.Err != nil {
		return r.Err
	}
	for _, data := range r.Out {
		kind, name := named(data)
		no, known := c.Takes(kind, name)
		if !known {
			return aborted("400", "Invalid message type. Type assertion failed: the event has no type")
		}
		if no != "" {
			continue
		}
		made := *m
		made.Replace(data)
		if err := t.send(ctx, e, &made); err != nil {
			return err
		}
	}
	return nil
}

// named is the type and the name of an event.
func named(data []byte) (kind, name []byte) {
	s := jsontext.Scan(data)
	members, _ := s.Object(nil)
	for _, m := range members {
		v := m.Of(data)
		if v[0] != '"' {
			continue
		}
		switch string(m.Name(data)) {
		case "type":
			kind = bytes.ToLower(bytes.TrimSpace(jsontext.Unquoted(v)))
		case "event":
			name = jsontext.Unquoted(v)
		}
	}
	return kind, name
}

var _ connector.Finisher = (*Target)(nil)
