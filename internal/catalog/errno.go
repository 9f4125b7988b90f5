package catalog

import "syscall"

// What the file system says when no retry helps.
var (
	errReadOnly  error = syscall.EROFS
	errNotFolder error = syscall.ENOTDIR
)
