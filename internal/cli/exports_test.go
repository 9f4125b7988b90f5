//go:build unix

package cli_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/weirdata/weir/internal/addresstest"
	"github.com/weirdata/weir/internal/otlp/otlptest"
)

// receivers are one of each that are told how a process does.
type receivers struct {
	spans, metrics *otlptest.Receiver
	statsd         net.PacketConn
	http           *httptest.Server

	mu      sync.Mutex
	counted int64    // by statsd
	success int64    // by the metadata reporter
	beats   int      // of the webhook
	errors  []string // of Sentry
}

func newReceivers(t *testing.T) *receivers {
	t.Helper()
	x := &receivers{spans: otlptest.Listen(t), metrics: otlptest.Listen(t)}
	x.http = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body)
		x.mu.Lock()
		defer x.mu.Unlock()
		switch q.URL.Path {
		case "/hook":
			x.beats++
		case "/meta":
			var b struct {
				Data struct {
					Success int64 `json:"successCount"`
				} `json:"data"`
			}
			_ = json.Unmarshal(body, &b)
			x.success += b.Data.Success
		default:
			x.errors = append(x.errors, string(body))
		}
	}))
	t.Cleanup(x.http.Close)
	var err error
	if x.statsd, err = (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.statsd.Close() })
	sent := regexp.MustCompile(`target_success:(\d+)\|c`)
	go func() {
		packet := make([]byte, 64<<10)
		for {
			n, _, err := x.statsd.ReadFrom(packet)
			if err != nil {
				return
			}
			x.mu.Lock()
			for _, m := range sent.FindAllStringSubmatch(string(packet[:n]), -1) {
				one, _ := strconv.ParseInt(m[1], 10, 64)
				x.counted += one
			}
			x.mu.Unlock()
		}
	}()
	return x
}

func (x *receivers) config(at, dir string) string {
	return fmt.Sprintf(`
source {
  use "http" {
    url = %q
  }
}
target {
  use "file" {
    path = "%s/out"
  }
}
stats_receiver {
  buffer_sec = 3600
  use "statsd" {
    address = %q
  }
}
monitoring {
  webhook {
    endpoint = "%[4]s/hook"
  }
  metadata_reporter {
    endpoint = "%[4]s/meta"
  }
}
sentry {
  dsn = "%[5]s/1"
}
metrics {
  otlp {
    endpoint     = %[6]q
    interval_sec = 3600
  }
}
tracing {
  endpoint     = %[7]q
  sample_ratio = 1
}
`, at, dir, x.statsd.LocalAddr(), x.http.URL, strings.Replace(x.http.URL, "http://", "http://key@", 1), x.metrics.URL, x.spans.URL)
}

// TestReloadOfWhoIsTold: a reload has others told how the process does. Those of before get what
// happened until then at once, whatever their interval, and nothing is told twice or to nobody; a
// config that is refused changes nothing.
func TestReloadOfWhoIsTold(t *testing.T) {
	t.Parallel()
	at := addresstest.Free(t)
	first, second := newReceivers(t), newReceivers(t)
	w := weir(t, files(t, "p.hcl", ""), "run", "p.hcl")
	config := filepath.Join(w.Dir, "p.hcl")
	write(t, config, first.config(at, "."))
	p := launch(t, w)
	listening(t, at)
	send := func(n int) {
		t.Helper()
		for i := range n {
			if code := post(t, http.DefaultClient, at, fmt.Sprintf("event %d", i)); code != http.StatusAccepted {
				t.Fatalf("event %d: %d", i, code)
			}
		}
	}
	told := func(what string, x *receivers, n int) {
		t.Helper()
		eventually(t, what, func() bool {
			points, _ := x.metrics.Points()
			x.mu.Lock()
			defer x.mu.Unlock()
			return x.counted == int64(n) && x.success == int64(n) && len(x.spans.Named("process default")) == n && points[`weir_read_messages_total{pipeline="default"}`] == float64(n)
		})
	}
	send(5)
	write(t, config, second.config(at, "missing"))
	p.reloads(1) // it cannot start, which is an error that Sentry is told of
	eventually(t, "the first to hear that a config could not start", func() bool {
		first.mu.Lock()
		defer first.mu.Unlock()
		return len(first.errors) > 0 && strings.Contains(first.errors[len(first.errors)-1], "the old one runs on")
	})
	send(2)
	write(t, config, second.config(at, "."))
	p.reloads(2)
	told("the first, of all until the reload", first, 7)
	first.mu.Lock()
	before := len(first.errors)
	first.mu.Unlock()
	send(4)
	write(t, config, "nonsense {}\n")
	p.reloads(3)
	eventually(t, "the second to hear that a config was refused", func() bool {
		second.mu.Lock()
		defer second.mu.Unlock()
		return len(second.errors) > 0 && second.beats > 0
	})
	p.stops(0)
	told("the second, of all since", second, 4)
	first.mu.Lock()
	defer first.mu.Unlock()
	if first.counted != 7 || first.success != 7 || len(first.errors) != before || first.beats != 1 {
		t.Errorf("the first was told of %d, %d, %d errors and %d beats after it was replaced", first.counted, first.success, len(first.errors)-before, first.beats)
	}
	if strings.Contains(p.err.String(), "changes at the next start only") {
		t.Errorf("the log says that something waits for the next start:\n%s", p.err)
	}
}
