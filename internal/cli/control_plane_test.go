//go:build unix

package cli_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/weirdata/weir/internal/addresstest"
)

// TestControlPlaneIsSeen: /readyz says when a control plane gives nothing, since when and why, and says
// it no more once it does; metrics say it too; and neither says the token.
func TestControlPlaneIsSeen(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	plane := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if broken.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		fmt.Fprint(w, `{"workspaceId":"w","sources":[{"id":"a","writeKey":"one","enabled":true}]}`)
	}))
	t.Cleanup(plane.Close)
	admin := addresstest.Free(t)
	launch(t, weir(t, files(t, "p.hcl", fmt.Sprintf(`
admin {
  address = %q
}
workspace "acme" {
  control_plane {
    url              = %q
    token            = "hush-hush"
    poll_interval_ms = 100
  }
}
pipeline "gateway" {
  source {
    use "gateway" {
      workspace = "acme"
      address   = %q
    }
  }
  target {
    use "stdout" {}
  }
}
`, admin, plane.URL, addresstest.Free(t))), "run", "p.hcl"))
	listening(t, admin)
	ready := func() string { _, text := get(t, "http://"+admin+"/readyz"); return text }
	number := func(name string) (value string) {
		_, text := get(t, "http://"+admin+"/metrics")
		for line := range strings.Lines(text) {
			if v, ok := strings.CutPrefix(line, name+`{workspace="acme"} `); ok {
				value = strings.TrimSpace(v)
			}
		}
		return value
	}
	eventually(t, "it is ready", func() bool { return ready() == "ready\n" })
	if got := number("weir_control_plane_failures_total"); got != "0" {
		t.Errorf("%q failures", got)
	}
	answered := number("weir_control_plane_last_answer_timestamp_seconds")
	if answered == "" || number("weir_control_plane_last_change_timestamp_seconds") == "" {
		t.Error("nothing says when the control plane has answered")
	}
	eventually(t, "it has answered again", func() bool { return number("weir_control_plane_last_answer_timestamp_seconds") != answered })
	broken.Store(true)
	eventually(t, "the trouble is said", func() bool {
		text := ready()
		return strings.HasPrefix(text, "ready\n") && strings.Contains(text, `workspace "acme": the control plane`) && strings.Contains(text, "502")
	})
	if text := ready(); strings.Contains(text, "hush") {
		t.Error(text)
	}
	if got := number("weir_control_plane_failures_total"); got == "0" || got == "" {
		t.Errorf("%q failures", got)
	}
	broken.Store(false)
	eventually(t, "the trouble is over", func() bool { return ready() == "ready\n" })
}
