package kinesistarget

import (
	"fmt"
	"regexp"
	"time"

	"github.com/weirdata/weir/internal/cloud/aws"
	"github.com/weirdata/weir/internal/connector"
)

// What the service takes at most; see the package comment.
const (
	mostRecords      = 500
	mostRequestBytes = 10 << 20
	mostRecordBytes  = 10 << 20
	usualRecordBytes = 1 << 20
	mostKey          = 256 // characters
)

// Where partition keys come from.
const (
	ofMessage = "message"
	random    = "random"
)

// Config is the target's block.
type Config struct {
	// Batching is at most 500 messages and 5 MiB in a write, five writes at once, by default. All
	// sizes count payload and partition key, as Kinesis does. A stream that takes larger records
	// than 1 MiB needs a max_message_bytes that says so, up to 10485760.
	Batching *connector.Batching `hcl:"batching,block"`

	// StreamName is the stream's name, or its ARN.
	StreamName string `hcl:"stream_name"`
	// Region is where the stream is, such as "eu-central-1". Left out, AWS_REGION or the profile
	// in use says so.
	Region string `hcl:"region,optional"`
	// RoleARN is a role to assume for writing. Credentials are found as the AWS SDKs find them:
	// environment, profile, web identity, container, instance.
	RoleARN string `hcl:"role_arn,optional"`
	// RoleExternalID goes with the role, where its owner asks for one.
	RoleExternalID string `hcl:"role_external_id,optional"`
	// CustomAWSEndpoint is the URL of a service in the place of Amazon's, STS included: a local
	// stand-in or a private endpoint.
	CustomAWSEndpoint string `hcl:"custom_aws_endpoint,optional"`
	// RequestTimeoutInMillis bounds a request with its answer, in milliseconds; 15000 by default.
	RequestTimeoutInMillis int `hcl:"request_timeout_in_millis,optional"`

	// PartitionKey is "message" for the key that the message has, and a random one when it has
	// none (the default), or "random" for a random one in any case, which keeps no order.
	PartitionKey string `hcl:"partition_key,optional"`
	// ExplicitHashKeyHeader names the header with the explicit hash key of a message, a number from
	// 0 to 2^128-1 that decides about the shard in place of the partition key. Empty, the
	// default, sets none; neither does a message without the header.
	ExplicitHashKeyHeader string `hcl:"explicit_hash_key_header,optional"`
	// StreamHeader names the header with the name or ARN of the stream that a message goes to. One
	// without the header goes to stream_name; one that names a stream which is not there is
	// invalid. Empty, the default, sends everything to stream_name.
	StreamHeader string `hcl:"stream_header,optional"`
	// Aggregate puts messages with one key into one record, in the format of the Kinesis Producer
	// Library. Consumers must know it. Off by default. In a pipeline with ordered = true it saves
	// requests, which have no key twice there.
	Aggregate bool `hcl:"aggregate,optional"`
	// AggregateMaxBytes is the most bytes of an aggregate; 51200 by default.
	AggregateMaxBytes int `hcl:"aggregate_max_bytes,optional"`
}

func defaults() Config {
	return Config{
		Batching: &connector.Batching{
			MaxBatchMessages:     500,
			MaxBatchBytes:        5242880,
			MaxMessageBytes:      1048576,
			MaxConcurrentBatches: 5,
			FlushPeriodMillis:    200,
		},
		RequestTimeoutInMillis: 15000,
		PartitionKey:           ofMessage,
		AggregateMaxBytes:      51200,
	}
}

var streamName = regexp.MustCompile(`^([a-zA-Z0-9_.-]{1,128}|arn:[\w-]+:kinesis:[\w-]*:\d{12}:stream/[a-zA-Z0-9_.-]{1,128})$`)

// Validate names each setting that could never work.
func (c Config) Validate() []connector.Problem {
	var ps []connector.Problem
	refuse := func(field, what, fix string) {
		ps = append(ps, connector.Problem{Field: field, What: what, Fix: fix})
	}
	if c.Batching != nil {
		ps = append(ps, connector.Under("batching", c.Batching.Validate())...)
		for _, limit := range []struct {
			field       string
			value, most int
		}{
			{"max_batch_messages", c.Batching.MaxBatchMessages, mostRecords},
			{"max_batch_bytes", c.Batching.MaxBatchBytes, mostRequestBytes},
			{"max_message_bytes", c.Batching.MaxMessageBytes, mostRecordBytes},
		} {
			if limit.value > limit.most {
				refuse("batching."+limit.field, fmt.Sprintf("%s must not be greater than %d, which is what Kinesis takes", limit.field, limit.most), "lower it")
			}
		}
	}
	if !streamName.MatchString(c.StreamName) {
		refuse("stream_name", fmt.Sprintf("stream_name %q is neither the name nor the ARN of a stream", c.StreamName), "write up to 128 letters, digits, _, - and ., or the whole ARN")
	}
	if c.PartitionKey != ofMessage && c.PartitionKey != random {
		refuse("partition_key", fmt.Sprintf("partition_key %q is not known", c.PartitionKey), `write "message" or "random"`)
	}
	if c.RequestTimeoutInMillis <= 0 {
		refuse("request_timeout_in_millis", "request_timeout_in_millis must be at least 1", "leave it out to use the default")
	}
	if c.Aggregate && (c.AggregateMaxBytes < 1024 || c.AggregateMaxBytes > mostRecordBytes) {
		refuse("aggregate_max_bytes", fmt.Sprintf("aggregate_max_bytes must be from 1024 to %d, not %d", mostRecordBytes, c.AggregateMaxBytes), "leave it out to use the default")
	}
	return append(ps, c.access().Problems()...)
}

// access is how the service is reached.
func (c Config) access() aws.Access {
	return aws.Access{
		Region: c.Region, RoleARN: c.RoleARN, ExternalID: c.RoleExternalID, Endpoint: c.CustomAWSEndpoint,
		Timeout: time.Duration(c.RequestTimeoutInMillis) * time.Millisecond,
	}
}
