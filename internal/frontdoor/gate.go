package frontdoor

import (
	"net"
	"sync"
)

// accepted is a connection, or why there is none.
type accepted struct {
	conn net.Conn
	err  error
}

// gate is the listener of one server: it gets the connections that the door passes to it, as
// many as may be open at once. One that it took is always served, even when the gate closes.
type gate struct {
	addr   net.Addr
	room   chan struct{} // has an element for each open connection
	queue  chan accepted // without a buffer: a connection is never left in it
	closed chan struct{}
	once   sync.Once
}

func newGate(addr net.Addr, connections int) *gate {
	return &gate{
		addr: addr, room: make(chan struct{}, max(connections, 1)),
		queue: make(chan accepted), closed: make(chan struct{}),
	}
}

// offer passes a connection in; false when the gate is closed.
func (g *gate) offer(a accepted) bool {
	select {
	case g.queue <- a:
		return true
	case <-g.closed:
		return false
	}
}

// Accept implements net.Listener.
func (g *gate) Accept() (net.Conn, error) {
	select {
	case g.room <- struct{}{}:
	case <-g.closed:
		return nil, net.ErrClosed
	}
	leave := func() { <-g.room }
	select {
	case a := <-g.queue:
		if a.err != nil {
			leave()
			return nil, a.err
		}
		return &conn{Conn: a.conn, leave: sync.OnceFunc(leave)}, nil
	case <-g.closed:
		leave()
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (g *gate) Close() error {
	g.once.Do(func() { close(g.closed) })
	return nil
}

// Addr implements net.Listener.
func (g *gate) Addr() net.Addr { return g.addr }

// conn is a connection that makes room when it is closed.
type conn struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.leave()
	return err
}
