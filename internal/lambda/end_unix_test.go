//go:build unix

package lambda_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/lambda"
)

// endGuardian ends who guards the handlers.
var endGuardian = lambda.EndGuardian

// gone waits until there is no process of the number, which is not a child of this one.
func gone(t *testing.T, what string, pid int) {
	t.Helper()
	tick, patience := time.NewTicker(10*time.Millisecond), time.After(patience)
	defer tick.Stop()
	for runs(pid) {
		select {
		case <-tick.C:
		case <-patience:
			t.Fatalf("%s, process %d, is still there", what, pid)
		}
	}
}

// runs reports whether a process runs; one that has ended and that nobody has asked about
// does not.
func runs(pid int) bool {
	if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return runtime.GOOS != "linux" // where there is no /proc, the signal has answered
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z")
}

// TestNothingOutlives: what a handler has started is ended with it, when it is closed, when
// it takes too long and when it exits.
func TestNothingOutlives(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		end  func(f *lambda.Function) error
	}{
		{"closed", func(f *lambda.Function) error { return f.Close(context.Background()) }},
		{"late", func(f *lambda.Function) error {
			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer cancel()
			if _, err := f.Invoke(ctx, []byte(`{"country_code":"SLOW"}`)); !errors.Is(err, context.DeadlineExceeded) {
				return err
			}
			return nil
		}},
		{"exited", func(f *lambda.Function) error {
			var failed *lambda.Error
			if _, err := f.Invoke(context.Background(), []byte(`{"country_code":"EXIT"}`)); !errors.As(err, &failed) {
				return err
			}
			return nil
		}},
	} {
		kinds := []string{"CHILD"}
		if runtime.GOOS == "linux" {
			kinds = append(kinds, "APART")
		}
		for _, kind := range kinds {
			t.Run(row.name+" "+kind, func(t *testing.T) {
				t.Parallel()
				f, _ := open(t, nil)
				a := invoke(t, f, fmt.Sprintf(`{"country_code":%q}`, kind))
				child, err := strconv.Atoi(a.ID)
				if err != nil || !runs(child) || !runs(a.PID) {
					t.Fatalf("the handler %d says it has the child %q, which does not run", a.PID, a.ID)
				}
				if err := row.end(f); err != nil {
					t.Fatal(err)
				}
				gone(t, "the handler", a.PID)
				gone(t, "its child", child)
			})
		}
	}
}

// TestThreads: a process stays while the thread that caused its start ends.
func TestThreads(t *testing.T) {
	t.Parallel()
	f, _ := open(t, nil)
	first := make(chan answer)
	go func() {
		runtime.LockOSThread() // and never unlocks: the thread ends with the goroutine
		first <- invoke(t, f, `{}`)
	}()
	before := <-first
	for range 20 {
		done := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(done)
		}()
		<-done
	}
	if after := invoke(t, f, `{}`); after.PID != before.PID {
		t.Errorf("process %d was replaced by %d", before.PID, after.PID)
	}
}

// TestKilled: when this process is killed, its handlers end, at work or not, with what they have
// started, in a session of its own too where that can be known.
func TestKilled(t *testing.T) {
	t.Parallel()
	program, err := bootstrap()
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{"idle", "busy", "CHILD", "APART"} {
		if mode == "APART" && runtime.GOOS != "linux" {
			continue
		}
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			c := exec.Command(os.Args[0])
			c.Env = append(os.Environ(), parentVariable+"="+mode, "WEIR_LAMBDA_PROGRAM="+program)
			c.Stderr = os.Stderr
			in, err := c.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			out, err := c.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			pid, child, last := 0, 0, map[string]string{"idle": "pid ", "busy": "order long", "CHILD": "child ", "APART": "child "}[mode]
			for lines := bufio.NewScanner(out); ; {
				if !lines.Scan() {
					t.Fatalf("the parent does not say %q: %v", last, lines.Err())
				}
				if text, ok := strings.CutPrefix(lines.Text(), "pid "); ok {
					if pid, err = strconv.Atoi(text); err != nil {
						t.Fatal(err)
					}
				}
				if text, ok := strings.CutPrefix(lines.Text(), "child "); ok {
					if child, err = strconv.Atoi(text); err != nil || !runs(child) {
						t.Fatalf("the handler's child %q does not run", text)
					}
				}
				if strings.Contains(lines.Text(), last) {
					break
				}
			}
			if pid == 0 || !runs(pid) {
				t.Fatalf("the handler %d does not run", pid)
			}
			if err := c.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = c.Wait() // it was killed
			gone(t, "the handler", pid)
			if child != 0 {
				gone(t, "its child", child)
			}
		})
	}
}

// TestGuardianEnds: who guards the handlers is started again when somebody has ended it, and then
// knows those of before.
func TestGuardianEnds(t *testing.T) {
	t.Parallel()
	program, err := bootstrap()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), parentVariable+"=guardian", "WEIR_LAMBDA_PROGRAM="+program)
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	var children []int
	for lines := bufio.NewScanner(out); len(children) < 2 && lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), "child "); ok {
			pid, err := strconv.Atoi(text)
			if err != nil || !runs(pid) {
				t.Fatalf("the handler's child %q does not run", text)
			}
			children = append(children, pid)
		}
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait() // it was killed
	if len(children) != 2 {
		t.Fatalf("the parent says of %d children, want two", len(children))
	}
	for _, pid := range children {
		gone(t, "a child", pid)
	}
}
