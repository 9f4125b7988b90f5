package gateway

import (
	"bytes"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/jsontext"
	"github.com/weirdata/weir/internal/workspace"
)

// The members of an event that are read or written.
const (
	fieldType = iota
	fieldMessageID
	fieldAnonymousID
	fieldUserID
	fieldRudderID
	fieldRequestIP
	fieldReceivedAt
	fieldOriginalTimestamp
	fieldSentAt
	fieldTimestamp
	fieldWriteKey
	fields
)

// other is any other member.
const other = -1

func field(name []byte) int {
	switch string(name) {
	case "type":
		return fieldType
	case "messageId":
		return fieldMessageID
	case "anonymousId":
		return fieldAnonymousID
	case "userId":
		return fieldUserID
	case "rudderId":
		return fieldRudderID
	case "request_ip":
		return fieldRequestIP
	case "receivedAt":
		return fieldReceivedAt
	case "originalTimestamp":
		return fieldOriginalTimestamp
	case "sentAt":
		return fieldSentAt
	case "timestamp":
		return fieldTimestamp
	case "writeKey":
		return fieldWriteKey
	}
	return other
}

// writer makes the events of one request. It is pooled; nothing of it outlives the request.
type writer struct {
	call    *Call
	body    []byte
	anyID   bool
	key     []byte    // the member writeKey of the body, as text
	sent    time.Time // when a client of Segment sent the batch; zero when that is not known
	now     []byte    // the request's time as a JSON string
	ip      []byte    // the client's address as a JSON string
	members []jsontext.Member
	ids     []byte // scratch: userId, colon, anonymousId

	out    []byte // the events, one after the other
	names  []byte // of each event the key and the message id
	events []written
	parts  [][]byte
}

// written is where an event ends in out, and its key and id in names.
type written struct{ out, key, id int }

var writers = sync.Pool{New: func() any { return new(writer) }}

// maxKept is the largest scratch memory, in bytes, that waits for another request.
const maxKept = 1 << 20

func (w *writer) release() {
	if cap(w.out) > maxKept || cap(w.events) > maxKept/64 {
		return
	}
	clear(w.parts)
	w.call, w.body, w.out, w.names, w.events, w.parts = nil, nil, w.out[:0], w.names[:0], w.events[:0], w.parts[:0]
	writers.Put(w)
}

// Events makes the events of a call from the body of its request, which is nil where
// HasBody says so. Either there are events, or there is an answer that refuses the request.
// Nothing of body is kept.
func (g *Gateway) Events(c *Call, body []byte) (event.Batch, *Answer) {
	kind := c.kind
	if kind == pixel {
		body, kind = pixelEvent(c.query, c.now), single
	}
	body = jsontext.UTF8(body)
	w := writers.Get().(*writer)
	defer w.release()
	w.call, w.body, w.anyID, w.key, w.sent = c, body, g.o.AnyID, w.key[:0], time.Time{}
	w.now = appendTime(w.now[:0], c.now.UTC())
	w.ip = jsontext.AppendString(w.ip[:0], c.ip)
	s := jsontext.Scan(body)
	var no *Answer
	if kind == single {
		no = w.single(&s)
	} else {
		no = w.batch(&s, g.o.MaxEvents)
	}
	if c.source == nil {
		source, denied := g.keyed(w.key)
		if denied != nil {
			return nil, denied
		}
		c.source = source
	}
	if no != nil {
		// What is not JSON at all is refused as that, whatever was found first.
		if no != InvalidJSON && !jsontext.Valid(body) {
			no = InvalidJSON
		}
		return nil, no
	}
	return w.messages(), nil
}

// keyed is the enabled source whose write key a body has.
func (g *Gateway) keyed(key []byte) (*workspace.Source, *Answer) {
	if len(key) == 0 {
		return nil, NoWriteKey
	}
	s, no := byKey(g.file.Current(), string(key))
	if no == nil && !s.Enabled {
		return nil, SourceDisabled
	}
	return s, no
}

func (w *writer) single(s *jsontext.Scanner) *Answer {
	if s.Next() != '{' {
		return NotAnEvent
	}
	if no := w.event(s); no != nil {
		return no
	}
	if !s.End() {
		return InvalidJSON
	}
	return nil
}

// batch reads the list of events. Of members called batch the last counts.
func (w *writer) batch(s *jsontext.Scanner, limit int) *Answer {
	if s.Next() != '{' || !s.Enter() {
		return EmptyBatch
	}
	no := EmptyBatch
	var at jsontext.Scanner // where the list is
	var sent []byte         // the member sentAt
	segment := w.call.segment
	for first := true; ; first = false {
		more, ok := s.More(first, '}')
		if !ok {
			return InvalidJSON
		}
		if !more {
			break
		}
		m, ok := s.Member()
		if !ok {
			return InvalidJSON
		}
		name := m.Name(w.body)
		if string(name) == "batch" {
			at = *s
			if no = w.anew(s, limit); no == nil {
				continue
			}
			*s = at
		}
		s.Next()
		from := s.At
		if !s.Value() {
			return InvalidJSON
		}
		switch value := w.body[from:s.At]; string(name) {
		case "writeKey":
			w.key, segment = appendText(w.key[:0], value), true
		case "_metadata":
			segment = true
		case "sentAt":
			sent = value
		}
	}
	if !s.End() {
		return InvalidJSON
	}
	if t, ok := asTime(sent); ok && segment && no == nil {
		w.sent = t
		no = w.anew(&at, limit)
	}
	return no
}

// anew reads the list of events in the place of any before it.
func (w *writer) anew(s *jsontext.Scanner, limit int) *Answer {
	w.out, w.names, w.events = w.out[:0], w.names[:0], w.events[:0]
	return w.list(s, limit)
}

// list reads the value of batch: a list of events, or one event by itself.
func (w *writer) list(s *jsontext.Scanner, limit int) *Answer {
	switch s.Next() {
	case '[':
	case '{':
		return w.event(s)
	case 'n':
		return EmptyBatch
	default:
		return NotAnEvent
	}
	if !s.Enter() {
		return InvalidJSON
	}
	for first := true; ; first = false {
		more, ok := s.More(first, ']')
		switch {
		case !ok:
			return InvalidJSON
		case !more && first:
			return EmptyBatch
		case !more:
			return nil
		case s.Next() != '{':
			return NotAnEvent
		case limit > 0 && len(w.events) == limit:
			return TooLarge
		}
		if no := w.event(s); no != nil {
			return no
		}
	}
}

// event reads one event and writes it to out.
func (w *writer) event(s *jsontext.Scanner) *Answer {
	var ok bool
	spaces := s.Spaces
	if w.members, ok = s.Object(w.members[:0]); !ok {
		return InvalidJSON
	}
	var at [fields]int // index of the last member of that name, from 1
	for i := range w.members {
		if f := field(w.members[i].Name(w.body)); f != other {
			at[f] = i + 1
		}
	}
	if w.call.event != "" {
		w.key = appendText(w.key[:0], w.value(w.body, at[fieldWriteKey]))
	}
	user, anonymous := w.identify(w.body, &at)
	if len(user) == 0 && len(anonymous) == 0 && !w.anyID && !w.anonymousType(w.body, at[fieldType]) {
		return NoID
	}
	w.copy(w.body, &at, s.Spaces != spaces)
	w.stamp(w.body, &at)
	if len(user) > 0 {
		w.names = append(w.names, user...)
	} else {
		w.names = append(w.names, anonymous...)
	}
	e := written{out: len(w.out), key: len(w.names)}
	w.names = w.messageID(w.names, w.body, &at)
	e.id = len(w.names)
	w.out = append(jsontext.AppendString(append(w.out, `,"messageId":`...), w.names[e.key:e.id]), '}')
	e.out = len(w.out)
	w.events = append(w.events, e)
	return nil
}

func (w *writer) value(data []byte, at int) []byte {
	if at == 0 {
		return nil
	}
	return w.members[at-1].Of(data)
}

// identify is the user's ids as text, in scratch memory that holds "userId:anonymousId".
func (w *writer) identify(data []byte, at *[fields]int) (user, anonymous []byte) {
	w.ids = appendText(w.ids[:0], w.value(data, at[fieldUserID]))
	user = trim(w.ids)
	n := copy(w.ids, user)
	w.ids = append(w.ids[:n], ':')
	w.ids = appendText(w.ids, w.value(data, at[fieldAnonymousID]))
	anonymous = trim(w.ids[n+1:])
	m := copy(w.ids[n+1:], anonymous)
	w.ids = w.ids[:n+1+m]
	return w.ids[:n], w.ids[n+1:]
}

// anonymousType: events of some types are not about users.
func (w *writer) anonymousType(data []byte, at int) bool {
	if w.call.event != "" {
		return false
	}
	switch string(w.value(data, at)) {
	case `"extract"`, `"record"`:
		return true
	}
	return false
}

// stamped reports whether a member is written anew, and so not copied.
func (w *writer) stamped(f int) bool {
	switch f {
	case fieldType:
		return w.call.event != ""
	case fieldMessageID, fieldRudderID, fieldReceivedAt, fieldOriginalTimestamp, fieldSentAt, fieldTimestamp:
		return true
	case fieldWriteKey:
		return w.call.segment || w.call.source == nil
	}
	return false
}

// copy writes an opening brace and the members that stay, each followed by a comma. Of
// members with one name that is read, the last stays.
func (w *writer) copy(data []byte, at *[fields]int, spaced bool) {
	out := append(w.out, '{')
	run := -1 // where what is copied next begins
	end := 0
	flush := func() {
		if run >= 0 {
			if spaced {
				out = jsontext.Compact(out, data[run:end])
			} else {
				out = append(out, data[run:end]...)
			}
			out = append(out, ',')
			run = -1
		}
	}
	for i := range w.members {
		m := &w.members[i]
		if f := field(m.Name(data)); f != other && (w.stamped(f) || at[f] != i+1) {
			flush()
			continue
		}
		if run < 0 {
			run = m.Start
		}
		end = m.End
	}
	flush()
	w.out = out
}

// stamp writes the members that are not copied, but for messageId.
func (w *writer) stamp(data []byte, at *[fields]int) {
	out := w.out
	if t := w.call.event; t != "" {
		out = append(append(append(out, `"type":"`...), t...), `",`...)
	}
	out = append(out, `"rudderId":"`...)
	out = appendRudderID(out, w.ids)
	out = append(out, '"')
	if at[fieldRequestIP] == 0 {
		out = append(append(out, `,"request_ip":`...), w.ip...)
	}
	now := w.call.now.UTC()
	original, hasOriginal := w.time(data, at[fieldOriginalTimestamp])
	sent, hasSent := w.time(data, at[fieldSentAt])
	if !hasSent && !w.sent.IsZero() {
		sent, hasSent = w.sent, true
	}
	stamp, hasStamp := w.time(data, at[fieldTimestamp])
	out = append(append(out, `,"receivedAt":`...), w.now...)
	out = w.appendTime(append(out, `,"originalTimestamp":`...), original, hasOriginal)
	out = w.appendTime(append(out, `,"sentAt":`...), sent, hasSent)
	out = append(out, `,"timestamp":`...)
	switch {
	case hasStamp:
		out = appendTime(out, stamp)
	case !hasOriginal && !hasSent:
		out = append(out, w.now...)
	default:
		if !hasOriginal {
			original = now
		}
		if !hasSent {
			sent = now
		}
		out = appendTime(out, now.Add(-sent.Sub(original)))
	}
	w.out = out
}

func (w *writer) appendTime(out []byte, t time.Time, ok bool) []byte {
	if !ok {
		return append(out, w.now...)
	}
	return appendTime(out, t)
}

// time reads a member as a time.
func (w *writer) time(data []byte, at int) (time.Time, bool) { return asTime(w.value(data, at)) }

func asTime(v []byte) (time.Time, bool) {
	if len(v) < 2 || v[0] != '"' || len(v) > 6*maxTime {
		return time.Time{}, false
	}
	return parseTime(string(jsontext.Unquoted(v)))
}

// messageID appends the client's name of the event, or a new one.
func (w *writer) messageID(dst, data []byte, at *[fields]int) []byte {
	n := len(dst)
	dst = appendText(dst, w.value(data, at[fieldMessageID]))
	id := visible(dst[n:])
	dst = dst[:n+copy(dst[n:], id)]
	if len(dst) == n {
		return appendRandomUUID(dst)
	}
	return dst
}

// messages are the events that were written, as messages in memory of their own.
func (w *writer) messages() event.Batch {
	data := bytes.Clone(w.out)
	names := string(w.names)
	start := 0
	for _, e := range w.events {
		// The capacity ends with the event, so that appending to it cannot reach the next.
		w.parts = append(w.parts, data[start:e.out:e.out])
		start = e.out
	}
	b := event.NewBatch(w.call.now.UTC(), w.parts)
	start = 0
	for i, e := range w.events {
		m := b[i]
		m.Key, m.Meta.ID, m.Meta.Scope = names[start:e.key], names[e.key:e.id], w.call.source.Scope
		start = e.id
	}
	return b
}
