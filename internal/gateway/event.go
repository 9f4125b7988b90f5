package gateway

import (
	"bytes"
	"slices"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/jsontext"
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
	fieldContext
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
	case "context":
		return fieldContext
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
	base    time.Time // when the events are received, in milliseconds
	now     []byte    // the same as a JSON string
	ip      []byte    // the client's address as a JSON string
	members []jsontext.Member
	scratch []jsontext.Member
	ids     []byte // scratch: userId, colon, anonymousId

	at      int     // the event that is read, from 0
	refused *Answer // of an import: why some of its events are left out

	out    []byte // the events, one after the other
	names  []byte // of each event the key and the message id
	events []written
	whose  []whose // of a stream: of each event
	parts  [][]byte
}

// written is where an event is in out, and its key and id in names.
type written struct {
	from, out     int
	name, key, id int
	nameless      bool // it belongs to no user
	known         bool // its key is a userId
}

// whose is what the properties of an event of a stream say.
type whose struct {
	user  string
	scope *event.Scope
	about *event.Descriptor
}

var writers = sync.Pool{New: func() any { return new(writer) }}

// maxKept is the largest scratch memory, in bytes, that waits for another request.
const maxKept = 1 << 20

func (w *writer) release() {
	if cap(w.out) > maxKept || cap(w.events) > maxKept/64 {
		return
	}
	clear(w.parts)
	clear(w.whose)
	w.call, w.body, w.out, w.names, w.events, w.whose, w.parts = nil, nil, w.out[:0], w.names[:0], w.events[:0], w.whose[:0], w.parts[:0]
	writers.Put(w)
}

// Events makes the events of a call from the body of its request, which is nil where
// HasBody says so. Either there are events, or there is an answer that refuses the request.
// Nothing of body is kept.
func (g *Gateway) Events(c *Call, body []byte) (event.Batch, *Answer) {
	switch c.kind {
	case pixel:
		return g.write(c, single, pixelEvent(c.query, c.now))
	case webhook:
		return g.hook(c, body)
	}
	return g.write(c, c.kind, body)
}

// write makes the events of a text of some kind.
func (g *Gateway) write(c *Call, kind kind, body []byte) (event.Batch, *Answer) {
	body = jsontext.UTF8(body)
	w := writers.Get().(*writer)
	defer w.release()
	w.call, w.body, w.anyID, w.key, w.sent, w.at, w.refused = c, body, g.o.AnyID || c.unnamed, w.key[:0], time.Time{}, 0, nil
	w.received(c.now.UTC())
	w.ip = jsontext.AppendString(w.ip[:0], c.ip)
	s := jsontext.Scan(body)
	var no *Answer
	switch kind {
	case single:
		no = w.single(&s)
	case stream:
		no = w.stream(&s, g.o.MaxEvents)
	default:
		no = w.batch(&s, g.o.MaxEvents)
	}
	if c.Keyed() {
		source, denied := g.keyed(w.key)
		c.source = source
		if denied != nil {
			return nil, denied
		}
	}
	if no == nil && w.refused != nil {
		no = w.part()
	}
	if no != nil {
		// What is not JSON at all is refused as that, whatever was found first.
		if no != InvalidJSON && !jsontext.Valid(body) {
			no = InvalidJSON
		}
		if kind != single && (no == NoID || no == NotAnEvent || no == BadMessage) {
			no = no.about(w.at)
		}
		return nil, no
	}
	if !w.suppress(g.o.Suppressed) {
		return nil, Unavailable
	}
	return w.messages(), nil
}

// suppress leaves out the events of users of whom nothing may be kept; false when that cannot be said.
// Only a userId says who a user is.
func (w *writer) suppress(is func(workspace, source, user string) (bool, error)) bool {
	w.call.leftOut = 0
	if is == nil {
		return true
	}
	var scope *event.Scope
	if w.call.source != nil {
		scope = w.call.source.Scope
	}
	kept := 0
	last, lastIs := "", false // events of one user mostly come together
	for i, e := range w.events {
		user := ""
		if w.call.kind == stream {
			user, scope = w.whose[i].user, w.whose[i].scope
			last = ""
		} else if e.known {
			user = string(w.names[e.name:e.key])
		}
		if user != "" && user != last && scope != nil {
			var err error
			if lastIs, err = is(scope.Workspace, scope.Source, user); err != nil {
				return false
			}
			last = user
		}
		if user != "" && lastIs {
			w.call.leftOut++
			continue
		}
		w.events[kept] = e
		if w.call.kind == stream {
			w.whose[kept] = w.whose[i]
		}
		kept++
	}
	w.events = w.events[:kept]
	return true
}

// part leaves those events of an import out that belong to no user, because one of them is
// refused; an answer when there are no others.
func (w *writer) part() *Answer {
	w.events = slices.DeleteFunc(w.events, func(e written) bool { return e.nameless })
	if len(w.events) == 0 {
		return w.refused
	}
	w.call.partly = w.refused
	return nil
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
	w.out, w.names, w.events, w.at, w.refused = w.out[:0], w.names[:0], w.events[:0], 0, nil
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
	for w.at = 0; ; w.at++ {
		more, ok := s.More(w.at == 0, ']')
		switch {
		case !ok:
			return InvalidJSON
		case !more && w.at == 0:
			return EmptyBatch
		case !more:
			return nil
		case limit > 0 && w.at == limit:
			return TooLarge
		}
		if no := w.element(s); no != nil && !w.leaveOut(no) {
			return no
		}
	}
}

// element reads an element of a list.
func (w *writer) element(s *jsontext.Scanner) *Answer {
	if s.Next() == '{' {
		return w.event(s)
	}
	if w.call.kind == imported && !s.Value() {
		return InvalidJSON
	}
	return NotAnEvent
}

// leaveOut leaves the event that was read out of an import, which goes on without it.
func (w *writer) leaveOut(no *Answer) bool {
	if w.call.kind != imported || (no != NoID && no != NotAnEvent) {
		return false
	}
	if w.refused == nil {
		w.refused = no.about(w.at)
	}
	return true
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
	if w.at == 0 && at[fieldContext] > 0 && !w.run(w.value(w.body, at[fieldContext])) {
		return NotAnEvent
	}
	user, anonymous := w.identify(w.body, &at)
	nameless := len(user) == 0 && len(anonymous) == 0
	if nameless && !w.anyID && !w.anonymousType(w.body, at[fieldType]) {
		return NoID
	}
	e := written{from: len(w.out), name: len(w.names), nameless: nameless, known: len(user) > 0}
	w.copy(w.body, &at, s.Spaces != spaces)
	w.stamp(w.body, &at)
	if len(user) > 0 {
		w.names = append(w.names, user...)
	} else {
		w.names = append(w.names, anonymous...)
	}
	e.key = len(w.names)
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

// messages are the events that were written, as messages in memory of their own.
func (w *writer) messages() event.Batch {
	data := bytes.Clone(w.out)
	names := string(w.names)
	for _, e := range w.events {
		// The capacity ends with the event, so that appending to it cannot reach the next.
		w.parts = append(w.parts, data[e.from:e.out:e.out])
	}
	b := event.NewBatch(w.call.now.UTC(), w.parts)
	about := whose{scope: w.call.scope}
	if about.scope == nil && w.call.source != nil {
		about.scope = w.call.source.Scope
	}
	if w.call.Run() {
		about.about = &event.Descriptor{JobRun: w.call.jobRun, TaskRun: w.call.taskRun}
	}
	for i, e := range w.events {
		if w.call.kind == stream {
			about = w.whose[i]
		}
		m := b[i]
		m.Key, m.Meta.ID, m.Meta.Scope, m.Meta.Descriptor = names[e.name:e.key], names[e.key:e.id], about.scope, about.about
	}
	return b
}
