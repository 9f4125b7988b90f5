package postgres

import (
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
)

// TestRetuneKnowsEveryOption: an option that is another after a reload counts at once, or is named.
func TestRetuneKnowsEveryOption(t *testing.T) {
	t.Parallel()
	s := open(t, Options{DSN: enginetest.Postgres(t)})
	atOnce := []string{"MaxBytes", "SegmentBytes", "SegmentAge", "Patience", "Poll"}
	elsewhere := map[string]string{
		"DSN": "see Relogin", "Schema": "it is another store", "Window": "no config has it", "Log": "no option", "Now": "no option", "wall": "no option",
	}
	for i := range reflect.TypeFor[Options]().NumField() {
		f := reflect.TypeFor[Options]().Field(i)
		if elsewhere[f.Name] != "" {
			continue
		}
		o := s.o
		o.MaxBytes, o.SegmentBytes, o.SegmentAge, o.Patience, o.Poll = s.tuned().MaxBytes, s.tuned().SegmentBytes, s.tuned().SegmentAge, s.tuned().Patience, s.tuned().Poll
		v := reflect.ValueOf(&o).Elem().Field(i)
		switch x := v.Interface().(type) {
		case string:
			v.SetString(x + "other")
		case time.Duration:
			v.SetInt(int64(x + time.Second))
		case int, int64:
			v.SetInt(v.Int() + 1)
		default:
			t.Fatalf("this test does not know how to change %s", f.Name)
		}
		later, err := s.Retune(o)
		if err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		if !slices.Contains(atOnce, f.Name) {
			if len(later) != 1 {
				t.Errorf("%s changes, and what is named is %q", f.Name, later)
			}
			continue
		}
		if got := reflect.ValueOf(s.tuned()).Elem().Field(i).Interface(); len(later) > 0 || !reflect.DeepEqual(got, v.Interface()) {
			t.Errorf("%s is %v, want %v; named for later: %q", f.Name, got, v, later)
		}
	}
}

// TestRetuneCountsAtOnce: a store whose limit is lowered is full, and takes more when it is raised.
// One that polls seldom, and is told to poll often, does.
func TestRetuneCountsAtOnce(t *testing.T) {
	t.Parallel()
	dsn := enginetest.Postgres(t)
	s := open(t, Options{DSN: dsn, Poll: time.Hour})
	put := func() error {
		return s.Update(t.Context(), func(tx queue.Tx) error { return tx.Append(queue.Job{Queue: "q", Msg: event.New([]byte("x"))}) })
	}
	retune := func(change func(*Options)) {
		t.Helper()
		next := *s.tuned()
		change(&next)
		if later, err := s.Retune(next); err != nil || len(later) > 0 {
			t.Fatalf("retune: %v, %v", later, err)
		}
	}
	if err := put(); err != nil {
		t.Fatal(err)
	}
	retune(func(o *Options) { o.MaxBytes = 1 })
	if err := put(); !errors.Is(err, queue.ErrFull) {
		t.Errorf("a store that may take a byte takes more: %v", err)
	}
	retune(func(o *Options) { o.MaxBytes = 0 })
	if err := put(); err != nil {
		t.Errorf("a store without a limit: %v", err)
	}
	// What is paused is read at each poll, whoever wrote it.
	if err := queue.SetPause(t.Context(), open(t, Options{DSN: dsn}), queue.Pause{Filter: queue.Filter{Queue: "q"}}); err != nil {
		t.Fatal(err)
	}
	retune(func(o *Options) { o.Poll = 10 * time.Millisecond })
	await(t, "a poll", func() bool { return s.pauses.Load().Hold("q", queue.Scope{}) })
}
