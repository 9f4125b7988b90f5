package kinesissource

import (
	"context"
	"errors"
	"slices"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	smithy "github.com/aws/smithy-go/middleware"

	"github.com/weirdata/weir/internal/cloud/aws"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/kinesis/lease"
	"github.com/weirdata/weir/internal/meter"
)

const (
	// Of an answer: what is expected of the first, and the least that is set aside.
	firstAnswer, leastAnswer = 512 << 10, 64 << 10
	// idleShards is how many shards that have nothing new are asked in a second.
	idleShards = 100
)

// poller is the reader of a shard that is asked.
type poller struct {
	*shard
	iterator string
	issued   time.Time
	asked    time.Time // when GetRecords was called last
	expect   int       // bytes of the next answer
	perItem  int       // bytes of a record
	invalid  bool      // the last iterator was refused, and was new
}

// poll reads the shard with GetRecords until ctx ends or the shard does.
func (sh *shard) poll(ctx context.Context) {
	p := &poller{shard: sh, expect: firstAnswer}
	for ctx.Err() == nil {
		if p.iterator == "" || time.Since(p.issued) > p.n.patience.iterator {
			if wait, ok := p.find(ctx); !ok {
				if pause(ctx, wait) != nil {
					return
				}
				continue
			}
		}
		wait, ended := p.fetch(ctx)
		if ended {
			return
		}
		if pause(ctx, wait) != nil {
			return
		}
	}
}

// place is where to read on: what every start of reading is made from.
type place struct {
	kind     types.ShardIteratorType
	sequence *string
	at       *time.Time
}

// place is after the last record that was fetched. Before the first it is where the holding
// begins, and once it was asked for what comes from then on, the instant of that.
func (sh *shard) place() place {
	switch {
	case sh.after != "":
		return place{kind: types.ShardIteratorTypeAfterSequenceNumber, sequence: &sh.after}
	case sh.afresh.Load():
		return place{kind: types.ShardIteratorTypeTrimHorizon}
	case sh.begin.IsRecord():
		return place{kind: types.ShardIteratorTypeAtSequenceNumber, sequence: &sh.begin.Sequence}
	case sh.begin == lease.AtTimestamp:
		return place{kind: types.ShardIteratorTypeAtTimestamp, at: &sh.n.start.Time}
	case sh.begin == lease.Latest && !sh.since.IsZero():
		return place{kind: types.ShardIteratorTypeAtTimestamp, at: &sh.since}
	case sh.begin == lease.Latest:
		return place{kind: types.ShardIteratorTypeLatest}
	}
	return place{kind: types.ShardIteratorTypeTrimHorizon}
}

// early waits for a start that is in the future, which Kinesis refuses.
func (sh *shard) early() time.Duration {
	if sh.after == "" && sh.begin == lease.AtTimestamp {
		return min(time.Until(sh.n.start.Time), time.Minute)
	}
	return 0
}

// find gets an iterator. When it does not, it says how long to wait.
func (p *poller) find(ctx context.Context) (wait time.Duration, ok bool) {
	if wait := p.early(); wait > 0 {
		return wait, false
	}
	at, began := p.place(), time.Now()
	out, err := p.n.client.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{
		StreamName: &p.n.config.StreamName, ShardId: &p.id, ShardIteratorType: at.kind, StartingSequenceNumber: at.sequence, Timestamp: at.at,
	})
	if err != nil {
		return p.astray(ctx, at, err), false
	}
	if at.kind == types.ShardIteratorTypeLatest {
		p.since = serverTime(out.ResultMetadata, time.Since(began))
	}
	p.iterator, p.issued = sdk.ToString(out.ShardIterator), time.Now()
	return 0, true
}

// serverTime is an instant before which an answer was not made that took so long, by the clock
// of who made it.
func serverTime(m smithy.Metadata, took time.Duration) time.Time {
	at, ok := middleware.GetServerTime(m)
	if !ok {
		at = time.Now()
	}
	return at.UTC().Truncate(time.Second).Add(-took)
}

// astray is how long to wait after a place to read from was refused.
func (sh *shard) astray(ctx context.Context, at place, err error) time.Duration {
	code := aws.Code(err)
	if code == notFound { // the shard, or the stream; some mean the sequence number
		listed, err := sh.listed(ctx)
		switch {
		case err != nil:
			return sh.complain(err)
		case !listed:
			sh.log.Warn("the stream does not have the shard any more: it counts as read to its end")
			sh.end(ctx, nil)
			return 0
		}
	}
	if (code == invalidArgument || code == notFound) && at.sequence != nil {
		if sh.n.config.InvalidPosition == invalidTrimHorizon {
			sh.log.Warn("the position is none of the shard: it is read from its oldest record", "position", *at.sequence, meter.KeyError, aws.Fault("find it", err))
			sh.afresh.Store(true)
			sh.after = ""
			return 0
		}
		wait := sh.complain(fault.New(fault.Transient, aws.Fault("read the shard on after "+*at.sequence+
			`, which is none of its positions: delete the shard's row in the leases, or set invalid_position = "trim_horizon"`, err)))
		return max(wait, sh.n.patience.astray)
	}
	return sh.complain(aws.Fault(sh.n.doing("find the position in a shard of"), err))
}

// listed reports whether the stream lists the shard.
func (sh *shard) listed(ctx context.Context) (bool, error) {
	shards, err := sh.n.Shards(ctx, time.Time{})
	for i := range shards {
		if shards[i].ID == sh.id {
			return true, nil
		}
	}
	return false, err
}

// complain notes an error of reading, and is how long to wait.
func (sh *shard) complain(err error) time.Duration {
	wait := sh.reading.note(err)
	sh.n.refused(err, sh.reading.since)
	return wait
}

// fetch asks once and hands on what there is. ended says that the reader has nothing more to do.
func (p *poller) fetch(ctx context.Context) (wait time.Duration, ended bool) {
	least := time.Duration(p.n.config.ReadThrottleDelayMs) * time.Millisecond
	if wait := least - time.Since(p.asked); wait > 0 {
		return wait, false
	}
	aside := p.expect
	if p.n.budget.acquire(ctx, aside) != nil {
		return 0, true
	}
	if time.Since(p.issued) > p.n.patience.iterator { // it was waited for long
		p.n.budget.add(-aside)
		p.iterator = ""
		return 0, false
	}
	out, err := p.ask(ctx)
	if err != nil {
		p.n.budget.add(-aside)
		return p.failed(err), ctx.Err() != nil
	}
	p.n.budget.add(costs(out.Records) - aside)
	p.learn(out.Records)
	p.note(len(out.Records), out.MillisBehindLatest)
	p.reading.over()
	p.invalid = false
	p.iterator, p.issued = sdk.ToString(out.NextShardIterator), time.Now()
	if !p.deliver(ctx, out.Records) {
		return 0, true
	}
	if p.iterator == "" {
		return p.over(ctx, children(out.ChildShards))
	}
	if len(out.Records) == 0 && sdk.ToInt64(out.MillisBehindLatest) == 0 {
		return p.n.idle(least), false
	}
	return 0, false
}

// ask calls GetRecords when it is this shard's turn.
func (p *poller) ask(ctx context.Context) (*kinesis.GetRecordsOutput, error) {
	if p.n.turns != nil {
		select {
		case p.n.turns <- struct{}{}:
			defer func() { <-p.n.turns }()
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	p.asked = time.Now()
	limit := p.n.config.GetRecordsLimit
	if p.perItem > 0 { // no more than half of what may wait
		limit = max(min(limit, p.n.config.MaxBufferBytes/2/p.perItem), 1)
	}
	return p.n.client.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: &p.iterator, Limit: sdk.Int32(int32(limit))})
}

// learn expects of the next answer what there was in this one.
func (p *poller) learn(records []types.Record) {
	size := costs(records)
	p.expect = max(size, leastAnswer)
	if len(records) > 0 {
		p.perItem = size / len(records)
	}
}

// failed is how long to wait after GetRecords has failed.
func (p *poller) failed(err error) time.Duration {
	switch code := aws.Code(err); code {
	case expiredIterator:
		p.iterator = ""
		return 0 // the next one is asked for at once
	case invalidArgument, notFound:
		p.iterator = ""
		if !p.invalid && code == invalidArgument { // it may have been the iterator
			p.invalid = true
			return 0
		}
	}
	return p.complain(aws.Fault(p.n.doing("read a shard of"), err))
}

// over is called when there is no further iterator: the shard is closed and was read to its end.
// What does not say which shards follow is looked up, and is no end when none do: nobody would
// read them.
func (p *poller) over(ctx context.Context, follow []lease.Shard) (wait time.Duration, ended bool) {
	if len(follow) == 0 {
		shards, err := p.n.Shards(ctx, time.Time{})
		if err != nil {
			return p.complain(err), ctx.Err() != nil
		}
		listed := false
		for _, s := range shards {
			listed = listed || s.ID == p.id
			if slices.Contains(s.Parents, p.id) {
				follow = append(follow, s)
			}
		}
		if listed && len(follow) == 0 {
			return p.complain(fault.New(fault.Transient, errNoEnd)), false
		}
	}
	p.end(ctx, follow)
	return 0, true
}

var errNoEnd = errors.New("Kinesis says that the shard has ended, and no shard follows it")

// idle is how long to wait before a shard is asked again that has nothing new: longer where there
// are many, so that they cost no more together.
func (n *session) idle(least time.Duration) time.Duration {
	n.mu.Lock()
	many := time.Duration(len(n.held)) * time.Second / idleShards
	n.mu.Unlock()
	return max(least, time.Duration(n.config.IdleDelayMs)*time.Millisecond, many)
}
