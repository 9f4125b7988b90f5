//go:build unix

package cli_test

import (
	"context"
	"errors"
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

// stamping is a config that puts the number of its version into each event.
func stamping(at string, version int) string {
	return fmt.Sprintf(`
source {
  use "http" {
    url = %q
  }
}
transform {
  use "js" {
    script_path = "stamp.js"
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
# version %d
`, at, version)
}

func stamp(version int) string {
	return fmt.Sprintf("function main(x) { x.Data += ' v%d'; return x }\n", version)
}

// post sends an event and returns the status of the answer; 0 when there was none.
func post(t *testing.T, c *http.Client, at, body string) int {
	t.Helper()
	r, err := c.Post("http://"+at+"/", "text/plain", strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return 0
	}
	_, _ = io.Copy(io.Discard, r.Body)
	_ = r.Body.Close()
	return r.StatusCode
}

// TestReloadLosesNoRequest: the address stays open while configs replace each other under
// load. Every request is answered 202, over the connections it had, and its event is there.
func TestReloadLosesNoRequest(t *testing.T) {
	t.Parallel()
	at := addresstest.Free(t)
	p := launch(t, weir(t, files(t, "p.hcl", stamping(at, 1), "stamp.js", stamp(1)), "run", "p.hcl"))
	listening(t, at)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var sent, connects atomic.Int64
	for client := range 3 {
		wg.Go(func() {
			tr := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				connects.Add(1)
				return new(net.Dialer).DialContext(ctx, network, addr)
			}}
			defer tr.CloseIdleConnections()
			for n := 0; ctx.Err() == nil; n++ {
				if code := post(t, &http.Client{Transport: tr}, at, fmt.Sprintf("%d-%d", client, n)); code != http.StatusAccepted {
					t.Errorf("request %d of client %d: %d", n, client, code)
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
		write(t, filepath.Join(p.dir, "stamp.js"), stamp(v))
		write(t, filepath.Join(p.dir, "p.hcl"), stamping(at, v))
		p.signal(syscall.SIGHUP)
		// The new script takes effect, and what was sent before it keeps the old one's stamp.
		eventually(t, fmt.Sprintf("version %d", v), func() bool {
			return strings.Contains(read(t, filepath.Join(p.dir, "out")), fmt.Sprintf(" v%d\n", v)) || t.Failed()
		})
	}
	stop()
	wg.Wait()
	p.stops(0)
	out := split(read(t, filepath.Join(p.dir, "out")))
	if int64(len(out)) != sent.Load() || read(t, filepath.Join(p.dir, "failed")) != "" {
		t.Errorf("%d events for %d accepted requests", len(out), sent.Load())
	}
	seen := map[string]bool{}
	for _, line := range out {
		id, _, _ := strings.Cut(line, " ")
		if seen[id] {
			t.Errorf("%s is there twice", id)
		}
		seen[id] = true
	}
	if n := connects.Load(); n != 3 {
		t.Errorf("3 clients had to connect %d times", n)
	}
	if n := strings.Count(p.err.String(), "the new config runs"); n != versions-1 {
		t.Errorf("%d reloads are logged, %d were asked for:\n%s", n, versions-1, p.err)
	}
}

// TestReloadThatIsRefused: whatever is wrong with the new config, nothing changes, and the
// reason is logged.
func TestReloadThatIsRefused(t *testing.T) {
	t.Parallel()
	at, admin := addresstest.Free(t), addresstest.Free(t)
	good := stamping(at, 1) + fmt.Sprintf("admin {\n  address = %q\n}\n", admin)
	p := launch(t, weir(t, files(t, "p.hcl", good, "stamp.js", stamp(1)), "run", "p.hcl"))
	listening(t, at)
	for i, bad := range []struct{ config, script, reason string }{
		{"source {\n  use \"htp\" {}\n}\n", stamp(2), `unknown source: htp`},
		{"source {", stamp(2), `p.hcl:1:`},
		{good, "function main( {", `SyntaxError`},
		{good, "function man(x) { return x }", `could not assert as function`},
		{strings.Replace(good, `"out"`, `"no-such-directory/out"`, 1), stamp(2), `no-such-directory`},
		{strings.Replace(good, at, "203.0.113.1:1", 1), stamp(2), `listen on 203.0.113.1:1`},
	} {
		write(t, filepath.Join(p.dir, "p.hcl"), bad.config)
		write(t, filepath.Join(p.dir, "stamp.js"), bad.script)
		p.signal(syscall.SIGHUP)
		p.until(p.err, fmt.Sprintf(`(?s)(the old one runs on.*){%d}`, i+1))
		if !strings.Contains(p.err.String(), bad.reason) {
			t.Errorf("the log does not speak of %q:\n%s", bad.reason, p.err)
		}
		if code := post(t, http.DefaultClient, at, fmt.Sprint("after ", i)); code != http.StatusAccepted {
			t.Errorf("after a refused config: %d", code)
		}
		if code, text := get(t, "http://"+admin+"/readyz"); code != http.StatusOK {
			t.Errorf("after a refused config: %d %s", code, text)
		}
	}
	for _, line := range split(p.err.String()) {
		if !strings.HasPrefix(line, `{"time":`) {
			t.Errorf("a line of the log is not JSON: %s", line)
		}
	}
	p.stops(0)
	if out := split(read(t, filepath.Join(p.dir, "out"))); len(out) != 6 || strings.Contains(strings.Join(out, " "), "v2") {
		t.Errorf("came out: %q", out)
	}
}

// TestSignalWhileAReloadHangs: a new config that takes long to start does not keep the old
// one from its work, nor the process from ending.
func TestSignalWhileAReloadHangs(t *testing.T) {
	t.Parallel()
	at := addresstest.Free(t)
	p := launch(t, weir(t, files(t, "p.hcl", stamping(at, 1), "stamp.js", stamp(1)), "run", "p.hcl"))
	listening(t, at)
	write(t, filepath.Join(p.dir, "p.hcl"), strings.Replace(stamping(at, 2), `"stamp.js"`, "\"stamp.js\"\n    timeout_sec = 3600", 1))
	write(t, filepath.Join(p.dir, "stamp.js"), "for (;;) {}")
	p.signal(syscall.SIGHUP)
	p.until(p.err, `reloading the config`)
	if code := post(t, http.DefaultClient, at, "still served"); code != http.StatusAccepted {
		t.Errorf("while the reload waits: %d", code)
	}
	p.stops(0)
}

// TestReloadOfStandardInput: the new config goes on where the old one stopped reading.
func TestReloadOfStandardInput(t *testing.T) {
	t.Parallel()
	config := func(v int) string {
		return fmt.Sprintf("log_level = %q\ntransform {\n  use \"js\" {\n    script = \"function main(x) { x.Data += ' v%d'; return x }\"\n  }\n  worker_pool = 1\n}\n%s", []string{"info", "debug"}[v%2], v, toFiles)
	}
	p := launch(t, weir(t, files(t, "p.hcl", config(1)), "run", "p.hcl"))
	var want []string
	for v := 1; v <= 4; v++ {
		for n := range 3 {
			line := fmt.Sprintf("%d", v*10+n)
			if _, err := io.WriteString(p.in, line+"\n"); err != nil {
				t.Fatal(err)
			}
			want = append(want, fmt.Sprintf("%s v%d", line, v))
		}
		eventually(t, "what was sent", func() bool { return len(split(read(t, filepath.Join(p.dir, "out")))) == len(want) })
		if v < 4 {
			write(t, filepath.Join(p.dir, "p.hcl"), config(v+1))
			p.signal(syscall.SIGHUP)
			p.until(p.err, fmt.Sprintf(`(?s)(the new config runs.*){%d}`, v))
		}
	}
	if err := p.in.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	p.exits(0)
	same(t, split(read(t, filepath.Join(p.dir, "out"))), want)
}
