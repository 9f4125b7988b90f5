package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/jsontext"
	"github.com/weirdata/weir/internal/secret"
	"github.com/weirdata/weir/internal/workspace"
)

// Webhook sources are sent what another system says, in its own form. The script of the source makes
// events of it, which are then like those of any batch. A request of which no events can be made is
// refused, and kept: it becomes a message that is no event, with the request as its payload and
// why as its error. [Gateway.Again] makes events of it when it is sent again.
//
// A form, unless it is JSON, comes as {"name": [value, ...]}, one of several parts as {"Value": {...}, "File": {...}}. A
// source whose definition has no script gets events "webhook_source_event" with the body as
// properties.

// hooked is the category of webhook sources.
const hooked = "webhook"

// plainEvent is the name of events that no script has made.
const plainEvent = "webhook_source_event"

// asked is a request as scripts see it.
type asked struct {
	Method  string              `json:"method"`
	URL     string              `json:"url"`
	Proto   string              `json:"proto"`
	Body    string              `json:"body"`
	Headers map[string][]string `json:"headers"`
	Query   map[string][]string `json:"query_parameters"`
}

// told is a source as scripts see it.
type told struct {
	ID, OriginalID, Name string
	SourceDefinition     struct{ Name, Category, Type string }
	Config               json.RawMessage
	Enabled              bool
	WorkspaceID          string
	WriteKey             string
}

func toldOf(s *workspace.Source) told {
	t := told{ID: s.ID, OriginalID: s.OriginalID, Name: s.Name, Config: s.Config, Enabled: s.Enabled, WorkspaceID: s.Workspace, WriteKey: s.WriteKey}
	t.SourceDefinition.Name, t.SourceDefinition.Category, t.SourceDefinition.Type = s.Definition, s.Category, s.Type
	if len(t.Config) == 0 {
		t.Config = json.RawMessage("{}")
	}
	return t
}

// forwarded reports whether a GET of a source means something.
func (g *Gateway) forwarded(s *workspace.Source) bool {
	of := g.o.Hooks.script(s)
	return strings.EqualFold(s.Definition, "adjust") || (of != nil && of.forward)
}

// hook makes the events of a request to a webhook source.
func (g *Gateway) hook(c *Call, body []byte) (event.Batch, *Answer) {
	r := c.request
	c.request = nil
	a := &asked{Method: r.Method, URL: r.URL.RequestURI(), Proto: r.Proto, Headers: r.Header, Query: r.URL.Query()}
	text, no := formOf(r.Header.Get("Content-Type"), body)
	if no != nil {
		a.Body = string(body)
		return g.kept(c, a, no, fmt.Errorf("%s", bytes.TrimSpace(no.Body)))
	}
	a.Body = string(jsontext.UTF8(text))
	b, answer, err := g.made(c, a)
	switch {
	case errors.Is(err, errBusy):
		return nil, Unavailable
	case err != nil:
		return g.kept(c, a, answer, err)
	case len(b) == 0 && answer == nil:
		return nil, OK
	case len(b) == 0:
		return nil, answer
	}
	c.partly = answer
	return b, nil
}

// made makes events of a request. The answer is that of the script, or the one to why there are no
// events.
func (g *Gateway) made(c *Call, a *asked) (event.Batch, *Answer, error) {
	of := g.o.Hooks.script(c.source)
	var m made
	input, err := inputOf(c.source, a, of)
	if err == nil && of != nil {
		m, err = of.run(input)
	} else if err == nil {
		m.events = input
	}
	if errors.Is(err, errNoBody) {
		return nil, InvalidJSON, err
	}
	if err != nil {
		return nil, answerOf(err), err
	}
	if m.events == nil {
		return nil, m.answer, nil
	}
	b, no := g.write(c, batch, m.events)
	if no != nil {
		return nil, no, fmt.Errorf("%s (%s)", bytes.TrimSpace(no.Body), no.Event)
	}
	return b, m.answer, nil
}

var errNoBody = fault.New(fault.Invalid, fmt.Errorf("the body is not JSON"))

// inputOf is what the script of a source is given, or without one the body of a batch.
func inputOf(s *workspace.Source, a *asked, of *hook) ([]byte, error) {
	if of != nil && !of.first {
		return json.Marshal(map[string]any{"request": a, "source": toldOf(s)})
	}
	body := strings.TrimSpace(a.Body)
	if body == "" {
		body = "{}"
	}
	if !json.Valid([]byte(body)) {
		return nil, errNoBody
	}
	name := strings.ToLower(s.Definition)
	if query := len(a.Query) > 0; query && body[0] == '{' && (of == nil && a.Method == http.MethodGet || of != nil && (name == "shopify" || name == "adjust")) {
		text, err := json.Marshal(a.Query)
		if err != nil {
			return nil, err
		}
		if of == nil {
			body = string(text)
		} else {
			body = strings.TrimRight(strings.TrimSuffix(body, "}"), " \t\r\n")
			if body != "{" {
				body += ","
			}
			body += `"query_parameters":` + string(text) + "}"
		}
	}
	if of != nil {
		return json.Marshal(map[string]any{"event": json.RawMessage(body), "source": toldOf(s)})
	}
	var list []json.RawMessage
	if body[0] != '[' {
		list = []json.RawMessage{json.RawMessage(body)}
	} else if err := json.Unmarshal([]byte(body), &list); err != nil {
		return nil, errNoBody
	}
	return plainEvents(list)
}

// plainEvents are events that no script has made, each of a visitor of its own.
func plainEvents(list []json.RawMessage) ([]byte, error) {
	type plain struct {
		Type        string          `json:"type"`
		Event       string          `json:"event"`
		AnonymousID string          `json:"anonymousId"`
		Properties  json.RawMessage `json:"properties"`
	}
	events := make([]plain, len(list))
	for i, properties := range list {
		events[i] = plain{"track", plainEvent, string(appendRandomUUID(nil)), properties}
	}
	return json.Marshal(map[string]any{"batch": events})
}

// formOf is a body as it is, or a form's as JSON.
func formOf(contentType string, body []byte) ([]byte, *Answer) {
	kind, params, _ := mime.ParseMediaType(contentType)
	if text := bytes.TrimSpace(body); len(text) > 0 && (text[0] == '{' || text[0] == '[') && json.Valid(text) {
		return body, nil // whatever it is called: curl calls everything a form
	}
	switch kind {
	case "application/x-www-form-urlencoded":
		values, err := url.ParseQuery(string(body))
		if err != nil {
			return nil, BadForm
		}
		text, err := json.Marshal(values)
		if err != nil {
			return nil, BadForm
		}
		return text, nil
	case "multipart/form-data":
		form, err := multipart.NewReader(bytes.NewReader(body), params["boundary"]).ReadForm(int64(len(body)) + 1)
		if err != nil {
			return nil, BadMultiform
		}
		defer func() { _ = form.RemoveAll() }() // all of it is in memory
		text, err := json.Marshal(map[string]any{"Value": form.Value, "File": form.File})
		if err != nil {
			return nil, BadMultiform
		}
		return text, nil
	}
	return body, nil
}

// keptMark is how the payload of a request begins that was kept.
const keptMark = `{"weirWebhook":1,`

// keptRequest is a request that was kept. What is secret in it is not.
type keptRequest struct {
	Mark       int       `json:"weirWebhook"`
	ReceivedAt time.Time `json:"receivedAt"`
	IP         string    `json:"ip"`
	Request    asked     `json:"request"`
}

// kept is the message that a request becomes of which there are no events.
func (g *Gateway) kept(c *Call, a *asked, no *Answer, why error) (event.Batch, *Answer) {
	k := keptRequest{Mark: 1, ReceivedAt: c.now.UTC(), IP: c.ip, Request: *a}
	k.Request.Headers, k.Request.Query = shown(a.Headers), shown(a.Query)
	k.Request.URL, _, _ = strings.Cut(a.URL, "?")
	data, err := json.Marshal(k)
	if err != nil { // of a value of our own, which always has a text
		return nil, no
	}
	b := event.NewBatch(c.now.UTC(), [][]byte{data})
	m := b[0]
	m.Meta.Scope, m.Meta.ID = c.source.Scope, string(appendRandomUUID(nil))
	m.Refuse(fault.Describe(fault.Invalid, fmt.Errorf("request to the webhook source %q: %w", c.source.ID, why),
		fault.Detail{Type: "webhook", Code: strconv.Itoa(no.Code), Safe: "a request to a webhook source could not be made into events"}))
	c.partly = no
	return b, nil
}

// shown is headers or parameters without what is secret.
func shown(all map[string][]string) map[string][]string {
	out := make(map[string][]string, len(all))
	for name, values := range all {
		if secret.Name(name) || strings.EqualFold(name, "writeKey") {
			values = []string{secret.Mark}
		}
		out[name] = values
	}
	return out
}

// Kept reports whether a payload is a request to a webhook source that was kept.
func Kept(payload []byte) bool { return bytes.HasPrefix(payload, []byte(keptMark)) }

// Again makes events of a request that was kept, as its source makes them now.
func (g *Gateway) Again(m *event.Message) (event.Batch, error) {
	var k keptRequest
	if err := json.Unmarshal(m.Data, &k); err != nil {
		return nil, fault.New(fault.Invalid, fmt.Errorf("read the request that was kept: %w", err))
	}
	var s *workspace.Source
	if m.Meta.Scope != nil {
		s = g.file.Current().BySource(m.Meta.Scope.Source)
	}
	if s == nil || s.Category != hooked {
		return nil, fault.New(fault.Invalid, fmt.Errorf("the request was sent to a webhook source that is not in the workspace configuration any more"))
	}
	c := Call{now: k.ReceivedAt, source: s, kind: batch, ip: k.IP}
	b, _, err := g.made(&c, &k.Request)
	if err != nil {
		return nil, fault.Describe(fault.Invalid, fmt.Errorf("request to the webhook source %q: %w", s.ID, err),
			fault.Detail{Type: "webhook", Code: "400", Safe: "a request to a webhook source could not be made into events"})
	}
	return b, nil
}
