package cli_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// TestSnowbridge2OverHTTP: a target from before 3.0.0 sends each event by itself and as it is,
// with its file, and with what convert makes of that.
func TestSnowbridge2OverHTTP(t *testing.T) {
	t.Parallel()
	events := []string{` { "n" : 1 }`, "a\tline", `"<b>"`}
	for _, converted := range []bool{false, true} {
		var mu sync.Mutex
		var bodies []string
		s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			mu.Lock()
			defer mu.Unlock()
			bodies = append(bodies, string(body))
			if got := r.Header.Get("Content-Type"); got != "application/json" {
				t.Errorf("content type %q", got)
			}
		}))
		t.Cleanup(s.Close)
		text := fmt.Sprintf("target {\n  use \"http\" {\n    url        = %q\n    byte_limit = 1000\n  }\n}\n", s.URL)
		if converted {
			c := weir(t, files(t, "p.hcl", text))
			c.Args = append(c.Args, "convert", "p.hcl")
			out, err := c.Output()
			if err != nil || !strings.Contains(string(out), `"raw"`) || strings.Contains(string(out), "byte_limit") {
				t.Fatalf("%v:\n%s", err, out)
			}
			text = string(out)
		}
		c := weir(t, files(t, "p.hcl", text))
		c.Args = append(c.Args, "run", "p.hcl")
		c.Stdin = strings.NewReader(strings.Join(events, "\n") + "\n")
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v:\n%s", err, out)
		}
		same(t, bodies, events)
	}
}
