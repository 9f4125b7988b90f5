package queuesource_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/embedded"
)

// TestHasten: of the jobs of a destination, those that wait for their next attempt are due at once,
// with their attempts as they were; those of another destination, and those that somebody has in
// hand, stay as they are.
func TestHasten(t *testing.T) {
	bubble(t, func(t *testing.T, s *embedded.Store) {
		const most = 1200 // more than a transaction takes
		job := func(d string, i int) queue.Job {
			return queue.Job{Queue: "q", Scope: queue.Scope{Destination: d}, Ordered: true, Msg: &event.Message{Data: fmt.Append(nil, d, i), Key: fmt.Sprint(i)}}
		}
		for i := range most {
			appends(t, s, job("gone", i), job("stays", i))
		}
		appends(t, s, job("gone", 0)) // withheld by the first
		lease := func(d string) []queue.Job {
			jobs, err := s.Lease(t.Context(), queue.Query{Filter: queue.Filter{Queue: "q", By: queue.ByDestination, Value: d}, Limit: 10 * most, For: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			return jobs
		}
		for _, d := range []string{"gone", "stays"} {
			jobs := lease(d)
			if len(jobs) != most {
				t.Fatalf("%d jobs", len(jobs))
			}
			if d == "gone" { // the last is in hand
				jobs = jobs[:most-1]
			}
			var rs []queue.Result
			for i := range jobs {
				rs = append(rs, jobs[i].AgainAfter(24*time.Hour, "503"))
			}
			if err := s.Update(t.Context(), func(tx queue.Tx) error { return tx.Settle(rs...) }); err != nil {
				t.Fatal(err)
			}
		}
		src := source(t, s, nil)
		defer closes(t, src)
		if ds, err := src.Destinations(t.Context()); err != nil || fmt.Sprint(ds) != "[gone stays]" {
			t.Errorf("destinations %v, %v", ds, err)
		}
		if n := len(lease("gone")); n != 0 {
			t.Errorf("%d are due before", n)
		}
		if n, err := src.Hasten(t.Context(), "gone"); err != nil || n != most-1 {
			t.Errorf("hastened %d, %v", n, err)
		}
		if n := len(lease("stays")); n != 0 {
			t.Errorf("%d of another destination are due", n)
		}
		jobs := lease("gone")
		if len(jobs) != most-1 {
			t.Errorf("%d are due", len(jobs))
		}
		for _, j := range jobs {
			if j.Attempt != 1 || j.Cause != "503" {
				t.Fatalf("attempt %d, cause %q", j.Attempt, j.Cause)
			}
		}
	})
}
