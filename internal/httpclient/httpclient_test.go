package httpclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorded answers requests by a table of URLs, and keeps what it gets.
type recorded struct {
	mu      sync.Mutex
	got     []*http.Request
	answers map[string]func() *http.Response // by URL without query
}

func (r *recorded) RoundTrip(req *http.Request) (*http.Response, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, req)
	resp := &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody}
	u := *req.URL
	u.RawQuery, u.User = "", nil
	if a := r.answers[u.String()]; a != nil {
		resp = a()
	}
	resp.Request = req
	return resp, nil
}

func to(code int, where string) func() *http.Response {
	return func() *http.Response {
		return &http.Response{StatusCode: code, Header: http.Header{"Location": {where}}, Body: http.NoBody}
	}
}

// TestRedirects: where a redirect may lead, by what its request carries.
func TestRedirects(t *testing.T) {
	t.Parallel()
	secret := map[string]func(r *http.Request){
		"nothing":        nil,
		"harmless":       func(r *http.Request) { r.Header.Set("Content-Type", "a/b"); r.Header.Set("traceparent", "x") },
		"authorization":  func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") },
		"any header":     func(r *http.Request) { r.Header.Set("X-Tenant", "x") },
		"lower case":     func(r *http.Request) { r.Header["x-key"] = []string{"x"} },
		"cookie":         func(r *http.Request) { r.Header.Set("Cookie", "a=b") },
		"query":          func(r *http.Request) { r.URL.RawQuery = "token=x" },
		"user":           func(r *http.Request) { r.URL.User = url.User("u") },
		"user, password": func(r *http.Request) { r.URL.User = url.UserPassword("u", "p") },
	}
	for _, row := range []struct {
		from, to string
		home     bool
	}{
		{"https://a.example/x", "/y", true},
		{"https://a.example/x", "https://A.example:443/y", true},
		{"https://a.example/x", "https://a.example./y", true},
		{"http://a.example/x", "https://a.example/y", true},
		{"http://[::1]:80/x", "http://[::1]/y", true},
		{"https://a.example/x", "http://a.example/y", false},
		{"https://a.example/x", "http://a.example:443/y", false},
		{"http://a.example:8080/x", "https://a.example/y", false},
		{"https://a.example/x", "https://b.example/y", false},
		{"https://a.example/x", "//b.example/y", false},
		{"https://a.example/x", "https://a.example:8443/y", false},
		{"https://a.example/x", "https://a.example.b.example/y", false},
		{"https://a.example/x", "https://a.example@b.example/y", false},
		{"http://127.0.0.1/x", "http://localhost/y", false},
	} {
		for name, add := range secret {
			carries := name != "nothing" && name != "harmless"
			rt := &recorded{answers: map[string]func() *http.Response{row.from: to(307, row.to)}}
			c := New(Options{Transport: rt})
			req, err := http.NewRequest(http.MethodPost, row.from, strings.NewReader("body"))
			if err != nil {
				t.Fatal(err)
			}
			if add != nil {
				add(req)
			}
			resp, err := c.Do(req, nil)
			if err != nil {
				t.Fatalf("%+v, %s: %v", row, name, err)
			}
			want := 2
			if carries && !row.home {
				want = 1
			}
			if len(rt.got) != want {
				t.Errorf("%s -> %s with %s: %d requests, want %d", row.from, row.to, name, len(rt.got), want)
			}
			if stayed := c.Stayed(resp); (stayed != "") != (want == 1) || strings.Contains(stayed, "token") {
				t.Errorf("%s -> %s with %s: %q", row.from, row.to, name, stayed)
			}
			if want == 2 {
				if body, _ := io.ReadAll(rt.got[1].Body); string(body) != "body" || rt.got[1].Header.Get("Referer") != "" {
					t.Errorf("%s -> %s with %s: body %q, %v", row.from, row.to, name, body, rt.got[1].Header)
				}
			}
		}
	}
}

// TestRedirectsOfOthers: what no redirect does, whatever the request.
func TestRedirectsOfOthers(t *testing.T) {
	t.Parallel()
	const from, home, away = "https://a.example/x", "https://a.example/y", "https://b.example/y"
	for name, row := range map[string]struct {
		o        Options
		auth     Auth
		code     int
		to       string
		then     string // where that one redirects to
		requests int
	}{
		"another method":                     {code: 302, to: home, requests: 1},
		"none":                               {o: Options{NoRedirects: true}, code: 308, to: home, requests: 1},
		"secret body":                        {o: Options{Secret: true}, code: 308, to: away, requests: 1},
		"secret body stays at home":          {o: Options{Secret: true}, code: 308, to: home, requests: 2},
		"auth":                               {auth: Basic{"u", "p"}, code: 307, to: away, requests: 1},
		"user information of a redirect":     {code: 307, to: "https://u:p@a.example/y", then: away, requests: 2},
		"home, and then away":                {auth: Header{"X-Key", "k"}, code: 307, to: home, then: away, requests: 2},
		"home, and then away, with no cause": {code: 307, to: home, then: away, requests: 3},
	} {
		rt := &recorded{answers: map[string]func() *http.Response{from: to(row.code, row.to)}}
		if row.then != "" {
			rt.answers[home] = to(307, row.then)
			rt.answers[away] = nil
		}
		row.o.Transport = rt
		req, _ := http.NewRequest(http.MethodPost, from, strings.NewReader("body"))
		if _, err := New(row.o).Do(req, row.auth); err != nil || len(rt.got) != row.requests {
			t.Errorf("%s: %v, %d requests, want %d", name, err, len(rt.got), row.requests)
		}
	}
	loop := &recorded{answers: map[string]func() *http.Response{from: to(307, from)}}
	req, _ := http.NewRequest(http.MethodPost, from, nil)
	if _, err := New(Options{Transport: loop}).Do(req, nil); err == nil || !strings.Contains(err.Error(), "10 redirects") || len(loop.got) != 10 {
		t.Errorf("a loop: %v, %d requests", err, len(loop.got))
	}
}

// TestPublic: what is refused, in every form an address may be written in.
func TestPublic(t *testing.T) {
	t.Parallel()
	private := []string{"127.0.0.1", "127.255.255.254", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.0.1", "169.254.169.254",
		"100.64.0.1", "100.127.255.255", "0.0.0.0", "0.1.2.3", "224.0.0.1", "255.255.255.255", "240.0.0.1", "192.0.0.8", "198.18.0.1", "198.19.255.255"}
	public := []string{"8.8.8.8", "1.1.1.1", "172.32.0.1", "100.63.255.255", "100.128.0.0", "11.0.0.1", "198.20.0.0", "192.1.0.1", "169.253.0.1", "223.255.255.254"}
	forms := func(v4 string) []string {
		b := netip.MustParseAddr(v4).As4()
		hex := fmt.Sprintf("%02x%02x:%02x%02x", b[0], b[1], b[2], b[3])
		return []string{v4, "::ffff:" + v4, "64:ff9b::" + v4, "::ffff:0:" + v4, "2002:" + hex + "::1", "2a00:1450::5efe:" + v4, "2a00:1450::200:5efe:" + v4}
	}
	check := func(address string, want bool) {
		if got := Public(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: public %t", address, got)
		}
		if err := refusePrivate(nil)("tcp", netip.AddrPortFrom(netip.MustParseAddr(address), 80).String(), nil); (err == nil) != want || err != nil && !errors.Is(err, ErrPrivate) {
			t.Errorf("%s: %v", address, err)
		}
	}
	for _, v4 := range private {
		for _, a := range forms(v4) {
			check(a, false)
		}
		check("::"+v4, false)
	}
	for _, v4 := range public {
		for _, a := range forms(v4) {
			check(a, true)
		}
		check("::"+v4, false) // IPv4-compatible addresses are nobody's
	}
	for _, a := range []string{"::", "::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fd00::1", "fc00::1", "ff02::1", "64:ff9b:1::8.8.8.8", "64:ff9b:1:ffff::1",
		"100::1", "2001::1", "2001:db8::1", "3fff::1", "5f00::1"} {
		check(a, false)
	}
	for _, a := range []string{"2001:4860:4860::8888", "2606:4700::1111", "64:ff9b:2::1", "2a00::1"} {
		check(a, true)
	}
	if refusePrivate(nil)("tcp", "name:80", nil) == nil {
		t.Error("an address that cannot be read is let through")
	}
}

// TestPublicIsCheckedWhenDialled: a name that leads to a private address is refused, however the
// client came there.
func TestPublicIsCheckedWhenDialled(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was reached") }))
	defer s.Close()
	c := New(Options{Public: true})
	defer c.Close()
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]"} {
		u, _ := url.Parse(s.URL)
		req, _ := http.NewRequest(http.MethodGet, "http://"+host+":"+u.Port(), nil)
		if _, err := c.Do(req, nil); !errors.Is(err, ErrPrivate) {
			t.Errorf("%s: %v", host, err)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 26, 16, 45, 15, 0, time.UTC)
	for in, want := range map[string]time.Duration{
		"": 0, "0": 0, "12": 12 * time.Second, " 3 ": 3 * time.Second, "-1": 0, "x": 0, "1.5": 0,
		"99999": time.Hour, "99999999999999999999999": time.Hour,
		"Tue, 26 May 2026 16:46:15 GMT": time.Minute, "Tue, 26 May 2026 16:44:15 GMT": 0, "Tue, 26 May 2037 16:44:15 GMT": time.Hour,
	} {
		if got := RetryAfter(http.Header{"Retry-After": {in}}, now, MaxWait); got != want {
			t.Errorf("RetryAfter(%q) = %v, want %v", in, got, want)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		limit := time.Duration(rapid.Int64Range(0, int64(100*time.Hour)).Draw(rt, "limit"))
		h := http.Header{"Retry-After": {rapid.OneOf(rapid.StringMatching(`-?[0-9]{0,30}`), rapid.String()).Draw(rt, "value")}}
		if d := RetryAfter(h, now, limit); d < 0 || d > limit {
			rt.Fatalf("%v for %q", d, h)
		}
	})
}

// endless is a response that never ends.
type endless struct{ read int64 }

func (e *endless) Read(p []byte) (int, error) { e.read += int64(len(p)); return len(p), nil }
func (e *endless) Close() error               { return nil }

func TestBodyIsBounded(t *testing.T) {
	t.Parallel()
	e := &endless{}
	text, err := Body(&http.Response{Body: e}, 1000)
	if err != nil || len(text) != 1000 || e.read > 2*drained {
		t.Errorf("%d bytes kept of %d read, %v", len(text), e.read, err)
	}
}

// renewed is an Auth whose proof is another one for each request.
type renewed struct{ made, dropped []string }

func (r *renewed) Authorize(_ context.Context, req *http.Request) error {
	r.made = append(r.made, req.URL.Path)
	req.Header.Set("X-Proof", req.URL.Path)
	return nil
}
func (r *renewed) Secrets() []string      { return nil }
func (r *renewed) Drop(req *http.Request) { r.dropped = append(r.dropped, req.Header.Get("X-Proof")) }

// TestAuthOfRedirects: each request is authorized for itself, and the one that was refused is
// the one whose proof is dropped.
func TestAuthOfRedirects(t *testing.T) {
	t.Parallel()
	rt := &recorded{answers: map[string]func() *http.Response{
		"https://a.example/1": to(307, "/2"),
		"https://a.example/2": func() *http.Response {
			return &http.Response{StatusCode: 401, Header: http.Header{}, Body: http.NoBody}
		},
	}}
	r := &renewed{}
	req, _ := http.NewRequest(http.MethodPost, "https://a.example/1", strings.NewReader("x"))
	if _, err := New(Options{Transport: rt}).Do(req, r); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(r.made, r.dropped) != "[/1 /2] [/2]" || rt.got[1].Header.Get("X-Proof") != "/2" {
		t.Errorf("made %v, dropped %v", r.made, r.dropped)
	}
}

type refuses struct{ renewed }

func (*refuses) Authorize(context.Context, *http.Request) error { return errors.New("no") }

func TestNoAuthNoRequest(t *testing.T) {
	t.Parallel()
	rt := &recorded{}
	req, _ := http.NewRequest(http.MethodPut, "https://a.example/1", nil)
	_, err := New(Options{Transport: rt}).Do(req, &refuses{})
	if ue, ok := errors.AsType[*url.Error](err); !ok || ue.Op != "Put" || len(rt.got) != 0 {
		t.Errorf("%v, %d requests", err, len(rt.got))
	}
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	for want, a := range map[string]Auth{
		"[abcd]":                Header{"X-Key", "abcd"},
		"[secret dTpzZWNyZXQ=]": Basic{"u", "secret"},
	} {
		if got := fmt.Sprint(a.Secrets()); got != want {
			t.Errorf("%T: %s, want %s", a, got, want)
		}
	}
}
