// Package console is the pages of a process: where its events are, how fast they move, and what
// needs somebody.
//
// # Protocol
//
// Beside the pages, which are files of the binary, it answers
//
//	GET  /v1/graph   the drawing of the config that runs: nodes, edges, places (package layout)
//	GET  /v1/live    server-sent events: how everything stands, each second
//	GET  /v1/tap     server-sent events: messages at a point of a pipeline (package tap)
//	GET  /v1/failures and what is below it: what has failed, by cause, one whole, through today's
//	                 config without writing, and again
//	GET  /v1/config  the files of the config as they are now, what is wrong with them, and what they
//	                 were for what runs
//	GET  /v1/lake/datasets, POST /v1/lake/query: the datasets that events land in, and questions to one
//	GET  /v1/gateways and what is below it: by write key what became of requests, and a test event
//	GET  /v1/machines and what is below it: state graphs, and executions
//	GET  /v1/messages: one message through every hop, as far as that is recorded
//	GET  /v1/session who asks, and what he may do
//	POST /v1/session {"token": "..."}: a cookie that stands for the token, for browsers
//
// Events of /v1/live are
//
//	event: now       a [Now] as JSON; its id counts them
//	event: lost      {"frames": N}: this client was too slow for so many
//	event: config    the config was replaced: ask for /v1/graph again
//
// # Invariants
//
//   - Nothing is measured while nobody looks: the sampler runs while there are streams.
//   - A frame is encoded once for all streams. A stream holds one frame; a client that is too slow
//     for it gets the newest, and is told how many it lost.
//   - At most max_streams at once. A stream begins with a whole frame, so that a client that comes
//     again needs nothing of before.
//   - Pages load nothing from elsewhere, and run no script but their file: the policy that goes with
//     them says so to the browser.
//   - What a payload holds is shown to who may see payloads, and what an option holds to nobody.
package console

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/api"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/executor"
	"github.com/weirdata/weir/internal/layout"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/tap"
)

//go:generate go tool -modfile=../../tools/go.mod esbuild web/main.tsx --bundle --minify --format=esm --target=es2022 --jsx=automatic --jsx-import-source=preact --tsconfig=web/tsconfig.json --legal-comments=none --log-level=warning --outfile=static/app.js

//go:embed static
var static embed.FS

// Options is what the console speaks of.
type Options struct {
	// Path is below which everything is served, "" for the root.
	Path string
	// Pages are served beside the API.
	Pages   bool
	Version string
	// MaxStreams is how many streams there may be at once.
	MaxStreams int
	Log        *slog.Logger
	Pipelines  *meter.Registry
	// Taps is where pipelines can be listened to.
	Taps *tap.Hub
	// Points are the pipelines that run, and where they can be listened to.
	Points func() []PipelinePoints
	// Failures is what has failed.
	Failures Failures
	// Config is the files of the config, as they are now and as they were for what runs.
	Config func(ctx context.Context) (*Config, error)
	// OfMessage is the open jobs of a store whose message has an id. It looks at a number of them at most,
	// and no longer than ctx: all is false where there are more.
	OfMessage func(ctx context.Context, s queue.Store, id string, most int) (found []queue.Job, looked int, all bool, err error)
	// Lakes are the datasets that what runs lands events in.
	Lakes Lakes
	// Gateways take events by write keys, and Machines run executions.
	Gateways func() []OpenGateway
	Machines func() []*executor.Machine
	// Graph is the drawing of what runs, placed, and a number that grows when it is replaced.
	Graph func() (*layout.Graph, int)
	// Ready says why the process is not ready.
	Ready func() error
	// Store is the store, its identity and the queues of the config; nil when none is open.
	Store func() (queue.Store, string, []connector.Queue)
}

// Console serves the pages and their API.
type Console struct {
	o       Options
	sampler *sampler
	assets  map[string]asset
	ended   chan struct{}
	reads   chan struct{} // holds one who has the config read
	asks    chan struct{} // and those who look at, or ask, a lake
	// searches holds one who looks for a message, or through executions.
	searches chan struct{}
	follower *follower
	end      sync.Once
}

// New is a console.
func New(o Options) (*Console, error) {
	c := &Console{o: o, assets: map[string]asset{}, ended: make(chan struct{}), reads: make(chan struct{}, 1), asks: make(chan struct{}, mostAsked), searches: make(chan struct{}, 1), follower: &follower{taps: o.Taps}}
	entries, err := fs.ReadDir(static, "static")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		data, err := static.ReadFile("static/" + e.Name())
		if err != nil {
			return nil, err
		}
		if e.Name() == index {
			data = bytes.Replace(data, []byte(`<base href="/">`), []byte(`<base href="`+o.Path+`/">`), 1)
		}
		if c.assets[e.Name()], err = newAsset(e.Name(), data); err != nil {
			return nil, err
		}
	}
	c.sampler = newSampler(&c.o)
	return c, nil
}

// Routes are the pages, where they are served, and their API. Paths are below the console's.
func (c *Console) Routes(access func() *api.Access) []api.Route {
	routes := []api.Route{
		{Method: "GET", Path: "/v1/graph", Right: api.See, Summary: "The drawing of what runs: nodes, edges and their places", Answer: layout.Graph{}, Do: c.graph},
		{Method: "GET", Path: "/v1/live", Right: api.See, Summary: "How everything stands, each second: server-sent events", Kind: "text/event-stream", Do: c.live},
		{Method: "GET", Path: "/v1/session", Right: api.See, Summary: "Who asks, and what he may do", Answer: Session{}, Do: func(w http.ResponseWriter, r *http.Request) {
			who := api.WhoOf(r)
			api.Answer(w, Session{Name: who.Name, Right: who.Right.String()})
		}},
		{Method: "POST", Path: "/v1/session", Right: api.Open, Summary: "A cookie that stands for a token, for browsers", Body: credentials{}, Do: func(w http.ResponseWriter, r *http.Request) { c.begin(w, r, access()) }},
	}
	routes = slices.Concat(routes, c.tapped(), c.failed(), c.configured(), c.lakes(), c.gateways(), c.machines(), c.traced())
	if !c.o.Pages {
		return routes
	}
	page := func(path string, name func(*http.Request) string) api.Route {
		return api.Route{Method: "GET", Path: path, Do: func(w http.ResponseWriter, r *http.Request) { c.give(w, r, name(r)) }}
	}
	routes = append(routes, page("/assets/{name}", func(r *http.Request) string { return r.PathValue("name") }))
	for _, path := range []string{"/{$}", "/p/{name...}", "/queues", "/q/{name...}", "/failures", "/live", "/config", "/lake", "/gateway", "/machines", "/machines/{name...}", "/m", "/m/{id...}"} {
		routes = append(routes, page(path, func(*http.Request) string { return index }))
	}
	return routes
}

// Session is who asks.
type Session struct {
	Name  string `json:"name"`
	Right string `json:"right"`
}

type credentials struct {
	Token string `json:"token"`
}

// begin gives a browser that shows a token a session.
func (c *Console) begin(w http.ResponseWriter, r *http.Request, access *api.Access) {
	var asked credentials
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 16<<10))
	if err == nil {
		err = json.Unmarshal(body, &asked)
	}
	if err != nil {
		api.Refuse(w, http.StatusBadRequest, `the body is {"token": "..."}`)
		return
	}
	who, known := access.Holder(asked.Token)
	if !known {
		c.o.Log.Warn("console: a wrong token", meter.KeyAddress, r.RemoteAddr)
		api.Refuse(w, http.StatusUnauthorized, "this is not the token of the admin block, nor one of its auth block")
		return
	}
	c.o.Log.Info("console: a session begins", "by", who.Name, meter.KeyAddress, r.RemoteAddr)
	// Not Secure on a connection that is not: the door is then of this machine or behind a proxy.
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // see above
		Name: api.SessionCookie, Value: access.Session(asked.Token), Path: c.o.Path + "/", HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil,
	})
	w.WriteHeader(http.StatusNoContent)
}

func (c *Console) graph(w http.ResponseWriter, _ *http.Request) {
	g, _ := c.o.Graph()
	api.Answer(w, g)
}

// Close ends all streams.
func (c *Console) Close() {
	c.end.Do(func() { close(c.ended) })
	c.follower.close()
	c.sampler.close()
}

// heartbeat keeps streams open through proxies.
const heartbeat = 15 * time.Second
