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
//	     full or out of reach, or an event was not kept
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
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/frontdoor"
	"github.com/weirdata/weir/internal/gateway"
	"github.com/weirdata/weir/internal/suppression"
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

// Source is the HTTP server.
type Source struct {
	c      Config
	log    *slog.Logger
	dir    string      // of relative paths
	tls    *tls.Config // nil without TLS
	door   *gateway.Gateway
	file   workspace.Live
	tally  *gateway.Tally
	limit  *limiter // of workspaces; nil without a limit
	inside *limiter // of /internal/v1/batch; nil without a limit
	traced bool     // messages keep the trace context of their request; set before Open

	users   *suppression.Set // nil: nobody is suppressed
	list    http.Handler     // serves users; nil: it is not served
	opening sync.Mutex
	opened  bool // users are open
	leftOut atomic.Int64

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

// New builds the source. It reads the workspace config and the TLS files and touches
// nothing else.
func New(_ context.Context, d connector.Deps, c Config) (*Source, error) {
	if ps := c.Validate(); len(ps) > 0 {
		return nil, fault.New(fault.Setup, fmt.Errorf("gateway source: %s: %s", ps[0].What, ps[0].Fix))
	}
	file, err := d.Workspace(c.WorkspaceConfig, c.Workspace)
	if err != nil {
		return nil, err
	}
	hooks, err := gateway.NewHooks(d, c.Webhooks)
	if err != nil {
		return nil, err
	}
	s := &Source{c: c, log: d.Log, dir: d.Dir, file: file, tally: tallyOf(d)}
	o := gateway.Options{
		Version: d.Version, MaxEvents: c.MaxRequestEvents, AnyID: c.AllowEventsWithoutIDs,
		Origins: c.AllowedOrigins, Internal: c.InternalEndpoints, RequireDestination: c.RequireDestinationID, Hooks: hooks, Tally: s.tally,
	}
	if c.Suppression != nil {
		s.users = c.Suppression.suppressed(d)
		o.Suppressed = s.users.Suppressed
		if c.Suppression.Token != "" {
			s.list = s.users.Handler(c.Suppression.Token)
		}
	}
	s.door = gateway.New(file, o)
	s.limit, s.inside = c.limiters()
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	for _, text := range hooks.Warnings(file.Current()) {
		s.log.Warn("workspace config: " + text)
	}
	if c.CertFile != "" {
		if s.tls, err = s.files().Server(); err != nil {
			return nil, err
		}
	}
	s.Let(frontdoor.Lease{
		Name: "gateway", Attribute: "address", Door: s.at(d.Pipeline),
		Timeout:  time.Duration(c.ResponseTimeoutMillis) * time.Millisecond,
		Requests: c.MaxInFlightRequests, Bytes: c.MaxInFlightBytes,
		Body:  frontdoor.Reader{Limit: int64(c.MaxBodyBytes)},
		Serve: func(stay *frontdoor.Stay) http.Handler { return &session{s, stay} },
	})
	return s, nil
}

// at is where the source serves.
func (s *Source) at(pipeline string) frontdoor.Door {
	if pipeline != "" {
		pipeline = fmt.Sprintf("pipeline %q", pipeline)
	}
	paths := gateway.Paths(s.c.InternalEndpoints)
	if s.list != nil {
		paths = append(paths, suppression.Paths)
	}
	return frontdoor.Door{
		Address: s.c.Address,
		Owner:   pipeline,
		Route:   frontdoor.Route{Hosts: s.c.HostNames, Paths: paths},
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

func (s *Source) readTimeout() time.Duration {
	return time.Duration(s.c.ReadTimeoutMillis) * time.Millisecond
}

// files are those of the certificates.
func (s *Source) files() tlsconfig.Settings {
	return tlsconfig.Settings{CertFile: s.c.CertFile, KeyFile: s.c.KeyFile, CAFile: s.c.CAFile, Dir: s.dir}
}

// KeepTraceContext implements trace.Keeper.
func (s *Source) KeepTraceContext() { s.traced = true }

// ServeHTTP serves one request.
func (s *session) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// Set before anything is refused: the server reads what is left of a refused body.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.readTimeout()))
	if s.userList(w, r) {
		return
	}
	if s.door.CORS(w, r) {
		s.Answered(gateway.Preflight.Code)
		return
	}
	if s.Over() {
		w.Header().Set("Connection", "close")
	}
	a := s.handle(w, r)
	s.Answered(a.Code)
	a.Write(w, s.c.RetryAfterSeconds)
}

// handle is the one answer of a request.
func (s *session) handle(w http.ResponseWriter, r *http.Request) *gateway.Answer {
	open := s.Served()
	if gateway.IsHealth(r) && (!open || s.Refusing()) {
		return gateway.Down
	}
	var call gateway.Call
	if a := s.door.Begin(&call, r, time.Now()); a != nil {
		return a
	}
	if !open || s.Refusing() || !s.Budget.Enter() {
		return call.Done(s.told(&call, gateway.Unavailable, 0))
	}
	if !call.HasBody() {
		return call.Done(s.accept(&call, frontdoor.BodyOf(nil), r.Header))
	}
	if n, err := strconv.Atoi(r.Header.Get("X-Batch-Size")); call.Stream() && err == nil && n > 0 {
		if wait := s.inside.spent("", n, time.Now()); wait > 0 {
			s.Budget.Leave(0)
			return s.told(&call, gateway.TooMany.Later(wait), 0)
		}
	}
	encoding, known := frontdoor.Encoding(r.Header.Get("Content-Encoding"))
	if !known {
		encoding = "" // some clients name a character set there
	}
	reader := *s.Body
	switch {
	case call.Keyed():
		reader.Limit = min(reader.Limit, maxUnkeyed)
	case call.Large():
		reader.Limit = max(reader.Limit, min(int64(s.c.MaxInFlightBytes)/4, maxLarge))
	}
	body, err := reader.Read(w, r, encoding)
	if err != nil {
		s.Budget.Leave(0)
		return s.told(&call, unread(err), 0)
	}
	call.Arrived(time.Now())
	return call.Done(s.accept(&call, body, r.Header))
}

const (
	// maxUnkeyed is the largest body, in bytes, that is read to find its write key: as much as Segment
	// takes.
	maxUnkeyed = 512 << 10
	// maxLarge is the largest body, in bytes, of those that may be larger than others: a queue keeps
	// no larger event.
	maxLarge = 16<<20 - 64<<10
)

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
	var b event.Batch
	no := s.spent(call, body.Data)
	if no == nil {
		b, no = s.door.Events(call, body.Data)
	}
	body.Release()
	if no == nil {
		no = s.limited(call, len(b)+call.LeftOut())
	}
	if s.traced {
		if h := trace.Keep(nil, header); h != nil {
			for _, m := range b {
				m.Meta.Headers = h
			}
		}
	}
	held := int64(b.Bytes())
	if no == nil && !s.Budget.Grow(held) {
		no = gateway.Unavailable
	}
	if no != nil {
		s.Budget.Leave(0)
		return s.told(call, no, 0)
	}
	if n := call.LeftOut(); n > 0 {
		s.leftOut.Add(int64(n))
		if len(b) == 0 {
			s.Budget.Leave(held)
			return s.told(call, gateway.OK, 0)
		}
	}
	events := len(b)
	// A client that goes away has sent its events all the same.
	switch fate, _ := s.Hall.Await(context.Background(), b, s.Budget, held); fate {
	case frontdoor.Settled:
		return s.told(call, gateway.OK, events)
	case frontdoor.Late:
		return s.told(call, gateway.Timeout, 0)
	}
	return s.told(call, gateway.Unavailable, 0)
}

// told counts an answer, and the events that were kept with it.
func (s *session) told(call *gateway.Call, a *gateway.Answer, events int) *gateway.Answer {
	s.door.Tally(call, a, events)
	return a
}

// spent refuses a call whose workspace has nothing left of its limit, before anything is made of its
// body.
func (s *session) spent(call *gateway.Call, body []byte) *gateway.Answer {
	if s.limit == nil || call.Stream() || call.Keyed() || call.Run() {
		return nil
	}
	if wait := s.limit.spent(call.Workspace(), 1, call.Time()); wait > 0 && !gateway.MayNameRun(body) {
		return gateway.TooMany.Later(wait)
	}
	return nil
}

// limited takes n events of the limit that a call is bound to, or refuses it.
func (s *session) limited(call *gateway.Call, n int) *gateway.Answer {
	var wait time.Duration
	switch {
	case call.Stream():
		wait = s.inside.take("", n, call.Time())
	case !call.Run():
		wait = s.limit.take(call.Workspace(), n, call.Time())
	}
	if wait > 0 {
		return gateway.TooMany.Later(wait)
	}
	return nil
}

// Read waits for requests and returns their messages.
func (s *Source) Read(ctx context.Context, room connector.Room) (event.Batch, connector.Ack, error) {
	messages, bytes := room.Within(s.c.MaxBatchMessages, s.c.MaxBatchBytes)
	return s.Take(ctx, messages, bytes)
}
