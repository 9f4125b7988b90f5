//go:build unix

package cli

import "syscall"

// keepFromOthers has what this process creates be for its user, and to be read by its group: 0640
// and folders 0750, or less where the umask says so.
func keepFromOthers() { syscall.Umask(syscall.Umask(0o077) | 0o027) }
