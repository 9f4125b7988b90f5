//go:build !windows

package directory

import (
	"os"
	"syscall"
)

var errNotDirectory error = syscall.ENOTDIR

func syncDir(d *os.File) error { return d.Sync() }
