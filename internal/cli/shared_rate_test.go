//go:build unix

package cli_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/weirdata/weir/internal/addresstest"
	"github.com/weirdata/weir/internal/enginetest"
)

// TestSharedRates: two processes that share a store in PostgreSQL let in together what the limit of a
// workspace allows, and a portion for each more; also when one of them has most of the requests.
func TestSharedRates(t *testing.T) {
	t.Parallel()
	// What comes in while the test runs is less than an event: a day has passed before one is added.
	const limit, burst, days, portion = 1, 320, 24 * 3600, 320 / 32
	url := enginetest.Postgres(t)
	var addresses []string
	for range 2 {
		address := addresstest.Free(t)
		addresses = append(addresses, address)
		launch(t, weir(t, files(t, "p.hcl", fmt.Sprintf(`
store {
  use "postgres" {
    dsn = %q
  }
}
queue "events" {}
pipeline "gateway" {
  source {
    use "gateway" {
      workspace_config          = "ws.json"
      address                   = %q
      rate_limit_events         = %d
      rate_limit_window_seconds = %d
      rate_limit_burst_events   = %d
    }
  }
  target {
    use "queue" {
      name = "events"
    }
  }
}
`, url, address, limit, days, burst), "ws.json", `{"workspaceId":"ws","sources":[{"id":"a","writeKey":"key","enabled":true}]}`), "run", "p.hcl"))
	}
	for _, address := range addresses {
		eventually(t, "an answer", func() bool {
			resp, err := http.Get("http://" + address + "/health")
			if err != nil {
				return false
			}
			return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
		})
	}
	var in, refused, other atomic.Int64
	var wg sync.WaitGroup
	for c := range 8 {
		address := addresses[min(c/2, 1)] // six of eight to the one
		wg.Go(func() {
			for range 100 {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/v1/track", strings.NewReader(`{"userId":"u","event":"e"}`))
				if err != nil {
					t.Error(err)
					return
				}
				r.SetBasicAuth("key", "")
				resp, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				switch {
				case resp.StatusCode == http.StatusOK:
					in.Add(1)
				case resp.StatusCode == http.StatusTooManyRequests && resp.Header.Get("Retry-After") != "":
					refused.Add(1)
				default: // the machine is slow: it may count
					other.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if got := in.Load(); got < burst-2*portion-other.Load() || got > burst+2*portion || refused.Load() == 0 {
		t.Errorf("%d events were let in and %d refused; the limit is %d", got, refused.Load(), burst)
	}
}
