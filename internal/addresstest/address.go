// Package addresstest gives tests addresses for servers that have to be told one before they
// start: a process whose config names its port, a door that is opened twice.
//
// An address is free when it is handed out and belongs to nobody until it is listened on. So
// that nobody takes it in between, its port lies below those that operating systems hand out
// by themselves, for listeners on port 0 and for connections: 32768 and above on Linux, 49152
// and above elsewhere. Within a process no port is handed out twice; between processes it is
// drawn at random. A server that can say which port it got needs none of this: let it listen
// on port 0.
package addresstest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
)

// The ports that are handed out, the last one excluded.
const (
	first = 10_000
	last  = 32_000
)

// given are the ports that were handed out already.
var given sync.Map

// Free is a loopback address, host and port, that nobody listens on.
func Free(t testing.TB) string {
	t.Helper()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(Port(t)))
}

// Port is a port that nobody listens on.
func Port(t testing.TB) int {
	t.Helper()
	port, err := Choose()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

var listening net.ListenConfig

// Choose is Port for what is no test itself.
func Choose() (int, error) {
	const tries = 1000
	var err error
	for range tries {
		port := first + rand.IntN(last-first)
		if _, taken := given.LoadOrStore(port, true); taken {
			continue
		}
		var l net.Listener
		if l, err = listening.Listen(context.Background(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err != nil {
			continue
		}
		if err = l.Close(); err == nil {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no free port from %d to %d in %d tries: %w", first, last-1, tries, err)
}
