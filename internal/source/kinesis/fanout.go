package kinesissource

import (
	"context"
	"errors"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/weirdata/weir/internal/cloud/aws"
	"github.com/weirdata/weir/internal/kinesis/lease"
)

const (
	// subscribeEvery is the least time between two subscriptions of a consumer to a shard.
	subscribeEvery = time.Second
	// deadSubscriptions is how many may bring nothing in a row before the shard is given back:
	// another instance may have a connection that works.
	deadSubscriptions = 2
)

var (
	errSilent = errors.New("no event came for longer than events take that say that there is nothing")
	errGone   = errors.New("the shard is not held any more")
	errEnded  = errors.New("the subscription ended before an event came")
)

// subscribe reads the shard as it is pushed, until ctx ends or the shard does. A subscription
// ends by itself after five minutes, and another one goes on behind it. The last event of a shard
// names those that follow; one that never comes is made up for by the list of shards.
func (sh *shard) subscribe(ctx context.Context) {
	dead := 0
	for ctx.Err() == nil {
		if wait := sh.early(); wait > 0 {
			if pause(ctx, wait) != nil {
				return
			}
			continue
		}
		began := time.Now()
		r := sh.subscription(ctx)
		switch {
		case ctx.Err() != nil || errors.Is(r.err, errGone):
			return
		case r.ended:
			sh.end(ctx, r.follow)
			return
		case r.closed: // and nothing has said that it was read to its end: polling does
			sh.poll(ctx)
			return
		case aws.Code(r.err) == inUse: // whoever had the shard before, or the subscription before this
			sh.log.Debug("the consumer is still subscribed to the shard, trying again")
			r.wait = subscribeEvery
		case r.err == nil && r.events == 0 && r.wait == 0:
			r.err = errEnded
		}
		if dead++; r.events > 0 || !errors.Is(r.err, errSilent) {
			dead = 0
		}
		if r.err != nil && r.wait == 0 {
			r.wait = sh.complain(aws.Fault(sh.n.doing("subscribe to a shard of"), r.err))
		}
		if dead >= deadSubscriptions {
			sh.log.Warn("the subscription is silent again: the shard is given back")
			return
		}
		if pause(ctx, max(r.wait, subscribeEvery-time.Since(began))) != nil {
			return
		}
	}
}

// subscribed is what came of one subscription.
type subscribed struct {
	events int
	closed bool // the shard takes no more records
	ended  bool // the shard, and follow are those that come of it
	follow []lease.Shard
	err    error
	wait   time.Duration // when err was said already
}

// subscription hands on what one subscription brings.
func (sh *shard) subscription(ctx context.Context) (r subscribed) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	at, began := sh.place(), time.Now()
	// The SDK's clients have one decoder, which reads one stream at a time.
	out, err := kinesis.NewFromConfig(*sh.n.streaming).SubscribeToShard(ctx, &kinesis.SubscribeToShardInput{
		ConsumerARN: &sh.n.consumer, ShardId: &sh.id,
		StartingPosition: &types.StartingPosition{Type: at.kind, SequenceNumber: at.sequence, Timestamp: at.at},
	})
	if err != nil {
		r.err = err
		if code := aws.Code(err); code == invalidArgument || code == notFound {
			r.wait = max(sh.astray(ctx, at, err), subscribeEvery)
		}
		return r
	}
	if at.kind == types.ShardIteratorTypeLatest {
		sh.since = serverTime(out.ResultMetadata, time.Since(began))
	}
	stream := out.GetStream()
	defer func() {
		stop(nil)
		_ = stream.Close() // its error is that of ctx, or was looked at
	}()
	idle := time.Now()
	for r.err == nil && !r.ended && !r.closed {
		quiet := time.NewTimer(sh.n.patience.silence)
		select {
		case e, ok := <-stream.Events():
			if !ok {
				quiet.Stop()
				r.err = stream.Err()
				return r
			}
			if m, ok := e.(*types.SubscribeToShardEventStreamMemberSubscribeToShardEvent); ok {
				r.events++
				r.err = sh.event(ctx, &m.Value)
				r.ended, r.follow = len(m.Value.ChildShards) > 0, children(m.Value.ChildShards)
				if len(m.Value.Records) > 0 || sdk.ToInt64(m.Value.MillisBehindLatest) > 0 {
					idle = time.Now()
				} else if !r.ended && time.Since(idle) >= sh.n.patience.closed {
					idle = time.Now()
					r.closed = sh.n.closed(ctx, sh.id)
				}
			}
		case <-quiet.C:
			r.err = errSilent
		case <-ctx.Done():
			r.err = context.Cause(ctx)
		}
		quiet.Stop()
	}
	return r
}

// event hands on one event.
func (sh *shard) event(ctx context.Context, e *types.SubscribeToShardEvent) error {
	sh.note(len(e.Records), e.MillisBehindLatest)
	sh.reading.over()
	if size := costs(e.Records); size > 0 {
		if err := sh.n.budget.acquire(ctx, size); err != nil {
			return err
		}
	}
	if !sh.deliver(ctx, e.Records) {
		return errGone
	}
	if c := sdk.ToString(e.ContinuationSequenceNumber); c != "" {
		sh.after = c
	}
	return nil
}

// closed reports whether the stream lists a shard as one that takes no more records. The list is
// kept for a time: all shards look at it that have nothing new.
func (n *session) closed(ctx context.Context, id string) bool {
	n.list.Lock()
	defer n.list.Unlock()
	if time.Since(n.listedAt) >= n.patience.closed {
		shards, err := n.Shards(ctx, time.Time{})
		if err != nil {
			return false // it is asked again
		}
		n.listedAt, n.closedShards = time.Now(), map[string]bool{}
		for i := range shards {
			if shards[i].Closed {
				n.closedShards[shards[i].ID] = true
			}
		}
	}
	return n.closedShards[id]
}
