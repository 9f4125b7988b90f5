package app_test

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/weirdata/weir/internal/all"
	"github.com/weirdata/weir/internal/app"
	"github.com/weirdata/weir/internal/enginetest"
)

// TestStoreForRecords: the store is opened for a source that keeps records in it, though there is
// no queue, and not for one that keeps them elsewhere; events pass, and a process that comes after
// reads none of them again.
func TestStoreForRecords(t *testing.T) {
	t.Parallel()
	b := &app.Builder{Set: all.Connectors(), Log: slog.New(slog.DiscardHandler), Version: "test"}
	config := func(more string) string {
		return fmt.Sprintf("source {\n  use \"eventhub\" {\n    namespace = \"acme\"\n    name = \"events\"\n%s  }\n}\n", more)
	}
	const elsewhere = "    checkpoints {\n      container_url = \"https://acme.blob.core.windows.net/c\"\n      account_key = \"a2V5\"\n    }\n"
	if built(t, b, config("")).Store == nil {
		t.Error("there is no store for checkpoints")
	}
	if built(t, b, config(elsewhere)).Store != nil {
		t.Error("a store is opened that nothing needs")
	}

	from, to := enginetest.NewEventHub(t, 2), enginetest.NewEventHub(t, 1)
	use := func(h enginetest.EventHub) string {
		return fmt.Sprintf("  use \"eventhub\" {\n    namespace = \"emulator\"\n    name = %q\n    credentials {\n      connection_string = %q\n    }\n  }\n", h.Name, h.ConnectionString())
	}
	hcl := fmt.Sprintf("store {\n  use \"embedded\" {\n    path = %q\n  }\n}\nsource {\n%s}\ntarget {\n%s}\n", t.TempDir(), use(from), use(to))
	from.Append(t, 0, "a", "b")
	from.Append(t, 1, "c")
	for _, want := range []int{3, 4} {
		p := start(t, hcl)
		await(t, "all events to be there", func() bool { return len(to.Events(t, 0)) >= want })
		p.ends(t)
		if n := len(to.Events(t, 0)); n != want {
			t.Fatalf("the hub holds %d events, want %d", n, want)
		}
		from.Append(t, 1, "d")
	}
}
