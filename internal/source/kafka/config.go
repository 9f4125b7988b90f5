package kafkasource

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/kafka"
)

// Config is the HCL of the kafka source.
type Config struct {
	Connection kafka.Connection `hcl:",remain"`

	// TopicName is the topic to read, or several with commas between them.
	TopicName string `hcl:"topic_name"`
	// TopicPattern says that topic_name is a regular expression (RE2), which the whole name of
	// a topic must match. Topics that come to match it are found within half a minute. Off by
	// default.
	TopicPattern bool `hcl:"topic_pattern,optional"`
	// ConsumerName is the first part of the name of the consumer group, which is
	// consumer_name-topic_name; with topic_pattern it is the whole name.
	ConsumerName string `hcl:"consumer_name"`
	// GroupID is the whole name of the consumer group, in the place of the one that is made
	// of consumer_name.
	GroupID string `hcl:"group_id,optional"`
	// OffsetsInitial is where a partition begins for which the group has committed nothing:
	// -1 at what comes next, -2 at the oldest message there is, or a time in milliseconds
	// since 1970.
	OffsetsInitial int `hcl:"offsets_initial"`
	// OffsetOutOfRange is what happens when the next message of a partition is not there any
	// more: "earliest" (default) goes on with the oldest there is, "latest" with what comes
	// next, and "fail" ends the pipeline. What is passed over is logged with its count.
	OffsetOutOfRange string `hcl:"offset_out_of_range,optional"`
	// Isolation is which messages of transactions are read: "read_committed" (default) those
	// whose transaction was committed, "read_uncommitted" all.
	Isolation string `hcl:"isolation,optional"`
	// PartitionKey is the key of messages: "random" (default), so that targets spread them, or
	// "source", the key of the record.
	PartitionKey string `hcl:"partition_key,optional"`

	// Assignor is how partitions are divided in the group: "cooperative-sticky" (default),
	// which stops no partition that does not move, or "range", "roundrobin" or "sticky",
	// which stop all of them. All members of a group must have the same one.
	Assignor string `hcl:"assignor,optional"`
	// InstanceID makes the process a static member of the group: it keeps its partitions while
	// it is restarted within session_timeout_ms. Each process needs its own.
	InstanceID string `hcl:"instance_id,optional"`
	// SessionTimeoutMillis is how long the group waits for a member that is silent; 45000 by
	// default.
	SessionTimeoutMillis int `hcl:"session_timeout_ms,optional"`
	// RebalanceTimeoutMillis is how long a rebalance waits for a member; 60000 by default. Half
	// of it is for messages in flight of a partition that goes elsewhere.
	RebalanceTimeoutMillis int `hcl:"rebalance_timeout_ms,optional"`
	// CommitIntervalMillis is how often settled positions are committed; 250 by default. What
	// was settled since the last time is read again after a crash.
	CommitIntervalMillis int `hcl:"commit_interval_ms,optional"`
	// MaxProcessingMillis is how long messages of a partition may be in work without any
	// being settled; then the process leaves the group, so that another one takes over, and
	// its pipeline is started again. 600000 by default; 0 waits forever.
	MaxProcessingMillis int `hcl:"max_processing_ms,optional"`

	// MaxPollRecords is the most messages handed on at once; 2000 by default.
	MaxPollRecords int `hcl:"max_poll_records,optional"`
	// FetchMaxBytes is about the most bytes of a fetch from one broker, once it is decompressed;
	// 3145728 by default. Two fetches are held in memory for each broker. A batch is never cut,
	// whatever its size.
	FetchMaxBytes int `hcl:"fetch_max_bytes,optional"`
	// FetchMaxPartitionBytes is the most bytes of one partition in a fetch, as the broker stores
	// them; 1048576 by default.
	FetchMaxPartitionBytes int `hcl:"fetch_max_partition_bytes,optional"`
	// FetchMaxWaitMillis is how long a broker waits for messages to come; 500 by default.
	FetchMaxWaitMillis int `hcl:"fetch_max_wait_ms,optional"`
}

func defaults() Config {
	return Config{
		Connection:       kafka.DefaultConnection(),
		OffsetOutOfRange: earliest, Isolation: committed, PartitionKey: randomKey, Assignor: cooperative,
		SessionTimeoutMillis: 45_000, RebalanceTimeoutMillis: 60_000, CommitIntervalMillis: 250, MaxProcessingMillis: 600_000,
		MaxPollRecords: 2000, FetchMaxBytes: 3 << 20, FetchMaxPartitionBytes: 1 << 20, FetchMaxWaitMillis: 500,
	}
}

// The values of options.
const (
	earliest = "earliest"
	latest   = "latest"
	fail     = "fail"

	committed   = "read_committed"
	uncommitted = "read_uncommitted"

	randomKey = "random"
	sourceKey = "source"

	cooperative = "cooperative-sticky"
)

var assignors = []string{cooperative, "range", "roundrobin", "sticky"}

// The values of offsets_initial that are no times.
const (
	newest = -1
	oldest = -2
)

// Validate implements connector.Validator.
func (c Config) Validate() []connector.Problem {
	ps := c.Connection.Validate()
	wrong := func(field, what, fix string) {
		ps = append(ps, connector.Problem{Field: field, What: what, Fix: fix})
	}
	oneOf := func(field, value string, values ...string) {
		if !slices.Contains(values, value) {
			wrong(field, fmt.Sprintf("unknown %s: %s", field, value), "write one of: "+strings.Join(values, ", "))
		}
	}
	least := func(field string, value, n int) {
		if value < n {
			wrong(field, fmt.Sprintf("%s must be at least %d, not %d", field, n, value), "leave it out to use the default")
		}
	}
	switch {
	case len(kafka.Names(c.TopicName)) == 0:
		wrong("topic_name", "topic_name names no topic", `name one, or several with commas between them`)
	case c.TopicPattern:
		if _, err := c.pattern(); err != nil {
			wrong("topic_name", fmt.Sprintf("topic_name is no regular expression: %v", err), `write one such as "events-.*", names match as a whole; or remove topic_pattern`)
		}
	}
	if c.ConsumerName == "" && c.GroupID == "" {
		wrong("consumer_name", "consumer_name is empty", "name the consumer: instances of one name share the partitions")
	}
	least("offsets_initial", c.OffsetsInitial, oldest)
	oneOf("offset_out_of_range", c.OffsetOutOfRange, earliest, latest, fail)
	oneOf("isolation", c.Isolation, committed, uncommitted)
	oneOf("partition_key", c.PartitionKey, randomKey, sourceKey)
	oneOf("assignor", c.Assignor, assignors...)
	least("session_timeout_ms", c.SessionTimeoutMillis, 1000)
	least("rebalance_timeout_ms", c.RebalanceTimeoutMillis, 1000)
	least("commit_interval_ms", c.CommitIntervalMillis, 1)
	least("max_processing_ms", c.MaxProcessingMillis, 0)
	least("max_poll_records", c.MaxPollRecords, 1)
	least("fetch_max_bytes", c.FetchMaxBytes, 1024)
	least("fetch_max_partition_bytes", c.FetchMaxPartitionBytes, 1024)
	least("fetch_max_wait_ms", c.FetchMaxWaitMillis, 1)
	if c.FetchMaxPartitionBytes > c.FetchMaxBytes {
		wrong("fetch_max_partition_bytes", fmt.Sprintf("fetch_max_partition_bytes (%d) must not be greater than fetch_max_bytes (%d)", c.FetchMaxPartitionBytes, c.FetchMaxBytes),
			"lower it, or raise fetch_max_bytes")
	}
	return ps
}

// topics are those of the config by name; none with a pattern.
func (c Config) topics() []string {
	if c.TopicPattern {
		return nil
	}
	return kafka.Names(c.TopicName)
}

// pattern is what the names of topics match, as a whole.
func (c Config) pattern() (*regexp.Regexp, error) { return regexp.Compile("^(?:" + c.TopicName + ")$") }

// group is the name of the consumer group.
func (c Config) group() string {
	switch {
	case c.GroupID != "":
		return c.GroupID
	case c.TopicPattern:
		return c.ConsumerName
	}
	return c.ConsumerName + "-" + c.TopicName
}

func millis(n int) time.Duration { return time.Duration(n) * time.Millisecond }

// Entry is the kafka source.
var Entry = connector.Of(connector.Spec[Config, connector.Source]{
	Name: "kafka", Summary: "Reads topics of Kafka as a member of a consumer group.", Stability: connector.Stable,
	Default: defaults,
	New: func(_ context.Context, d connector.Deps, c Config) (connector.Source, error) {
		s, err := New(d, c)
		if err != nil {
			return nil, err
		}
		return s, nil
	},
})
