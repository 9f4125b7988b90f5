package directory

import (
	"os"
	"syscall"
)

var errNotDirectory error = syscall.ENOTDIR

// syncDir does nothing: Windows has no such call, and keeps names in a journal.
func syncDir(*os.File) error { return nil }
