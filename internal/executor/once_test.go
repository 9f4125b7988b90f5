package executor_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/executor"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/embedded"
)

// read is a message as a source reads it at an offset.
func read(at uint64, payload string) *event.Message {
	m := event.New([]byte(payload))
	m.Meta.Origin = &event.Origin{Stream: "orders.log", Partition: "p", Position: event.PutNumber(nil, at)}
	return m
}

// TestMessageFindsItsExecution: one who waited, went away and comes again with the same message
// finds the execution that it has started, while that goes on and when it has ended; another
// message starts another.
func TestMessageFindsItsExecution(t *testing.T) {
	bubble(t, func(t *testing.T, s *embedded.Store) {
		charge := echo()
		text := `{"StartAt":"Charge","States":{"Charge":{"Type":"Task","Resource":"Charge","Next":"W"},"W":{"Type":"Wait","Seconds":60,"End":true}}}`
		r := run(t, s, text, map[string]executor.Function{"Charge": charge})
		cut := func(m *event.Message) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if err := r.Execute(ctx, event.Batch{m}); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("it was not cut: %v", err)
			}
		}
		cut(read(1, `{"order":1}`))
		cut(read(1, `{"order":1}`))
		r.ends(t) // and the process is started again
		r = run(t, s, text, map[string]executor.Function{"Charge": charge})
		for range 3 {
			if err := r.Execute(t.Context(), event.Batch{read(1, `{"order":1}`)}); err != nil {
				t.Error(err)
			}
		}
		if n := charge.calls.Load(); n != 1 {
			t.Errorf("one message was charged %d times", n)
		}
		for i, m := range []*event.Message{read(2, `{"order":1}`), read(1, `{"order":2}`), event.New([]byte(`{"order":1}`))} {
			if err := r.Execute(t.Context(), event.Batch{m}); err != nil {
				t.Error(err)
			}
			if n := charge.calls.Load(); n != int64(i)+2 {
				t.Errorf("message %d: %d executions", i, n)
			}
		}
		// Equal messages that one became are not one message.
		if err := r.Execute(t.Context(), event.Batch{read(9, `{}`), read(9, `{}`)}); err != nil || charge.calls.Load() != 6 {
			t.Errorf("%v, %d executions", err, charge.calls.Load())
		}
		r.ends(t)
	})
}

// TestFailedMessageMayBeTriedAgain: what is remembered is success only.
func TestFailedMessageMayBeTriedAgain(t *testing.T) {
	bubble(t, func(t *testing.T, s *embedded.Store) {
		fails := does(func(context.Context, executor.Call) error { return errors.New("no") })
		r := run(t, s, `{"StartAt":"T","States":{"T":{"Type":"Task","Resource":"F","End":true}}}`, map[string]executor.Function{"F": fails},
			func(o *executor.Options) { o.Keep = time.Hour })
		for n := range int64(3) {
			if err := r.Execute(t.Context(), event.Batch{read(1, `{}`)}); err == nil || fails.calls.Load() != n+1 {
				t.Errorf("%v, %d executions", err, fails.calls.Load())
			}
		}
		r.ends(t)
	})
}

// TestStartedOnce: a message that nobody waits for starts one execution, however often it is
// delivered within ten minutes, and is forgotten afterwards.
func TestStartedOnce(t *testing.T) {
	bubble(t, func(t *testing.T, s *embedded.Store) {
		work := echo()
		r := run(t, s, `{"StartAt":"T","States":{"T":{"Type":"Task","Resource":"F","End":true}}}`, map[string]executor.Function{"F": work})
		deliver := func() {
			t.Helper()
			if err := s.Update(t.Context(), func(tx queue.Tx) error {
				return r.StartOnceIn(tx, event.Batch{read(1, `{}`), read(1, `{}`), read(2, `{}`)})
			}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			synctest.Wait()
		}
		deliver()
		deliver()
		if n := work.calls.Load(); n != 3 {
			t.Errorf("3 messages started %d executions", n)
		}
		time.Sleep(time.Hour)
		left := 0
		if err := s.View(t.Context(), func(v queue.Reader) error {
			for _, err := range v.Scan([]byte("machine/m/w/"), nil) {
				if err != nil {
					return err
				}
				left++
			}
			return nil
		}); err != nil || left > 0 {
			t.Errorf("%d are remembered after an hour, %v", left, err)
		}
		r.ends(t)
	})
}
