// Package frontdoor is the one server of every door: sources that take events by HTTP, and what
// operators see. It keeps an address open while those who serve it are replaced, lets several
// share it by host name and path ([Route]), reads bodies within a budget ([Reader]), and lets
// requests wait for their events ([Hall]).
//
// # Doors
//
// A door is one listening address of the process. Hosts enter it, serve requests, and leave.
// A host that enters while another one of the same owner is there is its successor: a reload
// builds the new pipeline before the old one has drained, and both have the same address. The
// address stays bound and connections stay open, so that clients notice nothing.
//
// Owners may share an address where their routes differ; the more specific route has a request.
// They share its connections too: of what their settings allow, the most holds.
//
// # Invariants
//
//   - Of the hosts of the owner whose route it matches, a request goes to the newest that leads,
//     which is one that has begun its work; when none does, to the newest. A host that no longer
//     accepts gets none while another does.
//   - No request could be for two owners: a route that leaves that open, a connection that would
//     have to speak in two ways (TLS), and another process are refused.
//   - A connection has the time for a request's head from its first byte on, and the first one
//     from the connection's beginning, whoever reads it; so silence and drips end.
//   - An answer that comes before its body was read does not cut off a client that still sends:
//     what is left is read and thrown away, up to a bound.
//   - Connections are served by one HTTP server for each set of [Settings]; when a successor
//     has other settings, new connections are its own, and old ones live until the host that
//     brought their settings leaves. Those that an [Express] serves then go to the new server.
//   - Whom a connection was let in by, the authorities of the newest host decide: with others than
//     before, connections are a new server's as with other settings, and whoever came in by those
//     of before comes in again, or does not.
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
	// AnswerTimeout is the longest time that an Express may need for an answer.
	AnswerTimeout time.Duration
	// MaxHeaderBytes is the most bytes of a request's header.
	MaxHeaderBytes int
	// MaxConnections is the most connections open at once; more wait to be accepted.
	MaxConnections int
	// TLS says that connections are encrypted, and Identity by the certificates of which files: a
	// text that is equal for the same ones, whatever they hold.
	TLS      bool
	Identity string
	// Express, if set, has the connections before net/http, unless they are encrypted.
	Express Express
}

// Door says where a host wants to serve.
type Door struct {
	// Address to listen on, as "host:port". Port 0 takes a free one and is never shared.
	Address string
	// Owner may enter again before it has left; empty shares with nobody.
	Owner string
	// Route is which requests are the owner's, where it shares the address.
	Route Route
	Settings
	// Certificates is the TLS config, when Settings.TLS is set. New connections have that of
	// the newest host.
	Certificates *tls.Config
	// Log gets what the HTTP server has to say, at debug level.
	Log *slog.Logger
}

// Shared reports whether others may enter at this address while a host is there.
func (at Door) Shared() bool { return at.Owner != "" && shared(at.Address) != "" }

// Place is a host's place at a door.
type Place struct {
	door     *door
	room     *room
	server   *server
	host     Host
	route    Route
	settings Settings
	tls      *tls.Config
	leading  atomic.Bool
}

// door is one address.
type door struct {
	key      string // in open; empty when it is not shared
	listener net.Listener
	files    files

	table atomic.Pointer[table] // who gets which request; nil until a request asks, see owners

	mu      sync.Mutex
	rooms   []*room   // in the order their owners came
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
	if at.Owner != "" {
		key = shared(at.Address)
	}
	d := open.doors[key]
	if d == nil {
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", at.Address)
		if err != nil {
			return nil, fault.New(fault.Setup, fmt.Errorf("listen on %s: %w", at.Address, err))
		}
		d = &door{key: key, listener: l, files: files{log: at.Log, address: l.Addr().String()}}
		if key != "" {
			open.doors[key] = d
		}
	}
	return d.enter(at, host)
}

func (d *door) enter(at Door, host Host) (*Place, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := &Place{door: d, host: host, route: at.Route, settings: at.Settings}
	if at.TLS {
		p.tls = at.Certificates.Clone()
		p.tls.NextProtos = []string{"h2", "http/1.1"}
	}
	settings := at.Settings
	for _, r := range d.rooms {
		last := r.places[len(r.places)-1]
		if r.owner == at.Owner {
			p.room = r
			continue
		}
		if c := clash(last.claim(at.Address), p.claim(at.Address)); c != nil {
			if c.Why != "" {
				c.Why = ", and " + c.Why
			}
			return nil, fault.New(fault.Setup, fmt.Errorf("listen on %s: %s of this process listens there already%s; %s", at.Address, r.owner, c.Why, c.Fix))
		}
		settings = settings.with(last.settings)
	}
	if p.room == nil {
		p.room = &room{owner: at.Owner}
		d.rooms = append(d.rooms, p.room)
	}
	p.room.places = append(p.room.places, p)
	first := len(d.servers) == 0
	if first || d.servers[len(d.servers)-1].settings != settings || !sameAuthorities(d.servers[len(d.servers)-1].tls.Load(), p.tls) {
		d.servers = append(d.servers, d.serve(at, settings))
	}
	p.server = d.servers[len(d.servers)-1]
	p.server.places++
	p.server.tls.Store(p.tls)
	p.room.newest.Store(p)
	d.table.Store(nil)
	if first {
		go d.accept()
	}
	return p, nil
}

// sameAuthorities reports whether a and b let in the same clients.
func sameAuthorities(a, b *tls.Config) bool {
	if a == nil || b == nil || a.ClientCAs == nil || b.ClientCAs == nil {
		return (a == nil || a.ClientCAs == nil) == (b == nil || b.ClientCAs == nil)
	}
	return a.ClientCAs.Equal(b.ClientCAs)
}

// with is what connections need that are for hosts of s and of o.
func (s Settings) with(o Settings) Settings {
	s.ReadHeaderTimeout = max(s.ReadHeaderTimeout, o.ReadHeaderTimeout)
	s.IdleTimeout = max(s.IdleTimeout, o.IdleTimeout)
	s.AnswerTimeout = max(s.AnswerTimeout, o.AnswerTimeout)
	s.MaxHeaderBytes = max(s.MaxHeaderBytes, o.MaxHeaderBytes)
	s.MaxConnections = max(s.MaxConnections, o.MaxConnections)
	if s.Express == nil {
		s.Express = o.Express
	}
	return s
}

// serve starts a server with settings, for at among others.
func (d *door) serve(at Door, settings Settings) *server {
	s := &server{settings: settings, gate: newGate(d.listener.Addr(), settings.MaxConnections), ended: make(chan struct{})}
	s.http = &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.working.RLock()
			defer s.working.RUnlock()
			patiently(w, r, d.dispatch)
		}),
		ReadHeaderTimeout: settings.ReadHeaderTimeout,
		IdleTimeout:       settings.IdleTimeout,
		MaxHeaderBytes:    settings.MaxHeaderBytes,
	}
	if at.Log != nil {
		s.http.ErrorLog = slog.NewLogLogger(at.Log.Handler(), slog.LevelDebug)
	}
	var listener net.Listener = s.gate
	if settings.Express != nil && !settings.TLS {
		s.lane = newLane(s.gate, settings, d, at.Log)
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
		d.files.note(err)
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
		if newest.left.Load() {
			continue // another is the newest by now, or nobody is left
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

// Lead says that the host has begun its work, so that requests go to it and not to those
// that came before it.
func (p *Place) Lead() {
	if !p.leading.Load() {
		p.leading.Store(true)
	}
}

// Successor is a host that accepts what this one cannot any more; nil when there is none.
func (p *Place) Successor() Host {
	if h := p.room.host(&p.door.mu); h != nil && h != p.host && h.Accepting() {
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
	i := slices.Index(p.room.places, p)
	if i < 0 {
		return false
	}
	p.room.places = slices.Delete(p.room.places, i, i+1)
	if len(p.room.places) == 0 {
		d.rooms = slices.DeleteFunc(d.rooms, func(r *room) bool { return r == p.room })
	} else {
		p.room.newest.Store(p.room.places[len(p.room.places)-1])
	}
	d.table.Store(nil)
	if p.server.places--; p.server.places > 0 {
		for _, r := range d.rooms {
			for _, other := range r.places {
				if other.server == p.server {
					p.server.tls.Store(other.tls)
				}
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
