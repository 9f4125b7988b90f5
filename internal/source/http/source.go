// Package httpsource is the source "http": it accepts events as lines of POST requests.
//
// # Protocol
//
// A request's body is split at newlines; each line that is not blank is one message. The
// body may be compressed (Content-Encoding gzip or zstd). Lines, line lengths and body
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
//	     is full, an event was not delivered, or the answer took too long. Retry-After says when
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
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
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

// stopGrace is how long Close waits for requests whose bodies are still arriving.
const stopGrace = 5 * time.Second

// Source is an HTTP server whose requests wait for their events.
type Source struct {
	c      Config
	log    *slog.Logger
	dir    string      // of relative paths
	tls    *tls.Config // nil without TLS
	auth   *credentials
	traced bool // messages keep the trace context of their request; set before Open

	pipeline         string
	open             sync.Mutex
	session          atomic.Pointer[session] // never nil
	frontdoor.Porter                         // for callers while it is closed, or has no room
}

// session is the source from an Open to its Close. A later one begins with nothing: requests
// of an earlier one that nobody settles any more take no room from it.
type session struct {
	*Source
	budget *frontdoor.Budget
	reader *frontdoor.Reader
	hall   *frontdoor.Hall
	mux    *http.ServeMux
	place  atomic.Pointer[frontdoor.Place] // nil before Open
}

var (
	_ connector.Source    = (*Source)(nil)
	_ connector.Holder    = (*Source)(nil)
	_ connector.Listener  = (*Source)(nil)
	_ connector.Refuser   = (*Source)(nil)
	_ connector.Attendant = (*Source)(nil)
	_ frontdoor.Host      = (*session)(nil)
	_ trace.Keeper        = (*Source)(nil)
)

// New builds the source. It reads the TLS files and touches nothing else.
func New(_ context.Context, d connector.Deps, c Config) (*Source, error) {
	if ps := c.Validate(); len(ps) > 0 {
		return nil, fault.New(fault.Setup, fmt.Errorf("http source: %s: %s", ps[0].What, ps[0].Fix))
	}
	s := &Source{c: c, log: d.Log, dir: d.Dir, auth: newCredentials(c)}
	s.session.Store(s.begin())
	if d.Pipeline != "" {
		s.pipeline = fmt.Sprintf("pipeline %q", d.Pipeline)
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if c.CertFile != "" {
		var err error
		if s.tls, err = s.files().Server(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// begin makes a session that is not open.
func (s *Source) begin() *session {
	n := &session{Source: s, budget: frontdoor.NewBudget(s.c.MaxInFlightRequests, s.c.MaxInFlightBytes), mux: http.NewServeMux()}
	// Payloads share the memory of their request's body.
	n.reader = &frontdoor.Reader{Budget: n.budget, Limit: int64(s.c.MaxBodyBytes), Own: true}
	n.hall = frontdoor.NewHall(time.Duration(s.c.ResponseTimeoutMillis)*time.Millisecond, func() *frontdoor.Hall {
		if next := n.successor(); next != nil {
			return next.hall
		}
		return nil
	})
	n.mux.Handle(s.c.Path, http.HandlerFunc(n.handle))
	return n
}

// Open binds the address and starts to serve. Requests wait until the first Read; while the
// source of the same pipeline that this one replaces still reads, they are that one's.
func (s *Source) Open(ctx context.Context) error {
	s.open.Lock()
	defer s.open.Unlock()
	now := s.session.Load()
	switch {
	case now.hall.Stopped():
		now = s.begin()
	case now.place.Load() != nil:
		return errors.New("open the http source: it is open already")
	}
	p, err := frontdoor.Enter(ctx, s.at(), now)
	if err != nil {
		return err
	}
	now.place.Store(p)
	s.session.Store(now)
	return nil
}

// at is where the source serves.
func (s *Source) at() frontdoor.Door {
	return frontdoor.Door{
		Address: s.c.URL,
		Owner:   s.pipeline,
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

// Attend implements connector.Attendant: a session that is closed stands at the door.
func (s *Source) Attend(ctx context.Context) error {
	return s.Stand(ctx, s.at(), func() frontdoor.Host {
		closed := s.begin()
		closed.hall.Close()
		return closed
	})
}

// ServeHTTP implements frontdoor.Host.
func (s *session) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Accepting implements frontdoor.Host.
func (s *session) Accepting() bool { return s.hall.Open() }

// successor is the source of a newer config that takes the requests this one cannot take
// any more; nil when there is none.
func (s *session) successor() *session {
	if p := s.place.Load(); p != nil {
		if next, ok := p.Successor().(*session); ok {
			return next
		}
	}
	return nil
}

// Addr is the address listened on; nil before Open.
func (s *Source) Addr() net.Addr {
	if p := s.session.Load().place.Load(); p != nil {
		return p.Addr()
	}
	return nil
}

// Listens implements connector.Listener.
func (s *Source) Listens() connector.Listening {
	return connector.Listening{Address: s.c.URL, Attribute: "url", Hosts: s.c.HostNames, Paths: []string{s.c.Path}, TLS: s.tls != nil, Identity: s.files().Identity()}
}

// files are those of the certificates.
func (s *Source) files() tlsconfig.Settings {
	return tlsconfig.Settings{CertFile: s.c.CertFile, KeyFile: s.c.KeyFile, CAFile: s.c.CAFile, Dir: s.dir}
}

// KeepTraceContext implements trace.Keeper.
func (s *Source) KeepTraceContext() { s.traced = true }

// Holds reports that clients wait until their events are settled.
func (s *Source) Holds() bool { return true }

// Read waits for a request and returns its messages with those of all other requests that
// wait. When ctx ends, requests that wait go to the source that replaces this one; when there
// is none they are answered 503, and so are new ones until the next Read.
func (s *Source) Read(ctx context.Context, room connector.Room) (event.Batch, connector.Ack, error) {
	messages, bytes := room.Within(s.c.MaxBatchMessages, s.c.MaxBatchBytes)
	now := s.session.Load()
	b, ack, err := now.hall.Read(ctx, now.place.Load(), messages, bytes)
	return b, ack, err
}

// Close answers every waiting request 503, or leaves it to the source that replaces this one.
// The last source at an address stops the server: requests whose bodies are still arriving
// are cut off after five seconds, or when ctx ends.
func (s *Source) Close(ctx context.Context) error {
	s.open.Lock()
	defer s.open.Unlock()
	now := s.session.Load()
	now.hall.Close()
	p := now.place.Load()
	if p == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, stopGrace)
	defer cancel()
	return p.Leave(ctx)
}
