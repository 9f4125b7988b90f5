//go:build !(linux && (amd64 || arm64))

package disk

import "github.com/cockroachdb/pebble/v2/vfs"

// dropPages does nothing where the kernel takes no such advice.
func dropPages(vfs.File) {}
