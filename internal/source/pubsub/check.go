package pubsubsource

import (
	"context"
	"fmt"

	"cloud.google.com/go/iam/apiv1/iampb"
	pubsub "cloud.google.com/go/pubsub/v2/apiv1"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weirdata/weir/internal/cloud/gcp"
	"github.com/weirdata/weir/internal/fault"
)

// Check implements connector.Checker: the subscription is there, is one that is pulled, and may
// be. Nothing is received. What only a viewer may see is looked at where it can be seen.
func (s *Source) Check(ctx context.Context) error {
	link := gcp.NewLink(s.dial)
	defer func() { _ = link.Close() }()
	u, err := link.Take(ctx)
	if err != nil {
		return err
	}
	defer link.Give(u, false)
	doing := "check subscription " + s.subscription
	const permission = "pubsub.subscriptions.consume"
	granted, err := u.Client.TestIamPermissions(ctx, &iampb.TestIamPermissionsRequest{Resource: s.subscription, Permissions: []string{permission}})
	emulator := status.Code(err) == codes.Unimplemented
	switch {
	case err != nil && !emulator:
		return gcp.Failed(doing, err, s.remedy())
	case !emulator && len(granted.GetPermissions()) == 0:
		return gcp.Failed(doing, status.Errorf(codes.PermissionDenied, "%s is not granted, or there is no subscription %s", permission, s.subscription), s.remedy())
	}
	sub, err := u.Client.GetSubscription(ctx, &pubsubpb.GetSubscriptionRequest{Subscription: s.subscription})
	switch {
	case status.Code(err) == codes.PermissionDenied && !emulator:
		return nil // a subscriber need not be a viewer
	case err != nil:
		return gcp.Failed(doing, err, s.remedy())
	}
	return s.usable(ctx, u.Client, sub)
}

// usable says why a subscription cannot be pulled, though it is there.
func (s *Source) usable(ctx context.Context, c *pubsub.SubscriptionAdminClient, sub *pubsubpb.Subscription) error {
	setup := func(format string, args ...any) error {
		return fault.New(fault.Setup, fmt.Errorf("subscription %s "+format, append([]any{s.subscription}, args...)...))
	}
	switch {
	case sub.GetDetached():
		return setup("is detached from its topic, and gets no messages: create another")
	case sub.GetPushConfig().GetPushEndpoint() != "":
		return setup("pushes its messages to an endpoint: run gcloud pubsub subscriptions modify-push-config %s --push-endpoint=\"\"", s.subscription)
	case sub.GetBigqueryConfig().GetTable() != "" || sub.GetCloudStorageConfig().GetBucket() != "":
		return setup("exports its messages: create one that is pulled, with gcloud pubsub subscriptions create NAME --topic=%s", sub.GetTopic())
	case sub.GetTopic() == "_deleted-topic_":
		return setup("has lost its topic: create the topic and another subscription")
	}
	if dead := sub.GetDeadLetterPolicy().GetDeadLetterTopic(); dead != "" {
		// Not every subscriber may ask; the role of Pub/Sub's own account there cannot be asked for.
		if err := deadLetters(ctx, c, dead); err != nil {
			return setup("sends what is delivered too often to a topic that is not there, and so keeps it: %w", err)
		}
	}
	return nil
}

// deadLetters says whether the topic of a dead-letter policy is missing.
func deadLetters(ctx context.Context, c *pubsub.SubscriptionAdminClient, topic string) error {
	_, err := c.TestIamPermissions(ctx, &iampb.TestIamPermissionsRequest{Resource: topic, Permissions: []string{"pubsub.topics.get"}})
	if status.Code(err) == codes.NotFound {
		return fmt.Errorf("create %s with gcloud pubsub topics create %s", topic, topic)
	}
	return nil
}
