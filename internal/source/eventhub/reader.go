package eventhubsource

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"

	"github.com/weirdata/weir/internal/checkpoint"
	"github.com/weirdata/weir/internal/cloud/azure"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/meter"
)

const (
	keyPartition = "partition" // of log lines

	// noSequence stands for no position at all, unknownSequence for one that is known by its
	// offset only.
	noSequence      = -1 << 62
	unknownSequence = -1 << 61

	// mostOpen is how many reads of a partition may be open at once; a further one waits.
	mostOpen = 10_000
	// firstPause and longestPause are how long a partition is left alone whose link failed.
	firstPause   = 200 * time.Millisecond
	longestPause = 15 * time.Second
	// tolerated is how many failures in a row are no reason for Read to fail: a token is renewed,
	// a service moved.
	tolerated = 3
	// closePatience is how long the other side may take to end a link with us.
	closePatience = 3 * time.Second
	// linkPatience is how long it may take to open a link.
	linkPatience = 30 * time.Second
	// askPatience is how long the service may take to say how far a partition is.
	askPatience = 15 * time.Second
)

// chunk is events of one partition that were received together, or what is left of them.
type chunk struct {
	r     *reader
	batch event.Batch
	at    []position
}

// reader reads one partition as long as its holding lasts.
type reader struct {
	s         *Source
	run       *run
	h         *holding
	partition string
	open      *checkpoint.Tracker[position]

	mu      sync.Mutex
	saved   mark     // as it was seen last
	free    position // the highest that may be saved
	moved   bool     // free was set since the last save
	last    position // of the last event that was handed over; where the next link begins
	started bool     // last is known
	waits   time.Time
	kick    context.CancelFunc // ends the link; nil while there is none
	begins  int64              // first sequence number that the service has, as it said last
	end     int64              // last sequence number that it has
	known   bool               // both are
	// silences counts the links that had to be opened again since something was received.
	silences int
}

// read reads until the holding ends. It hands over chunks in order.
func (r *reader) read(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.run.busy.Go(func() {
		select {
		case <-r.h.lost:
			cancel()
		case <-ctx.Done():
		}
	})
	pause, failures := firstPause, 0
	for ctx.Err() == nil {
		link, kick := context.WithCancel(ctx)
		r.mu.Lock()
		r.kick = kick // before it is asked whether it may read: a pause that comes now ends the link
		r.mu.Unlock()
		if !r.mayRead(ctx) {
			kick()
			return
		}
		received, err := r.link(link)
		again := link.Err() != nil
		kick()
		if ctx.Err() != nil {
			return
		}
		if received {
			pause, failures = firstPause, 0
		}
		if again {
			continue // a replay wants the partition, or the link was silent
		}
		if azure.Condition(err) == azure.Stolen {
			r.h.end("the service has ended its link: another reader has the partition")
			return
		}
		if failures++; failures > tolerated {
			r.run.failing(r, err)
		}
		r.s.log.Warn("a partition cannot be read, trying again", keyPartition, r.partition, meter.KeyError, err, meter.KeyDelay, pause)
		wait := time.NewTimer(max(pause, min(fault.After(err), longestPause)))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
		}
		pause = min(2*pause, longestPause)
	}
}

// mayRead waits while replays have the partition; false means that ctx has ended.
func (r *reader) mayRead(ctx context.Context) bool {
	for {
		resumed := r.run.paused(r.partition)
		if resumed == nil {
			return true
		}
		select {
		case <-resumed:
		case <-ctx.Done():
			return false
		}
	}
}

// link opens a link and receives on it until it or ctx ends. received says whether it was of use.
func (r *reader) link(ctx context.Context) (received bool, err error) {
	client, err := r.run.client()
	if err != nil {
		return false, r.s.hub.Fault("read", err)
	}
	if err := r.begin(ctx); err != nil {
		return false, err
	}
	claim, holds := r.h.current()
	if !holds {
		return false, errLost
	}
	o := &azeventhubs.PartitionClientOptions{OwnerLevel: &claim.epoch, StartPosition: r.start(), Prefetch: int32(r.s.config.Prefetch)}
	pc, err := client.NewPartitionClient(r.partition, o)
	if err != nil {
		return false, r.s.hub.Fault("read partition "+r.partition, err)
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closePatience)
		defer cancel()
		if closeErr := pc.Close(closing); closeErr != nil && err == nil {
			err = closeErr
		}
	}()
	done, cancel := context.WithCancel(ctx)
	cancel()
	r.waiting(true)
	defer r.waiting(false)
	for {
		// The time is for a connection that is not made; an open link goes on as it was.
		receiving, enough := context.WithTimeout(ctx, linkPatience)
		events, err := pc.ReceiveEvents(receiving, 1, nil)
		enough()
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return received, r.s.hub.Fault("read partition "+r.partition, err)
		}
		r.waiting(false)
		r.mu.Lock()
		r.silences = 0
		r.mu.Unlock()
		received = true
		r.run.reads(r)
		// What waits in memory comes along; that there is no more is no error.
		if more, err := pc.ReceiveEvents(done, r.s.config.Prefetch, nil); err == nil {
			events = append(events, more...)
		}
		if !r.hand(ctx, events) {
			return received, context.Cause(ctx)
		}
		r.waiting(true)
	}
}

func (r *reader) waiting(is bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waits = time.Time{}
	if is {
		r.waits = time.Now()
	}
}

// hand hands events over to Read, and notes how far they go. A link that ends meanwhile does not
// take away what was received: it is false only when the partition is lost.
func (r *reader) hand(ctx context.Context, events []*azeventhubs.ReceivedEventData) bool {
	c := chunk{r: r, batch: messages(r.s.hub.Name, r.partition, r.s.config.PartitionKey == keySource, events), at: make([]position, len(events))}
	for i, e := range events {
		c.at[i] = position{e.SequenceNumber, e.Offset}
	}
	select {
	case r.run.chunks <- c:
		r.mu.Lock()
		r.last = c.at[len(c.at)-1]
		r.mu.Unlock()
		return true
	case <-ctx.Done():
		return false
	}
}

// start is where the next link begins.
func (r *reader) start() azeventhubs.StartPosition {
	r.mu.Lock()
	last := r.last
	r.mu.Unlock()
	return r.s.after(last)
}

// after is behind a position.
func (s *Source) after(last position) azeventhubs.StartPosition {
	switch {
	case last.offset != "":
		return azeventhubs.StartPosition{Offset: &last.offset}
	case last.sequence >= 0:
		return azeventhubs.StartPosition{SequenceNumber: &last.sequence}
	case last.sequence == noSequence && !s.startAt.IsZero():
		return azeventhubs.StartPosition{EnqueuedTime: &s.startAt, Inclusive: true}
	}
	return azeventhubs.StartPosition{Earliest: new(true)}
}

// begin finds where the partition is read from, once.
func (r *reader) begin(ctx context.Context) error {
	r.mu.Lock()
	started := r.started
	r.mu.Unlock()
	if started {
		return nil
	}
	asking, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	cp, err := r.s.ledger.checkpoint(asking, r.partition)
	if err != nil {
		return err
	}
	there := cp.version != "" || cp.offset != ""
	if cp.version != "" && cp.offset == "" && cp.sequence == noSequence {
		there = false
	}
	if !there {
		cp.position = position{sequence: noSequence}
	}
	p, err := r.run.ask(asking, r.partition)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.saved = cp
	r.begins, r.end, r.known = p.BeginningSequenceNumber, p.LastEnqueuedSequenceNumber, true
	r.mu.Unlock()
	switch {
	case there:
		if err := r.compare(cp.position, p); err != nil {
			return err
		}
	case r.s.config.StartPosition == latest && r.s.startAt.IsZero():
		// Written down before it is read from: whoever reads on later begins there too.
		end := position{p.LastEnqueuedSequenceNumber, p.LastEnqueuedOffset}
		if end.offset == "" {
			end.offset = "-1"
		}
		if err := r.write(asking, end); err != nil {
			return err
		}
		cp.position = end
	}
	r.mu.Lock()
	r.last, r.started = cp.position, true
	r.mu.Unlock()
	return nil
}

// compare holds a checkpoint against what the partition still has.
func (r *reader) compare(cp position, p azeventhubs.PartitionProperties) error {
	if cp.sequence == unknownSequence || cp.sequence == noSequence {
		return nil
	}
	if cp.sequence > p.LastEnqueuedSequenceNumber {
		return fault.New(fault.Setup, fmt.Errorf("the checkpoint of partition %s of %s is event %d, and its last event is %d: the hub was made anew; delete the checkpoints of consumer group %s, and it is read from where start_position says",
			r.partition, r.s.hub.Name, cp.sequence, p.LastEnqueuedSequenceNumber, r.s.config.ConsumerGroup))
	}
	if gone := p.BeginningSequenceNumber - (cp.sequence + 1); gone > 0 {
		r.s.log.Error("events were removed by the hub's retention before they were read", keyPartition, r.partition, meter.KeyMessages, gone, "first", cp.sequence+1, "last", p.BeginningSequenceNumber-1)
	}
	return nil
}

// settled notes that everything up to a position may be saved.
func (r *reader) settled(resolve func() (position, bool)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p, moved := resolve(); moved {
		r.free, r.moved = p, true
	}
}

// save saves how far the partition is settled, if that has moved.
func (r *reader) save(ctx context.Context) error {
	r.mu.Lock()
	free, moved := r.free, r.moved
	r.mu.Unlock()
	if !moved {
		return nil
	}
	if err := r.write(ctx, free); err != nil {
		return err
	}
	r.mu.Lock()
	if r.free == free {
		r.moved = false
	}
	r.mu.Unlock()
	return nil
}

// write writes a checkpoint, unless one that is further is there.
func (r *reader) write(ctx context.Context, to position) error {
	for range 3 {
		claim, holds := r.h.current()
		if !holds {
			return errLost
		}
		r.mu.Lock()
		was := r.saved
		r.mu.Unlock()
		if was.sequence >= to.sequence {
			return nil // the owner before has gone further, while this one read the same again
		}
		now, err := r.s.ledger.save(ctx, claim, was, to)
		switch {
		case errors.Is(err, errChanged):
			if now, err = r.s.ledger.checkpoint(ctx, r.partition); err != nil {
				return err
			}
			r.note(now)
			continue
		case err != nil:
			return err
		}
		r.note(now)
		return nil
	}
	return fmt.Errorf("save the checkpoint of partition %s: %w", r.partition, errChanged)
}

func (r *reader) note(cp mark) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.saved = cp
}

// behind is how many events the partition has that were not read.
func (r *reader) behind() (int64, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.last.sequence
	if !r.known || !r.started || last == unknownSequence || last == noSequence && !r.s.startAt.IsZero() {
		return 0, false
	}
	return max(r.end-max(last, r.begins-1), 0), true
}

// idle reports whether the link has waited for longer than d.
func (r *reader) idle(d time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.waits.IsZero() && time.Since(r.waits) > d
}

// silent is how many links in a row have brought nothing for longer than d, though there is more;
// 0 while this one may still.
func (r *reader) silent(d time.Duration) int {
	n, known := r.behind()
	paused := r.run.paused(r.partition) != nil
	r.mu.Lock()
	defer r.mu.Unlock()
	if !known || n == 0 || paused || r.waits.IsZero() || time.Since(r.waits) <= d {
		return 0
	}
	r.silences++
	return r.silences
}

// reopen ends the link that there is; read opens another.
func (r *reader) reopen() {
	r.mu.Lock()
	kick := r.kick
	r.mu.Unlock()
	if kick != nil {
		kick()
	}
}
