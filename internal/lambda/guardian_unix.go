//go:build unix

package lambda

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
)

// guard is the guardian of this process.
var guard guardian

// guardian is a process that outlives this one, when it is killed, for as long as it takes to end
// what the handlers have started: the kernel ends the handlers themselves on Linux, and nothing
// elsewhere. It is told which handlers there are, and does its work when nobody can tell it more.
// It is a shell: a program of ours would have to be this one, which may be replaced on disk while
// it runs.
type guardian struct {
	mu       sync.Mutex
	cmd      *exec.Cmd
	in       *os.File
	handlers map[int]string // the address in the environment, by process group
	without  bool           // it cannot be started
}

// guardianScript keeps a list of "group address" and ends, when its input does, the groups and, where there
// is a /proc, what has left them.
const guardianScript = `
trap '' INT TERM HUP QUIT
list=
while read -r what group api; do
	kept=
	for one in $list; do
		[ "${one%%@*}" = "$group" ] || kept="$kept $one"
	done
	list=$kept
	[ "$what" = watch ] && list="$list $group@$api"
done
for one in $list; do
	kill -9 -- "-${one%%@*}"
done
for one in $list; do
	for file in /proc/[0-9]*/environ; do
		if tr '\0' '\n' <"$file" | grep -qxF "$mark=${one#*@}"; then
			pid=${file#/proc/}
			kill -9 "${pid%/environ}"
		fi
	done
done
`

// watch has what a handler starts ended when this process is killed.
func (g *guardian) watch(pid int, api string, log *slog.Logger) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.handlers == nil {
		g.handlers = map[int]string{}
	}
	g.handlers[pid] = api
	if g.cmd != nil && g.say("watch", pid, api) == nil {
		return
	}
	if g.without {
		return
	}
	if err := g.start(); err != nil {
		g.without = true
		if os.Getpid() != 1 { // of a container whose first process is killed, nothing is left
			log.Warn("what handlers start may outlive this process if it is killed: the shell that would end it cannot be started", "error", err)
		}
	}
}

// forget says that a handler has ended, with all that it has started.
func (g *guardian) forget(pid int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.handlers, pid)
	if g.cmd != nil {
		_ = g.say("forget", pid, "") // one that has gone is started again with the next handler
	}
}

func (g *guardian) say(what string, pid int, api string) error {
	_, err := fmt.Fprintf(g.in, "%s %d %s\n", what, pid, api)
	return err
}

// start starts the guardian, or another one when somebody has ended it.
func (g *guardian) start() error {
	if g.cmd != nil {
		_ = g.in.Close()
		_ = g.cmd.Process.Kill() // it takes no words any more
		_ = g.cmd.Wait()
		g.cmd = nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	c := exec.CommandContext(context.Background(), "/bin/sh", "-c", guardianScript)
	c.Env = []string{"mark=" + apiVariable, "PATH=" + os.Getenv("PATH")}
	c.Stdin, c.Dir = r, "/"
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(); err != nil {
		_ = w.Close()
		return err
	}
	g.cmd, g.in = c, w
	var all strings.Builder
	for pid, api := range g.handlers {
		fmt.Fprintf(&all, "watch %d %s\n", pid, api)
	}
	_, err = g.in.WriteString(all.String())
	return err
}
