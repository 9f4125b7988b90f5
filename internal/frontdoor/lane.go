package frontdoor

import (
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// Express serves connections in place of net/http for as long as it understands them. It
// belongs to no host: it asks a line for the one of each request. Values of one type that are
// equal are the same express.
type Express interface {
	// Serve serves requests until the connection is to end, until one comes that is for
	// net/http, or until the line has moved: on is true in these two cases, and rest what was
	// read from there.
	Serve(l *Line) (rest []byte, on bool)
}

// Line is a connection that an Express serves.
type Line struct {
	net.Conn
	lane *lane
	busy atomic.Bool
	by   time.Time
}

// Settings are those of the connection.
func (x *Line) Settings() Settings { return x.lane.settings }

// HeadBy says until when the head of the request that begins now has to be there, if net/http
// comes to read it.
func (x *Line) HeadBy(t time.Time) { x.by = t }

// Busy says whether the connection is between the first byte of a request and its answer. One
// that is not busy is woken, by a read that fails, when its server ends.
func (x *Line) Busy(on bool) { x.busy.Store(on) }

// Closing reports whether the connection is to end after its next answer: nobody is left.
func (x *Line) Closing() bool { return x.lane.ended() && !x.lane.door.manned() }

// Moved reports whether the connection is to go on to a server with other settings, between
// two requests.
func (x *Line) Moved() bool { return x.lane.ended() && x.lane.door.manned() }

// Host is who gets a request for a host name, as its header has it, and a clean path; nil when
// nobody does.
func (x *Line) Host(name, path []byte) Host { return x.lane.door.host(name, path) }

// lane is the listener of a server with an Express, which has the connections before it.
type lane struct {
	*gate
	settings Settings
	door     *door
	log      *slog.Logger

	handed chan accepted
	closed chan struct{}
	once   sync.Once
	mu     sync.Mutex
	open   map[*Line]struct{}
	done   sync.WaitGroup // run, and the lines
}

func newLane(g *gate, s Settings, d *door, log *slog.Logger) *lane {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	l := &lane{gate: g, settings: s, door: d, log: log, handed: make(chan accepted), closed: make(chan struct{}), open: map[*Line]struct{}{}}
	l.done.Go(l.run)
	return l
}

// Accept gives net/http the connections that were handed over.
func (l *lane) Accept() (net.Conn, error) {
	select {
	case a := <-l.handed:
		return a.conn, a.err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// ended reports whether the lane is closed.
func (l *lane) ended() bool {
	select {
	case <-l.closed:
		return true
	default:
		return false
	}
}

// hand passes a connection, or the error of accepting one, to net/http; false when the lane
// is closed.
func (l *lane) hand(a accepted) bool {
	select {
	case l.handed <- a:
		return true
	case <-l.closed:
		return false
	}
}

// Close ends accepting, and wakes the connections that wait for a request, which end.
func (l *lane) Close() error {
	l.once.Do(func() { close(l.closed) })
	err := l.gate.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	for x := range l.open {
		if !x.busy.Load() {
			_ = x.SetReadDeadline(time.Unix(1, 0))
		}
	}
	return err
}

// cut closes the connections that are left.
func (l *lane) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for x := range l.open {
		_ = x.Conn.Close()
	}
}

// run accepts connections until the lane is closed. Errors are net/http's, which waits before
// it accepts again, or ends.
func (l *lane) run() {
	for {
		conn, err := l.gate.Accept()
		if err != nil {
			if !l.hand(accepted{err: err}) {
				return
			}
			continue
		}
		x := &Line{Conn: conn, lane: l}
		l.mu.Lock()
		l.open[x] = struct{}{}
		l.mu.Unlock()
		l.done.Go(x.run)
	}
}

func (x *Line) run() {
	rest, on := x.serve()
	l := x.lane
	l.mu.Lock()
	delete(l.open, x)
	l.mu.Unlock()
	if !on {
		_ = x.Conn.Close()
		return
	}
	_ = x.SetDeadline(time.Time{})
	a := accepted{conn: x.Conn}
	if len(rest) > 0 {
		a.conn = &prefixed{Conn: x.Conn, prefix: rest, by: x.by}
	}
	if l.ended() || !l.hand(a) {
		// The server that takes it may be full for long, which is not this lane's to wait for.
		go l.door.pass(a)
	}
}

// serve ends with the connection when it panics, and with nothing else.
func (x *Line) serve() (rest []byte, on bool) {
	defer func() {
		if r := recover(); r != nil {
			x.lane.log.Error("panic while serving a request; its connection is closed", "error", fmt.Sprint(r), "stack", string(debug.Stack()))
			rest, on = nil, false
		}
	}()
	return x.lane.settings.Express.Serve(x)
}

// prefixed is a connection of which something was read already: the beginning of a request,
// whose head has to be there by then, or later when that is zero.
type prefixed struct {
	net.Conn
	prefix []byte
	by     time.Time
}

// SetReadDeadline is called first for the head, which began when its first byte came.
func (p *prefixed) SetReadDeadline(t time.Time) error {
	if by := p.by; !by.IsZero() {
		p.by = time.Time{}
		if by.Before(t) {
			t = by
		}
	}
	return p.Conn.SetReadDeadline(t)
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.prefix) > 0 {
		n := copy(b, p.prefix)
		if p.prefix = p.prefix[n:]; len(p.prefix) == 0 {
			p.prefix = nil
		}
		return n, nil
	}
	return p.Conn.Read(b)
}
