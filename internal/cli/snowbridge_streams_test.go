//go:build unix

package cli_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirdata/weir/internal/cloud/gcp/pubsubtest"
	"github.com/weirdata/weir/internal/enginetest"
)

// roundTrip is the blocks of one age of Snowbridge: what the target has written, the source reads.
// In them, NAME is the topic, stream, queue or hub, and ADDRESS where its engine is.
type roundTrip struct {
	name           string
	target, source string
	also           string                                             // what stands before each of them in its file
	check          func(t *testing.T, name string, payloads []string) // in place of a source
}

// payload is what is sent: its text says to which test it belongs.
func payloadsOf(name string) []string {
	var lines []string
	for i := range 5 {
		lines = append(lines, fmt.Sprintf(`{"test":%q,"number":%d}`, name, i))
	}
	return lines
}

// run has weir write to the target and read from the source, each as a config of its own.
func (r roundTrip) run(t *testing.T, address, name string, environment ...string) {
	t.Helper()
	fill := strings.NewReplacer("ADDRESS", address, "NAME", name)
	dir := files(t, "target.hcl", fill.Replace(r.also+"target {\n"+r.target+"}\n"), "source.hcl", fill.Replace(r.also+"source {\n"+r.source+"}\n"))
	payloads := payloadsOf(name)
	c := weir(t, dir, "run", "target.hcl")
	c.Env, c.Stdin = append(c.Env, environment...), strings.NewReader(strings.Join(payloads, "\n")+"\n")
	launch(t, c).exits(0)
	if r.check != nil {
		r.check(t, name, payloads)
		return
	}
	c = weir(t, dir, "run", "source.hcl")
	c.Env = append(c.Env, environment...)
	p := launch(t, c)
	for _, line := range payloads {
		p.until(p.out, regexp.QuoteMeta("Data:"+line)+"\n")
	}
	p.stops(0)
}

// TestSnowbridgeStreams: blocks as each age of Snowbridge has had them, with every option that it
// knew and that needs no cloud, run against the engines: what one side has written, the other
// reads.
func TestSnowbridgeStreams(t *testing.T) {
	t.Parallel()
	t.Run("kafka", testSnowbridgeKafka)
	t.Run("kinesis", testSnowbridgeKinesis)
	t.Run("sqs", testSnowbridgeSQS)
	t.Run("pubsub", testSnowbridgePubSub)
	t.Run("eventhub", testSnowbridgeEventHub)
}

func testSnowbridgeKafka(t *testing.T) {
	t.Parallel()
	address := enginetest.Kafka(t)
	client, err := kgo.NewClient(kgo.SeedBrokers(address))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	const required = "    brokers = \"ADDRESS\"\n    topic_name = \"NAME\"\n"
	const source = "  use \"kafka\" {\n" + required + "    consumer_name = \"snowbridge\"\n    offsets_initial = -2\n"
	for _, r := range []roundTrip{
		{name: "required", target: "  use \"kafka\" {\n" + required + "  }\n", source: source + "  }\n"},
		{name: "1.0 and 2.2", target: `  use "kafka" {
` + required + `    target_version      = "2.7.0"
    max_retries         = 11
    byte_limit          = 1000000
    compress            = true
    wait_for_all        = true
    idempotent          = true
    force_sync_producer = true
    flush_frequency     = 2
    flush_messages      = 2
    flush_bytes         = 2
  }
`, source: source + "    concurrent_writes = \"15\"\n    assignor = \"sticky\"\n    target_version = \"2.7.0\"\n  }\n"},
		{name: "5.0", target: `  use "kafka" {
` + required + `    target_version      = "2.7.0"
    max_retries         = 5
    compress            = true
    wait_for_all        = true
    idempotent          = true
    force_sync_producer = true
    batching {
      max_batch_messages     = 2
      max_batch_bytes        = 1000000
      max_message_bytes      = 1000000
      max_concurrent_batches = 2
      flush_period_millis    = 10
    }
  }
`, source: source + "    assignor = \"range\"\n    enable_sasl = false\n    enable_tls = false\n    sasl_version = 1\n  }\n"},
	} {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			topic := "snowbridge-" + strings.NewReplacer(" ", "-").Replace(r.name)
			if _, err := kadm.NewClient(client).CreateTopic(t.Context(), 3, 1, nil, topic); err != nil {
				t.Fatal(err)
			}
			r.run(t, address, topic)
		})
	}
}

// The variables by which Amazon's clients sign in.
var amazon = []string{"AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=/dev/null"}

const role = "    role_arn = \"arn:aws:iam::123456789012:role/myrole\"\n"

func testSnowbridgeKinesis(t *testing.T) {
	t.Parallel()
	address := enginetest.Moto(t) // one address for streams, tables and roles, as Snowbridge's option has it
	client := kinesis.New(kinesis.Options{Region: "us-west-1", BaseEndpoint: &address, Credentials: credentials.NewStaticCredentialsProvider("test", "test", "")})
	const where = "    stream_name = \"NAME\"\n    region = \"us-west-1\"\n    custom_aws_endpoint = \"ADDRESS\"\n"
	const source = "  use \"kinesis\" {\n" + where + "    app_name = \"NAME\"\n"
	for _, r := range []roundTrip{
		{name: "required", target: "  use \"kinesis\" {\n" + where + "  }\n", source: source + "  }\n"},
		{name: "2.0", target: "  use \"kinesis\" {\n" + where + role + "    request_max_messages = 2\n  }\n",
			source: source + role + "    start_timestamp = \"2020-01-01 10:00:00\"\n    read_throttle_delay_ms = 500\n    concurrent_writes = 15\n  }\n"},
		{name: "5.0", target: "  use \"kinesis\" {\n" + where + role + `    batching {
      max_batch_messages     = 2
      max_batch_bytes        = 5000000
      max_message_bytes      = 1000000
      max_concurrent_batches = 2
      flush_period_millis    = 10
    }
  }
`, source: source + role + `    start_timestamp            = "2020-01-01 10:00:00"
    read_throttle_delay_ms     = 500
    shard_check_freq_seconds   = 15
    leader_action_freq_seconds = 305
    client_name                = "snowbridge-1"
    get_records_limit          = 100
    max_concurrent_shards      = 1
    buffer_size                = 500
  }
`},
	} {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			stream := "snowbridge-" + r.name
			if _, err := client.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: &stream, ShardCount: sdk.Int32(2)}); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the stream", func() bool {
				out, err := client.DescribeStreamSummary(t.Context(), &kinesis.DescribeStreamSummaryInput{StreamName: &stream})
				return err == nil && out.StreamDescriptionSummary.StreamStatus == types.StreamStatusActive
			})
			r.run(t, address, stream, amazon...)
		})
	}
}

func testSnowbridgeSQS(t *testing.T) {
	t.Parallel()
	address := enginetest.Moto(t)
	client := sqs.New(sqs.Options{Region: "us-west-1", BaseEndpoint: &address, Credentials: credentials.NewStaticCredentialsProvider("test", "test", "")})
	const where = "    queue_name = \"NAME\"\n    region = \"us-west-1\"\n    custom_aws_endpoint = \"ADDRESS\"\n"
	for _, r := range []roundTrip{
		{name: "required", target: "  use \"sqs\" {\n" + where + "  }\n", source: "  use \"sqs\" {\n" + where + "  }\n"},
		{name: "2-0", target: "  use \"sqs\" {\n" + where + role + "  }\n", source: "  use \"sqs\" {\n" + where + role + "    concurrent_writes = 20\n  }\n"},
		{name: "5-0", target: "  use \"sqs\" {\n" + where + role + "    batching {\n      max_batch_messages = 2\n      max_batch_bytes = 1048576\n      max_message_bytes = 262144\n      max_concurrent_batches = 2\n      flush_period_millis = 10\n    }\n  }\n", source: "  use \"sqs\" {\n" + where + role + "  }\n"},
	} {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			queue := "snowbridge-" + r.name
			if _, err := client.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: &queue}); err != nil {
				t.Fatal(err)
			}
			r.run(t, address, queue, amazon...)
		})
	}
}

func testSnowbridgePubSub(t *testing.T) {
	t.Parallel()
	s := pubsubtest.New(t)
	const project = "    project_id = \"" + pubsubtest.Project + "\"\n"
	const target, source = "  use \"pubsub\" {\n" + project + "    topic_name = \"NAME\"\n", "  use \"pubsub\" {\n" + project + "    subscription_id = \"NAME\"\n"
	for _, r := range []roundTrip{
		{name: "required", target: target + "  }\n", source: source + "  }\n"},
		{name: "1-0", target: target + "  }\n", source: source + "    concurrent_writes = 20\n  }\n"},
		{name: "3-0 and 5-0", target: target + "    batching {\n      max_batch_messages = 2\n      max_batch_bytes = 10000000\n      max_message_bytes = 10000000\n      max_concurrent_batches = 2\n      flush_period_millis = 10\n    }\n  }\n", source: source + `    concurrent_writes            = 1
    max_outstanding_messages     = 2000
    max_outstanding_bytes        = 2e9
    min_extension_period_seconds = 10
    streaming_pull_goroutines    = 1
    grpc_connection_pool_size    = 4
  }
`},
	} {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			name := "snowbridge-" + strings.ReplaceAll(r.name, " ", "-")
			s.Subscribe(t, name, func(sub *pubsubpb.Subscription) { sub.AckDeadlineSeconds = 60 })
			r.run(t, s.Addr, name, "PUBSUB_EMULATOR_HOST="+s.Addr)
		})
	}
}

func testSnowbridgeEventHub(t *testing.T) {
	t.Parallel()
	const required = "    namespace = \"testNamespace\"\n    name = \"NAME\"\n"
	const sizes = "    message_byte_limit = 1000000\n    chunk_byte_limit = 1000000\n    chunk_message_limit = 2\n    batch_byte_limit = 1000000\n"
	for _, r := range []roundTrip{
		{name: "required", target: required},
		{name: "1.0", target: required + "    max_auto_retries = 2\n    context_timeout_in_seconds = 21\n" + sizes},
		{name: "2.0", target: required + "    max_auto_retries = 2\n    set_eh_partition_key = false\n" + sizes},
		{name: "5.0", target: required + "    max_auto_retries = 2\n    context_timeout_in_seconds = 21\n    set_eh_partition_key = true\n    batching {\n      max_batch_messages = 2\n      max_batch_bytes = 1000000\n      max_message_bytes = 1000000\n      max_concurrent_batches = 2\n      flush_period_millis = 200\n    }\n"},
	} {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			hub := enginetest.NewEventHub(t, 2)
			r.target = "  use \"eventhub\" {\n" + strings.Replace(r.target, "testNamespace", hub.Address, 1) + "  }\n"
			r.check = func(t *testing.T, _ string, payloads []string) {
				t.Helper()
				var got []string
				for partition := range 2 {
					for _, e := range hub.Events(t, partition) {
						got = append(got, e.Body)
					}
				}
				if slices.Sort(got); !slices.Equal(got, payloads) {
					t.Errorf("the hub has %q, want %q", got, payloads)
				}
			}
			r.run(t, hub.Address, hub.Name, "EVENTHUB_CONNECTION_STRING="+hub.ConnectionString())
		})
	}
}
