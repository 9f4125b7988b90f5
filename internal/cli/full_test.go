//go:build unix

package cli_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/addresstest"
)

// full is a config of two doors in front of a small store, whose queue is emptied into an
// endpoint. No request waits an hour for an answer unless it is kept waiting.
const full = `
admin { address = %[1]q }
store {
  use "embedded" {
    path      = "store"
    max_bytes = 2000000
  }
}
queue "q" {}
pipeline "gateway" {
  source {
    use "gateway" {
      address                 = %[2]q
      workspace_config        = "workspace.json"
      response_timeout_millis = 3600000
    }
  }
  target {
    use "queue" { name = "q" }
  }
}
pipeline "lines" {
  source {
    use "http" {
      url                     = %[3]q
      response_timeout_millis = 3600000
    }
  }
  target {
    use "queue" { name = "q" }
  }
}
pipeline "out" {
  source {
    use "queue" { name = "q" }
  }
  target {
    use "http" { url = "http://%[4]s/" }
  }
  retry {
    transient {
      delay_ms     = 50
      max_delay_ms = 100
      max_attempts = 0
    }
  }
}
`

// TestFullStore: while the store has no room, callers are told at once to come back, by answers,
// health and readiness, and the log has a line; when there is room everything goes on.
func TestFullStore(t *testing.T) {
	t.Parallel()
	admin, gateway, lines, at := addresstest.Free(t), addresstest.Free(t), addresstest.Free(t), addresstest.Free(t)
	p := launch(t, weir(t, files(t, "p.hcl", fmt.Sprintf(full, admin, gateway, lines, at), "workspace.json", workspaceOfKey1), "run", "p.hcl"))
	listening(t, lines)
	listening(t, admin)
	send := func(url, id string) *http.Response {
		t.Helper()
		body := fmt.Sprintf(`{"userId":%q,"event":%q}`, id, strings.Repeat("x", 20000))
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("KEY1", "")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp
	}
	urls := []string{"http://" + gateway + "/v1/track", "http://" + lines + "/"}
	var kept []string
	there := &endpoint{t: t, at: at}
	for round := range 2 {
		refused := map[string]bool{}
		told := func() bool {
			code, ready := get(t, "http://"+admin+"/readyz")
			return code == http.StatusServiceUnavailable && strings.Contains(ready, "the queue store is full")
		}
		for n := 0; len(refused) < len(urls) || !told(); n++ {
			if n == 10000 {
				t.Fatal("the store is never full")
			}
			id := fmt.Sprintf("event-%d-%d.", round, n)
			url := urls[n%2]
			switch resp := send(url, id); resp.StatusCode {
			case http.StatusOK, http.StatusAccepted:
				kept = append(kept, id)
			case http.StatusServiceUnavailable:
				if resp.Header.Get("Retry-After") == "" {
					t.Errorf("%s: 503 without Retry-After", url)
				}
				refused[url] = true
			default:
				t.Fatalf("%s: %s", url, resp.Status)
			}
		}
		// Maintenance may make a little room at any time, which is used up again.
		for n, down := 0, false; !down; n++ {
			code, _ := get(t, "http://"+gateway+"/health")
			id := fmt.Sprintf("more-%d-%d.", round, n)
			if down = code == http.StatusServiceUnavailable; !down && send(urls[n%2], id).StatusCode < 300 {
				kept = append(kept, id)
			}
			if n == 10000 {
				t.Fatal("/health says nothing of a full store")
			}
		}
		for n := range 200 { // maintenance may make a little room
			id := fmt.Sprintf("late-%d-%d.", round, n)
			if resp := send(urls[n%2], id); resp.StatusCode < 300 {
				kept = append(kept, id)
			} else if resp.StatusCode != http.StatusServiceUnavailable {
				t.Fatalf("%s: %s", urls[n%2], resp.Status)
			}
		}
		there.comes()
		for _, id := range kept {
			eventually(t, id, func() bool { return there.has(id) || t.Failed() })
		}
		eventually(t, "room", func() bool {
			code, _ := get(t, "http://"+admin+"/readyz")
			health, _ := get(t, "http://"+gateway+"/health")
			return code == http.StatusOK && health == http.StatusOK
		})
		there.goes()
	}
	p.stops(0)
	if n := strings.Count(p.err.String(), "takes no new work"); n == 0 {
		t.Errorf("the log does not say that the store is full:\n%s", p.err)
	}
	if n := strings.Count(p.err.String(), "there is no room"); n > 40 {
		t.Errorf("the log says %d times that there is no room:\n%s", n, p.err)
	}
}
