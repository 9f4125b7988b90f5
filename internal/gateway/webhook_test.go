package gateway_test

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/gateway"
	"github.com/weirdata/weir/internal/workspace"
)

const (
	hooksText = `{"workspaceId":"ws1","sources":[
	{"id":"plain","writeKey":"PLAIN","enabled":true,"sourceDefinition":{"name":"webhook","category":"webhook"},"destinations":[]},
	{"id":"shop","name":"Shop","writeKey":"SHOP","enabled":true,"config":{"tax":19},"sourceDefinition":{"name":"Shopify","category":"webhook","type":"cloud"},"destinations":[]},
	{"id":"new","writeKey":"NEW","enabled":true,"sourceDefinition":{"name":"Second","category":"webhook"},"destinations":[]},
	{"id":"own","writeKey":"OWN","enabled":true,"sourceDefinition":{"name":"Second","category":"webhook"},"destinations":[]},
	{"id":"adjust","writeKey":"ADJUST","enabled":true,"sourceDefinition":{"name":"Adjust","category":"webhook"},"destinations":[]},
	{"id":"loop","writeKey":"LOOP","enabled":true,"sourceDefinition":{"name":"Loop","category":"webhook"},"destinations":[]},
	{"id":"off","writeKey":"OFF","enabled":false,"sourceDefinition":{"name":"webhook","category":"webhook"},"destinations":[]},
	{"id":"site","writeKey":"SITE","enabled":true,"sourceDefinition":{"name":"HTTP"},"destinations":[]}]}`

	firstScript = `function process(input) {
	const e = input.event;
	if (e.fail) { throw new Error("no " + e.fail); }
	if (e.nothing) { return null; }
	if (e.nobody) { return {type: "track"}; }
	if (e.refuse) { return {statusCode: 422, error: "unprocessable\r\nSet-Cookie: x"}; }
	if (e.teapot) { return {statusCode: 9, error: "odd"}; }
	if (e.number) { return 7; }
	return [{type: "track", userId: String(e.id), event: "Order", messageId: "m" + e.id, properties: {id: e.id, nest: e.nest, query: e.query_parameters, tax: input.source.Config.tax, of: input.source.SourceDefinition.Name}}];
}`
	secondScript = `function process(input) {
	const r = input.request;
	const sum = {outputToSource: {body: "Y2hhbGxlbmdl", contentType: "text/x-challenge"}};
	if (r.query_parameters.challenge) { return sum; }
	if (r.query_parameters.both) { sum.output = {batch: [{type: "identify", userId: "u"}]}; return sum; }
	if (r.query_parameters.one) { return {output: {type: "track", userId: "u", event: r.body}}; }
	if (r.query_parameters.none) { return {output: {batch: []}}; }
	return {output: {batch: [{type: "track", userId: "u", event: r.method, properties: {body: r.body, header: r.headers["X-Kind"], proto: r.proto, source: input.source.ID}}]}};
}`
)

// patience is how long, in milliseconds, a script that comes to an end may take on a busy machine.
const patience = 120_000

// hooked is a gateway with webhook sources.
func hooked(t testing.TB) *gateway.Gateway {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"workspaceConfig.json": hooksText, "first.js": firstScript, "second.js": secondScript, "loop.js": `function process() { for (;;) {} }`, "own.js": `function process() { return {type: "track", userId: "own"} }`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := workspace.Open(filepath.Join(dir, "workspaceConfig.json"), nil)
	if err != nil {
		t.Fatal(err)
	}
	hooks, err := gateway.NewHooks(connector.Deps{Dir: dir}, []*gateway.Webhook{
		{Source: "SHOPIFY", ScriptPath: "first.js", Version: "v1", TimeoutMillis: patience}, {Source: "second", ScriptPath: "second.js", ForwardGet: true, TimeoutMillis: patience},
		{Source: "own", ScriptPath: "own.js", TimeoutMillis: patience}, {Source: "gone", ScriptPath: "own.js"}, {Source: "loop", ScriptPath: "loop.js", TimeoutMillis: 50},
	})
	if err != nil {
		t.Fatal(err)
	}
	warned := strings.Join(hooks.Warnings(f.Current()), "\n")
	if n := strings.Count(warned, "\n"); n != 1 || !strings.Contains(warned, `source "adjust"`) || !strings.Contains(warned, `webhook "gone"`) {
		t.Errorf("warnings: %s", warned)
	}
	return gateway.New(f, gateway.Options{Hooks: hooks})
}

func hit(method, path, body string, headers ...string) *http.Request {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.RemoteAddr = "192.0.2.7:4711"
	return with(r, headers...)
}

// TestWebhook is the table of literal answers to requests to webhook sources, and of what becomes of
// them: events, or a request that is kept.
func TestWebhook(t *testing.T) {
	t.Parallel()
	g := hooked(t)
	const form, multi = "application/x-www-form-urlencoded", "multipart/form-data; boundary=B"
	basic := post("/", "SHOP", "").Header.Get("Authorization")
	for _, row := range []struct {
		name   string
		r      *http.Request
		code   int
		answer string
		want   string // members of the events, one after the other; "kept" for a request that is
	}{
		{"no key", hit("POST", "/v1/webhook", `{}`), 401, "failed to read writekey from query params\n", ""},
		{"wrong key", hit("POST", "/v1/webhook?writeKey=NO", `{}`), 401, "invalid write key\n", ""},
		{"off", hit("POST", "/v1/webhook?writeKey=OFF", `{}`), 404, "source is disabled\n", ""},
		{"no webhook source", hit("POST", "/v1/webhook?writeKey=SITE", `{}`), 404, "source does not accept webhook events\n", ""},
		{"method", hit("PUT", "/v1/webhook?writeKey=SHOP", `{}`), 405, "invalid http request method\n", ""},
		{"GET that means nothing", hit("GET", "/v1/webhook?writeKey=SHOP", ``), 200, "", ""},
		{"GET of adjust", hit("GET", "/v1/webhook?writeKey=ADJUST&idfa=1", ``), 200, "ok", `webhook_source_event {"idfa":["1"],"writeKey":["ADJUST"]}`},
		{"GET that is wanted", hit("GET", "/v1/webhook?writeKey=NEW", ``), 200, "ok", `GET {"body":"","proto":"HTTP/1.1","source":"new"}`},

		{"v1", hit("POST", "/v1/webhook?writeKey=SHOP&topic=a", `{"id":5,"nest":{"n":12345678901234567890}}`), 200, "ok", `Order {"id":5,"nest":{"n":12345678901234567890},"query":{"topic":["a"],"writeKey":["SHOP"]},"tax":19,"of":"Shopify"}`},
		{"v1 by Basic", hit("POST", "/v1/webhook", ` {"id" : 1 } `, "Authorization", basic), 200, "ok", `Order {"id":1,"tax":19,"of":"Shopify"}`},
		{"v1 of nothing", hit("POST", "/v1/webhook", ``, "Authorization", basic), 200, "ok", `Order {"tax":19,"of":"Shopify"}`},
		{"v1, form", hit("POST", "/v1/webhook", `id=a&id=b`, "Authorization", basic, "Content-Type", form), 200, "ok", `Order {"id":["a","b"],"tax":19,"of":"Shopify"}`},
		{"v1, JSON by another name", hit("POST", "/v1/webhook", `{"id":1}`, "Authorization", basic, "Content-Type", form), 200, "ok", `Order {"id":1,"tax":19,"of":"Shopify"}`},
		{"v1, no JSON", hit("POST", "/v1/webhook", `id=a`, "Authorization", basic), 400, "invalid json\n", "kept"},
		{"bad form", hit("POST", "/v1/webhook", `a=%zz`, "Authorization", basic, "Content-Type", form), 400, "error during parsing form\n", "kept"},
		{"bad parts", hit("POST", "/v1/webhook", `a`, "Authorization", basic, "Content-Type", multi), 400, "error during parsing multiform\n", "kept"},
		{"throws", hit("POST", "/v1/webhook", `{"fail":"price"}`, "Authorization", basic), 400, "no price\n", "kept"},
		{"for ever", hit("POST", "/v1/webhook?writeKey=LOOP", ``), 400, "internal server error in source transformer\n", "kept"},
		{"no result", hit("POST", "/v1/webhook", `{"number":true}`, "Authorization", basic), 400, "internal server error in source transformer\n", "kept"},
		{"refuses", hit("POST", "/v1/webhook", `{"refuse":true}`, "Authorization", basic), 422, "unprocessable  Set-Cookie: x\n", "kept"},
		{"refuses oddly", hit("POST", "/v1/webhook", `{"teapot":true}`, "Authorization", basic), 400, "odd\n", "kept"},
		{"event of nobody", hit("POST", "/v1/webhook", `{"nobody":true}`, "Authorization", basic), 400, "request neither has anonymousId nor userId\n", "kept"},
		{"nothing comes of it", hit("POST", "/v1/webhook", `{"nothing":true}`, "Authorization", basic), 200, "ok", ""},

		{"v2", hit("POST", "/v1/webhook?writeKey=NEW", `any <text>`, "X-Kind", "a"), 200, "ok", `POST {"body":"any <text>","header":["a"],"proto":"HTTP/1.1","source":"new"}`},
		{"v2, parts", hit("POST", "/v1/webhook?writeKey=NEW&one=1", "--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx\r\n--B\r\nContent-Disposition: form-data; name=\"f\"; filename=\"n.txt\"\r\n\r\nabc\r\n--B--\r\n", "Content-Type", multi), 200, "ok",
			`{"File":{"f":[{"Filename":"n.txt","Header":{"Content-Disposition":["form-data; name=\"f\"; filename=\"n.txt\""]},"Size":3}]},"Value":{"a":["x"]}} `},
		{"v2, only an answer", hit("POST", "/v1/webhook?writeKey=NEW&challenge=1", ``), 200, "challenge", ""},
		{"v2, both", hit("POST", "/v1/webhook?writeKey=NEW&both=1", ``), 200, "challenge", ` `},
		{"v2, none", hit("POST", "/v1/webhook?writeKey=NEW&none=1", ``), 200, "ok", ``},
		{"script of a source", hit("POST", "/v1/webhook?writeKey=OWN", ``), 200, "ok", ` `},

		{"no script", hit("POST", "/v1/webhook?writeKey=PLAIN", `{"a":1}`), 200, "ok", `webhook_source_event {"a":1}`},
		{"no script, list", hit("POST", "/v1/webhook?writeKey=PLAIN", `[{"a":1},2]`), 200, "ok", `webhook_source_event {"a":1} webhook_source_event 2`},
		{"no script, no JSON", hit("POST", "/v1/webhook?writeKey=PLAIN", `<a/>`), 400, "invalid json\n", "kept"},
	} {
		b, a := ask2(t, g, row.r)
		w := httptest.NewRecorder()
		a.Write(w, 1)
		if w.Code != row.code || w.Body.String() != row.answer {
			t.Errorf("%s: %d %q, want %d %q", row.name, w.Code, w.Body, row.code, row.answer)
		}
		if row.answer == "challenge" && w.Header().Get("Content-Type") != "text/x-challenge" {
			t.Errorf("%s: %v", row.name, w.Header())
		}
		var got []string
		for _, m := range b {
			if gateway.Kept(m.Data) {
				got = append(got, "kept")
				if m.Refused() == nil || m.Meta.Scope.Source == "" {
					t.Errorf("%s: it is kept without a reason, or nobody's", row.name)
				}
				continue
			}
			var e struct {
				Event      string
				Properties json.RawMessage
			}
			if err := json.Unmarshal(m.Data, &e); err != nil || m.Refused() != nil || m.Key == "" {
				t.Fatalf("%s: %v, %v, key %q", row.name, err, m.Refused(), m.Key)
			}
			got = append(got, e.Event+" "+string(e.Properties))
		}
		if d := cmp.Diff(row.want, strings.Join(got, " ")); d != "" {
			t.Errorf("%s: -want +got\n%s", row.name, d)
		}
	}
}

// ask2 is ask for requests that may come to nothing.
func ask2(t *testing.T, g *gateway.Gateway, r *http.Request) (event.Batch, *gateway.Answer) {
	t.Helper()
	var c gateway.Call
	if a := g.Begin(&c, r, received); a != nil {
		return nil, a
	}
	var body []byte
	if c.HasBody() {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			t.Fatal(err)
		}
	}
	b, a := g.Events(&c, body)
	if a != nil {
		return b, c.Done(a)
	}
	return b, c.Done(gateway.OK)
}

// TestKeptRequest: a request that was kept shows no secrets, and becomes events once its script can.
func TestKeptRequest(t *testing.T) {
	t.Parallel()
	g := hooked(t)
	b, _ := ask2(t, g, hit("POST", "/v1/webhook?writeKey=SHOP&topic=a", `{"id":5,"fail":"x"}`, "Authorization", "Bearer s3cret", "X-Shop", "acme", "Cookie", "s3cret"))
	if len(b) != 1 || strings.Contains(string(b[0].Data), "s3cret") || strings.Contains(string(b[0].Data), `["SHOP"]`) || strings.Contains(string(b[0].Data), "writeKey=SHOP") || !strings.Contains(string(b[0].Data), "acme") {
		t.Fatalf("%d messages: %s", len(b), b[0].Data)
	}
	m := b[0]
	if _, err := g.Again(m); err == nil || !strings.Contains(err.Error(), "no x") {
		t.Errorf("sent again as it was: %v", err)
	}
	m.Data = []byte(strings.Replace(string(m.Data), `\"fail\":\"x\"`, `\"ok\":1`, 1)) // as if the script were mended
	again, err := g.Again(m)
	if err != nil || len(again) != 1 {
		t.Fatalf("%d events, %v", len(again), err)
	}
	var e map[string]any
	if err := json.Unmarshal(again[0].Data, &e); err != nil {
		t.Fatal(err)
	}
	if e["receivedAt"] != "2026-11-20T12:05:00.007Z" || e["request_ip"] != "192.0.2.7" || e["messageId"] != "m5" || again[0].Meta.Scope.Source != "shop" {
		t.Errorf("%v", slices.Sorted(maps.Keys(e)))
	}
	m.Meta.Scope = &event.Scope{Source: "gone"}
	if _, err := g.Again(m); err == nil {
		t.Error("a request of a source that is gone")
	}
}

// TestWebhookScripts: what is wrong with a script is said before anything runs.
func TestWebhookScripts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"none.js": `var x = 1`, "syntax.js": `function process( {`, "throws.js": `throw new Error("x")`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := gateway.NewHooks(connector.Deps{Dir: dir}, []*gateway.Webhook{{Source: "a", ScriptPath: name}}); err == nil || !strings.Contains(err.Error(), `webhook "a"`) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := gateway.NewHooks(connector.Deps{Dir: dir}, []*gateway.Webhook{{Source: "a", ScriptPath: "gone.js"}}); err == nil {
		t.Error("a script that is not there")
	}
	for _, list := range [][]*gateway.Webhook{{{ScriptPath: "x"}}, {{Source: "a", ScriptPath: "x"}, {Source: "A", ScriptPath: "y"}}, {{Source: "a", ScriptPath: "x", Version: "v3"}}, {{Source: "a"}}, {{Source: "a", ScriptPath: "x", TimeoutMillis: -1}}} {
		if ps := gateway.CheckWebhooks(list); len(ps) != 1 || ps[0].Fix == "" {
			t.Errorf("%+v: %v", list[0], ps)
		}
	}
}
