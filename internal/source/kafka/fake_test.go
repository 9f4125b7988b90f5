package kafkasource_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	kafkasource "github.com/weirdata/weir/internal/source/kafka"
)

// patience is how long a test waits for what has to come.
const patience = 2 * time.Minute

var numberOf atomic.Int64

// fresh is a name that nothing else of these tests has.
func fresh(what string) string {
	return fmt.Sprintf("%s-%d-%d", what, time.Now().UnixNano()%1e9, numberOf.Add(1))
}

// cluster is a cluster in the process.
func cluster(t *testing.T, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"})}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func brokers(c *kfake.Cluster) string { return strings.Join(c.ListenAddrs(), ",") }

// client is a client for the other side of a test.
func client(t *testing.T, brokers string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(strings.Split(brokers, ",")...), kgo.ProducerLinger(0)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// put writes payloads to a partition.
func put(t *testing.T, brokers, topic string, partition int32, payloads ...[]byte) {
	t.Helper()
	var rs []*kgo.Record
	for _, p := range payloads {
		rs = append(rs, &kgo.Record{Topic: topic, Partition: partition, Value: p})
	}
	send(t, brokers, rs...)
}

// send writes records to the partitions they name.
func send(t *testing.T, brokers string, rs ...*kgo.Record) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(brokers, ",")...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(t.Context(), rs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

func numbered(from, n int) [][]byte {
	ps := make([][]byte, n)
	for i := range ps {
		ps[i] = fmt.Appendf(nil, "payload %06d", from+i)
	}
	return ps
}

// config is a config with everything quick.
func config(brokers, topic string) kafkasource.Config {
	c := *kafkasource.Entry.Default().(*kafkasource.Config)
	c.Connection.Brokers, c.TopicName, c.ConsumerName, c.OffsetsInitial = brokers, topic, fresh("consumer"), -2
	c.CommitIntervalMillis, c.FetchMaxWaitMillis = 10, 50
	return c
}

// notes is a log that a test reads.
type notes struct {
	mu   sync.Mutex
	text strings.Builder
}

func (n *notes) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.Write(p)
}

func (n *notes) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.String()
}

func (n *notes) log() *slog.Logger { return slog.New(slog.NewTextHandler(n, nil)) }

func newSource(t *testing.T, c kafkasource.Config, log *slog.Logger) *kafkasource.Source {
	t.Helper()
	s, err := kafkasource.New(connector.Deps{Log: log}, c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func opened(t *testing.T, c kafkasource.Config, log *slog.Logger) *kafkasource.Source {
	t.Helper()
	s := newSource(t, c, log)
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	return s
}

// read reads n messages and acknowledges them with ok.
func read(t *testing.T, s connector.Source, n int, ok bool) event.Batch {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var all event.Batch
	for len(all) < n {
		b, ack, err := s.Read(ctx, connector.Room{Messages: n - len(all)})
		if err != nil {
			t.Fatalf("read %d of %d: %v", len(all), n, err)
		}
		all = append(all, b...)
		if ok && ack != nil {
			if err := ack(ctx, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	return all
}

func texts(b event.Batch) []string {
	var out []string
	for _, m := range b {
		out = append(out, string(m.Data))
	}
	return out
}

// eventually waits until f holds.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); ; {
		if f() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s", what, patience)
		}
		select {
		case <-t.Context().Done():
			t.Fatal(what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}
