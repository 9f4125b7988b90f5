package sqstarget

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weirdata/weir/internal/cloud/aws"
	"github.com/weirdata/weir/internal/connector"
	format "github.com/weirdata/weir/internal/sqs"
)

// Config is the HCL of the target.
type Config struct {
	// Batching is how messages are grouped. A request has at most ten messages; a larger batch
	// leaves in several, one after the other.
	Batching *connector.Batching `hcl:"batching,block"`
	// QueueName is the name of the queue.
	QueueName string `hcl:"queue_name"`
	// Region is the AWS region of the queue; the one of the environment or profile by default.
	Region string `hcl:"region,optional"`
	// RoleARN is a role to assume; none by default.
	RoleARN string `hcl:"role_arn,optional"`
	// CustomAWSEndpoint is the URL of a stand-in for AWS, for tests and private networks; none by
	// default.
	CustomAWSEndpoint string `hcl:"custom_aws_endpoint,optional"`
	// QueueOwnerAccountID is the account that the queue belongs to, where that is another one than
	// that of the credentials.
	QueueOwnerAccountID string `hcl:"queue_owner_account_id,optional"`
	// QueueField is a field of the payload, as "event.queue", that names the queue of a message,
	// where it has one; queue_name is for the others. A message that names a queue that is
	// not there is invalid.
	QueueField string `hcl:"queue_field,optional"`
	// Attributes says whether headers are sent as message attributes; true by default.
	Attributes bool `hcl:"attributes,optional"`
	// IllegalPayloads says what becomes of a payload that SQS does not take, because it is empty
	// or no text of XML: "invalid" (default), it goes to the failure target, or "base64", it is
	// sent in base64 with the attribute "weir-encoding", which the source sqs undoes.
	IllegalPayloads string `hcl:"illegal_payloads,optional"`
	// DelaySeconds is how long a message stays hidden after it was sent, 0 to 900; 0, the
	// default, leaves it to the queue. Not for FIFO queues, which have a delay of their own.
	DelaySeconds int `hcl:"delay_seconds,optional"`
	// MessageGroupID is the group of every message. Without it, the group in a FIFO queue is the
	// key of the message, a new one if it has none; a message of a standard queue has no group.
	MessageGroupID string `hcl:"message_group_id,optional"`
	// MessageGroupField is a field of the payload that names the group, where a message has it.
	MessageGroupField string `hcl:"message_group_field,optional"`
	// Deduplication is what the de-duplication id in a FIFO queue is made of: "identity"
	// (default), where the message was read, its id and its payload; "content", the payload
	// alone; or "queue", none is sent, for queues with content-based de-duplication.
	Deduplication string `hcl:"deduplication,optional"`
	// DeduplicationField is a field of the payload that is the de-duplication id, where a
	// message has it.
	DeduplicationField string `hcl:"deduplication_field,optional"`
	// EntriesPerGroup is how many messages of a group of a FIFO queue may be in one request; 1 by
	// default. More are faster, and a message that the service fails alone is then overtaken by
	// those behind it in its request.
	EntriesPerGroup int `hcl:"entries_per_group,optional"`
}

const (
	illegalInvalid, illegalBase64          = "invalid", "base64"
	dedupIdentity, dedupContent, dedupNone = "identity", "content", "queue"
)

func defaults() Config {
	return Config{
		Batching: &connector.Batching{MaxBatchMessages: format.MaxEntries, MaxBatchBytes: format.MaxBytes, MaxMessageBytes: format.MaxBytes,
			MaxConcurrentBatches: 5, FlushPeriodMillis: 200},
		Attributes: true, IllegalPayloads: illegalInvalid, Deduplication: dedupIdentity, EntriesPerGroup: 1,
	}
}

func (c Config) access() aws.Access {
	return aws.Access{Region: c.Region, RoleARN: c.RoleARN, Endpoint: c.CustomAWSEndpoint}
}

// fifo reports whether the queue is one by its name.
func (c Config) fifo() bool { return strings.HasSuffix(c.QueueName, ".fifo") }

// Validate implements connector.Validator.
func (c Config) Validate() []connector.Problem {
	ps := aws.QueueProblems(c.QueueName, c.QueueOwnerAccountID)
	named := c.access()
	named.RoleARN = "" // whether a role exists only STS can say
	ps = append(ps, named.Problems()...)
	refuse := func(field, what, fix string) {
		ps = append(ps, connector.Problem{Field: field, What: what, Fix: fix})
	}
	if b := c.Batching; b != nil {
		ps = append(ps, connector.Under("batching", b.Validate())...)
		if b.MaxMessageBytes > format.MaxBytes {
			refuse("batching.max_message_bytes", fmt.Sprintf("max_message_bytes must be at most %d, not %d: SQS takes no larger message", format.MaxBytes, b.MaxMessageBytes), "lower it, or leave it out")
		}
	}
	within := func(field string, got, least, most int) {
		if got < least || got > most {
			refuse(field, fmt.Sprintf("%s must be from %d to %d, not %d", field, least, most, got), "leave it out to use the default")
		}
	}
	within("delay_seconds", c.DelaySeconds, 0, 900)
	within("entries_per_group", c.EntriesPerGroup, 1, format.MaxEntries)
	oneOf := func(field, got string, of ...string) {
		if !slices.Contains(of, got) {
			refuse(field, fmt.Sprintf("%s %q is not known", field, got), fmt.Sprintf("write one of %q", of))
		}
	}
	oneOf("illegal_payloads", c.IllegalPayloads, illegalInvalid, illegalBase64)
	oneOf("deduplication", c.Deduplication, dedupIdentity, dedupContent, dedupNone)
	if c.MessageGroupID != "" && !format.LegalID(c.MessageGroupID) {
		refuse("message_group_id", fmt.Sprintf("message_group_id %q cannot be one", c.MessageGroupID), "write up to 128 letters, digits and signs")
	}
	if c.DelaySeconds > 0 && c.fifo() {
		refuse("delay_seconds", "a FIFO queue takes no delay with a message", "take it out, and set DelaySeconds of the queue")
	}
	if !c.fifo() && c.QueueField == "" {
		for _, x := range []struct {
			field string
			set   bool
		}{{"deduplication_field", c.DeduplicationField != ""}, {"deduplication", c.Deduplication != dedupIdentity}, {"entries_per_group", c.EntriesPerGroup != 1}} {
			if x.set {
				refuse(x.field, fmt.Sprintf("%s is for FIFO queues, and %q is none: the name of one ends with .fifo", x.field, c.QueueName), "take it out")
			}
		}
	}
	return ps
}
