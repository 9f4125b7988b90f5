package gatewaysource

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/weirdata/weir/internal/event"
)

// TestSDK: events of the official SDKs for Go of RudderStack and of Segment, programs of
// modules of their own in testdata, all arrive, once, and as they should. RudderStack's packs
// its requests and makes up an anonymousId for each event.
func TestSDK(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ module, channel, library string }{
		{"sdk", "server", "analytics-go"},
		{"segment", "", ""}, // which says it of the request, and RudderStack does not look there
	} {
		t.Run(row.module, func(t *testing.T) {
			t.Parallel()
			testSDK(t, row.module, row.channel, row.library)
		})
	}
}

func testSDK(t *testing.T, module, channel, library string) {
	program := filepath.Join(t.TempDir(), module)
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".")
	build.Dir = filepath.Join("testdata", module)
	build.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build testdata/%s: %v\n%s", module, err, out)
	}
	s := start(t, nil)
	var mu sync.Mutex
	var got event.Batch
	s.run(t, func(b event.Batch) event.Outcomes {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, b...)
		return nil
	})
	if out, err := exec.CommandContext(t.Context(), program, "http://"+s.Addr().String(), "KEY1", "300").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	mu.Lock()
	defer mu.Unlock()
	types, ids := map[string]int{}, map[string]bool{}
	for _, m := range got {
		var e struct {
			Type, MessageID, UserID, AnonymousID, RudderID, Channel, Timestamp string
			Context                                                            struct{ Library struct{ Name string } }
		}
		if err := json.Unmarshal(m.Data, &e); err != nil {
			t.Fatal(err)
		}
		types[e.Type]++
		ids[e.MessageID] = true
		key := e.UserID
		if key == "" {
			key = e.AnonymousID
		}
		if m.Key != key || key == "" || m.Meta.ID != e.MessageID || e.RudderID == "" || e.Channel != channel || e.Timestamp == "" || e.Context.Library.Name != library {
			t.Errorf("key %q, id %q: %s", m.Key, m.Meta.ID, m.Data)
		}
	}
	if len(ids) != 300 || len(got) != 300 {
		t.Errorf("%d events with %d names, want 300", len(got), len(ids))
	}
	for _, kind := range []string{"track", "identify", "page", "screen", "group", "alias"} {
		if types[kind] != 50 {
			t.Errorf("%d events of type %s, want 50", types[kind], kind)
		}
	}
}
