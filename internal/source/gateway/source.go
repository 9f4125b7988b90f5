// Package gatewaysource is the source "gateway": an HTTP server for the event API that
// RudderStack SDKs speak, which package gateway describes.
//
// # Invariants
//
//   - A request gets exactly one answer, and "ok" only after all of its events are settled:
//     with a queue as the target, when they are on disk.
//   - A request's bytes and place count against the limits until its events are settled,
//     whether or not the client still waits.
//   - Requests that wait for one Read go into one batch, up to a number of messages and
//     bytes, so that requests in flight share commits.
//   - While a reload replaces the source, the address stays open: what the old source has not
//     taken goes to the new one (package frontdoor).
//
// # Failures
//
//	503  too much is in flight, the source is stopping or not open yet, what keeps the events is
//	     full, or an event was not kept
//	504  the events were not settled in time
//
// Clients repeat either, and events that were kept already are then kept twice.
package gatewaysource

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/frontdoor"
	"github.com/weirdata/weir/internal/gateway"
	"github.com/weirdata/weir/internal/tlsconfig"
	"github.com/weirdata/weir/internal/trace"
	"github.com/weirdata/weir/internal/workspace"
)

// Entry is the source's place in the registry.
var Entry = connector.Of(connector.Spec[Config, connector.Source]{
	Name:      "gateway",
	Summary:   "Accepts events from RudderStack SDKs over HTTP, and answers when they are kept.",
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

// Source is the HTTP server.
type Source struct {
	c      Config
	log    *slog.Logger
	dir    string      // of relative paths
	tls    *tls.Config // nil without TLS
	door   *gateway.Gateway
	limit  *limiter // nil without a limit
	traced bool     // messages keep the trace context of their request; set before Open

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

// New builds the source. It reads the workspace config and the TLS files and touches
// nothing else.
func New(_ context.Context, d connector.Deps, c Config) (*Source, error) {
	if ps := c.Validate(); len(ps) > 0 {
		return nil, fault.New(fault.Setup, fmt.Errorf("gateway source: %s: %s", ps[0].What, ps[0].Fix))
	}
	path, err := d.File("workspace_config", c.WorkspaceConfig)
	if err != nil {
		return nil, err
	}
	file, err := workspace.Open(path, d.Log)
	if err != nil {
		return nil, err
	}
	s := &Source{
		c: c, log: d.Log, dir: d.Dir,
		door:  gateway.New(file, gateway.Options{Version: d.Version, MaxEvents: c.MaxRequestEvents, AnyID: c.AllowEventsWithoutIDs}),
		limit: newLimiter(c.RateLimitEvents, time.Duration(c.RateLimitWindowSeconds)*time.Second),
	}
	s.session.Store(s.begin())
	if d.Pipeline != "" {
		s.pipeline = fmt.Sprintf("pipeline %q", d.Pipeline)
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if c.CertFile != "" {
		if s.tls, err = s.files().Server(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// begin makes a session that is not open.
func (s *Source) begin() *session {
	n := &session{Source: s, budget: frontdoor.NewBudget(s.c.MaxInFlightRequests, s.c.MaxInFlightBytes)}
	n.reader = &frontdoor.Reader{Budget: n.budget, Limit: int64(s.c.MaxBodyBytes)}
	n.hall = frontdoor.NewHall(time.Duration(s.c.ResponseTimeoutMillis)*time.Millisecond, func() *frontdoor.Hall {
		if next := n.successor(); next != nil {
			return next.hall
		}
		return nil
	})
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
		return errors.New("open the gateway: it is open already")
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
		Address: s.c.Address,
		Owner:   s.pipeline,
		Route:   frontdoor.Route{Hosts: s.c.HostNames, Paths: gateway.Paths()},
		Settings: frontdoor.Settings{
			ReadHeaderTimeout: s.readTimeout(),
			IdleTimeout:       time.Duration(s.c.IdleTimeoutMillis) * time.Millisecond,
			AnswerTimeout:     time.Duration(s.c.ResponseTimeoutMillis) * time.Millisecond,
			MaxHeaderBytes:    s.c.MaxHeaderBytes,
			MaxConnections:    s.c.MaxConnections,
			TLS:               s.tls != nil,
			Identity:          s.files().Identity(),
			Express:           express{},
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

func (s *Source) readTimeout() time.Duration {
	return time.Duration(s.c.ReadTimeoutMillis) * time.Millisecond
}

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
	return connector.Listening{Address: s.c.Address, Attribute: "address", Hosts: s.c.HostNames, Paths: gateway.Paths(), TLS: s.tls != nil, Identity: s.files().Identity()}
}

// files are those of the certificates.
func (s *Source) files() tlsconfig.Settings {
	return tlsconfig.Settings{CertFile: s.c.CertFile, KeyFile: s.c.KeyFile, CAFile: s.c.CAFile, Dir: s.dir}
}

// KeepTraceContext implements trace.Keeper.
func (s *Source) KeepTraceContext() { s.traced = true }

// Holds reports that clients wait until their events are settled.
func (s *Source) Holds() bool { return true }

// ServeHTTP serves one request.
func (s *session) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// Set before anything is refused: the server reads what is left of a refused body.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.readTimeout()))
	if s.door.CORS(w, r) {
		return
	}
	if s.hall.Stopped() && s.successor() == nil {
		w.Header().Set("Connection", "close")
	}
	s.handle(w, r).Write(w, s.c.RetryAfterSeconds)
}

// handle is the one answer of a request.
func (s *session) handle(w http.ResponseWriter, r *http.Request) *gateway.Answer {
	open := s.hall.Open() || s.successor() != nil
	if gateway.IsHealth(r) && (!open || s.Refusing()) {
		return gateway.Down
	}
	var call gateway.Call
	if a := s.door.Begin(&call, r, time.Now()); a != nil {
		return a
	}
	if !open || s.Refusing() || !s.budget.Enter() {
		return call.Done(gateway.Unavailable)
	}
	if !call.HasBody() {
		return call.Done(s.accept(&call, frontdoor.BodyOf(nil), r.Header))
	}
	encoding := ""
	if strings.EqualFold(r.Header.Get("Content-Encoding"), "gzip") {
		encoding = "gzip"
	}
	body, err := s.reader.Read(w, r, encoding)
	if err != nil {
		s.budget.Leave(0)
		return unread(err)
	}
	call.Arrived(time.Now())
	return call.Done(s.accept(&call, body, r.Header))
}

// unread is the answer to a request whose body could not be read.
func unread(err error) *gateway.Answer {
	switch {
	case errors.Is(err, frontdoor.ErrCrowded):
		return gateway.Unavailable
	case errors.Is(err, frontdoor.ErrTooLarge):
		return gateway.TooLarge
	case errors.Is(err, frontdoor.ErrEncoding), errors.Is(err, frontdoor.ErrMalformed):
		return gateway.BadEncoding
	}
	return gateway.UnreadBody
}

// accept takes the events of a call and waits until they are settled. The call has a place
// in the budget; body is released. The events keep the trace context in header.
func (s *session) accept(call *gateway.Call, body *frontdoor.Body, header http.Header) *gateway.Answer {
	b, no := s.door.Events(call, body.Data)
	body.Release()
	if no == nil && !s.limit.allow(call.Source().Workspace, len(b), call.Time()) {
		no = gateway.TooMany
	}
	if s.traced {
		if h := trace.Keep(nil, header); h != nil {
			for _, m := range b {
				m.Meta.Headers = h
			}
		}
	}
	held := int64(b.Bytes())
	if no == nil && !s.budget.Grow(held) {
		no = gateway.Unavailable
	}
	if no != nil {
		s.budget.Leave(0)
		return no
	}
	// A client that goes away has sent its events all the same.
	switch fate, _ := s.hall.Await(context.Background(), b, s.budget, held); fate {
	case frontdoor.Settled:
		return gateway.OK
	case frontdoor.Late:
		return gateway.Timeout
	}
	return gateway.Unavailable
}

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
