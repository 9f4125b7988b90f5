package embedded

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
)

// TestRetune: the limits of an open store can be lowered and raised. One whose limit is lowered far
// below the segments that it was opened for comes to have room again once its work is settled.
func TestRetune(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem()
		s, err := Open("store", Options{FS: fs})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		put := func() error {
			return s.Update(t.Context(), func(tx queue.Tx) error {
				return tx.Append(queue.Job{Queue: "a", Msg: event.New([]byte(text(10000)))})
			})
		}
		for range 500 {
			if err := put(); err != nil {
				t.Fatal(err)
			}
		}
		retune := func(o Options) {
			t.Helper()
			o.FS = fs
			if err := s.Retune(o); err != nil {
				t.Fatal(err)
			}
		}
		retune(Options{MaxBytes: 1 << 20})
		if err := put(); !errors.Is(err, queue.ErrFull) {
			t.Errorf("5 MB, a limit of one: %v", err)
		}
		retune(Options{})
		if err := put(); err != nil {
			t.Errorf("without a limit: %v", err)
		}
		retune(Options{MaxBytes: 1 << 20})
		jobs, err := s.Lease(t.Context(), queue.Query{Filter: queue.Filter{Queue: "a"}, Limit: 10000})
		if err != nil {
			t.Fatal(err)
		}
		for i := range jobs {
			if err := s.Update(t.Context(), func(tx queue.Tx) error { return tx.Settle(jobs[i].Done()) }); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Second)
		if err := put(); err != nil {
			t.Errorf("all is settled: %v", err)
		}
		if r := s.Room(); r.Limit != 1<<20 || r.Taken > r.Limit {
			t.Errorf("room: %+v", r)
		}
	})
}

// TestRetuneRetention: dead jobs expire by the retention that was set last.
func TestRetuneRetention(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem()
		s, err := Open("store", Options{FS: fs})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.Update(t.Context(), func(tx queue.Tx) error {
			return tx.Append(queue.Job{Queue: "a", Msg: event.New([]byte("x"))})
		}); err != nil {
			t.Fatal(err)
		}
		jobs, err := s.Lease(t.Context(), queue.Query{Filter: queue.Filter{Queue: "a"}, Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Update(t.Context(), func(tx queue.Tx) error { return tx.Settle(jobs[0].Dead("no")) }); err != nil {
			t.Fatal(err)
		}
		dead := func() int64 {
			t.Helper()
			st, err := s.Stats(t.Context(), queue.Filter{Queue: "a"})
			if err != nil {
				t.Fatal(err)
			}
			return st.Dead
		}
		time.Sleep(48 * time.Hour)
		if n := dead(); n != 1 {
			t.Fatalf("%d are dead, want 1: they are kept", n)
		}
		if err := s.Retune(Options{FS: fs, DeadRetention: 24 * time.Hour}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(24 * time.Hour)
		if n := dead(); n != 0 {
			t.Errorf("%d are dead after two days; they are kept for one", n)
		}
	})
}
