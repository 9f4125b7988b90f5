package lambda

import (
	"os"
	"os/exec"
	"syscall"
)

// detach keeps signals of the console from the process: it is ended when its work is.
func detach(c *exec.Cmd) {
	c.SysProcAttr = &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

// terminate ends the process: Windows has no signal that asks for it.
func terminate(p *os.Process) error { return p.Kill() }
