//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package failures

import "os"

// lock does nothing here: the system has no flock.
func lock(*os.File) error { return nil }

func unlock(*os.File) {}
