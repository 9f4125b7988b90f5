package kafkasource

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/kafka"
)

// Seek implements connector.Seeker, by a client of its own that is no member of the group.
func (s *Source) Seek(ctx context.Context, r connector.Range) (connector.Replay, error) {
	if s.current() == nil {
		return nil, errClosed
	}
	first, err := offsetOf(r.First)
	if err != nil {
		return nil, err
	}
	last, err := offsetOf(r.Last)
	if err != nil {
		return nil, err
	}
	number, err := strconv.ParseInt(r.Partition, 10, 32)
	if err != nil || last < first {
		return nil, fault.New(fault.Invalid, fmt.Errorf("read topic %q again: %q from %d to %d is no part of a partition", r.Stream, r.Partition, first, last))
	}
	at := place{r.Stream, int32(number)}
	client, err := kgo.NewClient(append(s.consuming(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{at.topic: {at.number: kgo.NewOffset().At(first)}}))...)
	if err != nil {
		return nil, fault.New(fault.Setup, err)
	}
	replay := &replay{source: s, client: client, at: newPartition(at), first: first, last: last}
	begin, end, err := bounds(ctx, kadm.NewClient(client), at)
	if err == nil && (first < begin || last >= end) {
		err = replay.deleted(begin, end)
	}
	if isUnknownTopic(err) {
		err = fault.New(fault.Invalid, fmt.Errorf("there is no such partition: %w", err))
	}
	if err != nil {
		client.Close()
		return nil, kafka.Fault(fmt.Errorf("read topic %q, partition %d again: %w", at.topic, at.number, err))
	}
	return replay, nil
}

func offsetOf(p connector.Position) (int64, error) {
	if len(p.Bytes) != 8 || p.Sub != 0 {
		return 0, fault.New(fault.Invalid, fmt.Errorf("% x.%d is no position of the kafka source", p.Bytes, p.Sub))
	}
	return int64(binary.BigEndian.Uint64(p.Bytes)), nil
}

// replay reads the records of a partition from first to last.
type replay struct {
	source      *Source
	client      *kgo.Client
	at          *partition
	first, last int64

	pending []*kgo.Record
	begun   bool
	done    bool
	broken  error
}

func (r *replay) deleted(begin, end int64) error {
	return fault.New(fault.Invalid, fmt.Errorf("the topic does not hold offsets %d to %d any more: it has %d to %d", r.first, r.last, begin, end-1))
}

// Read implements connector.Replay.
func (r *replay) Read(ctx context.Context, room connector.Room) (event.Batch, error) {
	messages, bytes := room.Within(r.source.config.MaxPollRecords, 1<<40)
	for len(r.pending) == 0 {
		if r.broken != nil {
			return nil, r.broken
		}
		if r.done {
			return nil, io.EOF
		}
		if err := r.poll(ctx, messages); err != nil {
			return nil, err
		}
	}
	n := 0
	for n < len(r.pending) && n < messages {
		size := len(r.pending[n].Value)
		if n > 0 && size > bytes {
			break
		}
		bytes -= size
		n++
	}
	b := r.source.messages([]run{{partition: r.at, records: r.pending[:n]}}, n)
	r.pending = r.pending[n:]
	return b, nil
}

// stalled is how long a replay waits for messages that are to be there.
const stalled = 5 * time.Minute

// poll waits for records of the range. Without its first and its last one, it is not whole.
func (r *replay) poll(ctx context.Context, most int) error {
	waiting, cancel := context.WithTimeout(ctx, stalled)
	defer cancel()
	fetches := r.client.PollRecords(waiting, most)
	if ctx.Err() != nil && fetches.Empty() {
		return context.Cause(ctx)
	}
	if errs := fetches.Errors(); len(errs) > 0 {
		if waiting.Err() != nil {
			return fmt.Errorf("read topic %q, partition %d again: no message came for %s", r.at.topic, r.at.number, stalled)
		}
		err := errs[0].Err
		if isOutOfRange(err) {
			err = fault.New(fault.Invalid, fmt.Errorf("the topic does not hold offsets %d to %d any more: %w", r.first, r.last, err))
		}
		err = kafka.Fault(fmt.Errorf("read topic %q, partition %d again: %w", r.at.topic, r.at.number, err))
		if fault.Of(err) != fault.Transient {
			r.broken = err
		}
		return err
	}
	records := fetches.Records()
	records = slices.DeleteFunc(records, isMark)
	for i, rec := range records {
		if !r.begun && rec.Offset != r.first {
			return r.gap(fmt.Sprintf("offset %d is not there any more", r.first))
		}
		r.begun = true
		if rec.Offset > r.last {
			return r.gap(fmt.Sprintf("offset %d is not there any more", r.last))
		}
		if rec.Offset == r.last {
			r.done, records = true, records[:i+1]
			break
		}
	}
	r.pending = records
	return nil
}

// gap is the end of a replay that is not whole.
func (r *replay) gap(what string) error {
	r.broken = fault.New(fault.Invalid, fmt.Errorf("read topic %q, partition %d again: %w", r.at.topic, r.at.number, errors.New(what+": the topic is compacted, or was made anew")))
	return r.broken
}

// Close implements connector.Replay.
func (r *replay) Close() error {
	r.client.Close()
	r.pending, r.broken = nil, errClosed
	return nil
}
