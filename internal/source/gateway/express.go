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
//	Authorization that is the write key of a source, at most one Origin, lines that end with
//	CR LF, names and values of plain characters, none of the headers that change how a request
//	is read or answered, and at most maxExpress bytes in all; and
//	OPTIONS with such a path and such lines, without a body, that asks for a page of an Origin
//	whether it may send that
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
	x := &line{Line: l, settings: l.Settings(), ip: gateway.HostOf(l.RemoteAddr().String()), small: make([]byte, 0, firstLine), born: time.Now(), fresh: true}
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
	settings frontdoor.Settings
	s        *session // who has the request
	ip       string
	buf      []byte            // what was read and not served
	small    []byte            // the memory of buf, but for large requests
	large    *frontdoor.Body   // their memory
	budget   *frontdoor.Budget // that the memory is taken from
	until    time.Time         // the deadline of an idle connection
	born     time.Time
	fresh    bool // no request has come yet
	handing  bool // the connection goes to net/http
}

// route finds who has a request; false when it is no gateway.
func (x *line) route(q *quick) bool {
	x.s = nil
	if stay, ok := x.Host(q.host, q.path).(*frontdoor.Stay); ok {
		x.s, _ = stay.Handler().(*session)
	}
	return x.s != nil
}

// request serves one request; false when it was the last.
func (x *line) request() bool {
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
	for hurried := 0; ; {
		switch q.parse(x.buf) {
		case odd:
			x.handing = true
			return false
		case whole:
			if x.fresh {
				x.fresh, x.until = false, time.Time{}
			}
			a, ok := x.serve(&q)
			if !ok || !x.answer(&q, a, x.Closing()) {
				return false
			}
			x.drop(&q)
			return !x.Closing()
		}
		stage := 1
		if q.head > 0 {
			stage = 2
		}
		if hurried < stage && !x.hurry(stage) {
			return false
		}
		hurried = stage
		if q.length > maxIdle && q.head > 0 && !(x.route(&q) && x.grow(q.head+q.length)) {
			x.handing = true
			return false
		}
		if !x.read() {
			return false
		}
	}
}

// hurry bounds the time for what is still to come of a request: from its first byte on that of
// its head, in the first stage, and then that of its body. The head of the first request has
// the time from the connection's beginning.
func (x *line) hurry(stage int) bool {
	by := time.Now().Add(x.settings.ReadHeaderTimeout)
	if stage == 1 && x.fresh {
		by = x.born.Add(x.settings.ReadHeaderTimeout)
	}
	x.until = time.Time{}
	if stage == 1 {
		x.HeadBy(by)
	}
	return x.SetReadDeadline(by) == nil
}

// grow makes room for a large request; false when the budget has none.
func (x *line) grow(size int) bool {
	if x.large != nil && cap(x.buf) >= size {
		return true
	}
	b := frontdoor.NewBody(x.s.Budget)
	if b.Take(int64(size)) != nil {
		b.Release()
		return false
	}
	x.buf = append(b.Data[:0], x.buf...)
	if x.large != nil {
		x.large.Release()
	}
	x.large, x.budget = b, x.s.Budget
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

// rest lets an idle connection end in time, and sooner one that has never sent a request.
// Setting a deadline costs something, so that it is moved on only when an eighth of the time has
// passed.
func (x *line) rest() bool {
	now, idle := time.Now(), x.settings.IdleTimeout
	if x.fresh {
		idle = min(idle, x.settings.ReadHeaderTimeout)
		x.HeadBy(x.born.Add(x.settings.ReadHeaderTimeout))
	} else {
		x.HeadBy(time.Time{})
	}
	if x.until.Sub(now) > idle-idle/8 {
		return true
	}
	x.until = now.Add(idle)
	// A request that begins before then is answered before this:
	answered := x.until.Add(2*x.settings.ReadHeaderTimeout + x.settings.AnswerTimeout + writeGrace)
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

// serve finds the answer of a whole request. When it needs one that is not one of its events',
// the connection is handed over with the request.
func (x *line) serve(q *quick) (*gateway.Answer, bool) {
	for asked := (*session)(nil); x.route(q) && x.s != asked; asked = x.s {
		if q.preflight {
			return gateway.Preflight, true
		}
		if a := x.events(q); a != nil {
			return a, true
		}
		if x.s.Accepting() {
			break
		}
		// It has stopped accepting just now: its successor has the request, and the
		// connection stays here.
	}
	x.handing = true
	return nil, false
}

// drop takes a request that was answered out of the buffer.
func (x *line) drop(q *quick) {
	rest := copy(x.buf, x.buf[q.head+q.length:])
	x.buf = x.buf[:rest]
}

// events takes the events of a request and waits for their answer; nil when it is for net/http
// to give another.
func (x *line) events(q *quick) *gateway.Answer {
	ip := x.ip
	if q.forwarded != nil {
		ip = gateway.FirstAddress(string(q.forwarded), ip)
	}
	var call gateway.Call
	if !x.s.Accepting() || !x.s.door.Quick(&call, q.path, q.authorization, ip, time.Now()) {
		return nil
	}
	if x.s.Refusing() {
		return x.s.told(&call, gateway.Unavailable, 0)
	}
	if int64(q.length) > x.s.Body.Limit || !x.s.Budget.Enter() {
		return nil
	}
	body := frontdoor.BodyOf(x.buf[q.head : q.head+q.length])
	if q.packed {
		var err error
		if body, err = x.s.Body.Unpack("gzip", body.Data); err != nil {
			x.s.Budget.Leave(0)
			return nil
		}
	}
	return call.Done(x.s.accept(&call, body, q.trace()))
}

var okHead = []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 2\r\nDate: ")

// answer writes a; false when the connection ends with it.
func (x *line) answer(q *quick, a *gateway.Answer, last bool) bool {
	x.s.Answered(a.Code)
	var space [1024]byte
	out := space[:0]
	if a == gateway.OK {
		out = append(append(append(out, okHead...), date()...), "\r\n"...)
	} else {
		out = append(append(append(out, "HTTP/1.1 "...), strconv.Itoa(a.Code)...), ' ')
		out = append(append(out, http.StatusText(a.Code)...), "\r\nDate: "...)
		out = append(append(out, date()...), "\r\n"...)
		if a.Type != "" {
			out = append(append(append(out, "Content-Type: "...), a.Type...), "\r\nContent-Length: "...)
			out = append(strconv.AppendInt(out, int64(len(a.Body)), 10), "\r\n"...)
		}
		if a.Code >= 400 {
			out = append(out, "X-Content-Type-Options: nosniff\r\n"...)
		}
		if a.Event != "" {
			out = append(append(append(out, gateway.HeaderEvent+": "...), a.Event...), "\r\n"...)
		}
		if after := a.RetryAfter(x.s.c.RetryAfterSeconds); after > 0 {
			out = append(strconv.AppendInt(append(out, "Retry-After: "...), int64(after), 10), "\r\n"...)
		}
	}
	if q.preflight {
		out = x.s.door.AppendPreflight(out, q.origin, q.method, q.headers)
	} else {
		out = x.s.door.AppendCORS(out, q.origin, a)
	}
	if last {
		out = append(out, "Connection: close\r\n"...)
	}
	out = append(append(out, "\r\n"...), a.Body...)
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
