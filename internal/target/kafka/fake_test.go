package kafkatarget_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	kafkatarget "github.com/weirdata/weir/internal/target/kafka"
)

// patience is how long a test waits for what has to come.
const patience = 2 * time.Minute

func cluster(t *testing.T, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func brokers(c *kfake.Cluster) string { return strings.Join(c.ListenAddrs(), ",") }

func config(brokers, topic string) kafkatarget.Config {
	c := *kafkatarget.Entry.Default().(*kafkatarget.Config)
	c.Connection.Brokers, c.TopicName = brokers, topic
	return c
}

func newTarget(t *testing.T, d connector.Deps, c kafkatarget.Config) *kafkatarget.Target {
	t.Helper()
	to, err := kafkatarget.New(d, c)
	if err != nil {
		t.Fatal(err)
	}
	return to
}

func opened(t *testing.T, d connector.Deps, c kafkatarget.Config) *kafkatarget.Target {
	t.Helper()
	to := newTarget(t, d, c)
	if err := to.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = to.Close(context.Background()) })
	return to
}

// records are the first n records of a topic, in the order of their partitions.
func records(t *testing.T, brokers, topic string, n int) []*kgo.Record {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(brokers, ",")...), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var rs []*kgo.Record
	for len(rs) < n {
		f := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("topic %s has %d records, not %d", topic, len(rs), n)
		}
		rs = append(rs, f.Records()...)
	}
	return rs
}

func message(text string) *event.Message { return event.New([]byte(text)) }
