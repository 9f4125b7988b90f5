package executor_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/executor"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/postgres"
	"github.com/weirdata/weir/internal/queue/storetest"
)

// What is tested here runs on a real server in real time, so its waits are short.

// shareLease is how long a process that died keeps what it had.
const shareLease = 2 * time.Second

func openPostgres(dsn, name string) (*postgres.Store, error) {
	s, err := postgres.New(postgres.Options{DSN: dsn, Partitions: 8, Spread: 4, Name: name, Lease: shareLease, Poll: 100 * time.Millisecond, Committers: 2, Readers: 3})
	if err != nil {
		return nil, err
	}
	if err := s.Open(context.Background()); err != nil {
		return nil, err
	}
	return s, nil
}

func postgresStore(t *testing.T, dsn, name string) *postgres.Store {
	t.Helper()
	s, err := openPostgres(dsn, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// until waits until done, and fails the test when that takes too long.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick, patience := time.NewTicker(20*time.Millisecond), time.After(2*time.Minute)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-patience:
			t.Fatalf("%s: not within two minutes", what)
		}
	}
}

// settled waits until the machine has nothing left.
func settled(t *testing.T, s queue.Store) {
	t.Helper()
	until(t, "every execution ends", func() bool { return open(t, s) == 0 })
}

// payloads is the payloads of a queue's open jobs, and how often each is there.
func payloads(t *testing.T, s queue.Admin, q string) map[string]int {
	t.Helper()
	found := map[string]int{}
	for after := (queue.ID{}); ; {
		p, err := s.List(t.Context(), queue.Search{Filter: queue.Filter{Queue: q}}, after, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, j := range p.Jobs {
			found[string(j.Msg.Data)]++
		}
		if after = p.Next; after == (queue.ID{}) {
			return found
		}
	}
}

// putter puts its input into the queue "out", in the transaction of the step.
func putter() *task {
	return &task{effect: executor.InTransaction, do: func(_ context.Context, c executor.Call) (executor.Answer, error) {
		return executor.Answer{Output: c.Input, Put: func(tx queue.Tx) error {
			return tx.Append(queue.Job{Queue: "out", Msg: event.New(c.Input)})
		}}, nil
	}}
}

// TestPostgres takes executions through every kind of step on PostgreSQL: tasks and their
// retries, timers, branches, ends that somebody waits for, failures and their second try, a
// stop in the middle of a task, and another definition.
func TestPostgres(t *testing.T) {
	t.Parallel()
	s := postgresStore(t, enginetest.Postgres(t), "one")
	const text = `{"StartAt":"P","States":{
		"P":{"Type":"Parallel","ResultPath":null,"Next":"Flaky","Branches":[
			{"StartAt":"W","States":{"W":{"Type":"Wait","Seconds":1,"End":true}}},
			{"StartAt":"E","States":{"E":{"Type":"Task","Resource":"Echo","End":true}}}]},
		"Flaky":{"Type":"Task","Resource":"Flaky","Next":"C","Retry":[{"ErrorEquals":["Flaky"],"IntervalSeconds":1}]},
		"C":{"Type":"Choice","Choices":[{"Variable":"$.ok","BooleanEquals":true,"Next":"Put"}],"Default":"F"},
		"Put":{"Type":"Task","Resource":"Put","End":true},"F":{"Type":"Fail","Error":"Bad","Cause":"not ok"}}}`
	echo := echo()
	tried := map[string]bool{}
	flaky := does(func(_ context.Context, c executor.Call) error {
		if !tried[string(c.Input)] {
			tried[string(c.Input)] = true
			return &executor.TaskError{Name: "Flaky", Cause: "the first time"}
		}
		return nil
	})
	fs := map[string]executor.Function{"Echo": echo, "Flaky": flaky, "Put": putter()}
	r := run(t, s, text, fs, func(o *executor.Options) { o.Workers = 1 })
	start(t, r.Machine, `{"n":1,"ok":true}`, `{"n":2,"ok":false}`)
	err := r.Execute(t.Context(), event.Batch{event.New([]byte(`{"n":3,"ok":true}`)), event.New([]byte(`{"n":4,"ok":false}`))})
	var partial *connector.Partial
	if !errors.As(err, &partial) || len(partial.Failed) != 1 || fault.Of(partial.Failed[1]) != fault.Invalid || !strings.Contains(partial.Failed[1].Error(), "Bad: not ok") {
		t.Errorf("Execute: %v", err)
	}
	settled(t, s)
	r.ends(t)
	if echo.calls.Load() != 4 || flaky.calls.Load() != 8 {
		t.Errorf("%d and %d calls, want 4 and 8", echo.calls.Load(), flaky.calls.Load())
	}
	if jobs := dead(t, s); len(jobs) != 1 || string(jobs[0].Msg.Data) != `{"n":2,"ok":false}` || !strings.Contains(jobs[0].Cause, "FAILED Bad: not ok") {
		t.Errorf("dead: %v", jobs)
	}
	if got := payloads(t, s, "out"); len(got) != 2 || got[`{"n":1,"ok":true}`] != 1 || got[`{"n":3,"ok":true}`] != 1 || executions(t, s) != 0 {
		t.Errorf("out has %v, %d executions are left", got, executions(t, s))
	}

	// The second try runs with a new definition; it is stopped within its task, and goes on.
	hangs := make(chan struct{})
	fs["Hang"] = does(func(ctx context.Context, _ executor.Call) error {
		select {
		case <-hangs:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	const renewed = `{"StartAt":"A","States":{"A":{"Type":"Task","Resource":"Echo","Next":"B"},"B":{"Type":"Task","Resource":"Hang","Next":"Put"},"Put":{"Type":"Task","Resource":"Put","End":true}}}`
	hang := fs["Hang"].(*task) //nolint:forcetypeassert // made above
	r = run(t, s, renewed, fs, func(o *executor.Options) { o.Drain = time.Second })
	if n, err := s.Requeue(t.Context(), queue.Search{Filter: queue.Filter{Queue: executor.StartQueue("m")}, State: queue.Buried}); err != nil || n != 1 {
		t.Fatalf("requeue: %d, %v", n, err)
	}
	until(t, "the second task", func() bool { return hang.calls.Load() == 1 })
	r.ends(t)
	if open(t, s) != 1 {
		t.Fatalf("%d jobs are open after the stop, want the task", open(t, s))
	}
	close(hangs)
	r = run(t, s, text, fs) // the execution goes on with the definition it was started with
	settled(t, s)
	r.ends(t)
	if got := payloads(t, s, "out"); got[`{"n":2,"ok":false}`] != 1 || echo.calls.Load() != 5 || hang.calls.Load() != 2 || executions(t, s) != 0 || len(dead(t, s)) != 0 {
		t.Errorf("out has %v; %d and %d calls; %d executions and %d dead jobs are left", got, echo.calls.Load(), hang.calls.Load(), executions(t, s), len(dead(t, s)))
	}
}

// TestPostgresAlone: a function that panics, one that hangs and a damaged record each cost
// their own execution only; the ends of the others are kept for as long as asked for.
func TestPostgresAlone(t *testing.T) {
	t.Parallel()
	s := postgresStore(t, enginetest.Postgres(t), "one")
	f := does(func(ctx context.Context, c executor.Call) error {
		switch string(c.Input) {
		case "7":
			panic("unlucky")
		case "8":
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	})
	const text = `{"StartAt":"W","States":{"W":{"Type":"Wait","Seconds":2,"Next":"T"},"T":{"Type":"Task","Resource":"F","TimeoutSeconds":1,"End":true}}}`
	kept := func(o *executor.Options) { o.Keep = time.Nanosecond }
	r := run(t, s, text, map[string]executor.Function{"F": f}, kept)
	inputs := make([]string, 10)
	for i := range inputs {
		inputs[i] = fmt.Sprint(i)
	}
	start(t, r.Machine, inputs...)
	records := func(prefix string) []queue.Record {
		rs, err := storetest.Records(t.Context(), s, []byte("machine/m/"+prefix+"/"), nil, 100)
		if err != nil {
			t.Fatal(err)
		}
		return rs
	}
	until(t, "all have been started", func() bool { return len(records("x")) == len(inputs) })
	damaged := records("x")[0]
	if err := s.Update(t.Context(), func(tx queue.Tx) error { return tx.Put(damaged.Key, damaged.Value[:40]) }); err != nil {
		t.Fatal(err)
	}
	settled(t, s)
	r.ends(t)
	st, err := s.Stats(t.Context(), queue.Filter{Queue: executor.StepQueue("m")})
	if err != nil || st.Dead != 1 {
		t.Errorf("dead steps: %+v, %v", st, err)
	}
	causes := map[string]string{}
	for _, j := range dead(t, s) {
		causes[string(j.Msg.Data)] = j.Cause
	}
	failed := 0
	for input, cause := range map[string]string{"7": "Runtime.ExitError", "8": "FAILED States.Timeout"} {
		if got, there := causes[input]; there {
			failed++
			if !strings.Contains(got, cause) {
				t.Errorf("%s failed with %q", input, got)
			}
		}
	}
	// One of the two may be the one whose record was damaged.
	succeeded := int(r.Meter().Target.Written.Load())
	if len(causes) != failed || failed+succeeded != len(inputs)-1 || len(records("e")) != len(inputs)-1 {
		t.Errorf("%d succeeded, %d failed, dead %v, %d kept", succeeded, failed, causes, len(records("e")))
	}
	r = run(t, s, text, map[string]executor.Function{"F": f}, kept)
	until(t, "what was kept is forgotten", func() bool { return len(records("e")) == 0 })
	r.ends(t)
}

// sharedMachine has branches whose ends race for their execution, so that processes that
// share it step it at the same time.
const sharedMachine = `{"StartAt":"P","States":{"P":{"Type":"Parallel","Next":"B","ResultPath":null,"Branches":[
	{"StartAt":"W1","States":{"W1":{"Type":"Wait","Seconds":1,"End":true}}},{"StartAt":"W2","States":{"W2":{"Type":"Wait","Seconds":1,"End":true}}},
	{"StartAt":"W3","States":{"W3":{"Type":"Wait","Seconds":1,"Next":"A"},"A":{"Type":"Task","Resource":"A","End":true}}}]},
	"B":{"Type":"Task","Resource":"B","Next":"Put"},"Put":{"Type":"Task","Resource":"Put","End":true}}}`

// TestPostgresShared: two processes' stores on one database share the executions. Each ends
// exactly once, one that waits for an execution hears of its end from the other too.
func TestPostgresShared(t *testing.T) {
	t.Parallel()
	dsn := enginetest.Postgres(t)
	fs := map[string]executor.Function{"A": echo(), "B": echo(), "Put": putter()}
	small := func(o *executor.Options) { o.InFlight, o.Workers = 7, 3 }
	first, second := postgresStore(t, dsn, "one"), postgresStore(t, dsn, "two")
	one, two := run(t, first, sharedMachine, fs, small), run(t, second, sharedMachine, fs, small)
	until(t, "each has its share of the work", func() bool {
		a, of := first.Share(executor.StartQueue("m"))
		b, _ := second.Share(executor.StartQueue("m"))
		return a > 0 && b > 0 && a+b == of
	})
	const n = 60
	inputs := make([]string, n)
	var waited event.Batch
	for i := range inputs {
		inputs[i] = fmt.Sprint(i)
		waited = append(waited, event.New(fmt.Appendf(nil, "%d", n+i)))
	}
	start(t, one.Machine, inputs[:n/2]...)
	start(t, two.Machine, inputs[n/2:]...)
	if err := one.Execute(t.Context(), waited); err != nil {
		t.Errorf("Execute: %v", err)
	}
	settled(t, first)
	one.ends(t)
	two.ends(t)
	got := payloads(t, first, "out")
	for i := range 2 * n {
		if got[fmt.Sprint(i)] != 1 {
			t.Errorf("out has %d %d times", i, got[fmt.Sprint(i)])
		}
	}
	a, b := one.Meter().Target.Written.Load(), two.Meter().Target.Written.Load()
	if a+b != 2*n || a == 0 || b == 0 || len(got) != 2*n || len(dead(t, first)) != 0 || executions(t, first) != 0 {
		t.Errorf("%d and %d executions succeeded, want %d together and some of each; %d dead, %d left", a, b, 2*n, len(dead(t, first)), executions(t, first))
	}
}

// The child of this test binary is a process that runs the machine of TestPostgresKilled
// until its standard input ends.
const (
	childVariable = "WEIR_EXECUTOR_CHILD"
	childLog      = "WEIR_EXECUTOR_CHILD_LOG"
)

func TestMain(m *testing.M) {
	if dsn := os.Getenv(childVariable); dsn != "" {
		if err := child(dsn, os.Getenv(childLog)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(dsn, log string) error {
	s, err := openPostgres(dsn, "child")
	if err != nil {
		return err
	}
	fs, err := logged(log)
	if err != nil {
		return err
	}
	m := executor.New(killedOptions(s, fs))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	fmt.Fprintln(os.Stdout, "runs")
	_, _ = io.Copy(io.Discard, os.Stdin)
	cancel()
	return errors.Join(<-done, s.Close())
}

// logged is functions whose every call is a line of a file: a call that began was written,
// whatever happens to the process.
func logged(path string) (map[string]executor.Function, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	say := func(name string) *task {
		return does(func(_ context.Context, c executor.Call) error {
			_, err := fmt.Fprintf(f, "%s %s\n", name, c.Input) // one write: lines never mix
			return err
		})
	}
	return map[string]executor.Function{"A": say("A"), "B": say("B"), "Put": putter()}, nil
}

func killedOptions(s queue.Store, fs map[string]executor.Function) executor.Options {
	def, err := parseText(sharedMachine)
	if err != nil {
		panic(err) // it is a constant
	}
	return executor.Options{Name: "m", Definition: def, Functions: fs, Store: func() queue.Store { return s }, Lease: 5 * time.Second, InFlight: 50, Workers: 4}
}

// startChild starts a child and returns what kills it.
func startChild(t *testing.T, dsn, log string) (kill func()) {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), childVariable+"="+dsn, childLog+"="+log)
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close() }) // nobody reads it any more
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	said, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || said != "runs\n" {
		t.Fatalf("the child says %q: %v", said, err)
	}
	return func() {
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = c.Wait() // it was killed
	}
}

// TestPostgresKilled: a process that shares executions with another one is killed with
// SIGKILL, again and again. The other one takes over: each execution ends exactly once, and a
// task whose answer was committed never runs again.
func TestPostgresKilled(t *testing.T) {
	t.Parallel()
	dsn := enginetest.Postgres(t)
	log := t.TempDir() + "/calls"
	s := postgresStore(t, dsn, "parent")
	fs, err := logged(log)
	if err != nil {
		t.Fatal(err)
	}
	r := run(t, s, sharedMachine, fs, func(o *executor.Options) { *o = killedOptions(s, fs) })
	const kills, each = 3, 150
	n, midway := 0, 0
	// On a busy machine all may be done before a kill: then there are more.
	for kill := 0; kill < kills || midway == 0 && kill < 10*kills; kill++ {
		stop := startChild(t, dsn, log)
		inputs := make([]string, each)
		for i := range inputs {
			inputs[i] = fmt.Sprint(n + i)
		}
		before := r.Meter().Target.Written.Load()
		start(t, r.Machine, inputs...)
		n += each
		// Somewhere in the middle of what was started, a little later each time.
		until(t, "some executions", func() bool { return r.Meter().Target.Written.Load() > before+int64(5+10*(kill%kills)) })
		stop()
		if executions(t, s) > 0 {
			midway++
		}
	}
	if midway == 0 {
		t.Fatal("everything was done before each kill: the test shows nothing")
	}
	// What a killed process had not checkpointed is not in the statistics until its
	// partitions are taken over: the records are.
	until(t, "every execution ends", func() bool { return executions(t, s) == 0 })
	settled(t, s)
	r.ends(t)
	got := payloads(t, s, "out")
	for i := range n {
		if got[fmt.Sprint(i)] != 1 {
			t.Errorf("out has %d %d times", i, got[fmt.Sprint(i)])
		}
	}
	if len(got) != n || len(dead(t, s)) != 0 || executions(t, s) != 0 {
		t.Errorf("out has %d, want %d; %d dead, %d left", len(got), n, len(dead(t, s)), executions(t, s))
	}
	alone := int(r.Meter().Target.Written.Load())
	if alone == n {
		t.Error("the children did nothing: the test shows nothing")
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	calls, again := map[string]int{}, 0
	for line := range strings.Lines(string(text)) {
		name, input, _ := strings.Cut(strings.TrimSpace(line), " ")
		calls[name+input]++
		if name == "A" && calls["B"+input] > 0 {
			t.Errorf("A was called for %s after B: its answer had been committed", input)
		}
		if calls[name+input] > 1 {
			again++
		}
	}
	for i := range n {
		for _, name := range []string{"A", "B"} {
			if calls[name+fmt.Sprint(i)] == 0 {
				t.Errorf("%s was never called for %d", name, i)
			}
		}
	}
	t.Logf("%d executions, %d of them ended by the process that stayed; %d calls were made again", n, alone, again)
}
