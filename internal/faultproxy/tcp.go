package faultproxy

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Direction is which way bytes go.
type Direction int

// The directions.
const (
	ToServer Direction = iota
	ToClient
)

// TCP passes the bytes of connections between clients and a server.
type TCP struct {
	// Address is host and port for clients.
	Address string

	listener net.Listener
	wg       sync.WaitGroup

	mu      sync.Mutex
	changed *sync.Cond // whenever what is below changes
	server  string
	conns   map[*tcpConn]struct{}
	opened  int
	closed  bool
	refuse  bool
	frozen  [2]bool
	delay   time.Duration
	idle    time.Duration
	left    [2]int // bytes until the connections are cut; negative: no end
	passed  [2]int64
}

// tcpConn is a client's connection and the one to the server.
type tcpConn struct {
	ends [2]net.Conn // by the direction they are written to: ToServer is the server's
	last time.Time   // when bytes passed
	dead atomic.Bool
}

// cut resets both ends. Who waits for the proxy to change is told by the caller.
func (c *tcpConn) cut() {
	c.dead.Store(true)
	for _, end := range c.ends {
		if tcp, ok := end.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a reset, as of a machine that has gone
		}
		_ = end.Close()
	}
}

// NewTCP listens on a free port of the loopback interface and passes on to server; an empty one
// is set later, by [TCP.To].
func NewTCP(t testing.TB, server string) *TCP {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &TCP{Address: l.Addr().String(), listener: l, server: server, conns: map[*tcpConn]struct{}{}, left: [2]int{-1, -1}}
	p.changed = sync.NewCond(&p.mu)
	p.wg.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

func (p *TCP) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	_ = p.listener.Close()
	p.Cut()
	p.wg.Wait()
}

// set changes what holds for connections, and tells them.
func (p *TCP) set(f func()) {
	p.mu.Lock()
	f()
	p.mu.Unlock()
	p.changed.Broadcast()
}

// To leads new connections to another server.
func (p *TCP) To(server string) { p.set(func() { p.server = server }) }

// Cut resets every connection. New ones are taken.
func (p *TCP) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.cut()
	}
	p.changed.Broadcast()
}

// Refuse resets new connections until Accept; those that are open stay.
func (p *TCP) Refuse() { p.set(func() { p.refuse = true }) }

// Accept takes new connections again.
func (p *TCP) Accept() { p.set(func() { p.refuse = false }) }

// Freeze holds all bytes, of new connections too, without closing anything.
func (p *TCP) Freeze() { p.set(func() { p.frozen = [2]bool{true, true} }) }

// FreezeTo holds the bytes of one direction.
func (p *TCP) FreezeTo(d Direction) { p.set(func() { p.frozen[d] = true }) }

// Thaw lets everything pass again.
func (p *TCP) Thaw() { p.set(func() { p.frozen = [2]bool{} }) }

// Delay holds each piece of data back for d, in each direction, from now on.
func (p *TCP) Delay(d time.Duration) { p.set(func() { p.delay = d }) }

// IdleClose closes connections on which nothing has passed for d, from now on; zero never does.
func (p *TCP) IdleClose(d time.Duration) {
	p.set(func() { p.idle = d })
	if d > 0 {
		p.wg.Go(func() { p.watch(d) })
	}
}

// CutAfter resets all connections when n more bytes have passed in a direction. With ToClient
// and 0 the next answer is lost, and what was asked is done.
func (p *TCP) CutAfter(d Direction, n int) { p.set(func() { p.left[d] = n }) }

// HalfClose ends one direction of every connection: who reads there sees the end of the data,
// and can still write.
func (p *TCP) HalfClose(d Direction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		if tcp, ok := c.ends[d].(*net.TCPConn); ok {
			_ = tcp.CloseWrite()
		}
	}
}

// Open is how many connections there are, and Opened how many there have been.
func (p *TCP) Open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns)
}

// Opened is how many connections were taken since the beginning.
func (p *TCP) Opened() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.opened
}

// Passed is how many bytes have gone in a direction.
func (p *TCP) Passed(d Direction) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.passed[d]
}

func (p *TCP) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.serve(client) })
	}
}

func (p *TCP) serve(client net.Conn) {
	p.mu.Lock()
	to, refused := p.server, p.refuse || p.closed
	p.mu.Unlock()
	if refused {
		(&tcpConn{ends: [2]net.Conn{client, client}}).cut()
		return
	}
	server, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(context.Background(), "tcp", to)
	if err != nil {
		(&tcpConn{ends: [2]net.Conn{client, client}}).cut()
		return
	}
	c := &tcpConn{ends: [2]net.Conn{server, client}, last: time.Now()}
	p.mu.Lock()
	p.conns[c] = struct{}{}
	p.opened++
	closed := p.closed
	p.mu.Unlock()
	if closed {
		c.cut()
	}
	defer p.changed.Broadcast()
	var pipes sync.WaitGroup
	pipes.Go(func() { p.pipe(c, ToServer) })
	pipes.Go(func() { p.pipe(c, ToClient) })
	pipes.Wait()
	_ = client.Close()
	_ = server.Close()
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
}

// piece is data with the time when it may go on.
type piece struct {
	data []byte
	at   time.Time
}

// pipe passes one direction of a connection until it ends or is cut. What is read early waits
// in a short line, so that a delay takes time from no throughput.
func (p *TCP) pipe(c *tcpConn, d Direction) {
	from, to := c.ends[1-d], c.ends[d]
	line, done := make(chan piece, 64), make(chan struct{})
	p.wg.Go(func() {
		defer close(line)
		for {
			buffer := make([]byte, 32<<10)
			n, err := from.Read(buffer)
			if n > 0 {
				p.mu.Lock()
				wait := p.delay
				p.mu.Unlock()
				select {
				case line <- piece{buffer[:n], time.Now().Add(wait)}:
				case <-done:
					return
				}
			}
			if err != nil {
				return
			}
		}
	})
	defer close(done)
	for next := range line {
		if wait := time.Until(next.at); wait > 0 {
			<-time.After(wait)
		}
		if !p.pass(c, d, to, next.data) {
			c.cut()
			return
		}
	}
	if tcp, ok := to.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
}

// pass writes data when it may; false means that the connection is to be cut.
func (p *TCP) pass(c *tcpConn, d Direction, to io.Writer, data []byte) bool {
	p.mu.Lock()
	for p.frozen[d] && !p.closed && !c.dead.Load() {
		p.changed.Wait()
	}
	last := false
	var others []*tcpConn
	if p.left[d] >= 0 {
		if last = len(data) > p.left[d]; last {
			data = data[:p.left[d]]
			for other := range p.conns {
				if other != c {
					others = append(others, other)
				}
			}
			p.left[d] = -1
		} else {
			p.left[d] -= len(data)
		}
	}
	p.passed[d] += int64(len(data))
	c.last = time.Now()
	p.mu.Unlock()
	for _, other := range others {
		other.cut()
	}
	if c.dead.Load() {
		return false
	}
	if len(data) > 0 {
		if _, err := to.Write(data); err != nil {
			return false
		}
	}
	return !last
}

// watch closes connections that are idle for d, for as long as that is asked for.
func (p *TCP) watch(d time.Duration) {
	tick := time.NewTicker(min(d/4, 50*time.Millisecond))
	defer tick.Stop()
	for range tick.C {
		p.mu.Lock()
		if p.closed || p.idle != d {
			p.mu.Unlock()
			return
		}
		for c := range p.conns {
			if time.Since(c.last) >= d {
				_ = c.ends[ToClient].Close()
				_ = c.ends[ToServer].Close()
			}
		}
		p.mu.Unlock()
	}
}
