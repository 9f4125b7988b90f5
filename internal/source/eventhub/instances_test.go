package eventhubsource_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/queue/postgres"
)

// childVariable holds what a process of this test binary is to read, when it is an instance.
const childVariable = "WEIR_TEST_EVENTHUB_INSTANCE"

// instance is what a process reads.
type instance struct {
	Address, Hub   string
	Container, DSN string
}

func TestMain(m *testing.M) {
	if spec := os.Getenv(childVariable); spec != "" {
		if err := beInstance(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// beInstance reads and acknowledges until it is killed. Each event is a line before it is
// acknowledged: "event body"; what it owns is a line "owns n".
func beInstance(spec string) error {
	var in instance
	if err := json.Unmarshal([]byte(spec), &in); err != nil {
		return err
	}
	o := options{hub: enginetest.EventHub{Address: in.Address, Name: in.Hub}, container: in.Container, log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	if in.DSN != "" {
		s, err := postgres.New(postgres.Options{DSN: in.DSN})
		if err != nil {
			return err
		}
		if err := s.Open(context.Background()); err != nil {
			return err
		}
		o.store = s
	}
	s := o.source(standIn{}, nil)
	ctx := context.Background()
	if err := s.Open(ctx); err != nil {
		return err
	}
	go func() {
		for owned := -1; ; time.Sleep(20 * time.Millisecond) {
			if n := s.Owns(); n != owned {
				owned = n
				fmt.Fprintf(os.Stdout, "owns %d\n", n)
			}
		}
	}()
	for {
		b, ack, err := s.Read(ctx, connector.Room{Messages: 20})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		for _, m := range b {
			fmt.Fprintf(os.Stdout, "event %s\n", m.Data)
		}
		if err := ack(ctx, nil); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}

// standIn is a testing.TB where there is no test: what fails ends the process.
type standIn struct{ testing.TB }

func (standIn) Helper()                      {}
func (standIn) Fatal(args ...any)            { panic(fmt.Sprint(args...)) }
func (standIn) Fatalf(f string, args ...any) { panic(fmt.Sprintf(f, args...)) }

// process is an instance that runs.
type process struct {
	cmd *exec.Cmd

	mu   sync.Mutex
	owns int
	got  []string // bodies, in the order in which they were said
}

func run(t *testing.T, in instance) *process {
	t.Helper()
	spec, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(os.Environ(), childVariable+"="+string(spec))
	p.cmd.Stderr = t.Output()
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			f := strings.Fields(lines.Text())
			p.mu.Lock()
			if f[0] == "owns" {
				p.owns, _ = strconv.Atoi(f[1])
			} else {
				p.got = append(p.got, f[1])
			}
			p.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-read
		_ = p.cmd.Wait()
	})
	return p
}

func (p *process) owned() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.owns
}

func (p *process) said() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.got...)
}

func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// load appends events to all partitions until stop is called, which says how many each has got.
func load(t *testing.T, hub enginetest.EventHub, partitions, from int) (stop func() int) {
	ending, ended := make(chan struct{}), make(chan int, 1)
	go func() {
		n := from
		for {
			for p := range partitions {
				var bodies []string
				for i := range 10 {
					bodies = append(bodies, fmt.Sprintf("%d:%06d", p, n+i))
				}
				hub.Append(t, p, bodies...)
			}
			n += 10
			select {
			case <-ending:
				ended <- n
				return
			case <-time.After(30 * time.Millisecond):
			}
		}
	}()
	return sync.OnceValue(func() int { close(ending); return <-ended })
}

// counted is how often each event was said by any of ps.
func counted(ps ...*process) map[string]int {
	n := map[string]int{}
	for _, p := range ps {
		for _, b := range p.said() {
			n[b]++
		}
	}
	return n
}

// everything waits until every event was said.
func everything(t *testing.T, partitions, each int, ps ...*process) map[string]int {
	t.Helper()
	until(t, fmt.Sprintf("all %d events of %d partitions were read", each, partitions), func() bool { return len(counted(ps...)) >= partitions*each })
	n := counted(ps...)
	for p := range partitions {
		for i := range each {
			if n[fmt.Sprintf("%d:%06d", p, i)] == 0 {
				t.Fatalf("event %d of partition %d is lost", i, p)
			}
		}
	}
	return n
}

func twice(n map[string]int) (d int) {
	for _, k := range n {
		d += k - 1
	}
	return d
}

// TestInstanceKilled: of three processes that share a hub under load one is killed, and another
// comes. Every event is read; those that are read twice after the kill are those that the dead one
// had read and not saved.
func TestInstanceKilled(t *testing.T) {
	t.Parallel()
	const partitions = 6
	for _, kept := range []string{"blobs", "PostgreSQL"} {
		t.Run(kept, func(t *testing.T) {
			t.Parallel()
			hub := enginetest.NewEventHub(t, partitions)
			in := instance{Address: hub.Address, Hub: hub.Name}
			if kept == "blobs" {
				in.Container = newContainer(t)
			} else {
				in.DSN = enginetest.Postgres(t)
			}
			a, b, c := run(t, in), run(t, in), run(t, in)
			until(t, "three share", func() bool {
				return a.owned() == partitions/3 && b.owned() == partitions/3 && c.owned() == partitions/3
			})
			stop := load(t, hub, partitions, 0)
			until(t, "the first is at work", func() bool { return len(a.said()) > 100 })
			killed := time.Now()
			a.signal(t, syscall.SIGKILL)
			_, _ = a.cmd.Process.Wait()
			bound := -1
			if kept == "blobs" {
				bound = unsaved(in, a, partitions)
			}
			until(t, "the others have taken over", func() bool { return b.owned() == partitions/2 && c.owned() == partitions/2 })
			t.Logf("taken over %s after the kill", time.Since(killed).Round(10*time.Millisecond))
			n := everything(t, partitions, stop(), a, b, c)
			d := twice(n)
			t.Logf("%d events, %d twice, %d were read and not saved by the one that was killed (-1: not known)", len(n), d, bound)
			if bound >= 0 && d > bound {
				t.Errorf("%d events were read twice, and %d were in flight", d, bound)
			}
			stop = load(t, hub, partitions, len(n)/partitions)
			e := run(t, in)
			until(t, "the new one has its share", func() bool {
				return b.owned() == partitions/3 && c.owned() == partitions/3 && e.owned() == partitions/3
			})
			until(t, "the new one is at work", func() bool { return len(e.said()) > 100 })
			n = everything(t, partitions, stop(), a, b, c, e)
			t.Logf("%d events, %d more twice after another came", len(n), twice(n)-d)
		})
	}
}

// unsaved is how many events an instance has said that lie behind its checkpoints.
func unsaved(in instance, p *process, partitions int) (n int) {
	saved := make([]int, partitions)
	for i := range saved {
		saved[i] = -1
		if s := sequenceNow(in, i); s != "" {
			saved[i], _ = strconv.Atoi(s)
		}
	}
	for _, body := range p.said() {
		partition, _ := strconv.Atoi(body[:1])
		if i, _ := strconv.Atoi(body[2:]); i > saved[partition] {
			n++
		}
	}
	return n
}

func checkpointName(in instance, partition int) string {
	return strings.ToLower(in.Address+"/"+in.Hub+"/$Default") + "/checkpoint/" + strconv.Itoa(partition)
}

// TestInstanceStopped: E9, a process that the system stops loses its partitions; when it goes on it
// saves nothing of them and takes no link away from their new owner for good: checkpoints never go
// back, and every event is read.
func TestInstanceStopped(t *testing.T) {
	t.Parallel()
	const partitions = 4
	hub := enginetest.NewEventHub(t, partitions)
	in := instance{Address: hub.Address, Hub: hub.Name, Container: newContainer(t)}
	a, b := run(t, in), run(t, in)
	until(t, "two share", func() bool { return a.owned() == partitions/2 && b.owned() == partitions/2 })
	ending, ended := make(chan struct{}), make(chan struct{})
	go func() { // watches the checkpoints
		defer close(ended)
		highest := make([]int, partitions)
		for {
			for i := range highest {
				n, err := strconv.Atoi(sequenceNow(in, i))
				if err == nil && n < highest[i] {
					t.Errorf("the checkpoint of partition %d went from %d back to %d", i, highest[i], n)
				} else if err == nil {
					highest[i] = n
				}
			}
			select {
			case <-ending:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	stop := load(t, hub, partitions, 0)
	until(t, "the first is at work", func() bool { return len(a.said()) > 100 })
	a.signal(t, syscall.SIGSTOP)
	until(t, "the second has taken over", func() bool { return b.owned() == partitions })
	before := len(b.said())
	until(t, "the second is at work", func() bool { return len(b.said()) > before+200 })
	a.signal(t, syscall.SIGCONT)
	until(t, "they share again", func() bool { return a.owned() == partitions/2 && b.owned() == partitions/2 })
	said := len(a.said())
	until(t, "the first is at work again", func() bool { return len(a.said()) > said+100 })
	n := everything(t, partitions, stop(), a, b)
	t.Logf("%d events, %d twice", len(n), twice(n))
	close(ending)
	<-ended
}

func sequenceNow(in instance, partition int) string {
	r, err := sdkClient(in.Container).NewBlobClient(checkpointName(in, partition)).GetProperties(context.Background(), nil)
	if err != nil {
		return ""
	}
	for k, v := range r.Metadata {
		if strings.EqualFold(k, "sequencenumber") {
			return *v
		}
	}
	return ""
}
