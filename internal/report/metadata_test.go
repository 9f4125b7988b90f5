package report_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirdata/weir/internal/report"
)

func TestMetadata(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, `monitoring {
			metadata_reporter {
				endpoint = "https://user:pass@example.com/meta?key=1"
				tags     = { pipeline = "production" }
			}
		}`, "default", "orders")
		work(r.pipelines[0], 1)
		var out strings.Builder
		dump := func() {
			for _, c := range r.http.taken() {
				fmt.Fprintf(&out, "%s %s %s\n%s\n", c.at, c.url, c.header.Get("Content-Type"), compact(t, c.body))
			}
		}
		pass(time.Minute)
		dump()
		pass(30 * time.Second)
		r.stop()
		dump()
		golden(t, "metadata.txt", out.String())
	})
}

// TestMetadataBacklog: while an endpoint does not answer, two windows wait and the others
// are dropped and counted; no address with its secrets is logged.
func TestMetadataBacklog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, `stats_receiver {
			buffer_sec = 1
		}
		monitoring {
			metadata_reporter {
				endpoint = "https://user:pass@example.com/meta?key=secret"
			}
		}`, "default")
		r.http.answers(hang)
		pass(60 * time.Second)
		// One report takes six tries of a second.
		if n, tries := r.Dropped().Metadata.Load(), len(r.http.taken()); n < 55 || tries < 50 || tries > 56 {
			t.Errorf("%d reports dropped, %d tries", n, tries)
		}
		began := time.Now()
		r.stop()
		if d := time.Since(began); d > report.Linger {
			t.Errorf("the process waited for %s", d)
		}
		log := r.log.String()
		if !strings.Contains(log, `metadata reports are not sent" address=https://example.com error="context deadline exceeded"`) || !strings.Contains(log, "reports are dropped") {
			t.Errorf("the log does not say what is wrong:\n%s", log)
		}
		if strings.Contains(log, "secret") || strings.Contains(log, "pass") {
			t.Errorf("the log has secrets:\n%s", log)
		}
	})
}
