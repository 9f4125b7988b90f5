package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/tap"
)

// TestTap: who listens is told of each message at each point, and of what it was; nobody who listens is
// waited for; and when nobody does any more, nothing is told.
func TestTap(t *testing.T) {
	t.Parallel()
	var hub tap.Hub
	all, _ := hub.Add(tap.Options{Pipeline: "p", Unbounded: true})
	one, _ := hub.Add(tap.Options{Pipeline: "p", Point: "transform.0", Match: func(m *event.Message) bool { return bytes.HasPrefix(m.Data, []byte("change")) }})
	idle, _ := hub.Add(tap.Options{Pipeline: "p", Point: "source"}) // nobody takes what it is told
	other, _ := hub.Add(tap.Options{Pipeline: "q", Unbounded: true})
	texts := []string{"keep", "change", "drop", "fail"}
	for range 1000 {
		texts = append(texts, "keep")
	}
	b := newBench(step{payloads: texts}).through(2, transform(func(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
		switch string(m.Data) {
		case "drop":
			m.Drop("it says so")
			return out, nil
		case "fail":
			return out, errors.New("it says so")
		case "change":
			m.Replace([]byte("changed"))
		}
		return append(out, m), nil
	}))
	b.parts.Name, b.parts.Steps, b.parts.Tap = "p", []string{"changing"}, hub.Pipeline("p")
	if err := New(b.parts).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, r := range all.Records() {
		key := fmt.Sprintf("%s %s %s", r.Point, r.Outcome, r.Why)
		got[key]++
		if r.Outcome == tap.Changed && (string(r.Before.Data) != "change" || string(r.After[0].Data) != "changed" || r.Step != "changing") {
			t.Errorf("what was changed is told as %+v", r)
		}
		if r.Point == "target" && string(r.Before.Data) == "changed" && string(r.Raw) != "change" {
			t.Errorf("what was read is told as %q", r.Raw)
		}
	}
	for key, want := range map[string]int{"source read ": 1004, "transform.0 passed ": 1001, "transform.0 changed ": 1, "transform.0 filtered it says so": 1,
		"transform.0 failed it says so": 1, "target delivered ": 1002, "filter_target delivered ": 1, "failure_target delivered ": 1} {
		if got[key] != want {
			t.Errorf("%q was told %d times, want %d", key, got[key], want)
		}
	}
	if len(got) != 8 {
		t.Errorf("more was told: %v", got)
	}
	if r := <-one.C; r.Outcome != tap.Changed || len(one.C) != 0 {
		t.Errorf("one was to be chosen: %+v and %d more", r, len(one.C))
	}
	if lost := idle.Lost(); lost != int64(1004-len(idle.C)) || lost == 0 || len(idle.C) > 256 {
		t.Errorf("%d were lost, and %d are there, of 1004", lost, len(idle.C))
	}
	if n := len(other.Records()); n != 0 {
		t.Errorf("of another pipeline %d are told", n)
	}
	for _, x := range []*tap.Tap{all, one, idle, other} {
		x.Leave()
		x.Leave()
	}
	if hub.Pipeline("p").Live() != nil {
		t.Error("somebody is told still")
	}
	for range tap.MaxTaps {
		if _, ok := hub.Add(tap.Options{Pipeline: "p"}); !ok {
			t.Fatal("no room after all have left")
		}
	}
	if _, ok := hub.Add(tap.Options{Pipeline: "p"}); ok {
		t.Error("there is no limit")
	}
}
