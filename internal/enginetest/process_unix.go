//go:build unix

package enginetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Running is an engine that this process started.
type Running struct {
	Address string // what the engine's environment variable should hold

	guard *exec.Cmd
	hold  *os.File // write end of the guardian's standard input: the engine lives as long as it is open
	alive *os.File // read end of the guardian's standard output: ends when the guardian has
	log   *os.File // what the engine said
}

// guardian runs the command line in $3 and following, and sends it the signal $1 when
// its own standard input ends. The directory $2 is removed when both have ended: the
// engine, and the interest in it. Only the shell itself holds standard output, and lets go
// of it when the engine has ended, so that whoever reads the other end is told.
const guardian = `
signal=$1 dir=$2
shift 2
exec 3<&0 4>&1 >&2
"$@" </dev/null 3<&- 4>&- &
engine=$!
{ cat <&3; kill -"$signal" "$engine"; } >/dev/null 2>&1 4>&- &
watch=$!
wait "$engine"
kill "$watch" 2>/dev/null
exec 4>&-
cat <&3 >/dev/null
cd / && rm -rf "$dir"
`

// stopTimeout is how long an engine may take to stop before it is killed.
const stopTimeout = 20 * time.Second

// workspace is a directory for an engine and the user that the engine runs as.
type workspace struct {
	dir  string
	home string // of the user that programs run as; dir when empty
	attr syscall.SysProcAttr
}

// newWorkspace makes a temporary directory that belongs to the user engines run as.
func newWorkspace(prefix string) (*workspace, error) {
	dir, err := os.MkdirTemp("", prefix)
	if err != nil {
		return nil, fmt.Errorf("make a directory for an engine: %w", err)
	}
	w := &workspace{dir: dir, attr: syscall.SysProcAttr{Setpgid: true}}
	if os.Geteuid() != 0 {
		return w, nil
	}
	c, err := unprivileged()
	if err == nil {
		w.attr.Credential = c
		err = os.Chown(dir, int(c.Uid), int(c.Gid))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("give up root for an engine: %w", err), w.remove())
	}
	return w, nil
}

// unprivileged is the user a root process starts engines as.
func unprivileged() (*syscall.Credential, error) {
	var errs []error
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("read the uid of %s: %w", name, err)
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("read the gid of %s: %w", name, err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.Join(errs...)
}

func (w *workspace) remove() error { return os.RemoveAll(w.dir) }

// own makes c a process of the workspace: its user, its directory, its process group.
func (w *workspace) own(c *exec.Cmd) {
	attr := w.attr
	c.Dir, c.SysProcAttr = w.dir, &attr
	c.Env = append(os.Environ(), "HOME="+cmp.Or(w.home, w.dir), "LC_ALL=C")
}

// unowned lets what is started in w run as the user of the tests, and with his home folder.
func (w *workspace) unowned() { w.attr.Credential = nil; w.home = os.Getenv("HOME") }

// run runs a program of the engine to its end.
func (w *workspace) run(ctx context.Context, program string, args ...string) error {
	c := exec.CommandContext(ctx, program, args...)
	w.own(c)
	out, err := c.CombinedOutput()
	if err != nil {
		return fmt.Errorf("run %s: %w: %s", filepath.Base(program), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// start starts the engine's server under a guardian, which owns the workspace from then
// on. No goroutine is left behind, so that leak checks stay exact.
func (w *workspace) start(signal, program string, args ...string) (*Running, error) {
	log, err := os.OpenFile(filepath.Join(w.dir, "log"), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the log of an engine: %w", err)
	}
	stdin, hold, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	alive, stdout, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, log.Close(), stdin.Close(), hold.Close())
	}
	line := append([]string{"-c", guardian, "guardian", signal, w.dir, program}, args...)
	g := exec.Command("/bin/sh", line...)
	w.own(g)
	g.Stdin, g.Stdout, g.Stderr = stdin, stdout, log
	err = g.Start()
	err = errors.Join(err, stdin.Close(), stdout.Close())
	r := &Running{guard: g, hold: hold, alive: alive, log: log}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", filepath.Base(program), err), r.close())
	}
	return r, nil
}

// Stop stops the engine and removes its files. A second Stop does nothing.
func (r *Running) Stop() error {
	if r.guard == nil { // an engine without a process of its own
		return nil
	}
	if r.guard.Process == nil || r.guard.ProcessState != nil {
		return nil
	}
	if err := r.hold.Close(); err != nil {
		return fmt.Errorf("let go of an engine: %w", err)
	}
	var err error
	if !r.endedWithin(stopTimeout) {
		err = errors.Join(fmt.Errorf("an engine did not stop within %s and was killed: %s", stopTimeout, r.said()),
			syscall.Kill(-r.guard.Process.Pid, syscall.SIGKILL), os.RemoveAll(r.guard.Dir))
	}
	// The guardian's exit status is that of its own cleaning up; the engine's is not passed on.
	if werr := r.guard.Wait(); err == nil && werr != nil {
		err = fmt.Errorf("clean up after an engine: %w: %s", werr, r.said())
	}
	return errors.Join(err, r.close())
}

func (r *Running) close() error {
	err := errors.Join(r.alive.Close(), r.log.Close())
	if herr := r.hold.Close(); !errors.Is(herr, os.ErrClosed) {
		err = errors.Join(err, herr)
	}
	return err
}

// endedWithin waits at most d for the guardian to end, and reports whether it has.
func (r *Running) endedWithin(d time.Duration) bool {
	if err := r.alive.SetReadDeadline(time.Now().Add(d)); err != nil {
		return true
	}
	_, err := r.alive.Read(make([]byte, 1))
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

// said is the end of what the engine wrote to its log, which outlives its directory.
func (r *Running) said() string {
	const most = 4 << 10
	info, err := r.log.Stat()
	if err != nil {
		return err.Error()
	}
	b, err := io.ReadAll(io.NewSectionReader(r.log, max(0, info.Size()-most), most))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b))
}
