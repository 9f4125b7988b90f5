//go:build unix

package lease

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/postgres"
)

// An instance in a process of its own: it reads a stream that does not change, and says what it
// does, a line for each thing.
const (
	processTable  = "WEIR_LEASE_TEST_TABLE"  // "dynamodb ENDPOINT NAME" or "postgres NAME DSN"
	processWorker = "WEIR_LEASE_TEST_WORKER" // its name
	processShards = 8
)

func TestMain(m *testing.M) {
	if table := os.Getenv(processTable); table != "" {
		if err := process(table, os.Getenv(processWorker)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// Most of these tests wait: for engines, and for leases to run out.
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// process runs one instance until its standard input ends.
func process(where, name string) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	words := strings.SplitN(where, " ", 3)
	var table Table
	switch words[0] {
	case "dynamodb":
		table = NewKCL(dynamoAt(words[1]), KCLOptions{Name: words[2]})
	case "postgres":
		s, err := postgres.New(postgres.Options{DSN: words[2], Name: name})
		if err != nil {
			return err
		}
		if err := s.Open(ctx); err != nil {
			return err
		}
		defer s.Close()
		table = NewStore(func() queue.Store { return s }, words[1])
	}
	c, err := New(Settings{Table: table, Stream: newRiver(processShards), Name: name, Start: Start{Position: TrimHorizon}, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	if err := c.Open(ctx); err != nil {
		return err
	}
	var mu sync.Mutex
	say := func(what string, l *Lease) { mu.Lock(); fmt.Fprintln(os.Stdout, what, l.Shard().ID); mu.Unlock() }
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	var readers sync.WaitGroup
	for {
		l, err := c.Next(ctx)
		if err != nil {
			break
		}
		say("hold", l)
		readers.Go(func() {
			n := 0
			_, _ = fmt.Sscanf(l.Position().Sequence, "%d", &n)
			for {
				select {
				case <-l.Lost():
					say("lost", l)
					return
				case <-ctx.Done():
					return
				case <-time.After(50 * time.Millisecond):
				}
				if !l.Held() {
					continue
				}
				say("write", l)
				n++
				if p, _ := At(fmt.Sprint(n), 0); l.Save(ctx, p) == nil {
					say("save", l)
				}
			}
		})
	}
	readers.Wait()
	return c.Close(context.Background())
}

// proc is a running instance, and what it said.
type proc struct {
	t    *testing.T
	name string
	cmd  *exec.Cmd
	in   io.Closer
	done chan struct{}

	mu    sync.Mutex
	lines []string
	holds map[string]bool
}

func start(t *testing.T, where, name string) *proc {
	t.Helper()
	p := &proc{t: t, name: name, done: make(chan struct{}), holds: map[string]bool{}}
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), processTable+"="+where, processWorker+"="+name)
	p.cmd.Stderr = &syncBuffer{}
	in, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.in = in
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			p.mu.Lock()
			p.lines = append(p.lines, lines.Text())
			what, shard, _ := strings.Cut(lines.Text(), " ")
			switch what {
			case "hold":
				p.holds[shard] = true
			case "lost":
				delete(p.holds, shard)
			}
			p.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
		_ = p.cmd.Wait()
		if t.Failed() {
			t.Logf("%s said %s", name, p.cmd.Stderr)
		}
	})
	return p
}

func (p *proc) held() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.holds)
}

func (p *proc) said() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lines
}

func (p *proc) signal(s syscall.Signal) {
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Errorf("%s to %s: %v", s, p.name, err)
	}
}

// stop ends it as a signal would, and waits for it.
func (p *proc) stop() {
	_ = p.in.Close()
	<-p.done
	if err := p.cmd.Wait(); err != nil {
		if _, exit := errors.AsType[*exec.ExitError](err); exit {
			p.t.Errorf("%s ended with %v: %s", p.name, err, p.cmd.Stderr)
		}
	}
}

// TestProcesses: two share a stream; of three one is killed, and others read what it held; one
// that was stopped for longer than the fail-over time writes nothing when it wakes (L11).
func TestProcesses(t *testing.T) {
	t.Parallel()
	for name, where := range map[string]func(t *testing.T) string{
		"DynamoDB":   func(t *testing.T) string { return "dynamodb " + enginetest.DynamoDB(t) + " " + newName(t) },
		"PostgreSQL": func(t *testing.T) string { return "postgres " + newName(t) + " " + enginetest.Postgres(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := where(t)
			a, b := start(t, at, "a"), start(t, at, "b")
			until(t, "two have four each", func() bool { return a.held() == 4 && b.held() == 4 })
			c := start(t, at, "c")
			until(t, "three have their share", func() bool { return a.held()+b.held()+c.held() == 8 && c.held() >= 2 })
			killed := time.Now()
			b.signal(syscall.SIGKILL)
			until(t, "two have the shards of one that was killed", func() bool { return a.held() == 4 && c.held() == 4 })
			t.Logf("%s after kill -9 its shards are read", time.Since(killed).Round(100*time.Millisecond))
			zombie(t, a, c)
			a.stop()
			until(t, "one has everything", func() bool { return c.held() == 8 })
			c.stop()
		})
	}
}

// zombie stops a for so long that c takes what it held, and wakes it.
func zombie(t *testing.T, a, c *proc) {
	t.Helper()
	a.signal(syscall.SIGSTOP)
	until(t, "one has the shards of one that was stopped", func() bool { return c.held() == 8 })
	before := len(a.said())
	a.signal(syscall.SIGCONT)
	until(t, "one that was stopped has its share again", func() bool { return a.held() == 4 && c.held() == 4 })
	mine, did := map[string]bool{}, map[string]int{}
	for _, line := range a.said()[before:] {
		what, shard, _ := strings.Cut(line, " ")
		switch {
		case what == "hold":
			mine[shard] = true
		case (what == "save" || what == "write") && !mine[shard]:
			// It may have been stopped between its look at the clock and its write, or when the
			// table had its position and the answer was on its way: once for each shard.
			if did[line]++; did[line] > 1 {
				t.Errorf("it went on with %s, which it does not hold any more: %s", shard, what)
			}
		}
	}
}
