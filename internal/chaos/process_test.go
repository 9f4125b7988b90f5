//go:build unix

package chaos

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/addresstest"
	_ "github.com/weirdata/weir/internal/cli" // so that go test runs this anew when the product changes
)

// binary builds weir once.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "weir-chaos-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "weir")
	out, err := exec.Command("go", "build", "-o", path, "github.com/weirdata/weir/cmd/weir").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build weir: %w: %s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := binary(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path)) // a leftover in the temporary directory at worst
	}
	os.Exit(code)
}

// example is where the quickstart is.
const example = "../../examples/quickstart"

// quickstart is the quickstart on data and ports of its own.
type quickstart struct {
	t      *testing.T
	binary string
	out    string
	ports  map[string]int // by environment variable
	env    []string       // further variables
	config []string       // files
	log    *os.File
}

func newQuickstart(t *testing.T) *quickstart {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	q := &quickstart{t: t, binary: path, out: t.TempDir(), ports: map[string]int{}}
	for _, name := range []string{"GATEWAY_PORT", "ADMIN_PORT", "WEBHOOK_PORT", "ORDERS_PORT", "LESSONS_PORT", "STREAM_PORT"} {
		q.ports[name] = addresstest.Port(t)
	}
	files, err := filepath.Glob(filepath.Join(example, "[0-4]-*.hcl"))
	if err != nil || len(files) != 5 {
		t.Fatalf("the quickstart has the files %v besides its traffic, want five: %v", files, err)
	}
	q.config = append(files, filepath.Join("testdata", "feeds.hcl"))
	workspace, err := os.ReadFile(filepath.Join(example, "workspaceConfig.json"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer(":8082/", fmt.Sprintf(":%d/", q.ports["WEBHOOK_PORT"])).Replace(string(workspace))
	if err := os.WriteFile(q.path("workspaceConfig.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if q.log, err = os.Create(q.path("log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.log.Close() })
	return q
}

func (q *quickstart) path(elem ...string) string {
	return filepath.Join(append([]string{q.out}, elem...)...)
}

// at is a URL of one of the ports.
func (q *quickstart) at(port, path string) string {
	return fmt.Sprintf("http://127.0.0.1:%d%s", q.ports[port], path)
}

func (q *quickstart) command(args ...string) *exec.Cmd {
	c := exec.Command(q.binary, args...)
	c.Env = append(os.Environ(), "OUT="+q.out, "WORKSPACE_CONFIG="+q.path("workspaceConfig.json"))
	for name, port := range q.ports {
		c.Env = append(c.Env, fmt.Sprintf("%s=%d", name, port))
	}
	c.Env = append(c.Env, q.env...)
	return c
}

// process is one run of the quickstart.
type process struct {
	q     *quickstart
	cmd   *exec.Cmd
	ended chan struct{}
	err   error // valid after ended is closed
}

func (q *quickstart) start() *process {
	q.t.Helper()
	c := q.command(append([]string{"run"}, q.config...)...)
	c.Stdout, c.Stderr = q.log, q.log
	if err := c.Start(); err != nil {
		q.t.Fatal(err)
	}
	p := &process{q: q, cmd: c, ended: make(chan struct{})}
	go func() {
		p.err = c.Wait()
		close(p.ended)
	}()
	q.t.Cleanup(func() {
		_ = c.Process.Kill() // it has ended, unless the test failed
		<-p.ended
	})
	return p
}

// kill ends the process as the kernel would for want of memory.
func (p *process) kill() {
	p.q.t.Helper()
	p.alive()
	if err := p.cmd.Process.Kill(); err != nil {
		p.q.t.Fatal(err)
	}
	<-p.ended
	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		p.q.t.Fatalf("the process ended by itself: %v\n%s", p.err, p.q.tail())
	}
}

// alive fails the test when the process has ended.
func (p *process) alive() {
	p.q.t.Helper()
	select {
	case <-p.ended:
		p.q.t.Fatalf("the process ended by itself: %v\n%s", p.err, p.q.tail())
	default:
	}
}

// stop ends the process as Ctrl-C does: what it has read is settled, and it says so.
func (p *process) stop() {
	p.q.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		p.q.t.Fatal(err)
	}
	select {
	case <-p.ended:
		if p.err != nil {
			p.q.t.Errorf("the process did not end cleanly: %v\n%s", p.err, p.q.tail())
		}
	case <-time.After(patience):
		p.q.t.Errorf("the process did not end within %s\n%s", patience, p.q.tail())
	}
}

// ready asks the admin server.
func (q *quickstart) ready() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, q.at("ADMIN_PORT", "/readyz"), nil)
	if err != nil {
		q.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close() // the status is the answer
	return resp.StatusCode == http.StatusOK
}

// untilReady waits until every pipeline runs.
func (q *quickstart) untilReady(p *process) {
	q.t.Helper()
	deadline := time.Now().Add(patience)
	for !q.ready() {
		p.alive()
		if time.Now().After(deadline) {
			q.t.Fatalf("the process was not ready after %s\n%s", patience, q.tail())
		}
		pause(context.Background(), 20*time.Millisecond)
	}
}

// waits lets life pass and reports whether the process was ready before the end of it.
func (q *quickstart) waits(p *process, life time.Duration) bool {
	q.t.Helper()
	pause(context.Background(), life)
	p.alive()
	return q.ready()
}

// tail is the end of what the process has logged.
func (q *quickstart) tail() string {
	text, err := os.ReadFile(q.path("log"))
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-4000):])
}

// ask runs another command of weir and returns what it prints.
func (q *quickstart) ask(args ...string) (string, error) {
	for _, f := range q.config {
		args = append(args, "--config", f)
	}
	out, err := q.command(args...).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("weir %s: %w: %s", strings.Join(args[:3], " "), err, exit.Stderr)
	}
	return string(out), err
}
