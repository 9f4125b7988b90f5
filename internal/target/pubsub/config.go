package pubsubtarget

import (
	"fmt"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/cloud/gcp"
	"github.com/weirdata/weir/internal/connector"
)

// Config is the target's HCL block.
type Config struct {
	// Batching says how messages are grouped into requests. A message counts with its
	// attributes, its ordering key and what encodes them. A request takes at most 1000 messages.
	Batching *connector.Batching `hcl:"batching,block"`
	// ProjectID is the Google Cloud project of the topic.
	ProjectID string `hcl:"project_id"`
	// TopicName is the topic, by its name, or whole as "projects/PROJECT/topics/NAME".
	TopicName string `hcl:"topic_name"`
	// CredentialsPath is a file of credentials in JSON, such as a key of a service account.
	// Empty, the default, uses Google's Application Default Credentials.
	CredentialsPath string `hcl:"credentials_path,optional"`
	// CredentialsJSONPath is another spelling of credentials_path, which pages of Snowbridge show.
	CredentialsJSONPath string `hcl:"credentials_json_path,optional"`
	// Endpoint is another address than pubsub.googleapis.com: a regional one, such as
	// "europe-west1-pubsub.googleapis.com:443", without which messages with one ordering key keep
	// their order only while they are published in one region; or "http://localhost:8085" for
	// an emulator, in the clear and without credentials.
	Endpoint string `hcl:"endpoint,optional"`
	// GRPCConnectionPoolSize is how many connections share the requests; 0, the default, for
	// one.
	GRPCConnectionPoolSize int `hcl:"grpc_connection_pool_size,optional"`
	// OrderingKey is what messages are ordered by: "none" (default), or "key", the key of the
	// message. Those of one key then keep their order, one request after the other, also when
	// requests fail: it needs "ordered = true" at the pipeline, and a subscription with message
	// ordering. A message without a key has no ordering key.
	OrderingKey string `hcl:"ordering_key,optional"`
	// Attributes publishes the headers of a message as its attributes. Off by default. A
	// message whose headers cannot be attributes is invalid: at most 100, each named once,
	// UTF-8, names of at most 256 bytes that do not begin with "goog", values of at most 1024.
	Attributes bool `hcl:"attributes,optional"`
	// TopicHeader names the header that holds the topic of a message, by name or whole; a
	// message without it goes to topic_name. The header itself is not published. A message
	// whose topic is not there, or may not be published to, is invalid. Empty, the default,
	// publishes all to topic_name.
	TopicHeader string `hcl:"topic_header,optional"`
	// RequestTimeoutInMillis is the longest time, in milliseconds, a request may take; 60000 by
	// default. What became of its messages is not known then, and they are published again.
	RequestTimeoutInMillis int `hcl:"request_timeout_in_millis,optional"`
}

// The values of ordering_key.
const (
	unordered = "none"
	byKey     = "key"
)

func defaults() Config {
	return Config{
		Batching: &connector.Batching{
			MaxBatchMessages:     100,
			MaxBatchBytes:        10485760,
			MaxMessageBytes:      10485760,
			MaxConcurrentBatches: 5,
			FlushPeriodMillis:    200,
		},
		OrderingKey:            unordered,
		RequestTimeoutInMillis: 60000,
	}
}

// maxRequestMessages is the most messages the service takes in a request.
const maxRequestMessages = 1000

// Validate names what could never work.
func (c Config) Validate() []connector.Problem {
	var ps []connector.Problem
	refuse := func(field, what, fix string) {
		ps = append(ps, connector.Problem{Field: field, What: what, Fix: fix})
	}
	if c.ProjectID == "" {
		refuse("project_id", "project_id is empty", "set it; check that its environment variable has a value")
	}
	if _, err := topicPath(c.ProjectID, c.TopicName); err != nil {
		refuse("topic_name", fmt.Sprintf("topic_name %q is no topic: %v", c.TopicName, err), `write its name, such as "events", or "projects/PROJECT/topics/NAME"`)
	}
	if c.CredentialsPath != "" && c.CredentialsJSONPath != "" {
		refuse("credentials_json_path", "credentials_path and credentials_json_path are one option", "remove credentials_json_path")
	}
	ps = append(ps, gcp.CheckEndpoint(c.Endpoint)...)
	if c.GRPCConnectionPoolSize < 0 {
		refuse("grpc_connection_pool_size", fmt.Sprintf("grpc_connection_pool_size must not be negative, as %d is", c.GRPCConnectionPoolSize), "leave it out to use the default")
	}
	if c.OrderingKey != unordered && c.OrderingKey != byKey {
		refuse("ordering_key", fmt.Sprintf("ordering_key %q is not known", c.OrderingKey), `use "none" or "key"`)
	}
	if c.RequestTimeoutInMillis <= 0 {
		refuse("request_timeout_in_millis", fmt.Sprintf("request_timeout_in_millis must be at least 1, not %d", c.RequestTimeoutInMillis), "leave it out to use the default of 60000")
	}
	if c.Batching != nil {
		ps = append(ps, connector.Under("batching", c.Batching.Validate())...)
		if c.Batching.MaxBatchMessages > maxRequestMessages {
			refuse("batching.max_batch_messages", fmt.Sprintf("max_batch_messages (%d) is more than Pub/Sub takes in a request", c.Batching.MaxBatchMessages), fmt.Sprintf("lower it to %d", maxRequestMessages))
		}
	}
	return ps
}

// access is where the service is and as whom it is called.
func (c Config) access(d connector.Deps) (gcp.Access, error) {
	a := gcp.Access{Emulator: "PUBSUB_EMULATOR_HOST", Endpoint: c.Endpoint, Connections: c.GRPCConnectionPoolSize, Field: "credentials_path", Credentials: c.CredentialsPath}
	if c.CredentialsJSONPath != "" {
		a.Field, a.Credentials = "credentials_json_path", c.CredentialsJSONPath
	}
	var err error
	a.Credentials, err = d.File(a.Field, a.Credentials)
	return a, err
}

func (c Config) timeout() time.Duration {
	return time.Duration(c.RequestTimeoutInMillis) * time.Millisecond
}

// topicPath is the whole name of a topic.
func topicPath(project, topic string) (string, error) {
	name := topic
	if rest, whole := strings.CutPrefix(topic, "projects/"); whole {
		owner, of, ok := strings.Cut(rest, "/topics/")
		if !ok || owner == "" || strings.Contains(owner, "/") {
			return "", fmt.Errorf("a whole name is projects/PROJECT/topics/NAME")
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
	return "projects/" + project + "/topics/" + name, nil
}
