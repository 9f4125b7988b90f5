package postgres

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/queue"
)

// openJobs is what is open in a queue, as the database has it.
func openJobs(t *testing.T, s *Store, q string) []string {
	t.Helper()
	out := []string{}
	for _, j := range allJobs(t, s, q) {
		out = append(out, string(j.Msg.Data))
	}
	return out
}

// shut closes a store before its test ends.
func shut(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// leaseMany leases n jobs of a queue.
func leaseMany(t *testing.T, s *Store, q string, n int) []queue.Job {
	t.Helper()
	var jobs []queue.Job
	await(t, fmt.Sprintf("%d jobs of %s are leased", n, q), func() bool {
		more, err := s.Lease(t.Context(), queue.Query{Filter: queue.Filter{Queue: q}, Limit: n - len(jobs), For: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, more...)
		return len(jobs) >= n
	})
	return jobs
}

func settle(t *testing.T, s *Store, results ...queue.Result) {
	t.Helper()
	if err := s.Update(t.Context(), func(tx queue.Tx) error { return tx.Settle(results...) }); err != nil {
		t.Fatal(err)
	}
}

// TestCheckpointOfAnotherHistory opens stores with checkpoints that were written from the memory
// of a log that is lost: past the end of the log, and overtaken by what was appended since.
func TestCheckpointOfAnotherHistory(t *testing.T) {
	t.Parallel()
	for _, more := range []int{0, 3, 40} {
		t.Run(fmt.Sprintf("%d appended since", more), func(t *testing.T) {
			t.Parallel()
			dsn := enginetest.Postgres(t)
			sv := programs(t)
			backup := filepath.Join(t.TempDir(), "backup")
			o := Options{DSN: dsn, Partitions: 1, Log: discard()}
			s := open(t, o)
			var want []string
			for i := range 6 {
				want = append(want, fmt.Sprint("kept ", i))
			}
			if err := appendTo(s, "a", want...); err != nil {
				t.Fatal(err)
			}
			jobs := leaseMany(t, s, "a", 6)
			settle(t, s, jobs[0].Done(), jobs[1].Again(time.Now().Add(time.Hour), "later"), jobs[2].Dead("for good"))
			if err := s.Release(t.Context(), jobs[3:]); err != nil {
				t.Fatal(err)
			}
			want = want[3:]
			shut(t, s)
			sv.dump(dsn, backup)
			// The other history: all is settled, more comes and goes.
			s = open(t, o)
			for i := range 20 {
				if err := appendTo(s, "a", fmt.Sprint("lost ", i)); err != nil {
					t.Fatal(err)
				}
			}
			for _, j := range leaseMany(t, s, "a", 23) {
				settle(t, s, j.Done())
			}
			shut(t, s)
			do(t, dsn, "CREATE SCHEMA other", "CREATE TABLE other.lanes AS TABLE weir.lanes", "CREATE TABLE other.parts AS TABLE weir.parts")
			sv.revert(dsn, backup)
			s = open(t, o)
			for i := range more {
				if err := appendTo(s, "a", fmt.Sprint("new ", i)); err != nil {
					t.Fatal(err)
				}
				want = append(want, fmt.Sprint("new ", i))
			}
			shut(t, s)
			do(t, dsn, `UPDATE weir.lanes t SET first = o.first, tail = o.tail, jobs = o.jobs, bytes = o.bytes, retry = o.retry, parked = o.parked,
				dead = o.dead, retried = o.retried, partly = o.partly FROM other.lanes o WHERE o.id = t.id`,
				"UPDATE weir.parts t SET pos = o.pos, epoch = o.epoch FROM other.parts o WHERE o.id = t.id")
			s = open(t, o)
			if _, err := s.Verify(t.Context(), nil); !errors.Is(err, queue.ErrCorrupt) || !strings.Contains(err.Error(), "another history") {
				t.Errorf("Verify = %v, want that the checkpoint is of another history", err)
			}
			got := leaseMany(t, s, "a", len(want))
			for i := range got {
				if string(got[i].Msg.Data) != want[i] {
					t.Errorf("job %d is %q, want %q", i, got[i].Msg.Data, want[i])
				}
			}
			st, err := s.Stats(t.Context(), queue.Filter{Queue: "a"})
			if err != nil || st.Retrying != 1 || st.Dead != 1 || st.Open() != len64(want)+1 {
				t.Errorf("stats %+v, %v, want %d open, one of them to be tried again, and one dead", st, err, len(want)+1)
			}
			for _, j := range got {
				settle(t, s, j.Done())
			}
			shut(t, s)
			s = open(t, o)
			figures, err := s.Verify(t.Context(), nil)
			if err != nil {
				t.Errorf("after it was mended: %v", err)
			}
			if left := openJobs(t, s, "a"); !slices.Equal(left, []string{"kept 1"}) || figures["side_jobs"] != 2 {
				t.Errorf("%q are left (%v)", left, figures)
			}
		})
	}
}

func len64(s []string) int64 { return int64(len(s)) }

// TestSalvage damages what can be damaged, each for itself: the check names it, nobody is told
// that a job is gone who was not before, and what is salvaged can be used.
func TestSalvage(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, damage, says string
		lost               []string
		figures            map[string]int64
	}{
		{"nothing", "SELECT 1", "", nil, map[string]int64{"open": 9, "dead": 1}},
		{"a value", "UPDATE weir.log_1 SET data = '\\x0102' WHERE lane IS NOT NULL AND seq = 5", "value 5 of lane", []string{"job 4"},
			map[string]int64{"open": 8, "dead": 1, "batches": 1}},
		{"a missing value", "DELETE FROM weir.log_1 WHERE lane IS NOT NULL AND seq = 6", "value 6 of lane", []string{"job 5"},
			map[string]int64{"open": 8, "dead": 1, "batches": 1}},
		{"a dead job", "UPDATE weir.side SET record = '\\xff' WHERE state = 3", "outside of the log", nil,
			map[string]int64{"open": 9, "made": 1, "jobs": 1}},
		{"a checkpoint", "UPDATE weir.lanes SET partly = '\\xff' WHERE queue = 'a'", "partly settled", nil,
			map[string]int64{"open": 9, "dead": 1, "made": 1}},
		{"counts", "UPDATE weir.lanes SET dead = 7 WHERE queue = 'a'", "outside of the log", nil, map[string]int64{"open": 9, "dead": 1, "made": 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dsn := enginetest.Postgres(t)
			o := Options{DSN: dsn, Partitions: 1, Log: discard()}
			s := open(t, o)
			var want []string
			for i := range 12 {
				want = append(want, fmt.Sprint("job ", i))
				if err := appendTo(s, "a", want[i]); err != nil {
					t.Fatal(err)
				}
			}
			jobs := leaseMany(t, s, "a", 12)
			settle(t, s, jobs[0].Done(), jobs[2].Done())
			settle(t, s, jobs[1].Dead("for good"))
			want = want[3:]
			if _, err := Salvage(t.Context(), o, nil); !errors.Is(err, queue.ErrInUse) {
				t.Errorf("Salvage of a store that is open = %v, want ErrInUse", err)
			}
			shut(t, s)
			do(t, dsn, tt.damage)
			s = open(t, o)
			var told int64
			_, err := s.Verify(t.Context(), func(done, _ int64) { told = done })
			if tt.says == "" && (err != nil || told == 0) {
				t.Errorf("Verify of a whole store = %v, of which %d bytes were read", err, told)
			}
			if tt.says != "" && (!errors.Is(err, queue.ErrCorrupt) || !strings.Contains(err.Error(), tt.says)) {
				t.Errorf("Verify = %v, want damage: %s", err, tt.says)
			}
			shut(t, s)
			r, err := Salvage(t.Context(), o, nil)
			if err != nil {
				t.Fatal(err)
			}
			if f := tt.figures; f != nil && (r != Salvaged{Open: f["open"], Dead: f["dead"], Made: f["made"], LostBatches: f["batches"], LostJobs: f["jobs"]}) {
				t.Errorf("salvaged %+v, want %v", r, f)
			}
			want = slices.DeleteFunc(want, func(p string) bool { return slices.Contains(tt.lost, p) })
			s = open(t, o)
			if _, err := s.Verify(t.Context(), nil); err != nil {
				t.Errorf("after it was salvaged: %v", err)
			}
			var got []string
			for _, j := range leaseMany(t, s, "a", len(want)) {
				got = append(got, string(j.Msg.Data))
				settle(t, s, j.Done())
			}
			if !slices.Equal(got, want) {
				t.Errorf("jobs %q, want %q", got, want)
			}
			if left := openJobs(t, s, "a"); len(left) > 0 {
				t.Errorf("%q are left", left)
			}
		})
	}
}
