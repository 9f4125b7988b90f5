package app_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/weirdata/weir/internal/all"
	"github.com/weirdata/weir/internal/app"
	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/failures"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/embedded"
)

// rowServer takes rows of failed messages as an HTTP server.
type rowServer struct {
	*httptest.Server
	mu   sync.Mutex
	rows []*failures.Failure
	most int // bytes of a row
}

func newRowServer(t *testing.T) *rowServer {
	t.Helper()
	s := &rowServer{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var rows []json.RawMessage
		if err == nil {
			err = json.Unmarshal(body, &rows)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, row := range rows {
			f, err := failures.Parse(row)
			if err != nil {
				t.Errorf("%.200s: %v", row, err)
				continue
			}
			s.rows, s.most = append(s.rows, f), max(s.most, len(row))
		}
		if err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusOK)
	}))
	t.Cleanup(s.Close)
	return s
}

const large = 3 << 20

// oversize has three lines, of which the second is too large for its target; in a pipeline with
// a name where block says so.
func oversize(t *testing.T, dir, block, failureTarget, more string) string {
	t.Helper()
	write(t, dir+"/in", "one\n"+strings.Repeat("x", large)+"\ntwo\n")
	p := `
source {
  use "file" {
    path = "DIR/in"
  }
}
target {
  use "file" {
    path = "DIR/out"
  }
}
failure_target {
` + failureTarget + `
}
`
	if block != "" {
		p = fmt.Sprintf("pipeline %q {\n%s}\n", block, p)
	}
	return more + p
}

// startBeside is startIn for a config that is a file in dir.
func startBeside(t *testing.T, dir, hcl string) (*process, *buffer) {
	t.Helper()
	path := filepath.Join(dir, "test.hcl")
	write(t, path, strings.ReplaceAll(hcl, "DIR", dir))
	log := &buffer{}
	b := &app.Builder{Set: all.Connectors(), Log: slog.New(slog.NewTextHandler(log, nil)), Version: "1.2.3"}
	cfg, found := config.Load([]string{path}, b.Options(func(string) (string, bool) { return "", false }))
	if err := found.Err(); err != nil {
		t.Fatal(err)
	}
	made, found := b.Build(t.Context(), cfg.Plan())
	if err := found.Err(); err != nil {
		t.Fatal(err)
	}
	p := &process{App: &app.App{Log: b.Log, Meter: &meter.Registry{}, Builder: b}, ended: make(chan error, 1)}
	ctx, stop := context.WithCancel(t.Context())
	p.stop = stop
	go func() { p.ended <- p.Run(ctx, made) }()
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Logf("log:\n%s", log)
		}
	})
	return p, log
}

const ownStore = "store {\n  use \"embedded\" {\n    path = \"DIR/store\"\n  }\n}\n"

// TestFailuresStayWhole: an event that is too large for its target is whole somewhere, whatever
// the failure target can hold, and stops nothing; only the blocks of a config of Snowbridge
// without a store cut it, as an error that is counted.
func TestFailuresStayWhole(t *testing.T) {
	t.Parallel()
	http := func(s *rowServer) string { return fmt.Sprintf("use \"http\" {\nurl = %q\n}", s.URL) }
	for _, row := range []struct {
		name, block, store string
		target             func(*rowServer) string
		whole              string // "file", the name of a queue, or "" for nowhere
		rows               int    // that the server gets
	}{
		{"file", "", "", func(*rowServer) string { return "use \"file\" {\npath = \"DIR/failed\"\n}" }, "file", 0},
		{"file of a named pipeline", "p", "", func(*rowServer) string { return "use \"file\" {\npath = \"DIR/failed\"\n}" }, "file", 0},
		{"spilled file", "", ownStore, func(*rowServer) string { return "spill = true\nuse \"file\" {\npath = \"DIR/failed\"\n}" }, "file", 0},
		{"queue", "p", ownStore + "queue \"failed\" {}\n", func(*rowServer) string { return "use \"queue\" {\nname = \"failed\"\n}" }, "failed", 0},
		{"spill", "", ownStore, func(s *rowServer) string { return "spill = true\n" + http(s) }, "failures/default/overflow", 1},
		{"a store that is there", "", ownStore, http, "failures/default/overflow", 1},
		{"a store that is needed for it", "p", "", http, "failures/p/overflow", 1},
		{"a file with a limit", "p", ownStore, func(*rowServer) string {
			return "use \"file\" {\npath = \"DIR/failed\"\nbatching {\nmax_message_bytes = 1000\n}\n}"
		}, "failures/p/overflow", 0},
		{"a file with a limit that nothing fits", "p", ownStore, func(*rowServer) string {
			return "use \"file\" {\npath = \"DIR/failed\"\nbatching {\nmax_message_bytes = 20\n}\n}"
		}, "failures/p/overflow", 0},
		{"no store", "", "", http, "", 1},
		{"not wanted", "p", "", func(s *rowServer) string { return "spill = false\n" + http(s) }, "", 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			dir, s := t.TempDir(), newRowServer(t)
			p, log := startBeside(t, dir, oversize(t, dir, row.block, row.target(s), row.store))
			if err := p.result(t); err != nil {
				t.Fatal(err)
			}
			if out, _ := os.ReadFile(dir + "/out"); string(out) != "one\ntwo\n" {
				t.Errorf("the target has %q", out)
			}
			s.mu.Lock()
			if len(s.rows) != row.rows || s.most > 1<<20 {
				t.Errorf("the server has %d rows of at most %d bytes", len(s.rows), s.most)
			}
			s.mu.Unlock()
			var m *meter.Pipeline
			for _, x := range p.Meter.Pipelines() {
				if x.Name == "p" || x.Name == "default" {
					m = x
				}
			}
			cut, errors := int64(0), strings.Count(log.String(), "level=ERROR")
			if row.whole == "" {
				cut = 1
			}
			if m.Cut.Load() != cut || m.Oversized.Load() != 1 {
				t.Errorf("%d are counted as cut, %d as oversized", m.Cut.Load(), m.Oversized.Load())
			}
			switch row.whole {
			case "":
				if errors != 1 || !strings.Contains(log.String(), "cut to fit the failure target") {
					t.Errorf("%d errors are logged", errors)
				}
				if _, err := os.Stat(dir + "/weir-data"); err == nil {
					t.Error("a store is made for nothing")
				}
			case "file":
				if got := payloads(t, dir+"/failed"); got[strings.Repeat("x", large)] != 1 || len(got) != 1 {
					t.Errorf("the file has %d failures, none is whole", len(got))
				}
				if errors != 0 {
					t.Errorf("%d errors are logged", errors)
				}
			default:
				if got := wholeIn(t, dir, row.store, row.whole); got != 1 {
					t.Errorf("%d failures in the queue are whole", got)
				}
				if want := strings.HasSuffix(row.whole, "overflow"); want != (errors == 1) {
					t.Errorf("%d errors are logged", errors)
				}
			}
		})
	}
}

// wholeIn is how many failures in a queue have the payload of oversize to be sent again.
func wholeIn(t *testing.T, dir, store, name string) (n int) {
	t.Helper()
	path := dir + "/weir-data"
	if store != "" {
		path = dir + "/store"
	}
	if paths, _ := filepath.Glob(dir + "/weir-data/*"); store == "" && len(paths) == 0 {
		t.Errorf("there is no store in %s", path)
	}
	s, err := embedded.Open(path, embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	page, err := s.List(t.Context(), queue.Search{Filter: queue.Filter{Queue: name}}, queue.ID{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range page.Jobs {
		f, err := failures.OfJob(&j, false)
		if err != nil {
			t.Fatal(err)
		}
		if payload, _, err := f.Replayed(failures.Original); err == nil && string(payload) == strings.Repeat("x", large) {
			n++
		}
	}
	return n
}

// TestSpareStore: where the store for what overflows cannot be opened, that is said, and all else
// goes on.
func TestSpareStore(t *testing.T) {
	t.Parallel()
	dir, s := t.TempDir(), newRowServer(t)
	hcl := oversize(t, dir, "p", fmt.Sprintf("use \"http\" {\nurl = %q\n}", s.URL), "")
	write(t, dir+"/weir-data", "this is no folder")
	p, log := startBeside(t, dir, hcl)
	if err := p.result(t); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "cannot be opened: such messages are cut") || !strings.Contains(log.String(), "cut to fit the failure target") {
		t.Error("it is not said")
	}
	if out, _ := os.ReadFile(dir + "/out"); string(out) != "one\ntwo\n" || len(s.rows) != 1 {
		t.Errorf("the target has %q, the server %d rows", out, len(s.rows))
	}
}

// TestMoreThanAQueueHolds: what no queue can hold is cut, and stops nothing.
func TestMoreThanAQueueHolds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	hcl := oversize(t, dir, "p", "use \"queue\" {\nname = \"failed\"\n}", ownStore+"queue \"failed\" {}\n")
	write(t, dir+"/in", "one\n"+strings.Repeat("x", queue.MaxPayload+1)+"\ntwo\n")
	p, log := startBeside(t, dir, hcl)
	if err := p.result(t); err != nil {
		t.Fatal(err)
	}
	if out, _ := os.ReadFile(dir + "/out"); string(out) != "one\ntwo\n" || strings.Count(log.String(), "level=ERROR") != 1 {
		t.Errorf("the target has %q", out)
	}
	if st := left(t, dir, "failed"); st.Open() != 1 {
		t.Errorf("in the queue: %+v", st)
	}
}
