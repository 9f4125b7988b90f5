package lambda

import (
	"log/slog"
	"os"
	"syscall"
)

// attributes keep signals of the console from the process: it is ended when its work is. A
// process whose server has gone, because this process was killed, is told so when it asks
// again; the official runtime libraries end then.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

// terminate ends the process: Windows has no signal that asks for it.
func terminate(p *os.Process) error { return p.Kill() }

func killAll(p *os.Process) { _ = p.Kill() } // it may have ended

// guard has nothing to do here: what a handler has started outlives this process if it is killed.
var guard guardian

type guardian struct{}

func (guardian) watch(int, string, *slog.Logger) {}
func (guardian) forget(int)                      {}
