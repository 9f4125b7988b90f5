// Package examples tests that every example does what its README and comments say.
package examples

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/weirdata/weir/internal/all"
	"github.com/weirdata/weir/internal/app"
	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/pipetest"
)

// run runs a config to its end, in this process.
func run(t *testing.T, env map[string]string, paths ...string) {
	t.Helper()
	b := app.Builder{Set: all.Connectors(), Log: slog.New(slog.DiscardHandler), Version: "0.0.0-test"}
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	cfg, found := config.Load(paths, b.Options(lookup))
	if len(found) > 0 {
		t.Fatal(found.Text())
	}
	built, found := b.Build(context.Background(), cfg.Plan())
	if len(found) > 0 {
		t.Fatal(found.Text())
	}
	a := app.App{Log: b.Log, Meter: &meter.Registry{}, Builder: &b}
	if err := a.Run(context.Background(), built); err != nil {
		t.Fatal(err)
	}
}

func lines(t *testing.T, path string) []string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	s := bufio.NewScanner(bytes.NewReader(data))
	s.Buffer(nil, 1<<24)
	for s.Scan() {
		out = append(out, s.Text())
	}
	return out
}

// TestAccessLogs posts the sample log to an endpoint that fails now and then, and finds
// every event there.
func TestAccessLogs(t *testing.T) {
	t.Parallel()
	out := t.TempDir()
	var requests, refused atomic.Int64
	var mu sync.Mutex
	got := map[string]int{}
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		switch n := requests.Add(1); {
		case n%4 == 1:
			refused.Add(1)
			http.Error(w, "try later", http.StatusServiceUnavailable)
			return
		case n%7 == 2: // the connection is cut before the answer
			refused.Add(1)
			panic(http.ErrAbortHandler)
		}
		mu.Lock()
		defer mu.Unlock()
		for line := range strings.Lines(string(body)) {
			got[strings.TrimSuffix(line, "\n")]++
		}
	}))
	defer endpoint.Close()

	run(t, map[string]string{"EVENTS_URL": endpoint.URL, "OUT": out}, "access-logs/pipeline.hcl")

	want, invalid := expectedAccessEvents(t)
	if refused.Load() == 0 {
		t.Error("the endpoint never failed: the test shows nothing")
	}
	for event, n := range want {
		if got[event] < n {
			t.Errorf("lost: %d of %d of %s", n-got[event], n, event)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d distinct events arrived, want %d", len(got), len(want))
	}
	failed := lines(t, filepath.Join(out, "failed.jsonl"))
	if len(failed) != invalid {
		t.Errorf("%d failures, want %d", len(failed), invalid)
	}
	for _, f := range failed {
		if !json.Valid([]byte(f)) || !strings.Contains(f, "not an access log entry") {
			t.Errorf("unexpected failure: %s", f)
		}
	}
}

// TestCases runs the cases of every example, as "weir test examples" does.
func TestCases(t *testing.T) {
	t.Parallel()
	cases, err := pipetest.Find(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		t.Run(c.Path, func(t *testing.T) {
			t.Parallel()
			difference, err := c.Run(t.Context(), app.Builder{Set: all.Connectors()}, false)
			if err != nil || difference != "" {
				t.Errorf("%v\n%s", err, difference)
			}
		})
	}
}

// accessEntry reads a log line independently of parse.js.
var accessEntry = regexp.MustCompile(`^(\S+) - (\S+) \[(\d\d)/Nov/2026:(\S+) \+0000\] "(.*?)" (\d+) (\S+) "(.*?)" "(.*?)"$`)

// expectedAccessEvents is what the sample log should become: each event with how often it
// occurs, and the number of lines that are no entries.
func expectedAccessEvents(t *testing.T) (want map[string]int, invalid int) {
	t.Helper()
	want = map[string]int{}
	orNil := func(s string) any {
		if s == "-" {
			return nil
		}
		return s
	}
	for _, line := range lines(t, "access-logs/access.log") {
		m := accessEntry.FindStringSubmatch(line)
		if m == nil {
			invalid++
			continue
		}
		status, _ := strconv.Atoi(m[6])
		bytes, _ := strconv.Atoi(m[7])
		e := map[string]any{"client": m[1], "user": orNil(m[2]), "time": "2026-11-" + m[3] + "T" + m[4] + "+00:00",
			"method": nil, "path": nil, "status": status, "bytes": bytes, "referrer": orNil(m[8]), "agent": m[9]}
		if f := strings.Fields(m[5]); len(f) == 3 {
			if f[1] == "/health" || strings.HasPrefix(f[1], "/static/") {
				continue
			}
			e["method"], e["path"] = f[0], f[1]
		}
		data, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		want[string(data)]++
	}
	if len(want) < 200 || invalid == 0 {
		t.Fatalf("the sample has %d distinct events and %d invalid lines: too few to show anything", len(want), invalid)
	}
	return want, invalid
}

// weir builds the binary once and returns its path.
var weir = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "weir-examples-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "weir")
	out, err := exec.Command("go", "build", "-o", path, "github.com/weirdata/weir/cmd/weir").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

// TestSnowplow runs the binary on the sample of enriched events and compares with a count
// made by hand: the web events, as JSON.
func TestSnowplow(t *testing.T) {
	t.Parallel()
	path, err := weir()
	if err != nil {
		t.Fatal(err)
	}
	in, err := os.Open("snowplow/data/enriched.tsv")
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	c := exec.Command(path, "run", "snowplow/pipeline.hcl")
	c.Stdin = in
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	want := map[string]bool{}
	for _, line := range lines(t, "snowplow/data/enriched.tsv") {
		f := strings.Split(line, "\t")
		if f[1] == "web" {
			want[f[6]] = true // event_id
		}
	}
	if len(want) < 50 {
		t.Fatalf("the sample has only %d web events", len(want))
	}
	got := 0
	for line := range strings.Lines(string(out)) {
		var e struct {
			EventID  string `json:"event_id"`
			Platform string `json:"platform"`
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if !want[e.EventID] || e.Platform != "web" {
			t.Errorf("unexpected event: %s", line)
		}
		got++
	}
	if got != len(want) {
		t.Errorf("%d events came out, want %d", got, len(want))
	}
}
