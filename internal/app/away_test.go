package app_test

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/addresstest"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/faultproxy"
)

// TestStoreAway starts while the database is away, and has it go away again: the process waits and
// says for what, callers are told at once to come back, and all goes on when it is back.
func TestStoreAway(t *testing.T) {
	t.Parallel()
	u, err := url.Parse(enginetest.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	db := faultproxy.NewTCP(t, u.Host)
	u.Host = db.Address
	db.Refuse()
	port := addresstest.Port(t)
	p := start(t, fmt.Sprintf(`
store {
  use "postgres" {
    dsn                = %q
    lease_seconds      = 2
    start_wait_seconds = 3600
  }
}
queue "q" {}
pipeline "in" {
  source {
    use "http" {
      url                     = "127.0.0.1:%d"
      response_timeout_millis = 3600000
      retry_after_seconds     = 7
    }
  }
  target {
    use "queue" { name = "q" }
  }
}
pipeline "out" {
  source {
    use "queue" { name = "q" }
  }
  target {
    use "silent" {}
  }
}
`, u.String(), port))
	says := func(what, text string) {
		t.Helper()
		await(t, what, func() bool {
			err := p.Ready()
			return text == "" && err == nil || text != "" && err != nil && strings.Contains(err.Error(), text)
		})
	}
	send := func() *http.Response {
		t.Helper()
		resp, err := http.Post(fmt.Sprintf("http://127.0.0.1:%d/", port), "text/plain", strings.NewReader("event\n"))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp
	}
	says("the start to say what it waits for", "not started: the store cannot be reached: ")
	db.Accept()
	says("the pipelines to run", "")
	if r := send(); r.StatusCode != http.StatusAccepted {
		t.Errorf("with the database there: %s", r.Status)
	}
	for _, cut := range []func(){func() { db.Refuse(); db.Cut() }, db.Freeze} {
		cut()
		says("the process to say that the store is away", "the queue store cannot be reached since ")
		// A response may take an hour: these come because nobody waits.
		if r := send(); r.StatusCode != http.StatusServiceUnavailable || r.Header.Get("Retry-After") != "7" {
			t.Errorf("with the database away: %s, Retry-After %q", r.Status, r.Header.Get("Retry-After"))
		}
		db.Accept()
		db.Thaw()
		says("the process to be ready again", "")
		if r := send(); r.StatusCode != http.StatusAccepted {
			t.Errorf("with the database back: %s", r.Status)
		}
	}
	p.stop()
	if err := <-p.ended; err != nil {
		t.Errorf("the end: %v", err)
	}
}

// TestStoreSilent freezes the way to a database that would be found away only after minutes: callers
// whose events are on their way there are told to come back, as are those who come; and none of what
// is answered otherwise is missing when it is back.
func TestStoreSilent(t *testing.T) {
	t.Parallel()
	u, err := url.Parse(enginetest.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	db := faultproxy.NewTCP(t, u.Host)
	u.Host = db.Address
	port, out := addresstest.Port(t), filepath.Join(t.TempDir(), "out")
	p := start(t, fmt.Sprintf(`
store {
  use "postgres" {
    dsn             = %q
    lease_seconds   = 3600
    timeout_seconds = 3600
  }
}
queue "q" {}
pipeline "in" {
  source {
    use "http" {
      url                     = "127.0.0.1:%d"
      response_timeout_millis = 3600000
      retry_after_seconds     = 7
    }
  }
  target {
    use "queue" { name = "q" }
  }
}
pipeline "out" {
  source {
    use "queue" { name = "q" }
  }
  target {
    use "file" { path = %q }
  }
}
`, u.String(), port, out))
	await(t, "the pipelines to run", func() bool { return p.Ready() == nil })
	send := func(event string) *http.Response {
		t.Helper()
		resp, err := http.Post(fmt.Sprintf("http://127.0.0.1:%d/", port), "text/plain", strings.NewReader(event+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp
	}
	var kept []string
	for round, direction := range []faultproxy.Direction{faultproxy.ToServer, faultproxy.ToClient} {
		kept = append(kept, fmt.Sprintf("kept %d", round))
		if r := send(kept[round]); r.StatusCode != http.StatusAccepted {
			t.Errorf("with the database there: %s", r.Status)
		}
		db.FreezeTo(direction)
		// A response may take an hour: these come because nobody waits.
		for _, event := range []string{"caught", "refused"} {
			if r := send(event); r.StatusCode != http.StatusServiceUnavailable || r.Header.Get("Retry-After") != "7" {
				t.Errorf("%s: %s, Retry-After %q", event, r.Status, r.Header.Get("Retry-After"))
			}
		}
		if err := p.Ready(); err == nil || !strings.Contains(err.Error(), "the database has answered to nothing for a second") {
			t.Errorf("ready: %v", err)
		}
		db.Thaw()
		await(t, "the process to be ready again", func() bool { return p.Ready() == nil })
	}
	await(t, "all that was acknowledged", func() bool {
		b, err := os.ReadFile(out)
		return err == nil && !slices.ContainsFunc(kept, func(event string) bool { return !strings.Contains(string(b), event+"\n") })
	})
	p.stop()
	if err := <-p.ended; err != nil {
		t.Errorf("the end: %v", err)
	}
}
