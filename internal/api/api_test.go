package api_test

import (
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/api"
)

// TestBearer: who has the token is let in, and to open paths everybody is.
func TestBearer(t *testing.T) {
	t.Parallel()
	ok := func(http.ResponseWriter, *http.Request) {}
	routes := []api.Route{{Method: "GET", Path: "/metrics", Right: api.Figures, Do: ok}, {Method: "GET", Path: "/healthz", Do: ok}}
	for _, row := range []struct {
		token, path, said string
		code              int
	}{
		{"", "/metrics", "", 200}, {"t", "/healthz", "", 200}, {"t", "/healthz/x", "", 401}, {"t", "/metrics", "", 401},
		{"t", "/metrics", "Bearer t", 200}, {"t", "/metrics", "bearer  t", 200}, {"t", "/metrics", "Bearer tt", 401}, {"t", "/metrics", "Basic t", 401}, {"t", "/metrics", "t", 401}, {"t", "/metrics", "Bearer", 401},
	} {
		r := httptest.NewRequest("GET", row.path, nil)
		r.Header.Set("Authorization", row.said)
		w := httptest.NewRecorder()
		api.Handler(func() *api.Access { return &api.Access{Token: row.token} }, routes).ServeHTTP(w, r)
		if w.Code != row.code {
			t.Errorf("%+v: %d", row, w.Code)
		}
	}
}

// TestRights: who has which right may ask for what, by whatever he is known, and nobody who is not
// known for anything that holds something.
func TestRights(t *testing.T) {
	t.Parallel()
	var who api.Who
	do := func(_ http.ResponseWriter, r *http.Request) { who = api.WhoOf(r) }
	var routes []api.Route
	for right, path := range map[api.Right]string{api.Open: "/open", api.Figures: "/figures", api.See: "/see", api.Payloads: "/payloads", api.Operate: "/operate"} {
		routes = append(routes, api.Route{Method: "GET", Path: path, Right: right, Do: do})
	}
	token := func(name string, right api.Right) api.Token {
		return api.Token{Name: name, Hash: sha256.Sum256([]byte("of " + name)), Right: right}
	}
	asks := &api.Access{Token: "whole", Closed: true, Tokens: []api.Token{token("ann", api.See), token("bob", api.Payloads), token("eve", api.Operate)},
		Proxies: []api.Proxy{{Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Header: "X-User", Right: api.See, Named: map[string]api.Right{"joe": api.Operate}}}}
	bearer := func(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }
	cookie := func(value string) http.Header { return http.Header{"Cookie": {api.SessionCookie + "=" + value}} }
	for _, row := range []struct {
		what   string
		access *api.Access
		from   string
		header http.Header
		may    string // the paths that are answered
		name   string
		other  int // what others are answered
	}{
		{"nobody need be known here", &api.Access{}, "127.0.0.1:1", nil, "open figures see payloads operate", "anybody", 0},
		{"nobody can be known, and others reach it", &api.Access{Closed: true}, "127.0.0.1:1", nil, "open figures", "anybody", 403},
		{"unknown", asks, "10.0.0.1:1", nil, "open", "", 401},
		{"a wrong token", asks, "127.0.0.1:1", bearer("of joe"), "open", "", 401},
		{"an empty token", asks, "127.0.0.1:1", bearer(""), "open", "", 401},
		{"the hash itself", asks, "127.0.0.1:1", bearer("7f7e"), "open", "", 401},
		{"see", asks, "127.0.0.1:1", bearer("of ann"), "open figures see", "ann", 403},
		{"payloads", asks, "127.0.0.1:1", bearer("of bob"), "open figures see payloads", "bob", 403},
		{"operate", asks, "127.0.0.1:1", bearer("of eve"), "open figures see payloads operate", "eve", 0},
		{"the token", asks, "127.0.0.1:1", bearer("whole"), "open figures see payloads operate", "the token's holder", 0},
		{"its cookie", asks, "127.0.0.1:1", cookie(asks.Session("whole")), "open figures see payloads operate", "the token's holder", 0},
		{"the token as its cookie", asks, "127.0.0.1:1", cookie("whole"), "open", "", 401},
		{"the cookie as a token", asks, "127.0.0.1:1", bearer(asks.Session("whole")), "open", "", 401},
		{"a cookie", asks, "127.0.0.1:1", cookie(asks.Session("of ann")), "open figures see", "ann", 403},
		{"a proxy", asks, "10.9.9.9:1", http.Header{"X-User": {"sam"}}, "open figures see", "sam", 403},
		{"a proxy, by the other family", asks, "[::ffff:10.9.9.9]:1", http.Header{"X-User": {"joe"}}, "open figures see payloads operate", "joe", 0},
		{"a proxy that names nobody", asks, "10.9.9.9:1", http.Header{"X-User": {""}}, "open", "", 401},
		{"a proxy that adds to what came", asks, "10.9.9.9:1", http.Header{"X-User": {"joe", "sam"}}, "open", "", 401},
		{"the header from elsewhere", asks, "127.0.0.1:1", http.Header{"X-User": {"joe"}}, "open", "", 401},
	} {
		h := api.Handler(func() *api.Access { return row.access }, routes)
		for _, path := range []string{"open", "figures", "see", "payloads", "operate", "nothing"} {
			who = api.Who{}
			r := httptest.NewRequest("GET", "/"+path, nil)
			r.RemoteAddr = row.from
			if row.header != nil {
				r.Header = row.header
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			want := row.other
			if strings.Contains(" "+row.may+" ", " "+path+" ") {
				want = 200
			}
			if path == "nothing" && strings.Contains(row.may, "see") {
				want = 404
			}
			if w.Code != want {
				t.Errorf("%s, %s: %d, want %d", row.what, path, w.Code, want)
			}
			if want == 200 && path != "open" && path != "figures" && who.Name != row.name {
				t.Errorf("%s, %s: it is %q, not %q", row.what, path, who.Name, row.name)
			}
			if want >= 400 && want != 404 {
				var p api.Problem
				if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Status != want || p.Detail == "" || p.Error != p.Detail || w.Header().Get("Content-Type") != "application/problem+json" {
					t.Errorf("%s, %s: no problem document: %s", row.what, path, w.Body)
				}
			}
		}
	}
}
