// Package eventhubtarget is the target "eventhub": it writes messages to a hub of Azure Event Hubs
// over AMQP.
//
// # Batches
//
// A batch of the service has one partition key, so that the messages of a write are sent as one
// batch for each key that they have, and one for all that have none, which the service gives to
// any partition. Batches of different keys are sent at the same time, those of one key one after
// the other. How large a batch may be is asked of the service.
//
// # Invariants
//
//   - Messages of different keys are never in one batch.
//   - What the service has accepted is not sent again because something else failed: each message
//     has an outcome of its own. Where the service has not answered, nobody knows, and the message
//     is sent again.
//   - After a batch of a key that failed, no later one of that key is sent in the same write.
//   - A message is called too large only when the service refuses it with nothing else under way.
//   - A send ends: a connection that does not answer in time is closed, and the next write has
//     another.
package eventhubtarget

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/weirdata/weir/internal/cloud/azure"
	"github.com/weirdata/weir/internal/connector"
)

// Config is the target's HCL block.
type Config struct {
	// Batching says how messages are grouped into writes. Sizes count keys, headers and encoding.
	// What the tier of the namespace takes holds too, whatever is set here.
	Batching *connector.Batching `hcl:"batching,block"`
	// Namespace of the hub: its name, or its whole host name.
	Namespace string `hcl:"namespace"`
	// Name of the event hub.
	Name string `hcl:"name"`
	// Who asks. Without it the environment says so (EVENTHUB_CONNECTION_STRING; EVENTHUB_KEY_NAME
	// and EVENTHUB_KEY_VALUE; AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET or
	// AZURE_CERTIFICATE_PATH), and after it the standard chain of Azure.
	Credentials *azure.Credentials `hcl:"credentials,block"`
	// Host to connect to in place of the namespace's own: a private endpoint or a proxy.
	CustomEndpoint string `hcl:"custom_endpoint,optional"`
	// How often the client sends again by itself what was not answered, before the retry block
	// decides (default 1). At most 10.
	MaxAutoRetries int `hcl:"max_auto_retries,optional"`
	// Seconds that a send may take, with what max_auto_retries adds to it (default 20).
	ContextTimeoutInSeconds int `hcl:"context_timeout_in_seconds,optional"`
	// Send messages with their key, so that those with one key come into one partition; on by
	// default. Otherwise, and for messages without a key, the service chooses the partition.
	SetEHPartitionKey bool `hcl:"set_eh_partition_key,optional"`
	// SendHeaders sends the headers of a message as its application properties, and content-type
	// and correlation-id as the properties of AMQP that are called so; on by default. Of several
	// headers with one name the first is sent.
	SendHeaders bool `hcl:"send_headers,optional"`
}

func (c Config) hub(d connector.Deps) azure.HubName {
	return azure.HubName{Namespace: c.Namespace, Name: c.Name, Endpoint: c.CustomEndpoint, Credentials: c.Credentials, Version: d.Version, Read: d.ReadFile}
}

// Validate implements connector.Validator.
func (c Config) Validate() []connector.Problem {
	ps := c.hub(connector.Deps{}).Validate()
	if c.MaxAutoRetries < 0 || c.MaxAutoRetries > 10 {
		ps = append(ps, connector.Problem{Field: "max_auto_retries", What: fmt.Sprintf("max_auto_retries must lie between 0 and 10, not %d", c.MaxAutoRetries), Fix: "leave it out to use the default of 1"})
	}
	if c.ContextTimeoutInSeconds < 1 {
		ps = append(ps, connector.Problem{Field: "context_timeout_in_seconds", What: fmt.Sprintf("context_timeout_in_seconds must be at least 1, not %d", c.ContextTimeoutInSeconds), Fix: "leave it out to use the default of 20"})
	}
	if c.Batching != nil {
		ps = append(ps, connector.Under("batching", c.Batching.Validate())...)
	}
	return ps
}

// Entry is the target.
var Entry = connector.Of(connector.Spec[Config, connector.Target]{
	Name: "eventhub", Summary: "Writes messages to a hub of Azure Event Hubs.", Stability: connector.Stable,
	Default: func() Config {
		return Config{
			Batching:       &connector.Batching{MaxBatchMessages: 500, MaxBatchBytes: 1_000_000, MaxMessageBytes: 1_000_000, MaxConcurrentBatches: 5, FlushPeriodMillis: 200},
			MaxAutoRetries: 1, ContextTimeoutInSeconds: 20, SetEHPartitionKey: true, SendHeaders: true,
		}
	},
	New: func(_ context.Context, d connector.Deps, c Config) (connector.Target, error) {
		hub, err := c.hub(d).Hub()
		if err != nil {
			return nil, err
		}
		t := &Target{config: c, hub: hub, log: d.Log, timeout: time.Duration(c.ContextTimeoutInSeconds) * time.Second}
		if t.log == nil {
			t.log = slog.New(slog.DiscardHandler)
		}
		return t, nil
	},
})
