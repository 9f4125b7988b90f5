package gatewaysource

import (
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/meter"
)

// TestSuppressed: nothing is kept of a suppressed user in the sources that it is about, whatever way
// the events come; their client is told that they were taken, and others' go on.
func TestSuppressed(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *Config) {
		c.InternalEndpoints, c.RateLimitEvents, c.RateLimitBurstEvents, c.RateLimitWindowSeconds = true, 1000, 1000, 3600
		c.Suppression = &Suppression{Path: filepath.Join(t.TempDir(), "users"), Token: "hush", StartWaitSeconds: 60}
	})
	var mu sync.Mutex
	var ids []string
	s.run(t, func(b event.Batch) event.Outcomes {
		mu.Lock()
		defer mu.Unlock()
		for _, m := range b {
			ids = append(ids, m.Meta.ID)
		}
		return nil
	})
	put := func(method, at, token string, want int) {
		t.Helper()
		r, err := http.NewRequest(method, "http://"+s.Addr().String()+"/dataplane/workspaces/ws1/"+at, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth(token, "")
		resp, err := s.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s %s: %d, want %d", method, at, resp.StatusCode, want)
		}
	}
	put("PUT", "suppressions/gone", "wrong", 401)
	put("PUT", "suppressions/gone", "hush", 204)
	put("PUT", "suppressions/elsewhere?sourceId=src9", "hush", 204)
	put("PUT", "suppressions/here?sourceId=src1", "hush", 204)
	put("GET", "regulations/suppressions?pageSize=x", "hush", 400)
	put("GET", "regulations/suppressions", "hush", 200)
	put("POST", "suppressions/gone", "hush", 405)
	keyed := http.Header{"Authorization": nil}
	for _, row := range []struct {
		path, body string
		header     http.Header
		code       int
		want       string // the ids that are kept
	}{
		{"/v1/track", `{"userId":"gone","messageId":"a"}`, nil, 200, ""},
		{"/v1/track", `{"userId":" gone ","anonymousId":"x","messageId":"b"}`, nil, 200, ""},
		{"/v1/track", `{"anonymousId":"gone","messageId":"c"}`, nil, 200, "c"},
		{"/v1/track", `{"userId":"here","messageId":"d"}`, nil, 200, ""},
		{"/v1/track", `{"userId":"elsewhere","messageId":"e"}`, nil, 200, "e"},
		{"/v1/batch", `{"batch":[{"userId":"gone","messageId":"f"},{"userId":"u","messageId":"g"},{"userId":"gone","messageId":"h"},{"userId":"gone","messageId":"i"},{"userId":"v","messageId":"j"}]}`, nil, 200, "g j"},
		{"/v1/batch", `{"batch":[{"userId":"gone","messageId":"k"},{"messageId":"l"}]}`, nil, 400, ""},
		{"/v1/import", `{"batch":[{"userId":"gone","messageId":"m"},{"messageId":"n"}]}`, nil, 400, ""},
		{"/v1/batch", `{"writeKey":"KEY1","batch":[{"userId":"gone","messageId":"o"},{"userId":"u","messageId":"p"}]}`, keyed, 200, "p"},
		{"/internal/v1/batch", `[` + streamed("src1", "gone", "q") + `,` + streamed("src1", "u", "r") + `,` + streamed("src1", "here", "s") + `,` + streamed("src9", "here", "t") + `,` + streamed("src1", "", "u") + `]`, nil, 200, "r t u"},
	} {
		mu.Lock()
		ids = nil
		mu.Unlock()
		if r := s.post(t, row.path, strings.NewReader(row.body), row.header); r.code != row.code {
			t.Errorf("%s %s: %+v", row.path, row.body, r)
		}
		mu.Lock()
		slices.Sort(ids)
		if got := strings.Join(ids, " "); got != row.want {
			t.Errorf("%s %s: %q is kept, want %q", row.path, row.body, got, row.want)
		}
		mu.Unlock()
	}
	put("DELETE", "suppressions/gone", "hush", 204)
	if r := s.post(t, "/v1/track", strings.NewReader(`{"userId":"gone","messageId":"back"}`), nil); r.code != 200 {
		t.Errorf("%+v", r)
	}
	mu.Lock()
	defer mu.Unlock()
	if !slices.Contains(ids, "back") {
		t.Errorf("%q is kept", ids)
	}
	got := map[string]float64{}
	s.Measure(func(d *meter.Definition, v float64, _ ...string) { got[d.Name] = v })
	if got["weir_source_left_out_total"] != 10 || got["weir_suppressed_users"] != 2 || got["weir_suppression_synced_timestamp_seconds"] == 0 {
		t.Errorf("%v", got)
	}
}

// streamed is an event of an ingestion service.
func streamed(source, user, id string) string {
	return `{"properties":{"requestType":"track","routingKey":"r","workspaceID":"ws1","sourceID":"` + source + `","receivedAt":"2026-11-30T10:00:00Z","requestIP":"10.0.0.1","userID":"` + user + `"},` +
		`"payload":{"type":"track","messageId":"` + id + `","rudderId":"x","receivedAt":"2026-11-30T10:00:00Z","request_ip":"10.0.0.1"}}`
}

// TestSuppressionOverReload: what replaces a source goes on with the same users, and the folder is
// free once both have closed.
func TestSuppressionOverReload(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "users")
	kept := map[string]any{}
	with := func() *Source {
		s := build(t, func(c *Config) { c.Suppression = &Suppression{Path: path, Token: "hush", StartWaitSeconds: 60} })
		s.users = s.c.Suppression.suppressed(connector.Deps{Kept: func(name string, made func() any) any {
			if kept[name] == nil {
				kept[name] = made()
			}
			return kept[name]
		}})
		return s
	}
	first, second := with(), with()
	if first.users != second.users {
		t.Fatal("they have users of their own")
	}
	for _, s := range []*Source{first, second} {
		if err := s.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range []*Source{first, second, second} {
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	clear(kept)
	third := opened(t, with())
	if yes, err := third.users.Suppressed("w", "s", "u"); yes || err != nil {
		t.Errorf("%t, %v", yes, err)
	}
}
