package frontdoor

import (
	"fmt"
	"net"
	"testing"
)

func TestCheckAddress(t *testing.T) {
	t.Parallel()
	for _, good := range []string{":8080", "0.0.0.0:0", "[::1]:65535", "host.example:80"} {
		if err := CheckAddress(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "8080", "http://x:1", "x:http", "x:-1", "x:65536", "::1:80"} {
		if CheckAddress(bad) == nil {
			t.Errorf("%q is no address", bad)
		}
	}
}

// TestConflict: addresses conflict exactly when the system does not let both be bound.
func TestConflict(t *testing.T) {
	t.Parallel()
	var hosts []string
	for _, host := range []string{"127.0.0.1", "127.0.0.2", "localhost", "0.0.0.0", "", "[::]", "[::1]", "[::ffff:127.0.0.1]"} {
		if l, err := net.Listen("tcp", host+":0"); err == nil { // not every machine has IPv6
			_ = l.Close()
			hosts = append(hosts, host)
		}
	}
	// Somebody else may take a port that was free a moment ago: one of a few must agree.
	var wrong []string
	for range 5 {
		if wrong = disagreements(t, hosts); len(wrong) == 0 {
			break
		}
	}
	for _, text := range wrong {
		t.Error(text)
	}
	if len(hosts) < 5 {
		t.Errorf("only %q can be listened on", hosts)
	}
	if Conflict(":0", ":0") || Conflict("x:1", "x:2") || Conflict("x", "x") || !Conflict("x:1", "X:01") || !Conflict("x:1", "0.0.0.0:1") {
		t.Error("port 0, other ports, what is no address, names")
	}
}

// disagreements are the pairs of hosts that Conflict and the system see differently.
func disagreements(t *testing.T, hosts []string) (wrong []string) {
	t.Helper()
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	for _, a := range hosts {
		first, err := net.Listen("tcp", a+":"+port)
		if err != nil {
			return append(wrong, err.Error())
		}
		for _, b := range hosts {
			second, err := net.Listen("tcp", b+":"+port)
			if err == nil {
				_ = second.Close()
			}
			if got := Conflict(a+":"+port, b+":"+port); got != (err != nil) {
				wrong = append(wrong, fmt.Sprintf("%q and %q: %t, binding both: %v", a, b, got, err))
			}
		}
		_ = first.Close()
	}
	return wrong
}
