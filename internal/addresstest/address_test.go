package addresstest_test

import (
	"net"
	"strconv"
	"testing"

	"github.com/weirdata/weir/internal/addresstest"
)

// TestFree: each address is another one, can be listened on, and is not among those that
// the system hands out for port 0.
func TestFree(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 200 {
		at := addresstest.Free(t)
		if seen[at] {
			t.Fatalf("%s was handed out twice", at)
		}
		seen[at] = true
		l, err := net.Listen("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		_, port, err := net.SplitHostPort(at)
		if n, perr := strconv.Atoi(port); err != nil || perr != nil || n >= 32_768 {
			t.Errorf("%s is among the addresses of the system", at)
		}
	}
}
