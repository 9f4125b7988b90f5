//go:build unix

package cli_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/addresstest"
)

// TestWorkspaceFileChanges: a workspace file that changes counts without a reload; one that is
// half written changes nothing, and is told of once for the process, however many read it.
func TestWorkspaceFileChanges(t *testing.T) {
	t.Parallel()
	address := addresstest.Free(t)
	const source = `{"sources":[{"id":"a","writeKey":%q,"enabled":true}]}`
	dir := files(t, "p.hcl", fmt.Sprintf(`
queue "events" {}
pipeline "gateway" {
  source {
    use "gateway" {
      workspace_config = "ws.json"
      address          = %q
    }
  }
  target {
    use "queue" {
      name = "events"
    }
  }
  failure_target {
    use "silent" {}
  }
}
pipeline "route" {
  source {
    use "queue" {
      name = "events"
    }
  }
  transform {
    use "fanout" {
      workspace_config = "ws.json"
    }
  }
  target {
    use "webhook" {
      workspace_config = "ws.json"
    }
  }
  failure_target {
    use "silent" {}
  }
}
`, address), "ws.json", fmt.Sprintf(source, "one"))
	status := func(key string) int {
		r, err := http.NewRequest(http.MethodPost, "http://"+address+"/v1/track", strings.NewReader(`{"userId":"u","event":"e"}`))
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth(key, "")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return 0
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	write := func(text string) {
		if err := os.WriteFile(filepath.Join(dir, "ws.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := launch(t, weir(t, dir, "run", "p.hcl"))
	eventually(t, "an answer", func() bool { return status("one") == http.StatusOK })
	if got := status("second"); got != http.StatusUnauthorized {
		t.Errorf("a key that is not there: %d", got)
	}
	write(fmt.Sprintf(source, "second"))
	eventually(t, "the new key", func() bool { return status("second") == http.StatusOK })
	write(fmt.Sprintf(source, "third")[:20])
	p.until(p.err, `"ERROR".*the last good one stays in force`)
	write(fmt.Sprintf(source, "fourth"))
	eventually(t, "the key after the mistake", func() bool { return status("fourth") == http.StatusOK })
	if n := strings.Count(p.err.String(), "the last good one stays in force"); n != 1 {
		t.Errorf("told %d times:\n%s", n, p.err)
	}
	p.signal(os.Interrupt)
	p.exits(0)
}
