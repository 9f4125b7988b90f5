package sqstarget_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/fault"
	format "github.com/weirdata/weir/internal/sqs"
	sqstarget "github.com/weirdata/weir/internal/target/sqs"
)

// other is the official client as the other party.
func other(t *testing.T, endpoint string) *sqs.Client {
	t.Helper()
	h := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(h.CloseIdleConnections)
	return sqs.NewFromConfig(aws.Config{Region: "us-east-1", BaseEndpoint: &endpoint, HTTPClient: h, Credentials: credentials.NewStaticCredentialsProvider("key", "secret", "")})
}

// environment is what the chain finds.
func environment(t *testing.T) {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_REGION", "us-east-1")
}

var queues int

// queue makes one of a name that no other test has.
func queue(t *testing.T, c *sqs.Client, fifo bool, attributes map[string]string) (name, url string) {
	t.Helper()
	queues++
	name = fmt.Sprint("target-", queues)
	all := map[string]string{}
	maps.Copy(all, attributes)
	if fifo {
		name += ".fifo"
		all["FifoQueue"] = "true"
	}
	out, err := c.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: &name, Attributes: all})
	if err != nil {
		t.Fatal(err)
	}
	return name, *out.QueueUrl
}

// got is a message that was in a queue.
type got struct {
	body, group, deduplication string
	attributes                 []format.Attribute
}

func (g got) payload() []byte { return format.Decode(g.body, g.attributes) }

// drain takes what is in a queue, until the queue says that nothing is: an answer may be lost, and
// then what was in it comes again.
func drain(t *testing.T, c *sqs.Client, url string) (all []got) {
	t.Helper()
	for left(t, c, url) {
		out, err := c.ReceiveMessage(context.WithoutCancel(t.Context()), &sqs.ReceiveMessageInput{QueueUrl: &url, MaxNumberOfMessages: 10, VisibilityTimeout: 5,
			MessageAttributeNames: []string{"All"}, MessageSystemAttributeNames: []types.MessageSystemAttributeName{"All"}})
		if err != nil {
			t.Fatal(err)
		}
		if len(out.Messages) == 0 {
			time.Sleep(50 * time.Millisecond)
			continue
		}
		in := &sqs.DeleteMessageBatchInput{QueueUrl: &url}
		for i, m := range out.Messages {
			g := got{body: *m.Body, group: m.Attributes["MessageGroupId"], deduplication: m.Attributes["MessageDeduplicationId"]}
			for name, v := range m.MessageAttributes {
				a := format.Attribute{Name: name, Type: *v.DataType, Value: v.BinaryValue}
				if v.StringValue != nil {
					a.Value = []byte(*v.StringValue)
				}
				g.attributes = append(g.attributes, a)
			}
			slices.SortFunc(g.attributes, func(a, b format.Attribute) int {
				if a.Name < b.Name {
					return -1
				}
				return 1
			})
			all = append(all, g)
			in.Entries = append(in.Entries, types.DeleteMessageBatchRequestEntry{Id: aws.String(fmt.Sprint(i)), ReceiptHandle: m.ReceiptHandle})
		}
		if _, err := c.DeleteMessageBatch(context.WithoutCancel(t.Context()), in); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// left reports whether a queue has messages, received ones too.
func left(t *testing.T, c *sqs.Client, url string) bool {
	t.Helper()
	out, err := c.GetQueueAttributes(context.WithoutCancel(t.Context()), &sqs.GetQueueAttributesInput{QueueUrl: &url,
		AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameApproximateNumberOfMessages, types.QueueAttributeNameApproximateNumberOfMessagesNotVisible}})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range out.Attributes {
		if n != "0" {
			return true
		}
	}
	return false
}

// target is one for a queue, not opened.
func target(endpoint, name string, set ...func(*sqstarget.Config)) *sqstarget.Target {
	c := sqstarget.Entry.Default().(*sqstarget.Config)
	c.QueueName, c.CustomAWSEndpoint = name, endpoint
	for _, f := range set {
		f(c)
	}
	return sqstarget.New(connector.Deps{}, *c)
}

func inBase64(c *sqstarget.Config) { c.IllegalPayloads = "base64" }

// TestConformance is not parallel: it looks for goroutines.
func TestConformance(t *testing.T) {
	environment(t)
	for _, row := range []struct {
		name, endpoint string
		fifo           bool
	}{{"standard on fauxqs", enginetest.SQS(t), false}, {"FIFO on fauxqs", enginetest.SQS(t), true}} {
		t.Run(row.name, func(t *testing.T) {
			conntest.Target(t, conntest.TargetCase{
				Setup: func(t *testing.T) (func() connector.Target, func() [][]byte) {
					c := other(t, row.endpoint)
					name, url := queue(t, c, row.fifo, nil)
					var taken [][]byte
					return func() connector.Target { return target(row.endpoint, name, inBase64) }, func() [][]byte {
						for _, g := range drain(t, c, url) {
							taken = append(taken, g.payload())
						}
						return taken
					}
				},
				Broken:   func(t *testing.T) connector.Target { return target(row.endpoint, "not-there") },
				Want:     fault.Setup,
				Features: conntest.TargetFeatures{Binary: true, Empty: true, Tombstone: true},
			})
		})
	}
}
