//go:build unix

package cli_test

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/weirdata/weir/internal/addresstest"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/embedded"
)

// TestSuppressionSurvivesKill: users are suppressed while the process is killed again and again; of
// none of whom that was confirmed is anything kept afterwards, by the gateway itself or by one that
// polls it, and everything of others that was accepted is there.
func TestSuppressionSurvivesKill(t *testing.T) {
	t.Parallel()
	address, second, admin := addresstest.Free(t), addresstest.Free(t), addresstest.Free(t)
	dir := files(t, "p.hcl", fmt.Sprintf(`
store {
  use "embedded" {
    path = "store"
  }
}
admin {
  address = %q
}
queue "events" {}
pipeline "first" {
  source {
    use "gateway" {
      workspace_config = "ws.json"
      address          = %q
      suppression {
        path  = "suppressed"
        token = "hush"
      }
    }
  }
  target {
    use "queue" {
      name = "events"
    }
  }
}
pipeline "second" {
  source {
    use "gateway" {
      workspace_config = "ws.json"
      address          = %q
      suppression {
        path = "followed"
        control_plane {
          url              = "http://%s"
          token            = "hush"
          workspace        = "w"
          poll_interval_ms = 100
          page_size        = 7
        }
      }
    }
  }
  target {
    use "queue" {
      name = "events"
    }
  }
}
`, admin, address, second, address), "ws.json", `{"workspaceId":"w","sources":[{"id":"a","writeKey":"one","enabled":true}]}`)
	ask := func(method, url, user, body string) int {
		r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
		if err != nil {
			t.Error(err)
			return 0
		}
		r.SetBasicAuth(user, "")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return 0
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	var next atomic.Int64
	var confirmed, accepted sync.Map
	send := func(at, user, id string) bool {
		return ask("POST", "http://"+at+"/v1/track", "one", fmt.Sprintf(`{"userId":%q,"messageId":%q}`, user, id)) == http.StatusOK
	}
	work := func() {
		n := next.Add(1)
		user := fmt.Sprint("gone-", n)
		if ask("PUT", fmt.Sprintf("http://%s/dataplane/workspaces/w/suppressions/%s", address, user), "hush", "") == http.StatusNoContent {
			confirmed.Store(user, true)
			send(address, user, "wrong-"+user) // whatever comes of it, it is not kept
		}
		if id := fmt.Sprint("right-", n); send(address, fmt.Sprint("u", n), id) {
			accepted.Store(id, true)
		}
	}
	up := func() *process {
		p := launch(t, weir(t, dir, "run", "p.hcl"))
		for _, at := range []string{address, second} {
			eventually(t, "events are taken", func() bool { return send(at, "early", "early") })
		}
		return p
	}
	down := func(p *process) {
		if err := p.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-p.ended
	}
	for range 3 {
		p := up()
		var wg sync.WaitGroup
		stop := make(chan struct{})
		before := next.Load()
		for range 4 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						work()
					}
				}
			})
		}
		eventually(t, "some users", func() bool { return next.Load() > before+60 })
		down(p)
		close(stop)
		wg.Wait()
	}
	p := up()
	eventually(t, "the second knows what the first does", func() bool {
		_, text := get(t, "http://"+admin+"/metrics")
		var counts []string
		for line := range strings.SplitSeq(text, "\n") {
			if name, value, ok := strings.Cut(line, "} "); ok && strings.HasPrefix(name, "weir_suppressed_users{") {
				counts = append(counts, value)
			}
		}
		return len(counts) == 2 && counts[0] == counts[1]
	})
	confirmed.Range(func(user, _ any) bool {
		for _, at := range []string{address, second} {
			eventually(t, "an answer", func() bool { return send(at, user.(string), "wrong-late-"+user.(string)) })
		}
		return true
	})
	down(p)
	s, err := embedded.Open(filepath.Join(dir, "store"), embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	seen := map[string]bool{}
	for after := (queue.ID{}); ; {
		page, err := s.List(t.Context(), queue.Search{Filter: queue.Filter{Queue: "events"}}, after, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, j := range page.Jobs {
			seen[j.Msg.Meta.ID] = true
		}
		if after = page.Next; after == (queue.ID{}) {
			break
		}
	}
	for id := range seen {
		if strings.HasPrefix(id, "wrong") {
			t.Errorf("%s was kept", id)
		}
	}
	accepted.Range(func(id, _ any) bool {
		if !seen[id.(string)] {
			t.Errorf("%s was accepted and is not there", id)
		}
		return true
	})
}
