package executor_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/executor"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/embedded"
)

// TestTargetAgain: a function of a target works again after Close and Open, also when it was
// closed within a write, or the target could not be opened in between.
func TestTargetAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &sink{write: func(ctx context.Context, b event.Batch) error {
			if string(b[0].Data) == "stuck" {
				<-ctx.Done()
				return context.Cause(ctx)
			}
			return nil
		}}
		f := s.function(t)
		for range 3 {
			if _, err := f.Invoke(t.Context(), executor.Call{Input: []byte("1")}); err != nil {
				t.Fatal(err)
			}
			cut := make(chan error)
			go func() {
				_, err := f.Invoke(context.Background(), executor.Call{Input: []byte("stuck")})
				cut <- err
			}()
			synctest.Wait()
			if err := f.Close(context.Background()); err != nil {
				t.Error(err)
			}
			if err := <-cut; err == nil {
				t.Error("a write that was cut has no error")
			}
			if err := f.Open(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Close(context.Background()); err != nil || s.opened != s.closed {
			t.Errorf("Close: %v; %d opened, %d closed", err, s.opened, s.closed)
		}
	})
}

// users is a function that counts who has it open.
type users struct {
	executor.Function
	open, fewest int
	fails        bool
}

func (u *users) Open(context.Context) error {
	if u.fails {
		return errors.New("not now")
	}
	u.open++
	return nil
}

func (u *users) Close(context.Context) error {
	u.open--
	u.fewest = min(u.fewest, u.open)
	return nil
}

// TestMachineClosesWhatItOpened: a machine that cannot open one of its functions closes those
// that it has opened, once, and no other: another machine may have them open.
func TestMachineClosesWhatItOpened(t *testing.T) {
	t.Parallel()
	s, err := embedded.Open("store", embedded.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		functions, all := map[string]executor.Function{}, []*users{}
		fails := false
		for i := range rapid.IntRange(1, 6).Draw(rt, "functions") {
			u := &users{fails: rapid.IntRange(0, 3).Draw(rt, "fails") == 0}
			fails = fails || u.fails
			all, functions[fmt.Sprint(i)] = append(all, u), u
		}
		m := executor.New(executor.Options{Name: "m", Definition: parse(t, sharedMachine), Functions: functions, Store: func() queue.Store { return s }})
		for range 3 {
			if err := m.Open(t.Context()); (err != nil) != fails {
				rt.Errorf("Open: %v", err)
			}
			if err := m.Close(t.Context()); err != nil {
				rt.Error(err)
			}
			for i, u := range all {
				if u.open != 0 || u.fewest < 0 {
					rt.Errorf("function %d is open %d times, and was %d times at the least", i, u.open, u.fewest)
				}
			}
		}
	})
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
