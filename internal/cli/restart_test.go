//go:build unix

package cli_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/addresstest"
)

// endpoint is a server that comes and goes at one address.
type endpoint struct {
	t  *testing.T
	at string

	mu     sync.Mutex
	server *http.Server
	got    strings.Builder
}

func (e *endpoint) comes() {
	e.t.Helper()
	var l net.Listener
	eventually(e.t, "the address of the endpoint", func() (ok bool) {
		var err error
		l, err = net.Listen("tcp", e.at)
		return err == nil
	})
	s := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		e.mu.Lock()
		defer e.mu.Unlock()
		e.got.Write(append(text, '\n'))
	})}
	e.server = s
	go func() { _ = s.Serve(l) }()
}

func (e *endpoint) goes() { _ = e.server.Close() }

func (e *endpoint) has(id string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.Contains(e.got.String(), id)
}

// troubled is a config of pipelines that deliver to an endpoint, of one whose target's
// directory is missing, and of one that has nothing to do with them.
const troubled = `
admin { address = %[1]q }
store {
  use "embedded" { path = "store" }
}
queue "q" {}
pipeline "lines" {
  source {
    use "file" {
      path          = "*.log"
      follow        = true
      position_file = "position"
    }
  }
  target {
    use "http" { url = "http://%[2]s/" }
  }
  retry {
    transient {
      delay_ms     = 10
      max_attempts = 2
    }
  }
}
pipeline "requests" {
  source {
    use "http" { url = %[3]q }
  }
  target {
    use "http" { url = "http://%[2]s/" }
  }
  retry {
    transient {
      delay_ms     = 10
      max_attempts = 2
    }
  }
}
pipeline "gateway" {
  source {
    use "gateway" {
      address          = %[4]q
      workspace_config = "workspace.json"
    }
  }
  target {
    use "http" { url = "http://%[2]s/" }
  }
  retry {
    transient {
      delay_ms     = 10
      max_attempts = 2
    }
  }
}
pipeline "healthy" {
  source {
    use "http" { url = %[5]q }
  }
  target {
    use "queue" { name = "q" }
  }
}
pipeline "queued" {
  source {
    use "queue" { name = "q" }
  }
  target {
    use "file" { path = "later/out" }
  }
  retry {
    setup { max_attempts = 1 }
  }
}
# %[6]s
`

// TestRestartLosesNothing: pipelines of every kind of source fail, are degraded, are reloaded
// meanwhile, and run again when their target does, at their ports and positions: everything is
// delivered. A pipeline beside them never notices.
func TestRestartLosesNothing(t *testing.T) {
	t.Parallel()
	admin, at, requests, gateway, healthy := addresstest.Free(t), addresstest.Free(t), addresstest.Free(t), addresstest.Free(t), addresstest.Free(t)
	text := func(version string) string {
		return fmt.Sprintf(troubled, admin, at, requests, gateway, healthy, version)
	}
	p := launch(t, weir(t, files(t, "p.hcl", text("1"), "workspace.json", workspaceOfKey1, "a.log", ""), "run", "p.hcl"))
	listening(t, healthy)
	listening(t, admin)
	there := &endpoint{t: t, at: at}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var clients sync.WaitGroup
	defer clients.Wait()
	healthyIDs := 0
	clients.Go(func() {
		for ; ctx.Err() == nil && !t.Failed(); healthyIDs++ {
			if code := post(t, http.DefaultClient, healthy, fmt.Sprintf(`{"id":"healthy-%d"}`, healthyIDs)); code != http.StatusAccepted {
				t.Errorf("the healthy pipeline answers %d", code)
			}
		}
	})
	// until sends an event again and again, as clients do, until it is accepted.
	until := func(url, id string) {
		clients.Go(func() {
			pause := time.NewTimer(0)
			defer pause.Stop()
			for ctx.Err() == nil {
				r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(fmt.Sprintf(`{"userId":%q}`, id)))
				if err != nil {
					t.Error(err)
					return
				}
				r.SetBasicAuth("KEY1", "")
				resp, err := http.DefaultClient.Do(r)
				if errors.Is(err, syscall.ECONNREFUSED) && ctx.Err() == nil {
					t.Errorf("%s is closed while its pipeline waits to be started again", url)
				}
				if err != nil {
					pause.Stop()
					pause.Reset(50 * time.Millisecond)
					select {
					case <-pause.C:
					case <-ctx.Done():
					}
					continue
				}
				_ = resp.Body.Close()
				if resp.StatusCode < 300 {
					return
				}
				if resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") == "" {
					t.Errorf("%s answers 503 without saying when to come back", url)
				}
			}
		})
	}
	degraded := func(names ...string) {
		t.Helper()
		eventually(t, fmt.Sprintf("%s degraded", names), func() bool {
			code, ready := get(t, "http://"+admin+"/readyz")
			_, metrics := get(t, "http://"+admin+"/metrics")
			if code != http.StatusOK {
				t.Errorf("readyz: %d %s", code, ready)
			}
			for _, name := range names {
				if !strings.Contains(ready, fmt.Sprintf("pipeline %q is degraded: ", name)) || !strings.Contains(metrics, fmt.Sprintf("weir_degraded{pipeline=%q} 1", name)) {
					return t.Failed()
				}
			}
			return true
		})
	}
	for round := range 3 {
		ids := []string{fmt.Sprintf("line-%d.", round), fmt.Sprintf("request-%d.", round), fmt.Sprintf("gateway-%d.", round)}
		lines, err := os.OpenFile(filepath.Join(p.dir, "a.log"), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(lines, "{\"id\":%q}\n", ids[0])
		_ = lines.Close()
		until("http://"+requests+"/", ids[1])
		until("http://"+gateway+"/v1/track", ids[2])
		degraded("lines", "requests", "gateway")
		if round == 0 {
			degraded("queued")
		}
		if round == 1 { // a reload, and the file is rotated while nobody reads it
			p.signal(syscall.SIGHUP)
			p.until(p.err, `the new config runs`)
			if err := os.Rename(filepath.Join(p.dir, "a.log"), filepath.Join(p.dir, "a.log.1")); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(p.dir, "a.log"), "")
		}
		there.comes()
		if round == 0 {
			if err := os.Mkdir(filepath.Join(p.dir, "later"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		for _, id := range ids {
			eventually(t, id, func() bool { return there.has(id) || t.Failed() })
		}
		eventually(t, "all pipelines run", func() bool {
			_, ready := get(t, "http://"+admin+"/readyz")
			return !strings.Contains(ready, "degraded") || t.Failed()
		})
		there.goes()
	}
	stop()
	clients.Wait()
	eventually(t, "the events of the healthy pipeline", func() bool {
		return strings.Contains(read(t, filepath.Join(p.dir, "later", "out")), fmt.Sprintf("healthy-%d\"", healthyIDs-1)) || t.Failed()
	})
	p.stops(0)
	out := read(t, filepath.Join(p.dir, "later", "out"))
	for n := range healthyIDs {
		if c := strings.Count(out, fmt.Sprintf("healthy-%d\"", n)); c != 1 {
			t.Errorf("event %d of the healthy pipeline is there %d times", n, c)
		}
	}
	for _, never := range []string{"address already in use", "listens there already", "another process"} {
		if strings.Contains(p.err.String(), never) {
			t.Errorf("the log speaks of %q:\n%s", never, p.err)
		}
	}
}

// failing is a pipeline whose target cannot be reached, and one beside it.
func failing(source, at, onFailure string) string {
	return fmt.Sprintf(`
pipeline "failing" {
  on_failure = %[3]q
  source {
    use %[1]s
  }
  target {
    use "http" { url = "http://%[2]s/" }
  }
  retry {
    transient {
      delay_ms     = 10
      max_attempts = 2
    }
  }
}
pipeline "beside" {
  source {
    use "file" {
      path   = "beside.log"
      follow = %[4]t
    }
  }
  target {
    use "file" { path = "out" }
  }
}
`, source, at, onFailure, onFailure == "exit")
}

// TestOnFailure is what the failure of a pipeline means for the process, by on_failure. Lines
// of standard input, which cannot be read again, are delivered when the pipeline is started
// again; when it is stopped before, the exit code says that they were not.
func TestOnFailure(t *testing.T) {
	t.Parallel()
	const input, lines = "{\"id\":\"1.\"}\n{\"id\":\"2.\"}\n", `"stdin" {}`
	for _, row := range []struct {
		onFailure, source string
		comes             bool // the target
		stops             bool // by a signal, once the pipeline is degraded
		code              int
	}{
		{onFailure: "end", source: `"file" { path = "in.log" }`, code: 1},
		{onFailure: "exit", source: `"file" { path = "in.log" }`, code: 1},
		{onFailure: "restart", source: `"file" { path = "in.log" }`, comes: true},
		{onFailure: "restart", source: lines, comes: true},
		{onFailure: "restart", source: lines, stops: true, code: 1},
	} {
		t.Run(fmt.Sprintf("%s %s %t", row.onFailure, row.source, row.comes), func(t *testing.T) {
			t.Parallel()
			there := &endpoint{t: t, at: addresstest.Free(t)}
			c := weir(t, files(t, "p.hcl", failing(row.source, there.at, row.onFailure), "in.log", input, "beside.log", "beside\n"), "run", "p.hcl")
			c.Stdin = strings.NewReader(input)
			p := launch(t, c)
			if row.onFailure == "restart" {
				p.until(p.err, `is started again`)
			}
			if row.comes {
				there.comes()
				defer there.goes()
			}
			if row.stops {
				p.stops(row.code)
			} else {
				p.exits(row.code)
			}
			for _, id := range []string{"1.", "2."} {
				if there.has(id) != row.comes {
					t.Errorf("%s was delivered: %t", id, !row.comes)
				}
			}
			if row.onFailure != "exit" && read(t, filepath.Join(p.dir, "out")) != "beside\n" {
				t.Errorf("the pipeline beside has written %q", read(t, filepath.Join(p.dir, "out")))
			}
		})
	}
}
