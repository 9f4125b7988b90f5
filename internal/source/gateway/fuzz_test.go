package gatewaysource

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"testing"

	"golang.org/x/net/http/httpguts"
)

// FuzzParsersAgree: what express takes for a whole request is the same request for net/http, in
// everything that express uses, and the next one begins at the same byte. So whichever of them
// reads a connection, a request is one request. And it is the same in whatever pieces it comes.
func FuzzParsersAgree(f *testing.F) {
	for _, seed := range []string{
		rawPost("/v1/track", plainHead, track) + "POST /v1/b",
		rawPost("/v1/batch", plainHead+"Content-Encoding: gzip\r\nX-Forwarded-For: 1.2.3.4, 5.6.7.8\r\n", "abc"),
		rawPost("/v1/track", plainHead+"Connection: keep-alive\r\nTraceparent: 00-1-2-01\r\nTracestate: a=1\r\n", "{}"),
		rawPost("/v1/track", plainHead+"Origin: https://shop.example\r\nTransfer_Encoding: chunked\r\n", "{}"),
		rawPost("/v1/track", plainHead+"Traceparent:\r\nTraceparent: 00-1-2-01\r\nTracestate: \r\n", "{}"),
		rawPost("/v1/track", plainHead+"Content_Length: 5\r\nX: \t y \t\r\nempty:\r\n", "{}"),
		"POST /v1/track HTTP/1.1\r\n" + plainHead + "Content-Length: 002\r\n\r\n{}x",
		"POST /v1/track HTTP/1.1\r\n" + plainHead + "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
		"POST /v1/track HTTP/1.1\r\n" + plainHead + " folded\r\nContent-Length: 2\r\n\r\n{}",
		"POST http://y/v1/track HTTP/1.1\r\n" + plainHead + "Content-Length: 2\r\n\r\n{}",
		preflight("/v1/track", "") + "OPTIONS",
		preflight("/v1/track", "Content-Length: 0\r\n"),
	} {
		f.Add([]byte(seed), uint8(7))
	}
	f.Fuzz(func(t *testing.T, data []byte, piece uint8) {
		var q quick
		if q.parse(data) != whole {
			return
		}
		if q.head+q.length > len(data) {
			t.Fatalf("a request of %d bytes in %d", q.head+q.length, len(data))
		}
		inPieces(t, data, int(piece)+1, &q)

		in := bufio.NewReader(bytes.NewReader(data))
		r, err := http.ReadRequest(in)
		if err != nil {
			t.Fatalf("net/http refuses it: %v", err)
		}
		body, err := io.ReadAll(r.Body)
		if want := data[q.head : q.head+q.length]; err != nil || !bytes.Equal(body, want) {
			t.Fatalf("the body is %q for express and %q for net/http, %v", want, body, err)
		}
		if rest, _ := io.ReadAll(in); !bytes.Equal(rest, data[q.head+q.length:]) {
			t.Fatalf("for net/http the next request begins with %q, for express with %q", rest, data[q.head+q.length:])
		}
		if len(r.TransferEncoding) > 0 || r.Close || r.ProtoMajor != 1 || r.ProtoMinor != 1 || !httpguts.ValidHostHeader(r.Host) {
			t.Fatalf("net/http reads it otherwise: %+v", r)
		}
		for name := range r.Header {
			for _, v := range r.Header[name] {
				if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(v) {
					t.Fatalf("net/http refuses the header %q: %q", name, v)
				}
			}
		}
		method := http.MethodPost
		if q.preflight {
			method = http.MethodOptions
		}
		one := func(name string, value []byte) {
			t.Helper()
			vs := r.Header.Values(name)
			if len(vs) > 1 || (len(vs) == 1) != (value != nil) || len(vs) == 1 && vs[0] != string(value) {
				t.Fatalf("%s is %q for express and %q for net/http", name, value, vs)
			}
		}
		if r.Method != method || r.RequestURI != string(q.path) || r.URL.Path != string(q.path) || r.URL.RawQuery != "" || r.Host != string(q.host) {
			t.Fatalf("%s %s of %q for express, %s %s of %q for net/http", method, q.path, q.host, r.Method, r.RequestURI, r.Host)
		}
		one("Authorization", q.authorization)
		one("X-Forwarded-For", q.forwarded)
		one("Origin", q.origin)
		one("Traceparent", q.traceparent)
		one("Tracestate", q.tracestate)
		one("Access-Control-Request-Method", q.method)
		if packed := r.Header.Get("Content-Encoding"); (packed != "") != q.packed {
			t.Fatalf("Content-Encoding is %q, packed %t", packed, q.packed)
		}
	})
}

// inPieces parses data as it comes in pieces, and compares with what it is as a whole.
func inPieces(t *testing.T, data []byte, size int, want *quick) {
	t.Helper()
	var q quick
	for n := min(size, len(data)); ; n = min(n+size, len(data)) {
		buf := bytes.Clone(data[:n]) // what was read before has moved
		switch s := q.parse(buf); {
		case s == odd, s == part && n == len(data):
			t.Fatalf("after %d of %d bytes the parser says %d", n, len(data), s)
		case s == part:
			if want.head+want.length <= n {
				t.Fatalf("a request of %d bytes is not whole after %d", want.head+want.length, n)
			}
			continue
		}
		if q.head != want.head || q.length != want.length || string(q.path) != string(want.path) || string(q.host) != string(want.host) || string(q.authorization) != string(want.authorization) {
			t.Fatalf("in pieces it is %+v, as a whole %+v", q, *want)
		}
		return
	}
}
