//go:build !windows

package lambda

import (
	"os"
	"syscall"
)

func terminate(p *os.Process) error { return syscall.Kill(-p.Pid, syscall.SIGTERM) }

// killAll ends the process and what it has started, which is in its process group.
func killAll(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGKILL) } // they may have ended
