package lambda_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// TestOthersAreTurnedAway: the Runtime API of a process answers nobody else of this machine, who
// would take its invocations or answer them, and no page of a browser.
func TestOthersAreTurnedAway(t *testing.T) {
	t.Parallel()
	f, log := open(t, nil)
	a := invoke(t, f, `{"id":"1"}`)
	api := ""
	for _, v := range a.Env {
		if rest, ok := strings.CutPrefix(v, "AWS_LAMBDA_RUNTIME_API="); ok {
			api = rest
		}
	}
	for _, path := range []string{"invocation/next", "invocation/" + a.RequestID + "/response", "init/error"} {
		resp, err := http.Get("http://" + api + "/2018-06-01/runtime/" + path)
		if err == nil {
			_ = resp.Body.Close()
			t.Errorf("%s: answered %s", path, resp.Status)
		}
	}
	conn, err := net.Dial("tcp", api)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: %s\r\n\r\n", api)
	if got, _ := io.ReadAll(conn); len(got) > 0 {
		t.Errorf("answered %q", got)
	}
	log.until(t, "was turned away")
	if b := invoke(t, f, `{"id":"2"}`); b.ID != "2" || b.PID != a.PID {
		t.Errorf("then %+v", b)
	}
}
