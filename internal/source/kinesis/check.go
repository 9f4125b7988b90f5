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
)

// Check implements connector.Checker: it finds the stream, lists its shards, reads one without
// keeping anything, and looks at the consumer and at the leases. It changes nothing.
func (s *Source) Check(ctx context.Context) error {
	n, err := s.newSession(ctx)
	if err != nil {
		return err
	}
	defer n.hangUp()
	if err := n.describe(ctx); err != nil {
		return err
	}
	shards, err := n.Shards(ctx, time.Time{})
	if err != nil {
		return err
	}
	if len(shards) == 0 {
		return fault.New(fault.Setup, fmt.Errorf("stream %s has no shards", s.config.StreamName))
	}
	return errors.Join(n.checkReading(ctx, shards[0].ID), n.checkConsumer(ctx), s.checkLeases(ctx, n))
}

// checkReading proves that records may be read, and decrypted.
func (n *session) checkReading(ctx context.Context, shard string) error {
	found, err := n.client.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{
		StreamName: &n.config.StreamName, ShardId: &shard, ShardIteratorType: types.ShardIteratorTypeTrimHorizon,
	})
	if err == nil && n.config.ConsumerName == "" {
		_, err = n.client.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: found.ShardIterator, Limit: sdk.Int32(1)})
	}
	if err = aws.Fault(n.doing("read a shard of"), err); fault.Of(err) == fault.Throttled {
		return nil // others read it: it can be read
	}
	return err
}

// checkConsumer looks at the consumer of enhanced fan-out.
func (n *session) checkConsumer(ctx context.Context) error {
	name := n.config.ConsumerName
	if name == "" {
		return nil
	}
	out, err := n.client.DescribeStreamConsumer(ctx, &kinesis.DescribeStreamConsumerInput{StreamARN: &n.arn, ConsumerName: &name})
	if aws.Code(err) == notFound {
		return nil // it is registered at the start
	}
	if err != nil {
		return aws.Fault(n.doing("describe the consumer of"), err)
	}
	if d := out.ConsumerDescription; d != nil && d.ConsumerStatus == types.ConsumerStatusDeleting {
		return fault.New(fault.Setup, fmt.Errorf("consumer %q of stream %s is being deleted: wait, or use another consumer_name", name, n.config.StreamName))
	}
	return nil
}
