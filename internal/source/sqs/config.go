package sqssource

import (
	"fmt"
	"slices"

	"github.com/weirdata/weir/internal/cloud/aws"
	"github.com/weirdata/weir/internal/connector"
)

// Config is the HCL of the source.
type Config struct {
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
	// PartitionKey is the key of each message: "random" (default), a new one, or "source", the
	// group that the message has in the queue.
	PartitionKey string `hcl:"partition_key,optional"`
	// VisibilityTimeoutSeconds is how long a message stays hidden from others when this process
	// dies; while it lives, the time is extended as long as the message is in work. 30 by
	// default, at least 2 and at most 43200.
	VisibilityTimeoutSeconds int `hcl:"visibility_timeout_seconds,optional"`
	// WaitTimeSeconds is how long a receive call waits for messages when there are none, 1 to 20;
	// 1 by default. With more, an idle queue costs fewer calls, and a stop waits for the one that
	// is under way, for up to five seconds.
	WaitTimeSeconds int `hcl:"wait_time_seconds,optional"`
	// ConcurrentReceives is the most calls at once that receive, of ten messages each; an idle
	// queue has one. 4 by default.
	ConcurrentReceives int `hcl:"concurrent_receives,optional"`
	// DeadLetters says where messages go that cannot be delivered when the queue has a redrive
	// policy: "queue" (default), back to the queue, which moves them to its dead-letter queue
	// when they were received often enough; or "failure_target", as with a queue that has
	// none.
	DeadLetters string `hcl:"dead_letters,optional"`
	// MaxWaitingMessages is how many messages of a queue with a redrive policy may wait here for
	// their next attempt; while there are as many, no more are received. 1000 by default.
	MaxWaitingMessages int `hcl:"max_waiting_messages,optional"`
}

const (
	keyRandom, keySource       = "random", "source"
	deadInQueue, deadInFailure = "queue", "failure_target"
)

func defaults() Config {
	return Config{PartitionKey: keyRandom, VisibilityTimeoutSeconds: 30, WaitTimeSeconds: 1, ConcurrentReceives: 4,
		DeadLetters: deadInQueue, MaxWaitingMessages: 1000}
}

// access is how the queue is reached. Whether a role exists only STS can say, so its name is
// not looked at.
func (c Config) access() aws.Access {
	return aws.Access{Region: c.Region, RoleARN: c.RoleARN, Endpoint: c.CustomAWSEndpoint}
}

// Validate implements connector.Validator.
func (c Config) Validate() []connector.Problem {
	ps := aws.QueueProblems(c.QueueName, c.QueueOwnerAccountID)
	named := c.access()
	named.RoleARN = ""
	ps = append(ps, named.Problems()...)
	within := func(field string, got, least, most int) {
		if got < least || got > most {
			ps = append(ps, connector.Problem{Field: field, What: fmt.Sprintf("%s must be from %d to %d, not %d", field, least, most, got), Fix: "leave it out to use the default"})
		}
	}
	within("visibility_timeout_seconds", c.VisibilityTimeoutSeconds, 2, 43200)
	within("wait_time_seconds", c.WaitTimeSeconds, 1, 20)
	within("concurrent_receives", c.ConcurrentReceives, 1, 100)
	within("max_waiting_messages", c.MaxWaitingMessages, 1, 100_000)
	oneOf := func(field, got string, of ...string) {
		if !slices.Contains(of, got) {
			ps = append(ps, connector.Problem{Field: field, What: fmt.Sprintf("%s %q is not known", field, got), Fix: fmt.Sprintf("write %q or %q", of[0], of[1])})
		}
	}
	oneOf("partition_key", c.PartitionKey, keyRandom, keySource)
	oneOf("dead_letters", c.DeadLetters, deadInQueue, deadInFailure)
	return ps
}
