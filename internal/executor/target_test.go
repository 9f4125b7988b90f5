package executor_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/executor"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/embedded"
)

// sink is a target that does what the test says and remembers its batches.
type sink struct {
	limits connector.Limits
	write  func(ctx context.Context, b event.Batch) error

	mu             sync.Mutex
	batches        [][]string
	ids            map[string]string // by payload
	writers, most  int
	opened, closed int
}

func (s *sink) Limits() connector.Limits    { return s.limits }
func (s *sink) Open(context.Context) error  { s.opened++; return nil }
func (s *sink) Close(context.Context) error { s.closed++; return nil }
func (s *sink) Write(ctx context.Context, b event.Batch) error {
	s.mu.Lock()
	s.writers++
	s.most = max(s.most, s.writers)
	payloads := make([]string, len(b))
	for i, m := range b {
		payloads[i] = string(m.Data)
		if s.ids == nil {
			s.ids = map[string]string{}
		}
		s.ids[payloads[i]] = m.Meta.ID
	}
	s.batches = append(s.batches, payloads)
	s.mu.Unlock()
	defer func() { s.mu.Lock(); s.writers--; s.mu.Unlock() }()
	return s.write(ctx, b)
}

// function makes a function of s, which is open and will be closed.
func (s *sink) function(t *testing.T) *executor.TargetFunction {
	t.Helper()
	if s.limits.MaxBatchMessages == 0 {
		s.limits = connector.Limits{MaxBatchMessages: 100, MaxBatchBytes: 1 << 20, MaxMessageBytes: 1 << 20, MaxConcurrentBatches: 1}
	}
	f := executor.NewTarget(s)
	if err := f.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return f
}

func (s *sink) ends(t *testing.T, f *executor.TargetFunction) {
	t.Helper()
	if err := f.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if s.opened != 1 || s.closed != 1 {
		t.Errorf("the target was opened %d times and closed %d times", s.opened, s.closed)
	}
}

// TestTargetBatches: tasks that wait for one another's write are written together, within the
// limits of the target, and each hears of its own message.
func TestTargetBatches(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		limits connector.Limits
		want   [][]string // what waits while the first is written
	}{
		{"messages", connector.Limits{MaxBatchMessages: 3, MaxBatchBytes: 1000, MaxMessageBytes: 1000, MaxConcurrentBatches: 1}, [][]string{{`"a"`, `"b"`, `"c"`}, {`"lonely"`, `"d"`}}},
		{"bytes", connector.Limits{MaxBatchMessages: 100, MaxBatchBytes: 6, MaxMessageBytes: 1000, MaxConcurrentBatches: 1}, [][]string{{`"a"`, `"b"`}, {`"c"`}, {`"lonely"`}, {`"d"`}}},
		{"alone", connector.Limits{MaxBatchMessages: 100, MaxBatchBytes: 1000, MaxMessageBytes: 1000, MaxConcurrentBatches: 1,
			Alone: func(m *event.Message) bool { return bytes.Contains(m.Data, []byte("lonely")) }}, [][]string{{`"a"`, `"b"`, `"c"`}, {`"lonely"`}, {`"d"`}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &sink{limits: row.limits, write: func(context.Context, event.Batch) error { time.Sleep(time.Second); return nil }}
				f := s.function(t)
				var all sync.WaitGroup
				for _, payload := range []string{"first", "a", "b", "c", "lonely", "d"} {
					all.Go(func() {
						in := fmt.Appendf(nil, "%q", payload)
						a, err := f.Invoke(t.Context(), executor.Call{ID: "x-" + payload, Input: in})
						if err != nil || !bytes.Equal(a.Output, in) || a.Put != nil {
							t.Errorf("%s: %+v, %v", payload, a, err)
						}
					})
					synctest.Wait() // so that they wait in this order
				}
				all.Wait()
				if diff := cmp.Diff(append([][]string{{`"first"`}}, row.want...), s.batches); diff != "" {
					t.Errorf("batches (-want +got):\n%s", diff)
				}
				if s.ids[`"a"`] != "x-a" {
					t.Errorf("the message of task x-a has the ID %q", s.ids[`"a"`])
				}
				s.ends(t, f)
			})
		})
	}
}

// TestTargetWriters: as many writes at once as the target takes, and no more.
func TestTargetWriters(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &sink{limits: connector.Limits{MaxBatchMessages: 1, MaxBatchBytes: 1000, MaxMessageBytes: 1000, MaxConcurrentBatches: 3},
			write: func(context.Context, event.Batch) error { time.Sleep(time.Second); return nil }}
		f := s.function(t)
		began := time.Now()
		var all sync.WaitGroup
		for range 9 {
			all.Go(func() {
				if _, err := f.Invoke(t.Context(), executor.Call{Input: []byte("1")}); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if s.most != 3 || time.Since(began) != 3*time.Second {
			t.Errorf("%d writes at once, %s for nine: want 3 and 3s", s.most, time.Since(began))
		}
		s.ends(t, f)
	})
}

// TestTargetErrors: a message that fails has an error by the meaning of its own failure, as
// JSON that a Catcher can read; the others of its batch are written.
func TestTargetErrors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kinds := map[string]fault.Kind{"transient": fault.Transient, "throttled": fault.Throttled, "setup": fault.Setup, "invalid": fault.Invalid, "fatal": fault.Fatal}
		s := &sink{limits: connector.Limits{MaxBatchMessages: 100, MaxBatchBytes: 1000, MaxMessageBytes: 20, MaxConcurrentBatches: 1}}
		s.write = func(_ context.Context, b event.Batch) error {
			time.Sleep(time.Second)
			failed := map[int]error{}
			for i, m := range b {
				switch name := string(bytes.Trim(m.Data, `"`)); name {
				case "panic":
					panic("out of order")
				case "all":
					return fault.New(fault.Throttled, errors.New("all of it"))
				default:
					if k, bad := kinds[name]; bad {
						failed[i] = fault.New(k, fmt.Errorf("it is %s", name))
					}
				}
			}
			if len(failed) > 0 {
				return &connector.Partial{Failed: failed}
			}
			return nil
		}
		f := s.function(t)
		type failure struct{ Name, Message string }
		got := map[string]failure{}
		var mu sync.Mutex
		invoke := func(names ...string) {
			var all sync.WaitGroup
			for _, name := range names {
				all.Go(func() {
					_, err := f.Invoke(t.Context(), executor.Call{Input: fmt.Appendf(nil, "%q", name)})
					var known *executor.TaskError
					if err != nil && !errors.As(err, &known) {
						t.Errorf("%s: %v", name, err)
						return
					}
					g := failure{}
					if known != nil {
						var cause struct{ ErrorType, ErrorMessage string }
						if err := json.Unmarshal([]byte(known.Cause), &cause); err != nil || cause.ErrorType != known.Name {
							t.Errorf("%s: the cause is %s: %v", name, known.Cause, err)
						}
						g = failure{known.Name, cause.ErrorMessage}
					}
					mu.Lock()
					defer mu.Unlock()
					got[name] = g
				})
			}
			all.Wait()
		}
		invoke("first") // writes, so that the others wait and go together
		invoke("good", "transient", "throttled", "setup", "invalid", "fatal", "fine")
		invoke("panic")
		invoke("all")
		invoke("much too long for this", "after")
		want := map[string]failure{"first": {}, "good": {}, "fine": {}, "after": {},
			"transient": {"Target.Transient", "it is transient"}, "throttled": {"Target.Throttled", "it is throttled"}, "setup": {"Target.Setup", "it is setup"},
			"invalid": {"Target.Invalid", "it is invalid"}, "fatal": {"Target.Fatal", "it is fatal"},
			"panic": {"Target.Transient", "the target panicked: out of order"}, "all": {"Target.Throttled", "all of it"},
			"much too long for this": {"Target.Invalid", "the input has 24 bytes, the target takes 20"}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("failures (-want +got):\n%s", diff)
		}
		if s.ids[`"much too long for this"`] != "" {
			t.Error("what is too large was written")
		}
		s.ends(t, f)
	})
}

// TestTargetCut: a task whose time is over does not end the write, which others wait for;
// closing does.
func TestTargetCut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var wrote, cut atomic.Int64
		s := &sink{limits: connector.Limits{MaxBatchMessages: 100, MaxBatchBytes: 1000, MaxMessageBytes: 1000, MaxConcurrentBatches: 1}}
		s.write = func(ctx context.Context, b event.Batch) error {
			select {
			case <-time.After(time.Minute):
				wrote.Add(int64(len(b)))
				return nil
			case <-ctx.Done():
				cut.Add(int64(len(b)))
				return ctx.Err()
			}
		}
		f := s.function(t)
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := f.Invoke(short, executor.Call{Input: []byte("1")}); err == nil || wrote.Load() != 0 {
			t.Errorf("a task whose time is over: %v", err)
		}
		if _, err := f.Invoke(t.Context(), executor.Call{Input: []byte("2")}); err != nil {
			t.Errorf("another task: %v", err)
		}
		if wrote.Load() != 2 {
			t.Errorf("%d messages were written, want both", wrote.Load())
		}
		last := make(chan error)
		go func() {
			_, err := f.Invoke(context.Background(), executor.Call{Input: []byte("3")})
			last <- err
		}()
		synctest.Wait()
		closed := make(chan struct{})
		go func() { s.ends(t, f); close(closed) }()
		if err := <-last; err == nil || cut.Load() != 1 {
			t.Errorf("cut by closing: %v, %d messages", err, cut.Load())
		}
		<-closed
	})
}

// shelf is a target that is a queue of the store.
type shelf struct {
	sink
	store queue.Store
}

func (s *shelf) Store() queue.Store { return s.store }
func (s *shelf) Accepts(m *event.Message) error {
	if bytes.Contains(m.Data, []byte("refused")) {
		return fault.New(fault.Invalid, errors.New("not here"))
	}
	return nil
}

func (s *shelf) WriteIn(tx queue.Tx, b event.Batch) error {
	for _, m := range b {
		if err := tx.Append(queue.Job{Queue: "out", Msg: m}); err != nil {
			return err
		}
	}
	return nil
}

// TestTargetInTransaction: what is put into a queue of the store is there exactly when the
// step is, so that an execution which fails afterwards, and one that is tried again because
// another process was faster, put it once; what the queue refuses is an error of the task.
func TestTargetInTransaction(t *testing.T) {
	bubble(t, func(t *testing.T, s *embedded.Store) {
		out := &shelf{store: s, sink: sink{limits: connector.Limits{MaxMessageBytes: 1000}, write: func(context.Context, event.Batch) error { return errors.New("not in a transaction") }}}
		add := &task{effect: executor.None, do: func(_ context.Context, c executor.Call) (executor.Answer, error) {
			return executor.Answer{Output: append(bytes.Clone(c.Input[:len(c.Input)-1]), `,"attempt":1}`...)}, nil
		}}
		put := executor.NewTarget(out)
		back := executor.Then(add, put)
		if put.Effect() != executor.InTransaction || back.Effect() != executor.InTransaction || executor.Then(echo(), put).Effect() != executor.Elsewhere || executor.Then(add, add).Effect() != executor.None {
			t.Error("the effects are not those of the more serious function")
		}
		r := run(t, s, `{"StartAt":"Back","States":{"Back":{"Type":"Task","Resource":"Back","ResultPath":null,"Next":"C","Catch":[{"ErrorEquals":["Target.Invalid"],"ResultPath":"$.error","Next":"Kept"}]},
			"C":{"Type":"Choice","Choices":[{"Variable":"$.fails","IsPresent":true,"Next":"F"}],"Default":"S"},
			"Kept":{"Type":"Fail","ErrorPath":"$.error.Error","CausePath":"$.error.Cause"},"F":{"Type":"Fail"},"S":{"Type":"Succeed"}}}`, map[string]executor.Function{"Back": back})
		start(t, r.Machine, `{"id":"a"}`, `{"id":"b","fails":true}`, `{"id":"refused"}`)
		settle(t, s)
		r.ends(t)
		want := map[string]int{`{"id":"a","attempt":1}`: 1, `{"id":"b","fails":true,"attempt":1}`: 1}
		if diff := cmp.Diff(want, payloads(t, s, "out")); diff != "" {
			t.Errorf("the queue (-want +got):\n%s", diff)
		}
		causes := map[string]bool{}
		for _, j := range dead(t, s) {
			causes[string(j.Msg.Data)+" "+j.Cause] = true
		}
		if diff := cmp.Diff(map[string]bool{`{"id":"b","fails":true} FAILED (in state "F")`: true, `{"id":"refused"} FAILED Target.Invalid: {"errorType":"Target.Invalid","errorMessage":"not here"} (in state "Kept")`: true}, causes); diff != "" {
			t.Errorf("failed executions (-want +got):\n%s", diff)
		}
		if len(out.batches) != 0 || out.opened != 1 || out.closed != 1 {
			t.Errorf("%d writes outside of a transaction, %d opened, %d closed", len(out.batches), out.opened, out.closed)
		}
	})
}
