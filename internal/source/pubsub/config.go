package pubsubsource

import (
	"fmt"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/cloud/gcp"
	"github.com/weirdata/weir/internal/connector"
)

// Config is the source's HCL block.
type Config struct {
	// ProjectID is the Google Cloud project of the subscription.
	ProjectID string `hcl:"project_id"`
	// SubscriptionID is the subscription, by its name, or whole as
	// "projects/PROJECT/subscriptions/NAME".
	SubscriptionID string `hcl:"subscription_id"`
	// MaxOutstandingMessages is the most messages that are received and not acknowledged; 1000
	// by default. Never more are than the pipeline's in_flight allows.
	MaxOutstandingMessages int `hcl:"max_outstanding_messages,optional"`
	// MaxOutstandingBytes is the most bytes of messages that are received and not acknowledged;
	// 1000000000 by default. Never more are than the pipeline's in_flight allows.
	MaxOutstandingBytes int `hcl:"max_outstanding_bytes,optional"`
	// MinExtensionPeriodSeconds is for how long, in seconds, the lease on a message is taken
	// and extended each time: 10 to 600. 0, the default, stands for 30, and for 60 with
	// exactly-once delivery. Messages of a process that dies come back after as long.
	MinExtensionPeriodSeconds int `hcl:"min_extension_period_seconds,optional"`
	// MaxExtensionSeconds is for how long, in seconds, the lease on a message is extended in
	// all while it is in work; 3600 by default. What is in work for longer may be delivered
	// again, which is logged and counted. 0 extends it for as long as it takes.
	MaxExtensionSeconds int `hcl:"max_extension_seconds,optional"`
	// StreamingPullGoroutines is how many streams messages are received by; 1 by default.
	StreamingPullGoroutines int `hcl:"streaming_pull_goroutines,optional"`
	// GRPCConnectionPoolSize is how many connections share the streams and calls; 0, the
	// default, for one.
	GRPCConnectionPoolSize int `hcl:"grpc_connection_pool_size,optional"`
	// PartitionKey is what the key of a message is: "random" (default), a fresh UUID, or
	// "source", its ordering key. With "source" and "ordered = true" at the pipeline, messages
	// with one ordering key are written in their order.
	PartitionKey string `hcl:"partition_key,optional"`
	// CredentialsPath is a file of credentials in JSON, such as a key of a service account.
	// Empty, the default, uses Google's Application Default Credentials.
	CredentialsPath string `hcl:"credentials_path,optional"`
	// Endpoint is another address than pubsub.googleapis.com: a regional one, such as
	// "europe-west1-pubsub.googleapis.com:443", which exactly-once delivery needs where the
	// subscription is in another region; or "http://localhost:8085" for an emulator, in the
	// clear and without credentials.
	Endpoint string `hcl:"endpoint,optional"`
}

// The values of partition_key.
const (
	randomKey = "random"
	sourceKey = "source"
)

func defaults() Config {
	return Config{
		MaxOutstandingMessages:  1000,
		MaxOutstandingBytes:     1e9,
		MaxExtensionSeconds:     3600,
		StreamingPullGoroutines: 1,
		PartitionKey:            randomKey,
	}
}

// maxStreams bounds what may be asked for: a stream costs two goroutines and a place in a
// connection, which has a hundred.
const maxStreams = 100

// Validate names what could never work.
func (c Config) Validate() []connector.Problem {
	var ps []connector.Problem
	refuse := func(field, what, fix string) {
		ps = append(ps, connector.Problem{Field: field, What: what, Fix: fix})
	}
	if c.ProjectID == "" {
		refuse("project_id", "project_id is empty", "set it; check that its environment variable has a value")
	}
	if _, err := subscriptionPath(c.ProjectID, c.SubscriptionID); err != nil {
		refuse("subscription_id", fmt.Sprintf("subscription_id %q is no subscription: %v", c.SubscriptionID, err), `write its name, such as "events-weir", or "projects/PROJECT/subscriptions/NAME"`)
	}
	for _, n := range []struct {
		field             string
		value, from, most int
	}{
		{"max_outstanding_messages", c.MaxOutstandingMessages, 1, 1 << 30},
		{"max_outstanding_bytes", c.MaxOutstandingBytes, 1, 1 << 50},
		{"max_extension_seconds", c.MaxExtensionSeconds, 0, 1 << 30},
		{"streaming_pull_goroutines", c.StreamingPullGoroutines, 1, maxStreams},
		{"grpc_connection_pool_size", c.GRPCConnectionPoolSize, 0, 1000},
	} {
		if n.value < n.from || n.value > n.most {
			refuse(n.field, fmt.Sprintf("%s must be between %d and %d, not %d", n.field, n.from, n.most, n.value), "leave it out to use the default")
		}
	}
	if p := c.MinExtensionPeriodSeconds; p != 0 && (p < 10 || p > 600) {
		refuse("min_extension_period_seconds", fmt.Sprintf("min_extension_period_seconds must be between 10 and 600, which Pub/Sub allows, or 0, not %d", p), "leave it out to use the default")
	}
	if c.PartitionKey != randomKey && c.PartitionKey != sourceKey {
		refuse("partition_key", fmt.Sprintf("partition_key %q is not known", c.PartitionKey), `use "random" or "source"`)
	}
	return append(ps, gcp.CheckEndpoint(c.Endpoint)...)
}

// lease is for how long a lease is taken each time.
func (c Config) lease(exactlyOnce bool) time.Duration {
	switch p := time.Duration(c.MinExtensionPeriodSeconds) * time.Second; {
	case exactlyOnce:
		return max(p, time.Minute)
	case p > 0:
		return p
	}
	return 30 * time.Second
}

// subscriptionPath is the whole name of a subscription.
func subscriptionPath(project, subscription string) (string, error) {
	name := subscription
	if rest, whole := strings.CutPrefix(subscription, "projects/"); whole {
		owner, of, ok := strings.Cut(rest, "/subscriptions/")
		if !ok || owner == "" || strings.Contains(owner, "/") {
			return "", fmt.Errorf("a whole name is projects/PROJECT/subscriptions/NAME")
		}
		project, name = owner, of
	}
	if name == "" {
		return "", fmt.Errorf("it is empty")
	}
	for i := range len(name) {
		if c := name[i]; !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-_.~+%", c) >= 0) {
			return "", fmt.Errorf("a name has letters, digits and -_.~+%% only")
		}
	}
	return "projects/" + project + "/subscriptions/" + name, nil
}
