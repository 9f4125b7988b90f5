package kafkatarget_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/pipeline"
	"github.com/weirdata/weir/internal/retry"
	kafkasource "github.com/weirdata/weir/internal/source/kafka"
	"github.com/weirdata/weir/internal/target/silent"
)

// mover is a pipeline from one topic to another, in transactions.
type mover struct {
	source *kafkasource.Source
	parts  pipeline.Parts
}

// newMover makes one. unsteady may fail a write, or wait.
func newMover(t *testing.T, brokers, group, from, to string, unsteady func() error) *mover {
	t.Helper()
	sc := *kafkasource.Entry.Default().(*kafkasource.Config)
	sc.Connection.Brokers, sc.TopicName, sc.GroupID, sc.ConsumerName, sc.OffsetsInitial = brokers, from, group, "x", -2
	sc.FetchMaxWaitMillis, sc.PartitionKey, sc.SessionTimeoutMillis = 20, "source", 6000
	source, err := kafkasource.New(connector.Deps{}, sc)
	if err != nil {
		t.Fatal(err)
	}
	tc := config(brokers, to)
	tc.Transactional, tc.TransactionIntervalMillis, tc.TransactionTimeoutMillis = true, 20, 5000
	target := newTarget(t, connector.Deps{Pipeline: "test"}, tc)
	if err := source.JoinTransactions(target); err != nil {
		t.Fatal(err)
	}
	nothing, err := silent.Entry.Build(t.Context(), connector.Deps{}, func(any) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	sink := pipeline.Sink{Target: target, Limits: target.Limits()}
	sink.Middleware = append(sink.Middleware, func(write connector.Write) connector.Write {
		return func(ctx context.Context, b event.Batch) error {
			if err := unsteady(); err != nil {
				return err
			}
			return write(ctx, b)
		}
	})
	quick := retry.Class{Delay: time.Millisecond, MaxAttempts: 2, MaxDelay: time.Millisecond}
	return &mover{source, pipeline.Parts{Name: "test", Source: source, Target: sink, Filter: pipeline.Sink{Target: nothing}, Failure: pipeline.Sink{Target: nothing},
		Format: noFormat{t}, InFlightMessages: 300, Drain: 4 * time.Second,
		Retry: retry.Policy{Transient: quick, Throttle: quick, Setup: quick}}}
}

type noFormat struct{ t *testing.T }

func (f noFormat) Format(x pipeline.Failure, _ int) ([]byte, error) {
	f.t.Errorf("a message became invalid: %v", x.Cause)
	return nil, x.Cause
}

// run runs the pipeline over and over, until ctx ends, as its supervisor does.
func (m *mover) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := pipeline.New(m.parts).Run(ctx); err != nil && ctx.Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// once waits until a topic has each of want, as one who reads what is committed sees it, and
// fails when it has one of them twice.
func once(t *testing.T, brokers, topic string, want []string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(brokers, ",")...), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	seen := map[string]int{}
	take := func(f kgo.Fetches) {
		f.EachRecord(func(r *kgo.Record) { seen[string(r.Value)]++ })
	}
	for len(seen) < len(want) && ctx.Err() == nil {
		take(cl.PollFetches(ctx))
	}
	calm, done := context.WithTimeout(ctx, time.Second) // what comes too much comes now
	defer done()
	for calm.Err() == nil {
		take(cl.PollFetches(calm))
	}
	missing, twice := 0, 0
	for _, w := range want {
		switch n := seen[w]; {
		case n == 0:
			missing++
		case n > 1:
			twice++
		}
	}
	if missing > 0 || twice > 0 || len(seen) != len(want) {
		t.Errorf("of %d messages %d are missing and %d are there more than once; %d are there", len(want), missing, twice, len(seen))
	}
}

// feed writes n messages to a topic of some partitions, some at a time.
func feed(t *testing.T, brokers, topic string, n int, some int, pause time.Duration) (want []string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(brokers, ",")...), kgo.ProducerLinger(0))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for len(want) < n {
		var rs []*kgo.Record
		for range some {
			i := len(want)
			want = append(want, fmt.Sprintf("message %06d", i))
			rs = append(rs, &kgo.Record{Topic: topic, Key: fmt.Appendf(nil, "key %d", i%97), Value: []byte(want[i])})
		}
		if err := cl.ProduceSync(t.Context(), rs...).FirstErr(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(pause)
	}
	return want
}

// TestTransactionsAreExactlyOnce: whatever fails on the way (writes, requests of the group and
// of the transaction, rebalances, pipelines that are started again), one who reads what is
// committed has each message once (F10, F11).
func TestTransactionsAreExactlyOnce(t *testing.T) {
	t.Parallel()
	faults := []kfake.Fault{
		{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.InvalidProducerEpoch},
		{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotLeaderForPartition},
		{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.CoordinatorNotAvailable},
		{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.InvalidProducerEpoch},
		{Keys: []kmsg.Key{kmsg.TxnOffsetCommit}, Err: kerr.IllegalGeneration},
		{Keys: []kmsg.Key{kmsg.TxnOffsetCommit}, Err: kerr.CoordinatorLoadInProgress},
		{Keys: []kmsg.Key{kmsg.AddOffsetsToTxn}, Err: kerr.ConcurrentTransactions},
		{Keys: []kmsg.Key{kmsg.Heartbeat}, Err: kerr.RebalanceInProgress},
		{Keys: []kmsg.Key{kmsg.Heartbeat}, Err: kerr.UnknownMemberID},
		{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.UnknownServerError},
	}
	c := cluster(t, kfake.SeedTopics(4, "in", "out"))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	broken := errors.New("broken")
	for range 3 {
		m := newMover(t, brokers(c), "group", "in", "out", func() error {
			switch rand.IntN(60) {
			case 0:
				return broken
			case 1:
				time.Sleep(30 * time.Millisecond)
			}
			return nil
		})
		wg.Go(func() {
			for ctx.Err() == nil { // each lives for a while, and another takes its place
				life, end := context.WithTimeout(ctx, time.Second+rand.N(2*time.Second))
				m.run(life)
				end()
			}
		})
	}
	wg.Go(func() {
		for i := 0; ctx.Err() == nil && i < 60; i++ {
			f := faults[rand.IntN(len(faults))]
			f.Topic = ""
			if f.Keys[0] == kmsg.Produce {
				f.Topic = "out" // what is fed is no part of it
			}
			c.Fault(f)
			time.Sleep(100 * time.Millisecond)
		}
	})
	want := feed(t, brokers(c), "in", 6000, 100, 100*time.Millisecond)
	once(t, brokers(c), "out", want)
}

// TestTransactionsNeedTheirSource: a config that cannot work is refused, and says why.
func TestTransactionsNeedTheirSource(t *testing.T) {
	t.Parallel()
	sc := *kafkasource.Entry.Default().(*kafkasource.Config)
	sc.Connection.Brokers, sc.TopicName, sc.ConsumerName = "a:9092,b:9092", "in", "x"
	tc := config("b:9092,a:9092", "out")
	tc.Transactional = true
	join := func() error {
		source, err := kafkasource.New(connector.Deps{}, sc)
		if err != nil {
			t.Fatal(err)
		}
		return source.JoinTransactions(newTarget(t, connector.Deps{}, tc))
	}
	if err := join(); err != nil {
		t.Errorf("the same brokers: %v", err)
	}
	tc.TransactionTimeoutMillis = 60_000
	if err := join(); err == nil || !strings.Contains(err.Error(), "must be less than session_timeout_ms") {
		t.Errorf("a transaction that outlasts the membership: %v", err)
	}
	tc.TransactionTimeoutMillis = 30_000
	tc.Connection.Brokers = "c:9092"
	if err := join(); err == nil || !strings.Contains(err.Error(), "within one cluster") {
		t.Errorf("another cluster: %v", err)
	}
	if err := newTarget(t, connector.Deps{}, tc).Open(t.Context()); fault.Of(err) != fault.Fatal {
		t.Errorf("open without a source: %v", err)
	}
}
