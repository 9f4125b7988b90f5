// Package frontdoor takes HTTP requests for sources that answer when events are settled. It
// keeps an address open while those who serve it are replaced, reads bodies within a budget
// ([Reader]), and lets requests wait for their events ([Hall]).
//
// # Doors
//
// A door is one listening address of the process. Hosts enter it, serve requests, and leave.
// A host that enters while another one of the same owner is there is its successor: a reload
// builds the new pipeline before the old one has drained, and both have the same address. The
// address stays bound and connections stay open, so that clients notice nothing.
//
// # Invariants
//
//   - A request goes to the newest host that leads, which is one that has begun its work; when
//     none does, to the newest. A host that no longer accepts gets none while another does.
//   - An address belongs to one owner. Another owner, and another process, is refused.
//   - Connections are served by one HTTP server for each set of [Settings]; when a successor
//     has other settings, new connections are its own, and old ones live until the host that
//     brought their settings leaves. Those that an [Express] serves then go to the new server.
//   - When the last host leaves, the address is free and no goroutine is left.
//   - A request counts against its budget until its events are settled, whether or not its
//     client still waits; one that waits when its host stops reading moves on to the successor.
package frontdoor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirdata/weir/internal/fault"
)

// Host serves the requests of a door.
type Host interface {
	http.Handler
	// Accepting reports whether requests are taken: false once nobody works on them.
	Accepting() bool
}

// Settings are what cannot change while a connection is open.
type Settings struct {
	// ReadHeaderTimeout and IdleTimeout are those of http.Server.
	ReadHeaderTimeout, IdleTimeout time.Duration
	// MaxHeaderBytes is the most bytes of a request's header.
	MaxHeaderBytes int
	// MaxConnections is the most connections open at once; more wait to be accepted.
	MaxConnections int
	// TLS says that connections are encrypted.
	TLS bool
	// Express, if set, has the connections before net/http, unless they are encrypted.
	Express Express
}

// Door says where a host wants to serve.
type Door struct {
	// Address to listen on, as "host:port". Port 0 takes a free one and is never shared.
	Address string
	// Owner may enter again before it has left; empty shares with nobody.
	Owner string
	Settings
	// Certificates is the TLS config, when Settings.TLS is set. New connections have that of
	// the newest host.
	Certificates *tls.Config
	// Log gets what the HTTP server has to say, at debug level.
	Log *slog.Logger
}

// Place is a host's place at a door.
type Place struct {
	door    *door
	server  *server
	host    Host
	tls     *tls.Config
	leading atomic.Bool
}

// door is one address.
type door struct {
	key      string // in open; empty when it is not shared
	owner    string
	listener net.Listener

	newest atomic.Pointer[Place] // the last of places

	mu      sync.Mutex
	places  []*Place  // in the order they came
	servers []*server // in the order they came; the last gets the new connections
}

// server serves connections with one set of settings.
type server struct {
	http     *http.Server
	gate     *gate
	settings Settings
	lane     *lane // nil without an express
	places   int
	tls      atomic.Pointer[tls.Config]
	working  sync.RWMutex  // read-locked by every handler
	left     atomic.Bool   // its last host has left
	ended    chan struct{} // closed when it serves no more
	err      error         // why; valid after ended is closed
}

// open is the doors that may be shared, by address.
var open = struct {
	sync.Mutex
	doors map[string]*door
}{doors: map[string]*door{}}

// Enter has host serve at the door, which is opened unless it is open already.
func Enter(ctx context.Context, at Door, host Host) (*Place, error) {
	open.Lock()
	defer open.Unlock()
	key := ""
	if _, port, err := net.SplitHostPort(at.Address); err == nil && port != "0" && at.Owner != "" {
		key = at.Address
	}
	d := open.doors[key]
	if d == nil {
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", at.Address)
		if err != nil {
			return nil, fault.New(fault.Setup, fmt.Errorf("listen on %s: %w", at.Address, err))
		}
		d = &door{key: key, owner: at.Owner, listener: l}
		if key != "" {
			open.doors[key] = d
		}
	} else if d.owner != at.Owner {
		return nil, fault.New(fault.Setup, fmt.Errorf("listen on %s: %s of this process listens there already; choose another address", at.Address, d.owner))
	}
	return d.enter(at, host), nil
}

func (d *door) enter(at Door, host Host) *Place {
	d.mu.Lock()
	defer d.mu.Unlock()
	first := len(d.servers) == 0
	if first || d.servers[len(d.servers)-1].settings != at.Settings {
		d.servers = append(d.servers, d.serve(at))
	}
	s := d.servers[len(d.servers)-1]
	s.places++
	p := &Place{door: d, server: s, host: host}
	if at.TLS {
		p.tls = at.Certificates.Clone()
		p.tls.NextProtos = []string{"h2", "http/1.1"}
	}
	s.tls.Store(p.tls)
	d.places = append(d.places, p)
	d.newest.Store(p)
	if first {
		go d.accept()
	}
	return p
}

// serve starts a server with the settings of at.
func (d *door) serve(at Door) *server {
	s := &server{settings: at.Settings, gate: newGate(d.listener.Addr(), at.MaxConnections), ended: make(chan struct{})}
	s.http = &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.working.RLock()
			defer s.working.RUnlock()
			d.dispatch(w, r)
		}),
		ReadHeaderTimeout: at.ReadHeaderTimeout,
		IdleTimeout:       at.IdleTimeout,
		MaxHeaderBytes:    at.MaxHeaderBytes,
	}
	if at.Log != nil {
		s.http.ErrorLog = slog.NewLogLogger(at.Log.Handler(), slog.LevelDebug)
	}
	var listener net.Listener = s.gate
	if at.Express != nil && !at.TLS {
		s.lane = newLane(s.gate, at.Express, d, at.Log)
		listener = s.lane
	}
	go func() {
		defer close(s.ended)
		var err error
		if at.TLS {
			s.http.TLSConfig = &tls.Config{
				MinVersion:         tls.VersionTLS12,
				GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.tls.Load(), nil },
			}
			err = s.http.ServeTLS(listener, "", "")
		} else {
			err = s.http.Serve(listener)
		}
		if !errors.Is(err, http.ErrServerClosed) && !s.left.Load() {
			s.err = fmt.Errorf("serve on %s: %w", at.Address, err)
		}
	}()
	return s
}

// accept hands connections to the newest server until the door is closed.
func (d *door) accept() {
	for {
		c, err := d.listener.Accept()
		if !d.pass(accepted{c, err}) {
			return
		}
	}
}

// pass gives a connection, or the error of accepting one, to the newest server. It returns
// false when there is none.
func (d *door) pass(a accepted) bool {
	for {
		d.mu.Lock()
		var newest *server
		if n := len(d.servers); n > 0 {
			newest = d.servers[n-1]
		}
		d.mu.Unlock()
		if newest == nil {
			if a.conn != nil {
				_ = a.conn.Close() // nobody is left to serve it
			}
			return false
		}
		if newest.gate.offer(a) {
			return true
		}
		select {
		case <-newest.ended: // by an error, and its host has not left yet
			if a.conn != nil {
				_ = a.conn.Close()
			}
			return false
		default:
		}
	}
}

func (d *door) dispatch(w http.ResponseWriter, r *http.Request) {
	if h := d.host(); h != nil {
		h.ServeHTTP(w, r)
		return
	}
	w.Header().Set("Connection", "close")
	http.Error(w, "nobody serves here any more", http.StatusServiceUnavailable)
}

// host is who gets a request now.
func (d *door) host() Host {
	// Nearly always the newest leads, and no lock is needed.
	if p := d.newest.Load(); p != nil && p.leading.Load() && p.host.Accepting() {
		return p.host
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var waits, last Host
	for _, p := range slices.Backward(d.places) {
		accepts := p.host.Accepting()
		switch {
		case accepts && p.leading.Load():
			return p.host
		case accepts && waits == nil:
			waits = p.host
		case last == nil:
			last = p.host
		}
	}
	if waits != nil {
		return waits
	}
	return last
}

// Lead says that the host has begun its work, so that requests go to it and not to those
// that came before it.
func (p *Place) Lead() {
	if !p.leading.Load() {
		p.leading.Store(true)
	}
}

// Successor is a host that accepts what this one cannot any more; nil when there is none.
func (p *Place) Successor() Host {
	if h := p.door.host(); h != nil && h != p.host && h.Accepting() {
		return h
	}
	return nil
}

// Addr is the address listened on.
func (p *Place) Addr() net.Addr { return p.door.listener.Addr() }

// Ended is closed when connections are no longer served; Err then says why.
func (p *Place) Ended() <-chan struct{} { return p.server.ended }

// Err is why connections are no longer served: nil after Leave.
func (p *Place) Err() error { return p.server.err }

// Leave gives the place up. The last to leave closes the door; the last one with its settings
// closes their connections, once the requests in progress are answered or ctx ends.
func (p *Place) Leave(ctx context.Context) error {
	if !p.door.leave(p) {
		return nil
	}
	return p.server.end(ctx)
}

// end waits for the requests in progress, until ctx ends, and for every goroutine.
func (s *server) end(ctx context.Context) error {
	if s.lane != nil {
		stop := context.AfterFunc(ctx, s.lane.cut)
		defer stop()
	}
	if err := s.http.Shutdown(ctx); err != nil {
		_ = s.http.Close() // the connections that are left are the ones to cut off
	}
	if s.lane != nil {
		_ = s.lane.Close() // the server has closed it, unless it never came to serve
		s.lane.done.Wait()
	}
	<-s.ended
	s.working.Lock() // until the last handler has returned
	defer s.working.Unlock()
	return s.err
}

// leave removes p, and reports whether it was the last of its server.
func (d *door) leave(p *Place) (last bool) {
	open.Lock()
	defer open.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	i := slices.Index(d.places, p)
	if i < 0 {
		return false
	}
	d.places = slices.Delete(d.places, i, i+1)
	d.newest.Store(nil)
	if n := len(d.places); n > 0 {
		d.newest.Store(d.places[n-1])
	}
	if p.server.places--; p.server.places > 0 {
		for _, other := range d.places {
			if other.server == p.server {
				p.server.tls.Store(other.tls)
			}
		}
		return false
	}
	i = slices.Index(d.servers, p.server)
	d.servers = slices.Delete(d.servers, i, i+1)
	if len(d.servers) == 0 {
		if d.key != "" {
			delete(open.doors, d.key)
		}
		_ = d.listener.Close() // nothing is lost by a failure: the socket is gone in any case
	}
	p.server.left.Store(true)
	_ = p.server.gate.Close()
	return true
}
