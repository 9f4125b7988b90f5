package app_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/all"
	"github.com/weirdata/weir/internal/app"
	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/embedded"
)

// process is an app that runs, as `weir run` makes it.
type process struct {
	*app.App
	ended chan error
	stop  context.CancelFunc
}

func built(t *testing.T, b *app.Builder, hcl string) *app.Built {
	t.Helper()
	cfg, found := config.ParseFiles([]config.File{{Name: "test.hcl", Src: []byte(hcl)}}, b.Options(func(string) (string, bool) { return "", false }))
	if err := found.Err(); err != nil {
		t.Fatal(err)
	}
	out, found := b.Build(t.Context(), cfg.Plan())
	if err := found.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

func start(t *testing.T, hcl string) *process {
	t.Helper()
	b := &app.Builder{Set: all.Connectors(), Log: slog.New(slog.DiscardHandler), Version: "test"}
	p := &process{App: &app.App{Log: b.Log, Meter: &meter.Registry{}, Builder: b}, ended: make(chan error, 1)}
	made := built(t, b, hcl)
	ctx, stop := context.WithCancel(t.Context())
	p.stop = stop
	go func() { p.ended <- p.Run(ctx, made) }()
	t.Cleanup(stop)
	return p
}

// patience is how long something may take on a busy machine before it counts as stuck.
const patience = 3 * time.Minute

// await waits for what cond waits for.
func await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(patience); !cond(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited too long: %s", what)
		}
	}
}

func (p *process) ends(t *testing.T) {
	t.Helper()
	p.stop()
	select {
	case err := <-p.ended:
		if err != nil {
			t.Errorf("Run: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("Run does not end")
	}
}

// moving is a config with the queues "in" and "out" in a store at dir.
func moving(dir, more string) string {
	return fmt.Sprintf(`
store {
  use "embedded" {
    path = %q
  }
}
queue "in" {}
queue "out" {}
source {
  use "queue" {
    name = "in"
  }
}
target {
  use "queue" {
    name = "out"
  }
}
%s`, dir, more)
}

// idleConfig needs no store, and its source waits for ever.
const idleConfig = `
source {
  use "http" {
    url = "127.0.0.1:0"
  }
}
target {
  use "silent" {}
}
`

func TestReloadKeepsTheStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := start(t, moving(dir, ""))
	await(t, "the pipelines to run", func() bool { return p.Ready() == nil })
	s, identity, queues := p.Store()
	if s == nil || identity != "embedded "+dir || len(queues) != 2 || queues[0].Name != "in" {
		t.Errorf("Store: %v %q %v", s, identity, queues)
	}
	if err := p.Reload(t.Context(), built(t, p.Builder, moving(dir, `queue "third" {}`))); err != nil {
		t.Errorf("reload with the same store: %v", err)
	}
	if _, _, queues := p.Store(); len(queues) != 3 {
		t.Errorf("queues after a reload: %v", queues)
	}
	err := p.Reload(t.Context(), built(t, p.Builder, moving(filepath.Join(dir, "other"), "")))
	if err == nil || !strings.Contains(err.Error(), "the store cannot change while pipelines run (from embedded "+dir+" to embedded ") {
		t.Errorf("reload with another store: %v", err)
	}
	// What the refused reload left must still move messages.
	if err := s.Update(t.Context(), func(tx queue.Tx) error {
		return tx.Append(queue.Job{Queue: "in", Msg: event.New([]byte("x"))})
	}); err != nil {
		t.Fatal(err)
	}
	await(t, "the message to be moved", func() bool {
		st, err := s.Stats(t.Context(), queue.Filter{Queue: "out"})
		return err == nil && st.Waiting == 1
	})
	p.ends(t)
	if s, _, _ := p.Store(); s != nil {
		t.Error("the store is still there after the end")
	}
}

func TestReloadCannotOpenAStore(t *testing.T) {
	t.Parallel()
	p := start(t, idleConfig)
	await(t, "the pipeline to run", func() bool { return p.Ready() == nil })
	if s, _, _ := p.Store(); s != nil {
		t.Error("there is a store without a queue")
	}
	err := p.Reload(t.Context(), built(t, p.Builder, moving(t.TempDir(), "")))
	if err == nil || !strings.Contains(err.Error(), "start Weir again") {
		t.Errorf("reload with a first store: %v", err)
	}
	p.ends(t)
}

// TestDrainGivesBack stops while the target does not answer: the messages are open again
// at once, and the attempt does not count.
func TestDrainGivesBack(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 100)
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer server.Close()
	defer close(release)
	dir := t.TempDir()
	put(t, dir, "in", "1", "2", "3")
	for range 2 { // the second process gets them at once, whatever lease the first had
		p := start(t, fmt.Sprintf(`
store {
  use "embedded" {
    path = %q
  }
}
queue "in" {}
drain_timeout_ms = 4000
source {
  use "queue" {
    name          = "in"
    lease_seconds = 3600
  }
}
target {
  use "http" {
    url                       = %q
    request_timeout_in_millis = 600000
  }
}
`, dir, server.URL))
		select {
		case <-asked:
		case <-time.After(patience):
			t.Fatal("the target was not asked")
		}
		p.ends(t)
		s, err := embedded.Open(dir, embedded.Options{})
		if err != nil {
			t.Fatal(err)
		}
		page, err := s.List(t.Context(), queue.Search{Filter: queue.Filter{Queue: "in"}}, queue.ID{}, 10)
		if err != nil || len(page.Jobs) != 3 {
			t.Fatalf("left: %+v, %v; want 3 messages", page.Jobs, err)
		}
		for _, j := range page.Jobs {
			if j.Attempt != 0 || j.Cause != "" {
				t.Errorf("%s has %d attempts, cause %q", j.Msg.Data, j.Attempt, j.Cause)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func put(t *testing.T, dir, name string, payloads ...string) {
	t.Helper()
	s, err := embedded.Open(dir, embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range payloads {
		j := queue.Job{Queue: name, Msg: event.New([]byte(p)), Scope: queue.Scope{Destination: fmt.Sprintf("d%d", i)}}
		if err := s.Update(t.Context(), func(tx queue.Tx) error { return tx.Append(j) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestIsolatedQueueEnds runs a whole config with isolation until its queue is empty.
func TestIsolatedQueueEnds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put(t, dir, "in", "1", "2", "3", "4")
	p := start(t, strings.Replace(moving(dir, ""), `name = "in"`, `name            = "in"
    isolation       = "destination"
    max_isolated    = 2
    stop_when_empty = true`, 1))
	if err := <-p.ended; err != nil {
		t.Fatal(err)
	}
	s, err := embedded.Open(dir, embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if values, err := s.Active(t.Context(), "out", queue.ByDestination); err != nil || len(values) != 4 {
		t.Errorf("moved to %q, %v; want 4 destinations", values, err)
	}
}
