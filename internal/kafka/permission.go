package kafka

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirdata/weir/internal/fault"
)

// MayTopics says which topic whoever has signed in may not read, or write to, or that one is not
// there. What a broker does not say, which those before Kafka 2.3 and other makes do not, counts
// as permitted. Nothing is read or written.
func MayTopics(ctx context.Context, cl *kgo.Client, do kmsg.ACLOperation, topics ...string) error {
	req := kmsg.NewPtrMetadataRequest()
	req.IncludeTopicAuthorizedOperations = true
	for _, name := range topics {
		one := kmsg.NewMetadataRequestTopic()
		one.Topic = &name
		req.Topics = append(req.Topics, one)
	}
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return Fault(err)
	}
	for _, topic := range resp.Topics {
		name := ""
		if topic.Topic != nil {
			name = *topic.Topic
		}
		if err := kerr.ErrorForCode(topic.ErrorCode); err != nil {
			return Fault(fmt.Errorf("topic %q (kafka-topics.sh --create --topic %s makes it): %w", name, name, err))
		}
		if may := topic.AuthorizedOperations; may != math.MinInt32 && may&(1<<do|1<<kmsg.ACLOperationAll) == 0 {
			does, operation := "read", "Read"
			if do == kmsg.ACLOperationWrite {
				does, operation = "write to", "Write"
			}
			return fault.New(fault.Setup, fmt.Errorf("the user may not %s topic %q: give the user the permission %s on it (kafka-acls.sh --add --allow-principal User:NAME --operation %s --topic %s; with aws_msk_iam kafka-cluster:%sData)",
				does, name, operation, operation, name, operation))
		}
	}
	return nil
}

// MayJoin says whether whoever has signed in may be a member of a group. It is found out by the
// sign of life of a member that the group does not have, which changes nothing.
func MayJoin(ctx context.Context, cl *kgo.Client, group string) error {
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group, req.Generation, req.MemberID = group, -1, clientName+"-check"
	resp, err := req.RequestWith(ctx, cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if errors.Is(err, kerr.GroupAuthorizationFailed) || errors.Is(err, kerr.InvalidGroupID) {
		return Fault(fmt.Errorf("consumer group %q: %w", group, err))
	}
	return nil
}

// MayTransact says whether whoever has signed in may use a transactional id.
func MayTransact(ctx context.Context, cl *kgo.Client, id string) error {
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.CoordinatorType, req.CoordinatorKey, req.CoordinatorKeys = 1, id, []string{id}
	resp, err := req.RequestWith(ctx, cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err == nil && len(resp.Coordinators) > 0 {
		err = kerr.ErrorForCode(resp.Coordinators[0].ErrorCode)
	}
	if errors.Is(err, kerr.TransactionalIDAuthorizationFailed) {
		return Fault(fmt.Errorf("transactional id %q: %w", id, err))
	}
	return nil
}
