package console

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/api"
	"github.com/weirdata/weir/internal/gateway"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/workspace"
)

// OpenGateway is a gateway that runs.
type OpenGateway struct {
	Pipeline string
	gateway.Visited
}

// Gateways are gateways, and a page of the sources whose write keys they take.
type Gateways struct {
	Gateways []Gateway `json:"gateways"`
	// Next continues the list of sources when passed as after.
	Next string `json:"next,omitempty"`
}

// Gateway is one of them.
type Gateway struct {
	Pipeline string `json:"pipeline"`
	// Address is where it listens; empty while it does not. Hosts are the names that it answers to, none
	// for every one.
	Address string   `json:"address"`
	Hosts   []string `json:"hosts"`
	TLS     bool     `json:"tls"`
	// Known is how many sources there are.
	Known   int             `json:"known"`
	Sources []GatewaySource `json:"sources"`
	// Unknown is what became of requests of which no source is known, and Inside of those of ingestion
	// services.
	Unknown GatewayCounts `json:"unknown"`
	Inside  GatewayCounts `json:"inside"`
}

// GatewaySource is a source, and what became of requests with its write key since the process began.
type GatewaySource struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Workspace string `json:"workspace"`
	// Kind is the source's definition.
	Kind    string `json:"kind"`
	Webhook bool   `json:"webhook,omitempty"`
	Enabled bool   `json:"enabled"`
	// Key is its write key; for who may not see payloads only how it begins.
	Key          string `json:"key"`
	Destinations int    `json:"destinations"`
	GatewayCounts
}

// GatewayCounts is what became of requests.
type GatewayCounts struct {
	// Requests were taken, with so many events; LeftOut are those of suppressed users.
	Requests int64 `json:"requests"`
	Events   int64 `json:"events"`
	LeftOut  int64 `json:"left_out,omitempty"`
	// Taken is when the last of these came, and Denied when the last came that was refused.
	Taken   time.Time        `json:"taken,omitzero"`
	Denied  time.Time        `json:"denied,omitzero"`
	Refused []GatewayRefusal `json:"refused"`
}

// GatewayRefusal is how many requests were refused with one answer.
type GatewayRefusal struct {
	Code int `json:"code"`
	// Answer is what the client was told; empty for what scripts of webhook sources say.
	Answer   string `json:"answer"`
	Requests int64  `json:"requests"`
}

// GatewayTrial names a source, for which an event is sent.
type GatewayTrial struct {
	Pipeline string `json:"pipeline"`
	Source   string `json:"source"`
}

// GatewayAnswer is what became of it.
type GatewayAnswer struct {
	// MessageID is that of the event: GET /v1/messages says where it went.
	MessageID string          `json:"message_id"`
	Event     json.RawMessage `json:"event"`
	Code      int             `json:"code"`
	Answer    string          `json:"answer"`
	Seconds   float64         `json:"seconds"`
}

const (
	mostSources = 500
	sourcesPage = 100
	// shownKey is how much of a write key everybody may see, of one that is much longer.
	shownKey = 4
	webhook  = "webhook" // the category of sources that have a form of their own
)

func (c *Console) gateways() []api.Route {
	return []api.Route{
		{Method: "GET", Path: "/v1/gateways", Right: api.See, Answer: Gateways{}, Do: with(c.gatewayList),
			Summary: "Gateways, and by write key what became of requests since the process began; write keys are cut for who may not see payloads",
			Query: []api.Parameter{{Name: "text", Doc: "in the name or id of a source or its workspace"}, {Name: "pipeline", Doc: "that of one gateway"}, {Name: "source", Doc: "the id of one source"},
				{Name: "refused", Doc: "true: sources with requests that were refused"}, {Name: "after", Doc: "next of the page before"}, {Name: "limit", Doc: "1 to 500 sources, default 100"}}},
		{Method: "POST", Path: "/v1/gateways/trial", Right: api.Operate, Body: GatewayTrial{}, Answer: GatewayAnswer{}, Do: with(c.gatewayTrial),
			Summary: "Send an event to the address of a gateway with the write key of a source; it goes where events of the source go"},
	}
}

func countsOf(n gateway.Counts) GatewayCounts {
	out := GatewayCounts{Requests: n.Requests, Events: n.Events, LeftOut: n.LeftOut, Taken: n.Taken, Denied: n.Denied, Refused: make([]GatewayRefusal, len(n.Refused))}
	for i, r := range n.Refused {
		out.Refused[i] = GatewayRefusal(r)
	}
	slices.SortStableFunc(out.Refused, func(a, b GatewayRefusal) int { return cmp.Compare(b.Requests, a.Requests) })
	return out
}

// keyOf is a write key as somebody may see it.
func keyOf(key string, may bool) string {
	switch {
	case may || key == "":
		return key
	case len(key) < 4*shownKey:
		return "…"
	}
	return strings.ToValidUTF8(key[:shownKey], "") + "…"
}

func sourceOf(s *workspace.Source, n gateway.Counts, may bool) GatewaySource {
	return GatewaySource{ID: s.ID, Name: s.Name, Workspace: s.Workspace, Kind: s.Definition, Webhook: strings.EqualFold(s.Category, webhook), Enabled: s.Enabled,
		Key: keyOf(s.WriteKey, may), Destinations: len(s.Connections), GatewayCounts: countsOf(n)}
}

func (c *Console) gatewayList(_ http.ResponseWriter, r *http.Request) (any, error) {
	limit, err := limitOf(r, sourcesPage, mostSources)
	if err != nil {
		return nil, err
	}
	after, err := refOf(r.FormValue("after"))
	if err != nil {
		return nil, mistake{err}
	}
	text, one, only, refused := strings.ToLower(r.FormValue("text")), r.FormValue("source"), r.FormValue("pipeline"), r.FormValue("refused") == "true"
	may := api.WhoOf(r).Right >= api.Payloads
	out := Gateways{Gateways: []Gateway{}}
	begun, left := after == Ref{}, limit
	var last Ref
	for _, g := range c.o.Gateways() {
		if only != "" && g.Pipeline != only {
			continue
		}
		w, tally := g.Now()
		shown := Gateway{Pipeline: g.Pipeline, Known: len(w.Sources), Sources: []GatewaySource{}, Unknown: countsOf(tally.Unknown()), Inside: countsOf(tally.Inside())}
		shown.Address, shown.Hosts, shown.TLS = g.Reached()
		shown.Hosts = append([]string{}, shown.Hosts...)
		for _, s := range w.Sources {
			at := Ref{g.Pipeline, s.ID}
			if !begun {
				begun = at == after
				continue
			}
			if one != "" && s.ID != one || text != "" && !strings.Contains(strings.ToLower(s.Name+"\x00"+s.ID+"\x00"+s.Workspace), text) {
				continue
			}
			n := tally.Of(s)
			if refused && len(n.Refused) == 0 {
				continue
			}
			if left == 0 {
				out.Next = last.String()
				break
			}
			left--
			shown.Sources, last = append(shown.Sources, sourceOf(s, n, may)), at
		}
		out.Gateways = append(out.Gateways, shown)
		if out.Next != "" {
			break
		}
	}
	if !begun {
		return nil, mistake{errors.New("the list cannot go on: the source that it ended with has left the configuration")}
	}
	return out, nil
}

func (c *Console) gatewayTrial(w http.ResponseWriter, r *http.Request) (any, error) {
	var b GatewayTrial
	if err := read(w, r, &b); err != nil {
		return nil, err
	}
	for _, g := range c.o.Gateways() {
		if g.Pipeline != b.Pipeline {
			continue
		}
		now, _ := g.Now()
		s := now.BySource(b.Source)
		switch {
		case s == nil:
			return nil, mistake{fmt.Errorf("the gateway of the pipeline %q has no source %q", b.Pipeline, b.Source)}
		case s.WriteKey == "":
			return nil, mistake{fmt.Errorf("the source %q has no write key", b.Source)}
		case strings.EqualFold(s.Category, webhook):
			return nil, mistake{fmt.Errorf("the source %q takes what another system says in its own form: send that to /v1/webhook", b.Source)}
		}
		return c.try(r.Context(), api.WhoOf(r), g, s)
	}
	return nil, mistake{fmt.Errorf("no pipeline %q with a gateway runs", b.Pipeline)}
}

// try sends an event for a source, and follows it.
func (c *Console) try(ctx context.Context, who api.Who, g OpenGateway, s *workspace.Source) (*GatewayAnswer, error) {
	out := &GatewayAnswer{MessageID: "weir-test-" + strings.ToLower(rand.Text())}
	var err error
	out.Event, err = json.Marshal(map[string]any{"event": "Weir Test", "messageId": out.MessageID, "anonymousId": "weir-test", "properties": map[string]any{"test": true},
		"context": map[string]any{"library": map[string]any{"name": "weir-console", "version": c.o.Version}}})
	if err != nil {
		return nil, err
	}
	c.o.Log.Info("an operator sends a test event", "by", who.String(), meter.KeyPipeline, g.Pipeline, "source", s.ID, "message_id", out.MessageID)
	c.follower.follow(out.MessageID, c.behind(g.Pipeline))
	got, err := g.Try(ctx, s.WriteKey, out.Event)
	if err != nil {
		return nil, err
	}
	out.Code, out.Answer, out.Seconds = got.Code, got.Answer, got.Seconds
	return out, nil
}
