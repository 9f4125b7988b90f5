//go:build unix

package cli_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/addresstest"
)

// rowSink is an HTTP failure target that notes what the rows it gets are about.
type rowSink struct {
	mu    sync.Mutex
	got   map[string]int
	pause time.Duration
}

var rowPayload = regexp.MustCompile(`"payload":"([^"]*)"`)

func (s *rowSink) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	<-time.After(s.pause)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range rowPayload.FindAllStringSubmatch(string(body), -1) {
		s.got[m[1]]++
	}
}

func (s *rowSink) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.got)
}

func (s *rowSink) has(payload string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got[payload] > 0
}

// serve starts the failure target at an address.
func (s *rowSink) serve(t *testing.T, at string) {
	t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: s}}
	server.Start()
	t.Cleanup(server.Close)
}

// TestSpillSurvivesKill: the failure target is down, the pipeline goes on, the process is
// killed, started again, killed while the failures are being delivered, and started again:
// every failure arrives.
func TestSpillSurvivesKill(t *testing.T) {
	t.Parallel()
	front, failed := addresstest.Free(t), addresstest.Free(t)
	dir := files(t, "p.hcl", fmt.Sprintf(`
source {
  use "http" {
    url = %q
  }
}
transform {
  use "base64Decode" {}
}
target {
  use "file" {
    path = "out"
  }
}
failure_target {
  spill = true
  use "http" {
    url                       = "http://%s/"
    request_timeout_in_millis = 600000
    batching {
      max_batch_messages     = 10
      max_concurrent_batches = 1
    }
  }
}
retry {
  transient {
    delay_ms     = 20
    max_delay_ms = 200
  }
}
`, front, failed))
	var want []string
	send := func(n int) {
		t.Helper()
		for range n {
			bad := fmt.Sprintf("*%d", len(want))
			want = append(want, bad)
			r, err := http.Post("http://"+front, "text/plain", strings.NewReader(bad+"\nb2s=\n"))
			if err != nil {
				t.Fatal(err)
			}
			_ = r.Body.Close()
			if r.StatusCode != http.StatusAccepted {
				t.Fatal(r.Status)
			}
		}
	}
	// What was accepted is settled once the good line of the same request is there.
	good := func() {
		t.Helper()
		eventually(t, "the good lines", func() bool { return strings.Count(read(t, filepath.Join(dir, "out")), "ok\n") >= len(want) })
	}
	start := func() *process {
		t.Helper()
		p := launch(t, weir(t, dir, "run", "p.hcl"))
		listening(t, front)
		return p
	}
	queued := func(n int) {
		t.Helper()
		eventually(t, "the failures to wait in the store", func() bool {
			out := run(t, dir, "", "queue", "ls", "--config", "p.hcl").out.String()
			return regexp.MustCompile(fmt.Sprintf(`(?m)^failures/default +%d `, n)).MatchString(out)
		})
	}
	p := start()
	send(60)
	good()
	p.until(p.err, "connection refused")
	p.signal(syscall.SIGKILL)
	p.wait()
	queued(60)

	p = start()
	send(40)
	good()
	sink := &rowSink{got: map[string]int{}, pause: 50 * time.Millisecond}
	sink.serve(t, failed)
	eventually(t, "some failures", func() bool { return sink.count() > 0 })
	p.signal(syscall.SIGKILL)
	p.wait()

	p = start()
	eventually(t, "all failures", func() bool { return sink.count() == len(want) })
	p.stops(0)
	for _, w := range want {
		if !sink.has(w) {
			t.Errorf("%s did not arrive", w)
		}
	}
	queued(0)
}

// TestReplayRoundTrip: a script has a bug, the fixed config replays what failed, is stopped
// in the middle, goes on, and every event arrives once, byte for byte.
func TestReplayRoundTrip(t *testing.T) {
	t.Parallel()
	for name, target := range map[string]string{
		"file":  "use \"file\" {\n    path = \"failed\"\n  }",
		"queue": "use \"queue\" {\n    name = \"dlq\"\n  }",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			got := map[string]int{}
			const early = 20
			arrived := func() int { mu.Lock(); defer mu.Unlock(); return len(got) }
			// Nothing more arrives before the process is told to stop, and slowly then: it is
			// stopped in the middle, however late it learns of it.
			told, stopped := make(chan struct{}), make(chan struct{})
			server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if arrived() >= early {
					<-told
					select {
					case <-stopped:
					case <-time.After(20 * time.Millisecond):
					}
				}
				mu.Lock()
				defer mu.Unlock()
				got[string(body)]++
			}))
			tell := sync.OnceFunc(func() { close(told) })
			defer func() { tell(); server.Close() }()
			config := func(script string) string {
				return fmt.Sprintf(`
queue "dlq" {}
transform {
  use "js" {
    script = %q
  }
  use "base64Decode" {}
}
target {
  use "http" {
    url                       = %q
    body_format               = "raw"
    request_timeout_in_millis = 600000
    batching {
      max_batch_messages     = 1
      max_concurrent_batches = 2
    }
  }
}
failure_target {
  %s
}
failure_parser {
  format = "event_forwarding"
}
in_flight {
  messages = 100
}
`, script, server.URL, target)
			}
			dir := files(t, "bug.hcl", config("function main(x) { throw new Error('bug') }"), "fixed.hcl", config("function main(x) { x.Data = x.Data.replace('!', ''); return x }"))
			var in strings.Builder
			const events = 1500
			for i := range events {
				fmt.Fprintf(&in, "!%s\n", encode(fmt.Sprintf("%d \xff\x00<é>", i)))
			}
			run(t, dir, in.String(), "run", "bug.hcl").exits(0)
			if n := arrived(); n != 0 {
				t.Fatalf("%d events arrived in spite of the bug", n)
			}
			p := launch(t, weir(t, dir, "failures", "replay", "fixed.hcl"))
			eventually(t, "some events", func() bool { return arrived() >= early })
			p.signal(syscall.SIGINT)
			tell()
			p.exits(1)
			close(stopped)
			p.until(p.out, "stopped: the same command goes on")
			if n := arrived(); n == events {
				t.Fatal("it was not stopped in the middle")
			}
			p = run(t, dir, "", "failures", "replay", "fixed.hcl")
			p.exits(0)
			p.until(p.out, `failed events replayed through the pipeline "default" in`)
			for i := range events {
				if want := fmt.Sprintf("%d \xff\x00<é>", i); got[want] != 1 {
					t.Fatalf("%q arrived %d times", want, got[want])
				}
			}
			p = run(t, dir, "", "failures", "replay", "fixed.hcl")
			p.exits(0)
			if n := len(got); n != events {
				t.Errorf("%d events arrived, want %d", n, events)
			}
		})
	}
}

// encode is base64, which keeps any bytes on a line.
func encode(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
