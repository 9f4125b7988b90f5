package executor_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/executor"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/machine"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/embedded"
	"github.com/weirdata/weir/internal/queue/storetest"
)

// bubble runs f where time is virtual, with a store in memory. It ends only when no goroutine
// is left.
func bubble(t *testing.T, f func(t *testing.T, s *embedded.Store)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, err := embedded.Open("store", embedded.Options{FS: vfs.NewMem()})
		if err != nil {
			t.Fatal(err)
		}
		f(t, s)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// task is a function in Go.
type task struct {
	effect executor.Effect
	do     func(ctx context.Context, c executor.Call) (executor.Answer, error)
	calls  atomic.Int64
}

func (f *task) Open(context.Context) error  { return nil }
func (f *task) Close(context.Context) error { return nil }
func (f *task) Effect() executor.Effect     { return f.effect }
func (f *task) Invoke(ctx context.Context, c executor.Call) (executor.Answer, error) {
	f.calls.Add(1)
	return f.do(ctx, c)
}

// does is a function with effects elsewhere whose output is its input.
func does(f func(ctx context.Context, c executor.Call) error) *task {
	return &task{do: func(ctx context.Context, c executor.Call) (executor.Answer, error) {
		return executor.Answer{Output: c.Input}, f(ctx, c)
	}}
}

func echo() *task { return does(func(context.Context, executor.Call) error { return nil }) }

func parseText(text string) (*machine.Definition, error) {
	return machine.Parse([]byte(text), machine.Limits{})
}

func parse(t testing.TB, text string) *machine.Definition {
	t.Helper()
	def, err := parseText(text)
	if err != nil {
		t.Fatal(err)
	}
	return def
}

// running is a machine that runs.
type running struct {
	*executor.Machine
	stop func() error // ends it and returns what Run returned
}

func run(t testing.TB, s queue.Store, text string, fs map[string]executor.Function, change ...func(*executor.Options)) *running {
	t.Helper()
	o := executor.Options{Name: "m", Definition: parse(t, text), Functions: fs, Store: func() queue.Store { return s }, Lease: time.Hour}
	for _, c := range change {
		c(&o)
	}
	m := executor.New(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	return &running{m, func() error { cancel(); return <-done }}
}

func (r *running) ends(t testing.TB) {
	t.Helper()
	if err := r.stop(); err != nil {
		t.Errorf("the machine ended with %v", err)
	}
}

func start(t testing.TB, m *executor.Machine, inputs ...string) {
	t.Helper()
	b := make(event.Batch, len(inputs))
	for i, in := range inputs {
		b[i] = event.New([]byte(in))
	}
	if err := m.Store().Update(context.Background(), func(tx queue.Tx) error { return m.StartIn(tx, b) }); err != nil {
		t.Fatal(err)
	}
}

// open counts the open jobs of the machine.
func open(t testing.TB, s queue.Store) (n int64) {
	t.Helper()
	for _, q := range []string{executor.StartQueue("m"), executor.StepQueue("m")} {
		st, err := s.Stats(context.Background(), queue.Filter{Queue: q})
		if err != nil {
			t.Fatal(err)
		}
		n += st.Open()
	}
	return n
}

// settle lets the machine work until it is empty, however long that takes on the clock.
func settle(t testing.TB, s queue.Store) {
	t.Helper()
	for n := 0; open(t, s) > 0; n++ {
		if n > 100_000 {
			t.Fatal("the executions do not end")
		}
		time.Sleep(time.Second)
	}
}

func dead(t testing.TB, s queue.Admin) []queue.Job {
	t.Helper()
	p, err := s.List(context.Background(), queue.Search{Filter: queue.Filter{Queue: executor.StartQueue("m")}, State: queue.Buried}, queue.ID{}, 100)
	if err != nil {
		t.Fatal(err)
	}
	return p.Jobs
}

// executions counts the records of executions, ended ones included.
func executions(t testing.TB, s queue.Store) int {
	t.Helper()
	n := 0
	for _, prefix := range []string{"machine/m/x/", "machine/m/e/", "machine/m/f/"} {
		rs, err := storetest.Records(context.Background(), s, []byte(prefix), nil, 1000)
		if err != nil {
			t.Fatal(err)
		}
		n += len(rs)
	}
	return n
}

const catcherMachine = `{"StartAt":"Catcher","States":{"Catcher":{"Type":"Task","Resource":"Catcher","End":true,
	"Retry":[{"ErrorEquals":["States.ALL"],"IntervalSeconds":2,"BackoffRate":2.0,"MaxAttempts":10}],
	"Catch":[{"ErrorEquals":["States.ALL"],"ResultPath":"$.error","Next":"Catcher"}]}}}`

// TestYear lets the Catcher fail for a year, as the stream would that cannot be written to.
// It is tried again and again with its back-off, keeps its size, and succeeds as soon as the
// stream is there again.
func TestYear(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newMemory()
		began := time.Now()
		const year = 365 * 24 * time.Hour
		var last time.Time
		catcher := does(func(_ context.Context, c executor.Call) error {
			if last = time.Now(); last.Sub(began) < year {
				return &executor.TaskError{Name: "ProvisionedThroughputExceededException", Cause: "slow down"}
			}
			return nil
		})
		r := run(t, s, catcherMachine, map[string]executor.Function{"Catcher": catcher})
		start(t, r.Machine, `{"id":"12345"}`)
		largest := 0
		for open(t, s) > 0 {
			time.Sleep(6 * time.Hour)
			for _, v := range s.executions() {
				largest = max(largest, len(v))
			}
			if time.Since(began) > year+24*time.Hour {
				t.Fatal("the execution does not end")
			}
		}
		r.ends(t)
		// Eleven attempts in 2+4+...+1024 = 2046 seconds, then at once the next round.
		rounds := int64(year / (2046 * time.Second))
		if n := catcher.calls.Load(); n < rounds*11 || n > (rounds+2)*11 {
			t.Errorf("the Catcher was called %d times, want about %d", n, rounds*11)
		}
		if late := last.Sub(began) - year; late > 1024*time.Second {
			t.Errorf("the last attempt came %s after the year", late)
		}
		if largest == 0 || largest > 2000 {
			t.Errorf("the execution took up to %d bytes", largest)
		}
		if len(s.executions()) != 0 || len(s.dead) != 0 {
			t.Error("the execution left something behind")
		}
	})
}

// TestWaitCostsNothing: executions that wait hold no lease, no goroutine and no timer.
func TestWaitCostsNothing(t *testing.T) { // not parallel: it counts goroutines
	synctest.Test(t, func(t *testing.T) {
		const text = `{"StartAt":"W","States":{"W":{"Type":"Wait","Seconds":2592000,"End":true}}}`
		s := newMemory()
		r := run(t, s, text, nil)
		before := runtime.NumGoroutine()
		for range 400 {
			start(t, r.Machine, "1", "2", "3")
		}
		time.Sleep(time.Minute)
		if n := runtime.NumGoroutine() - before; n > 400 {
			t.Errorf("1200 executions that wait have %d goroutines", n)
		}
		st, err := s.Stats(t.Context(), queue.Filter{Queue: executor.StepQueue("m")})
		if err != nil {
			t.Fatal(err)
		}
		if st.Leased != 0 || st.Open() != 1200 || len(s.executions()) != 1200 {
			t.Errorf("%+v open, %d executions: want 1200 that wait, none leased", st, len(s.executions()))
		}
		r.ends(t) // a stop leaves them alone
		r = run(t, s, text, nil)
		time.Sleep(31 * 24 * time.Hour)
		if open(t, s) != 0 || len(s.executions()) != 0 {
			t.Error("the executions did not end")
		}
		r.ends(t)
	})
}

// TestResume stops the process within each task of a row: those before it, whose answers are
// committed, never run again; that one does.
func TestResume(t *testing.T) {
	const text = `{"StartAt":"T0","States":{"T0":{"Type":"Task","Resource":"T0","Next":"T1"},"T1":{"Type":"Task","Resource":"T1","Next":"T2"},
		"T2":{"Type":"Task","Resource":"T2","Next":"T3"},"T3":{"Type":"Task","Resource":"T3","End":true}}}`
	for at := range 4 {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			bubble(t, func(t *testing.T, s *embedded.Store) {
				hangs := true
				tasks, fs := make([]*task, 4), map[string]executor.Function{}
				for i := range tasks {
					tasks[i] = does(func(ctx context.Context, c executor.Call) error {
						if i == at && hangs {
							<-ctx.Done()
							return ctx.Err()
						}
						return nil
					})
					fs[fmt.Sprintf("T%d", i)] = tasks[i]
				}
				r := run(t, s, text, fs)
				start(t, r.Machine, `{}`)
				time.Sleep(time.Second)
				if tasks[at].calls.Load() != 1 {
					t.Fatalf("task %d was called %d times before the stop", at, tasks[at].calls.Load())
				}
				r.ends(t)
				if n := open(t, s); n != 1 {
					t.Fatalf("%d jobs are open after the stop, want the task", n)
				}
				hangs = false
				r = run(t, s, text, fs)
				settle(t, s)
				r.ends(t)
				for i, task := range tasks {
					want := int64(1)
					if i == at {
						want = 2
					}
					if n := task.calls.Load(); n != want {
						t.Errorf("stopped within task %d, task %d was called %d times, want %d", at, i, n, want)
					}
				}
				if n := r.Meter().Target.Written.Load(); n != 1 {
					t.Errorf("%d executions succeeded", n)
				}
			})
		})
	}
}

// TestFailed: an execution that failed is a dead job with its input and the reason, whether it
// failed at its start or later, and can be tried again.
func TestFailed(t *testing.T) {
	bubble(t, func(t *testing.T, s *embedded.Store) {
		broken := true
		f := does(func(_ context.Context, c executor.Call) error {
			if broken {
				return executor.Failure("ErrNoStock", "sold out", nil)
			}
			return nil
		})
		r := run(t, s, `{"StartAt":"C","States":{"C":{"Type":"Choice","Choices":[{"Variable":"$.late","BooleanEquals":true,"Next":"W"}],"Default":"F"},
			"W":{"Type":"Wait","Seconds":60,"Next":"F"},"F":{"Type":"Task","Resource":"F","End":true}}}`, map[string]executor.Function{"F": f})
		start(t, r.Machine, `{"late":false}`, `{"late":true}`, `not json`)
		settle(t, s)
		jobs := dead(t, s)
		want := map[string]string{`{"late":false}`: "FAILED ErrNoStock: ", `{"late":true}`: "FAILED ErrNoStock: ", "not json": "not JSON"}
		for _, j := range jobs {
			if cause := want[string(j.Msg.Data)]; cause == "" || !strings.Contains(j.Cause, cause) {
				t.Errorf("the dead job %q has the cause %q", j.Msg.Data, j.Cause)
			}
		}
		if len(jobs) != len(want) || executions(t, s) != 0 || r.Meter().Invalid.Load() != 2 {
			t.Errorf("%d dead jobs, %d executions, %d failures", len(jobs), executions(t, s), r.Meter().Invalid.Load())
		}
		broken = false
		if n, err := s.Requeue(t.Context(), queue.Search{Filter: queue.Filter{Queue: executor.StartQueue("m")}, State: queue.Buried, Cause: "ErrNoStock"}); err != nil || n != 2 {
			t.Fatalf("requeue: %d, %v", n, err)
		}
		time.Sleep(2 * time.Minute)
		settle(t, s)
		r.ends(t)
		if len(dead(t, s)) != 1 || r.Meter().Target.Written.Load() != 2 {
			t.Errorf("after the second try %d are dead and %d succeeded", len(dead(t, s)), r.Meter().Target.Written.Load())
		}
	})
}

// TestExecute waits for the ends of executions.
func TestExecute(t *testing.T) {
	bubble(t, func(t *testing.T, s *embedded.Store) {
		r := run(t, s, `{"StartAt":"W","States":{"W":{"Type":"Wait","Seconds":60,"Next":"C"},
			"C":{"Type":"Choice","Choices":[{"Variable":"$.ok","BooleanEquals":true,"Next":"S"}],"Default":"F"},
			"S":{"Type":"Succeed"},"F":{"Type":"Fail","Error":"Bad","Cause":"not ok"}}}`, nil)
		began := time.Now()
		err := r.Execute(t.Context(), event.Batch{event.New([]byte(`{"ok":true}`)), event.New([]byte(`{"ok":false}`)), event.New([]byte("no JSON"))})
		var partial *connector.Partial
		if !errors.As(err, &partial) || len(partial.Failed) != 2 {
			t.Fatalf("Execute: %v", err)
		}
		if e := partial.Failed[1]; fault.Of(e) != fault.Invalid || !strings.Contains(e.Error(), "Bad: not ok") {
			t.Errorf("the failed one: %v", e)
		}
		if took := time.Since(began); took < time.Minute || took > 61*time.Second {
			t.Errorf("it took %s", took)
		}
		if len(dead(t, s)) != 0 || executions(t, s) != 0 {
			t.Error("executions somebody waited for left something behind")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.Execute(ctx, event.Batch{event.New([]byte(`{"ok":true}`))}); !errors.As(err, &partial) || !errors.Is(partial.Failed[0], context.DeadlineExceeded) {
			t.Errorf("cut short: %v", err)
		}
		time.Sleep(time.Hour) // the execution goes on, ends, and is forgotten
		if open(t, s) != 0 || executions(t, s) != 0 {
			t.Errorf("%d jobs, %d executions are left", open(t, s), executions(t, s))
		}
		r.ends(t)
	})
}

// TestKeep: an execution that ended is kept for as long as asked for.
func TestKeep(t *testing.T) {
	bubble(t, func(t *testing.T, s *embedded.Store) {
		r := run(t, s, `{"StartAt":"S","States":{"S":{"Type":"Succeed"}}}`, nil, func(o *executor.Options) { o.Keep = time.Hour })
		start(t, r.Machine, "1", "2")
		time.Sleep(50 * time.Minute)
		if n := executions(t, s); n != 2 || open(t, s) != 0 {
			t.Errorf("%d executions are kept, %d jobs open", n, open(t, s))
		}
		time.Sleep(30 * time.Minute)
		if n := executions(t, s); n != 0 {
			t.Errorf("%d executions are kept too long", n)
		}
		r.ends(t)
	})
}

// TestDefinitionChanges: an execution goes on with the definition it was started with.
func TestDefinitionChanges(t *testing.T) {
	bubble(t, func(t *testing.T, s *embedded.Store) {
		old, renewed := echo(), echo()
		fs := map[string]executor.Function{"Old": old, "New": renewed}
		text := `{"StartAt":"W","States":{"W":{"Type":"Wait","Seconds":60,"Next":"T"},"T":{"Type":"Task","Resource":"Old","End":true}}}`
		r := run(t, s, text, fs)
		start(t, r.Machine, "1")
		time.Sleep(time.Second)
		r.ends(t)
		r = run(t, s, strings.Replace(text, "Old", "New", 1), fs)
		start(t, r.Machine, "2")
		settle(t, s)
		r.ends(t)
		if old.calls.Load() != 1 || renewed.calls.Load() != 1 {
			t.Errorf("%d calls by the old definition, %d by the new one", old.calls.Load(), renewed.calls.Load())
		}
	})
}

// TestOneFailsAlone: a function that panics, an unknown function and a damaged record each
// cost their own execution only.
func TestOneFailsAlone(t *testing.T) {
	bubble(t, func(t *testing.T, s *embedded.Store) {
		f := does(func(_ context.Context, c executor.Call) error {
			if string(c.Input) == "13" {
				panic("unlucky")
			}
			return nil
		})
		r := run(t, s, `{"StartAt":"W","States":{"W":{"Type":"Wait","Seconds":5,"Next":"T"},"T":{"Type":"Task","Resource":"F","End":true}}}`, map[string]executor.Function{"F": f})
		var inputs []string
		for i := range 50 {
			inputs = append(inputs, fmt.Sprint(i))
		}
		start(t, r.Machine, inputs...)
		time.Sleep(time.Second)
		rs, err := storetest.Records(t.Context(), s, []byte("machine/m/x/"), nil, 1)
		if err != nil || len(rs) != 1 {
			t.Fatal(rs, err)
		}
		if err := s.Update(t.Context(), func(tx queue.Tx) error { return tx.Put(rs[0].Key, rs[0].Value[:40]) }); err != nil {
			t.Fatal(err)
		}
		settle(t, s)
		r.ends(t)
		if n := r.Meter().Target.Written.Load(); n != 48 {
			t.Errorf("%d executions succeeded, want 48", n)
		}
		jobs := dead(t, s)
		if len(jobs) != 1 || !strings.Contains(jobs[0].Cause, "Runtime.ExitError") {
			t.Errorf("dead: %v", jobs)
		}
		st, err := s.Stats(t.Context(), queue.Filter{Queue: executor.StepQueue("m")})
		if err != nil || st.Dead != 1 {
			t.Errorf("dead steps: %+v, %v", st, err)
		}
	})
}

// TestTwoProcesses works on one store with two machines: no execution is lost, none is done
// twice, and what is put in transactions is put exactly once.
func TestTwoProcesses(t *testing.T) {
	bubble(t, func(t *testing.T, s *embedded.Store) {
		put := &task{effect: executor.InTransaction, do: func(_ context.Context, c executor.Call) (executor.Answer, error) {
			return executor.Answer{Output: c.Input, Put: func(tx queue.Tx) error {
				return tx.Append(queue.Job{Queue: "out", Msg: event.New(c.Input)})
			}}, nil
		}}
		text := `{"StartAt":"P","States":{"P":{"Type":"Parallel","Next":"Put","ResultPath":null,"Branches":[
			{"StartAt":"A","States":{"A":{"Type":"Wait","Seconds":1,"End":true}}},{"StartAt":"B","States":{"B":{"Type":"Wait","Seconds":1,"End":true}}},
			{"StartAt":"C","States":{"C":{"Type":"Wait","Seconds":1,"Next":"D"},"D":{"Type":"Task","Resource":"Echo","End":true}}}]},
			"Put":{"Type":"Task","Resource":"Put","End":true}}}`
		fs := map[string]executor.Function{"Put": put, "Echo": echo()}
		small := func(o *executor.Options) { o.InFlight, o.Workers = 7, 3 }
		one, two := run(t, s, text, fs, small), run(t, s, text, fs, small)
		const n = 200
		var inputs []string
		for i := range n {
			inputs = append(inputs, fmt.Sprint(i))
		}
		start(t, one.Machine, inputs...)
		settle(t, s)
		one.ends(t)
		two.ends(t)
		st, err := s.Stats(t.Context(), queue.Filter{Queue: "out"})
		if err != nil || st.Open() != n {
			t.Errorf("%+v, %v: want %d", st, err, n)
		}
		if a, b := one.Meter().Target.Written.Load(), two.Meter().Target.Written.Load(); a+b != n || len(dead(t, s)) != 0 || executions(t, s) != 0 {
			t.Errorf("%d and %d executions succeeded, want %d together; %d dead", a, b, n, len(dead(t, s)))
		}
	})
}
