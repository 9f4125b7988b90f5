package frontdoor

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// CheckAddress says what is wrong with an address to listen on; nil when nothing is.
func CheckAddress(address string) error {
	if strings.Contains(address, "://") {
		return errors.New("it has a scheme")
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%q is not a port", port)
	}
	return nil
}

// Conflict reports whether two hosts cannot listen on both addresses: they have one port, and
// one host, or a host that stands for every one. Port 0 takes a free one and has no conflict.
func Conflict(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || number(portA) != number(portB) || number(portA) == 0 {
		return false
	}
	ipA, ipB := ip(hostA), ip(hostB)
	if ipA == nil || ipB == nil { // names, which are looked up only when they are needed
		return strings.EqualFold(hostA, hostB) || ipA.IsUnspecified() || ipB.IsUnspecified()
	}
	// An unspecified address of either family stands for the addresses of both.
	return ipA.IsUnspecified() || ipB.IsUnspecified() || ipA.Equal(ipB)
}

// Port is the port of an address, as a number; addresses with different ones never conflict.
func Port(address string) string {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	return strconv.Itoa(number(port))
}

// shared is what addresses have in common that are the same to the system; empty for one that
// takes a free port.
func shared(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil || number(port) == 0 {
		return ""
	}
	name := strings.ToLower(host)
	if at := ip(host); at.IsUnspecified() {
		name = "*"
	} else if at != nil {
		name = at.String()
	}
	return net.JoinHostPort(name, strconv.Itoa(number(port)))
}

func number(port string) int {
	n, err := strconv.Atoi(port)
	if err != nil {
		return 0
	}
	return n
}

// ip is the address of a host, in the shorter form; nil for a name. No host is every one.
func ip(host string) net.IP {
	switch host {
	case "":
		return net.IPv6unspecified
	case "localhost":
		host = "127.0.0.1"
	}
	p := net.ParseIP(host)
	if v4 := p.To4(); v4 != nil {
		return v4
	}
	return p
}
