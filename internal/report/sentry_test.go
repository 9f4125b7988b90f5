package report_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/report"
)

const sentryBlock = `sentry {
  dsn  = "https://public@sentry.example/prefix/42"
  tags = "{\"team\":\"data\"}"
}
`

// varying is what differs between two runs of one test.
var varying = regexp.MustCompile(`"event_id":"[0-9a-f]{32}"|"lineno":\d+|"length":\d+`)

// TestSentryEnvelope: what Sentry is sent of a logged error, and of one that ends the process.
func TestSentryEnvelope(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, sentryBlock)
		log := slog.New(r.Handler(slog.NewTextHandler(r.log, nil))).With(meter.KeyPipeline, "orders", "api_key", "hush")
		log.Info("not an error")
		log.Warn("not an error either")
		log.WithGroup("request").With("id", 5).Error("write gave up", slog.Any(meter.KeyError, errors.New("post https://me:pw@x.example/p?token=1: refused")),
			slog.Group("auth", "password", "hush", "user", "ann"), slog.Any(meter.KeyKind, "setup"))
		log.Error("panic in a target", meter.KeyComponent, "target", meter.KeyStack, "goroutine 1 ...")
		r.Failed(errors.New("open target: refused"))
		r.stop()
		var out strings.Builder
		for _, c := range r.http.taken() {
			fmt.Fprintf(&out, "%s %s %s\n", c.url, c.header.Get("Content-Type"), c.header.Get("X-Sentry-Auth"))
			lines := strings.SplitN(c.body, "\n", 3)
			var kind struct{ Length int }
			if err := json.Unmarshal([]byte(lines[1]), &kind); err != nil || kind.Length != len(lines[2])-1 {
				t.Errorf("the event has %d bytes, its header says %d (%v)", len(lines[2])-1, kind.Length, err)
			}
			var event map[string]any
			if err := json.Unmarshal([]byte(lines[2]), &event); err != nil {
				t.Fatal(err)
			}
			withoutRuntime(event)
			pretty, err := json.MarshalIndent(event, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			out.WriteString(varying.ReplaceAllString(lines[0]+"\n"+lines[1]+"\n", "-"))
			out.WriteString(varying.ReplaceAllString(strings.ReplaceAll(string(pretty), `": `, `":`), "-") + "\n")
		}
		got := out.String()
		golden(t, "sentry.txt", got)
		for _, secret := range []string{"hush", "pw@", "token=1"} {
			if strings.Contains(got, secret) {
				t.Errorf("Sentry is sent %q", secret)
			}
		}
		if n := strings.Count(r.log.String(), "\n"); n != 4 {
			t.Errorf("the log has %d lines:\n%s", n, r.log)
		}
	})
}

// withoutRuntime takes the frames of Go's runtime and testing out of stacks: they change
// with its version.
func withoutRuntime(v any) {
	switch v := v.(type) {
	case map[string]any:
		if frames, ok := v["frames"].([]any); ok {
			var kept []any
			for _, f := range frames {
				if m := f.(map[string]any)["module"].(string); strings.Contains(m, "weir") {
					kept = append(kept, f)
				}
			}
			v["frames"] = kept
		}
		for _, x := range v {
			withoutRuntime(x)
		}
	case []any:
		for _, x := range v {
			withoutRuntime(x)
		}
	}
}

// TestSentryServer sends to a real server.
func TestSentryServer(t *testing.T) {
	t.Parallel()
	got := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body)
		got <- q.Method + " " + q.URL.Path + " " + q.Header.Get("X-Sentry-Auth") + " " + string(body)
	}))
	defer server.Close()
	dsn := strings.Replace(server.URL, "http://", "http://key:old@", 1) + "/7"
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	r := report.New(report.Options{AppName: "weir", Version: "1", Transport: transport, Settings: process(t, fmt.Sprintf("sentry {\n dsn = %q\n}", dsn))})
	slog.New(r.Handler(slog.DiscardHandler)).Error("here I am")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r.Run(ctx, func() []*meter.Pipeline { return nil })
	select {
	case s := <-got:
		if !strings.HasPrefix(s, "POST /api/7/envelope/ Sentry sentry_version=7, sentry_client=weir/1, sentry_key=key, sentry_secret=old {") || !strings.Contains(s, "here I am") {
			t.Errorf("got %s", s)
		}
	default:
		t.Errorf("nothing was sent; %d dropped", r.Dropped().Sentry.Load())
	}
}

// TestSentryPace: an error for every message costs no more than the burst and one each second.
func TestSentryPace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, sentryBlock)
		log := slog.New(r.Handler(slog.DiscardHandler))
		for range 1000 {
			log.Error("x")
		}
		pass(10 * time.Second)
		for range 1000 {
			log.Error("x")
		}
		synctest.Wait()
		if sent, dropped := len(r.http.taken()), r.Dropped().Sentry.Load(); sent != 70 || dropped != 1930 {
			t.Errorf("%d sent, %d dropped", sent, dropped)
		}
	})
}

// TestSentryHangs: a Sentry that does not answer holds up neither the log nor the end.
func TestSentryHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, sentryBlock)
		r.http.answers(hang)
		log := slog.New(r.Handler(slog.DiscardHandler))
		began := time.Now()
		for range 300 {
			log.Error("x")
			time.Sleep(time.Second)
		}
		if d := time.Since(began); d != 300*time.Second {
			t.Errorf("logging took %s", d-300*time.Second)
		}
		began = time.Now()
		r.stop()
		if d := time.Since(began); d > report.Linger {
			t.Errorf("the process waited for %s", d)
		}
		if n := r.Dropped().Sentry.Load(); n != 300 {
			t.Errorf("%d dropped", n)
		}
		if log := r.log.String(); strings.Count(log, "\n") != 1 || strings.Contains(log, "public") {
			t.Errorf("log:\n%s", log)
		}
	})
}

// TestSentryLimits: when Sentry asks for quiet, it gets it.
func TestSentryLimits(t *testing.T) {
	t.Parallel()
	header := func(code int, name, value string) *http.Response {
		res := status(code)
		if name != "" {
			res.Header.Set(name, value)
		}
		return res
	}
	for _, c := range []struct {
		name   string
		answer *http.Response
		quiet  time.Duration
	}{
		{"nothing", header(200, "", ""), 0},
		{"retry after", header(429, "Retry-After", "30"), 30 * time.Second},
		{"unsaid", header(429, "", ""), time.Minute},
		{"for all", header(200, "X-Sentry-Rate-Limits", "20::organization"), 20 * time.Second},
		{"for errors", header(429, "X-Sentry-Rate-Limits", "5:transaction:key, 40:default;error:organization:reason"), 40 * time.Second},
		{"for others", header(200, "X-Sentry-Rate-Limits", "50:transaction:key"), 0},
		{"nonsense", header(429, "X-Sentry-Rate-Limits", "a:b, -1::c,"), time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := start(t, sentryBlock)
				r.http.answers(func(n int, _ *http.Request) (*http.Response, error) {
					if n == 0 {
						return c.answer, nil
					}
					return status(200), nil
				})
				log := slog.New(r.Handler(slog.DiscardHandler))
				log.Error("x")
				synctest.Wait()
				for range 90 {
					pass(time.Second)
					log.Error("x")
				}
				synctest.Wait()
				first := time.Duration(0)
				if calls := r.http.taken(); len(calls) > 1 {
					first = calls[1].at
				}
				if want := max(c.quiet, time.Second); first != want {
					t.Errorf("the next event was sent after %s, want %s", first, want)
				}
			})
		})
	}
}

func TestHandlerWithoutSentry(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	inner := slog.NewTextHandler(&b, nil)
	h := report.New(report.Options{Settings: process(t, "")}).Handler(inner)
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelError} {
		if h.Enabled(t.Context(), level) != inner.Enabled(t.Context(), level) {
			t.Errorf("%s is enabled or not without need", level)
		}
	}
	slog.New(h).With("a", 1).WithGroup("g").Error("x", "b", 2)
	if !strings.HasSuffix(b.String(), "level=ERROR msg=x a=1 g.b=2\n") {
		t.Errorf("the log says %q", b.String())
	}
}
