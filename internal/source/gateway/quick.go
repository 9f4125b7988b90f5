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
	path, authorization, forwarded []byte
	traceparent, tracestate        []byte
	packed                         bool
	head, length                   int // bytes of the head and of the body
}

// parse reads the head of a request.
func (q *quick) parse(data []byte) state {
	if q.head > 0 { // the head was read before
		return q.complete(data)
	}
	const verb, version = "POST ", " HTTP/1.1"
	if !bytes.HasPrefix(data, []byte(verb)) {
		if len(data) < len(verb) && bytes.HasPrefix([]byte(verb), data) {
			return part
		}
		return odd
	}
	end := bytes.Index(data, []byte("\r\n\r\n"))
	if end < 0 {
		if len(data) > maxIdle {
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
	hosts := 0
	for len(rest) > 0 {
		var header []byte
		header, rest, _ = bytes.Cut(rest, []byte("\r\n"))
		if !q.header(header, &hosts) {
			return odd
		}
	}
	if q.length < 0 || hosts != 1 || q.authorization == nil || end+4+q.length > maxExpress {
		return odd
	}
	q.head = end + 4
	q.path = path
	if s := q.complete(data); s != part {
		return s
	}
	// What is still to come may move the buffer.
	q.path, q.authorization, q.forwarded = bytes.Clone(q.path), bytes.Clone(q.authorization), bytes.Clone(q.forwarded)
	q.traceparent, q.tracestate = bytes.Clone(q.traceparent), bytes.Clone(q.tracestate)
	return part
}

func (q *quick) complete(data []byte) state {
	if len(data) < q.head+q.length {
		return part
	}
	return whole
}

// header reads one header line; false when it is not plain.
func (q *quick) header(header []byte, hosts *int) bool {
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
	switch len(name) {
	case len("Host"):
		if is(name, "host") {
			*hosts++
			return len(value) > 0 && !bytes.ContainsAny(value, " ,/@\\")
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

// oddHeaders change how a request is read or answered.
var oddHeaders = []string{"te", "expect", "origin", "upgrade", "trailer", "transfer-encoding", "proxy-connection"}

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
