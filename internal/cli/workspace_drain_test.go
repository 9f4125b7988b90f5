//go:build unix

package cli_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/weirdata/weir/internal/addresstest"
)

// TestDestinationsGoWhileEventsWait: events that wait a day for their next attempt are given up at once
// when their destination leaves the workspace, or is switched off and drains; those of one that is held
// go on when it is switched on again; and what a source that is gone had accepted is counted and kept.
func TestDestinationsGoWhileEventsWait(t *testing.T) {
	t.Parallel()
	var well atomic.Bool
	var failed, delivered atomic.Int64
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if !well.Load() {
			failed.Add(1)
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		delivered.Add(1)
	}))
	defer hook.Close()
	destination := func(id string, enabled bool) string {
		return fmt.Sprintf(`{"id":%q,"enabled":%t,"isProcessorEnabled":true,"config":{"webhookUrl":"%s/%s"},"destinationDefinition":{"name":"WEBHOOK"}}`, id, enabled, hook.URL, id)
	}
	workspace := func(destinations ...string) string {
		return `{"workspaceId":"w","sources":[{"id":"s","writeKey":"key","enabled":true,"destinations":[` + strings.Join(destinations, ",") + `]}]}`
	}
	for _, policy := range []string{"drain", "hold"} {
		t.Run(policy, func(t *testing.T) {
			well.Store(false)
			failed.Store(0)
			delivered.Store(0)
			address := addresstest.Free(t)
			dir := files(t, "ws.json", workspace(destination("goes", true), destination("off", true)), "p.hcl", fmt.Sprintf(`
store {
  use "embedded" {
    path = "store"
  }
}
collect "c" {
  gateway {
    address = %q
  }
  workspace {
    config = "ws.json"
  }
  router {
    target {
      use "webhook" {
        disabled = %q
      }
    }
    retry {
      transient {
        delay_ms     = 86400000
        max_delay_ms = 86400000
      }
    }
    failure_target {
      use "file" {
        path = "failed.jsonl"
      }
    }
  }
}
`, address, policy))
			put := func(text string) {
				if err := os.WriteFile(filepath.Join(dir, "ws.new"), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(filepath.Join(dir, "ws.new"), filepath.Join(dir, "ws.json")); err != nil {
					t.Fatal(err)
				}
			}
			gone := func(text string) int {
				b, err := os.ReadFile(filepath.Join(dir, "failed.jsonl"))
				if err != nil {
					return 0
				}
				return strings.Count(string(b), text)
			}
			p := launch(t, weir(t, dir, "run", "p.hcl"))
			const events = 3
			for range events {
				eventually(t, "an answer", func() bool { return track(t, address, "key") == http.StatusOK })
			}
			// Of one user, the first event withholds the others: each destination was tried once.
			eventually(t, "an attempt at each destination", func() bool { return failed.Load() == 2 })
			put(workspace(destination("off", false)))
			eventually(t, "the events of the destination that is gone", func() bool { return gone("destination is not available in the config") == events })
			well.Store(true)
			if policy == "drain" {
				eventually(t, "the events of the destination that is off", func() bool { return gone("destination is disabled") == events })
				if delivered.Load() != 0 {
					t.Errorf("%d were delivered", delivered.Load())
				}
			} else {
				put(workspace(destination("off", true)))
				eventually(t, "the events that were held", func() bool { return delivered.Load() == events })
				if n := gone("destination is disabled"); n != 0 {
					t.Errorf("%d were given up", n)
				}
			}
			p.signal(os.Interrupt)
			p.exits(0)
		})
	}
}
