// Package pubsubtarget is the target "pubsub": it publishes messages to a topic of Google Cloud
// Pub/Sub.
//
// # Requests
//
// A write is one Publish request, which the service takes or refuses as a whole. Without an
// answer it is not known what became of it, and the engine publishes its messages again: Pub/Sub
// has no way to tell that they are the same. Nothing is retried here but what gRPC knows was
// never processed.
//
// A request is refused for a single message that the service does not take (a topic with a
// schema, for instance). It is then published in halves, in order, until the messages at fault
// stand alone; these are invalid, and the others are published.
//
// # Order
//
// With ordering keys a request has messages of one key only, as the service wants it, and a key
// has one request under way. What follows a message of its key that could not be published is
// not published either, and fails with it: the engine, which writes what failed again in its
// order and before what comes later, so keeps the order of each key. A message that is invalid
// holds back nothing, since it goes another way. No key is ever paused.
package pubsubtarget

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"cloud.google.com/go/iam/apiv1/iampb"
	pubsub "cloud.google.com/go/pubsub/v2/apiv1"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weirdata/weir/internal/cloud/gcp"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// Entry is the target's place in the registry.
var Entry = connector.Of(connector.Spec[Config, connector.Target]{
	Name:      "pubsub",
	Summary:   "Publishes messages to a topic of Google Cloud Pub/Sub.",
	Stability: connector.Stable,
	Default:   defaults,
	New: func(ctx context.Context, d connector.Deps, c Config) (connector.Target, error) {
		t, err := New(ctx, d, c)
		if err != nil {
			return nil, err
		}
		return t, nil
	},
})

// Target publishes to one topic, or to those that messages name.
type Target struct {
	c      Config
	log    *slog.Logger
	access gcp.Access
	topic  string

	mu   sync.Mutex
	link *gcp.Link[*pubsub.TopicAdminClient] // nil while it is not open
}

var (
	_ connector.Target    = (*Target)(nil)
	_ connector.Limiter   = (*Target)(nil)
	_ connector.Checker   = (*Target)(nil)
	_ connector.Inspector = (*Target)(nil)
)

// New builds the target and touches nothing.
func New(_ context.Context, d connector.Deps, c Config) (*Target, error) {
	if c.Batching == nil {
		c.Batching = defaults().Batching
	}
	if ps := c.Validate(); len(ps) > 0 {
		return nil, fault.New(fault.Setup, fmt.Errorf("pubsub target: %s: %s", ps[0].What, ps[0].Fix))
	}
	topic, err := topicPath(c.ProjectID, c.TopicName)
	if err != nil {
		return nil, fault.New(fault.Setup, err)
	}
	a, err := c.access(d)
	if err != nil {
		return nil, err
	}
	t := &Target{c: c, log: d.Log, access: a, topic: topic}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	return t, nil
}

func (t *Target) ordered() bool { return t.c.OrderingKey == byKey }

// Limits implements connector.Limiter.
func (t *Target) Limits() connector.Limits {
	l := t.c.Batching.Limits()
	l.Size = t.size
	if t.c.TopicHeader != "" {
		l.Group = t.topicOf
	}
	return l
}

// topicOf is what m says its topic is; empty for the target's own.
func (t *Target) topicOf(m *event.Message) string { return m.Meta.Headers.Text(t.c.TopicHeader) }

// Inspect implements connector.Inspector.
func (t *Target) Inspect() error { return t.access.Inspect() }

// Open implements connector.Target. It finds the credentials; the service is called first by a
// write.
func (t *Target) Open(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.link != nil {
		return errors.New("open the pubsub target: it is open already")
	}
	if at := t.access.Emulated(); at != "" {
		t.log.Warn("publishing to an emulator, as the environment says", "variable", t.access.Emulator, "address", at)
	}
	link := gcp.NewLink(t.dial)
	u, err := link.Take(ctx)
	if err != nil {
		return err
	}
	link.Give(u, false)
	t.link = link
	return nil
}

// dial makes a client that retries nothing.
func (t *Target) dial(ctx context.Context) (*pubsub.TopicAdminClient, error) {
	opts, err := t.access.Options()
	if err != nil {
		return nil, err
	}
	client, err := pubsub.NewTopicAdminClient(context.WithoutCancel(ctx), opts...)
	if err != nil {
		return nil, err
	}
	client.CallOptions = &pubsub.TopicAdminCallOptions{}
	return client, nil
}

// Close implements connector.Target.
func (t *Target) Close(context.Context) error {
	t.mu.Lock()
	link := t.link
	t.link = nil
	t.mu.Unlock()
	if link == nil {
		return nil
	}
	if err := link.Close(); err != nil {
		return fmt.Errorf("close the connection to Pub/Sub: %w", err)
	}
	return nil
}

// opened is the link, while there is one.
func (t *Target) opened() (*gcp.Link[*pubsub.TopicAdminClient], error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.link == nil {
		return nil, errors.New("the pubsub target is not open")
	}
	return t.link, nil
}

// call calls f with a client, for as long as a request may take.
func (t *Target) call(ctx context.Context, f func(context.Context, *pubsub.TopicAdminClient) error) error {
	link, err := t.opened()
	if err != nil {
		return err
	}
	u, err := link.Take(ctx)
	if err != nil {
		return err
	}
	limited, done := context.WithTimeout(ctx, t.c.timeout())
	defer done()
	err = f(limited, u.Client)
	link.Give(u, gcp.Unanswered(ctx, err))
	return err
}

// remedy is what to do about errors of a topic.
func remedy(topic string) gcp.Remedy {
	return gcp.Remedy{
		Missing: "create it with gcloud pubsub topics create " + topic + ", or correct project_id and topic_name",
		Denied:  "grant pubsub.topics.publish: gcloud pubsub topics add-iam-policy-binding " + topic + " --role=roles/pubsub.publisher --member=serviceAccount:ACCOUNT",
	}
}

// Check implements connector.Checker: the topic is there and may be published to. Nothing is
// published.
func (t *Target) Check(ctx context.Context) error {
	link := gcp.NewLink(t.dial)
	defer func() { _ = link.Close() }()
	u, err := link.Take(ctx)
	if err != nil {
		return err
	}
	defer link.Give(u, false)
	const permission = "pubsub.topics.publish"
	granted, err := u.Client.TestIamPermissions(ctx, &iampb.TestIamPermissionsRequest{Resource: t.topic, Permissions: []string{permission}})
	switch status.Code(err) {
	case codes.OK:
		if len(granted.GetPermissions()) == 0 {
			err = status.Errorf(codes.PermissionDenied, "%s is not granted, or there is no topic %s", permission, t.topic)
		}
	case codes.Unimplemented: // an emulator knows no permissions
		_, err = u.Client.GetTopic(ctx, &pubsubpb.GetTopicRequest{Topic: t.topic})
	}
	return gcp.Failed("check topic "+t.topic, err, remedy(t.topic))
}
