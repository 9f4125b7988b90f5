// Command testrun runs the tests against real engines.
//
//	go run ./internal/testrun [go test arguments]
//
// It finds or installs each engine of package enginetest, starts it on a free loopback
// port, hands its address to the tests by environment variable, and runs `go test` with
// the arguments it was given; ./... stands for the packages when none is named. An engine
// whose variable is set already is used as it is and not stopped. With -race and no C
// compiler, which the race detector needs, the run is listed as not run.
//
// At the end it prints the engines used with their versions, what was not run and how to
// get what it needs, and the closing line of the run. The exit status is go test's.
// With CI=true what cannot run is a failure.
//
// Whatever ends the run (its end, an interrupt, the end of the process that started it,
// SIGKILL) ends the engines too.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/weirdata/weir/internal/enginetest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	ctx = endWithParent(ctx)
	code := run(ctx, os.Args[1:], enginetest.Engines(), os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// endWithParent is ctx, cancelled when the process that started this one has ended: `go
// run` passes on an interrupt, but not a SIGTERM or SIGKILL.
func endWithParent(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	parent := os.Getppid()
	tick := time.NewTicker(time.Second)
	go func() { // ends with the process
		for range tick.C {
			if os.Getppid() != parent {
				cancel(errors.New("the process that started the run has ended"))
				return
			}
		}
	}()
	return ctx
}

// used is an engine that the tests have the use of.
type used struct {
	enginetest.Engine
	address, version string
	running          *enginetest.Running // nil when it was there before
}

// missing is an engine, or a tool, that the tests have to do without.
type missing struct {
	name, get string
	why       error
}

func run(ctx context.Context, args []string, engines []enginetest.Engine, stdout, stderr io.Writer) int {
	args = withPackages(args)
	say := func(format string, a ...any) { fmt.Fprintf(stderr, "testrun: "+format+"\n", a...) }

	if m := raceDetector(ctx, args, stderr); m != nil {
		say("go test %s was not run: %v; %s", strings.Join(args, " "), m.why, m.get)
		if enginetest.InCI() {
			return 1
		}
		return 0
	}

	dir, err := os.MkdirTemp("", "weir-testrun-")
	if err != nil {
		say("make a directory for the run: %v", err)
		return 1
	}
	defer func() {
		if err := os.RemoveAll(dir); err != nil {
			say("remove the run's directory: %v", err)
		}
	}()
	list := filepath.Join(dir, "not-run")
	env := append(os.Environ(), enginetest.NotRunVariable+"="+list)

	var us []used
	var ms []missing
	defer func() {
		for _, u := range us {
			if u.running == nil {
				continue
			}
			if err := u.running.Stop(); err != nil {
				say("stop %s: %v", u.Name, err)
			}
		}
	}()
	for _, e := range engines {
		u, err := obtain(ctx, e, stderr)
		if err != nil {
			ms = append(ms, missing{name: e.Name, get: e.Get, why: err})
			continue
		}
		us = append(us, u)
		env = append(env, e.Variable+"="+u.address)
		say("%s %s", u.Name, u.version)
	}

	result := &tally{to: stdout}
	code := goTest(ctx, args, env, result, stderr)
	result.flush()
	notRun, err := enginetest.ReadNotRun(list)
	if err != nil {
		say("%v", err)
		code = max(code, 1)
	}
	report(stdout, us, ms, notRun)
	fmt.Fprintln(stdout, result.closing(args, code, context.Cause(ctx)))
	return code
}

// withPackages puts ./... in front when args name no packages.
func withPackages(args []string) []string {
	named := slices.ContainsFunc(args, func(a string) bool {
		return a == "." || a == "all" || strings.HasPrefix(a, "./") || strings.HasPrefix(a, "github.com/weirdata/weir")
	})
	if named {
		return args
	}
	return append([]string{"./..."}, args...)
}

// obtain finds a running engine, starts one, or installs and starts one.
func obtain(ctx context.Context, e enginetest.Engine, log io.Writer) (used, error) {
	u := used{Engine: e, address: os.Getenv(e.Variable)}
	if u.address == "" {
		r, err := e.Start(ctx)
		if errors.Is(err, enginetest.ErrMissing) {
			fmt.Fprintf(log, "testrun: %s is not installed, installing it\n", e.Name)
			if ierr := e.Install(ctx, log); ierr != nil {
				return used{}, fmt.Errorf("%w; install it: %w", err, ierr)
			}
			r, err = e.Start(ctx)
		}
		if err != nil {
			return used{}, err
		}
		u.running, u.address = r, r.Address
	}
	v, err := e.Version(ctx, u.address)
	if err != nil {
		if u.running != nil {
			err = errors.Join(err, u.running.Stop())
		}
		return used{}, err
	}
	u.version = v
	return u, nil
}

// report prints what the tests ran against, and what they could not run.
func report(w io.Writer, us []used, ms []missing, notRun []enginetest.NotRun) {
	fmt.Fprintln(w)
	for _, u := range us {
		origin := "started for the run"
		if u.running == nil {
			origin = "named by " + u.Variable
		}
		fmt.Fprintf(w, "engine   %s %s (%s)\n", u.Name, u.version, origin)
	}
	for _, m := range ms {
		fmt.Fprintf(w, "missing  %s: %v\n", m.name, m.why)
		fmt.Fprintf(w, "         %s\n", m.get)
	}
	wd, err := os.Getwd()
	for _, n := range notRun {
		dir := n.Dir
		if rel, rerr := filepath.Rel(wd, n.Dir); err == nil && rerr == nil {
			dir = rel
		}
		fmt.Fprintf(w, "not run  %s %s (needs %s)\n", dir, n.Test, n.Engine)
	}
}
