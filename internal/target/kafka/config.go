package kafkatarget

import (
	"context"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/kafka"
	"github.com/weirdata/weir/internal/memorylimit"
)

// Config is the HCL of the kafka target.
type Config struct {
	// Batching says how messages are grouped into writes. A message counts with its key, its
	// headers and what a batch of Kafka adds, before compression; max_message_bytes should not
	// be above the topic's max.message.bytes.
	Batching   *connector.Batching `hcl:"batching,block"`
	Connection kafka.Connection    `hcl:",remain"`

	// TopicName is the topic to write to; with topic_header or topic_field, that of messages
	// that name none.
	TopicName string `hcl:"topic_name"`
	// TopicHeader names the message header that holds the topic of a message.
	TopicHeader string `hcl:"topic_header,optional"`
	// TopicField is the path to the field of a JSON payload that holds the topic of a message
	// whose headers hold none, with dots between the names: "event.type".
	TopicField string `hcl:"topic_field,optional"`
	// TopicPrefix comes before the topic that a header or a field holds, so that messages
	// choose among some topics only.
	TopicPrefix string `hcl:"topic_prefix,optional"`

	// Partitioner is how a key leads to a partition: "murmur2" as the clients of Kafka, or
	// "fnv1a" as Snowbridge; "round_robin" gives the partitions their turn whatever the keys
	// are. By default "fnv1a" where the config has one pipeline, outside of a pipeline block,
	// as those of Snowbridge, so that keys stay where they are; "murmur2" otherwise.
	Partitioner string `hcl:"partitioner,optional"`
	// MissingKey is the key of a message without one: "random", a random UUID, as Snowbridge
	// has it, or "none". By default "random" where the config has one pipeline, outside of a
	// pipeline block; "none" otherwise. The record of a Kafka source that had no key has none
	// again where that keeps keys.
	MissingKey string `hcl:"missing_key,optional"`
	// SendHeaders adds the headers of a message to its record; on by default.
	SendHeaders bool `hcl:"send_headers,optional"`
	// Timestamp of a record is when the message was made or came into its source ("created",
	// the default), or when it is written ("now"). A topic whose message.timestamp.type is
	// LogAppendTime has its own.
	Timestamp string `hcl:"timestamp,optional"`

	// Compression of what is sent: "none" (default), "gzip", "snappy", "lz4" or "zstd".
	Compression string `hcl:"compression,optional"`
	// Compress is Snowbridge's name for compression = "snappy", where compression is not set.
	Compress bool `hcl:"compress,optional"`
	// Idempotent has the brokers drop what the client sends twice because an answer was lost,
	// and keep the order of a partition; on by default, with wait_for_all.
	Idempotent bool `hcl:"idempotent,optional"`
	// WaitForAll waits for all replicas that are in sync; on by default. Off, and with
	// idempotent = false, a message that only the leader has counts as written, and is lost
	// with it.
	WaitForAll bool `hcl:"wait_for_all,optional"`
	// MaxRetries is how often the client itself sends a record again that a broker has
	// refused for now; then the retry block of the pipeline decides. 5 by default.
	MaxRetries int `hcl:"max_retries,optional"`
	// DeliveryTimeoutMillis is how long a record that could not be sent waits in the client;
	// 30000 by default. What was sent and not answered waits for the answer, and the log says
	// so after this time.
	DeliveryTimeoutMillis int `hcl:"delivery_timeout_ms,optional"`
	// ForceSyncProducer is taken from a config of Snowbridge and has no effect: each write
	// waits for the brokers.
	ForceSyncProducer bool `hcl:"force_sync_producer,optional"`

	// Transactional writes in transactions of the source, which must be kafka, with the same
	// brokers: what it reads, what is written and its position count together. Readers of the
	// topic need isolation read_committed. Off by default.
	Transactional bool `hcl:"transactional,optional"`
	// TransactionalID is the name of the producer of transactions; no two processes may have
	// the same. A new random one for each process by default.
	TransactionalID string `hcl:"transactional_id,optional"`
	// TransactionIntervalMillis is how long messages are read into one transaction; 200 by
	// default. Readers see them when it ends.
	TransactionIntervalMillis int `hcl:"transaction_interval_ms,optional"`
	// TransactionTimeoutMillis is after which the broker aborts a transaction that does not
	// end; 30000 by default. It must be less than session_timeout_ms of the source.
	TransactionTimeoutMillis int `hcl:"transaction_timeout_ms,optional"`
}

func defaults() Config {
	return Config{
		Batching:   &connector.Batching{MaxBatchMessages: 100, MaxBatchBytes: 1048576, MaxMessageBytes: 1048576, MaxConcurrentBatches: 5, FlushPeriodMillis: 200},
		Connection: kafka.DefaultConnection(), SendHeaders: true, Timestamp: created, Compression: none, Idempotent: true, WaitForAll: true,
		MaxRetries: 5, DeliveryTimeoutMillis: 30_000, TransactionIntervalMillis: 200, TransactionTimeoutMillis: 30_000,
	}
}

// The values of options.
const (
	murmur2    = "murmur2"
	fnv1a      = "fnv1a"
	roundRobin = "round_robin"

	randomKey = "random"
	none      = "none"

	created = "created"
	written = "now"
)

var codecs = map[string]kgo.CompressionCodec{
	none: kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

// The largest and the smallest batch that the client makes.
const (
	leastBatch = 512
	mostBatch  = 1 << 30
)

// Validate implements connector.Validator.
func (c Config) Validate() []connector.Problem {
	ps := append(connector.Under("batching", c.Batching.Validate()), c.Connection.Validate()...)
	wrong := func(field, what, fix string) {
		ps = append(ps, connector.Problem{Field: field, What: what, Fix: fix})
	}
	oneOf := func(field, value string, values ...string) {
		if !slices.Contains(values, value) {
			wrong(field, fmt.Sprintf("unknown %s: %s", field, value), "write one of: "+strings.Join(values, ", "))
		}
	}
	if c.TopicName == "" && c.TopicHeader == "" && c.TopicField == "" {
		wrong("topic_name", "topic_name is empty", "name the topic to write to")
	}
	if c.Batching.MaxMessageBytes > mostBatch || c.Batching.MaxMessageBytes < leastBatch {
		wrong("batching.max_message_bytes", fmt.Sprintf("max_message_bytes must be from %d to %d, not %d", leastBatch, mostBatch, c.Batching.MaxMessageBytes), "leave it out to use the default")
	}
	if c.Partitioner != "" {
		oneOf("partitioner", c.Partitioner, murmur2, fnv1a, roundRobin)
	}
	if c.MissingKey != "" {
		oneOf("missing_key", c.MissingKey, randomKey, none)
	}
	oneOf("timestamp", c.Timestamp, created, written)
	oneOf("compression", c.Compression, none, "gzip", "snappy", "lz4", "zstd")
	for _, x := range []struct {
		field   string
		n, from int
	}{{"max_retries", c.MaxRetries, 0}, {"delivery_timeout_ms", c.DeliveryTimeoutMillis, 1000}, {"transaction_interval_ms", c.TransactionIntervalMillis, 1}, {"transaction_timeout_ms", c.TransactionTimeoutMillis, 1000}} {
		if x.n < x.from {
			wrong(x.field, fmt.Sprintf("%s must be at least %d, not %d", x.field, x.from, x.n), "leave it out to use the default")
		}
	}
	if c.Transactional && !c.Idempotent {
		wrong("transactional", "transactional is set, and idempotent is false", "remove one of them")
	}
	return ps
}

// partitioner is how a key leads to a partition.
func partitioner(name string) kgo.Partitioner {
	switch name {
	case fnv1a:
		return kgo.StickyKeyPartitioner(kgo.SaramaCompatHasher(func(key []byte) uint32 {
			h := fnv.New32a()
			_, _ = h.Write(key) // it never fails
			return h.Sum32()
		}))
	case roundRobin:
		return kgo.RoundRobinPartitioner()
	}
	return kgo.UniformBytesPartitioner(64<<10, true, true, nil)
}

// fill sets what depends on the kind of config.
func (c *Config) fill(lone bool) {
	if c.Partitioner == "" {
		c.Partitioner = murmur2
		if lone {
			c.Partitioner = fnv1a
		}
	}
	if c.MissingKey == "" {
		c.MissingKey = none
		if lone {
			c.MissingKey = randomKey
		}
	}
	if c.Compress && c.Compression == none {
		c.Compression = "snappy"
	}
}

// How much a client has to send at the most, in bytes: a part of the memory limit, since it is held a
// second time, as requests, while it is sent; but room for two messages.
const (
	sendBytes = 256 << 20
	sendPart  = 16
)

func (c Config) sendRoom() int {
	return int(memorylimit.Share(sendBytes, sendPart, 2*int64(c.Batching.MaxMessageBytes+slack)))
}

// producing are the options of the client that writes, beside those of the connection, and a
// text that is equal for equal ones. room is how many bytes it has to send at the most.
func (c Config) producing(limit func(topic string) int32, room int) ([]kgo.Opt, string) {
	opts := []kgo.Opt{
		kgo.RecordPartitioner(partitioner(c.Partitioner)),
		kgo.ProducerBatchCompression(codecs[c.Compression]),
		kgo.ProducerBatchMaxBytesFn(limit),
		kgo.ProducerLinger(0), // the engine has gathered a batch already
		kgo.RecordRetries(c.MaxRetries),
		kgo.MaxBufferedRecords(1 << 20), // the engine bounds what is written at once
		kgo.MaxBufferedBytes(room),      // beyond it writes wait for those before them
	}
	switch {
	case c.Idempotent:
		opts = append(opts, kgo.RequiredAcks(kgo.AllISRAcks()))
	case c.WaitForAll:
		opts = append(opts, kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.AllISRAcks()))
	default:
		opts = append(opts, kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.LeaderAck()))
	}
	return opts, fmt.Sprint(c.Partitioner, c.Compression, c.MaxRetries, c.DeliveryTimeoutMillis, c.Batching.MaxMessageBytes)
}

// Entry is the kafka target.
var Entry = connector.Of(connector.Spec[Config, connector.Target]{
	Name: "kafka", Summary: "Writes messages as records to topics of Kafka.", Stability: connector.Stable,
	Default: defaults,
	New: func(_ context.Context, d connector.Deps, c Config) (connector.Target, error) {
		t, err := New(d, c)
		if err != nil {
			return nil, err
		}
		return t, nil
	},
})
