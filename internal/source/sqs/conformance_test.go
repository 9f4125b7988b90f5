package sqssource_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/enginetest"
	sqssource "github.com/weirdata/weir/internal/source/sqs"
	format "github.com/weirdata/weir/internal/sqs"
)

// other is the official client as the other party.
func other(t *testing.T, endpoint string) *sqs.Client {
	t.Helper()
	h := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(h.CloseIdleConnections)
	return sqs.NewFromConfig(aws.Config{Region: "us-east-1", BaseEndpoint: &endpoint, HTTPClient: h, Credentials: credentials.NewStaticCredentialsProvider("key", "secret", "")})
}

// queue makes one of a name that no other test has.
func queue(t *testing.T, c *sqs.Client, name string, attributes map[string]string) (url string) {
	t.Helper()
	if attributes["FifoQueue"] != "" {
		name += ".fifo"
	}
	out, err := c.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: &name, Attributes: attributes})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := c.DeleteQueue(context.WithoutCancel(t.Context()), &sqs.DeleteQueueInput{QueueUrl: out.QueueUrl}); err != nil {
			t.Log(err)
		}
	})
	return *out.QueueUrl
}

// sends puts payloads into a queue, in groups by their number if there are any.
func sends(t *testing.T, c *sqs.Client, url string, groups int, payloads [][]byte) {
	t.Helper()
	for from := 0; from < len(payloads); from += 10 {
		in := &sqs.SendMessageBatchInput{QueueUrl: &url}
		size := 0
		for i := from; i < min(from+10, len(payloads)); i++ {
			e := types.SendMessageBatchRequestEntry{Id: aws.String(fmt.Sprint(i)), MessageBody: aws.String(string(payloads[i]))}
			if astral := strings.ContainsFunc(string(payloads[i]), func(r rune) bool { return r > 0xffff }); astral || !format.Legal(payloads[i]) || len(payloads[i]) == 0 { // fauxqs refuses what is beyond 16 bits
				body, how := format.Encode(payloads[i])
				e.MessageBody = &body
				e.MessageAttributes = map[string]types.MessageAttributeValue{how.Name: {DataType: &how.Type, StringValue: aws.String(string(how.Value))}}
			}
			if groups > 0 {
				e.MessageGroupId = aws.String(fmt.Sprint("group-", i%groups))
				e.MessageDeduplicationId = aws.String(fmt.Sprint("d", i, "-", time.Now().UnixNano()))
			}
			size += len(payloads[i])
			in.Entries = append(in.Entries, e)
		}
		out, err := c.SendMessageBatch(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		if len(out.Failed) > 0 {
			t.Fatalf("not sent: %s: %s", *out.Failed[0].Code, *out.Failed[0].Message)
		}
	}
}

var queues atomic.Int64

// TestConformance is not parallel: it looks for goroutines.
func TestConformance(t *testing.T) {
	for _, row := range []struct {
		name, endpoint string
		groups         int
		features       conntest.SourceFeatures
	}{
		{"standard on fauxqs", enginetest.SQS(t), 0, conntest.SourceFeatures{Acknowledges: true, Remembers: true, Binary: true, Empty: true}},
		{"FIFO on fauxqs", enginetest.SQS(t), 1 << 20, conntest.SourceFeatures{Acknowledges: true, Remembers: true, Binary: true, Empty: true, Positions: true}},
	} {
		// Each message of the FIFO queue is its own group: the suite reads all before it acknowledges
		// any, and of a group one message is handed out at a time.
		t.Run(row.name, func(t *testing.T) {
			conntest.Source(t, conntest.SourceCase{
				Setup: func(t *testing.T, payloads [][]byte) func() connector.Source {
					c := other(t, row.endpoint)
					attributes := map[string]string{}
					name := fmt.Sprint("conformance-", queues.Add(1))
					if row.groups > 0 {
						attributes["FifoQueue"] = "true"
					}
					url := queue(t, c, name, attributes)
					if row.groups > 0 {
						name += ".fifo"
					}
					sends(t, c, url, row.groups, payloads)
					return func() connector.Source {
						cfg := sqssource.Entry.Default().(*sqssource.Config)
						cfg.QueueName, cfg.CustomAWSEndpoint, cfg.WaitTimeSeconds = name, row.endpoint, 1
						return sqssource.New(connector.Deps{}, *cfg)
					}
				},
				Features: row.features,
			})
		})
	}
}
