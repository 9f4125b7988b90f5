package eventhubsource

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"

	"github.com/weirdata/weir/internal/cloud/azure"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// Seek implements connector.Seeker. The service lets no reader without an epoch in where one with
// an epoch is: in the group that is followed, the partition is not read on until the replay is
// closed.
func (s *Source) Seek(ctx context.Context, r connector.Range) (connector.Replay, error) {
	run := s.current()
	if run == nil {
		return nil, errors.New("the source is not open")
	}
	if r.Stream != s.hub.Name {
		return nil, fault.New(fault.Invalid, fmt.Errorf("read a range of %s again: this source reads %s", r.Stream, s.hub.Name))
	}
	if len(r.First.Bytes) != 8 || len(r.Last.Bytes) != 8 {
		return nil, fault.New(fault.Invalid, errors.New("read a range again: its ends are no positions of Event Hubs"))
	}
	first, last := int64(binary.BigEndian.Uint64(r.First.Bytes)), int64(binary.BigEndian.Uint64(r.Last.Bytes))
	if last < first {
		return nil, fault.New(fault.Invalid, fmt.Errorf("read events %d to %d again: the range ends before it begins", first, last))
	}
	group := s.config.ReplayConsumerGroup
	p := &replay{s: s, partition: r.Partition, next: first, last: last}
	if group == "" {
		group = s.config.ConsumerGroup
		p.paused = run.pause(r.Partition)
	}
	client, err := s.hub.Consumer(group, run.id+"-replay")
	if err != nil {
		return nil, errors.Join(s.hub.Fault("read again", err), p.Close())
	}
	p.client = client
	props, err := run.ask(ctx, r.Partition)
	switch {
	case azure.Missing(err):
		return nil, errors.Join(fault.New(fault.Invalid, err), p.Close())
	case err != nil:
		return nil, errors.Join(err, p.Close())
	case props.BeginningSequenceNumber > first:
		return nil, errors.Join(fault.New(fault.Invalid, fmt.Errorf("read events %d to %d of partition %s of %s again: the hub's retention has removed what is before %d", first, last, r.Partition, s.hub.Name, props.BeginningSequenceNumber)), p.Close())
	case props.LastEnqueuedSequenceNumber < last:
		return nil, errors.Join(fault.New(fault.Invalid, fmt.Errorf("read events %d to %d of partition %s of %s again: its last event is %d; was the hub made anew?", first, last, r.Partition, s.hub.Name, props.LastEnqueuedSequenceNumber)), p.Close())
	}
	return p, nil
}

// pause is how many replays have a partition; resumed is closed when none has it any more.
type pause struct {
	replays int
	resumed chan struct{}
}

// pause has a partition not read until the function it returns is called, also where it is gained
// in the meantime.
func (r *run) pause(partition string) (resume func()) {
	r.mu.Lock()
	p := r.pauses[partition]
	if p == nil {
		p = &pause{resumed: make(chan struct{})}
		r.pauses[partition] = p
	}
	p.replays++
	reader := r.readers[partition]
	r.mu.Unlock()
	if reader != nil {
		reader.reopen()
	}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if p.replays--; p.replays == 0 {
			delete(r.pauses, partition)
			close(p.resumed)
		}
	}
}

// paused is closed when no replay has the partition any more; nil when none has it.
func (r *run) paused(partition string) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.pauses[partition]; p != nil {
		return p.resumed
	}
	return nil
}

// replay reads events from one sequence number to another, both with it.
type replay struct {
	s         *Source
	client    *azeventhubs.ConsumerClient
	pc        *azeventhubs.PartitionClient
	paused    func() // resumes what the replay pauses
	partition string
	next      int64
	last      int64
	left      []*azeventhubs.ReceivedEventData
	stolen    int
}

// Read implements connector.Replay.
func (p *replay) Read(ctx context.Context, room connector.Room) (event.Batch, error) {
	if p.next > p.last {
		return nil, io.EOF
	}
	limit, size := room.Within(p.s.config.MaxBatchMessages, p.s.config.MaxBatchBytes)
	for len(p.left) == 0 {
		if err := p.receive(ctx); err != nil {
			return nil, err
		}
	}
	if at := p.left[0].SequenceNumber; at > p.next {
		return nil, fault.New(fault.Invalid, fmt.Errorf("read event %d of partition %s of %s again: it is not there any more, the next is %d", p.next, p.partition, p.s.hub.Name, at))
	}
	n, bytes := 0, 0
	for n < len(p.left) && n < limit && p.left[n].SequenceNumber <= p.last {
		if bytes += len(p.left[n].Body); n > 0 && bytes > size {
			break
		}
		n++
	}
	b := messages(p.s.hub.Name, p.partition, p.s.config.PartitionKey == keySource, p.left[:n])
	p.next = p.left[n-1].SequenceNumber + 1
	p.left = p.left[n:]
	return b, nil
}

// receive receives what comes next. The link of the reader that makes way may not have ended yet:
// that is waited for.
func (p *replay) receive(ctx context.Context) error {
	if p.pc == nil {
		at := p.next
		pc, err := p.client.NewPartitionClient(p.partition, &azeventhubs.PartitionClientOptions{StartPosition: azeventhubs.StartPosition{SequenceNumber: &at, Inclusive: true}, Prefetch: int32(p.s.config.Prefetch)})
		if err != nil {
			return p.s.hub.Fault("read again", err)
		}
		p.pc = pc
	}
	events, err := p.pc.ReceiveEvents(ctx, 1, nil)
	if err != nil {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closePatience)
		defer cancel()
		_ = p.pc.Close(closing)
		p.pc = nil
		if ctx.Err() == nil && azure.Condition(err) == azure.Stolen && p.stolen < 20 {
			p.stolen++
			wait := time.NewTimer(250 * time.Millisecond)
			defer wait.Stop()
			select {
			case <-wait.C:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return p.s.hub.Fault("read partition "+p.partition+" again", err)
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	if more, err := p.pc.ReceiveEvents(done, p.s.config.Prefetch, nil); err == nil {
		events = append(events, more...)
	}
	p.left = events
	return nil
}

// Close implements connector.Replay.
func (p *replay) Close() error {
	closing, cancel := context.WithTimeout(context.Background(), closePatience)
	defer cancel()
	if p.pc != nil {
		_ = p.pc.Close(closing)
		p.pc = nil
	}
	if p.client != nil {
		_ = p.client.Close(closing)
		p.client = nil
	}
	if p.paused != nil {
		p.paused()
		p.paused = nil
	}
	return nil
}
