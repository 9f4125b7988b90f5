// Package admin is what operators see and do: metrics, health, readiness, profiles, and
// the queues of the store.
//
//	GET  /metrics                    Prometheus text format
//	GET  /healthz                    200 while the process works
//	GET  /readyz                     200 while every pipeline is running or degraded, which the
//	                                 lines after the first tell, else 503 with the reason
//	GET  /debug/pprof/               Go profiles
//	GET  /v1/queues                  numbers of messages; by=workspace|source|destination
//	GET  /v1/queues/{queue}/jobs     a page of messages: selection, after, limit (most 1000)
//	GET  /v1/queues/{queue}/count    {"jobs": N} that a selection chooses
//	GET  /v1/queues/{queue}/export   lines of JSON
//	POST /v1/queues/{queue}/import   lines of JSON
//	POST /v1/queues/{queue}/retry    a selection as JSON; dead messages are waiting again
//	POST /v1/queues/{queue}/drop     a selection as JSON; dead messages are removed
//	GET  /v1/store                   identity and disk space
//	POST /v1/store/check             lines: {"done", "total"}..., then {"figures"} or {"error"}
//	POST /v1/store/compact           the same
//
// A selection is [Selection], as JSON in a body and as parameters of the same names in a
// GET. An error is {"error": "..."} with the status 400 (a mistake), 404 (no such queue),
// 501 (the store cannot), 503 (no store is open) or 500. An export that fails breaks the
// connection off, so that it is never taken for a whole one.
//
// There is no authentication: keep the address on a private network. Requests that a
// browser makes for another site are refused.
package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/queue"
)

// Server is the admin HTTP server.
type Server struct {
	listener net.Listener
	http     *http.Server
}

// Options is what the server speaks of.
type Options struct {
	Address   string
	Pipelines *meter.Registry
	// Ready says whether the process is ready, and Degraded what of it has failed and is to be
	// started again, a line each.
	Ready    func() error
	Degraded func() []string
	// Store is the store, its identity and the queues of the config; the store is nil when
	// none is open.
	Store func() (queue.Store, string, []connector.Queue)
}

// Listen starts the server.
func Listen(o Options) (*Server, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", o.Address)
	if err != nil {
		return nil, fault.New(fault.Setup, fmt.Errorf("admin address %s: %w; choose another admin.address", o.Address, err))
	}
	return &Server{listener: l, http: &http.Server{Handler: handler(o), ReadHeaderTimeout: 10 * time.Second}}, nil
}

// Gatherer is all metrics of the process.
func (o Options) Gatherer() prometheus.Gatherer {
	registry := prometheus.NewRegistry()
	registry.MustRegister(o.Pipelines, queuesOf(o.Store), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

func handler(o Options) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.Gatherer(), promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := o.Ready(); err != nil {
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
	})
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	api{o.Store}.routes(mux)
	return http.NewCrossOriginProtection().Handler(mux)
}

// Address is where the server listens.
func (s *Server) Address() string { return s.listener.Addr().String() }

// Serve answers requests until Close.
func (s *Server) Serve() error {
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Close lets requests in progress finish for a second and stops.
func (s *Server) Close(ctx context.Context) error {
	ctx, done := context.WithTimeout(ctx, time.Second)
	defer done()
	if err := s.http.Shutdown(ctx); err != nil {
		return s.http.Close()
	}
	return nil
}
