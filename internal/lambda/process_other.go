//go:build !linux && !windows

package lambda

import "syscall"

// attributes keep signals of the terminal from the process: it is ended when its work is,
// and by the guardian when this process was killed.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
