//go:build !unix

package cli

// keepFromOthers has nothing to do where files have no modes.
func keepFromOthers() {}
