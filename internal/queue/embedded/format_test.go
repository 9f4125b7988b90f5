package embedded

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/storetest"
)

// held is what a store holds, as testdata/*.json says it.
type held struct {
	Jobs    []heldJob
	Records map[string]string
	Stats   map[string]queue.Stats
}

type heldJob struct {
	ID, Queue, Where, Key, Cause, Data, Meta string
	Attempt                                  int
	At, NotBefore                            time.Time
	Ordered                                  bool
}

// holds reads everything that a store of the queues a and b holds.
func holds(t *testing.T, s *Store) held {
	t.Helper()
	h := held{Records: map[string]string{}, Stats: map[string]queue.Stats{}}
	rs, err := storetest.Records(t.Context(), s, nil, nil, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rs {
		h.Records[string(r.Key)] = string(r.Value)
	}
	for where, st := range map[string]queue.State{"open": queue.Open, "dead": queue.Buried} {
		p, err := s.List(t.Context(), queue.Search{State: st}, queue.ID{}, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for i := range p.Jobs {
			j := &p.Jobs[i]
			h.Jobs = append(h.Jobs, heldJob{
				j.ID.String(), j.Queue, where, j.Msg.Key, j.Cause, string(j.Msg.Data),
				j.Msg.Meta.ID + j.Msg.Meta.Headers.Text("h") + j.Scope.Source, j.Attempt, j.At, j.NotBefore, j.Ordered,
			})
		}
	}
	for _, q := range []string{"a", "b"} {
		if h.Stats[q], err = s.Stats(t.Context(), queue.Filter{Queue: q}); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// TestFormat opens the store in testdata, which was written in format 1, was emptied once,
// and was killed with more in its log than in its state: every job, record and number must
// be there, and go on from there. It is never made anew: what it holds is what stores of
// users hold.
func TestFormat(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("testdata/store-format-1.json")
	if err != nil {
		t.Fatal(err)
	}
	var want held
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	byID := cmp.Transformer("byID", func(jobs []heldJob) map[string]heldJob {
		m := map[string]heldJob{}
		for _, j := range jobs {
			m[j.ID] = j
		}
		return m
	})
	// The leases of a store end with its process.
	noLeases := cmp.Transformer("noLeases", func(s queue.Stats) map[string]int64 {
		return map[string]int64{"waiting": s.Waiting + s.Leased, "retrying": s.Retrying, "dead": s.Dead, "bytes": s.Bytes}
	})
	dir := filepath.Join(t.TempDir(), "store")
	copyDir(t, "testdata/store-format-1", dir)
	for _, when := range []string{"as it was", "opened before", "emptied", "salvaged"} {
		if when == "salvaged" {
			if r, err := Salvage(t.Context(), dir, Options{}, nil); err != nil || r.Lost() {
				t.Fatalf("salvage: %+v, %v", r, err)
			}
		}
		s, err := Open(dir, Options{Now: func() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }})
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if _, err := s.Check(t.Context(), nil); err != nil {
			t.Errorf("%s: %v", when, err)
		}
		if diff := cmp.Diff(want, holds(t, s), byID, noLeases); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
		if when == "opened before" {
			if err := s.Compact(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
