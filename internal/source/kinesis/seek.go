package kinesissource

import (
	"context"
	"fmt"
	"io"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/weirdata/weir/internal/cloud/aws"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/kinesis/aggregate"
	"github.com/weirdata/weir/internal/kinesis/lease"
)

// Seek implements connector.Seeker. It needs no lease. Each answer begins with the last record of
// the one before, so that records which the stream trims meanwhile are missed and not passed over.
func (s *Source) Seek(ctx context.Context, r connector.Range) (connector.Replay, error) {
	n := s.current()
	if n == nil {
		return nil, errClosed
	}
	if r.Stream != n.config.StreamName {
		return nil, fault.New(fault.Invalid, fmt.Errorf("seek in stream %q: this source reads stream %q", r.Stream, n.config.StreamName))
	}
	first, err := sequenceOf(r.First)
	if err != nil {
		return nil, fault.New(fault.Invalid, fmt.Errorf("seek in shard %s: %w", r.Partition, err))
	}
	last, err := sequenceOf(r.Last)
	if err != nil {
		return nil, fault.New(fault.Invalid, fmt.Errorf("seek in shard %s: %w", r.Partition, err))
	}
	p := &replay{n: n, shard: &shard{n: n, id: r.Partition}, at: first, first: lease.Position{Sequence: first, Sub: r.First.Sub}, last: lease.Position{Sequence: last, Sub: r.Last.Sub}}
	if p.first.Compare(p.last) > 0 {
		return nil, fault.New(fault.Invalid, fmt.Errorf("seek in shard %s: the range ends at %s, before it begins at %s", r.Partition, p.last, p.first))
	}
	if n.apart && n.config.ForeignRecords == foreignDrop { // what was left out is left out again
		shards, err := n.Shards(ctx, time.Time{})
		if err != nil {
			return nil, err
		}
		for i := range shards {
			if shards[i].ID == r.Partition {
				p.shard.belongs(shards[i].Range)
			}
		}
	}
	return p, nil
}

// replay reads a range of a shard again.
type replay struct {
	n           *session
	shard       *shard // its name and keys
	first, last lease.Position
	at          string // the record that the next answer begins with
	begun       bool   // at was read
	over        bool
	asked       time.Time
	waiting     []types.Record // fetched, to be read
	user        int            // the next of the first of them
	builder     builder
}

// Close implements connector.Replay.
func (p *replay) Close() error { return nil }

// Read implements connector.Replay.
func (p *replay) Read(ctx context.Context, room connector.Room) (event.Batch, error) {
	if p.n.ctx.Err() != nil {
		return nil, errClosed
	}
	b := &p.builder
	b.begin(room, p.n.config.MaxBatchMessages)
	for {
		for len(p.waiting) > 0 && !b.full {
			p.take(b)
		}
		if len(b.entries) > 0 {
			return p.n.build(b.entries, []segment{{shard: p.shard, to: len(b.entries)}}), nil
		}
		if p.over {
			return nil, io.EOF
		}
		if err := p.fetch(ctx); err != nil {
			return nil, err
		}
	}
}

// take reads of the first record that waits what fits.
func (p *replay) take(b *builder) {
	r := &p.waiting[0]
	var users []aggregate.Record
	if p.n.apart {
		users, _ = aggregate.Read(nil, r.Data)
	}
	if users == nil {
		if !b.fits(len(r.Data)) {
			return
		}
		b.add(entry{record: r}, len(r.Data))
	}
	for ; p.user < len(users); p.user++ {
		at := lease.Position{Sequence: *r.SequenceNumber, Sub: uint64(p.user)}
		if at.Compare(p.first) < 0 || at.Compare(p.last) > 0 || p.n.config.ForeignRecords == foreignDrop && p.shard.foreign(&users[p.user]) {
			continue
		}
		if !b.fits(len(users[p.user].Data)) {
			return
		}
		b.add(entry{r, &users[p.user], at.Sub}, len(users[p.user].Data))
	}
	p.user = 0
	p.waiting = p.waiting[1:]
}

// fetch gets what follows the record at, which has to be there still.
func (p *replay) fetch(ctx context.Context) error {
	if wait := time.Duration(p.n.config.ReadThrottleDelayMs)*time.Millisecond - time.Since(p.asked); wait > 0 {
		if err := pause(ctx, wait); err != nil {
			return err
		}
	}
	p.asked = time.Now()
	doing := p.n.doing("read a range again of shard " + p.shard.id + " of")
	found, err := p.n.client.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{
		StreamName: &p.n.config.StreamName, ShardId: &p.shard.id, ShardIteratorType: types.ShardIteratorTypeAtSequenceNumber, StartingSequenceNumber: &p.at,
	})
	if code := aws.Code(err); code == invalidArgument || code == notFound {
		return fault.New(fault.Invalid, fmt.Errorf("%s: the shard does not hold position %s any more, or never did: %w", doing, p.at, err))
	}
	if err != nil {
		return aws.Fault(doing, err)
	}
	iterator := sdk.ToString(found.ShardIterator)
	for there := false; ; { // there: the record at was seen
		out, err := p.n.client.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: &iterator, Limit: sdk.Int32(int32(max(p.n.config.GetRecordsLimit, 2)))})
		if err != nil {
			return aws.Fault(doing, err)
		}
		records := out.Records
		if !there && len(records) > 0 {
			if there = *records[0].SequenceNumber == p.at; !there {
				return p.missing("the oldest record is " + *records[0].SequenceNumber)
			}
			if p.begun {
				records = records[1:]
			}
		}
		if len(records) > 0 {
			return p.accept(records)
		}
		iterator = sdk.ToString(out.NextShardIterator)
		if iterator == "" || len(out.Records) == 0 && sdk.ToInt64(out.MillisBehindLatest) == 0 {
			return p.missing("the shard ends before the end of the range, " + p.last.Sequence)
		}
		if err := pause(ctx, time.Duration(p.n.config.ReadThrottleDelayMs)*time.Millisecond); err != nil {
			return err
		}
	}
}

func (p *replay) missing(why string) error {
	return fault.New(fault.Invalid, fmt.Errorf("read a range again of shard %s of stream %s, at %s: it is not all there: %s", p.shard.id, p.n.config.StreamName, p.at, why))
}

// accept takes what is of the range.
func (p *replay) accept(records []types.Record) error {
	for i := range records {
		order := compareSequences(*records[i].SequenceNumber, p.last.Sequence)
		if order > 0 {
			return p.missing("its end, " + p.last.Sequence + ", is no record of the shard")
		}
		if order == 0 {
			p.over, records = true, records[:i+1]
			break
		}
	}
	p.begun, p.at = true, *records[len(records)-1].SequenceNumber
	p.waiting = records
	return nil
}
