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
//
// # Failures
//
//	503  too much is in flight, the source is stopping, or an event was not kept
//	504  the events were not settled in time
//
// Clients repeat either, and events that were kept already are then kept twice.
package gatewaysource

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/netutil"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/gateway"
	"github.com/weirdata/weir/internal/tlsconfig"
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
	c     Config
	log   *slog.Logger
	tls   *tls.Config // nil without TLS
	door  *gateway.Gateway
	hall  *hall
	limit *limiter // nil without a limit

	entry    sync.Mutex // guards handlers.Add against Close's Wait
	closed   bool
	handlers sync.WaitGroup
	watching sync.WaitGroup

	open   sync.Mutex
	server *http.Server
	addr   net.Addr
	lines  *lines        // the listener
	served chan struct{} // closed when the server has ended
	err    error         // why it ended; valid after served is closed
}

var (
	_ connector.Source = (*Source)(nil)
	_ connector.Holder = (*Source)(nil)
)

// New builds the source. It reads the workspace config and the TLS files and touches
// nothing else.
func New(_ context.Context, d connector.Deps, c Config) (*Source, error) {
	if ps := c.Validate(); len(ps) > 0 {
		return nil, fault.New(fault.Setup, fmt.Errorf("gateway source: %s: %s", ps[0].What, ps[0].Fix))
	}
	file, err := workspace.Open(d.Path(c.WorkspaceConfig), d.Log)
	if err != nil {
		return nil, err
	}
	s := &Source{
		c: c, log: d.Log,
		door:   gateway.New(file, gateway.Options{Version: d.Version, MaxEvents: c.MaxRequestEvents, AnyID: c.AllowEventsWithoutIDs}),
		hall:   newHall(c.MaxInFlightRequests, int64(c.MaxInFlightBytes), time.Duration(c.ResponseTimeoutMillis)*time.Millisecond),
		limit:  newLimiter(c.RateLimitEvents, time.Duration(c.RateLimitWindowSeconds)*time.Second),
		served: make(chan struct{}),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if c.CertFile != "" {
		if s.tls, err = (tlsconfig.Settings{CertFile: c.CertFile, KeyFile: c.KeyFile, CAFile: c.CAFile, Dir: d.Dir}).Server(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Open binds the address and starts to serve. Requests wait until the first Read.
func (s *Source) Open(ctx context.Context) error {
	s.open.Lock()
	defer s.open.Unlock()
	if s.server != nil {
		return errors.New("open the gateway: it is open already")
	}
	select {
	case <-s.hall.stop:
		return errors.New("open the gateway: it is closed")
	default:
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", s.c.Address)
	if err != nil {
		return fault.New(fault.Setup, fmt.Errorf("listen on %s: %w", s.c.Address, err))
	}
	s.addr = ln.Addr()
	s.server = &http.Server{
		Handler:   s,
		TLSConfig: s.tls,
		// From the first byte of a request to its answer: the deadline stays while the
		// request waits for its events, and would cut it off.
		ReadTimeout:    time.Duration(s.c.ReadTimeoutMillis+s.c.ResponseTimeoutMillis) * time.Millisecond,
		IdleTimeout:    time.Duration(s.c.IdleTimeoutMillis) * time.Millisecond,
		MaxHeaderBytes: s.c.MaxHeaderBytes,
		ErrorLog:       slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	s.watching.Go(s.hall.watch)
	s.lines = newLines(netutil.LimitListener(ln, s.c.MaxConnections))
	s.lines.done.Go(func() { s.serve(s.server, s.lines) }) // counted before anybody can wait
	return nil
}

// serve runs the server. Over TLS, connections go to net/http at once.
func (s *Source) serve(server *http.Server, ls *lines) {
	defer close(s.served)
	var err error
	if s.tls != nil {
		err = server.ServeTLS(ls.Listener, "", "")
	} else {
		accepting := make(chan error, 1)
		ls.done.Go(func() {
			err := ls.run(s)
			if err != nil { // without it nobody would get in any more
				_ = ls.Close()
			}
			accepting <- err
		})
		err = server.Serve(ls)
		if lost := <-accepting; lost != nil {
			err = lost
		}
	}
	if !errors.Is(err, http.ErrServerClosed) {
		s.err = fmt.Errorf("serve on %s: %w", s.c.Address, err)
	}
}

// Addr is the address listened on; nil before Open.
func (s *Source) Addr() net.Addr {
	s.open.Lock()
	defer s.open.Unlock()
	return s.addr
}

// Holds reports that clients wait until their events are settled.
func (s *Source) Holds() bool { return true }

// ServeHTTP serves one request.
func (s *Source) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.enter() {
		w.Header().Set("Connection", "close")
		gateway.Unavailable.Write(w, s.c.RetryAfterSeconds)
		return
	}
	defer s.handlers.Done()
	if s.door.CORS(w, r) {
		return
	}
	s.handle(r).Write(w, s.c.RetryAfterSeconds)
}

// handle is the one answer of a request.
func (s *Source) handle(r *http.Request) *gateway.Answer {
	if gateway.IsHealth(r) && !s.hall.open() {
		return gateway.Down
	}
	var call gateway.Call
	if a := s.door.Begin(&call, r, time.Now()); a != nil {
		return a
	}
	if !s.hall.enter() {
		return call.Done(gateway.Unavailable)
	}
	if !call.HasBody() {
		return call.Done(s.accept(&call, &buffer{}))
	}
	body, no := s.body(r)
	if no != nil {
		s.hall.leave(0)
		return no
	}
	call.Arrived(time.Now())
	return call.Done(s.accept(&call, body))
}

// accept takes the events of a call and waits until they are settled. The call has
// entered the hall; body, which is released, holds its bytes of it.
func (s *Source) accept(call *gateway.Call, body *buffer) *gateway.Answer {
	now := call.Time()
	b, no := s.door.Events(call, body.data)
	held := body.held
	body.release()
	if no == nil && !s.limit.allow(call.Source().Workspace, len(b), now) {
		no = gateway.TooMany
	}
	if no != nil {
		s.hall.leave(held)
		return no
	}
	return s.hall.await(b, held, now)
}

// enter counts a handler in; false when the source has stopped.
func (s *Source) enter() bool {
	s.entry.Lock()
	defer s.entry.Unlock()
	if s.closed {
		return false
	}
	s.handlers.Add(1)
	return true
}

// Read waits for a request and returns its messages with those of all other requests that
// wait. When ctx ends, requests that wait are answered 503, and so are new ones until the
// next Read.
func (s *Source) Read(ctx context.Context) (event.Batch, connector.Ack, error) {
	taken, err := s.hall.take(ctx, s.c.MaxBatchMessages, s.c.MaxBatchBytes, s.served)
	if errors.Is(err, errStopped) {
		select {
		case <-s.served:
			if s.err != nil {
				return nil, nil, fault.New(fault.Setup, s.err)
			}
		default:
		}
		return nil, nil, io.EOF
	}
	if err != nil {
		return nil, nil, err
	}
	ack := func(_ context.Context, o event.Outcomes) error {
		s.hall.settle(taken, o)
		return nil
	}
	if len(taken) == 1 {
		return taken[0].batch, ack, nil
	}
	n := 0
	for _, r := range taken {
		n += len(r.batch)
	}
	b := make(event.Batch, 0, n)
	for _, r := range taken {
		b = append(b, r.batch...)
	}
	return b, ack, nil
}

// Close answers every waiting request 503, stops the server and waits for its goroutines.
// Requests whose bodies are still arriving are cut off after five seconds, or when ctx ends.
func (s *Source) Close(ctx context.Context) error {
	s.entry.Lock()
	s.closed = true
	s.entry.Unlock()
	s.hall.close()
	s.open.Lock()
	server := s.server
	s.open.Unlock()
	if server == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, stopGrace)
	defer cancel()
	grace := context.AfterFunc(ctx, s.lines.cut)
	if err := server.Shutdown(ctx); err != nil {
		_ = server.Close() // the connections that are left are the ones to cut off
	}
	_ = s.lines.Close() // the server has closed it, unless it never came to serve
	s.lines.done.Wait()
	grace()
	<-s.served
	s.handlers.Wait()
	s.watching.Wait()
	return s.err
}
