//go:build unix

package examples

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/addresstest"
)

// demo is the quickstart, run as `make run` does, on ports and data of its own.
type demo struct {
	t    *testing.T
	env  []string
	out  string
	cmd  *exec.Cmd
	said *locked
}

func newDemo(t *testing.T) *demo {
	t.Helper()
	binary, err := weir()
	if err != nil {
		t.Fatal(err)
	}
	d := &demo{t: t, out: t.TempDir()}
	d.env = append(os.Environ(), "WEIR="+binary, "OUT="+d.out)
	for _, name := range []string{"GATEWAY_PORT", "ADMIN_PORT", "WEBHOOK_PORT"} {
		d.env = append(d.env, fmt.Sprintf("%s=%d", name, addresstest.Port(t)))
	}
	return d
}

// start runs the script in a process group of its own, as a terminal does.
func (d *demo) start() {
	d.t.Helper()
	d.said = &locked{}
	c := exec.Command("quickstart/run.sh")
	c.Env, c.Stdout, c.Stderr = d.env, d.said, d.said
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.cmd = c
	d.t.Cleanup(func() {
		if c.ProcessState == nil {
			_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
			_ = c.Wait()
		}
	})
}

// interrupt is Ctrl-C; everything that was read is settled.
func (d *demo) interrupt() {
	d.t.Helper()
	if err := syscall.Kill(-d.cmd.Process.Pid, syscall.SIGINT); err != nil {
		d.t.Fatal(err)
	}
	if err := d.cmd.Wait(); err != nil {
		d.t.Errorf("the quickstart did not end cleanly: %v\n%s", err, d.said)
	}
}

func (d *demo) until(what string, done func() bool) {
	d.t.Helper()
	tick, patience := time.NewTicker(20*time.Millisecond), time.After(2*time.Minute)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-patience:
			d.t.Fatalf("%s: not within two minutes\n%s", what, d.said)
		}
	}
}

// has reports whether files that match a pattern below the data hold the text.
func (d *demo) has(pattern, text string) bool {
	names, _ := filepath.Glob(filepath.Join(d.out, pattern)) // the pattern is well formed
	for _, name := range names {
		data, _ := os.ReadFile(name) // one that is not there yet holds nothing
		if len(data) > 0 && strings.Contains(string(data), text) {
			return true
		}
	}
	return false
}

// delivered is how far each generator came.
func (d *demo) delivered() map[string]int {
	d.t.Helper()
	next := map[string]int{}
	names, err := filepath.Glob(filepath.Join(d.out, "positions", "*.json"))
	if err != nil || len(names) != 4 {
		d.t.Fatalf("there are the positions %v, want four: %v", names, err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			d.t.Fatal(err)
		}
		var p struct{ Next int }
		if err := json.Unmarshal(data, &p); err != nil {
			d.t.Fatal(err)
		}
		next[filepath.Base(name)] = p.Next
	}
	return next
}

// TestQuickstart runs it twice: all four jobs deliver, the command that it shows works, it
// stops cleanly, and the second run goes on where the first ended.
func TestQuickstart(t *testing.T) {
	t.Parallel()
	d := newDemo(t)
	d.start()
	shown := regexp.MustCompile(`curl -u (\w+): -d '([^']+)' (http\S+)`)
	d.until("where to look", func() bool { return shown.MatchString(d.said.String()) })
	curl := shown.FindStringSubmatch(d.said.String())
	d.until("an answer of the gateway", func() bool {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, curl[3], strings.NewReader(curl[2]))
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth(curl[1], "")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		answer, _ := io.ReadAll(resp.Body) // what is cut off is not ok
		return resp.StatusCode == http.StatusOK && strings.TrimSpace(string(answer)) == "ok"
	})
	for _, place := range [][2]string{{"files/webhook.jsonl", "Hello"}, {"files/archive.jsonl", "Hello"}, {"files/webhook.jsonl", "Product Viewed"}, {"files/archive.jsonl", `"page"`},
		{"orders/valid/*.json", "GB"}, {"orders/error/*.json", "ErrInvalidCountryCode"}, {"lake/year=*/*/*/*/*.parquet", "PAR1"}, {"files/replica.log", "HTTP/1.1"}} {
		d.until(place[0]+" with "+place[1], func() bool { return d.has(place[0], place[1]) })
	}
	d.interrupt()

	before := d.delivered()
	d.start()
	d.until("more of everything", func() bool {
		for name, next := range d.delivered() {
			if next <= before[name]+10 {
				return false
			}
		}
		return true
	})
	d.interrupt()

	seen := map[string]bool{}
	for _, line := range lines(t, filepath.Join(d.out, "files", "replica.log")) {
		if seen[line] {
			t.Errorf("twice in the replica: %s", line)
		}
		seen[line] = true
	}
	if len(seen) <= before["stream.json"]-1000 || len(seen) > d.delivered()["stream.json"] {
		t.Errorf("the replica has %d lines; the generator delivered %d in the first run and %d in both", len(seen), before["stream.json"], d.delivered()["stream.json"])
	}
	failed, err := filepath.Glob(filepath.Join(d.out, "failed", "*"))
	if err != nil || len(failed) == 0 {
		t.Errorf("the files for failures are not there: %v", err)
	}
	for _, name := range failed {
		if text := lines(t, name); len(text) > 0 {
			t.Errorf("%s: %s", filepath.Base(name), text[0])
		}
	}
}
