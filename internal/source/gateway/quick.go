package gatewaysource

import (
	"bytes"
	"net/http"

	"github.com/weirdata/weir/internal/gateway"
)

// state is what parse makes of the bytes so far.
type state uint8

const (
	part  state = iota // more must come
	whole              // a request is there
	odd                // a request for net/http
)

// quick is a request as express understands it. Its slices are in the connection's buffer.
type quick struct {
	host, path, authorization, forwarded []byte
	traceparent, tracestate              []byte
	origin                               []byte // of a page that asks; nil without one
	method, headers                      []byte // what a preflight asks for
	packed, preflight                    bool
	head, length                         int // bytes of the head and of the body
}

// parse reads the head of a request.
func (q *quick) parse(data []byte) state {
	if q.head > 0 { // the head was read before
		return q.complete(data)
	}
	const version = " HTTP/1.1"
	verb := "POST "
	if len(data) > 0 && data[0] == 'O' {
		verb = "OPTIONS "
		q.preflight = true
	}
	if !bytes.HasPrefix(data, []byte(verb)) {
		if len(data) < len(verb) && bytes.HasPrefix([]byte(verb), data) {
			return part
		}
		return odd
	}
	end := bytes.Index(data, []byte("\r\n\r\n"))
	if end < 0 {
		if len(data) > maxIdle || bareLine(data) {
			return odd
		}
		return part
	}
	text := data[:end]
	first, rest, _ := bytes.Cut(text, []byte("\r\n"))
	if len(first) < len(verb)+len(version) || !bytes.HasSuffix(first, []byte(version)) {
		return odd
	}
	path := first[len(verb) : len(first)-len(version)]
	if !gateway.Simple(path) {
		return odd
	}
	q.length = -1
	for len(rest) > 0 {
		var header []byte
		header, rest, _ = bytes.Cut(rest, []byte("\r\n"))
		if !q.header(header) {
			return odd
		}
	}
	if !q.plain(end + 4) {
		return odd
	}
	q.head = end + 4
	q.path = path
	if s := q.complete(data); s != part {
		return s
	}
	// What is still to come may move the buffer.
	for _, text := range []*[]byte{&q.host, &q.path, &q.authorization, &q.forwarded, &q.traceparent, &q.tracestate, &q.origin} {
		*text = bytes.Clone(*text)
	}
	return part
}

// plain reports whether the headers are those of a request that is answered here: one with
// events, or the question of a page whether it may send them.
func (q *quick) plain(head int) bool {
	if q.preflight {
		ok := q.length < 0 && q.method != nil && q.origin != nil
		q.length = 0
		return ok && q.host != nil && !q.packed
	}
	return q.length >= 0 && q.host != nil && q.authorization != nil && q.method == nil && head+q.length <= maxExpress
}

// bareLine reports whether a line of data ends without a carriage return, for which nobody
// here waits.
func bareLine(data []byte) bool {
	for i := 0; ; i++ {
		n := bytes.IndexByte(data[i:], '\n')
		if n < 0 {
			return false
		}
		if i += n; i == 0 || data[i-1] != '\r' {
			return true
		}
	}
}

func (q *quick) complete(data []byte) state {
	if len(data) < q.head+q.length {
		return part
	}
	return whole
}

// header reads one header line; false when it is not plain.
func (q *quick) header(header []byte) bool {
	colon := bytes.IndexByte(header, ':')
	if colon <= 0 {
		return false
	}
	name, value := header[:colon], bytes.Trim(header[colon+1:], " \t")
	for _, c := range name {
		if !plainName[c] {
			return false
		}
	}
	for _, c := range value {
		if c < ' ' || c == 0x7f {
			return false
		}
	}
	return q.set(name, value)
}

// set takes what a header says, if that is of use; false when it is not plain.
func (q *quick) set(name, value []byte) bool {
	switch len(name) {
	case len("Host"):
		if is(name, "host") {
			return once(&q.host, value) && len(value) > 0 && !bytes.ContainsAny(value, " ,/@\\")
		}
	case len("Origin"):
		if is(name, "origin") {
			return once(&q.origin, value) && len(value) > 0
		}
	case len("Access-Control-Request-Method"):
		if is(name, "access-control-request-method") {
			return once(&q.method, value) && len(value) > 0
		}
	case len("Access-Control-Request-Headers"):
		if is(name, "access-control-request-headers") {
			return once(&q.headers, value) && len(value) > 0
		}
	case len("Authorization"):
		if is(name, "authorization") {
			return once(&q.authorization, value) && len(value) > 0
		}
	case len("Content-Length"):
		if is(name, "content-length") {
			return q.length < 0 && q.size(value)
		}
	case len("Content-Encoding"):
		if is(name, "content-encoding") {
			q.packed = bytes.EqualFold(value, []byte("gzip"))
			return q.packed
		}
	case len("X-Forwarded-For"):
		if is(name, "x-forwarded-for") {
			return once(&q.forwarded, value) && len(value) > 0
		}
	case len("Connection"):
		if is(name, "connection") {
			return bytes.EqualFold(value, []byte("keep-alive"))
		}
		if is(name, "tracestate") {
			return once(&q.tracestate, value)
		}
	case len("Traceparent"):
		if is(name, "traceparent") {
			return once(&q.traceparent, value)
		}
	}
	for _, odd := range oddHeaders {
		if is(name, odd) {
			return false
		}
	}
	return true
}

// once sets what a header says; false when another one has said it.
func once(into *[]byte, value []byte) bool {
	if *into != nil {
		return false
	}
	if value == nil {
		value = []byte{} // an empty one was said, too
	}
	*into = value
	return true
}

// trace is the headers of q's trace context; nil when there is none.
func (q *quick) trace() http.Header {
	if q.traceparent == nil {
		return nil
	}
	h := http.Header{"Traceparent": {string(q.traceparent)}}
	if q.tracestate != nil {
		h["Tracestate"] = []string{string(q.tracestate)}
	}
	return h
}

// oddHeaders change how a request is read or answered, or what becomes of its events.
var oddHeaders = []string{
	"te", "expect", "upgrade", "trailer", "transfer-encoding", "proxy-connection",
	"x-rudder-job-run-id", "x-rudder-task-run-id",
}

// size reads a Content-Length: digits only.
func (q *quick) size(value []byte) bool {
	if len(value) == 0 || len(value) > 9 {
		return false
	}
	n := 0
	for _, c := range value {
		if c < '0' || c > '9' {
			return false
		}
		n = n*10 + int(c-'0')
	}
	q.length = n
	return true
}

// is compares a name with one in lower case.
func is(name []byte, lower string) bool {
	if len(name) != len(lower) {
		return false
	}
	for i, c := range name {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// plainName are the characters of a header's name.
var plainName = func() (set [256]bool) {
	for c := range set {
		set[c] = c == '-' || c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
	}
	return set
}()
