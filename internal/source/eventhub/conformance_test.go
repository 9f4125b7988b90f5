package eventhubsource_test

import (
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/embedded"
)

// memory is a store of this process.
func memory(t testing.TB) queue.Store {
	t.Helper()
	s, err := embedded.Open("store", embedded.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// kinds are where checkpoints are kept; a short run of tests has Blob storage only.
func kinds() []string {
	if enginetest.InCI() {
		return []string{"blobs", "store"}
	}
	return []string{"blobs"}
}

// TestConformance reads one partition, which keeps the order.
func TestConformance(t *testing.T) { // not parallel: it looks for goroutines
	for _, kept := range kinds() {
		t.Run(kept, func(t *testing.T) {
			setup := func(t *testing.T, payloads [][]byte) (enginetest.EventHub, func() connector.Source) {
				hub := enginetest.NewEventHub(t, 1)
				put(t, hub, payloads)
				o := options{hub: hub}
				if kept == "store" {
					o.store = memory(t)
				} else {
					o.container = newContainer(t)
				}
				return hub, func() connector.Source { return o.source(t, nil) }
			}
			conntest.Source(t, conntest.SourceCase{
				Setup: func(t *testing.T, payloads [][]byte) func() connector.Source {
					_, restart := setup(t, payloads)
					return restart
				},
				Losing: func(t *testing.T, payloads [][]byte) (func() connector.Source, func()) {
					hub, restart := setup(t, payloads)
					return restart, func() { hub.Do(t, "expire", map[string]any{"partition": 0, "before": 1}) }
				},
				Features: conntest.SourceFeatures{Ordered: true, Acknowledges: true, Remembers: true, Binary: true, Empty: true, Positions: true, Seeks: true, Slow: time.Second},
			})
		})
	}
}
