package kafkatarget_test

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/pipeline"
)

var topics atomic.Int64

// topic makes a topic of a real broker.
func topic(t *testing.T, brokers string, partitions int32, configs map[string]*string) string {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	name := fmt.Sprintf("target-%d-%d", os.Getpid(), topics.Add(1))
	if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), partitions, 1, configs, name); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestABrokerRefusesOneOfABatch: a compacted topic takes no record without a key, and refuses
// the batch; only the message without one fails.
func TestABrokerRefusesOneOfABatch(t *testing.T) {
	t.Parallel()
	brokers := enginetest.Kafka(t)
	name := topic(t, brokers, 1, map[string]*string{"cleanup.policy": new("compact"), "max.message.bytes": new("100000")})
	to := opened(t, connector.Deps{}, config(brokers, name))
	keyed := func(data, key string) *event.Message {
		m := message(data)
		m.Key = key
		return m
	}
	large := event.New(make([]byte, 150_000))
	large.Key = "large"
	tombstone := keyed("", "b")
	tombstone.Data = nil
	failed := failures(write(t, to, keyed("1", "a"), message("no key"), keyed("2", "b"), large, tombstone))
	if len(failed) != 2 || fault.Of(failed[1]) != fault.Invalid || fault.Of(failed[3]) != fault.Invalid {
		t.Errorf("failures %v", failed)
	}
	got := ""
	for _, r := range records(t, brokers, name, 3) {
		got += fmt.Sprintf("%s=%s %t;", r.Key, r.Value, r.Value == nil)
	}
	if got != "a=1 false;b=2 false;b= true;" {
		t.Errorf("the topic has %s", got)
	}
}

// TestARefusedMessageEndsNoTransaction: what the broker refuses goes to the failure target, and
// the rest is there once.
func TestARefusedMessageEndsNoTransaction(t *testing.T) {
	t.Parallel()
	brokers := enginetest.Kafka(t)
	from := topic(t, brokers, 1, nil)
	to := topic(t, brokers, 1, map[string]*string{"cleanup.policy": new("compact")})
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	var rs []*kgo.Record
	var want []string
	for i := range 500 {
		r := &kgo.Record{Topic: from, Value: fmt.Appendf(nil, "message %06d", i)}
		if i%100 != 50 {
			r.Key = fmt.Appendf(nil, "key %d", i)
			want = append(want, string(r.Value))
		}
		rs = append(rs, r)
	}
	if err := cl.ProduceSync(t.Context(), rs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	m := newMover(t, brokers, "group-"+from, from, to, func() error { return nil })
	var refused atomic.Int64
	m.parts.Format = counting{&refused}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.run(ctx)
	}()
	once(t, brokers, to, want)
	for end := time.Now().Add(patience); refused.Load() < 5 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	<-done
	if n := refused.Load(); n < 5 { // a transaction that is aborted has them again
		t.Errorf("%d messages were refused, want 5", n)
	}
}

type counting struct{ n *atomic.Int64 }

func (c counting) Format(pipeline.Failure, int) ([]byte, error) {
	c.n.Add(1)
	return []byte("refused"), nil
}
