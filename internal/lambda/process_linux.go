package lambda

import "syscall"

// attributes keep signals of the terminal from the process, which is ended when its work is,
// and end it with this process, however that ends. What the process itself has started is
// ended with it by this process, but not by the kernel: see guardian.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
