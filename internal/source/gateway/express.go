package gatewaysource

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/weirdata/weir/internal/frontdoor"
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

// express serves connections of any gateway: each request goes to the one that has it now.
type express struct{}

// Serve implements frontdoor.Express.
func (express) Serve(l *frontdoor.Line) (rest []byte, on bool) {
	x := &line{Line: l, ip: gateway.HostOf(l.RemoteAddr().String()), small: make([]byte, 0, firstLine)}
	x.buf = x.small
	defer func() {
		if x.large != nil && !x.handing { // else its memory is still in use
			x.large.Release()
		} else if x.large != nil {
			x.budget.Shrink(x.large.Keep())
		}
	}()
	for x.request() {
	}
	return x.buf, x.handing
}

// line is a connection on which express serves.
type line struct {
	*frontdoor.Line
	s       *Source // who has the request now
	ip      string
	buf     []byte            // what was read and not served
	small   []byte            // the memory of buf, but for large requests
	large   *frontdoor.Body   // their memory
	budget  *frontdoor.Budget // that the memory is taken from
	until   time.Time         // the deadline of an idle connection
	handing bool              // the connection goes to net/http
}

// host finds who has the next request; false when it is no gateway.
func (x *line) host() bool {
	s, ok := x.Host().(*Source)
	if !ok {
		x.handing = true
		return false
	}
	x.s = s
	return true
}

// request serves one request; false when it was the last.
func (x *line) request() bool {
	if !x.host() {
		return false
	}
	if len(x.buf) == 0 {
		x.shrink()
		x.Busy(false)
		if !x.rest() || x.Closing() {
			return false
		}
		if x.Moved() || !x.read() {
			x.handing = x.Moved()
			return false
		}
	}
	x.Busy(true)
	var q quick
	for limited := false; ; {
		switch q.parse(x.buf) {
		case odd:
			x.handing = true
			return false
		case whole:
			a, ok := x.serve(&q)
			return ok && x.answer(a, x.Closing()) && !x.Closing()
		}
		if q.length > maxIdle && q.head > 0 && !x.grow(q.head+q.length) {
			x.handing = true
			return false
		}
		if !limited { // the request is there in part: from now on it has to hurry
			limited = true
			x.until = time.Time{}
			if x.SetReadDeadline(time.Now().Add(x.s.readTimeout())) != nil {
				return false
			}
		}
		if !x.read() {
			return false
		}
	}
}

// grow makes room for a large request; false when the budget has none.
func (x *line) grow(size int) bool {
	if x.large != nil && cap(x.buf) >= size {
		return true
	}
	b := frontdoor.NewBody(x.s.budget)
	if b.Take(int64(size)) != nil {
		b.Release()
		return false
	}
	x.buf = append(b.Data[:0], x.buf...)
	if x.large != nil {
		x.large.Release()
	}
	x.large, x.budget = b, x.s.budget
	return true
}

// shrink gives up the memory of a large request.
func (x *line) shrink() {
	if x.large != nil {
		x.large.Release()
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
	return x.SetReadDeadline(x.until) == nil && x.SetWriteDeadline(answered) == nil
}

// read reads more of a request; false at the end of the connection.
func (x *line) read() bool {
	if len(x.buf) == cap(x.buf) {
		x.buf = append(x.buf, 0)[:len(x.buf)]
	}
	n, err := x.Read(x.buf[len(x.buf):cap(x.buf)])
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
	if !x.host() || !x.s.Accepting() || !x.s.door.Quick(&call, q.path, q.authorization, ip, time.Now()) || !x.s.budget.Enter() {
		x.handing = true
		return nil, false
	}
	body := frontdoor.BodyOf(x.buf[q.head : q.head+q.length])
	if q.packed {
		var err error
		if body, err = x.s.reader.Unpack("gzip", body.Data); err != nil {
			x.s.budget.Leave(0)
			x.handing = true
			return nil, false
		}
	}
	a = x.s.accept(&call, body, q.trace())
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
	_, err := x.Write(out)
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
