package admin

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/addresstest"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/frontdoor"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/queue"
)

// elsewhere is a source at the address of the admin server.
type elsewhere struct{}

func (elsewhere) Accepting() bool { return true }
func (elsewhere) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.WriteString(w, "events at "+r.URL.Path)
}

// TestSharedAddress: below a path, or by a name, the server answers where a source does, and its
// client finds it there.
func TestSharedAddress(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		admin  Where
		route  frontdoor.Route // of the server
		source frontdoor.Route
	}{
		"by path": {Where{Path: "/ops"}, frontdoor.Route{Paths: []string{"/ops", "/ops/"}}, frontdoor.Route{Paths: []string{"/events", "/v1/"}}},
		"by name": {Where{HostNames: []string{"ops.example"}}, frontdoor.Route{Hosts: []string{"ops.example"}}, frontdoor.Route{Paths: []string{"/events", "/v1/"}}},
		"by both": {Where{HostNames: []string{"ops.example"}, Path: "/ops"}, frontdoor.Route{Hosts: []string{"ops.example"}, Paths: []string{"/ops", "/ops/"}}, frontdoor.Route{Hosts: []string{"events.example", "127.0.0.1"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			row.admin.Address = addresstest.Free(t)
			s := openStore(t)
			server, err := Listen(t.Context(), Options{Address: row.admin.Address, Path: row.admin.Path, Route: row.route,
				Pipelines: &meter.Registry{}, Ready: func() error { return nil },
				Store: func() (queue.Store, string, []connector.Queue) { return s, "memory", configured }})
			if err != nil {
				t.Fatal(err)
			}
			p, err := frontdoor.Enter(t.Context(), frontdoor.Door{Address: row.admin.Address, Owner: "a source", Route: row.source, Settings: settings}, elsewhere{})
			if err != nil {
				t.Fatal(err)
			}
			p.Lead()
			c, err := Dial(t.Context(), row.admin)
			if err != nil {
				t.Fatal(err)
			}
			if us, err := c.Queues(t.Context(), ""); err != nil || len(us.Queues) == 0 {
				t.Errorf("%v, %v", us, err)
			}
			c.Close()
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			r, err := client.Get("http://" + row.admin.Address + "/events")
			if err != nil {
				t.Fatal(err)
			}
			if text, _ := io.ReadAll(r.Body); string(text) != "events at /events" {
				t.Errorf("a source's request: %s %q", r.Status, text)
			}
			_ = r.Body.Close()
			if err := p.Leave(t.Context()); err != nil {
				t.Error(err)
			}
			if err := server.Close(context.Background()); err != nil {
				t.Error(err)
			}
			if err := server.Serve(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRebinding: a name that a site has resolve to this machine is not answered.
func TestRebinding(t *testing.T) {
	t.Parallel()
	server, err := Listen(t.Context(), Options{Address: "127.0.0.1:0", Pipelines: &meter.Registry{}, Ready: func() error { return nil },
		Store: func() (queue.Store, string, []connector.Queue) { return nil, "", nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close(context.Background()) }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for host, code := range map[string]int{"evil.example": 403, "localhost:9": 200, "": 200} {
		for _, path := range []string{"/healthz", "/metrics", "/debug/pprof/"} {
			r, _ := http.NewRequest(http.MethodGet, "http://"+server.Address()+path, nil)
			r.Host = host
			a, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			if text, _ := io.ReadAll(a.Body); a.StatusCode != code || code == 403 && !strings.Contains(string(text), "host_names") {
				t.Errorf("%q %s: %d %s", host, path, a.StatusCode, text)
			}
			_ = a.Body.Close()
		}
	}
}
