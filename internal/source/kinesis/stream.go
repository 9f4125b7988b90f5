package kinesissource

import (
	"context"
	"errors"
	"fmt"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/weirdata/weir/internal/cloud/aws"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/kinesis/lease"
)

// The errors that are answered in a way of their own.
const (
	expiredIterator  = "ExpiredIteratorException"
	expiredNextToken = "ExpiredNextTokenException"
	invalidArgument  = "InvalidArgumentException"
	notFound         = "ResourceNotFoundException"
	inUse            = "ResourceInUseException"
	limitExceeded    = "LimitExceededException"
)

// doing is what is done with the stream, for errors.
func (n *session) doing(what string) string { return what + " stream " + n.config.StreamName }

// describe finds the stream.
func (n *session) describe(ctx context.Context) error {
	out, err := n.client.DescribeStreamSummary(ctx, &kinesis.DescribeStreamSummaryInput{StreamName: &n.config.StreamName})
	if aws.Code(err) == notFound {
		return fault.New(fault.Setup, fmt.Errorf("there is no stream %q in region %s: make it with \"aws kinesis create-stream --stream-name %s\", or correct stream_name, region or the account", n.config.StreamName, n.config.Region, n.config.StreamName))
	}
	if err != nil {
		return aws.Fault(n.doing("describe"), err)
	}
	d := out.StreamDescriptionSummary
	if d == nil || d.StreamARN == nil {
		return fmt.Errorf("%s: the answer describes nothing", n.doing("describe"))
	}
	if d.StreamStatus == types.StreamStatusCreating || d.StreamStatus == types.StreamStatusDeleting {
		return fault.New(fault.Setup, fmt.Errorf("stream %s is %s: wait until it is ACTIVE", n.config.StreamName, d.StreamStatus))
	}
	n.arn = *d.StreamARN
	return nil
}

// Shards implements lease.Stream. It lists all shards, whatever the time: stand-ins know the
// filters differently, and a list that leaves nothing out is always right.
func (n *session) Shards(ctx context.Context, _ time.Time) ([]lease.Shard, error) {
	var shards []lease.Shard
	in := &kinesis.ListShardsInput{StreamName: &n.config.StreamName}
	for again := 0; ; {
		out, err := n.client.ListShards(ctx, in)
		if aws.Code(err) == expiredNextToken && in.NextToken != nil && again < 3 {
			again++
			shards, in = nil, &kinesis.ListShardsInput{StreamName: &n.config.StreamName}
			continue
		}
		if err != nil {
			return nil, aws.Fault(n.doing("list the shards of"), err)
		}
		for i := range out.Shards {
			shards = append(shards, listed(&out.Shards[i]))
		}
		if out.NextToken == nil || *out.NextToken == "" {
			return shards, nil
		}
		in = &kinesis.ListShardsInput{NextToken: out.NextToken}
	}
}

func listed(s *types.Shard) lease.Shard {
	out := lease.Shard{ID: sdk.ToString(s.ShardId), Range: hashRange(s.HashKeyRange)}
	for _, parent := range []*string{s.ParentShardId, s.AdjacentParentShardId} {
		if parent != nil && *parent != "" {
			out.Parents = append(out.Parents, *parent)
		}
	}
	if r := s.SequenceNumberRange; r != nil {
		out.First, out.Closed = sdk.ToString(r.StartingSequenceNumber), r.EndingSequenceNumber != nil
	}
	return out
}

func hashRange(r *types.HashKeyRange) lease.HashRange {
	if r == nil {
		return lease.HashRange{}
	}
	return lease.HashRange{From: sdk.ToString(r.StartingHashKey), To: sdk.ToString(r.EndingHashKey)}
}

// children are the shards that an answer names as those that follow.
func children(of []types.ChildShard) []lease.Shard {
	var out []lease.Shard
	for i := range of {
		out = append(out, lease.Shard{ID: sdk.ToString(of[i].ShardId), Parents: of[i].ParentShards, Range: hashRange(of[i].HashKeyRange)})
	}
	return out
}

// registerPatience is how long a new consumer may take to become active.
const registerPatience = time.Minute

// register finds the consumer of enhanced fan-out, and makes it where there is none.
func (n *session) register(ctx context.Context) (arn string, err error) {
	name, doing := n.config.ConsumerName, n.doing(fmt.Sprintf("register consumer %q of", n.config.ConsumerName))
	_, err = n.client.RegisterStreamConsumer(ctx, &kinesis.RegisterStreamConsumerInput{StreamARN: &n.arn, ConsumerName: &name})
	switch aws.Code(err) {
	case "", inUse: // the answer says that it is being made; or it is there
	case limitExceeded:
		return "", fault.New(fault.Setup, fmt.Errorf("%s: the stream has as many consumers as it may have: remove one with \"aws kinesis deregister-stream-consumer\", or leave out consumer_name to poll; %w", doing, err))
	default:
		return "", aws.Fault(doing, err)
	}
	if err != nil && aws.Code(err) == "" {
		return "", aws.Fault(doing, err)
	}
	for until := time.Now().Add(registerPatience); ; {
		out, err := n.client.DescribeStreamConsumer(ctx, &kinesis.DescribeStreamConsumerInput{StreamARN: &n.arn, ConsumerName: &name})
		if err != nil && fault.Of(aws.Fault(doing, err)) == fault.Setup && aws.Code(err) != notFound {
			return "", aws.Fault(doing, err)
		}
		if err == nil && out.ConsumerDescription != nil && out.ConsumerDescription.ConsumerStatus == types.ConsumerStatusActive {
			return sdk.ToString(out.ConsumerDescription.ConsumerARN), nil
		}
		if time.Now().After(until) {
			return "", errors.Join(fmt.Errorf("%s: it is not active after %s", doing, registerPatience), err)
		}
		if err := pause(ctx, time.Second); err != nil {
			return "", err
		}
	}
}

// pause waits.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
