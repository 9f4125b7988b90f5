//go:build linux && (amd64 || arm64)

package disk

import (
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// adviseDontNeed is POSIX_FADV_DONTNEED of Linux on these processors.
const adviseDontNeed = 4

// dropPages has the kernel forget what it holds of a file in memory. What is not on disk
// yet stays. It is advice: what comes of it does not matter.
func dropPages(f vfs.File) {
	if fd := f.Fd(); fd != vfs.InvalidFd {
		_, _, _ = syscall.Syscall6(syscall.SYS_FADVISE64, fd, 0, 0, adviseDontNeed, 0, 0)
	}
}
