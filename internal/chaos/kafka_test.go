//go:build unix

package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirdata/weir/internal/enginetest"
)

var topics atomic.Int64

// stream is a topic that is filled, and one that processes move its messages to.
type stream struct {
	t        *testing.T
	brokers  string
	from, to string
	admin    *kadm.Client
	client   *kgo.Client

	mu   sync.Mutex
	want []string
}

func newStream(t *testing.T, brokers string, partitions int32) *stream {
	t.Helper()
	name := fmt.Sprintf("chaos-%d-%d", os.Getpid(), topics.Add(1))
	s := &stream{t: t, brokers: brokers, from: name + "-in", to: name + "-out"}
	var err error
	if s.client, err = kgo.NewClient(kgo.SeedBrokers(brokers), kgo.ProducerLinger(0)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.client.Close)
	s.admin = kadm.NewClient(s.client)
	for _, topic := range []string{s.from, s.to} {
		if _, err := s.admin.CreateTopic(t.Context(), partitions, 1, nil, topic); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// fill writes some messages at a time until ctx ends.
func (s *stream) fill(ctx context.Context, some int, pause time.Duration) {
	for ctx.Err() == nil {
		var rs []*kgo.Record
		s.mu.Lock()
		for range some {
			i := len(s.want)
			s.want = append(s.want, fmt.Sprintf("message %07d", i))
			rs = append(rs, &kgo.Record{Topic: s.from, Key: fmt.Appendf(nil, "key %d", i%101), Value: []byte(s.want[i])})
		}
		s.mu.Unlock()
		if err := s.client.ProduceSync(s.t.Context(), rs...).FirstErr(); err != nil {
			s.t.Error(err)
			return
		}
		time.Sleep(pause)
	}
}

// config is a file that moves the messages, with further options of source and target.
func (s *stream) config(source, target string) string {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), "weir.hcl")
	text := fmt.Sprintf(`
pipeline "move" {
  source {
    use "kafka" {
      brokers            = %[1]q
      topic_name         = %[2]q
      consumer_name      = "chaos"
      offsets_initial    = -2
      partition_key      = "source"
      session_timeout_ms = 6000
%[4]s
    }
  }
  target {
    use "kafka" {
      brokers    = %[1]q
      topic_name = %[3]q
%[5]s
    }
  }
}
`, s.brokers, s.from, s.to, source, target)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// mover is a process that moves messages.
type mover struct {
	t   *testing.T
	cmd *exec.Cmd
	log *os.File
}

func (s *stream) start(config string) *mover {
	s.t.Helper()
	return startMover(s.t, config)
}

func startMover(t *testing.T, config string, environment ...string) *mover {
	t.Helper()
	weir, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.CreateTemp(t.TempDir(), "log")
	if err != nil {
		t.Fatal(err)
	}
	m := &mover{t: t, cmd: exec.Command(weir, "run", "--no-progress", config), log: log}
	m.cmd.Stdout, m.cmd.Stderr = log, log
	m.cmd.Env = append(os.Environ(), environment...)
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.end(os.Kill) })
	return m
}

// end ends the process by a signal, and waits for it.
func (m *mover) end(by os.Signal) {
	if m.cmd.ProcessState != nil {
		return
	}
	_ = m.cmd.Process.Signal(by)
	_ = m.cmd.Wait()
	if m.t.Failed() {
		text, _ := os.ReadFile(m.log.Name())
		m.t.Logf("log of a process:\n%s", text[max(0, len(text)-3000):])
	}
	_ = m.log.Close()
}

// arrived waits until everything has arrived, as one who reads what is committed sees it, and
// is how many messages came more than once.
func (s *stream) arrived() (again int) {
	s.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.brokers), kgo.ConsumeTopics(s.to), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		s.t.Fatal(err)
	}
	defer cl.Close()
	s.mu.Lock()
	want := s.want
	s.mu.Unlock()
	seen := map[string]int{}
	for last := time.Now(); len(seen) < len(want); {
		ctx, cancel := context.WithTimeout(s.t.Context(), time.Second)
		f := cl.PollFetches(ctx)
		cancel()
		f.EachRecord(func(r *kgo.Record) {
			seen[string(r.Value)]++
			last = time.Now()
		})
		if time.Since(last) > patience {
			s.t.Fatalf("%d of %d messages have not arrived, and nothing came for %s", len(want)-len(seen), len(want), patience)
		}
	}
	for calm := time.Now(); time.Since(calm) < 2*time.Second; {
		ctx, cancel := context.WithTimeout(s.t.Context(), time.Second)
		cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) { seen[string(r.Value)]++ })
		cancel()
	}
	for _, w := range want {
		again += max(seen[w]-1, 0)
		delete(seen, w)
	}
	if len(seen) > 0 {
		s.t.Errorf("%d messages came that nobody sent", len(seen))
	}
	return again
}

// progress waits until more has arrived than at before, and is how much.
func (s *stream) progress(before int64) int64 {
	s.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		ends, err := s.admin.ListEndOffsets(s.t.Context(), s.to)
		if err != nil {
			continue // a broker that is started again
		}
		n := int64(0)
		ends.Each(func(o kadm.ListedOffset) { n += o.Offset })
		if n > before {
			return n
		}
	}
	s.t.Fatalf("nothing arrives for %s", patience)
	return 0
}

// TestKafkaInstances: three processes share a topic; one of them is killed, and another comes,
// under load. Nothing is lost, and what comes twice was in flight in the one that was killed,
// or settled since its last commit.
func TestKafkaInstances(t *testing.T) {
	t.Parallel()
	s := newStream(t, enginetest.Kafka(t), 6)
	ctx, full := context.WithCancel(t.Context())
	var filling sync.WaitGroup
	filling.Go(func() { s.fill(ctx, 100, 20*time.Millisecond) })
	config := s.config("", "")
	ms := []*mover{s.start(config), s.start(config), s.start(config)}
	n := s.progress(s.progress(0))
	kills := runs(t)
	for range kills {
		time.Sleep(rand.N(2 * time.Second))
		i := rand.IntN(len(ms))
		ms[i].end(os.Kill)
		ms[i] = s.start(config)
		n = s.progress(n)
	}
	ms = append(ms, s.start(config))
	s.progress(n + 1000)
	ms[0].end(os.Interrupt)
	full()
	filling.Wait()
	again := s.arrived()
	t.Logf("%d messages, %d processes killed, %d messages came again", len(s.want), kills, again)
	if most := kills * (10_000 + 5000/2); again > most {
		t.Errorf("%d messages came again after %d kills, and at most %d were in flight", again, kills, most)
	}
}

// TestKafkaTransactions: whatever is killed at whatever moment, one who reads what is committed
// has each message once.
func TestKafkaTransactions(t *testing.T) {
	t.Parallel()
	s := newStream(t, enginetest.Kafka(t), 4)
	ctx, full := context.WithCancel(t.Context())
	var filling sync.WaitGroup
	filling.Go(func() { s.fill(ctx, 100, 20*time.Millisecond) })
	config := s.config("", `
      transactional           = true
      transaction_interval_ms = 50
      transaction_timeout_ms  = 5000`)
	ms := []*mover{s.start(config), s.start(config)}
	n := s.progress(0)
	kills := runs(t)
	for range kills {
		time.Sleep(rand.N(2 * time.Second))
		i := rand.IntN(len(ms))
		ms[i].end(os.Kill)
		ms[i] = s.start(config)
		n = s.progress(n)
	}
	ms[0].end(os.Interrupt)
	full()
	filling.Wait()
	if again := s.arrived(); again > 0 {
		t.Errorf("%d of %d messages came more than once after %d kills", again, len(s.want), kills)
	}
}

// TestKafkaStartedAgain: a broker that is killed and started again under load ends no process,
// and nothing is lost; in transactions, nothing comes twice either.
func TestKafkaStartedAgain(t *testing.T) {
	t.Parallel()
	broker := enginetest.RestartableKafka(t)
	plain, exact := newStream(t, broker.Address, 3), newStream(t, broker.Address, 3)
	ctx, full := context.WithCancel(t.Context())
	var filling sync.WaitGroup
	for _, s := range []*stream{plain, exact} {
		filling.Go(func() { s.fill(ctx, 50, 20*time.Millisecond) })
	}
	one := plain.start(plain.config("", ""))
	two := exact.start(exact.config("", "transactional = true\ntransaction_timeout_ms = 5000"))
	plain.progress(0)
	exact.progress(0)
	for range 2 {
		time.Sleep(rand.N(time.Second))
		broker.Restart(t)
		n, m := plain.progress(0), exact.progress(0)
		plain.progress(n)
		exact.progress(m)
	}
	full()
	filling.Wait()
	again := plain.arrived()
	t.Logf("%d messages, %d came again", len(plain.want), again)
	if again := exact.arrived(); again > 0 {
		t.Errorf("in transactions, %d of %d messages came more than once", again, len(exact.want))
	}
	for _, m := range []*mover{one, two} {
		if m.cmd.ProcessState != nil {
			t.Error("a process has ended")
		}
		if text, _ := os.ReadFile(m.log.Name()); strings.Contains(string(text), "panic") {
			t.Errorf("the log:\n%s", text)
		}
	}
}
