//go:build unix

package chaos

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// landed is the target of TestLandedOnce: events of seven hours, in small buffers.
const landed = `
  target {
    use "lake" {
      path                   = "lake"
      time_field             = "created_at"
      time_format            = "epoch_s"
      buffer_max_events      = 3000
      buffer_max_age_seconds = 1
    }
  }
`

// lakeEvents is how many events TestLandedOnce lands.
const lakeEvents = 60_000

// TestLandedOnce: the process that lands the events of a file, or of a queue that was filled
// from it, is killed while it works, and started again until it ends by itself. Nothing but
// the position of an event tells it from another. Every event is there once.
func TestLandedOnce(t *testing.T) {
	t.Parallel()
	const file = `
  source {
    use "file" {
      path          = "events.jsonl"
      position_file = "position"
    }
  }
`
	const store = `
store {
  use "embedded" { path = "store" }
}
queue "q" {}
`
	t.Run("file", func(t *testing.T) {
		t.Parallel()
		landOnce(t, "", "pipeline \"land\" {"+file+landed+"}\n")
	})
	t.Run("queue", func(t *testing.T) {
		t.Parallel()
		landOnce(t, store+"pipeline \"fill\" {"+file+`
  target {
    use "queue" { name = "q" }
  }
}
`, store+`
pipeline "land" {
  source {
    use "queue" {
      name               = "q"
      stop_when_empty    = true
      lease_seconds      = 3
      max_batch_messages = 700
    }
  }`+landed+`}
`)
	})
}

// landOnce runs the config first to its end, if there is one, and kills the processes that run
// the config then.
func landOnce(t *testing.T, first, then string) {
	t.Helper()
	land(t, lakeEvents, first, then, folderLake{})
}

// landedIn is where a lake is that is landed in.
type landedIn interface {
	// commits is the number of the newest commit, as it is in its name.
	commits(q *quickstart) string
	// count is how often each event is there.
	count(q *quickstart) map[string]int
}

// folderLake is a lake in the folder "lake".
type folderLake struct{}

func (folderLake) commits(q *quickstart) string {
	names, _ := filepath.Glob(q.path("lake", "_weir", "commits", "*"))
	if len(names) == 0 {
		return ""
	}
	return names[len(names)-1]
}

func (folderLake) count(q *quickstart) map[string]int { return q.count(lake) }

// land is landOnce of a number of events in a lake that is anywhere.
func land(t *testing.T, n int, first, then string, in landedIn, env ...string) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	q := &quickstart{t: t, binary: path, out: dir, config: []string{filepath.Join(dir, "p.hcl")}, env: env}
	configure := func(text string) {
		t.Helper()
		if err := os.WriteFile(q.config[0], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	events, err := os.Create(q.path("events.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriter(events)
	for i := range n {
		fmt.Fprintf(w, "{\"event_uuid\":\"%d\",\"twin\":\"%d\",\"created_at\":%d}\n", i, i, 1712512800+i*7919%7*3600)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := events.Close(); err != nil {
		t.Fatal(err)
	}
	if q.log, err = os.Create(q.path("log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.log.Close() })

	if first != "" {
		configure(first)
		p := q.start()
		if <-p.ended; p.err != nil {
			t.Fatalf("the process failed: %v\n%s", p.err, q.tail())
		}
	}
	configure(then)
	kills := 0
	for most := 5 * runs(t); ; kills++ {
		p := q.start()
		if kills < most {
			pause(t.Context(), q.moment(in))
			if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
				t.Fatal(err)
			}
		}
		<-p.ended
		if p.err == nil {
			break
		}
		if p.cmd.ProcessState.ExitCode() >= 0 {
			t.Fatalf("the process failed: %v\n%s", p.err, q.tail())
		}
	}
	found := in.count(q)
	entries := 0
	for _, n := range found {
		entries += n
	}
	if len(found) != n || entries != n {
		t.Errorf("after %d kills there are %d rows of %d events, want %d once each", kills, entries, len(found), n)
	}
	t.Logf("killed %d times", kills)
}

// moment is how long a process lives: until it has landed something more, on any machine, and a
// while.
func (q *quickstart) moment(in landedIn) time.Duration {
	before := in.commits(q)
	for range 200 {
		if in.commits(q) > before {
			break
		}
		pause(q.t.Context(), 5*time.Millisecond)
	}
	return rand.N(200 * time.Millisecond)
}
