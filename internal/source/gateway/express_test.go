package gatewaysource

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
)

const plainHead = "Host: x\r\nAuthorization: Basic S0VZMTo=\r\n"

// patience is how long something may take on a busy machine before it counts as stuck.
const patience = 2 * time.Minute

// raw sends bytes in pieces over one connection and reads answers until it has n of them.
func (s *served) raw(t testing.TB, n int, pieces ...string) []reply {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var wg sync.WaitGroup
	wg.Go(func() {
		for _, p := range pieces {
			if _, err := conn.Write([]byte(p)); err != nil {
				return // the other side may have closed after an answer
			}
		}
	})
	defer wg.Wait()
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	var got []reply
	for len(got) < n {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("after %d answers: %v", len(got), err)
		}
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, reply{resp.StatusCode, string(text), resp.Header})
	}
	return got
}

func rawPost(path, head, body string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n%s", path, head, len(body), body)
}

// preflight is what a browser asks before a page of another origin sends events.
func preflight(path, more string) string {
	return "OPTIONS " + path + " HTTP/1.1\r\nHost: x\r\nOrigin: https://shop.example\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization,content-type\r\n" + more + "\r\n"
}

// TestParse: which requests express takes, and which it leaves to net/http.
func TestParse(t *testing.T) {
	t.Parallel()
	ok := rawPost("/v1/track", plainHead, track)
	for name, row := range map[string]struct {
		data string
		want state
	}{
		"plain":                {ok, whole},
		"batch":                {rawPost("/v1/batch", plainHead, "{}"), whole},
		"another behind":       {ok + "POST", whole},
		"body in part":         {ok[:len(ok)-1], part},
		"head in part":         {ok[:40], part},
		"verb in part":         {"PO", part},
		"nothing":              {"", part},
		"keep-alive":           {rawPost("/v1/track", plainHead+"Connection: Keep-Alive\r\n", track), whole},
		"gzip":                 {rawPost("/v1/track", plainHead+"content-encoding: GZIP\r\n", track), whole},
		"spaces":               {rawPost("/v1/track", plainHead+"X-Forwarded-For: \t 1.2.3.4 \r\n", track), whole},
		"empty value":          {rawPost("/v1/track", plainHead+"X-A:\r\n", track), whole},
		"query":                {rawPost("/v1/track?x", plainHead, track), odd},
		"other path":           {rawPost("/v1/x", plainHead, track), odd},
		"beacon":               {rawPost("/beacon/v1/batch", plainHead, track), odd},
		"GET":                  {"GET /health HTTP/1.1\r\n", odd},
		"HTTP/1.0":             {strings.Replace(ok, "1.1", "1.0", 1), odd},
		"HTTP/2":               {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", odd},
		"two spaces":           {strings.Replace(ok, " /v1", "  /v1", 1), odd},
		"whole URL":            {strings.Replace(ok, " /v1", " http://x/v1", 1), odd},
		"no host":              {strings.Replace(ok, "Host: x\r\n", "", 1), odd},
		"two hosts":            {rawPost("/v1/track", "Host: y\r\n"+plainHead, track), odd},
		"no authorization":     {rawPost("/v1/track", "Host: x\r\n", track), odd},
		"two authorizations":   {rawPost("/v1/track", "Authorization: a\r\n"+plainHead, track), odd},
		"no length":            {"POST /v1/track HTTP/1.1\r\n" + plainHead + "\r\n", odd},
		"two lengths":          {rawPost("/v1/track", plainHead+"Content-Length: 1\r\n", track), odd},
		"length with a sign":   {"POST /v1/track HTTP/1.1\r\n" + plainHead + "Content-Length: +5\r\n\r\n12345", odd},
		"two values of length": {"POST /v1/track HTTP/1.1\r\n" + plainHead + "Content-Length: 5, 5\r\n\r\n12345", odd},
		"long":                 {"POST /v1/track HTTP/1.1\r\n" + plainHead + "Content-Length: 131072\r\n\r\n", odd},
		"chunks":               {rawPost("/v1/track", plainHead+"Transfer-Encoding: chunked\r\n", track), odd},
		"chunks, odd name":     {rawPost("/v1/track", plainHead+"Transfer-Encoding : chunked\r\n", track), odd},
		"folded":               {rawPost("/v1/track", plainHead+"X-A: b\r\n c: d\r\n", track), odd},
		"bare line feed":       {rawPost("/v1/track", plainHead+"X-A: b\nTransfer-Encoding: chunked\r\n", track), odd},
		"bare carriage return": {rawPost("/v1/track", plainHead+"X-A: b\rTransfer-Encoding: chunked\r\n", track), odd},
		"NUL":                  {rawPost("/v1/track", plainHead+"X-A: \x00\r\n", track), odd},
		"expect":               {rawPost("/v1/track", plainHead+"Expect: 100-continue\r\n", track), odd},
		"origin":               {rawPost("/v1/track", plainHead+"Origin: https://x\r\n", track), whole},
		"two origins":          {rawPost("/v1/track", plainHead+"Origin: https://x\r\nOrigin: https://y\r\n", track), odd},
		"empty origin":         {rawPost("/v1/track", plainHead+"Origin:\r\n", track), odd},
		"preflight":            {preflight("/v1/track", ""), whole},
		"preflight in part":    {preflight("/v1/track", "")[:50], part},
		"its verb in part":     {"OPT", part},
		"preflight, no method": {"OPTIONS /v1/track HTTP/1.1\r\nHost: x\r\nOrigin: https://x\r\n\r\n", odd},
		"preflight, no origin": {"OPTIONS /v1/track HTTP/1.1\r\nHost: x\r\nAccess-Control-Request-Method: POST\r\n\r\n", odd},
		"preflight of a body":  {preflight("/v1/track", "Content-Length: 1\r\n"), odd},
		"preflight elsewhere":  {preflight("/beacon/v1/batch", ""), odd},
		"post that asks":       {rawPost("/v1/track", plainHead+"Access-Control-Request-Method: POST\r\n", track), odd},
		"only line feeds":      {"POST /v1/track HTTP/1.1\nHost: x\n", odd},
		"line feed at the end": {"POST /v1/track HTTP/1.1\r\nHost: x\n", odd},
		"close":                {rawPost("/v1/track", plainHead+"Connection: close\r\n", track), odd},
		"upgrade":              {rawPost("/v1/track", plainHead+"Upgrade: h2c\r\n", track), odd},
		"other encoding":       {rawPost("/v1/track", plainHead+"Content-Encoding: br\r\n", track), odd},
		"two forwarded":        {rawPost("/v1/track", plainHead+"X-Forwarded-For: a\r\nX-Forwarded-For: b\r\n", track), odd},
		"no name":              {rawPost("/v1/track", plainHead+": b\r\n", track), odd},
		"no colon":             {rawPost("/v1/track", plainHead+"abc\r\n", track), odd},
		"endless head":         {"POST /v1/track HTTP/1.1\r\n" + strings.Repeat("a: b\r\n", 2000), odd},
	} {
		var q quick
		if got := q.parse([]byte(row.data)); got != row.want {
			t.Errorf("%s: %d, want %d", name, got, row.want)
		}
	}
}

// TestExpress: requests over one connection, plain and odd ones, in pieces and together, get
// their answers in order, whoever serves them.
func TestExpress(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	var mu sync.Mutex
	var got event.Batch
	s.run(t, func(b event.Batch) event.Outcomes {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, b...)
		return nil
	})
	long := `{"userId":"long","x":"` + strings.Repeat("y", 50_000) + `"}`
	kinds := []struct {
		data string
		code int
		ids  []string
	}{
		{rawPost("/v1/track", plainHead, `{"userId":"a"}`), 200, []string{"a"}},
		{rawPost("/v1/batch", plainHead, `{"batch":[{"userId":"b"},{"userId":"c"}]}`), 200, []string{"b", "c"}},
		{rawPost("/v1/track", plainHead, long), 200, []string{"long"}},
		{rawPost("/v1/track", plainHead+"Content-Encoding: gzip\r\n", packed(t, `{"userId":"z"}`).String()), 200, []string{"z"}},
		{rawPost("/v1/track", plainHead, `{`), 400, nil},
		{rawPost("/v1/track", plainHead+"Content-Encoding: gzip\r\n", "no"), 400, nil},
		{rawPost("/v1/track", strings.Replace(plainHead, "S0VZMTo=", "S0VZOTo=", 1), `{}`), 401, nil},
		{rawPost("/v1/track", plainHead+"Origin: https://x\r\n", `{"userId":"o"}`), 200, []string{"o"}},
		{rawPost("/v1/track", plainHead+"Origin: https://x\r\nTE: trailers\r\n", `{"userId":"t"}`), 200, []string{"t"}},
		{preflight("/v1/track", ""), 204, nil},
		{preflight("/beacon/v1/batch", ""), 204, nil},
		{"GET /robots.txt HTTP/1.1\r\nHost: x\r\n\r\n", 200, nil},
		{"POST /v1/track HTTP/1.1\r\n" + plainHead + "Transfer-Encoding: chunked\r\n\r\n" + "e\r\n{\"userId\":\"k\"}\r\n0\r\n\r\n", 200, []string{"k"}},
	}
	rapid.Check(t, func(rt *rapid.T) {
		mu.Lock()
		got = nil
		mu.Unlock()
		var all strings.Builder
		var codes []int
		var ids []string
		for _, k := range rapid.SliceOfN(rapid.IntRange(0, len(kinds)-1), 1, 8).Draw(rt, "requests") {
			all.WriteString(kinds[k].data)
			codes = append(codes, kinds[k].code)
			ids = append(ids, kinds[k].ids...)
		}
		var pieces []string
		for rest := all.String(); rest != ""; {
			n := min(rapid.SampledFrom([]int{1, 3, 100, 5000, 1 << 20}).Draw(rt, "piece"), len(rest))
			if len(pieces) > 200 {
				n = len(rest)
			}
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		for i, r := range s.raw(t, len(codes), pieces...) {
			if r.code != codes[i] || r.head.Get("Date") == "" {
				rt.Fatalf("answer %d: %+v, want %d", i, r, codes[i])
			}
		}
		mu.Lock()
		defer mu.Unlock()
		if len(got) != len(ids) {
			rt.Fatalf("%d events, want %d", len(got), len(ids))
		}
		for i, m := range got {
			if m.Key != ids[i] {
				rt.Fatalf("event %d is of %q, want %q", i, m.Key, ids[i])
			}
		}
	})
	s.empty(t)
}

// TestExpressAnswers: express answers as net/http does, to pages of other origins too; a request
// with "TE: trailers" is the same one, and for net/http.
func TestExpressAnswers(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	s.run(t, func(b event.Batch) event.Outcomes {
		if b[0].Key == "fails" {
			return event.Outcomes{errors.New("no")}
		}
		return nil
	})
	const origin, notPlain = "Origin: https://shop.example\r\n", "TE: trailers\r\n"
	ask := func(method, headers string) func(more string) string {
		return func(more string) string {
			return "OPTIONS /v1/track HTTP/1.1\r\nHost: x\r\n" + origin + "Access-Control-Request-Method: " + method + "\r\n" + headers + more + "\r\n"
		}
	}
	post := func(head, body string) func(more string) string {
		return func(more string) string { return rawPost("/v1/track", plainHead+head+more, body) }
	}
	for name, request := range map[string]func(more string) string{
		"no origin":               post("", track),
		"origin":                  post(origin, track),
		"null":                    post("Origin: null\r\n", track),
		"odd bytes":               post("Origin: h\xc3\xbc  x\r\n", track),
		"refused":                 post(origin, "{"),
		"not kept":                post(origin, `{"userId":"fails"}`),
		"preflight":               ask("POST", "Access-Control-Request-Headers: authorization, x\r\n"),
		"preflight, no headers":   ask("POST", ""),
		"preflight of a GET":      ask("GET", ""),
		"preflight of a deletion": ask("DELETE", "Access-Control-Request-Headers: a\r\n"),
	} {
		var q quick
		if q.parse([]byte(request(""))) != whole || new(quick).parse([]byte(request(notPlain))) != odd {
			t.Errorf("%s: it is not for express, or not for net/http with %q", name, notPlain)
		}
		got := s.raw(t, 2, request("")+request(notPlain))
		for i := range got {
			got[i].head.Del("Date")
		}
		if diff := cmp.Diff(got[1], got[0], cmp.AllowUnexported(reply{})); diff != "" {
			t.Errorf("%s: -net/http +express:\n%s", name, diff)
		}
	}
}

// TestSilentConnections: a connection that says nothing, or never all of a request's head, ends
// long before one that is idle between requests would, and leaves its place to others.
func TestSilentConnections(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *Config) { c.ReadTimeoutMillis, c.MaxConnections = 100, 4 })
	s.run(t, nil)
	ok := rawPost("/v1/track", plainHead, track)
	var clients sync.WaitGroup
	for name, begin := range map[string]string{
		"nothing": "", "a byte": "P", "a head in part": ok[:40], "a head": ok[:len(ok)-len(track)], "half a body": ok[:len(ok)-1],
		"for net/http": "GET /health HT", "after a request": ok + "P", "after a question": preflight("/v1/track", "") + "OPTIONS ",
	} {
		clients.Go(func() {
			conn, err := net.Dial("tcp", s.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(time.Minute)) // idle connections stay for twelve
			if _, err := io.WriteString(conn, begin); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: it is open after a minute", name)
			}
		})
	}
	clients.Wait()
	for until := time.Now().Add(time.Minute); ; { // on a busy machine this client too may say nothing for 100 ms
		r, err := http.NewRequest(http.MethodPost, "http://"+s.Addr().String()+"/v1/track", strings.NewReader(track))
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("KEY1", "")
		resp, err := s.client.Do(r)
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(until) {
			t.Fatalf("a minute after the silent connections: %v, %+v", err, resp)
		}
	}
}

// TestDrip: bytes that trickle in do not keep a connection open, whoever reads them.
func TestDrip(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *Config) { c.ReadTimeoutMillis = 200 })
	for _, head := range []string{"POST /v1/track HTTP/1.1\r\nHost: x\r\nX: ", "GET /health HTTP/1.1\r\nHost: x\r\nX: "} {
		conn, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			_, _ = io.Copy(io.Discard, conn)
		}()
		_, err = io.WriteString(conn, head)
		for tick := time.NewTicker(10 * time.Millisecond); err == nil; {
			select {
			case <-tick.C:
				_, err = io.WriteString(conn, "x")
			case <-gone:
				err = io.EOF
			}
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q: it is open after a minute", head)
		}
		_ = conn.Close()
		<-gone
	}
}

// TestExpressAddress: the client's address is the peer's, or the first one forwarded.
func TestExpressAddress(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	var mu sync.Mutex
	var ips []string
	s.run(t, func(b event.Batch) event.Outcomes {
		mu.Lock()
		defer mu.Unlock()
		for _, m := range b {
			var e struct {
				IP string `json:"request_ip"`
			}
			if err := json.Unmarshal(m.Data, &e); err != nil {
				t.Error(err)
			}
			ips = append(ips, e.IP)
		}
		return nil
	})
	s.raw(t, 2, rawPost("/v1/track", plainHead, track), rawPost("/v1/track", plainHead+"X-Forwarded-For: 198.51.100.1, 10.0.0.1\r\n", track))
	mu.Lock()
	defer mu.Unlock()
	if fmt.Sprint(ips) != "[127.0.0.1 198.51.100.1]" {
		t.Errorf("%q", ips)
	}
}

// TestIdleTimeout: it ends idle connections, and does not count while a request waits.
func TestIdleTimeout(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *Config) { c.IdleTimeoutMillis = 2000 })
	var client sync.WaitGroup
	ctx, gone := context.WithCancel(t.Context())
	client.Go(func() {
		defer gone()
		if got := s.raw(t, 1, rawPost("/v1/track", plainHead, track)); got[0].code != 200 {
			t.Errorf("%+v", got)
		}
	})
	_, ack, err := s.Read(ctx, connector.Room{})
	if err != nil {
		t.Fatal(err)
	}
	<-time.After(2500 * time.Millisecond)
	if err := ack(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	client.Wait()
	idle, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	if _, err := idle.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("an idle connection: %v", err)
	}
}

// FuzzExpress: what express takes for a whole request, net/http reads in the same way.
func FuzzExpress(f *testing.F) {
	f.Add([]byte(rawPost("/v1/track", plainHead, track)))
	f.Add([]byte(rawPost("/v1/batch", plainHead+"X-Forwarded-For: a\r\nConnection: keep-alive\r\nContent-Encoding: gzip\r\n", track) + "rest"))
	f.Add([]byte(preflight("/v1/batch", "") + "rest"))
	f.Add([]byte(rawPost("/v1/track", plainHead+"Origin: null\r\n", track)))
	f.Add([]byte("POST /v1/track HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nAuthorization: y\r\nX: \t\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var q quick
		if q.parse(data) != whole {
			return
		}
		in := bufio.NewReader(bytes.NewReader(data))
		r, err := http.ReadRequest(in)
		if err != nil {
			t.Fatalf("net/http refuses it: %v", err)
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		if r.Method != map[bool]string{false: "POST", true: "OPTIONS"}[q.preflight] || r.Host != string(q.host) || r.Header.Get("Origin") != string(q.origin) || r.Header.Get("Access-Control-Request-Method") != string(q.method) ||
			r.URL.Path != string(q.path) || r.Header.Get("Authorization") != string(q.authorization) || r.Header.Get("X-Forwarded-For") != string(q.forwarded) ||
			(r.Header.Get("Content-Encoding") != "") != q.packed || !bytes.Equal(body, data[q.head:q.head+q.length]) || r.Close || len(r.TransferEncoding) > 0 || r.URL.RawQuery != "" {
			t.Fatalf("net/http reads %+v with body %q", r, body)
		}
	})
}
