//go:build !linux && !windows

package lambda

import "syscall"

// attributes keep signals of the terminal from the process: it is ended when its work is. A
// process whose server has gone, because this process was killed, is told so when it asks
// again; the official runtime libraries end then.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
