package postgres

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/queue"
)

// Children of the test binary are processes that share a store. A child appends ordered
// jobs to the queue "in" and moves what it can lease from "in" to "out". It says on its
// standard output what was acknowledged, and ends when its standard input does.
const (
	childVariable = "WEIR_QUEUE_CHILD" // name of the child
	childDSN      = "WEIR_QUEUE_CHILD_DSN"
	childMode     = "WEIR_QUEUE_CHILD_MODE"
	childLease    = 4 * time.Second
	childKeys     = 20
)

// child runs a child when this process is one.
func child() bool {
	name := os.Getenv(childVariable)
	if name == "" {
		return false
	}
	if err := runChild(name); err != nil {
		fmt.Fprintln(os.Stdout, "failed", err)
		os.Exit(1)
	}
	return true
}

func childOptions(dsn, name string) Options {
	return Options{DSN: dsn, Partitions: 8, Spread: 4, Name: name, Lease: childLease, Committers: 2, Readers: 3, SegmentBytes: 256 << 10}
}

func runChild(name string) error {
	s, err := New(childOptions(os.Getenv(childDSN), name))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := s.Open(ctx); err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, "open")
	input := bufio.NewScanner(os.Stdin)
	if os.Getenv(childMode) == "hold" {
		return errors.Join(hold(ctx, s, input), s.Close())
	}
	var wg sync.WaitGroup
	produce, stop := context.WithCancel(ctx)
	wg.Go(func() { produceJobs(produce, s, name) })
	for range 2 {
		wg.Go(func() { moveJobs(ctx, s, func(what string, err error) { fmt.Fprintln(os.Stdout, what, err) }) })
	}
	for input.Scan() {
		stop() // any line: append no more, go on moving
	}
	stop()
	cancel()
	wg.Wait()
	return s.Close()
}

// hold leases what there is in "in", and settles it when told to.
func hold(ctx context.Context, s *Store, input *bufio.Scanner) error {
	jobs, err := s.Lease(ctx, queue.Query{Filter: queue.Filter{Queue: "in"}, For: time.Hour})
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, "leased", len(jobs))
	input.Scan()
	err = s.Update(ctx, func(tx queue.Tx) error {
		for i := range jobs {
			if err := tx.Settle(jobs[i].Done()); err != nil {
				return err
			}
		}
		return tx.Append(queue.Job{Queue: "out", Msg: event.New([]byte("from the child"))})
	})
	fmt.Fprintln(os.Stdout, "settled", errors.Is(err, queue.ErrLeaseLost), err)
	return nil
}

// produceJobs appends jobs with the payload "<key> <number>", numbers growing by key.
func produceJobs(ctx context.Context, s *Store, name string) {
	for n := 0; ctx.Err() == nil; n++ {
		jobs := make([]queue.Job, childKeys)
		said := make([]string, childKeys)
		for k := range jobs {
			key := name + "." + strconv.Itoa(k)
			m := event.New(fmt.Appendf(nil, "%s %d", key, n))
			m.Key = key
			jobs[k] = queue.Job{Queue: "in", Msg: m, Ordered: true}
			said[k] = string(m.Data)
		}
		for {
			err := s.Update(context.Background(), func(tx queue.Tx) error { return tx.Append(jobs...) })
			if err == nil {
				fmt.Fprintln(os.Stdout, "ack "+strings.Join(said, ","))
				break
			}
			fmt.Fprintln(os.Stdout, "append", err)
			if errors.Is(err, queue.ErrClosed) {
				return
			}
		}
		rest(2 * time.Millisecond)
	}
}

// rest paces what runs in real time against a real server.
func rest(d time.Duration) { <-time.After(d) }

func quiet(string, error) {}

// moveJobs moves jobs from "in" to "out" and reports what fails.
func moveJobs(ctx context.Context, s *Store, report func(what string, err error)) {
	for ctx.Err() == nil {
		wake := s.Wake(queue.Filter{Queue: "in"})
		jobs, err := s.Lease(ctx, queue.Query{Filter: queue.Filter{Queue: "in"}, Limit: 200})
		if err != nil && ctx.Err() == nil {
			report("lease", err)
			rest(50 * time.Millisecond)
			continue
		}
		if len(jobs) == 0 {
			select {
			case <-wake:
			case <-ctx.Done():
			}
			continue
		}
		err = s.Update(context.Background(), func(tx queue.Tx) error {
			for i := range jobs {
				if err := errors.Join(tx.Append(queue.Job{Queue: "out", Msg: jobs[i].Msg}), tx.Settle(jobs[i].Done())); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			report("move", err)
		}
	}
}

// process is a child that runs.
type process struct {
	t     *testing.T
	name  string
	cmd   *exec.Cmd
	input interface{ Close() error }
	write func(string)
	mu    sync.Mutex
	acked []string
	lines chan string // what it says but for acknowledgements
	read  chan struct{}
	ended bool
}

func startChild(t *testing.T, dsn, name, mode string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+name, childDSN+"="+dsn, childMode+"="+mode)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, name: name, cmd: cmd, input: in, lines: make(chan string, 1<<16), read: make(chan struct{})}
	p.write = func(line string) {
		if _, err := fmt.Fprintln(in, line); err != nil {
			t.Error(err)
		}
	}
	go func() {
		defer close(p.read)
		sc := bufio.NewScanner(out)
		sc.Buffer(nil, 1<<20)
		for sc.Scan() {
			if rest, ok := strings.CutPrefix(sc.Text(), "ack "); ok {
				p.mu.Lock()
				p.acked = append(p.acked, strings.Split(rest, ",")...)
				p.mu.Unlock()
				continue
			}
			select {
			case p.lines <- sc.Text():
			default:
			}
		}
	}()
	t.Cleanup(func() { p.kill() })
	p.expect("open")
	return p
}

// expect waits for a line that starts with what.
func (p *process) expect(what string) string {
	p.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case line := <-p.lines:
			if strings.HasPrefix(line, what) {
				return line
			}
			p.t.Logf("%s: %s", p.name, line)
		case <-timeout:
			p.t.Fatalf("%s did not say %q", p.name, what)
		}
	}
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// kill ends the process without a chance to do anything.
func (p *process) kill() {
	if p.ended {
		return
	}
	p.ended = true
	_ = p.cmd.Process.Kill()
	<-p.read
	_ = p.cmd.Wait() // it was killed
}

// finish ends the process in order.
func (p *process) finish() {
	p.t.Helper()
	p.ended = true
	_ = p.input.Close()
	<-p.read
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("%s: %v", p.name, err)
	}
	for len(p.lines) > 0 {
		p.t.Logf("%s: %s", p.name, <-p.lines)
	}
}

func (p *process) acknowledged() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.acked
}

// allJobs lists every open job of a queue.
func allJobs(t *testing.T, s queue.Admin, q string) []queue.Job {
	t.Helper()
	var out []queue.Job
	var after queue.ID
	for {
		page, err := s.List(t.Context(), queue.Search{Filter: queue.Filter{Queue: q}}, after, 5000)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, page.Jobs...)
		if after = page.Next; after == (queue.ID{}) {
			return out
		}
	}
}

// checkOut demands that every acknowledged job arrived in "out", once, and the jobs of a
// key in order.
func checkOut(t *testing.T, s queue.Admin, acked []string) {
	t.Helper()
	if len(acked) == 0 {
		t.Fatal("nothing was acknowledged")
	}
	last := map[string]int{}
	seen := map[string]bool{}
	for _, j := range allJobs(t, s, "out") {
		payload := string(j.Msg.Data)
		if seen[payload] {
			t.Errorf("job %q arrived twice", payload)
		}
		seen[payload] = true
		key, number, _ := strings.Cut(payload, " ")
		n, err := strconv.Atoi(number)
		if err != nil {
			t.Fatal(err)
		}
		if before, there := last[key]; there && n != before+1 || !there && n != 0 {
			t.Errorf("job %q came after number %d of its key", payload, before)
		}
		last[key] = n
	}
	missing := 0
	for _, a := range acked {
		if !seen[a] {
			missing++
		}
	}
	if missing > 0 {
		t.Errorf("%d of %d acknowledged jobs did not arrive", missing, len(acked))
	}
	t.Logf("%d jobs acknowledged, %d arrived", len(acked), len(seen))
}

// patience is how long something may take on a busy machine before it counts as stuck.
const patience = 3 * time.Minute

// await polls until what is true.
func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("after %s, not yet: %s", patience, what)
		}
		pauseFor(t, 20*time.Millisecond)
	}
}

// pauseFor waits; the tests of this package run against a real server in real time.
func pauseFor(t testing.TB, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.Fatal("the test has ended")
	}
}

// owners reads which process names own how many partitions.
func owners(t *testing.T, s *Store) map[string]int {
	t.Helper()
	out := map[string]int{}
	rows, err := s.pool.Query(t.Context(), s.names.sql(`SELECT coalesce(p.name, ''), count(*) FROM @schema.parts t
		LEFT JOIN @schema.processes p ON p.id = t.owner AND p.heartbeat > clock_timestamp() - p.lease GROUP BY 1`))
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		var n int
		if err := rows.Scan(&name, &n); err != nil {
			t.Fatal(err)
		}
		out[name] = n
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestProcesses runs three processes that share a store, kills one and stops another for
// longer than its lease: what was acknowledged arrives, once, in order.
func TestProcesses(t *testing.T) {
	t.Parallel()
	dsn := enginetest.Postgres(t)
	a := startChild(t, dsn, "a", "")
	b := startChild(t, dsn, "b", "")
	c := startChild(t, dsn, "c", "")
	s := open(t, childOptions(dsn, "test"))
	defer s.Subscribe("in")()
	await(t, "the processes share the partitions", func() bool {
		o := owners(t, s)
		return o["a"] == 2 && o["b"] == 2 && o["c"] == 2 && o["test"] == 2
	})
	// This process hands its share on, and only looks.
	moving, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { moveJobs(moving, s, quiet) })
	defer wg.Wait()
	defer stop()

	c.kill()
	killed := time.Now()
	await(t, "the partitions of the killed process are taken over", func() bool {
		o := owners(t, s)
		return o["c"] == 0 && o[""] == 0
	})
	t.Logf("taken over %s after the kill", time.Since(killed).Round(10*time.Millisecond))
	pauseFor(t, 500*time.Millisecond)

	b.signal(syscall.SIGSTOP)
	await(t, "the partitions of the stopped process are taken over", func() bool {
		o := owners(t, s)
		return o["b"] == 0 && o[""] == 0
	})
	pauseFor(t, time.Second)
	b.signal(syscall.SIGCONT)
	await(t, "the stopped process takes part again", func() bool { return owners(t, s)["b"] > 0 })
	pauseFor(t, 500*time.Millisecond)

	a.write("no more")
	b.write("no more")
	await(t, "everything is moved", func() bool { return len(allJobs(t, s, "in")) == 0 })
	a.finish()
	b.finish()
	checkOut(t, s, append(append(a.acknowledged(), b.acknowledged()...), c.acknowledged()...))
}

// TestFencing stops a process that holds a lease, for longer than its hold on its
// partitions: what it settles afterwards is refused, and nothing of its Update is there.
func TestFencing(t *testing.T) {
	t.Parallel()
	dsn := enginetest.Postgres(t)
	o := childOptions(dsn, "test")
	s := open(t, o)
	if err := s.Update(t.Context(), func(tx queue.Tx) error {
		return tx.Append(queue.Job{Queue: "in", Msg: event.New([]byte("1"))}, queue.Job{Queue: "in", Msg: event.New([]byte("2"))})
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	p := startChild(t, dsn, "held", "hold")
	if line := p.expect("leased"); line != "leased 2" {
		t.Fatalf("the child says %q", line)
	}
	p.signal(syscall.SIGSTOP)
	s = open(t, o)
	var jobs []queue.Job
	await(t, "the partitions are taken over", func() bool {
		more, err := s.Lease(t.Context(), queue.Query{Filter: queue.Filter{Queue: "in"}})
		if err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, more...)
		return len(jobs) == 2
	})
	p.signal(syscall.SIGCONT)
	p.write("settle")
	if line := p.expect("settled"); !strings.HasPrefix(line, "settled true") {
		t.Errorf("the child says %q, want a lost lease", line)
	}
	p.finish()
	if got := allJobs(t, s, "out"); len(got) != 0 {
		t.Errorf("%d jobs of the refused update are there", len(got))
	}
	if err := s.Update(t.Context(), func(tx queue.Tx) error { return tx.Settle(jobs[0].Done(), jobs[1].Done()) }); err != nil {
		t.Errorf("the new owner cannot settle: %v", err)
	}
	if left := allJobs(t, s, "in"); len(left) != 0 {
		t.Errorf("%d jobs are left", len(left))
	}
}
