package kafkasource

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/kafka"
	"github.com/weirdata/weir/internal/meter"
)

// hurried is how long a rebalance waits for messages in flight of a process that is stopping.
const hurried = 2 * time.Second

// assigned notes partitions that are ours from now on.
func (ss *session) assigned(_ context.Context, _ *kgo.Client, now map[string][]int32) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for topic, numbers := range now {
		for _, n := range numbers {
			at := place{topic, n}
			ss.owned[at] = newPartition(at)
		}
		ss.s.log.Info("partitions are assigned", "topic", topic, "partitions", len(numbers))
	}
}

// hurry tells that a rebalance waits for the end of a transaction.
func (ss *session) hurry() {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.pressed = true
	ss.wake()
}

// ending tells those who wait for messages to settle that reading is to end.
func (ss *session) ending() {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.stopping = true
	ss.wake()
}

// revoked gives partitions up: those in flight settle, what is settled is committed. Polls wait
// meanwhile.
func (ss *session) revoked(ctx context.Context, _ *kgo.Client, lost map[string][]int32) {
	ps := ss.leaving(lost)
	if len(ps) == 0 {
		return
	}
	if ss.tx == nil {
		ss.drain(ctx, ps)
		if err := ss.commit(context.WithoutCancel(ctx), ps); err != nil {
			ss.s.log.Warn("positions of partitions that go elsewhere were not committed: their messages are read again", meter.KeyError, err)
		}
	}
	ss.release(ps, "partitions go elsewhere")
}

// lost drops partitions that have another owner already. Nothing of them is committed.
func (ss *session) lost(_ context.Context, _ *kgo.Client, lost map[string][]int32) {
	ss.release(ss.leaving(lost), "partitions were lost, because the group went on without this member")
}

// leaving has nothing of these partitions handed on any more.
func (ss *session) leaving(lost map[string][]int32) []*partition {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	var ps []*partition
	for topic, numbers := range lost {
		for _, n := range numbers {
			if p := ss.owned[place{topic, n}]; p != nil {
				p.leaving = true
				ps = append(ps, p)
			}
		}
	}
	ss.pending = slices.DeleteFunc(ss.pending, func(r run) bool { return r.leaving })
	return ps
}

// drain waits until what is in flight of ps has settled, for half the time that the rebalance
// has.
func (ss *session) drain(ctx context.Context, ps []*partition) {
	end := time.Now().Add(millis(ss.s.config.RebalanceTimeoutMillis) / 2)
	for {
		ss.mu.Lock()
		open := slices.ContainsFunc(ps, func(p *partition) bool { return p.open > 0 })
		changed, closing := ss.changed, ss.closing
		if ss.stopping {
			if soon := time.Now().Add(hurried); soon.Before(end) {
				end = soon
			}
			ss.stopping = false
		}
		ss.mu.Unlock()
		if !open || closing {
			return
		}
		timer := time.NewTimer(time.Until(end))
		select {
		case <-changed:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
			return
		}
	}
}

// release has nothing of ps committed any more.
func (ss *session) release(ps []*partition, why string) {
	if len(ps) == 0 {
		return
	}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	open := 0
	for _, p := range ps {
		p.gone = true
		open += p.open
		if ss.owned[p.place] == p {
			delete(ss.owned, p.place)
		}
	}
	if ss.tx != nil {
		ss.tx.spoiled = ss.tx.spoiled || ss.tx.begun
	}
	ss.wake()
	log := ss.s.log.Info
	if open > 0 {
		log = ss.s.log.Warn
	}
	log(why, "partitions", len(ps), "reads_in_flight_that_are_read_again", open)
}

func isOutOfRange(err error) bool   { return errors.Is(err, kerr.OffsetOutOfRange) }
func isUnknownTopic(err error) bool { return errors.Is(err, kerr.UnknownTopicOrPartition) }
func isUnknownGroup(err error) bool { return errors.Is(err, kerr.GroupIDNotFound) }

// outOfRange decides where a partition goes on whose next message is not there any more. It is
// called between a poll and the end of its block of rebalances, so that the partition stays.
func (ss *session) outOfRange(ctx context.Context, at place) error {
	ss.mu.Lock()
	p := ss.owned[at]
	ss.mu.Unlock()
	if p == nil {
		return nil
	}
	adm := kadm.NewClient(ss.client)
	first, last, err := bounds(ctx, adm, at)
	if err != nil {
		return kafka.Fault(fmt.Errorf("find where topic %q, partition %d begins: %w", at.topic, at.number, err))
	}
	was := ss.position(ctx, adm, p)
	missed := int64(0) // what the topic has deleted
	if was >= 0 && was < first {
		missed = first - was
	}
	to := first
	switch ss.s.config.OffsetOutOfRange {
	case latest:
		to = last
		if was >= 0 && was < last {
			missed = last - was
		}
	case fail:
		err := fault.New(fault.Setup, fmt.Errorf("topic %q, partition %d has no offset %d any more, its messages are %d to %d, and offset_out_of_range is \"fail\": commit another offset for the group (kafka-consumer-groups.sh --reset-offsets), or set offset_out_of_range to earliest or latest",
			at.topic, at.number, was, first, last-1))
		ss.fail(err)
		return err
	}
	ss.s.log.Warn("the next message of a partition is not there any more", "topic", at.topic, "partition", at.number,
		"offset", was, "goes_on_at", to, "messages_passed_over", missed, "offset_out_of_range", ss.s.config.OffsetOutOfRange)
	ss.client.SetOffsets(map[string]map[int32]kgo.EpochOffset{at.topic: {at.number: {Epoch: -1, Offset: to}}})
	return nil
}

// bounds are the offset of the first message of a partition, and that after its last.
func bounds(ctx context.Context, adm *kadm.Client, at place) (first, last int64, err error) {
	starts, err := adm.ListStartOffsets(ctx, at.topic)
	if err != nil {
		return 0, 0, err
	}
	ends, err := adm.ListEndOffsets(ctx, at.topic)
	if err != nil {
		return 0, 0, err
	}
	s, ok := starts.Lookup(at.topic, at.number)
	e, also := ends.Lookup(at.topic, at.number)
	switch {
	case !ok || !also:
		return 0, 0, kerr.UnknownTopicOrPartition
	case s.Err != nil:
		return 0, 0, s.Err
	case e.Err != nil:
		return 0, 0, e.Err
	}
	return s.Offset, e.Offset, nil
}

// next is the offset after what was handed on of p; -1 before the first.
func (ss *session) next(p *partition) int64 {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return p.next
}

// position is the offset that is polled next of p; -1 when nobody knows.
func (ss *session) position(ctx context.Context, adm *kadm.Client, p *partition) int64 {
	ss.mu.Lock()
	next := p.next
	for _, r := range ss.pending {
		if r.partition == p {
			next = r.end.offset
		}
	}
	ss.mu.Unlock()
	if next >= 0 {
		return next
	}
	if of, err := adm.FetchOffsets(ctx, ss.s.config.group()); err == nil {
		if o, ok := of.Lookup(p.topic, p.number); ok && o.Err == nil {
			return o.At
		}
	}
	return -1
}
