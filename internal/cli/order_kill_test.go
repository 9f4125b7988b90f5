//go:build unix

package cli_test

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/weirdata/weir/internal/addresstest"
)

// TestKilledWithinAnOrder kills the process that carries an order out, while messages that a
// pipeline has in hand keep the order from its end. The next process finishes it: every message is
// where it was to go, once, or gone.
func TestKilledWithinAnOrder(t *testing.T) {
	t.Parallel()
	const many = 3000
	for name, command := range map[string][]string{
		"move":   {"queue", "move", "events", "--all", "--to", "archive"},
		"rename": {"queue", "rename", "events", "archive"},
		"drop":   {"queue", "drop", "events", "--open", "--all"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			over := make(chan struct{})
			held := make(chan struct{}, many)
			hangs := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
				held <- struct{}{}
				<-over
			}))
			t.Cleanup(hangs.Close)
			t.Cleanup(func() { close(over) }) // before the server waits for its requests
			admin := addresstest.Free(t)
			store := fmt.Sprintf("queue \"events\" {}\nqueue \"archive\" {}\nadmin {\n  address = %q\n}\n", admin)
			dir := files(t, "store.hcl", store,
				"in.hcl", "pipeline \"in\" {\n  source {\n    use \"stdin\" {}\n  }\n  target {\n    use \"queue\" {\n      name = \"events\"\n    }\n  }\n}\n",
				"out.hcl", fmt.Sprintf("pipeline \"out\" {\n  in_flight {\n    messages = 10\n  }\n  source {\n    use \"queue\" {\n      name = \"events\"\n    }\n  }\n  target {\n    use \"http\" {\n      url = %q\n      request_timeout_in_millis = 3600000\n    }\n  }\n  failure_target {\n    keep = true\n  }\n}\n", hangs.URL),
				"idle.hcl", fmt.Sprintf("pipeline \"idle\" {\n  source {\n    use \"http\" {\n      url = %q\n    }\n  }\n  target {\n    use \"queue\" {\n      name = \"archive\"\n    }\n  }\n}\n", addresstest.Free(t)))
			var lines []string
			for i := range many {
				lines = append(lines, fmt.Sprintf(`{"n":"%06d"}`, i))
			}
			run(t, dir, strings.Join(lines, "\n")+"\n", "run", "store.hcl", "in.hcl").exits(0)

			p := launch(t, weir(t, dir, "run", "store.hcl", "out.hcl"))
			select {
			case <-held:
			case <-p.ended:
				t.Fatalf("it has ended:\n%s", p.err)
			}
			asked := launch(t, weir(t, dir, append(command, "--yes", "--config", "store.hcl")...))
			eventually(t, "a part of the order", func() bool { return openIn(t, admin, "events") < many })
			p.signal(syscall.SIGKILL)
			<-p.ended
			_ = asked.wait() // whom it has asked is gone
			if left := copied(t, dir, "events"); len(left) == 0 {
				t.Error("nothing was left of the order")
			}

			p = launch(t, weir(t, dir, "run", "store.hcl", "idle.hcl"))
			listening(t, admin)
			eventually(t, "the order is finished", func() bool { return openIn(t, admin, "events") == 0 })
			p.stops(0)
			want := lines
			if name == "drop" {
				want = nil
			}
			got := copied(t, dir, "archive")
			slices.Sort(got) // what was in hand has come last
			same(t, got, want)
			same(t, copied(t, dir, "events"), nil)
		})
	}
}

// openIn is how many open messages a queue has, as the process says that works on it; many, while it
// cannot say.
func openIn(t *testing.T, admin, name string) int {
	t.Helper()
	code, text := get(t, "http://"+admin+"/v1/queues")
	if code != http.StatusOK {
		return math.MaxInt
	}
	var all struct {
		Queues []struct {
			Name string `json:"name"`
			Open int    `json:"open"`
		} `json:"queues"`
	}
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	i := slices.IndexFunc(all.Queues, func(q struct {
		Name string `json:"name"`
		Open int    `json:"open"`
	}) bool {
		return q.Name == name
	})
	if i < 0 {
		return math.MaxInt
	}
	return all.Queues[i].Open
}

// copied are the payloads of the open messages of a queue of a store that nobody has open.
func copied(t *testing.T, dir, name string) (texts []string) {
	t.Helper()
	p := run(t, dir, "", "queue", "export", name, "--config", filepath.Join(dir, "store.hcl"))
	p.exits(0)
	for _, line := range split(p.out.String()) {
		var m struct {
			Data string `json:"payload"`
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		texts = append(texts, m.Data)
	}
	return texts
}
