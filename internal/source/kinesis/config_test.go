package kinesissource

import (
	"strings"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/kinesis/lease"
)

func valid() Config {
	c := defaults()
	c.StreamName, c.Region, c.AppName = "stream", "eu-central-1", "app"
	return c
}

// TestSnowbridgeOptions: what Snowbridge takes is taken, with its meaning.
func TestSnowbridgeOptions(t *testing.T) {
	t.Parallel()
	at := time.Date(2022, 3, 15, 7, 52, 53, 0, time.UTC)
	for name, c := range map[string]struct {
		change func(*Config)
		start  lease.Start
	}{
		"the least":                            {func(*Config) {}, lease.Start{Position: lease.TrimHorizon}},
		"a role by another name than Amazon's": {func(c *Config) { c.RoleARN, c.Region, c.ClientName = "some-role", "us-test-1", "client" }, lease.Start{Position: lease.TrimHorizon}},
		"a time":                               {func(c *Config) { c.StartTimestamp = "2022-03-15 07:52:53" }, lease.Start{Position: lease.AtTimestamp, Time: at}},
		"a time with a fraction":               {func(c *Config) { c.StartTimestamp = "2022-03-15 07:52:53.25" }, lease.Start{Position: lease.AtTimestamp, Time: at.Add(250 * time.Millisecond)}},
		"a time with its zone":                 {func(c *Config) { c.StartTimestamp = "2022-03-15T08:52:53+01:00" }, lease.Start{Position: lease.AtTimestamp, Time: at}},
		"every setting of a time": {func(c *Config) {
			c.ReadThrottleDelayMs, c.ShardCheckFreqSeconds, c.LeaderActionFreqSeconds, c.GetRecordsLimit, c.MaxConcurrentShards = 500, 15, 305, 100, 5
		}, lease.Start{Position: lease.TrimHorizon}},
		"from now on": {func(c *Config) { c.StartingPosition = startLatest }, lease.Start{Position: lease.Latest}},
	} {
		config := valid()
		c.change(&config)
		if ps := config.Validate(); len(ps) > 0 {
			t.Errorf("%s: %+v", name, ps)
		}
		if got := config.start(); got.Position != c.start.Position || !got.Time.Equal(c.start.Time) {
			t.Errorf("%s: it starts at %+v", name, got)
		}
	}
}

// TestBadOptions: each is named, with what to do.
func TestBadOptions(t *testing.T) {
	t.Parallel()
	for field, change := range map[string]func(*Config){
		"stream_name":              func(c *Config) { c.StreamName = "" },
		"app_name":                 func(c *Config) { c.AppName = "" },
		"region":                   func(c *Config) { c.Region = "Frankfurt" },
		"custom_aws_endpoint":      func(c *Config) { c.CustomAWSEndpoint = "localhost:4566" },
		"custom_dynamodb_endpoint": func(c *Config) { c.CustomDynamoDBEndpoint = "localhost:8000" },
		"read_throttle_delay_ms":   func(c *Config) { c.ReadThrottleDelayMs = 199 },
		"shard_check_freq_seconds": func(c *Config) { c.ShardCheckFreqSeconds = 61 },
		"get_records_limit":        func(c *Config) { c.GetRecordsLimit = 10_001 },
		"max_concurrent_shards":    func(c *Config) { c.MaxConcurrentShards = -1 },
		"failover_seconds":         func(c *Config) { c.FailoverSeconds = 2 },
		"start_timestamp":          func(c *Config) { c.StartTimestamp = "yesterday" },
		"starting_position":        func(c *Config) { c.StartingPosition = startAtTimestamp },
		"leases":                   func(c *Config) { c.Leases = "dynamo" },
		"partition_key":            func(c *Config) { c.PartitionKey = "key" },
		"deaggregation":            func(c *Config) { c.Deaggregation = "yes" },
		"foreign_records":          func(c *Config) { c.ForeignRecords = "keep" },
		"invalid_position":         func(c *Config) { c.InvalidPosition = "latest" },
	} {
		c := valid()
		change(&c)
		ps := c.Validate()
		if len(ps) != 1 || ps[0].Field != field || !strings.Contains(ps[0].What, field) || ps[0].Fix == "" {
			t.Errorf("%s: %+v", field, ps)
		}
	}
}
