//go:build !linux

package lambda

import "net"

// ours cannot tell here who has connected.
func ours(net.Conn, int) bool { return true }

// endLeft cannot find here what has left the group of a process.
func endLeft(string) {}
