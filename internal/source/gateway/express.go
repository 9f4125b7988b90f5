package gatewaysource

import (
	"fmt"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirdata/weir/internal/gateway"
)

// Most requests to a gateway are alike: a POST of some hundred bytes over a connection
// that stays. express serves these without the generality of net/http, which would cost
// more than all the rest. It understands one plain form of a request and nothing else:
//
//	POST with a path that takes events, HTTP/1.1, one Host, one Content-Length, an
//	Authorization that is the write key of a source, lines that end with CR LF, names and
//	values of plain characters, none of the headers that change how a request is read or
//	answered, and at most maxExpress bytes in all
//
// The first request that is anything else hands the connection, with every byte that was
// read of that request, to net/http for good. So there is one place that decides how odd
// requests are read, and express never has to refuse one.

const (
	maxExpress = 128 << 10 // largest request, in bytes
	firstLine  = 4 << 10   // the memory, in bytes, that a connection starts with
	maxIdle    = 8 << 10   // most memory, in bytes, that an idle connection keeps
	// writeGrace is how long at least a client has to take its answer.
	writeGrace = 30 * time.Second
)

// line is a connection on which express serves.
type line struct {
	s       *Source
	conn    net.Conn
	ip      string
	buf     []byte      // what was read and not served
	small   []byte      // the memory of buf, but for large requests
	large   *buffer     // their memory
	until   time.Time   // the deadline of an idle connection
	held    int64       // bytes of a large request, taken from the hall
	busy    atomic.Bool // between the first byte of a request and its answer
	handing bool        // the connection goes to net/http
}

// lines are the open ones, and the listener through which connections go to net/http.
type lines struct {
	net.Listener
	mu     sync.Mutex
	open   map[*line]struct{}
	handed chan net.Conn
	closed chan struct{}
	once   sync.Once
	done   sync.WaitGroup
}

func newLines(ln net.Listener) *lines {
	return &lines{Listener: ln, open: map[*line]struct{}{}, handed: make(chan net.Conn), closed: make(chan struct{})}
}

// Accept gives net/http the connections that were handed over.
func (l *lines) Accept() (net.Conn, error) {
	select {
	case c := <-l.handed:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close ends accepting, and wakes the connections that wait for a request, which end.
func (l *lines) Close() error {
	l.once.Do(func() { close(l.closed) })
	err := l.Listener.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	for x := range l.open {
		if !x.busy.Load() {
			_ = x.conn.SetReadDeadline(time.Unix(1, 0))
		}
	}
	return err
}

// cut closes the connections that are left.
func (l *lines) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for x := range l.open {
		_ = x.conn.Close()
	}
}

func (l *lines) stopped() bool {
	select {
	case <-l.closed:
		return true
	default:
		return false
	}
}

// run accepts connections until the listener is closed. The error is why it ended.
func (l *lines) run(s *Source) error {
	for delay := time.Duration(0); ; {
		conn, err := l.Listener.Accept()
		if l.stopped() {
			if err == nil {
				_ = conn.Close()
			}
			return nil
		}
		if err != nil {
			// Out of file descriptors, mostly: that passes.
			if e, ok := err.(interface{ Temporary() bool }); ok && e.Temporary() { // what net/http asks as well
				delay = min(max(2*delay, 5*time.Millisecond), time.Second)
				timer := time.NewTimer(delay)
				select {
				case <-timer.C:
					continue
				case <-l.closed:
					timer.Stop()
					return nil
				}
			}
			return err
		}
		delay = 0
		x := &line{s: s, conn: conn, ip: gateway.HostOf(conn.RemoteAddr().String())}
		l.mu.Lock()
		l.open[x] = struct{}{}
		l.mu.Unlock()
		l.done.Go(func() { x.run(l) })
	}
}

// run serves requests until the connection ends or is handed over.
func (x *line) run(l *lines) {
	defer func() {
		if r := recover(); r != nil {
			x.s.log.Error("panic while serving a request; its connection is closed", "error", fmt.Sprint(r), "stack", string(debug.Stack()))
			x.handing = false
		}
		l.mu.Lock()
		delete(l.open, x)
		l.mu.Unlock()
		x.s.hall.shrink(x.held)
		if !x.handing {
			_ = x.conn.Close()
			return
		}
		_ = x.conn.SetDeadline(time.Time{})
		select {
		case l.handed <- &prefixed{Conn: x.conn, prefix: x.buf}:
		case <-l.closed:
			_ = x.conn.Close()
		}
	}()
	x.small = make([]byte, 0, firstLine)
	x.buf = x.small
	for x.request(l) {
	}
}

// request serves one request; false when it was the last.
func (x *line) request(l *lines) bool {
	if len(x.buf) == 0 {
		x.shrink()
		x.busy.Store(false)
		if !x.rest() || l.stopped() || !x.read() {
			return false
		}
	}
	x.busy.Store(true)
	var q quick
	for limited := false; ; {
		switch q.parse(x.buf) {
		case odd:
			x.handing = true
			return false
		case whole:
			a, ok := x.serve(&q)
			return ok && x.answer(a, l.stopped()) && !l.stopped()
		}
		if q.length > maxIdle && q.head > 0 && x.held == 0 {
			if !x.s.hall.grow(int64(q.length)) {
				x.handing = true
				return false
			}
			x.held = int64(q.length)
			x.grow(q.head + q.length)
		}
		if !limited { // the request is there in part: from now on it has to hurry
			limited = true
			x.until = time.Time{}
			if x.conn.SetReadDeadline(time.Now().Add(time.Duration(x.s.c.ReadTimeoutMillis)*time.Millisecond)) != nil {
				return false
			}
		}
		if !x.read() {
			return false
		}
	}
}

// grow makes room for a large request.
func (x *line) grow(size int) {
	if cap(x.buf) >= size {
		return
	}
	b := buffers.Get().(*buffer)
	if cap(b.data) < size {
		b.data = make([]byte, 0, size)
	}
	x.buf = append(b.data[:0], x.buf...)
	if x.large != nil {
		x.large.release()
	}
	x.large = b
}

// shrink gives up the memory of a large request.
func (x *line) shrink() {
	if x.large != nil {
		x.large.release()
		x.large = nil
	} else if cap(x.buf) <= maxIdle {
		x.small = x.buf
	}
	x.buf = x.small[:0]
}

// rest lets an idle connection end in time. Setting a deadline costs something, so that
// it is moved on only when an eighth of the time has passed.
func (x *line) rest() bool {
	now, idle := time.Now(), time.Duration(x.s.c.IdleTimeoutMillis)*time.Millisecond
	if x.until.Sub(now) > idle-idle/8 {
		return true
	}
	x.until = now.Add(idle)
	// A request that begins before then is answered before this:
	answered := x.until.Add(time.Duration(x.s.c.ReadTimeoutMillis+x.s.c.ResponseTimeoutMillis)*time.Millisecond + writeGrace)
	return x.conn.SetReadDeadline(x.until) == nil && x.conn.SetWriteDeadline(answered) == nil
}

// read reads more of a request; false at the end of the connection.
func (x *line) read() bool {
	if len(x.buf) == cap(x.buf) {
		x.buf = append(x.buf, 0)[:len(x.buf)]
	}
	n, err := x.conn.Read(x.buf[len(x.buf):cap(x.buf)])
	x.buf = x.buf[:len(x.buf)+n]
	return n > 0 || err == nil
}

// serve answers a whole request and drops it from the buffer. When it needs an answer that
// is not one of its events', the connection is handed over with the request.
func (x *line) serve(q *quick) (a *gateway.Answer, ok bool) {
	ip := x.ip
	if q.forwarded != nil {
		ip = gateway.FirstAddress(string(q.forwarded), ip)
	}
	var call gateway.Call
	if !x.s.door.Quick(&call, q.path, q.authorization, ip, time.Now()) || !x.s.hall.enter() {
		x.handing = true
		return nil, false
	}
	body := x.buf[q.head : q.head+q.length]
	if q.packed {
		b := buffers.Get().(*buffer)
		err := b.gunzip(x.s.hall, body, int64(x.s.c.MaxBodyBytes))
		if err != nil {
			x.s.hall.leave(b.held)
			b.release()
			x.handing = true
			return nil, false
		}
		a = x.s.accept(&call, b)
	} else {
		a = x.s.accept(&call, &buffer{data: body, held: x.held})
		x.held = 0
	}
	x.s.hall.shrink(x.held)
	x.held = 0
	rest := copy(x.buf, x.buf[q.head+q.length:])
	x.buf = x.buf[:rest]
	return a, true
}

var okHead = []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 2\r\nVary: Origin\r\nDate: ")

// answer writes a; false when the connection ends with it.
func (x *line) answer(a *gateway.Answer, last bool) bool {
	var space [512]byte
	out := space[:0]
	if a == gateway.OK && !last {
		out = append(out, okHead...)
		out = append(out, date()...)
	} else {
		out = append(append(append(out, "HTTP/1.1 "...), strconv.Itoa(a.Code)...), ' ')
		out = append(append(out, http.StatusText(a.Code)...), "\r\nContent-Type: "...)
		out = append(append(out, a.Type...), "\r\nContent-Length: "...)
		out = append(strconv.AppendInt(out, int64(len(a.Body)), 10), "\r\nVary: Origin\r\n"...)
		if a.Code >= 400 {
			out = append(out, "X-Content-Type-Options: nosniff\r\n"...)
		}
		if a.Retry {
			out = append(strconv.AppendInt(append(out, "Retry-After: "...), int64(x.s.c.RetryAfterSeconds), 10), "\r\n"...)
		}
		if last {
			out = append(out, "Connection: close\r\n"...)
		}
		out = append(append(out, "Date: "...), date()...)
	}
	out = append(append(out, "\r\n\r\n"...), a.Body...)
	_, err := x.conn.Write(out)
	return err == nil
}

// dated is the Date header of one second.
type dated struct {
	second int64
	text   []byte
}

var lastDate atomic.Pointer[dated]

func date() []byte {
	now := time.Now()
	if d := lastDate.Load(); d != nil && d.second == now.Unix() {
		return d.text
	}
	d := &dated{now.Unix(), now.UTC().AppendFormat(nil, http.TimeFormat)}
	lastDate.Store(d)
	return d.text
}

// prefixed is a connection of which something was read already.
type prefixed struct {
	net.Conn
	prefix []byte
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
