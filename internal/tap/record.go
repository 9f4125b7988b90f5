package tap

import (
	"bytes"
	"strconv"
	"time"

	"github.com/weirdata/weir/internal/event"
)

// Outcome words of records.
const (
	Read      = "read"
	Passed    = "passed" // a transform left it as it was
	Changed   = "changed"
	Split     = "split"
	Filtered  = "filtered"
	Failed    = "failed"
	Delivered = "delivered"
)

// State is a message at a point.
type State struct {
	Data    event.Payload `json:"data"`
	Bytes   int           `json:"bytes"`         // of all of it
	Cut     bool          `json:"cut,omitempty"` // Data is not all of it
	Key     event.Text    `json:"key,omitempty"`
	Headers event.Headers `json:"headers,omitempty"`
	// Deleted says that there is no payload, which says that something is deleted.
	Deleted bool `json:"deleted,omitempty"`
}

// Record is what happened to a message at a point.
type Record struct {
	At       time.Time `json:"at"`
	Pipeline string    `json:"pipeline"`
	Point    string    `json:"point"`
	Step     string    `json:"step,omitempty"` // what the transform is called
	Outcome  string    `json:"outcome"`
	Why      string    `json:"why,omitempty"`
	ID       string    `json:"id,omitempty"`
	// Trace is the trace that the message belongs to, where its headers say so.
	Trace       string `json:"trace,omitempty"`
	Workspace   string `json:"workspace,omitempty"`
	Source      string `json:"source,omitempty"`
	Destination string `json:"destination,omitempty"`

	Before State `json:"before"`
	// After is what a transform made of it.
	After []State `json:"after,omitempty"`
	// Raw is the payload as the source read it, whole, where that is something else; CutRaw says
	// that it would be too large.
	Raw    event.Payload `json:"raw,omitempty"`
	CutRaw bool          `json:"cut_raw,omitempty"`
}

// Seen is a message as it was before a transform had it. Payloads are never written into, so it
// need not be a copy.
type Seen struct {
	data    []byte
	key     string
	headers event.Headers
}

// Before remembers m.
func Before(m *event.Message) *Seen { return &Seen{m.Data, m.Key, m.Meta.Headers} }

func stateOf(data []byte, key string, headers event.Headers, most int) State {
	n := len(data)
	if most > 0 {
		n = min(n, most)
	}
	return State{Data: append(event.Payload{}, data[:n]...), Bytes: len(data), Cut: n < len(data), Key: event.Text(key), Headers: append(event.Headers(nil), headers...), Deleted: data == nil}
}

func (t *Tap) most() int {
	if t.o.Unbounded {
		return 0
	}
	return MaxPayload
}

// record is what every record of m says.
func (t *Tap) record(point string, m *event.Message, was *Seen) *Record {
	r := &Record{At: time.Now().UTC(), Pipeline: t.at.name, Point: point, ID: m.Meta.ID, Trace: m.Meta.Headers.Text("traceparent"), Before: stateOf(was.data, was.key, was.headers, t.most())}
	if s := m.Meta.Scope; s != nil {
		r.Workspace, r.Source, r.Destination = s.Workspace, s.Source, s.Destination
	}
	if raw := m.Raw(); !bytes.Equal(raw, was.data) {
		if most := t.most(); most > 0 && len(raw) > most {
			r.CutRaw = true
		} else {
			r.Raw = append(event.Payload{}, raw...)
		}
	}
	return r
}

// Read tells of a batch that was read.
func (ts Taps) Read(b event.Batch) {
	for _, t := range ts {
		for _, m := range b {
			if t.wants("source", m) {
				r := t.record("source", m, Before(m))
				r.Outcome = Read
				t.tell(r)
			}
		}
	}
}

// Transformed tells what the i-th transform, called step, made of m, which it was before: out, or
// an error.
func (ts Taps) Transformed(i int, step string, was *Seen, m *event.Message, out event.Batch, err error) {
	point := "transform." + strconv.Itoa(i)
	for _, t := range ts {
		asked := *m
		asked.Data, asked.Key, asked.Meta.Headers = was.data, was.key, was.headers
		if !t.wants(point, &asked) {
			continue
		}
		r := t.record(point, m, was)
		r.Step = step
		for _, x := range out {
			r.After = append(r.After, stateOf(x.Data, x.Key, x.Meta.Headers, t.most()))
		}
		switch {
		case err != nil:
			r.Outcome, r.Why = Failed, err.Error()
		case len(out) == 0:
			r.Outcome, r.Why = Filtered, m.Dropped()
		case len(out) > 1:
			r.Outcome = Split
		case out[0].Key == was.key && bytes.Equal(out[0].Data, was.data) && sameHeaders(out[0].Meta.Headers, was.headers):
			r.Outcome, r.After = Passed, nil
		default:
			r.Outcome = Changed
		}
		t.tell(r)
	}
}

func sameHeaders(a, b event.Headers) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Name != b[i].Name || !bytes.Equal(a[i].Value, b[i].Value) {
			return false
		}
	}
	return true
}

// Written tells what an attempt to write b to a target came to: of is the error of the i-th message.
func (ts Taps) Written(role string, b event.Batch, of func(i int) error) {
	for _, t := range ts {
		for i, m := range b {
			if !t.wants(role, m) {
				continue
			}
			r := t.record(role, m, Before(m))
			r.Outcome = Delivered
			if err := of(i); err != nil {
				r.Outcome, r.Why = Failed, err.Error()
			}
			t.tell(r)
		}
	}
}
