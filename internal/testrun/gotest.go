package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/enginetest"
)

// interruptGrace is how long go test may take to end after an interrupt.
const interruptGrace = 10 * time.Second

// goTest runs go test in a process group of its own, so that an interrupt reaches the
// tests too, and returns its exit status.
func goTest(ctx context.Context, args, env []string, stdout, stderr io.Writer) int {
	c := exec.CommandContext(ctx, "go", append([]string{"test"}, args...)...)
	c.Env, c.Stdout, c.Stderr = env, stdout, stderr
	group(c)
	c.WaitDelay = interruptGrace
	err := c.Run()
	if err == nil {
		return 0
	}
	if ctx.Err() != nil {
		endGroup(c)
		return 130
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() > 0 {
		return exit.ExitCode()
	}
	fmt.Fprintf(stderr, "testrun: run go test: %v\n", err)
	return 1
}

// raceDetector says what keeps a run with -race from running: the race detector needs
// a C compiler. Nil means nothing does.
func raceDetector(ctx context.Context, args []string, log io.Writer) *missing {
	if !slices.ContainsFunc(args, func(a string) bool { return a == "-race" || a == "-race=true" }) {
		return nil
	}
	compiler := func() error {
		out, err := exec.CommandContext(ctx, "go", "env", "CC").Output()
		if err != nil {
			return fmt.Errorf("ask go for its C compiler: %w", err)
		}
		fields := strings.Fields(string(out))
		if len(fields) == 0 {
			return errors.New("go knows of no C compiler")
		}
		_, err = exec.LookPath(fields[0])
		return err
	}
	err := compiler()
	if err == nil {
		return nil
	}
	if ierr := enginetest.InstallCompiler(ctx, log); ierr != nil {
		err = fmt.Errorf("%w; install it: %w", err, ierr)
	} else if err = compiler(); err == nil {
		return nil
	}
	return &missing{name: "race detector", get: "install a C compiler (Debian and Ubuntu: apt-get install gcc libc6-dev)", why: err}
}

// tally passes on what go test prints and counts its packages and failed tests.
type tally struct {
	to      io.Writer
	partial []byte
	ok      int
	failed  []string // packages, each followed by its failed tests
	tests   []string // failed tests of the package that go test is printing
}

func (t *tally) Write(p []byte) (int, error) {
	t.partial = append(t.partial, p...)
	for {
		i := bytes.IndexByte(t.partial, '\n')
		if i < 0 {
			break
		}
		t.line(string(t.partial[:i]))
		t.partial = t.partial[i+1:]
	}
	return t.to.Write(p)
}

// flush counts a last line that has no end.
func (t *tally) flush() {
	t.line(string(t.partial))
	t.partial = nil
}

func (t *tally) line(l string) {
	trimmed := strings.TrimLeft(l, " ")
	switch {
	case strings.HasPrefix(l, "ok  \t"):
		t.ok++
		t.tests = nil
	case strings.HasPrefix(l, "FAIL\t"):
		// FAIL	github.com/weirdata/weir/internal/event	0.123s, or [build failed]
		t.failed = append(t.failed, "FAIL "+strings.Join(strings.Fields(l)[1:], " "))
		t.failed = append(t.failed, t.tests...)
		t.tests = nil
	case strings.HasPrefix(trimmed, "--- FAIL: "):
		name, _, _ := strings.Cut(strings.TrimPrefix(trimmed, "--- FAIL: "), " ")
		t.tests = append(t.tests, "     "+name)
	}
}

// closing is the last line of the run: what failed, and how many packages passed.
func (t *tally) closing(args []string, code int, interrupted error) string {
	var b strings.Builder
	packages := 0
	for _, f := range t.failed {
		if strings.HasPrefix(f, "FAIL ") {
			packages++
		}
		b.WriteString(f + "\n")
	}
	verdict := "ok"
	if code != 0 {
		verdict = "FAIL"
	}
	fmt.Fprintf(&b, "%s: go test %s: packages: %d passed, %d failed", verdict, strings.Join(args, " "), t.ok, packages)
	if interrupted != nil {
		fmt.Fprintf(&b, "; interrupted: %v", interrupted)
	}
	return b.String()
}
