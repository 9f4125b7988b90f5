package eventhubsource

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"

	"github.com/weirdata/weir/internal/checkpoint"
	"github.com/weirdata/weir/internal/cloud/azure"
	"github.com/weirdata/weir/internal/meter"
)

// askEvery is the least time between two questions: the service answers 50 in a second.
const askEvery = 50 * time.Millisecond

// instance is the name of this instance, which no other has and which says where it runs.
func instance() (string, error) {
	host, err := os.Hostname()
	if err != nil {
		host = "weir"
	}
	var id [8]byte
	if _, err := rand.Read(id[:]); err != nil {
		return "", fmt.Errorf("make a name for this instance: %w", err)
	}
	return host + "-" + hex.EncodeToString(id[:]), nil
}

// run is what a source does from Open to Close.
type run struct {
	s       *Source
	id      string
	ctx     context.Context
	stop    context.CancelFunc
	owner   *coordinator
	busy    sync.WaitGroup // goroutines
	chunks  chan chunk
	trouble chan struct{} // has an element when Read may have to fail
	left    *chunk        // of Read: what there was no room for

	unanswered int // questions of watches in a row

	mu       sync.Mutex
	readers  map[string]*reader
	pauses   map[string]*pause // of partitions that replays have
	failed   map[*reader]error // of readers that cannot read
	owning   error             // of the last round
	consumer *azeventhubs.ConsumerClient
	asks     *azeventhubs.ProducerClient
	retired  sync.WaitGroup // clients that are being closed
}

// own opens the ledger and has partitions claimed.
func (r *run) own() {
	for r.ctx.Err() == nil {
		opening, cancel := context.WithTimeout(r.ctx, askPatience)
		err := r.s.ledger.open(opening)
		cancel()
		if err == nil {
			break
		}
		r.round(err)
		r.sleep(time.Duration(r.s.config.BalanceIntervalMillis) * time.Millisecond)
	}
	r.owner.run(r.ctx, r.round)
}

func (r *run) sleep(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.ctx.Done():
	}
}

// round notes how a look at the ledger went.
func (r *run) round(err error) {
	if r.ctx.Err() != nil {
		return
	}
	r.mu.Lock()
	was := r.owning
	r.owning = err
	r.mu.Unlock()
	if err != nil {
		if was == nil || was.Error() != err.Error() {
			r.s.log.Warn("partitions cannot be claimed or renewed, trying again", meter.KeyError, err)
		}
		r.wake()
	}
}

func (r *run) wake() {
	select {
	case r.trouble <- struct{}{}:
	default:
	}
}

// failing notes that a reader cannot read, reads that it can.
func (r *run) failing(of *reader, err error) {
	r.mu.Lock()
	r.failed[of] = err
	r.mu.Unlock()
	r.wake()
}

func (r *run) reads(of *reader) {
	r.mu.Lock()
	delete(r.failed, of)
	r.mu.Unlock()
}

// troubled is why nothing can be read; nil while something can.
func (r *run) troubled() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.readers) == 0 {
		return r.owning
	}
	if len(r.failed) < len(r.readers) {
		return nil
	}
	for _, err := range r.failed {
		return err
	}
	return nil
}

// gained begins to read a partition.
func (r *run) gained(h *holding, partition string) {
	reader := &reader{s: r.s, run: r, h: h, partition: partition, open: checkpoint.New[position](mostOpen), last: position{sequence: noSequence}}
	r.mu.Lock()
	r.readers[partition] = reader
	r.mu.Unlock()
	r.busy.Go(func() {
		reader.read(r.ctx)
		r.mu.Lock()
		if r.readers[partition] == reader && r.ctx.Err() == nil {
			delete(r.readers, partition)
		}
		delete(r.failed, reader)
		r.mu.Unlock()
	})
}

func (r *run) all() []*reader {
	r.mu.Lock()
	defer r.mu.Unlock()
	rs := make([]*reader, 0, len(r.readers))
	for _, reader := range r.readers {
		rs = append(rs, reader)
	}
	return rs
}

// next is the chunk to read from, which took shortens; nil when there is none and wait is not set.
func (r *run) next(ctx context.Context, wait bool) (*chunk, error) {
	for {
		if r.left == nil {
			c, err := r.receive(ctx, wait)
			if err != nil || c == nil {
				return nil, err
			}
			r.left = c
		}
		// What another instance reads now is not read here.
		if _, holds := r.left.r.h.current(); holds {
			return r.left, nil
		}
		r.left = nil
	}
}

func (r *run) receive(ctx context.Context, wait bool) (*chunk, error) {
	select {
	case c := <-r.chunks:
		return &c, nil
	default:
	}
	if !wait {
		return nil, nil
	}
	for {
		select {
		case c := <-r.chunks:
			return &c, nil
		case <-r.trouble:
			if err := r.troubled(); err != nil {
				return nil, err
			}
		case <-r.ctx.Done():
			return nil, errors.New("the source was closed")
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// took notes that n messages of the chunk were read.
func (r *run) took(n int) {
	r.left.batch, r.left.at = r.left.batch[n:], r.left.at[n:]
	if len(r.left.batch) == 0 {
		r.left = nil
	}
}

// saves saves checkpoints from time to time.
func (r *run) saves() {
	every := time.Duration(r.s.config.CheckpointIntervalMillis) * time.Millisecond
	for r.ctx.Err() == nil {
		r.sleep(every)
		r.save(r.ctx)
	}
}

// save saves what is settled. What cannot be saved is saved with the next that can.
func (r *run) save(ctx context.Context) {
	slots := make(chan struct{}, atOnce)
	var busy sync.WaitGroup
	for _, reader := range r.all() {
		busy.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			saving, cancel := context.WithTimeout(ctx, askPatience)
			defer cancel()
			err := reader.save(saving)
			switch {
			case err == nil || ctx.Err() != nil:
			case errors.Is(err, errLost):
				reader.h.end(errLost.Error())
			default:
				r.s.log.Warn("a checkpoint could not be saved, trying again: after a crash, what was settled since the last one is read again", keyPartition, reader.partition, meter.KeyError, err)
			}
		})
	}
	busy.Wait()
}

// client is the connection to the service.
func (r *run) client() (*azeventhubs.ConsumerClient, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.consumer == nil {
		c, err := r.s.hub.Consumer(r.s.config.ConsumerGroup, r.id)
		if err != nil {
			return nil, err
		}
		r.consumer = c
	}
	return r.consumer, nil
}

// renew has readers use a new connection: what the one there is is used for fails.
func (r *run) renew() {
	r.mu.Lock()
	c := r.consumer
	r.consumer = nil
	r.mu.Unlock()
	if c != nil {
		r.retire(c)
	}
}

// retire closes a connection.
func (r *run) retire(c interface{ Close(context.Context) error }) {
	r.retired.Go(func() {
		closing, cancel := context.WithTimeout(context.Background(), closePatience)
		defer cancel()
		_ = c.Close(closing)
	})
}

// partitions are those of the hub.
func (r *run) partitions(ctx context.Context) ([]string, error) {
	p, err := answered(ctx, r, func(ctx context.Context, a *azeventhubs.ProducerClient) (azeventhubs.EventHubProperties, error) {
		return a.GetEventHubProperties(ctx, nil)
	})
	if err != nil {
		return nil, r.s.hub.Fault("ask for the partitions of", err)
	}
	return p.PartitionIDs, nil
}

// ask asks how far a partition is.
func (r *run) ask(ctx context.Context, partition string) (azeventhubs.PartitionProperties, error) {
	p, err := answered(ctx, r, func(ctx context.Context, a *azeventhubs.ProducerClient) (azeventhubs.PartitionProperties, error) {
		return a.GetPartitionProperties(ctx, partition, nil)
	})
	return p, r.s.hub.Fault("ask for partition "+partition+" of", err)
}

// answered asks the service something. The client waits for an answer whatever ctx says, so it is
// waited for apart; a connection that does not answer in time is closed, and the wait with it.
// It is a client that could write, because one that reads leaves a goroutine behind when it is
// closed after a question.
func answered[T any](ctx context.Context, r *run, question func(context.Context, *azeventhubs.ProducerClient) (T, error)) (T, error) {
	type answer struct {
		t   T
		err error
	}
	a, err := r.asker()
	if err != nil {
		var none T
		return none, err
	}
	asking, cancel := context.WithTimeout(ctx, askPatience)
	answers := make(chan answer, 1)
	r.busy.Go(func() {
		defer cancel()
		t, err := question(asking, a)
		answers <- answer{t, err}
	})
	var got answer
	select {
	case got = <-answers:
	case <-asking.Done():
		select {
		case got = <-answers: // it has ended on its own, and asking with it
		default:
			got.err = context.Cause(asking)
		}
	}
	// A client does not open its connection for questions again once it has failed.
	if got.err != nil && ctx.Err() == nil && !azure.Answered(got.err) {
		r.mu.Lock()
		if r.asks == a {
			r.asks = nil
		}
		r.mu.Unlock()
		r.retire(a)
	}
	return got.t, got.err
}

func (r *run) asker() (*azeventhubs.ProducerClient, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.asks == nil {
		a, err := r.s.hub.Producer(0)
		if err != nil {
			return nil, err
		}
		r.asks = a
	}
	return r.asks, nil
}

// watches asks from time to time how far the partitions are, and has links opened again that
// bring nothing though there is more.
func (r *run) watches() {
	for r.ctx.Err() == nil {
		r.sleep(r.s.readEvery)
		for _, reader := range r.all() {
			if r.ctx.Err() != nil {
				return
			}
			r.watch(reader)
			r.sleep(askEvery)
		}
	}
}

func (r *run) watch(reader *reader) {
	p, err := r.ask(r.ctx, reader.partition)
	if err != nil {
		if r.ctx.Err() == nil {
			r.s.log.Warn("the service does not say how far a partition is", keyPartition, reader.partition, meter.KeyError, err)
			if r.unanswered++; r.unanswered > tolerated {
				r.failing(reader, err)
			}
		}
		return
	}
	r.unanswered = 0
	if reader.idle(r.s.readEvery) {
		r.reads(reader) // the service answers, and the link has not failed for a while
	}
	reader.mu.Lock()
	reader.begins, reader.end, reader.known = p.BeginningSequenceNumber, p.LastEnqueuedSequenceNumber, true
	reader.mu.Unlock()
	switch reader.silent(r.s.silence) {
	case 0:
	case 1:
		r.s.log.Warn("a link brings nothing though there is more: opening it again", keyPartition, reader.partition)
		reader.reopen()
	default: // the other links of the connection may be as silent
		r.s.log.Warn("a new link brings nothing either though there is more: opening another connection", keyPartition, reader.partition)
		r.renew()
	}
}

// close ends everything: what is settled is saved, partitions are given back.
func (r *run) close(ctx context.Context) error {
	// Who is called with a context that has ended still gives back, within a time of its own.
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*closePatience)
	defer cancel()
	r.save(closing)
	r.stop()
	r.renew()
	r.mu.Lock()
	asks := r.asks
	r.asks = nil
	r.mu.Unlock()
	if asks != nil {
		r.retire(asks)
	}
	r.busy.Wait()
	r.renew() // one that was made meanwhile
	r.retired.Wait()
	return r.owner.close(closing)
}
