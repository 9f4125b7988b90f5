package gateway

import (
	"time"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/jsontext"
)

// What an ingestion service in front of the gateway sends: a list of messages, each an event that
// is stamped already and the properties that say whose it is:
//
//	[{"properties": {"requestType", "routingKey", "workspaceID", "sourceID", "receivedAt", "requestIP",
//	                 "destinationID", "sourceJobRunID", "sourceTaskRunID", ...}, "payload": {...}}, ...]
//
// The first six must be there. The event is passed on as it is, with the routing key as its key.

// required are the properties that a message must have.
var required = [...]string{"requestType", "routingKey", "workspaceID", "sourceID", "receivedAt", "requestIP"}

// stream reads a list of messages.
func (w *writer) stream(s *jsontext.Scanner, limit int) *Answer {
	if s.Next() != '[' {
		return InvalidJSON
	}
	if !s.Enter() {
		return InvalidJSON
	}
	for w.at = 0; ; w.at++ {
		more, ok := s.More(w.at == 0, ']')
		switch {
		case !ok:
			return InvalidJSON
		case !more && !s.End():
			return InvalidJSON
		case !more && w.at == 0:
			return NotAnEvent
		case !more:
			return nil
		case limit > 0 && w.at == limit:
			return TooLarge
		case s.Next() != '{':
			return NotAnEvent
		}
		if no := w.message(s); no != nil {
			return no
		}
	}
}

// message reads one message of a stream.
func (w *writer) message(s *jsontext.Scanner) *Answer {
	var ok bool
	if w.members, ok = s.Object(w.members[:0]); !ok {
		return InvalidJSON
	}
	var properties, payload []byte
	for i := range w.members {
		switch m := &w.members[i]; string(m.Name(w.body)) {
		case "properties":
			properties = m.Of(w.body)
		case "payload":
			payload = m.Of(w.body)
		}
	}
	if len(properties) == 0 || properties[0] != '{' {
		return BadMessage
	}
	if len(payload) == 0 || payload[0] != '{' {
		return NotAnEvent
	}
	said := map[string]string{}
	p := jsontext.Scan(properties)
	w.scratch, _ = p.Object(w.scratch[:0])
	for i := range w.scratch {
		m := &w.scratch[i]
		if v := m.Of(properties); v[0] == '"' {
			said[string(m.Name(properties))] = string(jsontext.Unquoted(v))
		}
	}
	for _, name := range required {
		if said[name] == "" {
			return BadMessage
		}
	}
	if _, err := time.Parse(time.RFC3339Nano, said["receivedAt"]); err != nil {
		return BadMessage
	}
	of := whose{user: said["userID"], scope: &event.Scope{Workspace: said["workspaceID"], Source: said["sourceID"], Destination: said["destinationID"]}}
	if job, task := said["sourceJobRunID"], said["sourceTaskRunID"]; job != "" || task != "" {
		of.about = &event.Descriptor{JobRun: job, TaskRun: task}
		if len(job)+len(task) > maxRun {
			return BadMessage
		}
	}
	w.passed(payload, said["routingKey"], of)
	return nil
}

// passed writes an event that stays as it is.
func (w *writer) passed(payload []byte, key string, of whose) {
	e := written{from: len(w.out), name: len(w.names)}
	w.out = jsontext.Compact(w.out, payload)
	e.out = len(w.out)
	w.names = append(w.names, key...)
	e.key = len(w.names)
	id := visible(appendText(nil, w.member(payload, "messageId")))
	if len(id) == 0 {
		id = appendRandomUUID(nil)
	}
	w.names = append(w.names, id...)
	e.id = len(w.names)
	w.events = append(w.events, e)
	w.whose = append(w.whose, of)
}
