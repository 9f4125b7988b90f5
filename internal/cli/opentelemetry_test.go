//go:build unix

package cli_test

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/addresstest"
	"github.com/weirdata/weir/internal/otlp/otlptest"
)

// traced is a config of two pipelines with a queue between them, whose target is a server
// that notes the trace context of each request and refuses some payloads.
type traced struct {
	*process
	receiver *otlptest.Receiver
	address  string

	mu       sync.Mutex
	contexts map[string]string // by body
	refused  string            // the first request whose body is this gets a 503
}

func launchTraced(t *testing.T, tracing string, env ...string) *traced {
	t.Helper()
	x := &traced{receiver: otlptest.Listen(t), address: addresstest.Free(t), contexts: map[string]string{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		x.mu.Lock()
		defer x.mu.Unlock()
		if x.refused != "" && string(body) == x.refused {
			x.refused = ""
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		x.contexts[string(body)] = r.Header.Get("Traceparent")
	}))
	t.Cleanup(server.Close)
	c := weir(t, files(t, "p.hcl", fmt.Sprintf(`
queue "events" {}
pipeline "collect" {
  source {
    use "http" {
      url = %q
    }
  }
  transform {
    use "js" {
      json_mode = true
      script    = <<-EOT
        function main(x) {
          if (x.Data.drop) return {FilterOut: true}
          if (x.Data.bad) throw new Error("secret payload " + x.Data.bad)
          x.Data.seen = true
          return x
        }
      EOT
    }
  }
  target {
    use "queue" {
      name = "events"
    }
  }
  failure_target {
    use "silent" {}
  }
}
pipeline "deliver" {
  source {
    use "queue" {
      name = "events"
    }
  }
  target {
    use "http" {
      url                       = %q
      request_timeout_in_millis = 600000
      batching {
        max_batch_messages = 1
      }
    }
  }
  retry {
    transient {
      delay_ms = 10
    }
  }
}
%s
`, x.address, server.URL, strings.ReplaceAll(tracing, "RECEIVER", x.receiver.URL))), "run", "p.hcl")
	c.Env = append(c.Env, strings.Split(strings.ReplaceAll(strings.Join(env, "\x00"), "RECEIVER", x.receiver.URL), "\x00")...)
	x.process = launch(t, c)
	listening(t, x.address)
	return x
}

// send posts a line with a trace context.
func (x *traced) send(context, line string) {
	x.t.Helper()
	r, err := http.NewRequest(http.MethodPost, "http://"+x.address, strings.NewReader(line))
	if err != nil {
		x.t.Fatal(err)
	}
	if context != "" {
		r.Header.Set("Traceparent", context)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		x.t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusAccepted {
		x.t.Fatalf("%s: %s", line, answer.Status)
	}
}

// delivered waits for n requests and returns the trace context of each body.
func (x *traced) delivered(n int) map[string]string {
	x.t.Helper()
	var got map[string]string
	eventually(x.t, "delivery", func() bool {
		x.mu.Lock()
		defer x.mu.Unlock()
		got = maps.Clone(x.contexts)
		return len(got) >= n
	})
	return got
}

const (
	callerTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
	caller      = "00-" + callerTrace + "-00f067aa0ba902b7-01"
)

// TestTraceAcrossAQueue follows one request through two pipelines and the queue between
// them: one trace, from the caller's span to the context that the target is called with.
func TestTraceAcrossAQueue(t *testing.T) {
	t.Parallel()
	x := launchTraced(t, `
tracing {
  endpoint = "RECEIVER"
  headers = {
    Authorization = "Bearer hunter2"
  }
  service_name = "shop"
  sample_ratio = 0
}`)
	const first = `[{"n":1,"seen":true}]`
	x.mu.Lock()
	x.refused = first
	x.mu.Unlock()
	x.send(caller, `{"n":1}`)
	x.send("", `{"n":2}`)
	x.send(caller[:53]+"00", `{"n":3}`)
	x.send(caller, `{"n":4,"drop":true}`)
	x.send(caller, `{"n":5,"bad":"x"}`)
	context := x.delivered(3)[first]
	x.stops(0)

	var got []string
	byID := map[string]otlptest.Span{}
	for _, s := range x.receiver.Spans() {
		byID[s.ID] = s
	}
	for _, s := range x.receiver.Spans() {
		path := s.Name
		for p, ok := byID[s.Parent]; ok; p, ok = byID[p.Parent] {
			path = p.Name + " / " + path
		}
		if s.Trace != callerTrace {
			path = "elsewhere: " + path
		}
		if _, ok := byID[s.Parent]; !ok && s.Parent != "00f067aa0ba902b7" {
			path = "orphan: " + path
		}
		got = append(got, strings.Join(strings.Fields(path+" "+s.Attributes["weir.outcome"]+" "+s.Attributes["error.type"]), " "))
	}
	want := []string{
		"process collect delivered", "process collect / transform js", "process collect / write queue",
		"process collect / process deliver retried transient", "process collect / process deliver / write http transient",
		"process collect / process deliver delivered", "process collect / process deliver / write http",
		"process collect filtered", "process collect / transform js", "process collect / write silent",
		"process collect invalid", "process collect / transform js invalid", "process collect / write silent",
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("spans (-want +got):\n%s", diff)
	}
	for _, s := range x.receiver.Named("write http") {
		if !s.Failed && context != "00-"+s.Ref()+"-01" {
			t.Errorf("the target was called with %q, the write is %s", context, s.Ref())
		}
		if s.Resource["service.name"] != "shop" {
			t.Errorf("resource %v", s.Resource)
		}
	}
	for body, c := range x.contexts {
		if !strings.Contains(body, `"n":1`) && c != "" {
			t.Errorf("%s was not sampled, and sent with %q", body, c)
		}
	}
	if a := x.receiver.Requests()[0].Header.Get("Authorization"); a != "Bearer hunter2" {
		t.Errorf("exported with the authorization %q", a)
	}
	if text := x.receiver.Text(); strings.Contains(text, "secret payload") || strings.Contains(text, "hunter2") {
		t.Errorf("a span shows what it must not:\n%s", text)
	}
}

// TestTraceByEnvironment: the standard variables say where to, once there is a tracing block,
// and a message without a context begins a trace.
func TestTraceByEnvironment(t *testing.T) {
	t.Parallel()
	x := launchTraced(t, "tracing {}", "OTEL_EXPORTER_OTLP_ENDPOINT=RECEIVER", "OTEL_SERVICE_NAME=mine", "OTEL_EXPORTER_OTLP_HEADERS=x-key=1")
	x.send("", `{"n":1}`)
	x.delivered(1)
	x.stops(0)
	collect, deliver := x.receiver.Named("process collect"), x.receiver.Named("process deliver")
	if len(collect) != 1 || len(deliver) != 1 || deliver[0].Parent != collect[0].ID || deliver[0].Trace != collect[0].Trace || collect[0].Parent != "" {
		t.Fatalf("spans:\n%s", x.receiver.Text())
	}
	if collect[0].Resource["service.name"] != "mine" || x.receiver.Requests()[0].Header.Get("X-Key") != "1" {
		t.Errorf("resource %v, headers %v", collect[0].Resource, x.receiver.Requests()[0].Header)
	}
}

// TestTraceOff: without a tracing block nothing is exported, whatever the environment says,
// and no request carries a context.
func TestTraceOff(t *testing.T) {
	t.Parallel()
	x := launchTraced(t, "", "OTEL_EXPORTER_OTLP_ENDPOINT=RECEIVER")
	x.send(caller, `{"n":1}`)
	got := x.delivered(1)
	x.stops(0)
	if c := got[`[{"n":1,"seen":true}]`]; c != "" || len(x.receiver.Requests()) > 0 {
		t.Errorf("sent with the context %q, and %d exports", c, len(x.receiver.Requests()))
	}
}

// TestTraceReceiverIsDown: messages are delivered all the same, the log says so once, and
// the end does not wait for long.
func TestTraceReceiverIsDown(t *testing.T) {
	t.Parallel()
	x := launchTraced(t, fmt.Sprintf("tracing {\n  endpoint = %q\n}", "http://"+addresstest.Free(t)))
	for n := range 20 {
		x.send("", fmt.Sprintf(`{"n":%d}`, n))
	}
	x.delivered(20)
	x.stops(0)
	if n := strings.Count(x.err.String(), "traces cannot be exported"); n != 1 {
		t.Errorf("the log says %d times that traces cannot be exported:\n%s", n, x.err)
	}
}

// TestTraceBadEnvironment: what the exporter would pass over in silence is refused by check
// and by run.
func TestTraceBadEnvironment(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"check", "run"} {
		c := weir(t, files(t, "p.hcl", "tracing {}\n"), command, "p.hcl")
		c.Env = append(c.Env, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc")
		c.Stdin = strings.NewReader("")
		p := launch(t, c)
		p.exits(1)
		if !strings.Contains(p.err.String(), `OTEL_EXPORTER_OTLP_PROTOCOL is "grpc"`) {
			t.Errorf("%s: %s", command, p.err)
		}
	}
}

// TestMetricsByOTLP: what the Prometheus endpoint would show is exported, without an admin
// server, and once more at the end.
func TestMetricsByOTLP(t *testing.T) {
	t.Parallel()
	receiver := otlptest.Listen(t)
	c := weir(t, files(t, "p.hcl", fmt.Sprintf(`
target {
  use "silent" {}
}
metrics {
  otlp {
    endpoint     = %q
    service_name = "shop"
  }
}
`, receiver.URL)), "run", "p.hcl")
	c.Stdin = strings.NewReader("one\ntwo\nthree\n")
	launch(t, c).exits(0)
	points, resource := receiver.Points()
	for name, want := range map[string]float64{
		`weir_read_messages_total{pipeline="default"}`:                  3,
		`weir_written_messages_total{pipeline="default",role="target"}`: 3,
		`weir_in_flight_messages{pipeline="default"}`:                   0,
		`weir_settle_seconds{pipeline="default"}`:                       1,
		`weir_write_seconds{pipeline="default",role="target"}`:          1,
		`weir_reports_dropped_total{receiver="tracing"}`:                0,
	} {
		if got, ok := points[name]; !ok || got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if resource["service.name"] != "shop" || len(receiver.Requests()) != 1 {
		t.Errorf("resource %v, %d exports", resource, len(receiver.Requests()))
	}
}
