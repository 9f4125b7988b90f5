package webhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/secret"
	"github.com/weirdata/weir/internal/workspace"
)

// endpoint is a webhook destination, ready to be called.
type endpoint struct {
	of     *workspace.Destination // what it was made of
	id     string
	raw    string // webhookUrl
	url    *url.URL
	method string
	header http.Header // shared by requests: never written
	// foreign is header for hosts other than that of url.
	foreign http.Header
	hidden  secret.Values // what no error may show
	err     error         // why it cannot be called
}

// endpoints are those that were needed. Each is found by readers without a lock that others wait
// for, and stays good for as long as its destination does not change.
type endpoints struct {
	byID sync.Map // of *endpoint
	held sync.Map // by id, of the *workspace.Destination that was told of as held
	seen atomic.Pointer[workspace.Workspace]
}

// settings is what is read of a destination's config.
type settings struct {
	URL     string `json:"webhookUrl"`
	Method  any    `json:"webhookMethod"`
	Headers []struct {
		From string `json:"from"`
		To   string `json:"to"`
	} `json:"headers"`
}

// endpoint finds the destination of a message.
func (t *Target) endpoint(m *event.Message) (*endpoint, error) {
	id := destinationOf(m)
	if id == "" {
		return nil, aborted("400", "the message does not say which destination it is for: put the target behind the transform fanout, or a queue that it fills")
	}
	w := t.state()
	d := w.Destination(id)
	if e, known := t.endpoints.byID.Load(id); known && d != nil && e.(*endpoint).of == d {
		return e.(*endpoint), nil
	}
	switch {
	case d == nil:
		return nil, aborted("410", fmt.Sprintf("destination is not available in the config: %q has left the workspace configuration since its events were accepted; put it back and send them again, or delete the failures", id))
	case d.Off != "":
		return nil, aborted("410", "destination is switched off: "+d.Off)
	case !d.Enabled && t.c.Disabled == disabledHold:
		t.tell(d)
		return nil, fault.Pace(fmt.Errorf("destination %q is disabled in the workspace config: its events are held until it is enabled", id), heldFor)
	case !d.Enabled:
		return nil, aborted("410", "destination is disabled")
	}
	e := newEndpoint(d, t.c.UserAgent)
	t.endpoints.byID.Store(id, e)
	return e, nil
}

// state is the configuration that counts now. What was made of others and is not good any more is
// forgotten, once for each.
func (t *Target) state() *workspace.Workspace {
	w := t.file.Current()
	before := t.endpoints.seen.Load()
	if before == w || !t.endpoints.seen.CompareAndSwap(before, w) {
		return w
	}
	t.endpoints.byID.Range(func(id, e any) bool {
		if w.Destination(id.(string)) != e.(*endpoint).of {
			t.endpoints.byID.CompareAndDelete(id, e)
		}
		return true
	})
	t.endpoints.held.Range(func(id, d any) bool {
		if w.Destination(id.(string)) != d.(*workspace.Destination) {
			t.endpoints.held.CompareAndDelete(id, d)
		}
		return true
	})
	return w
}

// heldFor is how long an event waits until it is looked whether its destination is enabled again.
const heldFor = time.Minute

// Standing implements connector.Judge.
func (t *Target) Standing(destination string) connector.Standing {
	switch d := t.file.Current().Destination(destination); {
	case d == nil, d.Off != "":
		return connector.StandsClosed
	case d.Enabled:
		return connector.StandsOpen
	case t.c.Disabled == disabledHold:
		return connector.StandsHeld
	}
	return connector.StandsClosed
}

// Changed implements connector.Judge.
func (t *Target) Changed() <-chan struct{} { return t.file.Changed() }

// Rests implements connector.Resting: a destination that is disabled is left alone.
func (t *Target) Rests(destination string) bool {
	if t.Standing(destination) != connector.StandsHeld {
		return false
	}
	if d := t.state().Destination(destination); d != nil {
		t.tell(d)
	}
	return true
}

// tell says once of a destination that its events are held.
func (t *Target) tell(d *workspace.Destination) {
	if told, _ := t.endpoints.held.Load(d.ID); told == d || t.log == nil {
		return
	}
	if before, _ := t.endpoints.held.Swap(d.ID, d); before != d {
		t.log.Warn("a destination is disabled in the workspace config, and the events that wait for it are held: they go on when it is enabled; disabled = \"drain\" gives them up", "destination", d.ID)
	}
}

func newEndpoint(d *workspace.Destination, userAgent string) *endpoint {
	e := &endpoint{of: d, id: d.ID, method: http.MethodPost}
	if d.Type != "WEBHOOK" {
		e.err = aborted("400", fmt.Sprintf("the destination is of type %s, not WEBHOOK: send its events to another target", d.Type))
		return e
	}
	var s settings
	if err := json.Unmarshal(d.Config, &s); err != nil {
		e.err = aborted("400", "the destination's config cannot be read: webhookUrl must be a text, and headers a list of from and to")
		return e
	}
	e.raw = strings.TrimSpace(s.URL)
	u, err := parseURL(e.raw)
	if err != nil {
		e.err = aborted("400", "Invalid URL in destination config")
		return e
	}
	e.url = u
	if method, ok := s.Method.(string); ok && method != "" {
		e.method = strings.ToUpper(method)
	}
	switch e.method {
	case http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodGet, http.MethodDelete:
	default:
		e.err = aborted("400", fmt.Sprintf("the destination's webhookMethod %q is not known: use POST, PUT, PATCH, GET or DELETE", s.Method))
		return e
	}
	e.header = http.Header{}
	if e.hasBody() {
		e.header.Set("Content-Type", "application/json")
	}
	e.header.Set("User-Agent", userAgent)
	if u.User != nil {
		password, _ := u.User.Password()
		r := http.Request{Header: e.header}
		r.SetBasicAuth(u.User.Username(), password)
	}
	for _, h := range s.Headers {
		if h.From == "" {
			continue
		}
		if !validHeader(h.From, h.To) {
			e.err = aborted("400", "a header in the destination's config is not a valid HTTP header")
			return e
		}
		e.header.Set(h.From, h.To)
	}
	e.protect()
	return e
}

// protect makes the headers for other hosts, and the list of what no error may show.
func (e *endpoint) protect() {
	e.foreign = e.header.Clone()
	for name := range e.header {
		if secret.Name(name) {
			delete(e.foreign, name)
		}
	}
	e.hidden.AddHeader(e.header)
	e.hidden.AddURL(e.url)
}

// hide replaces credentials in a text: the destination's, and those of the request that was
// sent, which is nil when there was none.
func (e *endpoint) hide(text string, sent *http.Request) string {
	text = e.hidden.Hide(text)
	if sent != nil && sent.URL != nil && *sent.URL != *e.url {
		var own secret.Values // the event named it
		own.AddURL(sent.URL)
		text = own.Hide(text)
	}
	return text
}

func (e *endpoint) hasBody() bool {
	return e.method != http.MethodGet && e.method != http.MethodDelete
}

// parseURL reads a whole http or https URL.
func parseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || (!strings.EqualFold(u.Scheme, "http") && !strings.EqualFold(u.Scheme, "https")) {
		return nil, errors.New("not a whole http or https URL")
	}
	return u, nil
}

func validHeader(name, value string) bool {
	return httpguts.ValidHeaderFieldName(name) && httpguts.ValidHeaderFieldValue(value)
}

// aborted is the error of a message that will never be delivered as things are. what
// holds nothing of the message.
func aborted(code, what string) error {
	return fault.Describe(fault.Invalid, errors.New(what), fault.Detail{Type: "api", Code: code, Safe: what})
}
