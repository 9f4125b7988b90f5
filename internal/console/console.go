// Package console is the pages of a process: where its events are, how fast they move, and what
// needs somebody.
//
// # Protocol
//
// Beside the pages, which are files of the binary, it answers
//
//	GET  /v1/graph   the drawing of the config that runs: nodes, edges, places (package layout)
//	GET  /v1/live    server-sent events: how everything stands, each second
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
//   - What a payload or an option holds is not shown.
package console

import (
	"bytes"
	"crypto/subtle"
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/frontdoor"
	"github.com/weirdata/weir/internal/jsontext"
	"github.com/weirdata/weir/internal/layout"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/queue"
)

//go:generate go tool -modfile=../../tools/go.mod esbuild web/main.tsx --bundle --minify --format=esm --target=es2022 --jsx=automatic --jsx-import-source=preact --tsconfig=web/tsconfig.json --legal-comments=none --log-level=warning --outfile=static/app.js

//go:embed static
var static embed.FS

// Options is what the console speaks of.
type Options struct {
	// Path is below which everything is served, "" for the root.
	Path    string
	Version string
	// MaxStreams is how many streams there may be at once.
	MaxStreams int
	Log        *slog.Logger
	Pipelines  *meter.Registry
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
}

// New is a console.
func New(o Options) (*Console, error) {
	c := &Console{o: o, assets: map[string]asset{}}
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

// Routes adds the pages and the API to mux. Paths are below the console's. token is what requests of
// the API must have, which the door sees to; empty: nothing.
func (c *Console) Routes(mux *http.ServeMux, token func() string) {
	mux.HandleFunc("POST /v1/session", func(w http.ResponseWriter, r *http.Request) { c.begin(w, r, token()) })
	mux.HandleFunc("GET /v1/graph", c.graph)
	mux.HandleFunc("GET /v1/live", c.live)
	mux.HandleFunc("GET /assets/{name}", func(w http.ResponseWriter, r *http.Request) { c.give(w, r, r.PathValue("name")) })
	for _, page := range []string{"GET /{$}", "GET /p/{name...}", "GET /queues"} {
		mux.HandleFunc(page, func(w http.ResponseWriter, r *http.Request) { c.give(w, r, index) })
	}
}

// Open are the paths that need no token, as [frontdoor.Bearer] takes them: pages hold nothing of
// what runs.
func Open() []string { return []string{"/", "/p/", "/queues", "/assets/", "/v1/session"} }

// begin gives a browser that shows the token a session.
func (c *Console) begin(w http.ResponseWriter, r *http.Request, token string) {
	var asked struct {
		Token string `json:"token"`
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 16<<10))
	if err == nil {
		err = json.Unmarshal(body, &asked)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, `the body is {"token": "..."}`)
		return
	}
	if subtle.ConstantTimeCompare([]byte(asked.Token), []byte(token)) != 1 {
		c.o.Log.Warn("console: a wrong token", meter.KeyAddress, r.RemoteAddr)
		refuse(w, http.StatusUnauthorized, "this is not the token of the admin block")
		return
	}
	// Not Secure on a connection that is not: the door is then of this machine or behind a proxy.
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // see above
		Name: frontdoor.SessionCookie, Value: frontdoor.Session(token), Path: c.o.Path + "/", HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil,
	})
	w.WriteHeader(http.StatusNoContent)
}

func refuse(w http.ResponseWriter, status int, why string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "{\"error\":%s}\n", jsontext.AppendString(nil, why)) // who asked has gone
}

func (c *Console) graph(w http.ResponseWriter, _ *http.Request) {
	g, _ := c.o.Graph()
	text, err := json.Marshal(g)
	if err != nil {
		refuse(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(text) // who asked has gone
}

// Close ends all streams.
func (c *Console) Close() { c.sampler.close() }

// heartbeat keeps streams open through proxies.
const heartbeat = 15 * time.Second
