//go:build !windows

package lambda

import (
	"os"
	"os/exec"
	"syscall"
)

// detach keeps signals of the terminal from the process: it is ended when its work is.
func detach(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

func terminate(p *os.Process) error { return p.Signal(syscall.SIGTERM) }
