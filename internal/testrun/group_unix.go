//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// group puts c into a process group of its own and interrupts all of it on cancellation.
func group(c *exec.Cmd) {
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGINT) }
}

// endGroup kills what is left of c's process group.
func endGroup(c *exec.Cmd) {
	if c.Process != nil {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) // nothing left to kill is what we want
	}
}
