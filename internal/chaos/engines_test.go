//go:build unix

package chaos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	kinesistypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/weirdata/weir/internal/cloud/azure"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/httpclient"
)

// passage is a stream that is filled, and one that a process moves its messages to, in engines that
// keep what they have over a restart.
type passage struct {
	config      string // the blocks source and target
	environment []string
	engines     []*enginetest.Restartable
	// put puts messages into the first stream by one call. After an error nobody knows which are in it.
	put func(ctx context.Context, bodies []string) error
	// arrived is how often each message is in the second one, and count how many there are.
	arrived func() map[string]int
	count   func() int
	// faulty is in what the process says when an engine does not do what it has to, and nothing
	// is lost by it.
	faulty string
}

// inFlight is how many messages the process holds at most.
const inFlight = 200

// TestEnginesStartedAgain: each engine is killed and started again while messages go through it,
// and all are once more between two lives of the process: what comes out is what went in. What
// comes twice was on its way when an engine was killed: nothing between the two lives.
func TestEnginesStartedAgain(t *testing.T) {
	t.Parallel()
	for name, through := range map[string]func(t *testing.T) passage{"kinesis": kinesisPassage, "sqs": sqsPassage, "eventhub": hubPassage} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			through(t).run(t)
		})
	}
}

func (p passage) run(t *testing.T) {
	config := filepath.Join(t.TempDir(), "weir.hcl")
	endless := "    max_attempts = 0\n  "
	text := fmt.Sprintf("pipeline \"move\" {\n%s  in_flight {\n    messages = %d\n  }\n  retry {\n  setup {\n%[3]s}\n  transient {\n%[3]s}\n  throttle {\n%[3]s}\n  }\n}\n", p.config, inFlight, endless)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	grows := func() {
		t.Helper()
		before := p.count()
		waits(t, "messages to arrive", func() bool { return p.count() >= before+30 })
	}
	stop := p.load(t)
	m := startMover(t, config, p.environment...)
	grows()
	for _, e := range p.engines {
		pause(t.Context(), rand.N(500*time.Millisecond))
		e.Restart(t)
		grows()
	}
	m.interrupt(p.faulty)
	for _, e := range p.engines {
		e.Restart(t)
	}
	m = startMover(t, config, p.environment...)
	grows()
	put, unknown := stop()
	waits(t, "every message", func() bool { return p.count() >= put && len(p.arrived()) >= put })
	m.interrupt(p.faulty)
	all, again := p.arrived(), 0
	for i := range put {
		again += max(all[body(i)]-1, 0)
		delete(all, body(i))
	}
	if len(all) > 0 {
		t.Errorf("%d messages came that nobody sent", len(all))
	}
	t.Logf("%d messages, %d of which may have been put twice, %d came again", put, unknown, again)
	if most := unknown + len(p.engines)*inFlight; again > most {
		t.Errorf("%d messages came again, and at most %d were on their way", again, most)
	}
}

func body(i int) string { return fmt.Sprintf("message %07d", i) }

// load puts messages until it is stopped, which tells how many, and how many of them may be there
// twice.
func (p passage) load(t *testing.T) (stop func() (put, unknown int)) {
	ctx, cancel := context.WithCancel(t.Context())
	put, unknown := 0, 0
	var busy sync.WaitGroup
	busy.Go(func() {
		for ctx.Err() == nil {
			var bodies []string
			for i := range 10 {
				bodies = append(bodies, body(put+i))
			}
			for err := p.put(t.Context(), bodies); err != nil; err = p.put(t.Context(), bodies) {
				if t.Context().Err() != nil {
					return
				}
				if !errors.Is(err, syscall.ECONNREFUSED) { // nobody has seen them then
					unknown += len(bodies)
				}
				pause(t.Context(), 50*time.Millisecond)
			}
			put += len(bodies)
			pause(ctx, 100*time.Millisecond)
		}
	})
	stop = sync.OnceValues(func() (int, int) { cancel(); busy.Wait(); return put, unknown })
	t.Cleanup(func() { stop() })
	return stop
}

// interrupt asks the process to end, and waits until it has. It ends well, unless it says faulty.
func (m *mover) interrupt(faulty string) {
	m.t.Helper()
	if m.cmd.ProcessState != nil {
		m.t.Fatal("the process has ended by itself")
	}
	m.end(os.Interrupt)
	if code := m.cmd.ProcessState.ExitCode(); code != 0 {
		text, _ := os.ReadFile(m.log.Name())
		if faulty != "" && strings.Contains(string(text), faulty) {
			m.t.Logf("the process ended with %d: %s", code, faulty)
			return
		}
		m.t.Errorf("the process ended with %d\n%s", code, text[max(0, len(text)-3000):])
	}
}

func waits(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); pause(t.Context(), 100*time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %s for %s", patience, what)
		}
	}
}

var (
	amazon      = []string{"AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_EC2_METADATA_DISABLED=true"}
	amazonsKeys = credentials.NewStaticCredentialsProvider("test", "test", "")
)

const amazonsRegion = "eu-central-1"

func kinesisPassage(t *testing.T) passage {
	engine, leases := enginetest.RestartableKinesis(t), enginetest.RestartableDynamoDB(t)
	c := kinesis.New(kinesis.Options{Region: amazonsRegion, BaseEndpoint: &engine.Address, Credentials: amazonsKeys, RetryMaxAttempts: 1})
	from, to := "restarted-in", "restarted-out"
	for _, name := range []string{from, to} {
		if _, err := c.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: &name, ShardCount: sdk.Int32(2)}); err != nil {
			t.Fatal(err)
		}
		waits(t, "the stream "+name, func() bool {
			out, err := c.DescribeStreamSummary(t.Context(), &kinesis.DescribeStreamSummaryInput{StreamName: &name})
			return err == nil && out.StreamDescriptionSummary.StreamStatus == kinesistypes.StreamStatusActive
		})
	}
	// A connection that the engine has ended shows when it is used again: the reader tries again.
	arrived := kinesisReader(t, kinesis.New(kinesis.Options{Region: amazonsRegion, BaseEndpoint: &engine.Address, Credentials: amazonsKeys}), to)
	return passage{
		config: fmt.Sprintf(`  source {
    use "kinesis" {
      stream_name              = %q
      region                   = %q
      app_name                 = "restarted"
      custom_aws_endpoint      = %q
      custom_dynamodb_endpoint = %q
      leases                   = "dynamodb"
      failover_seconds         = 300
      checkpoint_interval_ms   = 100
    }
  }
  target {
    use "kinesis" {
      stream_name         = %q
      region              = %[2]q
      custom_aws_endpoint = %[3]q
    }
  }
`, from, amazonsRegion, engine.Address, leases.Address, to),
		environment: amazon,
		engines:     []*enginetest.Restartable{engine, leases},
		put: func(ctx context.Context, bodies []string) error {
			var entries []kinesistypes.PutRecordsRequestEntry
			for _, b := range bodies {
				entries = append(entries, kinesistypes.PutRecordsRequestEntry{Data: []byte(b), PartitionKey: &b})
			}
			out, err := c.PutRecords(ctx, &kinesis.PutRecordsInput{StreamName: &from, Records: entries})
			if err == nil && *out.FailedRecordCount > 0 {
				err = errors.New("records were refused")
			}
			return err
		},
		arrived: arrived,
		count:   func() int { return len(arrived()) },
	}
}

// kinesisReader reads a stream on at each call, and is what it has read by then.
func kinesisReader(t *testing.T, c *kinesis.Client, stream string) func() map[string]int {
	t.Helper()
	all, last := map[string]int{}, map[string]*string{} // by shard
	out, err := c.ListShards(t.Context(), &kinesis.ListShardsInput{StreamName: &stream})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range out.Shards {
		last[*s.ShardId] = nil
	}
	return func() map[string]int {
		for shard, after := range last {
			from := &kinesis.GetShardIteratorInput{StreamName: &stream, ShardId: &shard, ShardIteratorType: kinesistypes.ShardIteratorTypeTrimHorizon}
			if after != nil {
				from.ShardIteratorType, from.StartingSequenceNumber = kinesistypes.ShardIteratorTypeAfterSequenceNumber, after
			}
			it, err := c.GetShardIterator(t.Context(), from)
			if err != nil {
				t.Fatal(err)
			}
			got, err := c.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: it.ShardIterator})
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range got.Records {
				all[string(r.Data)]++
				last[shard] = r.SequenceNumber
			}
		}
		return maps.Clone(all)
	}
}

func sqsPassage(t *testing.T) passage {
	engine := enginetest.RestartableSQS(t)
	c := sqs.New(sqs.Options{Region: amazonsRegion, BaseEndpoint: &engine.Address, Credentials: amazonsKeys, RetryMaxAttempts: 1})
	urls := map[string]*string{}
	for _, name := range []string{"restarted-in", "restarted-out"} {
		out, err := c.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: &name})
		if err != nil {
			t.Fatal(err)
		}
		urls[name] = out.QueueUrl
	}
	reader := sqs.New(sqs.Options{Region: amazonsRegion, BaseEndpoint: &engine.Address, Credentials: amazonsKeys})
	all := map[string]int{}
	arrived := func() map[string]int {
		for {
			out, err := reader.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: urls["restarted-out"], MaxNumberOfMessages: 10, VisibilityTimeout: 3600})
			if err != nil {
				t.Fatal(err)
			}
			if len(out.Messages) == 0 {
				return maps.Clone(all)
			}
			for _, m := range out.Messages {
				all[*m.Body]++
			}
		}
	}
	return passage{
		// After a restart it cannot give back a message that was in work before.
		faulty: "NOT NULL constraint failed: sqs_messages.approximate_receive_count",
		config: fmt.Sprintf(`  source {
    use "sqs" {
      queue_name                 = "restarted-in"
      region                     = %q
      custom_aws_endpoint        = %q
      visibility_timeout_seconds = 5
      wait_time_seconds          = 1
    }
  }
  target {
    use "sqs" {
      queue_name          = "restarted-out"
      region              = %[1]q
      custom_aws_endpoint = %[2]q
    }
  }
`, amazonsRegion, engine.Address),
		environment: amazon,
		engines:     []*enginetest.Restartable{engine},
		put: func(ctx context.Context, bodies []string) error {
			var entries []sqstypes.SendMessageBatchRequestEntry
			for i, b := range bodies {
				entries = append(entries, sqstypes.SendMessageBatchRequestEntry{Id: sdk.String(fmt.Sprint(i)), MessageBody: &b})
			}
			out, err := c.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: urls["restarted-in"], Entries: entries})
			if err == nil && len(out.Failed) > 0 {
				err = errors.New("messages were refused")
			}
			return err
		},
		arrived: arrived,
		count:   func() int { return len(arrived()) },
	}
}

func hubPassage(t *testing.T) passage {
	const partitions = 3
	from, engine := enginetest.RestartableEventHub(t, partitions)
	to := from.Another(t, partitions)
	blobs := enginetest.RestartableAzurite(t)
	_, key := enginetest.AzuriteAccount()
	turn := 0
	return passage{
		config: fmt.Sprintf(`  source {
    use "eventhub" {
      namespace = "emulator"
      name      = %q
      credentials {
        connection_string = %q
      }
      checkpoints {
        container_url = %q
        account_key   = %q
      }
      checkpoint_interval_millis = 100
      ownership_expiry_millis    = 300000
    }
  }
  target {
    use "eventhub" {
      namespace = "emulator"
      name      = %q
      credentials {
        connection_string = %[2]q
      }
    }
  }
`, from.Name, from.ConnectionString(), newContainer(t, blobs.Address), key, to.Name),
		engines: []*enginetest.Restartable{engine, blobs},
		put: func(_ context.Context, bodies []string) error {
			turn++
			return from.TryAppend(turn%partitions, bodies...)
		},
		arrived: func() map[string]int {
			seen := map[string]int{}
			for p := range partitions {
				for _, e := range to.Events(t, p) {
					seen[e.Body]++
				}
			}
			return seen
		},
		count: func() (n int) {
			list, _ := to.Do(t, "state", nil)["partitions"].([]any)
			for _, one := range list {
				next, _ := one.(map[string]any)["next"].(float64)
				n += int(next)
			}
			return n
		},
	}
}

// newContainer makes a container and returns its URL.
func newContainer(t *testing.T, blobs string) string {
	t.Helper()
	account, key := enginetest.AzuriteAccount()
	at := blobs + "/" + account + "/restarted"
	requests := httpclient.New(httpclient.Options{})
	defer requests.Close()
	c, err := azure.ContainerName{URL: at, AccountKey: key, Client: requests.HTTP()}.Container()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Create(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	return at
}
