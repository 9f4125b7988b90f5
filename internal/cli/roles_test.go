//go:build unix

package cli_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/addresstest"
	"github.com/weirdata/weir/internal/enginetest"
)

// TestCheckKnowsRoles: on a store that processes share, the config of a role that leaves a queue to
// others is told so, and warned of nothing: unless messages wait there that neither another process
// nor this config reads.
func TestCheckKnowsRoles(t *testing.T) {
	t.Parallel()
	at, first, second := addresstest.Free(t), addresstest.Free(t), addresstest.Free(t)
	dsn := enginetest.Postgres(t)
	role := func(admin, pipelines string) string {
		return fmt.Sprintf("store {\n  use \"postgres\" {\n    dsn = %q\n  }\n}\nadmin {\n  address = %q\n}\nqueue \"events\" {}\n%s", dsn, admin, pipelines)
	}
	fill := fmt.Sprintf("pipeline \"fill\" {\n  source {\n    use \"http\" {\n      url = %q\n    }\n  }\n  target {\n    use \"queue\" {\n      name = \"events\"\n    }\n  }\n}\n", at)
	// It fails for ever, so that there are always messages in the queue.
	work := "pipeline \"work\" {\n  source {\n    use \"queue\" {\n      name = \"events\"\n    }\n  }\n  target {\n    use \"http\" {\n      url = \"http://127.0.0.1:1/\"\n    }\n  }\n}\n"
	dir := files(t, "fill.hcl", role(first, fill), "work.hcl", role(second, work), "rest.hcl", role(second, "pipeline \"rest\" {\n  source {\n    use \"http\" {\n      url = \"127.0.0.1:0\"\n    }\n  }\n}\n"))
	checked := func(args ...string) string {
		t.Helper()
		out, err := weir(t, dir, append([]string{"check"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("check %q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	const elsewhere = "for other processes that share the store to read: queue events\n"
	if out := checked("fill.hcl"); strings.Contains(out, "warning") || !strings.Contains(out, elsewhere) {
		t.Errorf("a config that fills a queue of a shared store:\n%s", out)
	}
	filler := launch(t, weir(t, dir, "run", "fill.hcl"))
	listening(t, first)
	listening(t, at)
	if code := post(t, http.DefaultClient, at, `{"a":1}`); code != http.StatusAccepted {
		t.Fatalf("an event is answered %d", code)
	}
	worker := launch(t, weir(t, dir, "run", "work.hcl"))
	listening(t, second)
	eventually(t, "a worker", func() bool { return strings.Contains(checked("--json", "rest.hcl"), `queue \"events\" has`) })
	eventually(t, "a worker that the others know of", func() bool { return !strings.Contains(checked("fill.hcl"), "warning") })
	for _, args := range [][]string{{"fill.hcl"}, {"--connect", "fill.hcl"}} {
		if out := checked(args...); strings.Contains(out, "warning") || !strings.Contains(out, elsewhere) {
			t.Errorf("check %q, while another process reads the queue:\n%s", args, out)
		}
	}
	// In the place of the worker it would leave the queue to nobody.
	for _, args := range [][]string{{"rest.hcl"}, {"--connect", "rest.hcl"}} {
		if out := checked(args...); strings.Count(out, `queue "events" has`) != 1 {
			t.Errorf("check %q, in the place of the one process that reads the queue:\n%s", args, out)
		}
	}
	worker.stops(0)
	eventually(t, "a queue that nobody reads", func() bool { return strings.Contains(checked("fill.hcl"), "warning") })
	for _, args := range [][]string{{"fill.hcl"}, {"--connect", "fill.hcl"}} {
		if out := checked(args...); strings.Count(out, `queue "events" has 1 open messages`) != 1 {
			t.Errorf("check %q, while nobody reads the queue:\n%s", args, out)
		}
	}
	filler.stops(0)
}
