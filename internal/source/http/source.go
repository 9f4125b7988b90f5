// Package httpsource is the source "http": it accepts events as lines of POST requests.
//
// # Protocol
//
// A request's body is split at newlines; each line that is not blank is one message. The
// body may be compressed (Content-Encoding gzip, zstd or deflate). Lines, line lengths and body
// length are checked before any line is accepted, so a refused request leaves nothing behind.
//
//	202  every event is settled: delivered, filtered or dead-lettered. Also the answer
//	     to a request without events.
//	400  too many lines, a line too long, a body that cannot be read or decompressed
//	401  credentials are missing or wrong
//	405  the method is not POST
//	408  the body did not arrive in time
//	413  the body is too large
//	415  the content encoding is not known
//	503  too much is in flight, the source is stopping or not open yet, what keeps the events
//	     is full or out of reach, an event was not delivered, or the answer took too long. Retry-After says when
//	     to send the whole request again; events that were delivered already are then delivered
//	     twice.
//
// # Invariants
//
//   - A request gets exactly one answer, and 2xx only after all of its events are settled.
//   - A client that goes away before its events are handed to the pipeline leaves nothing
//     behind; one that goes away later changes nothing for its events.
//   - A request's bytes and place count against the limits until its events are settled,
//     whether or not the client still waits.
//
// # Grouping
//
// While a reload replaces the source, the address stays open: what the old source has not
// taken goes to the new one (package frontdoor).
//
// Requests wait in front of Read, which takes all that wait, up to a number of messages and
// bytes, so that small requests share a batch under load. Acknowledging the batch answers
// each request by the outcomes of its own messages.
package httpsource

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/frontdoor"
	"github.com/weirdata/weir/internal/tlsconfig"
	"github.com/weirdata/weir/internal/trace"
)

// Entry is the source's place in the registry.
var Entry = connector.Of(connector.Spec[Config, connector.Source]{
	Name:      "http",
	Summary:   "Accepts events as lines of HTTP POST requests, and answers when they are delivered.",
	Stability: connector.Stable,
	Default:   defaults,
	New: func(ctx context.Context, d connector.Deps, c Config) (connector.Source, error) {
		s, err := New(ctx, d, c)
		if err != nil {
			return nil, err
		}
		return s, nil
	},
})

// Source is an HTTP server whose requests wait for their events.
type Source struct {
	c      Config
	log    *slog.Logger
	dir    string      // of relative paths
	tls    *tls.Config // nil without TLS
	auth   *credentials
	traced bool // messages keep the trace context of their request; set before Open

	frontdoor.Tenant
}

// session is the source from an Open to its Close.
type session struct {
	*Source
	*frontdoor.Stay
}

var (
	_ connector.Source = (*Source)(nil)
	_ trace.Keeper     = (*Source)(nil)
)

// New builds the source. It reads the TLS files and touches nothing else.
func New(_ context.Context, d connector.Deps, c Config) (*Source, error) {
	if ps := c.Validate(); len(ps) > 0 {
		return nil, fault.New(fault.Setup, fmt.Errorf("http source: %s: %s", ps[0].What, ps[0].Fix))
	}
	s := &Source{c: c, log: d.Log, dir: d.Dir, auth: newCredentials(c)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if c.CertFile != "" {
		var err error
		if s.tls, err = s.files().Server(); err != nil {
			return nil, err
		}
	}
	s.Let(frontdoor.Lease{
		Name: "http source", Attribute: "url", Door: s.at(d.Pipeline),
		Timeout:  time.Duration(c.ResponseTimeoutMillis) * time.Millisecond,
		Requests: c.MaxInFlightRequests, Bytes: c.MaxInFlightBytes,
		// Payloads share the memory of their request's body.
		Body:  frontdoor.Reader{Limit: int64(c.MaxBodyBytes), Own: true},
		Serve: s.serve,
	})
	return s, nil
}

// at is where the source serves.
func (s *Source) at(pipeline string) frontdoor.Door {
	if pipeline != "" {
		pipeline = fmt.Sprintf("pipeline %q", pipeline)
	}
	return frontdoor.Door{
		Address: s.c.URL,
		Owner:   pipeline,
		Route:   frontdoor.Route{Hosts: s.c.HostNames, Paths: []string{s.c.Path}},
		Settings: frontdoor.Settings{
			ReadHeaderTimeout: time.Duration(s.c.ReadHeaderTimeoutMillis) * time.Millisecond,
			IdleTimeout:       time.Duration(s.c.IdleTimeoutMillis) * time.Millisecond,
			MaxHeaderBytes:    64 << 10,
			MaxConnections:    s.c.MaxConnections,
			TLS:               s.tls != nil,
			Identity:          s.files().Identity(),
		},
		Certificates: s.tls,
		Log:          s.log,
	}
}

// serve is what answers the requests of a stay.
func (s *Source) serve(stay *frontdoor.Stay) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(s.c.Path, (&session{s, stay}).handle)
	return mux
}

// files are those of the certificates.
func (s *Source) files() tlsconfig.Settings {
	return tlsconfig.Settings{CertFile: s.c.CertFile, KeyFile: s.c.KeyFile, CAFile: s.c.CAFile, Dir: s.dir}
}

// KeepTraceContext implements trace.Keeper.
func (s *Source) KeepTraceContext() { s.traced = true }

// Read waits for requests and returns their messages.
func (s *Source) Read(ctx context.Context, room connector.Room) (event.Batch, connector.Ack, error) {
	messages, bytes := room.Within(s.c.MaxBatchMessages, s.c.MaxBatchBytes)
	return s.Take(ctx, messages, bytes)
}
