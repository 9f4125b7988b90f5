package console

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirdata/weir/internal/api"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/layout"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/queue"
)

// process is what a console speaks of, in a test.
type process struct {
	pipeline *meter.Pipeline
	looks    atomic.Int64
	number   atomic.Int64
	unready  atomic.Pointer[error]
}

func made(t *testing.T, streams int) (*Console, *process) {
	t.Helper()
	p := &process{pipeline: meter.NewPipeline("orders")}
	registry := &meter.Registry{}
	registry.Replace(p.pipeline)
	c, err := New(Options{Path: "/ops", Pages: true, Version: "1.2.3", MaxStreams: streams, Log: slog.New(slog.DiscardHandler), Pipelines: registry,
		Graph: func() (*layout.Graph, int) { return &layout.Graph{Width: 7}, int(p.number.Load()) },
		Ready: func() error {
			p.looks.Add(1)
			if err := p.unready.Load(); err != nil {
				return *err
			}
			return nil
		},
		Store: func() (queue.Store, string, []connector.Queue) { return nil, "", nil }})
	if err != nil {
		t.Fatal(err)
	}
	return c, p
}

// TestAccess: pages are open, what they show asks for the token, which a browser changes for a
// cookie.
func TestAccess(t *testing.T) {
	t.Parallel()
	c, _ := made(t, 1)
	access := func() *api.Access { return &api.Access{Token: "secret-4711"} }
	h := api.Handler(access, c.Routes(access))
	ask := func(method, path, body string, change func(*http.Request)) *httptest.ResponseRecorder {
		w, r := httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
		if change != nil {
			change(r)
		}
		h.ServeHTTP(w, r)
		return w
	}
	for _, path := range []string{"/", "/queues", "/config", "/lake", "/gateway", "/machines", "/machines/orders", "/m", "/m/some/id", "/p/some/pipeline", "/assets/app.js", "/assets/style.css", "/assets/icon.svg"} {
		w := ask("GET", path, "", nil)
		if w.Code != 200 || w.Header().Get("Content-Security-Policy") != policy || w.Header().Get("Content-Type") == "" {
			t.Errorf("%s: %d, %v", path, w.Code, w.Header())
		}
		again := ask("GET", path, "", func(r *http.Request) { r.Header.Set("If-None-Match", w.Header().Get("ETag")) })
		if again.Code != http.StatusNotModified {
			t.Errorf("%s is sent again: %d", path, again.Code)
		}
	}
	if w := ask("GET", "/", "", nil); !strings.Contains(w.Body.String(), `<base href="/ops/">`) {
		t.Errorf("the page does not know where it is: %s", w.Body)
	}
	if w := ask("GET", "/assets/nothing.js", "", nil); w.Code != 404 {
		t.Errorf("a file that is not there: %d", w.Code)
	}
	for _, path := range []string{"/v1/graph", "/v1/live", "/v1/config", "/v1/lake/datasets", "/v1/gateways", "/v1/machines", "/v1/machines/orders/executions", "/v1/messages?id=x", "/v1/session", "/assets"} {
		if w := ask("GET", path, "", nil); w.Code != http.StatusUnauthorized {
			t.Errorf("%s without the token: %d", path, w.Code)
		}
	}
	for _, body := range []string{`{"token":"wrong"}`, `{}`} {
		if w := ask("POST", "/v1/session", body, nil); w.Code != http.StatusUnauthorized || len(w.Result().Cookies()) > 0 {
			t.Errorf("%s: %d, %v", body, w.Code, w.Result().Cookies())
		}
	}
	if w := ask("POST", "/v1/session", "token", nil); w.Code != http.StatusBadRequest {
		t.Errorf("no JSON: %d", w.Code)
	}
	w := ask("POST", "/v1/session", `{"token":"secret-4711"}`, nil)
	cookies := w.Result().Cookies()
	if w.Code != http.StatusNoContent || len(cookies) != 1 {
		t.Fatalf("the token: %d, %v", w.Code, cookies)
	}
	k := cookies[0]
	if !k.HttpOnly || k.SameSite != http.SameSiteStrictMode || k.Path != "/ops/" || strings.Contains(k.Value, "4711") {
		t.Errorf("the cookie is %+v", k)
	}
	for _, change := range []func(*http.Request){
		func(r *http.Request) { r.AddCookie(k) },
		func(r *http.Request) { r.Header.Set("Authorization", "Bearer secret-4711") },
	} {
		if w := ask("GET", "/v1/graph", "", change); w.Code != 200 || !strings.Contains(w.Body.String(), `"width":7`) {
			t.Errorf("with the token: %d %s", w.Code, w.Body)
		}
	}
	if w := ask("GET", "/v1/graph", "", func(r *http.Request) {
		r.AddCookie(&http.Cookie{Name: k.Name, Value: (&api.Access{Token: "another token"}).Session("another token")})
	}); w.Code != http.StatusUnauthorized {
		t.Errorf("with the cookie of another token: %d", w.Code)
	}
}

// wire is a response whose client reads when the test does.
type wire struct {
	*io.PipeWriter
	header http.Header
}

func (w wire) Header() http.Header               { return w.header }
func (w wire) WriteHeader(int)                   {}
func (w wire) Flush()                            {}
func (w wire) SetWriteDeadline(time.Time) error  { return nil }
func (w wire) Write(p []byte) (n int, err error) { return w.PipeWriter.Write(p) }

// client opens a stream; next is its next event.
func client(t *testing.T, c *Console) (next func() (kind, data string), leave func()) {
	t.Helper()
	out, in := io.Pipe()
	r := httptest.NewRequestWithContext(t.Context(), "GET", "/v1/live", nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.live(wire{in, http.Header{}}, r)
		_ = in.Close()
	}()
	lines := bufio.NewReader(out)
	next = func() (kind, data string) {
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return "end", ""
			}
			switch line = strings.TrimSpace(line); {
			case strings.HasPrefix(line, "event: "):
				kind = line[len("event: "):]
			case strings.HasPrefix(line, "data: "):
				data = line[len("data: "):]
			case line == "" && kind != "":
				return kind, data
			}
		}
	}
	return next, func() {
		_ = out.CloseWithError(errors.New("the client went"))
		<-done
	}
}

// TestLive: frames come each second with rates, a new config is told of, and nothing is looked at
// while there is no stream.
func TestLive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p := made(t, 1)
		time.Sleep(time.Minute)
		if n := p.looks.Load(); n != 0 {
			t.Errorf("nobody looks, and %d looks were taken", n)
		}
		next, leave := client(t, c)
		frame := func() Now {
			t.Helper()
			kind, data := next()
			var n Now
			if err := json.Unmarshal([]byte(data), &n); kind != "now" || err != nil {
				t.Fatalf("%s %s: %v", kind, data, err)
			}
			return n
		}
		if n := frame(); len(n.Pipelines) != 1 || n.Pipelines[0].State != "idle" || n.Version != "1.2.3" || len(n.Needs) != 0 {
			t.Errorf("the first frame is %+v", n)
		}
		p.pipeline.Begin(500, 1000)
		p.pipeline.Target.Wrote(200, 400)
		n := frame()
		if one := n.Pipelines[0]; one.State != "running" || one.ReadRate != 500 || one.Sinks[0].Rate != 200 || one.InFlight != 500 {
			t.Errorf("the second frame is %+v", n)
		}
		p.pipeline.Target.Attempted(true)
		p.pipeline.Target.Failures[fault.Transient].Add(1)
		p.pipeline.SetDegraded(true)
		why := errors.New("the store is away")
		p.unready.Store(&why)
		n = frame()
		if len(n.Needs) != 3 || !strings.Contains(n.Needs[0].What, "the store is away") || !strings.Contains(n.Needs[1].What, "has failed") || n.Pipelines[0].State != "degraded" {
			t.Errorf("what is needed is %+v of %+v", n.Needs, n.Pipelines)
		}
		p.number.Add(1)
		if kind, _ := next(); kind != "config" {
			t.Errorf("a new config: %s", kind)
		}
		frame()
		leave()
		looks := p.looks.Load()
		time.Sleep(time.Minute)
		if n := p.looks.Load(); n > looks+1 {
			t.Errorf("nobody looks any more, and %d looks were taken", n-looks)
		}
	})
}

// TestSlowClient: one that does not read gets the newest frame when it does, and is told how many
// it lost; others are not held up.
func TestSlowClient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, _ := made(t, 2)
		slow, leaveSlow := client(t, c)
		quick, leaveQuick := client(t, c)
		if kind, _ := slow(); kind != "now" {
			t.Errorf("it begins with %q", kind)
		}
		for range 10 {
			if kind, _ := quick(); kind != "now" {
				t.Errorf("the quick one gets %q", kind)
			}
		}
		var kinds []string
		lost := ""
		for len(kinds) < 3 {
			kind, data := slow()
			if kinds = append(kinds, kind); kind == "lost" {
				lost = data
			}
		}
		if lost == "" {
			t.Errorf("the slow one is not told what it lost: %q", kinds)
		}
		w := httptest.NewRecorder()
		c.live(w, httptest.NewRequestWithContext(t.Context(), "GET", "/v1/live", nil))
		if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "max_streams") {
			t.Errorf("one too many: %d %s", w.Code, w.Body)
		}
		leaveSlow()
		leaveQuick()
	})
}

// TestClose ends streams, and lets nobody in.
func TestClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, _ := made(t, 2)
		next, leave := client(t, c)
		next()
		c.Close()
		for kind, _ := next(); kind != "end"; kind, _ = next() {
		}
		leave()
		w := httptest.NewRecorder()
		c.live(w, httptest.NewRequestWithContext(t.Context(), "GET", "/v1/live", nil))
		if w.Code != http.StatusServiceUnavailable {
			t.Errorf("after the end: %d", w.Code)
		}
	})
}
