//go:build unix

package cli_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The acceptance tests run the binary as a user does: a config in a directory of its own,
// input, signals, and what comes out at each end.

// patience is how long something may take on a busy machine before it counts as stuck.
const patience = 3 * time.Minute

// output is what a process has written so far.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{} // closed and replaced by each write
}

func newOutput() *output { return &output{more: make(chan struct{})} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.more)
	o.more = make(chan struct{})
	return o.text.Write(p)
}

func (o *output) String() string { text, _ := o.now(); return text }

func (o *output) now() (string, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String(), o.more
}

// process is a running weir.
type process struct {
	t        *testing.T
	dir      string
	cmd      *exec.Cmd
	in       io.WriteCloser // nil unless launched with input of its own
	out, err *output
	ended    chan struct{}
	code     int
}

// files is a directory with the given files: name and content by turns.
func files(t *testing.T, nameAndContent ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(nameAndContent); i += 2 {
		write(t, filepath.Join(dir, nameAndContent[i]), nameAndContent[i+1])
	}
	return dir
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(data)
}

// weir is the command with arguments in dir. TestMain has put weir, which is this test binary,
// on the path.
func weir(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	c := exec.Command("weir", args...)
	c.Dir = dir
	c.Env = append(os.Environ(), "SNOWBRIDGE_CONFIG_FILE=")
	return c
}

// launch starts c. Without input of its own, c reads what is written to process.in.
func launch(t *testing.T, c *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, dir: c.Dir, cmd: c, out: newOutput(), err: newOutput(), ended: make(chan struct{})}
	if c.Stdin == nil {
		in, err := c.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		p.in = in
	}
	if c.Stdout == nil {
		c.Stdout = p.out
	}
	if c.Stderr == nil {
		c.Stderr = p.err
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = c.Wait() // the code says it
		p.code = c.ProcessState.ExitCode()
	}()
	t.Cleanup(func() {
		_ = c.Process.Kill()
		<-p.ended
	})
	return p
}

// run runs weir on a config with input and waits for its end.
func run(t *testing.T, dir, input string, args ...string) *process {
	t.Helper()
	c := weir(t, dir, args...)
	c.Stdin = strings.NewReader(input)
	p := launch(t, c)
	p.wait()
	return p
}

// wait returns the exit code.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.t.Fatalf("the process does not end\n%s", p.err)
	}
	return p.code
}

// exits checks the exit code.
func (p *process) exits(want int) {
	p.t.Helper()
	if got := p.wait(); got != want {
		p.t.Errorf("exit code %d, want %d\nstderr:\n%s", got, want, p.err)
	}
}

// stops asks the process to end, and checks its exit code.
func (p *process) stops(want int) {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	p.exits(want)
}

// peak is the most memory a process that has ended had resident, in bytes.
func peak(s *os.ProcessState) int64 {
	used := s.SysUsage().(*syscall.Rusage).Maxrss
	if runtime.GOOS == "darwin" {
		return used
	}
	return used << 10
}

// listening waits until somebody listens on an address, and does not answer, where it speaks HTTP,
// that nothing is taken yet: so does a door while its pipeline is being opened.
func listening(t *testing.T, address string) {
	t.Helper()
	c := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	eventually(t, "a listener on "+address, func() bool {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return false
		}
		_ = conn.Close()
		r, err := c.Get("http://" + address + "/")
		if err != nil {
			return true // it speaks something else
		}
		_ = r.Body.Close()
		return r.StatusCode != http.StatusServiceUnavailable
	})
}

// signal sends a signal.
func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// until waits for pattern in what o shows and returns its submatches.
func (p *process) until(o *output, pattern string) []string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	late, ended := time.After(patience), p.ended
	for {
		text, more := o.now()
		if m := re.FindStringSubmatch(text); m != nil {
			return m
		}
		select {
		case <-more:
		case <-ended: // what it wrote last may still be on its way
			late, ended = time.After(30*time.Second), nil
		case <-late:
			p.t.Fatalf("%s was not seen in:\n%s\nstderr:\n%s", pattern, text, p.err)
		}
	}
}

// eventually waits for ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(patience); !ok(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// split is the lines of a text.
func split(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}
