package lambda

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// ours reports whether the other end of a connection over the loopback interface is in the
// process or in one that it has started. Where that cannot be seen, the user decides.
func ours(c net.Conn, pid int) bool {
	from, ok := c.RemoteAddr().(*net.TCPAddr)
	at, is := c.LocalAddr().(*net.TCPAddr)
	if !ok || !is {
		return false
	}
	socket, user, err := endOf(from.Port, at.Port)
	if err != nil {
		return os.IsNotExist(err) // this system shows no connections
	}
	link := "socket:[" + socket + "]"
	held, seen := holds(pid, link)
	if held {
		return true
	}
	for _, other := range started(pid) {
		if held, _ := holds(other, link); held {
			return true
		}
	}
	return !seen && user == strconv.Itoa(os.Getuid())
}

// endOf is the socket that is connected from one port of this machine's loopback address to
// another, and whose it is.
func endOf(from, to int) (socket, user string, err error) {
	f, err := os.Open("/proc/net/tcp")
	if err != nil {
		return "", "", err
	}
	defer func() { _ = f.Close() }() // it was read
	local, remote := fmt.Sprintf(":%04X", from), fmt.Sprintf(":%04X", to)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		field := strings.Fields(lines.Text())
		if len(field) > 9 && strings.HasSuffix(field[1], local) && strings.HasSuffix(field[2], remote) &&
			strings.TrimSuffix(field[1], local) == strings.TrimSuffix(field[2], remote) {
			return field[9], field[7], nil
		}
	}
	return "", "", fmt.Errorf("no socket is connected from port %d to %d", from, to)
}

// holds reports whether a process has a file open; seen, whether its files can be seen at all.
func holds(pid int, link string) (held, seen bool) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	files, err := os.ReadDir(dir)
	if err != nil {
		return false, false
	}
	for _, f := range files {
		to, err := os.Readlink(filepath.Join(dir, f.Name()))
		seen = seen || err == nil
		if to == link {
			return true, true
		}
	}
	return false, seen
}

// started are the processes of the group of pid, and those that they have started.
func started(pid int) []int {
	parent := map[int]int{}
	var family []int
	all, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range all {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// The name before is in brackets, and may have any character.
		field := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if len(field) < 3 {
			continue
		}
		one, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		parent[one], _ = strconv.Atoi(field[1])
		if group, _ := strconv.Atoi(field[2]); group == pid && one != pid {
			family = append(family, one)
		}
	}
	for one := range parent {
		for up, depth := parent[one], 0; up > 1 && depth < 64; up, depth = parent[up], depth+1 {
			if up == pid {
				family = append(family, one)
				break
			}
		}
	}
	slices.Sort(family)
	return slices.Compact(family)
}

// endLeft kills what a process has started and that has left its group, in a session of its own
// for instance: it is known by the address in its environment, which no other process has.
func endLeft(api string) {
	mark := []byte("\x00" + apiVariable + "=" + api + "\x00")
	for range 10 { // one may start another meanwhile
		left := false
		all, _ := filepath.Glob("/proc/[0-9]*/environ")
		for _, path := range all {
			environment, err := os.ReadFile(path)
			if err != nil || !bytes.Contains(append([]byte{0}, environment...), mark) {
				continue
			}
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil && pid != os.Getpid() {
				left = syscall.Kill(pid, syscall.SIGKILL) == nil || left
			}
		}
		if !left {
			return
		}
	}
}
