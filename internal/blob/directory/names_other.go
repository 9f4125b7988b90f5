//go:build !windows

package directory

func reserved(string) bool { return false }
