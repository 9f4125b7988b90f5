// Package eventhubsource is the source "eventhub": it reads the partitions of a hub of Azure
// Event Hubs over AMQP, and shares them with the other instances of its consumer group.
//
// # Ownership and checkpoints
//
// Who reads which partition, and from where, is kept in a ledger: blobs that are named and filled
// as those of the official SDKs (so that either takes over from the other), or records of Weir's
// own store. A partition is owned by one instance as long as it renews its claim. Instances that
// start take partitions from those that have two more than they, and nobody else's moves. Each new
// owner reads with a higher epoch, so that the service itself ends the link of the one before.
//
// # Invariants
//
//   - A checkpoint is saved only behind what is settled without a gap, only by the owner, and never
//     goes back: the write is conditional on the checkpoint that the owner has seen, and the owner
//     has the ownership looked at before it overrules another one.
//   - Without a checkpoint a partition begins where start_position says; the end of a partition is
//     written down as a checkpoint before it is read, so that nothing that comes later is missed.
//   - A link that is ended, refused or silent is opened again; one partition's trouble stops no
//     other. Read fails only when nothing can be read at all.
//   - What the service let go of before it was read is said, with its count.
package eventhubsource

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/cloud/azure"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/httpclient"
)

// Config is the HCL of the source.
type Config struct {
	// Namespace of the hub: its name, or its whole host name.
	Namespace string `hcl:"namespace"`
	// Name of the event hub.
	Name string `hcl:"name"`
	// Consumer group to read in; the group of every hub by default.
	ConsumerGroup string `hcl:"consumer_group,optional"`
	// Who asks. Without it the environment says so (EVENTHUB_CONNECTION_STRING; EVENTHUB_KEY_NAME
	// and EVENTHUB_KEY_VALUE; AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET or
	// AZURE_CERTIFICATE_PATH), and after it the standard chain of Azure.
	Credentials *azure.Credentials `hcl:"credentials,block"`
	// Host to connect to in place of the namespace's own: a private endpoint or a proxy.
	CustomEndpoint string `hcl:"custom_endpoint,optional"`

	// Where to keep who reads which partition and from where: in Blob storage. Without it Weir's
	// own store keeps it, and instances share the hub where the store is PostgreSQL.
	Checkpoints *Checkpoints `hcl:"checkpoints,block"`
	// Where to begin in a partition that has no checkpoint: "earliest", what the hub still has, or
	// "latest", what comes from now on.
	StartPosition string `hcl:"start_position,optional"`
	// Begin in a partition that has no checkpoint with what came into it at this time or later, in
	// place of start_position: "2026-11-29T12:00:00Z".
	StartTimestamp string `hcl:"start_timestamp,optional"`
	// The key of each message: "random", or "source", the partition key it was sent with.
	PartitionKey string `hcl:"partition_key,optional"`

	// Milliseconds between looks at who owns what, at which ownership is renewed too. At least 100.
	BalanceIntervalMillis int `hcl:"balance_interval_millis,optional"`
	// Milliseconds after which a partition is free whose owner has not renewed it; at least three
	// times balance_interval_millis. Owners that are other programs have 60 seconds at least.
	OwnershipExpiryMillis int `hcl:"ownership_expiry_millis,optional"`
	// Milliseconds between checkpoints of a partition. After a crash at most what was in flight
	// and what was settled in this time is read again. At least 10.
	CheckpointIntervalMillis int `hcl:"checkpoint_interval_millis,optional"`
	// Consumer group in which ranges are read again for a target that asks for them. Without it
	// they are read in consumer_group, and the partition waits meanwhile.
	ReplayConsumerGroup string `hcl:"replay_consumer_group,optional"`

	// Most events of a partition that wait in memory before they are read; 1 to 5000.
	Prefetch int `hcl:"prefetch,optional"`
	// Most events handed to the transforms at once. At least 1.
	MaxBatchMessages int `hcl:"max_batch_messages,optional"`
	// Most payload bytes handed to the transforms at once. At least 1.
	MaxBatchBytes int `hcl:"max_batch_bytes,optional"`
}

// Checkpoints is a container of Blob storage.
type Checkpoints struct {
	// URL of the container, https://ACCOUNT.blob.core.windows.net/CONTAINER; it may carry a shared
	// access signature.
	ContainerURL string `hcl:"container_url"`
	// Connection string of the storage account. Without it and account_key the identity of
	// credentials is used, or that of the environment.
	ConnectionString string `hcl:"connection_string,optional"`
	// Key of the storage account.
	AccountKey string `hcl:"account_key,optional"`
}

func (c Config) hub(d connector.Deps) azure.HubName {
	return azure.HubName{Namespace: c.Namespace, Name: c.Name, Endpoint: c.CustomEndpoint, Credentials: c.Credentials, Version: d.Version, Read: d.ReadFile}
}

func (c Config) container(d connector.Deps) azure.ContainerName {
	return azure.ContainerName{URL: c.Checkpoints.ContainerURL, ConnectionString: c.Checkpoints.ConnectionString, AccountKey: c.Checkpoints.AccountKey,
		Credentials: c.Credentials, Read: d.ReadFile}
}

// Validate implements connector.Validator.
func (c Config) Validate() []connector.Problem {
	ps := c.hub(connector.Deps{}).Validate()
	add := func(field, what, fix string) {
		ps = append(ps, connector.Problem{Field: field, What: what, Fix: fix})
	}
	for field, group := range map[string]string{"consumer_group": c.ConsumerGroup, "replay_consumer_group": c.ReplayConsumerGroup} {
		if (group == "" && field == "consumer_group") || len(group) > 50 || strings.ContainsAny(group, "/?# ") {
			add(field, fmt.Sprintf("%s is no name of a consumer group: %q", field, group), `write up to 50 letters, digits, dots, dashes and underscores, or leave it out`)
		}
	}
	if c.Checkpoints != nil {
		ps = append(ps, connector.Under("checkpoints", c.container(connector.Deps{}).Validate())...)
	}
	if c.StartPosition != earliest && c.StartPosition != latest {
		add("start_position", fmt.Sprintf("there is no start_position %q", c.StartPosition), `write "earliest" or "latest", or set start_timestamp`)
	}
	if c.StartTimestamp != "" {
		if _, err := time.Parse(time.RFC3339, c.StartTimestamp); err != nil {
			add("start_timestamp", fmt.Sprintf("start_timestamp is no time: %q", c.StartTimestamp), `write it as in "2026-11-29T12:00:00Z"`)
		}
	}
	if c.PartitionKey != keyRandom && c.PartitionKey != keySource {
		add("partition_key", fmt.Sprintf("there is no partition_key %q", c.PartitionKey), `write "random" or "source"`)
	}
	for _, n := range []struct {
		field              string
		value, least, most int
	}{
		{"balance_interval_millis", c.BalanceIntervalMillis, 100, 0},
		{"ownership_expiry_millis", c.OwnershipExpiryMillis, 3 * max(c.BalanceIntervalMillis, 0), 0},
		{"checkpoint_interval_millis", c.CheckpointIntervalMillis, 10, 0},
		{"prefetch", c.Prefetch, 1, 5000},
		{"max_batch_messages", c.MaxBatchMessages, 1, 0},
		{"max_batch_bytes", c.MaxBatchBytes, 1, 0},
	} {
		switch {
		case n.value < n.least:
			add(n.field, fmt.Sprintf("%s must be at least %d, not %d", n.field, n.least, n.value), "leave it out to use the default")
		case n.most > 0 && n.value > n.most:
			add(n.field, fmt.Sprintf("%s must be at most %d, not %d", n.field, n.most, n.value), "leave it out to use the default")
		}
	}
	return ps
}

// The values of options.
const (
	earliest  = "earliest"
	latest    = "latest"
	keyRandom = "random"
	keySource = "source"
)

// Entry is the source.
var Entry = connector.Of(connector.Spec[Config, connector.Source]{
	Name: "eventhub", Summary: "Reads events from a hub of Azure Event Hubs, whose partitions its instances share.", Stability: connector.Stable,
	Default: func() Config {
		return Config{ConsumerGroup: "$Default", StartPosition: earliest, PartitionKey: keyRandom, BalanceIntervalMillis: 2000, OwnershipExpiryMillis: 6000,
			CheckpointIntervalMillis: 1000, Prefetch: 300, MaxBatchMessages: 1000, MaxBatchBytes: 16 << 20}
	},
	New: build,
})

func build(_ context.Context, d connector.Deps, c Config) (connector.Source, error) {
	hub, err := c.hub(d).Hub()
	if err != nil {
		return nil, err
	}
	s := &Source{config: c, hub: hub, log: d.Log, readEvery: 10 * time.Second, silence: 30 * time.Second}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if c.StartTimestamp != "" {
		if s.startAt, err = time.Parse(time.RFC3339, c.StartTimestamp); err != nil {
			return nil, connector.Blame("start_timestamp", `write it as in "2026-11-29T12:00:00Z"`, err)
		}
	}
	if c.Checkpoints == nil {
		s.ledger = &records{store: d.Store, prefix: recordPrefix(hub.Host, hub.Name, c.ConsumerGroup)}
		return s, nil
	}
	name := c.container(d)
	s.requests = httpclient.New(httpclient.Options{IdlePerHost: atOnce, DialTimeout: 5 * time.Second, Verbatim: true})
	name.Client = s.requests.HTTP()
	container, err := name.Container()
	if err != nil {
		return nil, err
	}
	s.ledger = &blobs{container: container, host: hub.Host, hub: hub.Name, group: c.ConsumerGroup, log: s.log}
	return s, nil
}
