package controlplane_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirdata/weir/internal/controlplane"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/workspace"
)

// plane is a control plane in the process. What it has done wrong is counted by kind.
type plane struct {
	mu         sync.Mutex
	workspaces map[string]config // of a lone one by "ws"
	wrong      func(r *http.Request) *http.Response
	asked      []string // URLs with If-None-Match
	etags      bool
}

type config struct {
	version int
	updated time.Time
}

// text is the configuration of a workspace: its version is in the name of its one destination.
func (c config) text(id string) string {
	return fmt.Sprintf(`{"workspaceId":%q,"updatedAt":%q,"sources":[{"id":"src-%s","writeKey":"key-%s","enabled":true,"destinations":[
		{"id":"dst-%s","name":"v%d","enabled":true,"isProcessorEnabled":true,"config":{"version":%d},"destinationDefinition":{"name":"WEBHOOK"}}]}]}`,
		id, c.updated.UTC().Format("2006-01-02T15:04:05.000Z"), id, id, id, c.version, c.version)
}

func reply(code int, body string, header ...string) *http.Response {
	h := http.Header{}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{StatusCode: code, Header: h, Body: io.NopCloser(strings.NewReader(body))}
}

func (p *plane) RoundTrip(r *http.Request) (*http.Response, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, r.URL.RequestURI()+" "+r.Header.Get("If-None-Match"))
	if p.wrong != nil {
		if resp := p.wrong(r); resp != nil {
			if resp.StatusCode == 0 {
				return nil, errors.New("connection refused")
			}
			resp.Request = r
			return resp, nil
		}
	}
	if user, _, _ := r.BasicAuth(); user != "token" {
		return reply(http.StatusUnauthorized, "no"), nil
	}
	body := p.body(r)
	if p.etags {
		tag := fmt.Sprintf("%q", fmt.Sprint(len(body), body[len(body)/2:]))
		if r.Header.Get("If-None-Match") == tag {
			return reply(http.StatusNotModified, ""), nil
		}
		return reply(http.StatusOK, body, "ETag", tag), nil
	}
	return reply(http.StatusOK, body), nil
}

func (p *plane) body(r *http.Request) string {
	if !strings.HasPrefix(r.URL.Path, "/data-plane/v1/namespaces/") {
		return p.workspaces["ws"].text("ws")
	}
	after, _ := time.Parse(time.RFC3339Nano, r.URL.Query().Get("updatedAfter"))
	all := map[string]json.RawMessage{}
	for id, c := range p.workspaces {
		all[id] = json.RawMessage("null")
		if c.updated.After(after) || after.IsZero() {
			all[id] = json.RawMessage(c.text(id))
		}
	}
	b, _ := json.Marshal(all)
	return string(b)
}

func (p *plane) set(id string, version int, updated time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.workspaces[id] = config{version, updated}
}

func (p *plane) goWrong(f func(r *http.Request) *http.Response) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wrong = f
}

func always(code int, body string, header ...string) func(*http.Request) *http.Response {
	return func(*http.Request) *http.Response { return reply(code, body, header...) }
}

func newPlane() *plane { return &plane{workspaces: map[string]config{}} }

func (p *plane) options(log io.Writer) controlplane.Options {
	return controlplane.Options{Name: "acme", URL: "http://plane.test/", Token: "token", Poll: 5 * time.Second, Timeout: 30 * time.Second,
		StartWait: time.Minute, MaxBytes: 1 << 20, Transport: p, Log: slog.New(slog.NewTextHandler(log, nil))}
}

// versions are those of the workspaces that are in force.
func versions(w *workspace.Workspace) map[string]string {
	all := map[string]string{}
	for _, s := range w.Sources {
		for _, c := range s.Connections {
			all[s.Workspace] = c.Destination.Name
		}
	}
	return all
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// TestAnswersThatChangeNothing: each is told once, with what to do, and what is in force stays.
func TestAnswersThatChangeNothing(t *testing.T) {
	t.Parallel()
	cut := func(*http.Request) *http.Response {
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(io.MultiReader(strings.NewReader(`{"sources":[`), failing{}))}
	}
	for name, c := range map[string]struct {
		wrong func(*http.Request) *http.Response
		want  string
	}{
		"500":          {always(500, "oops"), "answers 500 Internal Server Error"},
		"503":          {always(503, "", "Retry-After", "7"), "answers 503"},
		"401":          {always(401, ""), "token of the control_plane block is not the token of the workspace (WORKSPACE_TOKEN"},
		"404":          {always(404, ""), "look whether url and namespace"},
		"302":          {always(302, "", "Location", "::"), "ask the control plane"},
		"refused":      {always(0, ""), "connection refused"},
		"cut":          {cut, "read the control plane's answer: unexpected EOF"},
		"truncated":    {always(200, `{"workspaceId":"ws","sources":[{"id":"src-ws"`), "unexpected end of JSON input"},
		"empty":        {always(200, ""), "answer is empty"},
		"spaces":       {always(200, " \n "), "answer is empty"},
		"html":         {always(200, "<html>login</html>"), "invalid character '<'"},
		"no sources":   {always(200, `{"workspaceId":"ws"}`), `there is no list of \"sources\"`},
		"none at all":  {always(200, `{"workspaceId":"ws","sources":[]}`), "without any source, by which every client would be refused"},
		"too large":    {always(200, strings.Repeat("x", 1<<20+1)), "raise max_bytes"},
		"surprise 304": {always(304, ""), "answers 304"},
		"two keys":     {always(200, `{"sources":[{"id":"a","writeKey":"k"},{"id":"b","writeKey":"k"}]}`), "has the same writeKey"},
		"older":        {always(200, config{9, time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)}.text("ws")), "older than the one in force"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p, log := newPlane(), &buffer{}
				p.set("ws", 1, time.Now())
				at := controlplane.New(p.options(log))
				if err := at.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				ctx, stop := context.WithCancel(t.Context())
				var running sync.WaitGroup
				running.Go(func() { at.Run(ctx) })
				p.goWrong(c.wrong)
				time.Sleep(9 * time.Minute)
				synctest.Wait()
				if got := versions(at.State().Current())["ws"]; got != "v1" {
					t.Errorf("in force: %q", got)
				}
				if n := strings.Count(log.String(), "gives no configuration"); n != 1 || !strings.Contains(log.String(), c.want) {
					t.Errorf("told %d times, want %q:\n%s", n, c.want, log)
				}
				p.mu.Lock()
				if n := len(p.asked); n > 20 {
					t.Errorf("asked %d times in nine minutes", n)
				}
				p.mu.Unlock()
				p.goWrong(nil)
				p.set("ws", 2, time.Now().Add(time.Second))
				time.Sleep(6 * time.Minute)
				synctest.Wait()
				if got := versions(at.State().Current())["ws"]; got != "v2" || !strings.Contains(log.String(), "gives the configuration again") {
					t.Errorf("afterwards: %q\n%s", got, log)
				}
				if strings.Contains(log.String(), "dG9rZW4") {
					t.Error("the token is in the log")
				}
				stop()
				running.Wait()
			})
		})
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// TestStart: what a start does when the plane is not there, refuses, or was there before.
func TestStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, log := newPlane(), &buffer{}
		p.set("ws", 1, time.Now())
		o := p.options(log)
		p.goWrong(always(503, ""))
		begin := time.Now()
		if err := controlplane.New(o).Start(t.Context()); err == nil || time.Since(begin) > time.Minute || !strings.Contains(err.Error(), "503") {
			t.Errorf("without a plane: %v after %s", err, time.Since(begin))
		}
		p.goWrong(always(401, ""))
		begin = time.Now()
		if err := controlplane.New(o).Start(t.Context()); fault.Of(err) != fault.Setup || time.Since(begin) != 0 {
			t.Errorf("refused: %v after %s", err, time.Since(begin))
		}
		n := 0
		p.goWrong(func(*http.Request) *http.Response {
			if n++; n < 4 {
				return reply(0, "")
			}
			return nil
		})
		o.StartWait = time.Hour
		o.Cache = filepath.Join(t.TempDir(), "deep", "cache.json")
		at := controlplane.New(o)
		if err := at.Start(t.Context()); err != nil || versions(at.State().Current())["ws"] != "v1" {
			t.Errorf("it came later: %v, %v", err, versions(at.State().Current()))
		}
		if info, err := os.Stat(o.Cache); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("cache: %v, %v", info, err)
		}
		for _, wrong := range []func(*http.Request) *http.Response{always(500, ""), always(401, ""), always(200, "")} {
			p.goWrong(wrong)
			again := controlplane.New(o)
			if err := again.Start(t.Context()); err != nil || versions(again.State().Current())["ws"] != "v1" || !strings.Contains(log.String(), "from the cache") {
				t.Errorf("from the cache: %v", err)
			}
		}
		// The plane that comes back is followed.
		again := controlplane.New(o)
		if err := again.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { again.Run(ctx) })
		p.goWrong(nil)
		p.set("ws", 2, time.Now().Add(time.Second))
		time.Sleep(time.Minute)
		if versions(again.State().Current())["ws"] != "v2" {
			t.Error("the plane that came back is not followed")
		}
		stop()
		running.Wait()
		p.goWrong(always(500, ""))
		o.StartWait = 0
		other := o
		other.Token = "another"
		if err := controlplane.New(other).Start(t.Context()); err == nil {
			t.Error("the cache of another token was used")
		}
		data, err := os.ReadFile(o.Cache)
		if err != nil {
			t.Fatal(err)
		}
		for _, broken := range [][]byte{nil, data[:len(data)/2], []byte(`{}`), []byte(`{"version":2}`)} {
			if err := os.WriteFile(o.Cache, broken, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := controlplane.New(o).Start(t.Context()); err == nil {
				t.Errorf("a broken cache was used: %q", broken)
			}
		}
		if left, err := filepath.Glob(o.Cache + ".*"); err != nil || len(left) > 0 {
			t.Errorf("left over: %q, %v", left, err)
		}
	})
}

// TestRequests: what is asked for, literally, alone and for a namespace, with ETags and without.
func TestRequests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, etags := range []bool{false, true} {
			for _, namespace := range []string{"", "free us"} {
				p := newPlane()
				p.etags = etags
				p.set("ws", 1, time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC))
				o := p.options(io.Discard)
				o.Namespace = namespace
				at := controlplane.New(o)
				if err := at.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				ctx, stop := context.WithCancel(t.Context())
				var running sync.WaitGroup
				running.Go(func() { at.Run(ctx) })
				time.Sleep(16 * time.Second)
				stop()
				running.Wait()
				want := []string{"/workspaceConfig?fetchAll=true"}
				if namespace != "" {
					want = []string{"/data-plane/v1/namespaces/free%20us/config", "/data-plane/v1/namespaces/free%20us/config?updatedAfter=2026-01-02T03%3A04%3A05.678Z"}
				}
				for i, asked := range p.asked {
					uri, tag, _ := strings.Cut(asked, " ")
					if uri != want[min(i, len(want)-1)] || (tag != "") != (etags && i >= len(want)) {
						t.Errorf("etags %t, namespace %q, request %d: %s", etags, namespace, i, asked)
					}
				}
				if len(p.asked) != 4 {
					t.Errorf("%d requests", len(p.asked))
				}
			}
		}
	})
}

// TestNamespace: workspaces come, go and change by themselves, and one that cannot be read stays as
// it was.
func TestNamespace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, log := newPlane(), &buffer{}
		for _, id := range []string{"a", "b", "c"} {
			p.set(id, 1, time.Now())
		}
		o := p.options(log)
		o.Namespace = "n"
		at := controlplane.New(o)
		if err := at.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { at.Run(ctx) })
		expect := func(want map[string]string) {
			t.Helper()
			time.Sleep(6 * time.Second)
			synctest.Wait()
			if got := versions(at.State().Current()); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("got %v, want %v", got, want)
			}
		}
		expect(map[string]string{"a": "v1", "b": "v1", "c": "v1"})
		stays := at.State().Current().Destination("dst-a")
		p.set("b", 2, time.Now())
		p.mu.Lock()
		delete(p.workspaces, "c")
		p.mu.Unlock()
		expect(map[string]string{"a": "v1", "b": "v2"})
		if at.State().Current().Destination("dst-a") != stays || at.State().Current().Destination("dst-c") != nil {
			t.Error("what has not changed is another, or what is gone is there")
		}
		p.set("d", 1, time.Now())
		expect(map[string]string{"a": "v1", "b": "v2", "d": "v1"})
		p.goWrong(func(r *http.Request) *http.Response {
			return reply(200, strings.Replace(p.body(r), `"workspaceId":"b","updatedAt"`, `"workspaceId":"b","sources":5,"updatedAt"`, 1))
		})
		p.set("b", 3, time.Now())
		p.set("a", 2, time.Now())
		expect(map[string]string{"a": "v2", "b": "v2", "d": "v1"})
		p.set("a", 3, time.Now())
		expect(map[string]string{"a": "v3", "b": "v2", "d": "v1"})
		if n := strings.Count(log.String(), `workspace \"b\"`); n != 1 {
			t.Errorf("told %d times:\n%s", n, log)
		}
		p.goWrong(nil)
		expect(map[string]string{"a": "v3", "b": "v3", "d": "v1"})
		stop()
		running.Wait()
	})
}

// TestForgotten: a plane that says of a workspace that nobody knows here that it has not changed is
// asked for everything at once.
func TestForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPlane()
		p.set("a", 1, time.Now())
		o := p.options(io.Discard)
		o.Namespace = "n"
		at := controlplane.New(o)
		if err := at.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.set("b", 1, time.Now().Add(-time.Hour)) // it has moved here, and has not changed since
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { at.Run(ctx) })
		time.Sleep(6 * time.Second)
		if got := versions(at.State().Current()); got["b"] != "v1" || len(p.asked) != 3 {
			t.Errorf("%v, %q", got, p.asked)
		}
		stop()
		running.Wait()
	})
}

// TestSetBack: a plane that goes on saying that an older state counts is believed.
func TestSetBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPlane()
		p.set("ws", 2, time.Now())
		at := controlplane.New(p.options(io.Discard))
		if err := at.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.set("ws", 1, time.Now().Add(-time.Hour))
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { at.Run(ctx) })
		time.Sleep(5 * time.Minute)
		if got := versions(at.State().Current())["ws"]; got != "v2" {
			t.Errorf("too early: %s", got)
		}
		time.Sleep(15 * time.Minute)
		if got := versions(at.State().Current())["ws"]; got != "v1" {
			t.Errorf("never: %s", got)
		}
		stop()
		running.Wait()
	})
}

// TestModel: whatever goes wrong, what is in force of a workspace is a whole state that the plane had,
// never an older one than before, and the newest soon after all is well.
func TestModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) { model(t, seed) })
	}
}

func model(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 7))
	var rnd sync.Mutex
	draw := func(n int) int {
		rnd.Lock()
		defer rnd.Unlock()
		return r.IntN(n)
	}
	p := newPlane()
	p.etags = seed%2 == 0
	ids := []string{"ws"}
	o := p.options(io.Discard)
	if seed%3 > 0 {
		ids, o.Namespace = []string{"a", "b", "c", "d"}, "n"
	}
	for _, id := range ids {
		p.set(id, 0, time.Now())
	}
	at := controlplane.New(o)
	if err := at.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { at.Run(ctx) })
	version, last := 0, map[string]int{}
	look := func() {
		for id, v := range versions(at.State().Current()) {
			var n int
			if _, err := fmt.Sscanf(v, "v%d", &n); err != nil || n < last[id] || n > version {
				t.Fatalf("seed %d: %s is %s after v%d", seed, id, v, last[id])
			}
			last[id] = n
		}
	}
	old := ""
	p.goWrong(func(r *http.Request) *http.Response {
		body := p.body(r)
		defer func() { old = body }()
		switch draw(8) {
		case 0:
			return reply([]int{500, 502, 503, 429, 401}[draw(5)], "")
		case 1:
			return reply(200, body[:draw(len(body))])
		case 2:
			return reply(0, "")
		case 3:
			return reply(200, old)
		case 4:
			return reply(200, "{}")
		}
		return nil
	})
	for range 60 {
		version++
		p.set(ids[draw(len(ids))], version, time.Now())
		time.Sleep(time.Duration(1+draw(20)) * time.Second)
		look()
	}
	p.goWrong(nil)
	time.Sleep(11 * time.Minute)
	look()
	for _, id := range ids {
		if want := p.workspaces[id].version; last[id] != want {
			t.Errorf("seed %d: in the end %s is v%d, not v%d", seed, id, last[id], want)
		}
	}
	stop()
	running.Wait()
}

// TestRealServer: over real connections, with answers that are cut and that never come.
func TestRealServer(t *testing.T) {
	t.Parallel()
	p := newPlane()
	p.set("ws", 1, time.Now())
	var mu sync.Mutex
	how := "cut"
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		now := how
		mu.Unlock()
		body := p.body(r)
		switch now {
		case "cut":
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
			_, _ = io.WriteString(w, body[:len(body)/2])
		case "hang":
			select {
			case <-release:
			case <-r.Context().Done():
			}
		default:
			_, _ = io.WriteString(w, body)
		}
	}))
	defer server.Close()
	defer close(release)
	for _, kind := range []string{"cut", "hang", "well"} {
		mu.Lock()
		how = kind
		mu.Unlock()
		o := p.options(io.Discard)
		o.URL, o.Transport, o.StartWait = server.URL, nil, 0
		if kind == "hang" {
			o.Timeout = 50 * time.Millisecond
		}
		at := controlplane.New(o)
		err := at.Start(t.Context())
		if got := versions(at.State().Current())["ws"]; (err == nil) != (kind == "well") || (got == "v1") != (kind == "well") {
			t.Errorf("%s: %v, %q", kind, err, got)
		}
	}
}
