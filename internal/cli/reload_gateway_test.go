//go:build unix

package cli_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/weirdata/weir/internal/addresstest"
)

// gate is a config of a gateway that puts the number of its version into each event.
func gate(at string, version int) string {
	return fmt.Sprintf(`
source {
  use "gateway" {
    address          = %q
    workspace_config = "workspace.json"
    max_request_events = %d
  }
}
transform {
  use "js" {
    script = "function main(x) { x.Data = x.Data.slice(0, -1) + ',\"v\":%[3]d}'; return x }"
  }
}
target {
  use "file" {
    path = "out"
  }
}
failure_target {
  use "file" {
    path = "failed"
  }
}
`, at, 100+version, version)
}

const workspaceOfKey1 = `{"workspaceId":"ws1","sources":[{"id":"src1","name":"http","writeKey":"KEY1","enabled":true,"sourceDefinition":{"name":"HTTP"},"destinations":[]}]}`

// TestReloadOfAGateway: configs of a gateway on a fixed port replace each other under load.
// Every request, plain or of a browser, is answered ok over the connection it had, and its
// event is there once.
func TestReloadOfAGateway(t *testing.T) {
	t.Parallel()
	at := addresstest.Free(t)
	p := launch(t, weir(t, files(t, "p.hcl", gate(at, 1), "workspace.json", workspaceOfKey1), "run", "p.hcl"))
	listening(t, at)
	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	var sent atomic.Int64
	for client := range 4 {
		clients.Go(func() {
			conn, err := net.Dial("tcp", at)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			in, head := bufio.NewReader(conn), "Host: x\r\nAuthorization: Basic S0VZMTo=\r\n"
			if client%2 == 1 {
				head += "Origin: https://shop.example\r\n"
			}
			for n := 0; ctx.Err() == nil; n++ {
				event := fmt.Sprintf(`{"userId":"%d-%d"}`, client, n)
				if _, err := fmt.Fprintf(conn, "POST /v1/track HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n%s", head, len(event), event); err != nil {
					t.Errorf("request %d of client %d: %v", n, client, err)
					return
				}
				r, err := http.ReadResponse(in, nil)
				if err != nil {
					t.Errorf("request %d of client %d: %v", n, client, err)
					return
				}
				text, err := io.ReadAll(r.Body)
				if r.StatusCode != http.StatusOK || string(text) != "ok" || err != nil {
					t.Errorf("request %d of client %d: %s %q, %v", n, client, r.Status, text, err)
					return
				}
				sent.Add(1)
			}
		})
	}
	const versions = 6
	for v := 2; v <= versions; v++ {
		before := sent.Load()
		eventually(t, "some requests", func() bool { return sent.Load() >= before+20 || t.Failed() })
		write(t, filepath.Join(p.dir, "p.hcl"), gate(at, v))
		p.signal(syscall.SIGHUP)
		eventually(t, fmt.Sprintf("version %d", v), func() bool {
			return strings.Contains(read(t, filepath.Join(p.dir, "out")), fmt.Sprintf("\"v\":%d}\n", v)) || t.Failed()
		})
	}
	stop()
	clients.Wait()
	p.stops(0)
	seen := map[string]bool{}
	for _, line := range split(read(t, filepath.Join(p.dir, "out"))) {
		var e struct{ UserID string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if seen[e.UserID] {
			t.Errorf("%s is there twice", e.UserID)
		}
		seen[e.UserID] = true
	}
	if int64(len(seen)) != sent.Load() || read(t, filepath.Join(p.dir, "failed")) != "" {
		t.Errorf("%d events for %d accepted requests", len(seen), sent.Load())
	}
	if n := strings.Count(p.err.String(), "the new config runs"); n != versions-1 {
		t.Errorf("%d reloads are logged, %d were asked for:\n%s", n, versions-1, p.err)
	}
}
