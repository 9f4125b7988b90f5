package embedded

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
)

// TestNotesOfResults: a full store takes what is noted of results with them, so that it can empty; and
// neither other records nor notes of nothing.
func TestNotesOfResults(t *testing.T) {
	t.Parallel()
	s, err := Open("store", Options{FS: vfs.NewMem(), MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for n := 0; ; n++ {
		if err = s.Update(t.Context(), func(tx queue.Tx) error {
			return tx.Append(queue.Job{Queue: "a", Msg: event.New([]byte(text(30000)))})
		}); err != nil || n == 1000 {
			break
		}
	}
	if !errors.Is(err, queue.ErrFull) {
		t.Fatal(err)
	}
	jobs, err := s.Lease(t.Context(), queue.Query{Filter: queue.Filter{Queue: "a"}, Limit: 2})
	if err != nil || len(jobs) != 2 {
		t.Fatal(jobs, err)
	}
	key, value := []byte("k"), []byte(text(30000))
	if err := s.Update(t.Context(), func(tx queue.Tx) error { return queue.Note(tx, key, value) }); !errors.Is(err, queue.ErrFull) {
		t.Errorf("a note of nothing: %v", err)
	}
	if err := s.Update(t.Context(), func(tx queue.Tx) error { return errors.Join(tx.Settle(jobs[0].Done()), tx.Put(key, value)) }); !errors.Is(err, queue.ErrFull) {
		t.Errorf("a record beside a result: %v", err)
	}
	if err := s.Update(t.Context(), func(tx queue.Tx) error { return errors.Join(tx.Settle(jobs[0].Done()), queue.Note(tx, key, value)) }); err != nil {
		t.Errorf("a note of a result: %v", err)
	}
	if err := s.View(t.Context(), func(r queue.Reader) error {
		got, err := r.Get(key)
		if len(got) != len(value) {
			t.Errorf("noted are %d bytes", len(got))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}
