package report_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/report"
)

const webhookBlock = `monitoring {
  webhook {
    endpoint                   = "https://user:pass@example.com/hook?key=secret"
    tags                       = { pipeline = "production" }
    heartbeat_interval_seconds = 300
  }
}
`

// calls are what the webhook got, shortened to time and kind, and the message of alerts.
func calls(t *testing.T, r *rig) []string {
	t.Helper()
	var out []string
	for _, c := range r.http.taken() {
		body := compact(t, c.body)
		kind := "heartbeat"
		if _, message, ok := strings.Cut(body, `"message":`); ok {
			kind = "alert " + strings.TrimSuffix(message, "}}")
		}
		out = append(out, fmt.Sprintf("%s %s", c.at, kind))
	}
	return out
}

func setup(p *meter.Pipeline, s *meter.Sink, text string) {
	p.Watch.Setup(p.Name, s, fault.New(fault.Setup, errors.New(text)))
}

func TestWebhookBodies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, webhookBlock, "default", "orders")
		d, o := r.pipelines[0], r.pipelines[1]
		pass(time.Second)
		setup(d, &d.Target, "response status: '401 Unauthorized' with error details: 'Setup error'")
		pass(time.Second)
		o.Watch.Died(o.Name, errors.New(`write to the target: dial https://me:pw@db.example/x?token=1: refused`))
		pass(time.Second)
		var out strings.Builder
		for _, c := range r.http.taken() {
			fmt.Fprintf(&out, "%s %s %s\n%s\n", c.at, c.url, c.header.Get("Content-Type"), c.body)
		}
		golden(t, "webhook.txt", out.String())
	})
}

// TestWebhookRhythm: heartbeats while all is well; an alert at once, then one each interval
// with the latest error, until every target that asked for somebody was written to.
func TestWebhookRhythm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, webhookBlock, "default")
		p := r.pipelines[0]
		pass(400 * time.Second) // 400
		setup(p, &p.Target, "one")
		pass(50 * time.Second) // 450
		setup(p, &p.Target, "two")
		setup(p, &p.Failure, "three")
		pass(250 * time.Second) // 700
		p.Watch.Healthy(p.Name, &p.Failure)
		pass(300 * time.Second) // 1000
		p.Watch.Healthy(p.Name, &p.Target)
		pass(100 * time.Second) // 1100
		setup(p, &p.Target, "flapping")
		p.Watch.Healthy(p.Name, &p.Target)
		setup(p, &p.Target, "again")
		pass(200 * time.Second) // 1300
		p.Watch.Healthy(p.Name, &p.Target)
		p.Watch.Healthy(p.Name, &p.Target)
		pass(300 * time.Second) // 1600
		want := []string{
			"0s heartbeat", "5m0s heartbeat",
			`6m40s alert "one"`, `11m40s alert "three"`, `16m40s alert "two"`,
			`21m40s alert "again"`, "26m40s heartbeat",
		}
		if diff := cmp.Diff(want, calls(t, r)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// TestWebhookReload: what a replaced pipeline asked for is nobody's business any more.
func TestWebhookReload(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, webhookBlock, "default")
		p := r.pipelines[0]
		pass(time.Second)
		setup(p, &p.Target, "wrong password")
		next := meter.NewPipeline("default")
		r.Attach(next)
		pass(time.Second)
		r.replace(next)
		pass(10 * time.Minute)
		want := []string{"0s heartbeat", `1s alert "wrong password"`, "5m1s heartbeat", "10m1s heartbeat"}
		if diff := cmp.Diff(want, calls(t, r)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// TestWebhookEnd: an error that ends the process is told before it ends, once.
func TestWebhookEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, webhookBlock, "default")
		r.Failed(errors.New("open target: no such topic"))
		r.stop()
		want := []string{"0s heartbeat", `0s alert "open target: no such topic"`}
		if diff := cmp.Diff(want, calls(t, r)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		r := start(t, webhookBlock, "default")
		p := r.pipelines[0]
		p.Watch.Died(p.Name, errors.New("gave up"))
		r.Failed(errors.New(`pipeline "default": gave up`))
		r.stop()
		want := []string{"0s heartbeat", `0s alert "stopped: gave up"`}
		if diff := cmp.Diff(want, calls(t, r)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// TestWebhookTries: six tries 100 ms apart, anything but 2xx is tried again; a redirect is
// not followed.
func TestWebhookTries(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		answer  func(n int, r *http.Request) (*http.Response, error)
		tries   int
		dropped int64
		last    time.Duration
	}{
		{"refused", func(int, *http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }, 6, 1, 500 * time.Millisecond},
		{"302", func(int, *http.Request) (*http.Response, error) {
			res := status(302)
			res.Header.Set("Location", "https://elsewhere.example/")
			return res, nil
		}, 6, 1, 500 * time.Millisecond},
		{"third time lucky", func(n int, _ *http.Request) (*http.Response, error) {
			if n < 2 {
				return status(503), nil
			}
			return status(204), nil
		}, 3, 0, 200 * time.Millisecond},
		{"no answer", hang, 6, 1, 5500 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := start(t, webhookBlock)
				pass(10 * time.Second)
				r.http.taken() // of the first heartbeat, which was answered
				r.http.answers(c.answer)
				pass(290 * time.Second)
				pass(10 * time.Second)
				got := r.http.taken()
				if len(got) != c.tries || r.Dropped().Webhook.Load() != c.dropped {
					t.Fatalf("%d tries, %d dropped", len(got), r.Dropped().Webhook.Load())
				}
				if d := got[len(got)-1].at - got[0].at; d != c.last {
					t.Errorf("the last try was %s after the first, want %s", d, c.last)
				}
				if log := r.log.String(); strings.Contains(log, "secret") || strings.Contains(log, "pass") || c.dropped > 0 != strings.Contains(log, "level=WARN") {
					t.Errorf("log:\n%s", log)
				}
			})
		})
	}
}

// TestWebhookNeverBlocks: with an endpoint that hangs, alerts cost nothing, and the process
// ends in time.
func TestWebhookNeverBlocks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, webhookBlock, "default")
		r.http.answers(hang)
		p := r.pipelines[0]
		began := time.Now()
		for i := range 1000 {
			setup(p, &p.Target, fmt.Sprint(i))
			p.Watch.Died(p.Name, errors.New("x"))
		}
		if d := time.Since(began); d != 0 {
			t.Errorf("alerts took %s", d)
		}
		pass(time.Second)
		began = time.Now()
		r.stop()
		if d := time.Since(began); d > report.Linger {
			t.Errorf("the process waited for %s", d)
		}
		if n := r.Dropped().Webhook.Load(); n < 990 {
			t.Errorf("%d dropped", n)
		}
	})
}
