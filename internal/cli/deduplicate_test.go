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

// TestDeduplicationSurvivesKill: clients send every event again and again while the process is
// killed; each event that was accepted is in the queue, once.
func TestDeduplicationSurvivesKill(t *testing.T) {
	t.Parallel()
	address := addresstest.Free(t)
	dir := files(t, "p.hcl", fmt.Sprintf(`
store {
  use "embedded" {
    path = "store"
  }
}
queue "events" {}
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
      deduplicate {}
    }
  }
}
`, address), "ws.json", `{"sources":[{"id":"a","writeKey":"one","enabled":true},{"id":"b","writeKey":"two","enabled":true}]}`)
	const ids = 300
	var next atomic.Int64
	var accepted [2 * ids]atomic.Bool
	send := func(i int) {
		key := []string{"one", "two"}[i%2]
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/v1/track", strings.NewReader(fmt.Sprintf(`{"userId":"u","event":"e","messageId":"m-%d"}`, i/2)))
		if err != nil {
			t.Error(err)
			return
		}
		r.SetBasicAuth(key, "")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			accepted[i].Store(true)
		}
	}
	for range 3 {
		p := launch(t, weir(t, dir, "run", "p.hcl"))
		eventually(t, "an answer", func() bool {
			resp, err := http.Get("http://" + address + "/health")
			if err != nil {
				return false
			}
			return resp.Body.Close() == nil
		})
		var wg sync.WaitGroup
		stop := make(chan struct{})
		before := next.Load()
		for range 8 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						send(int(next.Add(1)*7) % (2 * ids))
					}
				}
			})
		}
		eventually(t, "some events", func() bool { return next.Load() > before+ids })
		if err := p.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-p.ended
		close(stop)
		wg.Wait()
	}
	p := launch(t, weir(t, dir, "run", "p.hcl"))
	eventually(t, "every event is accepted", func() bool {
		all := true
		for i := range accepted {
			if !accepted[i].Load() {
				all = false
				send(i)
			}
		}
		return all
	})
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-p.ended
	s, err := embedded.Open(filepath.Join(dir, "store"), embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	seen := map[string]int{}
	for after := (queue.ID{}); ; {
		page, err := s.List(t.Context(), queue.Search{Filter: queue.Filter{Queue: "events"}}, after, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, j := range page.Jobs {
			seen[j.Scope.Source+" "+j.Msg.Meta.ID]++
		}
		if after = page.Next; after == (queue.ID{}) {
			break
		}
	}
	for i := range accepted {
		if key := fmt.Sprintf("%s m-%d", []string{"a", "b"}[i%2], i/2); seen[key] != 1 {
			t.Errorf("%s is there %d times", key, seen[key])
		}
	}
	if len(seen) != 2*ids {
		t.Errorf("%d events are there, want %d", len(seen), 2*ids)
	}
}
