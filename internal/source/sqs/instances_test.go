package sqssource_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/enginetest"
)

// start starts an instance as a process.
func start(t *testing.T, name, endpoint, file string) (*exec.Cmd, <-chan error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self, "-test.run=^$")
	c.Env = append(os.Environ(), instance+"="+name, instance+"_ENDPOINT="+endpoint, instance+"_FILE="+file)
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	t.Cleanup(func() { _ = c.Process.Kill() })
	return c, ended
}

// line is one line of the shared file.
type line struct{ pid, group, body string }

func linesOf(t *testing.T, file string) (all []line) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		if f := strings.SplitN(s.Text(), " ", 3); len(f) == 3 {
			all = append(all, line{f[0], f[1], f[2]})
		}
	}
	return all
}

// TestInstanceKilled: three processes share a queue, one is killed and another begins later. All
// messages arrive; what arrives twice was in flight in the one that was killed; groups keep their
// order; and those that are stopped leave nothing hidden.
func TestInstanceKilled(t *testing.T) {
	t.Parallel()
	endpoint := enginetest.SQS(t)
	for _, fifo := range []bool{false, true} {
		t.Run(fmt.Sprint("FIFO ", fifo), func(t *testing.T) {
			t.Parallel()
			c := other(t, endpoint)
			name, attributes, groups, total := unique("killed"), map[string]string{}, 0, 1500
			if fifo {
				attributes["FifoQueue"], groups, total = "true", 30, 600
			}
			url := queue(t, c, name, attributes)
			if fifo {
				name += ".fifo"
			}
			var payloads [][]byte
			for i := range total {
				payloads = append(payloads, fmt.Appendf(nil, "%05d", i))
			}
			sends(t, c, url, groups, payloads)
			file := filepath.Join(t.TempDir(), "lines")
			first, firstEnded := start(t, name, endpoint, file)
			second, secondEnded := start(t, name, endpoint, file)
			waitUntil(t, "both instances deliver", func() bool {
				by := map[string]int{}
				for _, l := range linesOf(t, file) {
					by[l.pid]++
				}
				return by[fmt.Sprint(first.Process.Pid)] > 20 && by[fmt.Sprint(second.Process.Pid)] > 20
			})
			if err := first.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			<-firstEnded
			third, thirdEnded := start(t, name, endpoint, file)
			waitUntil(t, "everything is delivered", func() bool { return left(t, c, url) == 0 })
			sends(t, c, url, groups, [][]byte{[]byte("last")})
			for who, p := range map[*exec.Cmd]<-chan error{second: secondEnded, third: thirdEnded} {
				if err := who.Process.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
				if err := <-p; err != nil {
					t.Errorf("an instance that was stopped: %v", err)
				}
			}
			count, twice := map[string]int{}, 0
			before := map[string]string{}
			for _, l := range linesOf(t, file) {
				if count[l.body]++; count[l.body] > 1 {
					twice++
					continue
				}
				if fifo && l.body < before[l.group] {
					t.Errorf("%s of %s came after %s", l.body, l.group, before[l.group])
				}
				before[l.group] = l.body
			}
			for _, p := range payloads {
				if count[string(p)] == 0 {
					t.Errorf("%s is lost", p)
				}
			}
			if twice > inFlight {
				t.Errorf("%d came twice: at most %d were in flight", twice, inFlight)
			}
			if out := count["last"]; out == 0 {
				if n := len(receiveNow(t, c, url)); n != 1 {
					t.Errorf("the message that no instance has delivered is hidden: %d are visible", n)
				}
			}
		})
	}
}

func waitUntil(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(4 * time.Minute); !f(); {
		if time.Now().After(end) {
			t.Fatalf("it did not happen in time: %s", what)
		}
		<-time.After(50 * time.Millisecond) // another process tells nothing
	}
}
