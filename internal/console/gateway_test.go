package console

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirdata/weir/internal/api"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/gateway"
	"github.com/weirdata/weir/internal/layout"
	"github.com/weirdata/weir/internal/tap"
	"github.com/weirdata/weir/internal/workspace"
)

// house is a gateway with sources, which takes what it is sent.
type house struct {
	w     *workspace.Workspace
	tally *gateway.Tally
	sent  func(key string, event []byte)
}

func (h house) Now() (*workspace.Workspace, *gateway.Tally) { return h.w, h.tally }
func (h house) Reached() (address string, hosts []string, tls bool) {
	return "0.0.0.0:8080", []string{"events.example"}, true
}

func (h house) Try(_ context.Context, key string, event []byte) (*gateway.Tried, error) {
	h.sent(key, event)
	return &gateway.Tried{Code: 200, Answer: "ok"}, nil
}

func houseOf(t *testing.T, sources int) house {
	t.Helper()
	var list []string
	for n := range sources {
		list = append(list, fmt.Sprintf(`{"id":"s%d","name":"source %d","writeKey":"the-write-key-of-%d","enabled":true,"sourceDefinition":{"name":"HTTP"},"destinations":[]}`, n, n, n))
	}
	w, err := workspace.Parse("w", []byte(`{"workspaceId":"w","sources":[`+strings.Join(list, ",")+`]}`), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return house{w: w, tally: &gateway.Tally{}}
}

// asker asks a console with a right.
func asker(t *testing.T, c *Console) func(right api.Right, method, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	access := &api.Access{Proxies: []api.Proxy{{Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, Header: "X-User", // where httptest asks from
		Named: map[string]api.Right{"see": api.See, "payloads": api.Payloads, "operate": api.Operate}}}}
	of := func() *api.Access { return access }
	h := api.Handler(of, c.Routes(of))
	return func(right api.Right, method, path, body string) *httptest.ResponseRecorder {
		w, r := httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
		r.Header.Set("X-User", right.String())
		h.ServeHTTP(w, r)
		return w
	}
}

func answerOf[T any](t *testing.T, w *httptest.ResponseRecorder) (v T) {
	t.Helper()
	if err := json.Unmarshal(w.Body.Bytes(), &v); w.Code != http.StatusOK || err != nil {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	return v
}

// TestGateways: pages of sources end where they end, whatever their size; a write key is whole for who
// may see payloads only; and a test event is for who may operate.
func TestGateways(t *testing.T) {
	t.Parallel()
	c, _ := made(t, 1)
	h := houseOf(t, 23)
	c.o.Gateways = func() []OpenGateway { return []OpenGateway{{"a", h}, {"b", h}} }
	ask := asker(t, c)
	for _, limit := range []int{1, 7, 23, 46, 500} {
		var got []string
		for after := ""; ; {
			page := answerOf[Gateways](t, ask(api.See, "GET", fmt.Sprintf("/v1/gateways?limit=%d&after=%s", limit, url.QueryEscape(after)), ""))
			n := 0
			for _, g := range page.Gateways {
				for _, s := range g.Sources {
					got, n = append(got, g.Pipeline+"/"+s.ID), n+1
					if s.Key != "the-…" {
						t.Fatalf("the write key is %q for who may not see payloads", s.Key)
					}
				}
			}
			if n > limit {
				t.Errorf("a page of %d has %d", limit, n)
			}
			if after = page.Next; after == "" {
				break
			}
		}
		if len(got) != 46 || got[0] != "a/s0" || got[22] != "a/s22" || got[45] != "b/s22" {
			t.Errorf("by %d: %d sources, %v", limit, len(got), got)
		}
	}
	if got := answerOf[Gateways](t, ask(api.Payloads, "GET", "/v1/gateways?text=SOURCE+17&pipeline=b", "")); len(got.Gateways) != 1 || len(got.Gateways[0].Sources) != 1 || got.Gateways[0].Sources[0].Key != "the-write-key-of-17" || got.Gateways[0].Known != 23 {
		t.Errorf("one that is chosen: %+v", got)
	}
	if w := ask(api.See, "GET", "/v1/gateways?after=nonsense", ""); w.Code != http.StatusBadRequest {
		t.Errorf("a cursor that nobody gave: %d", w.Code)
	}
	const trial = `{"pipeline":"a","source":"s3"}`
	for _, right := range []api.Right{api.See, api.Payloads} {
		if w := ask(right, "POST", "/v1/gateways/trial", trial); w.Code != http.StatusForbidden {
			t.Errorf("a test event by who may %s: %d", right, w.Code)
		}
	}
	for _, body := range []string{`{"pipeline":"a","source":"nobody"}`, `{"pipeline":"c","source":"s3"}`, `{`} {
		if w := ask(api.Operate, "POST", "/v1/gateways/trial", body); w.Code != http.StatusBadRequest {
			t.Errorf("%s: %d %s", body, w.Code, w.Body)
		}
	}
	c.Close()
}

// TestTrial: a test event goes with the write key of its source, and is followed wherever it goes, until
// a minute has passed; nothing of a payload is kept.
func TestTrial(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, _ := made(t, 1)
		hub := &tap.Hub{}
		c.o.Taps, c.follower.taps = hub, hub
		c.o.Graph = func() (*layout.Graph, int) {
			return &layout.Graph{Nodes: []layout.Node{{ID: "source/a"}, {ID: "pipeline/a"}, {ID: "queue/q"}, {ID: "pipeline/b"}, {ID: "pipeline/other"}},
				Edges: []layout.Edge{{From: "source/a", To: "pipeline/a"}, {From: "pipeline/a", To: "queue/q"}, {From: "queue/q", To: "pipeline/b"}}}, 1
		}
		c.o.Failures = nothing{}
		h := houseOf(t, 5)
		var keys []string
		h.sent = func(key string, text []byte) {
			keys = append(keys, key)
			m := event.New(text)
			var e struct {
				MessageID string `json:"messageId"`
			}
			if err := json.Unmarshal(text, &e); err != nil {
				t.Error(err)
			}
			m.Meta.ID = e.MessageID
			other := event.New(text)
			other.Meta.ID = "another"
			hub.Pipeline("a").Live().Read(event.Batch{other, m})
			time.Sleep(time.Millisecond)
			hub.Pipeline("b").Live().Written("target", event.Batch{m, other}, func(int) error { return nil })
			if hub.Pipeline("other").Live() != nil {
				t.Error("a pipeline is listened to that the event cannot come to")
			}
		}
		c.o.Gateways = func() []OpenGateway { return []OpenGateway{{"a", h}} }
		ask := asker(t, c)
		sent := answerOf[GatewayAnswer](t, ask(api.Operate, "POST", "/v1/gateways/trial", `{"pipeline":"a","source":"s3"}`))
		synctest.Wait()
		if len(keys) != 1 || keys[0] != "the-write-key-of-3" || sent.Code != 200 || sent.Answer != "ok" || sent.MessageID == "" {
			t.Errorf("%v was sent, %+v", keys, sent)
		}
		w := ask(api.See, "GET", "/v1/messages?id="+sent.MessageID, "")
		if strings.Contains(w.Body.String(), "Weir Test") {
			t.Errorf("what it holds is told: %s", w.Body)
		}
		trail := answerOf[Trail](t, w)
		if len(trail.Hops) != 2 || trail.Hops[0].Outcome != tap.Read || trail.Hops[1].Outcome != tap.Delivered || trail.Hops[1].Node != "pipeline/b" {
			t.Errorf("it went %+v", trail.Hops)
		}
		if strings.Join(trail.Through, " ") != "source/a pipeline/a queue/q pipeline/b" || len(trail.Perhaps) != 0 {
			t.Errorf("it passed %v, perhaps %v", trail.Through, trail.Perhaps)
		}
		time.Sleep(followTime + time.Second)
		if hub.Pipeline("a").Live() != nil || hub.Pipeline("b").Live() != nil {
			t.Error("it is still listened to")
		}
		for n := range 2 * mostRemembered { // each ends the one before
			c.follower.follow(fmt.Sprint(n), []string{"a", "b"})
		}
		synctest.Wait()
		if got := len(hub.Pipeline("a").Live()); got != 1 {
			t.Errorf("%d listen", got)
		}
		if len(c.follower.order) != mostRemembered {
			t.Errorf("%d are remembered", len(c.follower.order))
		}
		c.Close()
		if hub.Pipeline("a").Live() != nil {
			t.Error("it is listened to after the end")
		}
	})
}
