package sqstarget_test

import (
	"strings"
	"testing"

	sqstarget "github.com/weirdata/weir/internal/target/sqs"
)

func TestValidate(t *testing.T) {
	t.Parallel()
	for field, set := range map[string]func(*sqstarget.Config){
		"queue_name":                 func(c *sqstarget.Config) { c.QueueName = "https://sqs.eu-central-1.amazonaws.com/1/q" },
		"queue_owner_account_id":     func(c *sqstarget.Config) { c.QueueOwnerAccountID = "12" },
		"region":                     func(c *sqstarget.Config) { c.Region = "Frankfurt" },
		"custom_aws_endpoint":        func(c *sqstarget.Config) { c.CustomAWSEndpoint = "localhost:4566" },
		"delay_seconds":              func(c *sqstarget.Config) { c.DelaySeconds = 901 },
		"entries_per_group":          func(c *sqstarget.Config) { c.QueueName, c.EntriesPerGroup = "q.fifo", 11 },
		"illegal_payloads":           func(c *sqstarget.Config) { c.IllegalPayloads = "drop" },
		"deduplication":              func(c *sqstarget.Config) { c.Deduplication = "content" }, // of a standard queue
		"message_group_id":           func(c *sqstarget.Config) { c.MessageGroupID = "with space" },
		"batching.max_message_bytes": func(c *sqstarget.Config) { c.Batching.MaxBatchBytes, c.Batching.MaxMessageBytes = 1<<21, 1<<21 },
	} {
		c := sqstarget.Entry.Default().(*sqstarget.Config)
		c.QueueName = "q"
		if ps := c.Validate(); len(ps) != 0 {
			t.Fatalf("the defaults: %+v", ps)
		}
		set(c)
		ps := c.Validate()
		if len(ps) != 1 || ps[0].Field != field || ps[0].Fix == "" || !strings.Contains(ps[0].What, strings.TrimPrefix(field, "batching.")) {
			t.Errorf("%s: %+v", field, ps)
		}
	}
	fifo := sqstarget.Entry.Default().(*sqstarget.Config)
	fifo.QueueName, fifo.DelaySeconds = "q.fifo", 5
	if ps := fifo.Validate(); len(ps) != 1 || ps[0].Field != "delay_seconds" {
		t.Errorf("a delay for a FIFO queue: %+v", ps)
	}
}
