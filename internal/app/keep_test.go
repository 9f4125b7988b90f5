package app_test

import (
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/embedded"
)

const fedByQueue = `
store {
  use "embedded" {
    path = "DIR/store"
  }
}
queue "in" {}
pipeline "p" {
  source {
    use "queue" {
      name            = "in"
      stop_when_empty = true
    }
  }
  transform {
    use "base64Decode" {}
  }
  target {
    use "file" {
      path = "DIR/out"
      batching {
        max_message_bytes = 20
      }
    }
  }
}
`

// TestQueueKeepsFailuresByDefault: what a pipeline cannot deliver of a queue is dead in it, whole
// and with the reason, where its config names no other place; a place that is named gets it.
func TestQueueKeepsFailuresByDefault(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	large := strings.Repeat("AAAA", 100)
	put(t, dir+"/store", "in", "b25l", "*", large, "dHdv")
	p, log := startIn(t, dir, fedByQueue)
	if err := p.result(t); err == nil || !strings.Contains(err.Error(), "2 messages") {
		t.Errorf("the end does not say how many are kept: %v", err)
	}
	if !strings.Contains(log.String(), "level=ERROR") {
		t.Error("nothing is logged as an error")
	}
	s, err := embedded.Open(dir+"/store", embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	page, err := s.List(t.Context(), queue.Search{Filter: queue.Filter{Queue: "in"}, State: queue.Buried}, queue.ID{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"*": "base64", large: "larger than the target takes"}
	for _, j := range page.Jobs {
		cause, expected := want[string(j.Msg.Raw())]
		if delete(want, string(j.Msg.Raw())); !expected || !strings.Contains(j.Cause, cause) {
			t.Errorf("dead: %q because of %q", j.Msg.Raw(), j.Cause)
		}
	}
	if len(want) > 0 {
		t.Errorf("not kept: %v", want)
	}
}

// TestNamedFailureTargetOfAQueue: keep is a default, not a rule.
func TestNamedFailureTargetOfAQueue(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put(t, dir+"/store", "in", "b25l", "*")
	p, _ := startIn(t, dir, strings.Replace(fedByQueue, "  transform {", `  failure_target {
    use "file" {
      path = "DIR/failed"
    }
  }
  transform {`, 1))
	if err := p.result(t); err != nil {
		t.Error(err)
	}
	once(t, dir+"/failed", "*")
	if st := left(t, dir, "in"); st.Open() != 0 || st.Dead != 0 {
		t.Errorf("in the queue: %+v", st)
	}
}
