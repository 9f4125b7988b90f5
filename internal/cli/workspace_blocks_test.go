//go:build unix

package cli_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/weirdata/weir/internal/addresstest"
)

// receiver is a webhook that keeps the paths it was called at.
type receiver struct {
	*httptest.Server
	mu    sync.Mutex
	paths []string
}

func receive(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.paths = append(r.paths, req.URL.Path)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) got(path string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.paths, path)
}

// track sends an event and returns the status of the answer; 0 when nobody answers.
func track(t *testing.T, address, key string) int {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, "http://"+address+"/v1/track", strings.NewReader(`{"userId":"u","event":"e"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth(key, "")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// TestWorkspaceInBlocks: a workspace that is written in the config, in a collect block and beside it,
// with its secrets in the environment; a reload has a change count.
func TestWorkspaceInBlocks(t *testing.T) {
	t.Parallel()
	hook := receive(t)
	inside, beside := addresstest.Free(t), addresstest.Free(t)
	const content = `
    source "site" {
      write_key = env.SITE_KEY
    }
    destination "hook" {
      type   = "WEBHOOK"
      config = { webhookUrl = "%s/%s", headers = [{ from = "x-key", to = env.SITE_KEY }] }
    }
    connection {
      source      = "site"
      destination = "hook"
    }
`
	write := func(dir, path string) {
		one, two := fmt.Sprintf(content, hook.URL, path+"-inside"), fmt.Sprintf(content, hook.URL, path+"-beside")
		text := fmt.Sprintf(`
store {
  use "embedded" {
    path = "store"
  }
}
collect "inside" {
  gateway {
    address = %q
  }
  workspace {%s}
}
workspace "acme" {%s}
collect "beside" {
  gateway {
    address = %q
  }
  workspace {
    name = "acme"
  }
}
`, inside, one, two, beside)
		if err := os.WriteFile(filepath.Join(dir, "p.hcl"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	write(dir, "first")
	cmd := weir(t, dir, "run", "p.hcl")
	cmd.Env = append(cmd.Environ(), "SITE_KEY=secret-key")
	p := launch(t, cmd)
	for _, address := range []string{inside, beside} {
		eventually(t, "an answer", func() bool { return track(t, address, "secret-key") == http.StatusOK })
	}
	eventually(t, "both events", func() bool { return hook.got("/first-inside") && hook.got("/first-beside") })
	write(dir, "second")
	p.signal(syscall.SIGHUP)
	eventually(t, "events at the changed destinations", func() bool {
		track(t, inside, "secret-key")
		track(t, beside, "secret-key")
		return hook.got("/second-inside") && hook.got("/second-beside")
	})
	if strings.Contains(p.err.String(), "secret-key") {
		t.Errorf("a secret is in the log:\n%s", p.err)
	}
	p.signal(os.Interrupt)
	p.exits(0)
}

// TestControlPlane: a workspace from a control plane: its changes count without a reload, a start
// without it goes on with what was kept, and what is refused says what to do.
func TestControlPlane(t *testing.T) {
	t.Parallel()
	hook := receive(t)
	var mu sync.Mutex
	key, code := "one", http.StatusOK
	set := func(k string, c int) {
		mu.Lock()
		defer mu.Unlock()
		key, code = k, c
	}
	plane := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if user, _, _ := r.BasicAuth(); user != "workspace-token" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.WriteHeader(code)
		_, _ = fmt.Fprintf(w, `{"workspaceId":"ws","sources":[{"id":"a","writeKey":%q,"enabled":true,"destinations":[{"id":"d","enabled":true,"isProcessorEnabled":true,
			"config":{"webhookUrl":"%s/%s"},"destinationDefinition":{"name":"WEBHOOK"}}]}]}`, key, hook.URL, key)
	}))
	defer plane.Close()
	address := addresstest.Free(t)
	dir := files(t, "p.hcl", fmt.Sprintf(`
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
    control_plane {
      url                = %q
      token              = env.TOKEN
      cache              = "cache/workspace.json"
      poll_interval_ms   = 100
      start_wait_seconds = 0
    }
  }
}
`, address, plane.URL))
	run := func(token string, args ...string) *process {
		cmd := weir(t, dir, args...)
		cmd.Env = append(cmd.Environ(), "TOKEN="+token)
		return launch(t, cmd)
	}
	run("wrong-token", "run", "p.hcl").exits(1)
	wrong := run("wrong-token", "check", "--connect", "p.hcl")
	wrong.exits(1)
	if text := wrong.err.String() + wrong.out.String(); !strings.Contains(text, "p.hcl:12:5") || !strings.Contains(text, "WORKSPACE_TOKEN of RudderStack") || strings.Contains(text, "wrong-token") {
		t.Errorf("check says %s", text)
	}
	run("workspace-token", "check", "--connect", "p.hcl").exits(0)
	p := run("workspace-token", "run", "p.hcl")
	eventually(t, "an answer", func() bool { return track(t, address, "one") == http.StatusOK })
	set("two", http.StatusOK)
	eventually(t, "the new key", func() bool { return track(t, address, "two") == http.StatusOK })
	eventually(t, "the event at the new place", func() bool { return hook.got("/two") })
	set("three", http.StatusBadGateway)
	p.until(p.err, `"ERROR".*the control plane gives no configuration.*502`)
	if got := track(t, address, "two"); got != http.StatusOK {
		t.Errorf("while the plane is away: %d", got)
	}
	p.signal(os.Interrupt)
	p.exits(0)
	p = run("workspace-token", "run", "p.hcl")
	p.until(p.err, `from the cache`)
	eventually(t, "an answer from the cache", func() bool { return track(t, address, "two") == http.StatusOK })
	set("three", http.StatusOK)
	eventually(t, "the plane that is back", func() bool { return track(t, address, "three") == http.StatusOK })
	p.signal(os.Interrupt)
	p.exits(0)
}
