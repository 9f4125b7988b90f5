// Package admin is what operators see and do: metrics, health, readiness, profiles, and
// the queues of the store.
//
//	GET  /metrics                    Prometheus text format
//	GET  /healthz                    200 while the process works
//	GET  /readyz                     200 while every pipeline is running or degraded, which the
//	                                 lines after the first tell, else 503 with the reason, and
//	                                 503 while the store is full
//	GET  /debug/pprof/               Go profiles
//	GET  /v1/queues                  numbers of messages; by=workspace|source|destination
//	GET  /v1/queues/{queue}/jobs     a page of messages: selection, after, limit (most 1000)
//	GET  /v1/queues/{queue}/count    {"jobs": N} that a selection chooses
//	GET  /v1/queues/{queue}/export   lines of JSON
//	POST /v1/queues/{queue}/import   lines of JSON
//	POST /v1/queues/{queue}/retry    a selection as JSON; dead messages are waiting again
//	POST /v1/queues/{queue}/drop     a selection as JSON; dead messages are removed
//	POST /v1/queues/{queue}/pause    a [Rest] as JSON: its open messages rest
//	POST /v1/queues/{queue}/resume   the same: they are worked on again
//	POST /v1/queues/{queue}/order    a [Command] as JSON; lines, as of a check
//	GET  /v1/store                   identity and disk space
//	POST /v1/store/check             lines: {"done", "total"}..., then {"figures"} or {"error"}
//	POST /v1/store/compact           the same
//
// What is below /v1 is described at GET /v1/openapi.json, with what the console adds to it.
//
// A selection is [Selection], as JSON in a body and as parameters of the same names in a
// GET. An error is a problem document ([api.Problem]) with the status 400 (a mistake), 404 (no such
// queue), 501 (the store cannot), 503 (no store is open) or 500. An export that fails breaks the
// connection off, so that it is never taken for a whole one.
//
// All of it is below the path of the admin block, if that has one. Who may do what, package api
// says. Who may not see payloads gets jobs without what their events hold. What a browser asks for
// another site is refused, and what is asked by a name that is not the server's ([frontdoor.Guard]).
package admin

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/weirdata/weir/internal/api"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/frontdoor"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/queue"
)

// Server is the admin HTTP server.
type Server struct {
	place  *frontdoor.Place
	access *atomic.Pointer[api.Access]
}

// Options is what the server speaks of.
type Options struct {
	Address string
	// Route is which requests of the address are the server's, and Path where they begin: empty
	// for the root.
	Route frontdoor.Route
	Path  string
	// Access is who may do what; nil: everybody everything. See [Server.SetAccess].
	Access    *api.Access
	Log       *slog.Logger
	Pipelines *meter.Registry
	Process   meter.Process
	// Ready says whether the process is ready, and Degraded what of it has failed and is to be
	// started again, a line each.
	Ready    func() error
	Degraded func() []string
	// More, if set, is further routes. It is told who may do what at any time.
	More func(access func() *api.Access) []api.Route
	// Store is the store, its identity and the queues of the config; the store is nil when
	// none is open.
	Store func() (queue.Store, string, []connector.Queue)

	now func() *api.Access // nil: Access
}

// settings are those of the server's connections: many more than operators need, and few enough
// to leave the process its files.
var settings = frontdoor.Settings{ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 1 << 20, MaxConnections: 1000}

// host is the server as the front door knows it.
type host struct{ http.Handler }

// Accepting implements frontdoor.Host.
func (host) Accepting() bool { return true }

// Listen starts the server.
func Listen(ctx context.Context, o Options) (*Server, error) {
	access := &atomic.Pointer[api.Access]{}
	access.Store(o.access())
	o.now = access.Load
	p, err := frontdoor.Enter(ctx, frontdoor.Door{
		Address: o.Address, Owner: "the admin block", Route: o.Route, Settings: settings, Log: o.Log,
	}, host{handler(o)})
	if err != nil {
		return nil, fault.New(fault.Setup, fmt.Errorf("admin server: %w; choose another admin.address", err))
	}
	p.Lead()
	return &Server{p, access}, nil
}

// Gatherer is all metrics of the process.
func (o Options) Gatherer() prometheus.Gatherer {
	registry := prometheus.NewRegistry()
	registry.MustRegister(o.Pipelines, queuesOf(o.Store), unreadOf(o.Store), pausedOf(o.Store), storeOf(o.Store), o.Process, memoryLimit(), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// access is who may do what at the start.
func (o Options) access() *api.Access {
	if o.Access == nil {
		return &api.Access{}
	}
	return o.Access
}

func handler(o Options) http.Handler {
	access := o.now
	if access == nil {
		access = o.access
	}
	routes := append(o.figures(), Routes(o)...)
	if o.More != nil {
		routes = append(routes, o.More(access)...)
	}
	routes = append(routes, described(routes))
	return frontdoor.Guard(o.Route.Hosts, http.StripPrefix(o.Path, api.Handler(access, routes)))
}

// described is the route of the description of routes.
func described(routes []api.Route) api.Route {
	text := sync.OnceValues(func() ([]byte, error) { return api.Describe(routes) })
	return api.Route{Method: "GET", Path: "/v1/openapi.json", Right: api.See, Do: func(w http.ResponseWriter, _ *http.Request) {
		b, err := text()
		if err != nil {
			api.Refuse(w, http.StatusInternalServerError, err.Error())
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(b) // who asked has gone
	}}
}

// figures are health, readiness, metrics and profiles.
func (o Options) figures() []api.Route {
	get := func(path string, right api.Right, do http.HandlerFunc) api.Route {
		return api.Route{Method: "GET", Path: path, Right: right, Do: do}
	}
	return []api.Route{
		get("/metrics", api.Figures, promhttp.HandlerFor(o.Gatherer(), promhttp.HandlerOpts{}).ServeHTTP),
		get("/healthz", api.Open, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }),
		get("/readyz", api.Open, o.ready),
		get("/debug/pprof/", api.Operate, pprof.Index),
		get("/debug/pprof/profile", api.Operate, pprof.Profile),
		get("/debug/pprof/symbol", api.Operate, pprof.Symbol),
		get("/debug/pprof/trace", api.Operate, pprof.Trace),
	}
}

func (o Options) ready(w http.ResponseWriter, _ *http.Request) {
	if err := o.Ready(); err != nil {
		w.Header().Set("Retry-After", "1")
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
	if o.Degraded == nil {
		return
	}
	for _, line := range o.Degraded() {
		fmt.Fprintln(w, line)
	}
}

// SetAccess changes who may do what from now on.
func (s *Server) SetAccess(a *api.Access) { s.access.Store(a) }

// Address is where the server listens.
func (s *Server) Address() string { return s.place.Addr().String() }

// Serve waits until requests are no longer served, and says why: nil after Close.
func (s *Server) Serve() error {
	<-s.place.Ended()
	return s.place.Err()
}

// Close lets requests in progress finish for a second and stops.
func (s *Server) Close(ctx context.Context) error {
	ctx, done := context.WithTimeout(ctx, time.Second)
	defer done()
	return s.place.Leave(ctx)
}
