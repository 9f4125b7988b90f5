//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package failures

import (
	"os"
	"syscall"
)

// lock makes this process the only one that writes f, until f is closed.
func lock(f *os.File) error {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}

// unlock lets another process write f at once. Closing alone would leave the lock to a
// child process that is just being started and has not let go of its copy of f.
func unlock(f *os.File) { _ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }
