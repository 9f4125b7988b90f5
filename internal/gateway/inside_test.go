package gateway_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/gateway"
	"github.com/weirdata/weir/internal/workspace"
)

const insideText = `{"workspaceId":"ws1","sources":[
	{"id":"src1","writeKey":"KEY1","enabled":true,"sourceDefinition":{"name":"HTTP"},"destinations":[
		{"id":"d1","enabled":true,"isProcessorEnabled":true,"destinationDefinition":{"name":"WEBHOOK"},"config":{}},
		{"id":"d2","enabled":false,"isProcessorEnabled":true,"destinationDefinition":{"name":"WEBHOOK"},"config":{}}]},
	{"id":"src2","writeKey":"KEY2","enabled":false,"sourceDefinition":{"name":"HTTP"},"destinations":[]},
	{"id":"again","writeKey":"again","originalId":"src1","enabled":true,"sourceDefinition":{"name":"HTTP"},"destinations":[]},
	{"id":"resting","writeKey":"resting","originalId":"src1","enabled":false,"sourceDefinition":{"name":"HTTP"},"destinations":[]}]}`

func inside(t *testing.T, o gateway.Options) *gateway.Gateway {
	t.Helper()
	path := filepath.Join(t.TempDir(), "workspaceConfig.json")
	if err := os.WriteFile(path, []byte(insideText), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := workspace.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return gateway.New(f, o)
}

func with(r *http.Request, headers ...string) *http.Request {
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return r
}

// TestInside is the table of literal answers of what those inside of the network use.
func TestInside(t *testing.T) {
	t.Parallel()
	const (
		source, destination = "X-Rudder-Source-Id", "X-Rudder-Destination-Id"
		list                = `{"batch":[{"type":"track","userId":"u"}]}`
		message             = `{"properties":{"requestType":"batch","routingKey":"k","workspaceID":"ws9","sourceID":"s9","receivedAt":"2026-11-20T10:00:00.123456789Z","requestIP":"1.2.3.4"},"payload":{"type":"track"}}`
	)
	on, off, must := inside(t, gateway.Options{Internal: true, MaxEvents: 3}), inside(t, gateway.Options{}), inside(t, gateway.Options{Internal: true, RequireDestination: true})
	for _, row := range []struct {
		name    string
		g       *gateway.Gateway
		r       *http.Request
		code    int
		answer  string
		refused string
	}{
		{"extract", on, post("/internal/v1/extract", "KEY1", `{"event":"row"}`), 200, "ok", ""},
		{"extract without a key", on, post("/internal/v1/extract", "", `{"event":"row"}`), 401, "failed to read writekey from header\n", ""},
		{"audiencelist", on, post("/internal/v1/audiencelist", "KEY1", `{"userId":"u"}`), 200, "ok", ""},
		{"retl", on, with(post("/internal/v1/retl", "", list), source, "src1"), 200, "ok", ""},
		{"retl to one", on, with(post("/internal/v1/retl", "", list), source, "src1", destination, "d1"), 200, "ok", ""},
		{"retl without source", on, post("/internal/v1/retl", "KEY1", list), 401, "failed to read source id from header\n", ""},
		{"retl of nobody", on, with(post("/internal/v1/retl", "", list), source, "src9"), 401, "invalid source id\n", ""},
		{"retl of a source that is off", on, with(post("/internal/v1/retl", "", list), source, "src2"), 404, "source is disabled\n", ""},
		{"retl to another's", on, with(post("/internal/v1/retl", "", list), source, "src1", destination, "d9"), 400, "invalid destination id\n", ""},
		{"retl to one that is off", on, with(post("/internal/v1/retl", "", list), source, "src1", destination, "d2"), 404, "destination is disabled\n", ""},
		{"retl that must say where to", must, with(post("/internal/v1/retl", "", list), source, "src1"), 400, "failed to read destination id from header\n", ""},
		{"retl says where to", must, with(post("/internal/v1/retl", "", list), source, "src1", destination, "d1"), 200, "ok", ""},
		{"retl of records", on, with(post("/internal/v1/retl", "", `{"batch":[{"type":"record"}]}`), source, "src1"), 200, "ok", ""},
		{"replay", on, with(post("/internal/v1/replay", "", list), source, "again"), 200, "ok", ""},
		{"replay without source", on, post("/internal/v1/replay", "", list), 401, "failed to read source id from header\n", ""},
		{"replay of nobody", on, with(post("/internal/v1/replay", "", list), source, "src9"), 401, "invalid source id\n", ""},
		{"replay of one that repeats nothing", on, with(post("/internal/v1/replay", "", list), source, "src1"), 401, "invalid replay source\n", ""},
		{"replay that is off", on, with(post("/internal/v1/replay", "", list), source, "resting"), 404, "source is disabled\n", ""},

		{"stream", on, post("/internal/v1/batch", "", `[`+message+`,`+message+`]`), 200, "ok", ""},
		{"stream with spaces", on, post("/internal/v1/batch", "", " [ "+message+" ] "), 200, "ok", ""},
		{"empty stream", on, post("/internal/v1/batch", "", `[]`), 400, "event is not a valid rudder event\n", "batch[0]"},
		{"no stream", on, post("/internal/v1/batch", "", list), 400, "invalid json\n", ""},
		{"broken stream", on, post("/internal/v1/batch", "", `[`+message), 400, "invalid json\n", ""},
		{"rest behind a stream", on, post("/internal/v1/batch", "", `[`+message+`]x`), 400, "invalid json\n", ""},
		{"broken behind a bad message", on, post("/internal/v1/batch", "", `[{},]`), 400, "invalid json\n", ""},
		{"no properties", on, post("/internal/v1/batch", "", `[`+message+`,{"payload":{}}]`), 400, "missing required fields stream in message\n", "batch[1]"},
		{"no routing key", on, post("/internal/v1/batch", "", `[`+strings.Replace(message, "routingKey", "x", 1)+`]`), 400, "missing required fields stream in message\n", "batch[0]"},
		{"no time", on, post("/internal/v1/batch", "", `[`+strings.Replace(message, "2026-", "x", 1)+`]`), 400, "missing required fields stream in message\n", "batch[0]"},
		{"no event", on, post("/internal/v1/batch", "", `[`+strings.Replace(message, `{"type":"track"}`, "1", 1)+`]`), 400, "event is not a valid rudder event\n", "batch[0]"},
		{"no message", on, post("/internal/v1/batch", "", `[`+message+`,7]`), 400, "event is not a valid rudder event\n", "batch[1]"},
		{"long stream", on, post("/internal/v1/batch", "", `[`+message+strings.Repeat(","+message, 3)+`]`), 413, "request size exceeds max limit\n", ""},

		{"off", off, post("/internal/v1/extract", "KEY1", `{}`), 404, "404 page not found\n", ""},
		{"off, retl", off, with(post("/internal/v1/retl", "", list), source, "src1"), 404, "404 page not found\n", ""},
		{"off, stream", off, post("/internal/v1/batch", "", `[]`), 404, "404 page not found\n", ""},
	} {
		_, a := ask(t, row.g, row.r)
		w := httptest.NewRecorder()
		a.Write(w, 1)
		if w.Code != row.code || w.Body.String() != row.answer || w.Header().Get("X-Weir-Event") != row.refused {
			t.Errorf("%s: %d %q %q, want %d %q %q", row.name, w.Code, w.Body, w.Header().Get("X-Weir-Event"), row.code, row.answer, row.refused)
		}
	}
}

// TestWhose: what the headers and the first event say of destination and run reaches the messages.
func TestWhose(t *testing.T) {
	t.Parallel()
	g := inside(t, gateway.Options{Internal: true})
	list := func(context string) string {
		return `{"batch":[{"type":"track","userId":"u","context":` + context + `},{"type":"track","userId":"v","context":{"sources":{"job_run_id":"no"}}}]}`
	}
	ofSource := &event.Scope{Workspace: "ws1", Source: "src1"}
	for _, row := range []struct {
		name  string
		r     *http.Request
		scope *event.Scope
		about *event.Descriptor
	}{
		{"nothing", post("/v1/batch", "KEY1", list(`{}`)), ofSource, nil},
		{"headers", with(post("/v1/batch", "KEY1", list(`{}`)), "X-Rudder-Job-Run-Id", "j", "X-Rudder-Task-Run-Id", "t"), ofSource, &event.Descriptor{JobRun: "j", TaskRun: "t"}},
		{"context", post("/v1/batch", "KEY1", list(`{"sources":{"job_run_id":"j","task_run_id":5}}`)), ofSource, &event.Descriptor{JobRun: "j", TaskRun: "5"}},
		{"context with escapes", post("/v1/batch", "KEY1", list(`{"s\u006furces":{"job\u005frun_id":"\u006a"}}`)), ofSource, &event.Descriptor{JobRun: "j"}},
		{"the context counts", with(post("/v1/batch", "KEY1", list(`{"sources":{"job_run_id":"k","version":"1"}}`)), "X-Rudder-Job-Run-Id", "j", "X-Rudder-Task-Run-Id", "t"), ofSource, &event.Descriptor{JobRun: "k", TaskRun: "t"}},
		{"no object", post("/v1/batch", "KEY1", list(`{"sources":["job_run_id"],"job_run_id":"x"}`)), ofSource, nil},
		{"destination", with(post("/internal/v1/retl", "", list(`{}`)), "X-Rudder-Source-Id", "src1", "X-Rudder-Destination-Id", "d1", "X-Rudder-Job-Run-Id", "j"), &event.Scope{Workspace: "ws1", Source: "src1", Destination: "d1"}, &event.Descriptor{JobRun: "j"}},
		{"stream", post("/internal/v1/batch", "", strings.Repeat(`[{"properties":{"requestType":"track","routingKey":"u","workspaceID":"w","sourceID":"s","destinationID":"d","receivedAt":"2026-11-20T10:00:00Z","requestIP":"::1","sourceJobRunID":"j","sourceTaskRunID":"t"},"payload":{ "messageId":"m" }},{"properties":{"requestType":"track","routingKey":"v","workspaceID":"w","sourceID":"s","destinationID":"d","receivedAt":"2026-11-20T10:00:00Z","requestIP":"::1","sourceJobRunID":"j","sourceTaskRunID":"t"},"payload":{}}]`, 1)), &event.Scope{Workspace: "w", Source: "s", Destination: "d"}, &event.Descriptor{JobRun: "j", TaskRun: "t"}},
	} {
		b, a := ask(t, g, row.r)
		if a != gateway.OK || len(b) != 2 || b[0].Key != "u" || b[1].Key != "v" {
			t.Fatalf("%s: %d %s, %d events", row.name, a.Code, a.Body, len(b))
		}
		for _, m := range b {
			if d := cmp.Diff(row.scope, m.Meta.Scope) + cmp.Diff(row.about, m.Meta.Descriptor); d != "" {
				t.Errorf("%s: -want +got\n%s", row.name, d)
			}
		}
		if row.name == "stream" && (string(b[0].Data) != `{"messageId":"m"}` || b[0].Meta.ID != "m" || b[1].Meta.ID == "" || string(b[1].Data) != `{}`) {
			t.Errorf("%s, id %q; %s, id %q", b[0].Data, b[0].Meta.ID, b[1].Data, b[1].Meta.ID)
		}
	}
	long := strings.Repeat("j", 9<<10)
	for _, r := range []*http.Request{post("/v1/batch", "KEY1", list(`{"sources":{"job_run_id":"`+long+`"}}`)), with(post("/v1/batch", "KEY1", list(`{}`)), "X-Rudder-Job-Run-Id", long)} {
		if _, a := ask(t, g, r); a.Code != 400 {
			t.Errorf("a name of a run that is not kept: %d %s", a.Code, a.Body)
		}
	}
}

// TestReplayedTimes: a replay keeps when its events were received, and goes by that.
func TestReplayedTimes(t *testing.T) {
	t.Parallel()
	g := inside(t, gateway.Options{Internal: true})
	b, a := ask(t, g, with(post("/internal/v1/replay", "", `{"batch":[
		{"userId":"u","receivedAt":"2020-01-01T10:00:00.5Z","sentAt":"2020-01-01T12:00:00Z","originalTimestamp":"2020-01-01T11:59:00Z"},{"userId":"u","receivedAt":"2020-01-01T10:00:00.5Z"},{"userId":"u"}]}`), "X-Rudder-Source-Id", "again"))
	if a != gateway.OK || len(b) != 3 {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	for i, want := range []map[string]string{
		{"receivedAt": "2020-01-01T10:00:00.500Z", "timestamp": "2020-01-01T09:59:00.500Z", "sentAt": "2020-01-01T12:00:00.000Z"},
		{"receivedAt": "2020-01-01T10:00:00.500Z", "timestamp": "2020-01-01T10:00:00.500Z", "sentAt": "2020-01-01T10:00:00.500Z"},
		{"receivedAt": "2026-11-20T12:05:00.007Z", "timestamp": "2026-11-20T12:05:00.007Z", "sentAt": "2026-11-20T12:05:00.007Z"},
	} {
		var got map[string]any
		if err := json.Unmarshal(b[i].Data, &got); err != nil {
			t.Fatal(err)
		}
		for name, text := range want {
			if got[name] != text {
				t.Errorf("event %d: %s is %v, want %s", i, name, got[name], text)
			}
		}
	}
}

// TestImport: the events of each user are taken or not; those of nobody are one user's.
func TestImport(t *testing.T) {
	t.Parallel()
	g := open(t, gateway.Options{MaxEvents: 5})
	for _, row := range []struct {
		body    string
		code    int
		answer  string
		refused string
		keys    []string
	}{
		{`{"batch":[{"userId":"a"},{"userId":"b"},{"anonymousId":"c"}]}`, 200, "ok", "", []string{"a", "b", "c"}},
		{`{"batch":[{"userId":"a"},{},{"userId":"b"}]}`, 400, "request neither has anonymousId nor userId\n", "batch[1]", []string{"a", "b"}},
		{`{"batch":[{"userId":"a"},7,{"type":"record"},{}]}`, 400, "event is not a valid rudder event\n", "batch[1]", []string{"a"}},
		{`{"batch":[{"type":"record"},{"userId":"a"}]}`, 200, "ok", "", []string{"", "a"}},
		{`{"batch":[{}]}`, 400, "request neither has anonymousId nor userId\n", "batch[0]", nil},
		{`{"batch":[{"userId":"a"},{]}`, 400, "invalid json\n", "", nil},
		{`{"batch":[{"userId":"a"},[}]}`, 400, "invalid json\n", "", nil},
		{`{"batch":[]}`, 400, "empty batch payload\n", "", nil},
		{`{"batch":[{},{},{},{},{},{}]}`, 413, "request size exceeds max limit\n", "", nil},
		{`{"batch":[{}],"batch":[{"userId":"a"}]}`, 200, "ok", "", []string{"a"}},
	} {
		b, a := ask(t, g, post("/v1/import", "KEY1", row.body))
		var keys []string
		for _, m := range b {
			keys = append(keys, m.Key)
			if !json.Valid(m.Data) || m.Meta.ID == "" {
				t.Errorf("%s: %s", row.body, m.Data)
			}
		}
		if a.Code != row.code || string(a.Body) != row.answer || a.Event != row.refused || cmp.Diff(row.keys, keys) != "" {
			t.Errorf("%s: %d %q %q, events of %q", row.body, a.Code, a.Body, a.Event, keys)
		}
	}
}

// TestNamesTheEvent: a batch that is refused for one of its events says which.
func TestNamesTheEvent(t *testing.T) {
	t.Parallel()
	g := open(t, gateway.Options{})
	for body, want := range map[string]string{
		`{"batch":[{"userId":"u"},{"userId":"u"},{}]}`: "batch[2]",
		`{"batch":[1]}`:               "batch[0]",
		`{"batch":[{"userId":"u"},]}`: "",
		`{}`:                          "",
	} {
		_, a := ask(t, g, post("/v1/batch", "KEY1", body))
		w := httptest.NewRecorder()
		w.Header().Set("Access-Control-Allow-Origin", "https://shop.example")
		a.Write(w, 1)
		if w.Code != 400 || w.Header().Get("X-Weir-Event") != want || (want != "") != (w.Header().Get("Access-Control-Expose-Headers") != "") {
			t.Errorf("%s: %d %v", body, w.Code, w.Header())
		}
	}
	if _, a := ask(t, g, post("/v1/track", "KEY1", `{}`)); a.Event != "" {
		t.Errorf("a single event is %s", a.Event)
	}
}

// TestOrigins: pages of the origins that are named may use the gateway, and no others.
func TestOrigins(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		list    []string
		origin  string
		allowed bool
	}{
		{nil, "https://any.example", true},
		{[]string{"https://shop.example", "*"}, "https://any.example", true},
		{[]string{"https://shop.example"}, "https://shop.example", true},
		{[]string{"https://Shop.example"}, "https://shop.example", true},
		{[]string{"https://shop.example"}, "http://shop.example", false},
		{[]string{"https://shop.example"}, "https://shop.example.evil.example", false},
		{[]string{"https://shop.example"}, "https://shop.example:8443", false},
		{[]string{"http://localhost:3000"}, "http://localhost:3000", true},
		{[]string{"https://*.shop.example"}, "https://a.b.shop.example", true},
		{[]string{"https://*.shop.example"}, "https://shop.example", false},
		{[]string{"https://*.shop.example"}, "https://evilshop.example", false},
		{[]string{"https://*.shop.example"}, "https://.shop.example", false},
		{[]string{"https://shop.example"}, "null", false},
	} {
		g := open(t, gateway.Options{Origins: row.list})
		for _, method := range []string{http.MethodOptions, http.MethodPost} {
			r := with(httptest.NewRequest(method, "/v1/track", nil), "Origin", row.origin)
			if method == http.MethodOptions {
				r.Header.Set("Access-Control-Request-Method", "POST")
			}
			w := httptest.NewRecorder()
			if g.CORS(w, r) != (method == http.MethodOptions) || w.Header().Get("Vary") == "" {
				t.Errorf("%s %s: %v", method, row.origin, w.Header())
			}
			lines := string(g.AppendCORS(nil, []byte(row.origin), gateway.OK))
			if method == http.MethodOptions {
				lines = string(g.AppendPreflight(nil, []byte(row.origin), []byte("POST"), nil))
			}
			if got := w.Header().Get("Access-Control-Allow-Origin"); (got == row.origin) != row.allowed || (got != "") != row.allowed || strings.Contains(lines, "Allow-Origin: "+row.origin+"\r\n") != row.allowed || strings.Contains(lines, "Credentials") != row.allowed {
				t.Errorf("%v, %s %s: %v, and by hand %q", row.list, method, row.origin, w.Header(), lines)
			}
		}
	}
	for _, origin := range []string{"*", "https://shop.example", "http://localhost:3000", "https://*.shop.example", "app://x"} {
		if err := gateway.CheckOrigin(origin); err != nil {
			t.Error(err)
		}
	}
	for _, origin := range []string{"", "shop.example", "https://", "https://shop.example/", "https://*", "https://a*.example", "https://u@shop.example"} {
		if gateway.CheckOrigin(origin) == nil {
			t.Errorf("%q passes as an origin", origin)
		}
	}
}

// FuzzStream sends arbitrary bytes as what others than SDKs send: there is an answer, and every message is valid
// JSON with a key that somebody gave it.
func FuzzStream(f *testing.F) {
	for _, seed := range []string{`[{"properties":{"requestType":"t","routingKey":"k","workspaceID":"w","sourceID":"s","receivedAt":"2026-11-20T10:00:00Z","requestIP":"1"},"payload":{"messageId":" "}}]`, `[{"properties":{},"payload":{}}]`, `[]`, `[1]`, `{"batch":[{"userId":1},{},[],{"type":"record"}]}`, `{"batch":[{}],"batch":[{"userId":1,"context":{"sources":{"job_run_id":1}}}]}`} {
		for _, path := range []string{"/internal/v1/batch", "/v1/import", "/internal/v1/extract"} {
			f.Add(path, []byte(seed))
		}
	}
	g := open(f, gateway.Options{Internal: true})
	f.Fuzz(func(t *testing.T, path string, body []byte) {
		if path != "/internal/v1/batch" && path != "/internal/v1/extract" {
			path = "/v1/import"
		}
		var c gateway.Call
		if a := g.Begin(&c, post(path, "KEY1", ""), received); a != nil {
			t.Fatal(a.Code)
		}
		b, a := g.Events(&c, body)
		if (len(b) == 0) == (a == nil) {
			t.Fatalf("%d messages, answer %v", len(b), a)
		}
		for _, m := range b {
			if !json.Valid(m.Data) || m.Meta.ID == "" || m.Meta.Scope == nil || cap(m.Data) != len(m.Data) {
				t.Fatalf("%s, id %q", m.Data, m.Meta.ID)
			}
		}
	})
}
