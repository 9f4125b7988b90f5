package frontdoor_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/addresstest"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/frontdoor"
)

// get is the answer to a request by name, over c's connection.
func (c *client) get(t *testing.T, address, name, path string) string {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = name
	a, err := c.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(a.StatusCode, " ", strings.TrimSpace(string(text)))
}

// TestShare: owners that differ by host name or path share an address and its connections, each
// is succeeded by its own, and one that leaves takes nothing from the others.
func TestShare(t *testing.T) {
	t.Parallel()
	at := addresstest.Free(t)
	enter := func(owner, name string, connections int, r frontdoor.Route) *frontdoor.Place {
		t.Helper()
		s := settings()
		s.MaxConnections = connections
		p, err := frontdoor.Enter(t.Context(), frontdoor.Door{Address: at, Owner: owner, Settings: s, Route: r}, &host{name: name})
		if err != nil {
			t.Fatal(err)
		}
		p.Lead()
		return p
	}
	leave := func(p *frontdoor.Place) {
		t.Helper()
		if err := p.Leave(t.Context()); err != nil {
			t.Error(err)
		}
	}
	c := newClient(t)
	expect := func(want map[[2]string]string) {
		t.Helper()
		for at2, answer := range want {
			if got := c.get(t, at, at2[0], at2[1]); got != answer {
				t.Errorf("%s%s: %s, want %s", at2[0], at2[1], got, answer)
			}
		}
	}
	byPath := enter("a", "path", 1, frontdoor.Route{Paths: []string{"/a/", "/both"}})
	byName := enter("b", "name", 2, frontdoor.Route{Hosts: []string{"b.example"}})
	deeper := enter("c", "deeper", 3, frontdoor.Route{Paths: []string{"/a/c"}})
	expect(map[[2]string]string{
		{"x.example", "/a/x"}: "200 path", {"x.example", "/both"}: "200 path", {"x.example", "/a/c"}: "200 deeper",
		{"b.example", "/a/x"}: "200 name", {"B.Example:80", "/both"}: "200 name", {"b.example.", "/"}: "200 name",
		{"x.example", "/"}: "404 404 page not found",
	})
	second := enter("a", "second", 1, frontdoor.Route{Paths: []string{"/a/", "/new"}})
	expect(map[[2]string]string{{"x.example", "/a/x"}: "200 second", {"x.example", "/new"}: "200 second", {"x.example", "/a/c"}: "200 deeper", {"b.example", "/"}: "200 name"})
	leave(byPath)
	leave(deeper)
	expect(map[[2]string]string{{"x.example", "/a/c"}: "200 second", {"x.example", "/both"}: "404 404 page not found", {"b.example", "/both"}: "200 name"})
	leave(second)
	// Who is alone has every request, and says itself what it does not serve.
	expect(map[[2]string]string{{"b.example", "/"}: "200 name"})
	leave(byName)
}

// TestShareExpress: an express asks for the host of each request.
func TestShareExpress(t *testing.T) {
	t.Parallel()
	at := addresstest.Free(t)
	for i, name := range []string{"a.example", "b.example"} {
		s := settings()
		if i == 0 {
			s.Express = named{}
		}
		p, err := frontdoor.Enter(t.Context(), frontdoor.Door{Address: at, Owner: name, Settings: s, Route: frontdoor.Route{Hosts: []string{name}}}, &host{name: name})
		if err != nil {
			t.Fatal(err)
		}
		p.Lead()
		t.Cleanup(func() { _ = p.Leave(context.Background()) })
	}
	// The connections that are opened now are the express's, whichever host brought it.
	k := dial(t, at)
	for _, name := range []string{"b.example", "A.EXAMPLE", "b.example:80", "c.example"} {
		want := strings.ToLower(strings.TrimSuffix(name, ":80"))
		if name == "c.example" {
			want = "nobody"
		}
		if got, err := k.say(name); got != want || err != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// named is an express whose requests are the name of a host.
type named struct{}

func (named) Serve(l *frontdoor.Line) (rest []byte, on bool) {
	buf := make([]byte, 100)
	for {
		n, err := l.Read(buf)
		if err != nil {
			return nil, false
		}
		answer := "nobody"
		if h, ok := l.Host(buf[:n-1], []byte("/")).(*host); ok {
			answer = h.name
		}
		if _, err := io.WriteString(l, answer+"\n"); err != nil {
			return nil, false
		}
	}
}

// TestShareRefused: what is open about a request or a connection is refused, and leaves those
// who are there as they were.
func TestShareRefused(t *testing.T) {
	t.Parallel()
	at := addresstest.Free(t)
	first := frontdoor.Door{Address: at, Owner: "a", Settings: settings(), Route: frontdoor.Route{Hosts: []string{"a.example"}, Paths: []string{"/x", "/{id}/y"}}}
	p, err := frontdoor.Enter(t.Context(), first, &host{name: "a"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Leave(context.Background()) }()
	for name, change := range map[string]func(*frontdoor.Door){
		"the same":       func(*frontdoor.Door) {},
		"the same path":  func(d *frontdoor.Door) { d.Route.Paths = []string{"/x"} },
		"a wildcard":     func(d *frontdoor.Door) { d.Route.Paths = []string{"/y/{id}"} },
		"everything":     func(d *frontdoor.Door) { d.Route = frontdoor.Route{} },
		"every path":     func(d *frontdoor.Door) { d.Route = frontdoor.Route{Paths: []string{"/"}} },
		"other files":    func(d *frontdoor.Door) { d.Route.Hosts, d.Identity = []string{"b.example"}, "other" },
		"one of several": func(d *frontdoor.Door) { d.Route.Hosts = []string{"b.example", "a.example"} },
	} {
		second := first
		second.Owner = "b"
		change(&second)
		if _, err := frontdoor.Enter(t.Context(), second, &host{}); fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), "a of this process listens there already") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := newClient(t).get(t, at, "x.example", "/z"); got != "200 a" {
		t.Errorf("afterwards: %s", got)
	}
}

func TestCollide(t *testing.T) {
	t.Parallel()
	route := func(host, path string) frontdoor.Route {
		r := frontdoor.Route{}
		if host != "" {
			r.Hosts = []string{host}
		}
		if path != "" {
			r.Paths = []string{path}
		}
		return r
	}
	for _, row := range []struct {
		a, b frontdoor.Claim
		why  string // "-" for none
	}{
		{frontdoor.Claim{Address: ":80"}, frontdoor.Claim{Address: ":81"}, "-"},
		{frontdoor.Claim{Address: ":0"}, frontdoor.Claim{Address: ":0"}, "-"},
		{frontdoor.Claim{Address: ":80"}, frontdoor.Claim{Address: ":80"}, ""},
		{frontdoor.Claim{Address: ":80", Route: route("", "/a")}, frontdoor.Claim{Address: "0.0.0.0:080", Route: route("", "/b")}, "-"},
		{frontdoor.Claim{Address: ":80", Route: route("", "/a")}, frontdoor.Claim{Address: ":80"}, ""},
		{frontdoor.Claim{Address: ":80", Route: route("", "/a")}, frontdoor.Claim{Address: ":80", Route: route("", "/")}, ""},
		{frontdoor.Claim{Address: ":80", Route: route("a", "/")}, frontdoor.Claim{Address: ":80", Route: route("", "/a")}, "-"},
		{frontdoor.Claim{Address: ":80", Route: route("", "/a/")}, frontdoor.Claim{Address: ":80", Route: route("", "/a/b")}, "-"},
		{frontdoor.Claim{Address: "localhost:80", Route: route("a", "")}, frontdoor.Claim{Address: "127.0.0.1:80", Route: route("b", "")}, "-"},
		{frontdoor.Claim{Address: "127.0.0.1:80", Route: route("a", "")}, frontdoor.Claim{Address: ":80", Route: route("b", "")}, ""},
		{frontdoor.Claim{Address: ":80", Route: route("a", "/x")}, frontdoor.Claim{Address: ":80", Route: route("a", "/x")}, "a request for a/x could be for either"},
		{frontdoor.Claim{Address: ":80", Route: route("a", "")}, frontdoor.Claim{Address: ":80", Route: route("b", ""), TLS: true}, "TLS"},
		{frontdoor.Claim{Address: ":80", Route: route("a", ""), TLS: true, Identity: "x"}, frontdoor.Claim{Address: ":80", Route: route("b", ""), TLS: true, Identity: "y"}, "certificates"},
		{frontdoor.Claim{Address: ":80", Route: route("a", ""), Alone: true}, frontdoor.Claim{Address: ":80", Route: route("b", "")}, ""},
	} {
		for _, pair := range [][2]frontdoor.Claim{{row.a, row.b}, {row.b, row.a}} {
			c := frontdoor.Collide(pair[0], pair[1])
			switch {
			case (c == nil) != (row.why == "-"):
				t.Errorf("%+v: %+v", pair, c)
			case c != nil && (!strings.Contains(c.Why, row.why) || row.why == "" && c.Why != "" || c.Fix == ""):
				t.Errorf("%+v: %+v, want %q", pair, c, row.why)
			}
		}
	}
	for name, good := range map[string]bool{"a.example": true, "a": true, "10.0.0.1": true, "": false, "A.example": false, "a.example:80": false, "http://a": false, "*.example": false, "a/b": false, "a.": false, "{a}": false} {
		if err := frontdoor.CheckHost(name); (err == nil) != good {
			t.Errorf("host name %q: %v", name, err)
		}
	}
}

// TestGuard: who a page of another site could be is turned away, and nobody else.
func TestGuard(t *testing.T) {
	t.Parallel()
	names := []string{"weir.example"}
	for _, row := range []struct {
		names    []string
		loopback bool
		host     string
		code     int
	}{
		{nil, true, "127.0.0.1:80", 200}, {nil, true, "[::1]:80", 200}, {nil, true, "[::1]", 200}, {nil, true, "localhost", 200}, {nil, true, "LocalHost.:80", 200}, {nil, true, "a.localhost:1", 200}, {nil, true, "10.0.0.1", 200}, {nil, true, "", 200},
		{nil, true, "evil.example", 403}, {nil, true, "evil.example:80", 403}, {nil, true, "127.0.0.1.evil.example", 403}, {nil, true, "localhost.evil.example", 403}, {nil, true, "notlocalhost", 403}, {nil, true, "evil.example:localhost", 403},
		{names, true, "weir.example:80", 200}, {names, true, "WEIR.example.", 200}, {names, true, "x.weir.example", 403}, {names, true, "localhost", 200},
		{nil, false, "weir.example", 403}, {nil, false, "weir", 200}, {nil, false, "weir.prod.svc.cluster.local:80", 200}, {nil, false, "a.internal", 200}, {nil, false, "local.evil.example", 403}, {names, false, "weir", 403}, {names, false, "weir.example", 200}, {names, false, "evil.example", 403}, {names, false, "10.0.0.1", 200},
	} {
		h := frontdoor.Guard(row.names, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		for _, method := range []string{"GET", "POST", "OPTIONS"} {
			r := httptest.NewRequest(method, "/", nil)
			r.Host = row.host
			at := net.Addr(&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 80})
			if row.loopback {
				at = loopback
			}
			r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, at))
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != row.code {
				t.Errorf("%s for %q, loopback %t, names %v: %d", method, row.host, row.loopback, row.names, w.Code)
			}
		}
	}
	r := httptest.NewRequest("POST", "http://localhost/", nil)
	r.Header.Set("Origin", "https://evil.example")
	w := httptest.NewRecorder()
	if frontdoor.Guard(nil, http.NotFoundHandler()).ServeHTTP(w, r); w.Code != http.StatusForbidden {
		t.Errorf("of another site: %d", w.Code)
	}
	for _, row := range []struct {
		header map[string]string
		code   int
	}{
		{map[string]string{"Origin": "https://evil.example"}, 403},
		{map[string]string{"Origin": "null"}, 403},
		{map[string]string{"Origin": "http://localhost:1"}, 403},
		{map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403},
		{map[string]string{"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"}, 403},
		{map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200},
		{map[string]string{"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}, 200},
		{map[string]string{"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}, 200},
		{nil, 200},
	} {
		r := httptest.NewRequest("GET", "http://localhost/", nil)
		for name, value := range row.header {
			r.Header.Set(name, value)
		}
		w := httptest.NewRecorder()
		frontdoor.Guard(nil, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(w, r)
		if w.Code != row.code {
			t.Errorf("%v: %d", row.header, w.Code)
		}
	}
}
