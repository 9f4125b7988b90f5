package report_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/weirdata/weir/internal/app"
	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/report"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// golden compares got with a file that others' dashboards and receivers are built on.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := "testdata/" + name
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("run go test ./internal/report -update if this is meant (-want +got):\n%s", diff)
	}
}

// process is the settings of a process, as a config has them.
func process(t *testing.T, hcl string) report.Settings {
	t.Helper()
	c, ds := config.Parse("test.hcl", []byte(hcl), func(string) (string, bool) { return "", false })
	if err := ds.Err(); err != nil {
		t.Fatal(err)
	}
	return app.ReportSettings(c.Process)
}

// call is a request that an endpoint got.
type call struct {
	at     time.Duration // since the test began
	url    string
	header http.Header
	body   string
}

// endpoint is the other side of HTTP: it notes requests and answers with what answer says,
// 200 when that is nil.
type endpoint struct {
	begin time.Time

	mu     sync.Mutex
	answer func(n int, r *http.Request) (*http.Response, error)
	calls  []call
}

func (e *endpoint) answers(f func(n int, r *http.Request) (*http.Response, error)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer = f
}

func (e *endpoint) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	n := len(e.calls)
	e.calls = append(e.calls, call{time.Since(e.begin), r.URL.String(), r.Header, string(body)})
	answer := e.answer
	e.mu.Unlock()
	if answer != nil {
		return answer(n, r)
	}
	return status(200), nil
}

// hang answers nothing.
func hang(_ int, r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func (e *endpoint) taken() []call {
	e.mu.Lock()
	defer e.mu.Unlock()
	calls := e.calls
	e.calls = nil
	return calls
}

func status(code int) *http.Response {
	return &http.Response{StatusCode: code, Status: fmt.Sprintf("%d %s", code, http.StatusText(code)),
		Header: http.Header{}, Body: io.NopCloser(strings.NewReader(""))}
}

// datagrams is the other side of UDP.
type datagrams struct {
	net.Conn
	err error

	mu   sync.Mutex
	sent []string
	at   []string // addresses dialled
}

func (d *datagrams) dial(_ context.Context, network, address string) (net.Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at = append(d.at, network+" "+address)
	return d, nil
}

func (d *datagrams) fails(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
}

func (d *datagrams) Close() error { return nil }

func (d *datagrams) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return 0, d.err
	}
	d.sent = append(d.sent, string(b))
	return len(b), nil
}

func (d *datagrams) taken() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	sent := d.sent
	d.sent = nil
	return sent
}

// text is a log that may be read while it is written.
type text struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *text) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *text) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// taken is what was written since the last time it was called.
func (l *text) taken() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.b.String()
	l.b.Reset()
	return s
}

// rig is a reporter and everything around it.
type rig struct {
	*report.Reporter
	http *endpoint
	udp  *datagrams
	log  *text

	mu        sync.Mutex
	pipelines []*meter.Pipeline
	stop      func()
}

// start runs a reporter. It must be called in a bubble, and the bubble must end it.
func start(t *testing.T, hcl string, pipelines ...string) *rig {
	t.Helper()
	r := &rig{http: &endpoint{begin: time.Now()}, udp: &datagrams{}, log: &text{}}
	r.Reporter = report.New(report.Options{AppName: "weir", Version: "1.2.3", Settings: process(t, hcl),
		Log: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: withoutTime})), Host: "host-a", PID: 7, Transport: r.http, Dial: r.udp.dial})
	for _, name := range pipelines {
		r.add(name)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.Run(ctx, r.current)
	}()
	r.stop = func() {
		cancel()
		<-ended
	}
	t.Cleanup(r.stop)
	synctest.Wait()
	return r
}

func withoutTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

func (r *rig) add(name string) *meter.Pipeline {
	p := meter.NewPipeline(name)
	r.Attach(p)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pipelines = append(r.pipelines, p)
	return p
}

func (r *rig) replace(ps ...*meter.Pipeline) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pipelines = ps
}

func (r *rig) current() []*meter.Pipeline {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*meter.Pipeline(nil), r.pipelines...)
}

// pass lets time pass and the reporter settle.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// work has a pipeline do some of everything, k times as much.
func work(p *meter.Pipeline, k int64) {
	p.Read.Add(20 * k)
	p.Target.Writes.Add(3 * k)
	p.Target.Written.Add(10 * k)
	p.Target.Failures[fault.Transient].Add(2 * k)
	p.Target.Failures[fault.Setup].Add(1 * k)
	p.Target.Failures[fault.Invalid].Add(4 * k) // they are no failures, they are invalid
	p.Filter.Written.Add(5 * k)
	p.Invalid.Add(3 * k)
	p.Oversized.Add(1 * k)
	p.Failure.Writes.Add(2 * k)
	p.Failure.Written.Add(4 * k)
	p.Failure.Failures[fault.Transient].Add(1 * k)
	p.InFlight.Store(6)
	p.InFlightBytes.Store(600)
	var s meter.Spans
	for l, d := range map[meter.Latency][2]time.Duration{
		meter.Processing: {1500 * time.Microsecond, 20 * time.Millisecond}, meter.Age: {time.Second, 2 * time.Second},
		meter.Transforming: {10 * time.Microsecond, 3 * time.Millisecond}, meter.Filtering: {4 * time.Millisecond, 5 * time.Millisecond},
		meter.Requesting: {6 * time.Millisecond, 7 * time.Millisecond}, meter.EndToEnd: {time.Minute, time.Hour},
	} {
		s[l].Add(d[1])
		s[l].Add(d[0])
	}
	p.Watch.Observe(&s, 0)
	w := p.Watch
	w.Failed(fault.Describe(fault.Transient, errors.New("secret text"), fault.Detail{Type: "api", Code: "503 Service Unavailable", Safe: "Transient error"}), 2*k)
	w.Failed(fault.New(fault.Setup, errors.New("secret text")), 1*k)
	for range 3 * k {
		w.Invalid(fault.Describe(fault.Invalid, errors.New("secret text"), fault.Detail{Type: "api", Code: "400 Bad Request", Safe: "Invalid error"}))
	}
	for range k {
		w.Oversized()
	}
}

const statsdBlock = `stats_receiver {
  use "statsd" {
    address = "127.0.0.1:8125"
    tags    = "{\"env\":\"prod\",\"a|b,c:d\":\"e#f\\ng\"}"
  }
}
`

func TestStatsd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, statsdBlock+"metrics {\n enable_e2e_latency = true\n enable_kinsumer_memory_metrics = true\n}", "default")
		p := r.pipelines[0]
		if p.Watch.Collected == nil {
			t.Error("the end-to-end latency is not measured")
		}
		var out strings.Builder
		dump := func(title string) {
			for i, d := range r.udp.taken() {
				fmt.Fprintf(&out, "== %s, datagram %d\n%s\n", title, i+1, d)
				if len(d) > 1400 {
					t.Errorf("%s: a datagram has %d bytes", title, len(d))
				}
			}
		}
		work(p, 1)
		pass(59 * time.Second)
		dump("too early")
		pass(time.Second)
		dump("first window")
		pass(time.Minute)
		dump("a window without anything")
		work(p, 2)
		r.stop()
		dump("the end of the process")
		golden(t, "statsd.txt", out.String())
		if diff := cmp.Diff([]string{"udp 127.0.0.1:8125", "udp 127.0.0.1:8125"}, r.udp.at); diff != "" {
			t.Errorf("the address is looked up once a minute (-want +got):\n%s", diff)
		}
	})
}

// TestStatsdNamed: pipelines with names have a tag more, the one of Snowbridge's blocks has
// not; without e2e and memory metrics there are none of these.
func TestStatsdNamed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, `stats_receiver {
			use "statsd" {
				address  = "127.0.0.1:8125"
				prefix   = ""
				host_tag = "stable"
			}
			buffer_sec = 5
		}`, "orders", "default")
		work(r.pipelines[0], 1)
		pass(5 * time.Second)
		golden(t, "statsd_named.txt", strings.Join(r.udp.taken(), "\n")+"\n")
	})
}

// TestStatsdUnreachable: what cannot be sent is counted, said once, and over when it is.
func TestStatsdUnreachable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, statsdBlock, "default")
		r.udp.fails(errors.New("no buffer space"))
		pass(10 * time.Minute)
		if n := r.Dropped().Statsd.Load(); n < 10 {
			t.Errorf("%d datagrams are counted as dropped", n)
		}
		if n := strings.Count(r.log.String(), "level=WARN"); n != 1 {
			t.Errorf("%d warnings:\n%s", n, r.log)
		}
		pass(time.Hour)
		if n := strings.Count(r.log.String(), "level=WARN"); n != 2 {
			t.Errorf("%d warnings after an hour", n)
		}
		r.udp.fails(nil)
		pass(time.Minute)
		if len(r.udp.taken()) == 0 || !strings.Contains(r.log.String(), "over: metrics are not sent to statsd") {
			t.Errorf("nothing is sent again:\n%s", r.log)
		}
	})
}

// TestStatsdServer sends to a real socket.
func TestStatsdServer(t *testing.T) {
	t.Parallel()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	r := report.New(report.Options{AppName: "weir", Version: "1", Settings: process(t, fmt.Sprintf(
		"stats_receiver {\n use \"statsd\" {\n address = %q\n }\n}", server.LocalAddr()))})
	p := meter.NewPipeline("default")
	r.Attach(p)
	p.Target.Written.Add(12)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r.Run(ctx, func() []*meter.Pipeline { return []*meter.Pipeline{p} })
	if err := server.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2000)
	n, _, err := server.ReadFrom(b)
	if err != nil {
		t.Fatal(err)
	}
	host, _ := os.Hostname()
	want := fmt.Sprintf("snowplow.snowbridge.target_success:12|c|#host:%s,process_id:%d\n", host, os.Getpid())
	if got := string(b[:n]); !strings.HasPrefix(got, want) {
		t.Errorf("got %q, want %q first", got, want)
	}
}

// TestObserver: a summary for each window in which something changed, Snowbridge's line for each
// window and pipeline at debug level, and a warning for messages without collector timestamp.
func TestObserver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, "stats_receiver {\n buffer_sec = 15\n}", "b", "default")
		work(r.pipelines[1], 1)
		pass(15 * time.Second)
		work(r.pipelines[0], 3)
		r.pipelines[0].Watch.Observe(&meter.Spans{}, 42)
		pass(15 * time.Second)
		golden(t, "observer.txt", r.log.String())
		if r.http.taken() != nil || r.udp.taken() != nil {
			t.Error("something was sent, and no receiver is configured")
		}
	})
}

// TestReload: what a replaced pipeline still does is counted with its successor, until it
// is idle; then it is forgotten.
func TestReload(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, statsdBlock, "default")
		success := func() string {
			all := strings.Join(r.udp.taken(), "\n")
			_, after, found := strings.Cut(all, "target_success:")
			if !found {
				return "none"
			}
			n, _, _ := strings.Cut(after, "|")
			return fmt.Sprintf("%s in %d", n, strings.Count(all, "target_success"))
		}
		old := r.pipelines[0]
		old.Target.Written.Add(1)
		old.InFlight.Store(5)
		next := meter.NewPipeline("default")
		r.Attach(next)
		r.replace(next)
		next.Target.Written.Add(10)
		pass(time.Minute)
		if got := success(); got != "11 in 1" {
			t.Errorf("first window: %s", got)
		}
		pass(2 * time.Minute)
		old.Target.Written.Add(100)
		old.InFlight.Store(0)
		pass(time.Minute)
		if got := success(); got != "100 in 1" {
			t.Errorf("the replaced pipeline drained: %s", got)
		}
		pass(3 * time.Minute)
		old.Target.Written.Add(1000) // cannot happen: it shows that the pipeline is forgotten
		pass(time.Minute)
		if got := success(); got != "none" {
			t.Errorf("the replaced pipeline is still there: %s", got)
		}
	})
}

func compact(t *testing.T, body string) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(body)); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return b.String()
}
