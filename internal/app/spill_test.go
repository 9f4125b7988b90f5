package app_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/all"
	"github.com/weirdata/weir/internal/app"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/failures"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/embedded"
)

// buffer is a log that tests look into while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) { b.mu.Lock(); defer b.mu.Unlock(); return b.b.Write(p) }
func (b *buffer) String() string              { b.mu.Lock(); defer b.mu.Unlock(); return b.b.String() }

// startIn is start with the text DIR of the config replaced, and the log.
func startIn(t *testing.T, dir, hcl string) (*process, *buffer) {
	t.Helper()
	log := &buffer{}
	b := &app.Builder{Set: all.Connectors(), Log: slog.New(slog.NewTextHandler(log, nil)), Version: "1.2.3"}
	p := &process{App: &app.App{Log: b.Log, Meter: &meter.Registry{}, Builder: b}, ended: make(chan error, 1)}
	made := built(t, b, strings.ReplaceAll(hcl, "DIR", dir))
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

// result is what Run returns.
func (p *process) result(t *testing.T) error {
	t.Helper()
	select {
	case err := <-p.ended:
		return err
	case <-time.After(patience):
		t.Fatal("Run does not end")
		return nil
	}
}

const quickly = `
retry {
  transient {
    delay_ms     = 20
    max_delay_ms = 100
  }
  setup {
    delay_ms     = 20
    max_delay_ms = 100
  }
  throttle {
    delay_ms     = 20
    max_delay_ms = 100
  }
}
`

// spilling reads lines, of which those that are no base64 fail, and whose failure target is
// down as long as the directory DIR/later is missing.
const spilling = quickly + `
store {
  use "embedded" {
    path = "DIR/store"
  }
}
source {
  use "file" {
    path = "DIR/in"
  }
}
transform {
  use "base64Decode" {}
}
target {
  use "file" {
    path = "DIR/out"
  }
}
failure_target {
  spill = true
  use "file" {
    path = "DIR/later/failed"
  }
}
drain_timeout_ms = 120000
`

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// payloads is what the rows in a file are about.
func payloads(t *testing.T, path string) map[string]int {
	t.Helper()
	got := map[string]int{}
	_, err := failures.ScanFile(t.Context(), path, nil, func(f *failures.Failure) error { got[string(f.Payload)]++; return nil }, true)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// once checks that the rows in a file are about these payloads, each once.
func once(t *testing.T, path string, want ...string) {
	t.Helper()
	got := payloads(t, path)
	for _, w := range want {
		if got[w] != 1 {
			t.Errorf("%q arrived %d times", w, got[w])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d different failures arrived, want %d", len(got), len(want))
	}
}

func TestSpillDeliversBeforeTheEnd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir+"/in", "b25l\n*\ndHdv\n**\n")
	if err := os.Mkdir(dir+"/later", 0o755); err != nil {
		t.Fatal(err)
	}
	p, _ := startIn(t, dir, spilling)
	if err := p.result(t); err != nil {
		t.Fatal(err)
	}
	once(t, dir+"/later/failed", "*", "**")
	names := map[string]*meter.Pipeline{}
	for _, m := range p.Meter.Pipelines() {
		names[m.Name] = m
	}
	if m := names["default"]; m == nil || m.Failure.Written.Load() != 2 {
		t.Errorf("counters of the pipeline: %+v", names)
	}
	if m := names["failures/default"]; m == nil || m.Read.Load() != 2 || m.Target.Written.Load() != 2 {
		t.Errorf("counters of its failures: %+v", names)
	}
}

// TestSpillOutlivesAnOutage: the failure target is down, the pipeline goes on to its end, the
// error says where the failures are, and the next run delivers them.
func TestSpillOutlivesAnOutage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir+"/in", "b25l\n*\ndHdv\n**\n")
	began := time.Now()
	p, log := startIn(t, dir, strings.Replace(spilling, "drain_timeout_ms = 120000", "drain_timeout_ms = 3000", 1))
	err := p.result(t)
	took := time.Since(began)
	if err == nil || !strings.Contains(err.Error(), `pipeline "failures/default": the failure target has not taken 2 failed messages (`) ||
		!strings.Contains(err.Error(), "no such file or directory") || !strings.Contains(err.Error(), "the next weir run goes on with them") {
		t.Errorf("Run: %v", err)
	}
	if out, _ := os.ReadFile(dir + "/out"); string(out) != "one\ntwo\n" {
		t.Errorf("delivered: %q", out)
	}
	// At most two writes each 100 ms, and a few quicker ones at first.
	if n := strings.Count(log.String(), "write failed"); n > 20+int(40*took.Seconds()) {
		t.Errorf("the failure target was asked %d times in %s", n, took)
	}
	write(t, dir+"/in", "***\n")
	write(t, dir+"/later/other", "")
	p, _ = startIn(t, dir, spilling)
	if err := p.result(t); err != nil {
		t.Fatal(err)
	}
	once(t, dir+"/later/failed", "*", "**", "***")
}

// TestSpillStops: a signal ends the process although the failure target is down; what is
// left is durable, so that this is no error.
func TestSpillStops(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir+"/in", "*\n")
	hcl := strings.Replace(spilling, `path = "DIR/in"`, `path   = "DIR/in"
    follow = true`, 1)
	p, log := startIn(t, dir, hcl)
	await(t, "a write that failed", func() bool { return strings.Contains(log.String(), "due again later") })
	if err := p.Ready(); err != nil {
		t.Errorf("ready while the failure target is down: %v", err)
	}
	began := time.Now()
	p.stop()
	if err := p.result(t); err != nil {
		t.Errorf("Run: %v", err)
	}
	if took := time.Since(began); took > time.Minute { // half of the drain timeout, which nothing has to wait for
		t.Errorf("the end took %s", took)
	}
	if !strings.Contains(log.String(), "failed messages are kept in the store for the failure target") {
		t.Error("the log does not say what is left")
	}
	if st := left(t, dir, "failures/default"); st.Open() != 1 {
		t.Errorf("in the queue: %+v", st)
	}
}

// left is what the queue of a store that nobody has open holds.
func left(t *testing.T, dir, name string) queue.Stats {
	t.Helper()
	s, err := embedded.Open(dir+"/store", embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	st, err := s.Stats(t.Context(), queue.Filter{Queue: name})
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	return st
}

// TestSpillKeepsWhatIsRefused: a failure target that refuses a failure stops nothing. The
// failure is kept, and the end of a source tells.
func TestSpillKeepsWhatIsRefused(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	defer server.Close()
	dir := t.TempDir()
	write(t, dir+"/in", "b25l\n*\n")
	hcl := strings.Replace(spilling, `  use "file" {
    path = "DIR/later/failed"
  }`, fmt.Sprintf(`  use "http" {
    url = %q
    response_rules {
      rule {
        type       = "invalid"
        http_codes = [418]
      }
    }
  }`, server.URL), 1)
	p, log := startIn(t, dir, hcl)
	err := p.result(t)
	if err == nil || !strings.Contains(err.Error(), "the failure target refused 1 failed messages; they are kept: see weir queue show failures/default --dead") {
		t.Errorf("Run: %v", err)
	}
	if !strings.Contains(log.String(), "418") {
		t.Error("the log does not say why it was refused")
	}
	if st := left(t, dir, "failures/default"); st.Open() != 0 || st.Dead != 1 {
		t.Errorf("in the queue: %+v", st)
	}
}

// fullStore is a store that takes no new jobs while it is full.
type fullStore struct {
	queue.Store
	full    *atomic.Bool
	refused *atomic.Int64
}

func (s fullStore) Update(ctx context.Context, fn func(queue.Tx) error) error {
	return s.Store.Update(ctx, func(tx queue.Tx) error { return fn(fullTx{tx, s}) })
}

type fullTx struct {
	queue.Tx
	s fullStore
}

func (t fullTx) Append(jobs ...queue.Job) error {
	if t.s.full.Load() {
		t.s.refused.Add(1)
		return fault.Throttle(fmt.Errorf("append: %w", queue.ErrFull), 10*time.Millisecond)
	}
	return t.Tx.Append(jobs...)
}

type fullConfig struct {
	Path string `hcl:"path"`
}

type fullOpener struct {
	path string
	s    fullStore
}

func (o fullOpener) Identity() string { return o.path }
func (o fullOpener) Open(context.Context) (queue.Store, error) {
	s, err := embedded.Open(o.path, embedded.Options{})
	o.s.Store = s
	return o.s, err
}

// Renew implements connector.StoreOpener.
func (o fullOpener) Renew(context.Context, queue.Store) (func() ([]string, error), error) {
	return func() ([]string, error) { return nil, nil }, nil
}

// TestSpillPushesBack: while the store is full the pipeline waits, whatever its source, and
// afterwards everything arrives.
func TestSpillPushesBack(t *testing.T) {
	t.Parallel()
	for name, source := range map[string]string{"a source that waits": `use "file" {
    path = "DIR/in"`, "a queue": `use "queue" {
    name            = "in"
    stop_when_empty = true`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			var want []string
			for i := range 300 {
				want = append(want, fmt.Sprintf("*%d", i))
			}
			write(t, dir+"/in", strings.Join(want, "\n")+"\n")
			put(t, dir+"/store", "in", want...)
			write(t, dir+"/later/other", "")
			full := fullStore{full: new(atomic.Bool), refused: new(atomic.Int64)}
			full.full.Store(true)
			log := &buffer{}
			defer func() {
				if t.Failed() {
					t.Logf("log:\n%s", log)
				}
			}()
			b := &app.Builder{Set: all.Connectors(), Log: slog.New(slog.NewTextHandler(log, nil)), Version: "1.2.3"}
			b.Set.Stores = []connector.Entry[connector.StoreOpener]{connector.Of(connector.Spec[fullConfig, connector.StoreOpener]{
				Name: "embedded", Default: func() fullConfig { return fullConfig{} },
				New: func(_ context.Context, _ connector.Deps, c fullConfig) (connector.StoreOpener, error) {
					return fullOpener{c.Path, full}, nil
				},
			})}
			p := &process{App: &app.App{Log: b.Log, Meter: &meter.Registry{}, Builder: b}, ended: make(chan error, 1)}
			hcl := "queue \"in\" {}\n" + strings.Replace(spilling, "use \"file\" {\n    path = \"DIR/in\"", source, 1)
			made := built(t, b, strings.ReplaceAll(hcl, "DIR", dir))
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			go func() { p.ended <- p.Run(ctx, made) }()
			await(t, "writes that were refused", func() bool { return full.refused.Load() > 2 })
			select {
			case err := <-p.ended:
				t.Fatalf("Run ended: %v", err)
			default:
			}
			if err := p.Ready(); err != nil {
				t.Error(err)
			}
			full.full.Store(false)
			if err := p.result(t); err != nil {
				t.Fatal(err)
			}
			once(t, dir+"/later/failed", want...)
		})
	}
}

// TestSpillOfValues: each value of an isolated queue has a pipeline of its own, and they
// share the queue of failures.
func TestSpillOfValues(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put(t, dir+"/store", "in", "*a", "*b", "*c")
	hcl := `queue "in" {}` + "\n" + strings.Replace(spilling, `use "file" {
    path = "DIR/in"`, `use "queue" {
    name            = "in"
    isolation       = "destination"
    max_isolated    = 2
    stop_when_empty = true`, 1)
	write(t, dir+"/later/other", "")
	p, _ := startIn(t, dir, hcl)
	if err := p.result(t); err != nil {
		t.Fatal(err)
	}
	once(t, dir+"/later/failed", "*a", "*b", "*c")
}

// TestSpillAndReload: a reload goes on with what waits; one that takes spill out delivers
// what it can, and tells of what it cannot.
func TestSpillAndReload(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	hcl := `queue "in" {}` + "\n" + strings.Replace(spilling, `use "file" {
    path = "DIR/in"`, `use "queue" {
    name = "in"`, 1)
	p, log := startIn(t, dir, hcl)
	await(t, "the pipelines to run", func() bool { return p.Ready() == nil })
	s, _, queues := p.Store()
	if len(queues) != 2 || queues[0].Name != "failures/default" {
		t.Errorf("queues: %v", queues)
	}
	send := func(payload string) {
		t.Helper()
		if err := s.Update(t.Context(), func(tx queue.Tx) error {
			return tx.Append(queue.Job{Queue: "in", Msg: event.New([]byte(payload))})
		}); err != nil {
			t.Fatal(err)
		}
	}
	open := func() int64 {
		st, err := s.Stats(t.Context(), queue.Filter{Queue: "failures/default"})
		if err != nil {
			t.Fatal(err)
		}
		return st.Open()
	}
	reload := func(hcl string) {
		t.Helper()
		if err := p.Reload(t.Context(), built(t, p.Builder, strings.ReplaceAll(hcl, "DIR", dir))); err != nil {
			t.Fatal(err)
		}
	}
	send("*before")
	await(t, "the failure to wait", func() bool { return open() == 1 })
	reload(hcl)
	write(t, dir+"/later/other", "")
	await(t, "the failure to be delivered", func() bool { return open() == 0 })
	if err := os.Rename(dir+"/later", dir+"/away"); err != nil {
		t.Fatal(err)
	}
	send("*after")
	await(t, "the failure to wait", func() bool { return open() == 1 })
	reload(strings.NewReplacer("spill = true", "", "/later/", "/").Replace(hcl))
	if !strings.Contains(log.String(), "nothing takes them to the failure target: set spill = true") {
		t.Error("the log does not tell of what is stranded")
	}
	if err := os.Rename(dir+"/away", dir+"/later"); err != nil {
		t.Fatal(err)
	}
	await(t, "the last failure to be delivered", func() bool { return open() == 0 })
	p.ends(t)
	once(t, dir+"/later/failed", "*before", "*after")
}
