package gatewaysource

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/gateway"
)

func written(t *testing.T, z func(io.Writer) io.WriteCloser, text string) string {
	t.Helper()
	var out bytes.Buffer
	w := z(&out)
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestEncodings: each way to pack a body is understood by whichever reads it, and the limit counts on what is sent and on
// what that is unpacked.
func TestEncodings(t *testing.T) {
	t.Parallel()
	const limit = 2000
	s := start(t, func(c *Config) { c.MaxBodyBytes = limit })
	var events atomic.Int64
	s.run(t, func(b event.Batch) event.Outcomes { events.Add(int64(len(b))); return nil })
	pad := func(size int) string {
		return track[:len(track)-1] + strings.Repeat(" ", size-len(track)) + "}"
	}
	for name, z := range map[string]func(io.Writer) io.WriteCloser{
		"gzip":    func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) },
		"x-gzip":  func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) },
		"deflate": func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) },
		"Deflate": func(w io.Writer) io.WriteCloser { f, _ := flate.NewWriter(w, 5); return f },
		"zstd":    func(w io.Writer) io.WriteCloser { d, _ := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1)); return d },
		"":        nil,
		"utf-8":   nil, // which is no encoding, and said by some
	} {
		for _, more := range []string{"", "TE: trailers\r\n"} { // for express, and for net/http
			pack := func(text string) string {
				if z == nil {
					return text
				}
				return written(t, z, text)
			}
			head := plainHead + more
			if name != "" {
				head += "Content-Encoding: " + name + "\r\n"
			}
			for _, row := range []struct {
				body string
				code int
			}{{pack(track), 200}, {pack(pad(limit)), 200}, {pack(pad(limit + 1)), 413}, {pack(pad(100 * limit)), 413}} {
				before := events.Load()
				r := s.raw(t, 1, rawPost("/v1/track", head, row.body))[0]
				if r.code != row.code || events.Load()-before != int64(1-row.code/400) {
					t.Errorf("%q %q, %d bytes: %d %q, want %d", name, more, len(row.body), r.code, r.text, row.code)
				}
			}
		}
	}
	s.empty(t)
}

// TestLargeLists: the body of an audience may be larger than others.
func TestLargeLists(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *Config) { c.MaxBodyBytes, c.MaxInFlightBytes = 1000, 6<<20 })
	s.run(t, nil)
	large := `{"userId":"u","list":"` + strings.Repeat("x", 1<<20) + `"}`
	for path, want := range map[string]int{"/v1/audiencelist": 200, "/v1/track": 413} {
		if r := s.post(t, path, strings.NewReader(large), nil); r.code != want {
			t.Errorf("%s: %d %q", path, r.code, r.text)
		}
	}
	if r := s.raw(t, 1, rawPost("/v1/audiencelist", plainHead, large[:3000]+`"}`))[0]; r.code != 200 {
		t.Errorf("one that express may read: %d %q", r.code, r.text)
	}
	if r := s.post(t, "/v1/audiencelist", strings.NewReader(`{"userId":"u","list":"`+strings.Repeat("x", 1600<<10)+`"}`), nil); r.code != 413 {
		t.Errorf("one that takes too much of what there is: %d %q", r.code, r.text)
	}
	s.empty(t)
}

// TestRates: each workspace has its limit, or the one for all; who is over it is told when to come
// back, before much is done for him; runs are not counted.
func TestRates(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *Config) {
		c.RateLimitEvents, c.RateLimitWindowSeconds, c.RateLimitBurstEvents = 1000, 100, 2
		c.InternalEndpoints, c.InternalRateLimitEvents = true, 1
	})
	s.run(t, nil)
	head := func(name, value string) http.Header { return http.Header{name: {value}} }
	list := func(n int, context string) string {
		return `{"batch":[` + strings.Repeat(`{"type":"track","userId":"u","context":`+context+`},`, n-1) + `{"type":"track","userId":"u","context":` + context + `}]}`
	}
	now := time.Now()
	// The limit is used up for hours: the answers do not depend on how long they take.
	s.limit.free["ws1"] = now.Add(10 * time.Hour)
	for _, row := range []struct {
		name, path, body string
		head             http.Header
		code             int
	}{
		{"over", "/v1/track", track, nil, 429},
		{"over, express or not", "/v1/track", track, head("Te", "trailers"), 429},
		{"over, and not read", "/v1/track", `no JSON`, nil, 429},
		{"a pixel's picture", "/v1/batch", list(3, `{}`), nil, 429},
		{"a run by header", "/v1/batch", list(3, `{}`), head("X-Rudder-Job-Run-Id", "j"), 200},
		{"a task by header", "/v1/track", track, head("X-Rudder-Task-Run-Id", "j"), 200},
		{"a run by its first event", "/v1/batch", list(160, `{"sources":{"job_run_id":"j"}}`), nil, 200},
		{"a task by its event", "/v1/track", `{"userId":"u","context":{"sources":{"task_run_id":"j"}}}`, nil, 200},
		{"the name alone", "/v1/track", `{"userId":"u","properties":{"job_run_id":"j"}}`, nil, 429},
		{"retl", "/internal/v1/retl", list(3, `{}`), http.Header{"X-Rudder-Source-Id": {"src1"}, "X-Rudder-Job-Run-Id": {"j"}}, 200},
		{"retl without a run", "/internal/v1/retl", list(3, `{}`), head("X-Rudder-Source-Id", "src1"), 429},
	} {
		r := s.post(t, row.path, strings.NewReader(row.body), row.head)
		if r.code != row.code {
			t.Errorf("%s: %d %q", row.name, r.code, r.text)
		}
		if after := r.head.Get("Retry-After"); (r.code == 429) != (after != "" && after != "0" && len(after) == len("36000")) {
			t.Errorf("%s: %d, Retry-After %q", row.name, r.code, after)
		}
	}
	message := `{"properties":{"requestType":"batch","routingKey":"k","workspaceID":"ws9","sourceID":"s9","receivedAt":"2026-11-20T10:00:00Z","requestIP":"1.2.3.4"},"payload":{}}`
	if r := s.post(t, "/internal/v1/batch", strings.NewReader("["+message+"]"), nil); r.code != 200 {
		t.Errorf("one message: %d %q", r.code, r.text)
	}
	s.inside.free[""] = now.Add(10 * time.Hour)
	if r := s.post(t, "/internal/v1/batch", strings.NewReader("["+message+"]"), nil); r.code != 429 {
		t.Errorf("one more: %d %q", r.code, r.text)
	}
	if r := s.post(t, "/internal/v1/batch", strings.NewReader("no JSON"), head("X-Batch-Size", "5")); r.code != 429 {
		t.Errorf("five that are not read: %d %q", r.code, r.text)
	}
	s.empty(t)
}

// TestWorkspaceRates: limits of single workspaces, bursts, and how long it is until more may come.
func TestWorkspaceRates(t *testing.T) {
	t.Parallel()
	c := defaults()
	c.RateLimitEvents = 60
	c.WorkspaceRateLimits = []*WorkspaceRateLimit{{Workspace: "small", Events: 6, BurstEvents: 2}, {Workspace: "free"}, {Workspace: "fast", Events: 10, WindowSeconds: 1}}
	l, _ := c.limiters()
	now := time.Unix(0, 0)
	for _, row := range []struct {
		workspace string
		n         int
		at, wait  time.Duration
	}{
		{"small", 2, 0, 0},
		{"small", 1, 0, 10 * time.Second},
		{"small", 1, 10 * time.Second, 0},
		{"small", 2, 10 * time.Second, 20 * time.Second},
		{"small", 9, 10 * time.Second, 20 * time.Second}, // larger than the burst: once nothing is used
		{"small", 9, 30 * time.Second, 0},
		{"small", 1, 30 * time.Second, 80 * time.Second},
		{"free", 1 << 30, 0, 0},
		{"free", 1 << 30, 0, 0},
		{"fast", 10, 0, 0},
		{"fast", 1, 0, 100 * time.Millisecond},
		{"other", 60, 0, 0},
		{"other", 1, 0, time.Second},
		{"another", 60, 0, 0},
	} {
		if left := l.spent(row.workspace, row.n, now.Add(row.at)); left != row.wait {
			t.Errorf("%+v: asked, %s", row, left)
		}
		if left := l.take(row.workspace, row.n, now.Add(row.at)); left != row.wait {
			t.Errorf("%+v: taken, %s", row, left)
		}
	}
}

// TestImportSettles: those of an import that are taken are kept before the others are refused.
func TestImportSettles(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	var events atomic.Int64
	s.run(t, func(b event.Batch) event.Outcomes { events.Add(int64(len(b))); return nil })
	for i, more := range []string{"", "TE: trailers\r\n"} {
		r := s.raw(t, 1, rawPost("/v1/import", plainHead+"Origin: https://shop.example\r\n"+more, `{"batch":[`+track+`,{},`+track+`]}`))[0]
		if r.code != 400 || r.text != "request neither has anonymousId nor userId\n" || events.Load() != int64(2+2*i) || r.head.Get("X-Weir-Event") != "batch[1]" ||
			!strings.Contains(r.head.Get("Access-Control-Expose-Headers"), "X-Weir-Event") {
			t.Errorf("%q: %d %q %v, %d events", more, r.code, r.text, r.head, events.Load())
		}
	}
}

// TestWebhookIsKept: the sender of a request of which no events can be made hears why once the request
// is kept, and to come back when it is not.
func TestWebhookIsKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script := filepath.Join(dir, "shop.js")
	if err := os.WriteFile(script, []byte(`function process(input) { if (input.request.body === "bad") { throw new Error("no order") } return {type: "track", userId: "u"} }`), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, func(c *Config) {
		c.WorkspaceConfig = filepath.Join(dir, "workspaceConfig.json")
		c.Webhooks = []*gateway.Webhook{{Source: "Shop", ScriptPath: script, TimeoutMillis: 120_000}}
		text := strings.Replace(workspaceText, `{"name":"HTTP","type":"cloud"}`, `{"name":"Shop","category":"webhook"}`, 1)
		if err := os.WriteFile(c.WorkspaceConfig, []byte(text), 0o600); err != nil {
			t.Error(err)
		}
	})
	var full atomic.Bool
	var kept atomic.Int64
	s.run(t, func(b event.Batch) event.Outcomes {
		o := make(event.Outcomes, len(b))
		for i, m := range b {
			if m.Refused() != nil {
				kept.Add(1)
			}
			if full.Load() {
				o[i] = errors.New("full")
			}
		}
		return o
	})
	for i, row := range []struct {
		body   string
		full   bool
		code   int
		answer string
	}{
		{"good", false, 200, "ok"},
		{"bad", false, 400, "no order\n"},
		{"bad", true, 503, "service unavailable\n"},
	} {
		full.Store(row.full)
		r := s.post(t, "/v1/webhook", strings.NewReader(row.body), nil)
		if r.code != row.code || r.text != row.answer || kept.Load() != int64(i) {
			t.Errorf("%+v: %d %q, %d are kept", row, r.code, r.text, kept.Load())
		}
	}
	s.empty(t)
}
