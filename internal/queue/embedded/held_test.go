package embedded

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
)

// TestLeasesHoldTheirOwn leases one job of each of many big values, by turns, and then some
// more: what stays in memory is about as much as the jobs take, and the store's caches. It is
// not parallel, as it measures the memory of the process.
func TestLeasesHoldTheirOwn(t *testing.T) {
	const values, jobs, size = 150, 256, 4 << 10 // of 1 MiB each
	dir := t.TempDir()
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, size)
	for v := range values {
		batch := make([]queue.Job, jobs)
		for i := range batch {
			batch[i] = queue.Job{Queue: "q", Scope: queue.Scope{Destination: fmt.Sprint(v)}, Msg: event.New(data)}
		}
		if err := s.Update(t.Context(), func(tx queue.Tx) error { return tx.Append(batch...) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(dir, Options{}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	heap := func() int {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	before := heap()
	var held []queue.Job
	for range 3 {
		more, err := s.Lease(t.Context(), queue.Query{Filter: queue.Filter{Queue: "q"}, Limit: values, Split: queue.ByDestination})
		if err != nil || len(more) != values {
			t.Fatalf("%d jobs came, want %d: %v", len(more), values, err)
		}
		held = append(held, more...)
	}
	const caches = 16 << 20 // of values that were handed out in part
	if grown, most := heap()-before, 2*len(held)*size+caches+4<<20; grown > most {
		t.Errorf("%d jobs of %d bytes hold %d bytes, want at most %d", len(held), size, grown, most)
	}
	runtime.KeepAlive(held)
}
