//go:build unix

package cli_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/addresstest"
	"github.com/weirdata/weir/internal/app"
)

// get returns the answer to a GET request.
func get(t *testing.T, url string) (int, string) {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(text)
}

// TestAdminServer: health, readiness in each state of the process, and counters that add up.
func TestAdminServer(t *testing.T) {
	t.Parallel()
	var hang atomic.Bool
	var hung atomic.Int64
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if hang.Load() {
			hung.Add(1)
			<-release
		}
	}))
	t.Cleanup(s.Close)
	admin := addresstest.Free(t)
	p := launch(t, weir(t, files(t, "p.hcl", fmt.Sprintf(`
transform {
  use "js" {
    json_mode = true
    script    = "function main(x) { if (x.Data.n < 3) return {FilterOut: true}; return x }"
  }
}
target {
  use "http" {
    url                       = %q
    request_timeout_in_millis = 600000
    batching {
      max_message_bytes = 1000
    }
  }
}
failure_target {
  use "file" {
    path = "failed"
  }
}
admin {
  address = %q
}
`, s.URL, admin)), "run", "p.hcl"))
	listening(t, admin)
	eventually(t, "readiness", func() bool { code, _ := get(t, "http://"+admin+"/readyz"); return code == http.StatusOK })
	large := `{"n":9,"x":"` + strings.Repeat("x", 2000) + `"}`
	if _, err := io.WriteString(p.in, strings.Join(append(crowd(10), "bad", "worse", large), "\n")+"\n"); err != nil {
		t.Fatal(err)
	}
	metric := func(name string) string {
		_, text := get(t, "http://"+admin+"/metrics")
		m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindStringSubmatch(text)
		if m == nil {
			return "missing"
		}
		return m[1]
	}
	const def = `{pipeline="default"}`
	eventually(t, "everything settled", func() bool {
		return metric("weir_read_messages_total"+def) == "13" && metric(`weir_written_messages_total{pipeline="default",role="target"}`) == "7" && metric("weir_in_flight_messages"+def) == "0"
	})
	for name, want := range map[string]string{
		"weir_read_messages_total" + def:                                        "13",
		"weir_filtered_messages_total" + def:                                    "3",
		"weir_invalid_messages_total" + def:                                     "2",
		"weir_oversized_messages_total" + def:                                   "1",
		"weir_unsettled_messages_total" + def:                                   "0",
		"weir_panics_total" + def:                                               "0",
		`weir_written_messages_total{pipeline="default",role="failure_target"}`: "3",
		`weir_written_messages_total{pipeline="default",role="filter_target"}`:  "3",
	} {
		if got := metric(name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	if code, text := get(t, "http://"+admin+"/healthz"); code != http.StatusOK || text != "ok\n" {
		t.Errorf("healthz: %d %s", code, text)
	}
	// While it drains it is alive and not ready.
	hang.Store(true)
	if _, err := io.WriteString(p.in, "{\"n\":5}\n"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the write that hangs", func() bool { return hung.Load() > 0 })
	p.signal(syscall.SIGTERM)
	eventually(t, "503 while draining", func() bool {
		code, text := get(t, "http://"+admin+"/readyz")
		return code == http.StatusServiceUnavailable && strings.Contains(text, `pipeline "default" is draining`)
	})
	if code, _ := get(t, "http://"+admin+"/healthz"); code != http.StatusOK {
		t.Errorf("healthz while draining: %d", code)
	}
	hang.Store(false)
	close(release)
	p.exits(0)
	if n := len(rows(t, read(t, filepath.Join(p.dir, "failed")))); n != 3 {
		t.Errorf("%d failures, want 3", n)
	}
}

// TestNotReadyBeforeItRuns: until the pipelines are open, the reason is that nothing runs.
func TestNotReadyBeforeItRuns(t *testing.T) {
	t.Parallel()
	if err := new(app.App).Ready(); err == nil || err.Error() != "not started" {
		t.Errorf("ready: %v", err)
	}
}

// TestLogFormats: JSON unless asked for, each line an object; text without colours where
// nobody sees them; nothing below the level.
func TestLogFormats(t *testing.T) {
	t.Parallel()
	config := "stats_receiver {\n  buffer_sec = 3600\n}\nadmin {\n  address = \"127.0.0.1:0\"\n}\n"
	logged := func(extra string, flags ...string) string {
		p := run(t, files(t, "p.hcl", extra+config), "", append([]string{"run", "p.hcl"}, flags...)...)
		p.exits(0)
		return p.err.String()
	}
	for name, text := range map[string]string{
		"by default":    logged(""),
		"by flag":       logged("log_format = \"text\"\n", "--log-format=json"),
		"by the config": logged("log_format = \"json\"\n"),
	} {
		for _, line := range split(text) {
			var entry struct {
				Time       time.Time
				Level, Msg string
			}
			if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Time.IsZero() || entry.Level == "" || entry.Msg == "" {
				t.Errorf("%s: %v in %s", name, err, line)
			}
		}
		if !strings.Contains(text, `"msg":"admin server listens"`) {
			t.Errorf("%s: %s", name, text)
		}
	}
	for name, text := range map[string]string{
		"by flag": logged("log_format = \"json\"\n", "--log-format=text"), "by the config": logged("log_format = \"text\"\n"),
	} {
		if !regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d\.\d{3} INF admin server listens address=127\.0\.0\.1:\d+$`).MatchString(text) || strings.Contains(text, "\x1b") {
			t.Errorf("text %s: %q", name, text)
		}
	}
	for _, text := range []string{logged("", "--log-level=error"), logged("log_level = \"error\"\n"), logged("log_level = \"debug\"\n", "--log-level=fatal")} {
		if text != "" {
			t.Errorf("below the level: %s", text)
		}
	}
}
