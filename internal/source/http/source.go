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
//	503  too much is in flight, the source is stopping, an event was not delivered, or the
//	     answer took too long. Retry-After says when to send the whole request again; events
//	     that were delivered already are then delivered twice.
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
// Requests wait in front of Read, which takes all that wait, up to a number of messages and
// bytes, so that small requests share a batch under load. Acknowledging the batch answers
// each request by the outcomes of its own messages.
package httpsource

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
	"github.com/weirdata/weir/internal/tlsconfig"
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
	c        Config
	log      *slog.Logger
	tls      *tls.Config // nil without TLS
	auth     *credentials
	budget   budget
	unpacker *unpacker

	// waiting has no buffer: a request passes only into the hands of a Read.
	waiting chan *request
	held    *request // taken from waiting, but too large for the last batch; Read's own
	pause   pause

	stop     chan struct{} // closed when the source stops
	stopOnce sync.Once
	entry    sync.Mutex // guards handlers.Add against Close's Wait
	handlers sync.WaitGroup

	open   sync.Mutex
	server *http.Server
	addr   net.Addr
	served chan struct{} // closed when the server has ended
	err    error         // why it ended; valid after served is closed
}

var (
	_ connector.Source = (*Source)(nil)
	_ connector.Holder = (*Source)(nil)
)

// New builds the source. It reads the TLS files and touches nothing else.
func New(_ context.Context, d connector.Deps, c Config) (*Source, error) {
	if ps := c.Validate(); len(ps) > 0 {
		return nil, fault.New(fault.Setup, fmt.Errorf("http source: %s: %s", ps[0].What, ps[0].Fix))
	}
	s := &Source{
		c: c, log: d.Log, auth: newCredentials(c), unpacker: newUnpacker(),
		budget:  budget{maxRequests: int64(c.MaxInFlightRequests), maxBytes: int64(c.MaxInFlightBytes)},
		waiting: make(chan *request),
		stop:    make(chan struct{}),
		served:  make(chan struct{}),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if c.CertFile != "" {
		var err error
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
		return errors.New("open the http source: it is open already")
	}
	select {
	case <-s.stop:
		return errors.New("open the http source: it is closed")
	default:
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", s.c.URL)
	if err != nil {
		return fault.New(fault.Setup, fmt.Errorf("listen on %s: %w", s.c.URL, err))
	}
	s.addr = ln.Addr()
	mux := http.NewServeMux()
	mux.Handle(s.c.Path, http.HandlerFunc(s.handle))
	s.server = &http.Server{
		Handler:           mux,
		TLSConfig:         s.tls,
		ReadHeaderTimeout: time.Duration(s.c.ReadHeaderTimeoutMillis) * time.Millisecond,
		IdleTimeout:       time.Duration(s.c.IdleTimeoutMillis) * time.Millisecond,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	go s.serve(s.server, netutil.LimitListener(ln, s.c.MaxConnections))
	return nil
}

func (s *Source) serve(server *http.Server, ln net.Listener) {
	defer close(s.served)
	var err error
	if s.tls != nil {
		err = server.ServeTLS(ln, "", "")
	} else {
		err = server.Serve(ln)
	}
	if !errors.Is(err, http.ErrServerClosed) {
		s.err = fmt.Errorf("serve on %s: %w", s.c.URL, err)
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

// Read waits for a request and returns its messages with those of all other requests that
// wait. When ctx ends, requests that wait are answered 503, and so are new ones until the
// next Read.
func (s *Source) Read(ctx context.Context) (event.Batch, connector.Ack, error) {
	s.pause.end()
	first := s.held
	s.held = nil
	for first == nil || !first.take() {
		select {
		case first = <-s.waiting:
		case <-ctx.Done():
			s.pause.begin()
			return nil, nil, context.Cause(ctx)
		case <-s.stop:
			return nil, nil, io.EOF
		case <-s.served:
			if s.err == nil {
				return nil, nil, io.EOF
			}
			return nil, nil, fault.New(fault.Setup, s.err)
		}
	}
	taken := []*request{first}
	messages, bytes := len(first.batch), first.bytes
gather:
	for messages < s.c.MaxBatchMessages && bytes < s.c.MaxBatchBytes {
		select {
		case r := <-s.waiting:
			if messages+len(r.batch) > s.c.MaxBatchMessages || bytes+r.bytes > s.c.MaxBatchBytes {
				s.held = r
				break gather
			}
			if r.take() {
				taken = append(taken, r)
				messages += len(r.batch)
				bytes += r.bytes
			}
		default:
			break gather
		}
	}
	if len(taken) == 1 {
		return first.batch, s.ack(taken), nil
	}
	b := make(event.Batch, 0, messages)
	for _, r := range taken {
		b = append(b, r.batch...)
	}
	return b, s.ack(taken), nil
}

// ack answers each request by the outcomes of its own messages.
func (s *Source) ack(taken []*request) connector.Ack {
	return func(_ context.Context, o event.Outcomes) error {
		at := 0
		for _, r := range taken {
			var own event.Outcomes
			if o != nil {
				own = o[at : at+len(r.batch)]
			}
			at += len(r.batch)
			r.settle(own.Err())
			s.budget.release(r.reserved)
		}
		return nil
	}
}

// Close answers every waiting request 503, stops the server and waits for its goroutines.
// Requests whose bodies are still arriving are cut off after five seconds, or when ctx ends.
func (s *Source) Close(ctx context.Context) error {
	s.stopOnce.Do(func() {
		s.entry.Lock()
		close(s.stop)
		s.entry.Unlock()
	})
	s.open.Lock()
	server := s.server
	s.open.Unlock()
	if server == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, stopGrace)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		_ = server.Close() // the connections that are left are the ones to cut off
	}
	<-s.served
	s.handlers.Wait()
	return s.err
}

// enter counts a handler in; false when the source has stopped.
func (s *Source) enter() bool {
	s.entry.Lock()
	defer s.entry.Unlock()
	select {
	case <-s.stop:
		return false
	default:
		s.handlers.Add(1)
		return true
	}
}
