package embedded

import (
	"bytes"
	"slices"
	"testing"

	"github.com/weirdata/weir/internal/queue"
)

// TestRecent keeps the newest values within the limit, hands each out once, and does not
// grow with what was taken.
func TestRecent(t *testing.T) {
	t.Parallel()
	r := newRecent(1000)
	value := func(n byte) []byte { return bytes.Repeat([]byte{n}, 200) }
	for n := range byte(7) {
		if !r.keep(1, uint64(n), value(n)) {
			t.Fatalf("value %d was not kept", n)
		}
	}
	if vs := r.take(1, 1, 1<<20); vs != nil {
		t.Errorf("value 1 should be pushed out, got %d values", len(vs))
	}
	vs := r.take(1, 2, 500)
	if len(vs) != 2 || vs[0].Seq != 2 || vs[1].Seq != 3 || !bytes.Equal(vs[1].Data, value(3)) {
		t.Errorf("took %v", vs)
	}
	if vs := r.take(1, 2, 500); vs != nil {
		t.Errorf("value 2 was handed out twice")
	}
	if vs := r.take(1, 4, 1); len(vs) != 1 || vs[0].Seq != 4 {
		t.Errorf("the first value may be larger than asked for, got %v", vs)
	}
	if r.keep(1, 7, make([]byte, 251)) {
		t.Error("a value of more than a quarter of the limit was kept")
	}
	if loose := append(make([]byte, 0, 4096), "small"...); r.keep(1, 8, loose) || cap(r.take(1, 8, 100)[0].Data) > 64 {
		t.Error("a small value holds on to a large buffer")
	}
	for n := range uint64(100_000) {
		r.keep(2, n, value(1))
		r.take(2, n, 1)
	}
	if len(r.order) > 5000 || r.bytes > 1000 {
		t.Errorf("%d places and %d bytes are remembered of values that were taken", len(r.order), r.bytes)
	}
	if none := newRecent(-1); none.keep(1, 1, []byte("x")) || none.take(1, 1, 100) != nil {
		t.Error("without memory nothing is kept")
	}
}

// TestForgetOld lets the kernel forget the segments that are far behind the end of the
// log, once, and they are read all the same.
func TestForgetOld(t *testing.T) {
	t.Parallel()
	s, err := Open(t.TempDir(), Options{SegmentBytes: 10_000, RecentBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	jobs := benchJobs(4, 500)
	for range 40 {
		if err := s.Update(t.Context(), func(tx queue.Tx) error { return tx.Append(jobs...) }); err != nil {
			t.Fatal(err)
		}
	}
	s.maintain.Lock()
	s.forgetOld(30_000)
	newer := int64(0)
	for _, n := range slices.Backward(s.segmentNumbers()) {
		g := s.segments[n]
		if g.dropped != (newer >= 30_000) {
			t.Errorf("segment %d, with %d bytes after it: forgotten %v", n, newer, g.dropped)
		}
		newer += g.size
	}
	s.maintain.Unlock()
	if newer < 60_000 {
		t.Fatalf("the log has %d bytes only", newer)
	}
	leased, err := s.Lease(t.Context(), queue.Query{Filter: queue.Filter{Queue: "events"}})
	if err != nil || len(leased) != 160 {
		t.Errorf("leased %d jobs: %v", len(leased), err)
	}
}

// TestReadSettleAllocations holds the allocations of a job that is leased and settled:
// those of a batch are counted, not those of each job.
func TestReadSettleAllocations(t *testing.T) {
	const each = 1000
	jobs := benchJobs(100, 500)
	for name, recent := range map[string]int{"from memory": 0, "from the log": -1} {
		s, err := Open(t.TempDir(), Options{RecentBytes: recent})
		if err != nil {
			t.Fatal(err)
		}
		fill := func() {
			for range each / len(jobs) {
				if err := s.Update(t.Context(), func(tx queue.Tx) error { return tx.Append(jobs...) }); err != nil {
					t.Fatal(err)
				}
			}
		}
		results := make([]queue.Result, each)
		fill()
		both := testing.AllocsPerRun(20, func() {
			fill()
			leased, err := s.Lease(t.Context(), queue.Query{Filter: queue.Filter{Queue: "events"}, Limit: each})
			if err != nil || len(leased) != each {
				t.Fatalf("leased %d jobs: %v", len(leased), err)
			}
			for i := range leased {
				results[i] = leased[i].Done()
			}
			if err := s.Update(t.Context(), func(tx queue.Tx) error { return tx.Settle(results...) }); err != nil {
				t.Fatal(err)
			}
		})
		// A fill allocates as well: what it does so is taken off.
		alone := testing.AllocsPerRun(20, fill)
		if n := (both - alone) / each; n > 0.2 {
			t.Errorf("%s: a job leased and settled allocates %.3f times, want at most 0.2", name, n)
		} else {
			t.Logf("%s: %.3f allocations for each job", name, n)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
