package kinesissource

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/cloud/aws"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/kinesis/lease"
)

// Config is the HCL of the Kinesis source.
type Config struct {
	// Name of the stream.
	StreamName string `hcl:"stream_name"`
	// AWS region of the stream and of the tables.
	Region string `hcl:"region"`
	// Name of the application: instances with one name share the stream. It is the name of the
	// table of leases in DynamoDB, and what the names of Snowbridge's tables begin with.
	AppName string `hcl:"app_name"`
	// ARN of a role to assume, for the stream and the tables (default none).
	RoleARN string `hcl:"role_arn,optional"`
	// External id that goes with the role, where its owner asks for one.
	RoleExternalID string `hcl:"role_external_id,optional"`
	// URL in place of Amazon's own, of Kinesis, DynamoDB and STS; for stand-ins and private
	// networks.
	CustomAWSEndpoint string `hcl:"custom_aws_endpoint,optional"`
	// URL of DynamoDB, where it is another than custom_aws_endpoint.
	CustomDynamoDBEndpoint string `hcl:"custom_dynamodb_endpoint,optional"`

	// Where a shard begins of which nothing was read yet: "trim_horizon", the oldest record
	// there is (default), "latest", what comes from now on, or "at_timestamp", the first record
	// that came at start_timestamp or later. What comes of a shard by a split or a merge is always
	// read from its beginning.
	StartingPosition string `hcl:"starting_position,optional"`
	// Time in UTC to begin at, as "2026-11-29 17:30:00" or "2026-11-29 17:30:00.250"; with it
	// starting_position is "at_timestamp".
	StartTimestamp string `hcl:"start_timestamp,optional"`
	// What to do when a position that was kept is none of its shard, as after the stream was
	// deleted and made again: "stop", try it again every half minute and say so while the other
	// shards are read (default), or "trim_horizon", go on with the oldest record there is.
	InvalidPosition string `hcl:"invalid_position,optional"`

	// Where it is kept who reads which shard, and how far: "dynamodb", a table in the schema of
	// the Kinesis Client Library 2.x called app_name; "snowbridge", the three tables of a
	// Snowbridge, which is taken over from once it has stopped; "store", the config's store;
	// "auto", Snowbridge's tables where they exist and "dynamodb" otherwise (default).
	Leases string `hcl:"leases,optional"`
	// Name of this instance in the table, unique among those that live; a random name by default.
	ClientName string `hcl:"client_name,optional"`
	// Seconds after which the shards of an instance that does not answer go to others (default
	// 5). At least 3, and the same for all instances.
	FailoverSeconds int `hcl:"failover_seconds,optional"`
	// Seconds between two heartbeats of a Snowbridge (default 10): its tables are taken over when
	// none of its clients has given one for six times as long.
	ShardCheckFreqSeconds int `hcl:"shard_check_freq_seconds,optional"`
	// Seconds between two listings of the shards (default 60), beside those at the end of a shard.
	LeaderActionFreqSeconds int `hcl:"leader_action_freq_seconds,optional"`
	// Milliseconds between two writes of how far a shard was delivered (default 1000): after a
	// crash, what was delivered since is delivered again.
	CheckpointIntervalMs int `hcl:"checkpoint_interval_ms,optional"`

	// Name of a consumer of enhanced fan-out, which is registered when it does not exist and
	// never removed: records are then pushed, with a throughput of their own. Without it the
	// shards are polled (default).
	ConsumerName string `hcl:"consumer_name,optional"`
	// Least milliseconds between two reads of a shard, and before one is repeated that failed
	// (default 250). At least 200: Kinesis allows 5 reads in a second for all consumers together.
	ReadThrottleDelayMs int `hcl:"read_throttle_delay_ms,optional"`
	// Milliseconds before a shard is asked again that has nothing new (default 1000). At least
	// read_throttle_delay_ms.
	IdleDelayMs int `hcl:"idle_delay_ms,optional"`
	// Most records of one read, from 1 to 10000 (default 10000).
	GetRecordsLimit int `hcl:"get_records_limit,optional"`
	// Most shards that are polled at the same moment; 0 is no limit of its own (default).
	MaxConcurrentShards int `hcl:"max_concurrent_shards,optional"`
	// Most bytes of records that were fetched and wait for their turn, in all shards together
	// (default 33554432, 32 MiB).
	MaxBufferBytes int `hcl:"max_buffer_bytes,optional"`
	// Read and ignored: what Snowbridge holds beside its shards, in records. Here max_buffer_bytes
	// bounds that.
	BufferSize int `hcl:"buffer_size,optional"`
	// Most messages handed to the transforms at once (default 1000).
	MaxBatchMessages int `hcl:"max_batch_messages,optional"`

	// Whether records that the Kinesis Producer Library has put into one are taken apart: "on",
	// "off", or "auto", where a position within a record can be kept, which is everywhere but in
	// Snowbridge's tables (default).
	Deaggregation string `hcl:"deaggregation,optional"`
	// What becomes of records in an aggregate that belong to another shard, which a producer sends
	// that has not heard of a split: "deliver", as everything else (default), or "drop", because
	// the producer may have sent them again. Both are logged with their number.
	ForeignRecords string `hcl:"foreign_records,optional"`
	// Key of a message: "random", a new UUID (default), or "source", the partition key of its record.
	PartitionKey string `hcl:"partition_key,optional"`
}

// The values of options.
const (
	startTrimHorizon, startLatest, startAtTimestamp               = "trim_horizon", "latest", "at_timestamp"
	leasesAuto, leasesDynamoDB, leasesSnowbridge, leasesStore     = "auto", "dynamodb", "snowbridge", "store"
	keyRandom, keySource, foreignDeliver, foreignDrop             = "random", "source", "deliver", "drop"
	splitAuto, splitOn, splitOff, invalidStop, invalidTrimHorizon = "auto", "on", "off", "stop", "trim_horizon"
)

// maxRecords is the most that GetRecords returns.
const maxRecords = 10_000

func defaults() Config {
	return Config{
		StartingPosition: startTrimHorizon, InvalidPosition: invalidStop, Leases: leasesAuto, FailoverSeconds: 5, ShardCheckFreqSeconds: 10,
		LeaderActionFreqSeconds: 60, CheckpointIntervalMs: 1000, ReadThrottleDelayMs: 250, IdleDelayMs: 1000,
		GetRecordsLimit: maxRecords, MaxBufferBytes: 32 << 20, MaxBatchMessages: 1000,
		Deaggregation: splitAuto, ForeignRecords: foreignDeliver, PartitionKey: keyRandom,
	}
}

// layouts of start_timestamp: Snowbridge's, with any fraction, and RFC 3339.
var layouts = []string{"2006-01-02 15:04:05", time.RFC3339}

func (c *Config) startTime() (time.Time, error) {
	for _, layout := range layouts {
		if t, err := time.Parse(layout, c.StartTimestamp); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("start_timestamp %q is no time", c.StartTimestamp)
}

// start is where shards begin of which nothing is known.
func (c *Config) start() lease.Start {
	if t, err := c.startTime(); err == nil {
		return lease.Start{Position: lease.AtTimestamp, Time: t}
	}
	if c.StartingPosition == startLatest {
		return lease.Start{Position: lease.Latest}
	}
	return lease.Start{Position: lease.TrimHorizon}
}

// Validate implements connector.Validator.
func (c Config) Validate() []connector.Problem {
	var ps []connector.Problem
	add := func(field, what, fix string) {
		ps = append(ps, connector.Problem{Field: field, What: what, Fix: fix})
	}
	for _, n := range []struct{ field, value string }{{"stream_name", c.StreamName}, {"region", c.Region}, {"app_name", c.AppName}} {
		if n.value == "" {
			add(n.field, n.field+" is empty", "write it")
		}
	}
	for _, n := range []struct {
		field        string
		value, least int
		most         int
	}{
		{"failover_seconds", c.FailoverSeconds, 3, 3600},
		{"shard_check_freq_seconds", c.ShardCheckFreqSeconds, 1, 86400},
		{"leader_action_freq_seconds", c.LeaderActionFreqSeconds, 1, 86400},
		{"checkpoint_interval_ms", c.CheckpointIntervalMs, 1, 3600_000},
		{"read_throttle_delay_ms", c.ReadThrottleDelayMs, 200, 3600_000},
		{"idle_delay_ms", c.IdleDelayMs, 200, 3600_000},
		{"get_records_limit", c.GetRecordsLimit, 1, maxRecords},
		{"max_concurrent_shards", c.MaxConcurrentShards, 0, 1 << 20},
		{"max_buffer_bytes", c.MaxBufferBytes, 1, 1 << 40},
		{"max_batch_messages", c.MaxBatchMessages, 1, 1 << 30},
	} {
		if n.value < n.least || n.value > n.most {
			add(n.field, fmt.Sprintf("%s must be from %d to %d, not %d", n.field, n.least, n.most, n.value), "leave it out to use the default")
		}
	}
	if c.ShardCheckFreqSeconds > c.LeaderActionFreqSeconds {
		add("shard_check_freq_seconds", fmt.Sprintf("shard_check_freq_seconds (%d) must not be greater than leader_action_freq_seconds (%d)", c.ShardCheckFreqSeconds, c.LeaderActionFreqSeconds), "lower it, or raise leader_action_freq_seconds")
	}
	for _, n := range []struct {
		field, value string
		values       []string
	}{
		{"starting_position", c.StartingPosition, []string{startTrimHorizon, startLatest, startAtTimestamp}},
		{"invalid_position", c.InvalidPosition, []string{invalidStop, invalidTrimHorizon}},
		{"leases", c.Leases, []string{leasesAuto, leasesDynamoDB, leasesSnowbridge, leasesStore}},
		{"deaggregation", c.Deaggregation, []string{splitAuto, splitOn, splitOff}},
		{"foreign_records", c.ForeignRecords, []string{foreignDeliver, foreignDrop}},
		{"partition_key", c.PartitionKey, []string{keyRandom, keySource}},
	} {
		if !slices.Contains(n.values, n.value) {
			add(n.field, fmt.Sprintf("%s is %q", n.field, n.value), `write "`+strings.Join(n.values, `", "`)+`"`)
		}
	}
	if _, err := c.startTime(); c.StartTimestamp != "" && err != nil {
		add("start_timestamp", err.Error(), `write it in UTC as "2026-11-29 17:30:00"`)
	} else if c.StartTimestamp == "" && c.StartingPosition == startAtTimestamp {
		add("starting_position", `starting_position is "at_timestamp", and there is no start_timestamp`, `set start_timestamp = "2026-11-29 17:30:00"`)
	} else if c.StartTimestamp != "" && c.StartingPosition == startLatest {
		add("start_timestamp", `start_timestamp is set, and starting_position is "latest"`, "remove one of them")
	}
	for _, p := range c.access("").Problems() {
		// A role is what STS takes for one: in other partitions and stand-ins it has other names.
		if p.Field != "role_arn" {
			ps = append(ps, p)
		}
	}
	for _, p := range (aws.Access{Endpoint: c.CustomDynamoDBEndpoint}).Problems() {
		p.Field, p.What = "custom_dynamodb_endpoint", strings.ReplaceAll(p.What, "custom_aws_endpoint", "custom_dynamodb_endpoint")
		ps = append(ps, p)
	}
	return ps
}

// access is how Kinesis is reached.
func (c *Config) access(version string) aws.Access {
	return aws.Access{Region: c.Region, RoleARN: c.RoleARN, ExternalID: c.RoleExternalID, Endpoint: c.CustomAWSEndpoint, Version: version}
}

// Entry is the Kinesis source.
var Entry = connector.Of(connector.Spec[Config, connector.Source]{
	Name: "kinesis", Summary: "Reads the records of a Kinesis stream, sharing its shards with other instances.", Stability: connector.Stable,
	Default: defaults,
	New: func(_ context.Context, d connector.Deps, c Config) (connector.Source, error) {
		return newSource(d, c), nil
	},
})
