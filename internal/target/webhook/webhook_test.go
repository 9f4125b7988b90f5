package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/workspace"
)

func TestMain(m *testing.M) {
	if os.Getenv(hookProcess) != "" {
		if err := serveHooks(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// got is a request as a destination sees it.
type got struct {
	Method, URL, Body string
	Header            http.Header
}

// hook is a destination that keeps what it gets and answers what the test says.
type hook struct {
	*httptest.Server
	mu     sync.Mutex
	got    []got
	answer func(w http.ResponseWriter, g got)
}

func serve(t testing.TB) *hook {
	h := &hook{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		g := got{r.Method, r.URL.String(), string(body), r.Header}
		h.mu.Lock()
		answer := h.answer
		h.mu.Unlock()
		if answer != nil {
			answer(w, g)
		}
		h.mu.Lock()
		h.got = append(h.got, g)
		h.mu.Unlock()
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hook) all() []got {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.got)
}

// destination is the JSON of one destination.
func destination(id, config, more string) string {
	return fmt.Sprintf(`{"id":%q,"enabled":true,"isProcessorEnabled":true,"config":%s,"destinationDefinition":{"name":"WEBHOOK","displayName":"Webhook"}%s}`, id, config, more)
}

func build(t testing.TB, change func(*Config), destinations ...string) *Target {
	t.Helper()
	c := defaults()
	c.RequestTimeoutMillis = 120_000 // more than any machine needs
	c.WorkspaceConfig = filepath.Join(t.TempDir(), "workspaceConfig.json")
	text := `{"sources":[{"id":"src","writeKey":"k","enabled":true,"destinations":[` + strings.Join(destinations, ",") + `]}]}`
	if err := os.WriteFile(c.WorkspaceConfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&c)
	}
	w, err := New(context.Background(), connector.Deps{}, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close(context.Background()) })
	return w
}

func message(destination, key, data string) *event.Message {
	m := event.New([]byte(data))
	m.Key = key
	m.Meta.Scope = &event.Scope{Workspace: "ws", Source: "src", Destination: destination}
	return m
}

// wrapped gives the suite's messages a destination, and payloads that are events.
type wrapped struct{ *Target }

func (w wrapped) Write(ctx context.Context, b event.Batch) error {
	ms := make(event.Batch, len(b))
	for i, m := range b {
		ms[i] = message("dst", m.Key, `{"payload":"`+fmt.Sprintf("%x", m.Data)+`"}`)
		if strings.HasPrefix(string(m.Data), "refused") {
			ms[i].Data = m.Data
		}
	}
	return w.Target.Write(ctx, ms)
}

func TestConformance(t *testing.T) {
	conntest.Target(t, conntest.TargetCase{
		Setup: func(t *testing.T) (func() connector.Target, func() [][]byte) {
			h := serve(t)
			open := func() connector.Target {
				return wrapped{build(t, nil, destination("dst", `{"webhookUrl":"`+h.URL+`"}`, ""))}
			}
			return open, func() (ps [][]byte) {
				for _, g := range h.all() {
					var e struct{ Payload string }
					if err := json.Unmarshal([]byte(g.Body), &e); err != nil {
						t.Error(err)
					}
					p := []byte{}
					_, _ = fmt.Sscanf(e.Payload, "%x", &p)
					ps = append(ps, p)
				}
				return ps
			}
		},
		Refused: [][]byte{[]byte("refused 1"), []byte("refused 2")},
		Broken: func(t *testing.T) connector.Target {
			h := serve(t)
			h.Close()
			return wrapped{build(t, nil, destination("dst", `{"webhookUrl":"`+h.URL+`"}`, ""))}
		},
		Want: fault.Transient,
		Stuck: func(t *testing.T) connector.Target {
			release := make(chan struct{})
			h := serve(t)
			h.answer = func(http.ResponseWriter, got) { <-release }
			t.Cleanup(func() { close(release) })
			return wrapped{build(t, nil, destination("dst", `{"webhookUrl":"`+h.URL+`"}`, ""))}
		},
		Features: conntest.TargetFeatures{Binary: true, Empty: true},
	})
}

func TestExamples(t *testing.T) { conntest.Examples(t, conntest.One(Entry), "../../..") }

func TestRequests(t *testing.T) {
	t.Parallel()
	h, other := serve(t), serve(t)
	headers := `"headers":[{"from":"x-a","to":"b"},{"from":"Authorization","to":"Bearer hush"},{"from":"","to":"x"}]`
	w := build(t, nil,
		destination("post", `{"webhookUrl":"`+h.URL+`/hook",`+headers+`}`, ""),
		destination("put", `{"webhookUrl":"`+h.URL+`/hook?a=1","webhookMethod":"put","headers":[{"from":"Content-Type","to":"text/x"},{"from":"User-Agent","to":"mine"}]}`, ""),
		destination("get", `{"webhookUrl":"`+h.URL+`/hook?a=1","webhookMethod":"GET"}`, ""),
		destination("user", `{"webhookUrl":"`+strings.Replace(h.URL, "://", "://me:hush@", 1)+`"}`, ""),
	)
	for _, row := range []struct {
		name, to, data string
		want           got
		other          bool
	}{
		{"as it is", "post", `{"a":1,"context":{"ip":"1.1.1.1"},"request_ip":"2.2.2.2"}`, got{"POST", "/hook", `{"a":1,"context":{"ip":"1.1.1.1"},"request_ip":"2.2.2.2"}`, nil}, false},
		{"ip into a context", "post", `{"context":{"a":{"ip":0}},"request_ip":"2.2.2.2"}`, got{"POST", "/hook", `{"context":{"a":{"ip":0},"ip":"2.2.2.2"},"request_ip":"2.2.2.2"}`, nil}, false},
		{"ip in the place of null", "post", `{"context":{"ip":null,"b":1},"request_ip":"2.2.2.2"}`, got{"POST", "/hook", `{"context":{"b":1,"ip":"2.2.2.2"},"request_ip":"2.2.2.2"}`, nil}, false},
		{"empty ip stays", "post", `{"context":{"ip":""},"request_ip":"2.2.2.2"}`, got{"POST", "/hook", `{"context":{"ip":""},"request_ip":"2.2.2.2"}`, nil}, false},
		{"context made", "post", `{"request_ip":"2.2.2.2"}`, got{"POST", "/hook", `{"request_ip":"2.2.2.2","context":{"ip":"2.2.2.2"}}`, nil}, false},
		{"context that is null", "post", `{"context":null,"request_ip":"2.2.2.2"}`, got{"POST", "/hook", `{"context":{"ip":"2.2.2.2"},"request_ip":"2.2.2.2"}`, nil}, false},
		{"context that is text", "post", `{"context":"x","request_ip":"2.2.2.2"}`, got{"POST", "/hook", `{"context":"x","request_ip":"2.2.2.2"}`, nil}, false},
		{"nulls", "post", `{"a":null,"b":{"c":null},"d":[null],"e":null}`, got{"POST", "/hook", `{"b":{"c":null},"d":[null]}`, nil}, false},
		{"nothing", "post", `{}`, got{"POST", "/hook", `{}`, nil}, false},
		{"headers of the event", "post", `{"header":{"X-A":"c","y":"1","z":5},"a":1}`, got{"POST", "/hook", `{"a":1}`, http.Header{"X-A": {"c"}, "Y": {"1"}, "Z": nil}}, false},
		{"appendPath", "post", `{"appendPath":"/more?x=1"}`, got{"POST", "/hook/more?x=1", `{}`, nil}, false},
		{"fullPath", "post", `{"fullPath":"OTHER/full"}`, got{"POST", "/full", `{}`, http.Header{"Authorization": nil}}, true},
		{"fullPath of the same host", "post", `{"fullPath":"SAME/full","appendPath":"/x"}`, got{"POST", "/full/x", `{}`, nil}, false},
		{"paths of the integration", "post", `{"integrations":{"Webhook":{"fullPath":"OTHER/i","appendPath":"/j"}}}`, got{"POST", "/i/j", `{"integrations":{"Webhook":{"fullPath":"OTHER/i","appendPath":"/j"}}}`, http.Header{"Authorization": nil}}, true},
		{"put", "put", `{"a":1}`, got{"PUT", "/hook?a=1", `{"a":1}`, http.Header{"Content-Type": {"text/x"}, "User-Agent": {"mine"}, "X-A": nil, "Authorization": nil}}, false},
		{"get", "get", `{"type":"track","properties":{"b":"x y","c":{"d":[1,{"e":true}],"f":null},"g":12345678901234567890}}`, got{"GET", "/hook?a=1&b=x+y&c.d%5B0%5D=1&c.d%5B1%5D.e=true&g=12345678901234567890", "", http.Header{"Content-Type": nil, "X-A": nil, "Authorization": nil}}, false},
		{"get an identify", "get", `{"type":"identify","properties":{"b":1},"context":{"traits":{"t":1}}}`, got{"GET", "/hook?a=1&t=1", "", http.Header{"Content-Type": nil, "X-A": nil, "Authorization": nil}}, false},
		{"user in the URL", "user", `{}`, got{"POST", "/", `{}`, http.Header{"Authorization": {"Basic bWU6aHVzaA=="}, "X-A": nil}}, false},
	} {
		replace := strings.NewReplacer("OTHER", other.URL, "SAME", h.URL)
		if err := w.Write(context.Background(), event.Batch{message(row.to, "", replace.Replace(row.data))}); err != nil {
			t.Errorf("%s: %v", row.name, err)
			continue
		}
		from := h
		if row.other {
			from = other
		}
		all := from.all()
		g := all[len(all)-1]
		header := http.Header{"Content-Type": {"application/json"}, "User-Agent": {"RudderLabs"}, "X-A": {"b"}, "Authorization": {"Bearer hush"}}
		maps.Copy(header, row.want.Header)
		for name, vs := range header {
			if d := cmp.Diff(vs, g.Header[name]); d != "" {
				t.Errorf("%s: header %s, -want +got:\n%s", row.name, name, d)
			}
		}
		row.want.Header, g.Header = nil, nil
		row.want.Body = replace.Replace(row.want.Body)
		if d := cmp.Diff(row.want, g); d != "" {
			t.Errorf("%s: -want +got:\n%s", row.name, d)
		}
	}
}

func TestEndpoints(t *testing.T) {
	t.Parallel()
	h, other := serve(t), serve(t)
	event1 := `{"fullPath":"` + other.URL + `/x"}`
	w := build(t, func(c *Config) { c.Endpoints = "none" }, destination("d", `{"webhookUrl":"`+h.URL+`"}`, ""))
	if err := w.Write(context.Background(), event.Batch{message("d", "", event1)}); err != nil || len(h.all()) != 1 {
		t.Errorf("none: %v, %d requests", err, len(h.all()))
	}
	w = build(t, func(c *Config) { c.Endpoints = "same_host" }, destination("d", `{"webhookUrl":"`+h.URL+`"}`, ""))
	for _, data := range []string{event1, `{"appendPath":"@` + strings.TrimPrefix(other.URL, "http://") + `/"}`} {
		if err := w.Write(context.Background(), event.Batch{message("d", "", data)}); fault.Of(err) != fault.Invalid {
			t.Errorf("same_host: %v", err)
		}
	}
	if len(other.all()) != 0 {
		t.Error("another host was called")
	}
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	h := serve(t)
	w := build(t, nil, destination("d", `{"webhookUrl":"`+h.URL+`/p?token=hush-hush","headers":[{"from":"X-Api-Key","to":"very-secret"}]}`, ""))
	none := time.Duration(-1)
	for _, row := range []struct {
		code  int
		after string
		kind  fault.Kind
		want  time.Duration // none: delivered
	}{
		{200, "", 0, none}, {201, "", 0, none}, {204, "", 0, none}, {296, "", 0, none}, {298, "", 0, none}, {299, "", 0, none},
		{301, "", fault.Invalid, 0}, {302, "", fault.Invalid, 0}, {304, "", fault.Invalid, 0}, {307, "9", fault.Invalid, 0},
		{400, "9", fault.Invalid, 0}, {401, "", fault.Invalid, 0}, {404, "", fault.Invalid, 0}, {410, "", fault.Invalid, 0}, {413, "", fault.Invalid, 0},
		{408, "", fault.Throttled, 0}, {429, "", fault.Throttled, 0}, {429, "7", fault.Throttled, 7 * time.Second}, {429, "99999999999999999999", fault.Throttled, time.Hour},
		{429, "Thu, 01 Jan 1970 00:00:00 GMT", fault.Throttled, 0}, {500, "", fault.Transient, 0}, {503, "30", fault.Transient, 30 * time.Second}, {599, "", fault.Transient, 0},
	} {
		h.mu.Lock()
		h.answer = func(rw http.ResponseWriter, _ got) {
			if row.after != "" {
				rw.Header().Set("Retry-After", row.after)
			}
			if row.code >= 300 && row.code < 400 {
				rw.Header().Set("Location", "/elsewhere")
			}
			rw.WriteHeader(row.code)
			if row.code > 204 && row.code != 304 {
				_, _ = io.WriteString(rw, "you sent very-secret and hush-hush")
			}
		}
		h.mu.Unlock()
		err := w.Write(context.Background(), event.Batch{message("d", "", `{}`)})
		if row.want == none {
			if err != nil {
				t.Errorf("%d: %v", row.code, err)
			}
			continue
		}
		if err == nil || fault.Of(err) != row.kind || fault.After(err) != row.want {
			t.Errorf("%d %s: %s after %s: %v", row.code, row.after, fault.Of(err), fault.After(err), err)
			continue
		}
		d := fault.DetailOf(err)
		if d.Type != "api" || !strings.HasPrefix(d.Code, fmt.Sprint(row.code)) || d.Safe == "" {
			t.Errorf("%d: detail %+v", row.code, d)
		}
		if text := err.Error() + d.Safe; strings.Contains(text, "secret") || strings.Contains(text, "hush") || !strings.Contains(text, fmt.Sprint(row.code)) {
			t.Errorf("%d: %s", row.code, text)
		}
	}
}

func TestNoResponse(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	h := serve(t)
	h.answer = func(http.ResponseWriter, got) { <-release }
	t.Cleanup(func() { close(release) })
	w := build(t, func(c *Config) { c.RequestTimeoutMillis = 50 },
		destination("d", `{"webhookUrl":"`+h.URL+`/p?token=hush-hush"}`, ""), destination("gone", `{"webhookUrl":"http://user:hush-hush@127.0.0.1:1/p?token=hush-hush"}`, ""))
	for _, id := range []string{"d", "gone"} {
		err := w.Write(context.Background(), event.Batch{message(id, "", `{}`)})
		if fault.Of(err) != fault.Transient || fault.DetailOf(err).Code != "504" || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %s: %v", id, fault.Of(err), err)
		}
	}
	private := build(t, func(c *Config) { c.BlockPrivateNetworks = true }, destination("d", `{"webhookUrl":"`+h.URL+`"}`, ""))
	if err := private.Write(context.Background(), event.Batch{message("d", "", `{}`)}); fault.Of(err) != fault.Invalid || fault.DetailOf(err).Code != "403" {
		t.Errorf("a private address: %v", err)
	}
}

func TestDestinationsThatCannotBeCalled(t *testing.T) {
	t.Parallel()
	w := build(t, func(c *Config) { c.Disabled = "drain" },
		destination("off", `{"webhookUrl":"http://x"}`, `,"enabled":false`),
		destination("nowhere", `{}`, ""), destination("odd", `{"webhookUrl":5}`, ""), destination("scheme", `{"webhookUrl":"ftp://x"}`, ""),
		destination("method", `{"webhookUrl":"http://x","webhookMethod":"TRACE"}`, ""), destination("header", `{"webhookUrl":"http://x","headers":[{"from":"a b","to":"c"}]}`, ""),
		strings.Replace(destination("kafka", `{}`, ""), "WEBHOOK", "KAFKA", 1))
	for id, want := range map[string]string{
		"gone": "410 destination is not available in the config", "off": "410 destination is disabled", "": "400 the message does not say which destination it is for",
		"nowhere": "400 Invalid URL in destination config", "odd": "400 the destination's config cannot be read", "scheme": "400 Invalid URL in destination config",
		"method": "400 the destination's webhookMethod", "header": "400 a header in the destination's config", "kafka": "400 the destination is of type KAFKA",
	} {
		err := w.Write(context.Background(), event.Batch{message(id, "", `{}`)})
		if d := fault.DetailOf(err); fault.Of(err) != fault.Invalid || !strings.HasPrefix(d.Code+" "+d.Safe, want) {
			t.Errorf("%q: %v, %+v", id, err, d)
		}
	}
	if err := w.Write(context.Background(), event.Batch{event.New([]byte("{}"))}); fault.Of(err) != fault.Invalid {
		t.Errorf("no scope: %v", err)
	}
}

// TestDisabledDestinationHolds: events for a destination that is off wait, without an attempt, and
// those of others go on; Rests says of which.
func TestDisabledDestinationHolds(t *testing.T) {
	t.Parallel()
	h := serve(t)
	w := build(t, nil, destination("off", `{"webhookUrl":"`+h.URL+`"}`, `,"enabled":false`), destination("on", `{"webhookUrl":"`+h.URL+`"}`, ""))
	err := w.Write(context.Background(), event.Batch{message("off", "", `{}`)})
	if !fault.Paced(err) || !strings.Contains(err.Error(), `destination "off" is disabled`) {
		t.Errorf("the error of a destination that is off: %v", err)
	}
	if err := w.Write(context.Background(), event.Batch{message("on", "", `{}`)}); err != nil {
		t.Errorf("another destination: %v", err)
	}
	for id, want := range map[string]bool{"off": true, "on": false, "gone": false} {
		if got := w.Rests(id); got != want {
			t.Errorf("Rests(%q) = %t", id, got)
		}
	}
	if drains := build(t, func(c *Config) { c.Disabled = "drain" }, destination("off", `{}`, `,"enabled":false`)); drains.Rests("off") {
		t.Error("a destination rests whose events are to be given up")
	}
}

// TestConfigChange: a destination that is changed is called by its new settings.
func TestConfigChange(t *testing.T) {
	t.Parallel()
	one, two := serve(t), serve(t)
	w := build(t, nil, destination("d", `{"webhookUrl":"`+one.URL+`"}`, ""))
	m := message("d", "", `{}`)
	if err := w.Write(context.Background(), event.Batch{m}); err != nil {
		t.Fatal(err)
	}
	text := `{"sources":[{"id":"src","writeKey":"k","enabled":true,"destinations":[` + destination("d", `{"webhookUrl":"`+two.URL+`"}`, "") + `]}]}`
	if err := os.WriteFile(w.file.(*workspace.File).Path(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.file.(*workspace.File).Reload(); err != nil {
		t.Fatal(err)
	}
	if err := w.Write(context.Background(), event.Batch{m}); err != nil || len(one.all()) != 1 || len(two.all()) != 1 {
		t.Errorf("%v, %d and %d requests", err, len(one.all()), len(two.all()))
	}
}

// TestOrder: of messages with one key, what comes behind one that failed is not sent, and
// others are not held up.
func TestOrder(t *testing.T) {
	t.Parallel()
	h := serve(t)
	w := build(t, nil, destination("a", `{"webhookUrl":"`+h.URL+`/a"}`, ""), destination("b", `{"webhookUrl":"`+h.URL+`/b"}`, ""))
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(2, 30).Draw(rt, "messages")
		var b event.Batch
		codes := make([]int, n)
		type place struct{ to, key string }
		where := make([]place, n)
		for i := range n {
			where[i] = place{rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "to"), rapid.SampledFrom([]string{"", "k", "l"}).Draw(rt, "key")}
			codes[i] = rapid.SampledFrom([]int{200, 200, 200, 400, 500, 429}).Draw(rt, "code")
			b = append(b, message(where[i].to, where[i].key, fmt.Sprintf(`{"i":%d}`, i)))
		}
		index := func(g got) (i int) {
			_, _ = fmt.Sscanf(g.Body, `{"i":%d}`, &i)
			return i
		}
		h.mu.Lock()
		h.got, h.answer = nil, func(w http.ResponseWriter, g got) { w.WriteHeader(codes[index(g)]) }
		h.mu.Unlock()
		err := w.Write(context.Background(), b)
		failed := map[int]error{}
		if p, ok := errors.AsType[*connector.Partial](err); ok {
			failed = p.Failed
		} else if err != nil {
			rt.Fatal(err)
		}
		want, stopped := map[int]fault.Kind{}, map[place]fault.Kind{}
		var sent []int
		for i, p := range where {
			if k, ok := stopped[p]; ok && p.key != "" {
				want[i] = k
				continue
			}
			sent = append(sent, i)
			switch codes[i] {
			case 400:
				want[i] = fault.Invalid
			case 500:
				want[i], stopped[p] = fault.Transient, fault.Transient
			case 429:
				want[i], stopped[p] = fault.Throttled, fault.Throttled
			}
		}
		kinds := map[int]fault.Kind{}
		for i, err := range failed {
			kinds[i] = fault.Of(err)
		}
		if d := cmp.Diff(want, kinds); d != "" {
			rt.Fatalf("outcomes, -want +got:\n%s", d)
		}
		order := map[place]int{}
		var all []int
		for _, g := range h.all() {
			i := index(g)
			all = append(all, i)
			if p := where[i]; p.key != "" {
				if last, ok := order[p]; ok && last > i {
					rt.Fatalf("message %d was sent after %d", i, last)
				}
				order[p] = i
			}
		}
		slices.Sort(all)
		if d := cmp.Diff(sent, all); d != "" {
			rt.Fatalf("sent, -want +got:\n%s", d)
		}
	})
}

// TestConcurrency: as many requests as are allowed, and no more, over all writes.
func TestConcurrency(t *testing.T) {
	t.Parallel()
	const limit = 5
	h := serve(t)
	var mu sync.Mutex
	now, most := 0, 0
	release := make(chan struct{})
	h.answer = func(http.ResponseWriter, got) {
		mu.Lock()
		now++
		most = max(most, now)
		mu.Unlock()
		<-release
		mu.Lock()
		now--
		mu.Unlock()
	}
	w := build(t, func(c *Config) { c.MaxConcurrentRequests = limit }, destination("d", `{"webhookUrl":"`+h.URL+`"}`, ""))
	var wg sync.WaitGroup
	for range 2 {
		b := event.Batch{}
		for i := range 20 {
			b = append(b, message("d", fmt.Sprint(i), `{}`))
		}
		wg.Go(func() {
			if err := w.Write(context.Background(), b); err != nil {
				t.Error(err)
			}
		})
	}
	for {
		mu.Lock()
		n := now
		mu.Unlock()
		if n == limit {
			break
		}
		runtime.Gosched()
	}
	close(release)
	wg.Wait()
	if most != limit || len(h.all()) != 40 {
		t.Errorf("%d at once, %d requests", most, len(h.all()))
	}
}

func FuzzRequest(f *testing.F) {
	for _, s := range []string{`{"header":{"a":"b\n"},"appendPath":"/x"}`, `{"fullPath":"http://[::1","context":{"ip":null}}`, `{"integrations":{"webhook":{"appendPath":"%zz"}},"properties":[[1]]}`, `{"context":null,"context":{"a":1},"request_ip":"x"}`} {
		f.Add([]byte(s))
	}
	post := build(f, nil, destination("d", `{"webhookUrl":"http://x/y"}`, ""), destination("g", `{"webhookUrl":"http://x/y","webhookMethod":"GET"}`, ""))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, id := range []string{"d", "g"} {
			m := message(id, "", string(data))
			e, err := post.endpoint(m)
			if err != nil || e.err != nil {
				t.Fatal(err, e.err)
			}
			req, err := post.request(e, m)
			if err != nil {
				if fault.Of(err) != fault.Invalid {
					t.Fatal(err)
				}
				continue
			}
			if req.Body == nil {
				continue
			}
			body, _ := io.ReadAll(req.Body)
			if !json.Valid(body) {
				t.Fatalf("%q becomes %q", data, body)
			}
		}
	})
}

// hookProcess is set in the process that stands for the other side in the benchmark, so
// that what this one uses is the target's.
const hookProcess = "WEIR_WEBHOOK_PROCESS"

// serveHooks answers on a free port, whose address it prints, until its input ends.
func serveHooks() error {
	h := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer h.Close()
	fmt.Fprintln(os.Stdout, h.URL)
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkWrite(b *testing.B) {
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	other := exec.Command(self)
	other.Env = append(os.Environ(), hookProcess+"=1")
	in, err := other.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := other.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := other.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() { _ = in.Close(); _ = other.Wait() }()
	var url string
	if _, err := fmt.Fscanln(out, &url); err != nil {
		b.Fatal(err)
	}
	w := build(b, nil, destination("d", `{"webhookUrl":"`+url+`"}`, ""))
	var batch event.Batch
	for i := range 64 {
		batch = append(batch, message("d", fmt.Sprint(i), `{"type":"track","userId":"u","event":"Order","request_ip":"1.2.3.4","context":{"library":{"name":"x"}},"properties":{"price":12.5,"currency":"EUR"}}`))
	}
	b.ReportAllocs()
	before := cpu(b)
	for b.Loop() {
		if err := w.Write(context.Background(), batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(cpu(b)-before)/float64(b.N*len(batch)), "cpu-ns/event")
}
