// Package admin is the HTTP server for operators: metrics, health, readiness, profiles.
//
//	GET /metrics        Prometheus text format
//	GET /healthz        200 while the process works
//	GET /readyz         200 while every pipeline is running, else 503 with the reason
//	GET /debug/pprof/   Go profiles
//
// It has no authentication: keep its address on a private network.
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

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
)

// Server is the admin HTTP server.
type Server struct {
	listener net.Listener
	http     *http.Server
}

// Listen starts the server on address. ready says whether the process is ready.
func Listen(address string, pipelines *meter.Registry, ready func() error) (*Server, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fault.New(fault.Setup, fmt.Errorf("admin address %s: %w; choose another admin.address", address, err))
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(pipelines, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	s := &Server{listener: l, http: &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}}
	return s, nil
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
