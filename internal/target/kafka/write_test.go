package kafkatarget_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

func write(t *testing.T, to connector.Target, b ...*event.Message) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return to.Write(ctx, b)
}

func failures(err error) map[int]error {
	if p, ok := errors.AsType[*connector.Partial](err); ok {
		return p.Failed
	}
	return nil
}

// TestRecordsCarryEverything: a tombstone is none of "null" and none that is empty (F12);
// headers keep their order, names that repeat and values that are nil (F13); keys that are not
// there, empty and any bytes are told apart; the time is the message's.
func TestRecordsCarryEverything(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.SeedTopics(1, "events"))
	to := opened(t, connector.Deps{Lone: true}, config(brokers(c), "events"))
	at := time.UnixMilli(1_700_000_000_123)
	b := event.Batch{
		{Data: []byte("v"), Key: "k\x00\xff", Meta: event.Meta{Headers: event.Headers{{Name: "b", Value: []byte("1")}, {Name: "a"}, {Name: "b", Value: []byte{}}}}},
		{Data: nil, Key: "tombstone"},
		{Data: []byte{}, Keyed: event.KeyEmpty},
		{Data: []byte("w"), Keyed: event.KeyNone},
		{Data: []byte("x")},
	}
	for _, m := range b {
		m.Times.Created = at
	}
	if err := write(t, to, b...); err != nil {
		t.Fatal(err)
	}
	rs := records(t, brokers(c), "events", len(b))
	keys := []struct {
		key  string
		none bool
	}{{"k\x00\xff", false}, {"tombstone", false}, {"", false}, {"", true}, {b[4].Key, false}}
	for i, r := range rs {
		if !bytes.Equal(r.Value, b[i].Data) || (r.Value == nil) != (b[i].Data == nil) || string(r.Key) != keys[i].key || (r.Key == nil) != keys[i].none || !r.Timestamp.Equal(at) {
			t.Errorf("record %d: value %q (nil %t), key %q (nil %t), time %s", i, r.Value, r.Value == nil, r.Key, r.Key == nil, r.Timestamp)
		}
		var got event.Headers
		for _, h := range r.Headers {
			got = append(got, event.Header{Name: h.Key, Value: h.Value})
		}
		if diff := cmp.Diff(b[i].Meta.Headers, got); diff != "" {
			t.Errorf("record %d: headers (-want +got):\n%s", i, diff)
		}
	}
	if len(b[4].Key) != 36 {
		t.Errorf("a message without a key has the key %q", b[4].Key)
	}
}

// TestWhatIsSwitchedOff is not in the records.
func TestWhatIsSwitchedOff(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.SeedTopics(1, "events"))
	conf := config(brokers(c), "events")
	conf.SendHeaders, conf.Timestamp = false, "now"
	to := opened(t, connector.Deps{}, conf)
	m := message("x")
	m.SetHeader("a", "b")
	m.Times.Created = time.UnixMilli(1)
	if err := write(t, to, m); err != nil {
		t.Fatal(err)
	}
	if r := records(t, brokers(c), "events", 1)[0]; len(r.Headers) > 0 || r.Key != nil || time.Since(r.Timestamp) > time.Hour {
		t.Errorf("record %+v", r)
	}
}

// snowbridges is the partition that Snowbridge's client gives a key.
func snowbridges(key string, n int32) int32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(key))
	p := int32(h.Sum32()) % n
	if p < 0 {
		p = -p
	}
	return p
}

// TestKeysStayInTheirPartitions: where Snowbridge puts them, in a config of its kind, and where
// the clients of Kafka do, otherwise.
func TestKeysStayInTheirPartitions(t *testing.T) {
	t.Parallel()
	// Of 12 partitions, as the Java client chooses: (murmur2(key) & 0x7fffffff) % 12.
	java := map[string]int32{"a": murmur2("a") % 12, "user-1": murmur2("user-1") % 12, "": murmur2("") % 12, "\xff\x00": murmur2("\xff\x00") % 12}
	for _, x := range []struct {
		name   string
		lone   bool
		option string
		want   func(string) int32
	}{
		{"a config of Snowbridge", true, "", func(k string) int32 { return snowbridges(k, 12) }},
		{"another", false, "", func(k string) int32 { return java[k] }},
		{"by option", false, "fnv1a", func(k string) int32 { return snowbridges(k, 12) }},
		{"by option", true, "murmur2", func(k string) int32 { return java[k] }},
	} {
		c := cluster(t, kfake.SeedTopics(12, "events"))
		conf := config(brokers(c), "events")
		conf.Partitioner = x.option
		to := opened(t, connector.Deps{Lone: x.lone}, conf)
		for key := range java {
			m := message(key)
			m.Key, m.Keyed = key, event.KeyEmpty
			if err := write(t, to, m); err != nil {
				t.Fatal(err)
			}
		}
		for _, r := range records(t, brokers(c), "events", len(java)) {
			if want := x.want(string(r.Key)); r.Partition != want {
				t.Errorf("%s: key %q is in partition %d, want %d", x.name, r.Key, r.Partition, want)
			}
		}
	}
}

// murmur2 is the hash of the Java client, as its sources have it, without the sign.
func murmur2(key string) int32 {
	const m uint32 = 0x5bd1e995
	h := 0x9747b28c ^ uint32(len(key))
	b := []byte(key)
	for ; len(b) >= 4; b = b[4:] {
		k := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
		k *= m
		k ^= k >> 24
		k *= m
		h = h*m ^ k
	}
	for i, c := range slices.Backward(b) {
		h ^= uint32(c) << (8 * i)
	}
	if len(b) > 0 {
		h *= m
	}
	h ^= h >> 13
	h *= m
	h ^= h >> 15
	return int32(h & 0x7fffffff)
}

// TestMessagesWithoutKeysSpread over all partitions, whatever stands for the key (F5).
func TestMessagesWithoutKeysSpread(t *testing.T) {
	t.Parallel()
	for _, missing := range []string{"random", "none"} {
		c := cluster(t, kfake.SeedTopics(12, "events"))
		conf := config(brokers(c), "events")
		conf.MissingKey = missing
		to := opened(t, connector.Deps{}, conf)
		const n, size = 600, 5000
		for range n / 100 {
			var b event.Batch
			for range 100 {
				b = append(b, event.New(make([]byte, size)))
			}
			if err := write(t, to, b...); err != nil {
				t.Fatal(err)
			}
		}
		counts := map[int32]int{}
		for _, r := range records(t, brokers(c), "events", n) {
			counts[r.Partition]++
		}
		if len(counts) < 10 {
			t.Errorf("missing_key %s: %d messages of %d bytes are in %d of 12 partitions: %v", missing, n, size, len(counts), counts)
		}
		for p, k := range counts {
			if k > n/3 {
				t.Errorf("missing_key %s: %d of %d messages are in partition %d", missing, k, n, p)
			}
		}
	}
}

// TestTopics: a message chooses by a header, or a field, and one that cannot fails alone.
func TestTopics(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.SeedTopics(1, "events", "events-a", "events-b"))
	conf := config(brokers(c), "events")
	conf.TopicHeader, conf.TopicField, conf.TopicPrefix = "topic", "to.name", "events-"
	to := opened(t, connector.Deps{}, conf)
	plain, header, field, odd := message("plain"), message("header"), message(`{"to":{"name":"b"}}`), message("odd")
	header.SetHeader("topic", "a")
	odd.SetHeader("topic", "no topic/\x00")
	group := to.Limits().Group
	for m, want := range map[*event.Message]string{plain: "events", header: "events-a", field: "events-b"} {
		if got := group(m); got != want {
			t.Errorf("%s goes to %q, want %q", m.Data, got, want)
		}
	}
	failed := failures(write(t, to, plain, header, odd, field))
	if len(failed) != 1 || fault.Of(failed[2]) != fault.Invalid {
		t.Errorf("failures %v", failed)
	}
	for topic, want := range map[string]string{"events": "plain", "events-a": "header", "events-b": `{"to":{"name":"b"}}`} {
		if got := string(records(t, brokers(c), topic, 1)[0].Value); got != want {
			t.Errorf("topic %s has %q, want %q", topic, got, want)
		}
	}
}

// TestATopicThatComesLater: the writes say what is missing, and succeed once it is there (F6).
func TestATopicThatComesLater(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	to := opened(t, connector.Deps{}, config(brokers(c), "events"))
	failed := failures(write(t, to, message("a"), message("b")))
	if len(failed) != 2 || fault.Of(failed[0]) != fault.Setup || !strings.Contains(failed[0].Error(), "create the topic") {
		t.Errorf("failures %v", failed)
	}
	if err := to.Check(t.Context()); fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), "kafka-topics.sh --create --topic events") {
		t.Errorf("the check says %v", err)
	}
	if err := c.CreateTopic("events", 1, nil); err != nil {
		t.Fatal(err)
	}
	for failed = failures(write(t, to, message("a"))); len(failed) > 0; failed = failures(write(t, to, message("a"))) {
		if fault.Of(failed[0]) != fault.Setup {
			t.Fatal(failed)
		}
	}
	if err := to.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestErrorsOfTheBroker are told apart by what they mean. Those that pass by themselves are
// not seen, since the client tries again, and nothing is written twice (F10, F15).
func TestErrorsOfTheBroker(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		err  *kerr.Error
		n    int
		want string // the kind, where the write fails
	}{
		{kerr.NotLeaderForPartition, 2, ""}, {kerr.NotEnoughReplicas, 2, ""}, {kerr.RequestTimedOut, 1, ""}, {kerr.CorruptMessage, 1, ""},
		{kerr.InvalidProducerEpoch, 1, ""}, {kerr.UnknownProducerID, 1, ""}, {kerr.OutOfOrderSequenceNumber, 1, ""},
		{kerr.PolicyViolation, -1, "throttled"}, {kerr.ThrottlingQuotaExceeded, -1, "throttled"},
		{kerr.TopicAuthorizationFailed, -1, "setup"}, {kerr.InvalidRecord, -1, "invalid"}, {kerr.InvalidTimestamp, -1, "invalid"}, {kerr.MessageTooLarge, -1, "invalid"},
	} {
		t.Run(x.err.Message, func(t *testing.T) {
			t.Parallel()
			c := cluster(t, kfake.SeedTopics(1, "events"))
			to := opened(t, connector.Deps{}, config(brokers(c), "events"))
			if err := write(t, to, message("before")); err != nil {
				t.Fatal(err)
			}
			at := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: x.err, Count: x.n})
			var err error
			for range 20 { // as the engine does with what failed for now
				err = write(t, to, message("a"))
				if err == nil || x.want != "" || fault.Of(failures(err)[0]) != fault.Transient {
					break
				}
			}
			if at.Hits() == 0 {
				t.Error("no request was met by the fault")
			}
			at.Remove()
			n := 2
			if x.want != "" {
				if failed := failures(err); len(failed) != 1 || fault.Of(failed[0]).String() != x.want {
					t.Fatalf("write: %v, want %s", err, x.want)
				}
				n = 1
			} else if err != nil {
				t.Fatalf("write: %v", err)
			}
			if err := write(t, to, message("after")); err != nil {
				t.Errorf("it does not go on: %v", err)
			}
			if high := c.PartitionInfo("events", 0).HighWatermark; high != int64(n+1) {
				t.Errorf("the topic has %d records, want %d", high, n+1)
			}
		})
	}
}

// TestTooLargeTogether: records that are refused for the size of their batch are sent by
// themselves, and only the one that is too large fails.
func TestTooLargeTogether(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	if err := c.CreateTopic("events", 1, map[string]string{"max.message.bytes": "100000"}); err != nil {
		t.Fatal(err)
	}
	// Who may not read the limit of the topic does not know it.
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeConfigs}, Err: kerr.TopicAuthorizationFailed, Count: -1})
	// The fake takes any size, so that it is the fault that has the topic's limit.
	c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		r := req.(*kmsg.ProduceRequest)
		if len(r.Topics[0].Partitions[0].Records) <= 100_000 {
			return nil, nil, false
		}
		resp := r.ResponseKind().(*kmsg.ProduceResponse)
		topic := kmsg.NewProduceResponseTopic()
		topic.Topic, topic.TopicID = r.Topics[0].Topic, r.Topics[0].TopicID
		p := kmsg.NewProduceResponseTopicPartition()
		p.Partition, p.ErrorCode = r.Topics[0].Partitions[0].Partition, kerr.MessageTooLarge.Code
		topic.Partitions = append(topic.Partitions, p)
		resp.Topics = append(resp.Topics, topic)
		return resp, nil, true
	})
	to := opened(t, connector.Deps{}, config(brokers(c), "events"))
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			var b event.Batch
			for i := range 6 {
				size := 40_000
				if i == 3 {
					size = 120_000
				}
				b = append(b, event.New(bytes.Repeat([]byte{byte('a' + w)}, size)))
			}
			failed := failures(write(t, to, b...))
			if len(failed) != 1 || fault.Of(failed[3]) != fault.Invalid {
				t.Errorf("writer %d: failures %v", w, failed)
			}
		})
	}
	wg.Wait()
	if high := c.PartitionInfo("events", 0).HighWatermark; high != 4*5 {
		t.Errorf("the topic has %d records, want %d", high, 4*5)
	}
}

// TestTheLimitOfATopic is learnt where the broker says it: no batch is larger.
func TestTheLimitOfATopic(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	if err := c.CreateTopic("events", 1, map[string]string{"max.message.bytes": "100000"}); err != nil {
		t.Fatal(err)
	}
	to := opened(t, connector.Deps{}, config(brokers(c), "events"))
	most := 0
	var mu sync.Mutex
	c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		mu.Lock()
		defer mu.Unlock()
		most = max(most, len(req.(*kmsg.ProduceRequest).Topics[0].Partitions[0].Records))
		return nil, nil, false
	})
	var b event.Batch
	for range 20 {
		b = append(b, event.New(make([]byte, 30_000)))
	}
	if err := write(t, to, b...); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if most > 100_000 || most < 60_000 {
		t.Errorf("the largest batch has %d bytes, and the topic takes 100000", most)
	}
}

// TestSizes: a message counts as much as a batch of it alone takes.
func TestSizes(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.SeedTopics(1, "events"))
	sizes := make(chan int, 1)
	c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		sizes <- len(req.(*kmsg.ProduceRequest).Topics[0].Partitions[0].Records)
		return nil, nil, false
	})
	for _, lone := range []bool{true, false} {
		to := opened(t, connector.Deps{Lone: lone}, config(brokers(c), "events"))
		for _, data := range []int{0, 1, 63, 64, 8191, 8192, 500_000} {
			for _, key := range []string{"", "k", strings.Repeat("k", 100)} {
				m := event.New(make([]byte, data))
				m.Key = key
				for i := range data % 5 {
					m.Meta.Headers = m.Meta.Headers.Add(fmt.Sprint("name", i), make([]byte, 40*i))
				}
				want := to.Limits().Size(m)
				if err := write(t, to, m); err != nil {
					t.Fatal(err)
				}
				if got := <-sizes; got != want {
					t.Errorf("a payload of %d bytes with a key of %d and %d headers takes %d, and counts %d", data, len(key), len(m.Meta.Headers), got, want)
				}
			}
		}
	}
}
