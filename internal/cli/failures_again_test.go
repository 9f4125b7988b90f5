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
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/weirdata/weir/internal/addresstest"
	"github.com/weirdata/weir/internal/enginetest"
)

// TestReplayIsKilled: a replay is killed in the middle, several times. What its page says holds:
// the same command goes on, nothing is lost, and twice came at most what was in flight then.
func TestReplayIsKilled(t *testing.T) {
	t.Parallel()
	const events, inFlight, kills = 600, 40, 3
	for name, target := range map[string]string{
		"file":  "use \"file\" {\n    path = \"failed\"\n  }",
		"queue": "use \"queue\" {\n    name = \"dlq\"\n  }",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			got := map[string]int{}
			arrived := func() int { mu.Lock(); defer mu.Unlock(); return len(got) }
			// Nothing more arrives than a kill waits for, until it has come.
			var most atomic.Int64
			most.Store(100)
			open := make(chan struct{})
			server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if int64(arrived()) >= most.Load() {
					select {
					case <-r.Context().Done():
						return // the process is gone, and has not learnt of it
					case <-open:
					}
				}
				mu.Lock()
				defer mu.Unlock()
				got[string(body)]++
			}))
			defer server.Close()
			config := func(step string) string {
				return fmt.Sprintf(`
queue "dlq" {}
transform {
  use %q {}
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
  messages = %d
}
`, step, server.URL, target, inFlight)
			}
			dir := files(t, "bug.hcl", config("base64Decode"), "fixed.hcl", config("base64Encode"))
			var in strings.Builder
			for i := range events {
				fmt.Fprintf(&in, "*%d\n", i)
			}
			run(t, dir, in.String(), "run", "bug.hcl").exits(0)
			for range kills {
				p := launch(t, weir(t, dir, "failures", "replay", "fixed.hcl"))
				eventually(t, "some events", func() bool { return int64(arrived()) >= most.Load() })
				p.signal(syscall.SIGKILL)
				p.wait()
				most.Add(100)
			}
			close(open)
			p := run(t, dir, "", "failures", "replay", "fixed.hcl")
			p.exits(0)
			mu.Lock()
			twice := 0
			for i := range events {
				n := got[encode(fmt.Sprint("*", i))]
				if n == 0 {
					t.Errorf("event %d did not arrive", i)
				}
				twice += n - min(n, 1)
			}
			mu.Unlock()
			if twice > kills*inFlight {
				t.Errorf("%d events came again, at most %d were in flight", twice, kills*inFlight)
			}
			run(t, dir, "", "failures", "replay", "fixed.hcl").exits(0)
			after := 0
			mu.Lock()
			defer mu.Unlock()
			for _, n := range got {
				after += n
			}
			if after != events+twice {
				t.Errorf("%d events arrived, and %d after all was replayed", events+twice, after)
			}
		})
	}
}

// TestReplaysFindTheDestination: events that two destinations refused are listed by destination
// and come to the right one when they are sent again, in each format of failure payloads.
func TestReplaysFindTheDestination(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"snowplow", "event_forwarding"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			var refuse atomic.Bool
			refuse.Store(true)
			var mu sync.Mutex
			got := map[string][]string{} // paths of each event
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if refuse.Load() {
					http.Error(w, "no such thing", http.StatusBadRequest)
					return
				}
				var e struct{ MessageID string }
				_ = json.NewDecoder(r.Body).Decode(&e)
				mu.Lock()
				defer mu.Unlock()
				got[e.MessageID] = append(got[e.MessageID], r.URL.Path)
			}))
			defer server.Close()
			front, admin := addresstest.Free(t), addresstest.Free(t)
			destination := func(id string) map[string]any {
				return map[string]any{"id": id, "name": id, "enabled": true, "isProcessorEnabled": true,
					"config":                map[string]any{"webhookUrl": server.URL + "/" + id, "webhookMethod": "POST"},
					"destinationDefinition": map[string]any{"name": "WEBHOOK"}}
			}
			source := func(id, key string, to ...map[string]any) map[string]any {
				return map[string]any{"id": id, "name": id, "writeKey": key, "enabled": true, "workspaceId": "ws1",
					"sourceDefinition": map[string]any{"name": "HTTP"}, "destinations": to}
			}
			workspace, err := json.Marshal(map[string]any{"workspaceId": "ws1", "sources": []any{
				source("src-a", "KA", destination("hook-a")), source("src-b", "KB", destination("hook-b"))}})
			if err != nil {
				t.Fatal(err)
			}
			dir := files(t, "ws.json", string(workspace), "p.hcl", fmt.Sprintf(`
admin {
  address = %q
}
queue "events" {}
queue "deliveries" {}
pipeline "gateway" {
  source {
    use "gateway" {
      workspace_config = "ws.json"
      address          = %q
    }
  }
  target {
    use "queue" {
      name = "events"
    }
  }
  failure_target {
    use "file" {
      path = "failed-gateway"
    }
  }
}
pipeline "route" {
  source {
    use "queue" {
      name = "events"
    }
  }
  transform {
    use "fanout" {
      workspace_config = "ws.json"
    }
  }
  target {
    use "queue" {
      name = "deliveries"
    }
  }
  failure_target {
    use "file" {
      path = "failed-route"
    }
  }
}
pipeline "deliver" {
  source {
    use "queue" {
      name      = "deliveries"
      isolation = "destination"
      ordered   = true
    }
  }
  target {
    use "webhook" {
      workspace_config = "ws.json"
    }
  }
  failure_target {
    use "file" {
      path = "failed-deliver"
    }
  }
  failure_parser {
    format = %q
  }
}
`, admin, front, format))
			p := launch(t, weir(t, dir, "run", "p.hcl"))
			listening(t, front)
			const each = 5
			for i := range each {
				for _, key := range []string{"KA", "KB"} {
					r, err := http.NewRequest(http.MethodPost, "http://"+front+"/v1/track", strings.NewReader(fmt.Sprintf(`{"userId":"u%d","event":"e","messageId":"%s-%d"}`, i, key, i)))
					if err != nil {
						t.Fatal(err)
					}
					r.SetBasicAuth(key, "")
					answer, err := http.DefaultClient.Do(r)
					if err != nil {
						t.Fatal(err)
					}
					_ = answer.Body.Close()
					if answer.StatusCode != http.StatusOK {
						t.Fatalf("%s\n%s", answer.Status, p.err)
					}
				}
			}
			eventually(t, "the failures", func() bool {
				return strings.Count(read(t, filepath.Join(dir, "failed-deliver")), "\n") == 2*each
			})
			p.stops(0)
			counted := func(want string, flags ...string) {
				t.Helper()
				p := run(t, dir, "", append([]string{"failures", "ls", "p.hcl"}, flags...)...)
				p.exits(0)
				p.until(p.out, want)
			}
			counted(`(?m)^   10  in all`)
			counted(`(?m)^    5  in all`, "--destination", "hook-a")
			counted(`(?m)^    5  in all`, "--source", "src-b", "--workspace", "ws1")
			counted(`no failed event is chosen`, "--source", "src-b", "--destination", "hook-a")
			refuse.Store(false)
			replay := func(flags ...string) {
				t.Helper()
				run(t, dir, "", append([]string{"failures", "replay", "p.hcl"}, flags...)...).exits(0)
			}
			replay("--destination", "hook-b")
			mu.Lock()
			if len(got) != each {
				t.Errorf("%d events arrived of one destination", len(got))
			}
			mu.Unlock()
			replay()
			mu.Lock()
			defer mu.Unlock()
			for i := range each {
				for key, path := range map[string]string{"KA": "/hook-a", "KB": "/hook-b"} {
					if paths := got[fmt.Sprintf("%s-%d", key, i)]; len(paths) != 1 || paths[0] != path {
						t.Errorf("event %s-%d came to %v, want %s once", key, i, paths, path)
					}
				}
			}
		})
	}
}

// TestFailuresInPostgreSQL: dead messages, failed executions and failed events are found and sent
// again where the store is PostgreSQL too.
func TestFailuresInPostgreSQL(t *testing.T) {
	t.Parallel()
	dsn := enginetest.Postgres(t)
	config := func(step, definition string) string {
		return fmt.Sprintf(`
store {
  use "postgres" {
    dsn = %q
  }
}
queue "in" {}
queue "dlq" {}
pipeline "fill" {
  source {
    use "file" {
      path          = "lines"
      position_file = "pos"
    }
  }
  transform {
    use %[2]q {}
  }
  target {
    use "queue" {
      name = "in"
    }
  }
  failure_target {
    use "queue" {
      name = "dlq"
    }
  }
}
pipeline "work" {
  source {
    use "queue" {
      name            = "in"
      stop_when_empty = true
    }
  }
  transform {
    use %[2]q {}
  }
  target {
    use "machine" {
      name = "m"
    }
  }
  failure_target {
    keep = true
  }
}
machine "m" {
  definition      = %[3]q
  stop_when_empty = true
}
function "out" {
  target {
    use "file" {
      path = "out"
    }
  }
}
`, dsn, step, definition)
	}
	dir := files(t, "bug.hcl", config("base64Decode", "fails.json"), "fixed.hcl", config("base64Encode", "works.json"),
		"fails.json", `{"StartAt":"F","States":{"F":{"Type":"Fail","Error":"Bad"}}}`,
		"works.json", `{"StartAt":"W","States":{"W":{"Type":"Pass","Next":"O"},"O":{"Type":"Task","Resource":"out","End":true}}}`,
		// One fails at once, one behind the queue, and one in the machine.
		"lines", "*bad\n"+encode("*worse")+"\n"+encode(encode(`"order"`))+"\n")
	run(t, dir, "", "run", "bug.hcl").wait() // what is kept ends it with an error
	p := run(t, dir, "", "failures", "ls", "bug.hcl", "--json")
	p.exits(0)
	for _, want := range []string{`"pipeline":"fill","place":"queue \\"dlq\\""`, `"pipeline":"work","place":"queue \\"in\\""`, `"machine":"m"`, `(?m)^    3  in all`} {
		if out := p.out.String() + p.err.String(); !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
	// The text of the third is base64 still: the fixed config takes it as it is.
	run(t, dir, "", "failures", "replay", "fixed.hcl", "--pipeline", "fill").exits(0)
	run(t, dir, "", "failures", "replay", "fixed.hcl", "--machine", "m").exits(0)
	p = run(t, dir, "", "failures", "ls", "fixed.hcl")
	p.until(p.out, `(?m)^    1  in all`)
	run(t, dir, "", "failures", "replay", "fixed.hcl").exits(0)
	p = run(t, dir, "", "failures", "ls", "fixed.hcl")
	p.until(p.out, `there are no failed events`)
}
