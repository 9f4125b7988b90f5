package eventhubsource

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"

	"github.com/weirdata/weir/internal/cloud/azure"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/httpclient"
)

// Source reads the partitions of a hub that it owns.
type Source struct {
	config    Config
	hub       *azure.Hub
	ledger    ledger
	log       *slog.Logger
	startAt   time.Time
	readEvery time.Duration // between questions of how far the partitions are
	silence   time.Duration // how long a link may bring nothing though there is more

	requests *httpclient.Client // to Blob storage; nil where the store has the checkpoints

	mu  sync.Mutex
	run *run // nil while it is not open
}

var (
	_ connector.Source   = (*Source)(nil)
	_ connector.Lagger   = (*Source)(nil)
	_ connector.Seeker   = (*Source)(nil)
	_ connector.Checker  = (*Source)(nil)
	_ connector.Recorder = (*Source)(nil)
)

// Records implements connector.Recorder.
func (s *Source) Records() bool { return s.config.Checkpoints == nil }

// Open implements connector.Source. What the other side has to say comes with Read.
func (s *Source) Open(ctx context.Context) error {
	if err := s.Close(ctx); err != nil { // what an Open opened before
		return err
	}
	id, err := instance()
	if err != nil {
		return fault.New(fault.Setup, err)
	}
	r := &run{s: s, id: id, chunks: make(chan chunk), trouble: make(chan struct{}, 1), readers: map[string]*reader{}, pauses: map[string]*pause{}, failed: map[*reader]error{}}
	r.ctx, r.stop = context.WithCancel(context.WithoutCancel(ctx))
	r.owner = &coordinator{ledger: s.ledger, me: id, every: time.Duration(s.config.BalanceIntervalMillis) * time.Millisecond,
		lasts: time.Duration(s.config.OwnershipExpiryMillis) * time.Millisecond, log: s.log, list: r.partitions, gained: r.gained}
	s.mu.Lock()
	s.run = r
	s.mu.Unlock()
	r.busy.Go(r.own)
	r.busy.Go(r.saves)
	r.busy.Go(r.watches)
	return nil
}

// Close implements connector.Source. What was settled is saved, and partitions are given back.
func (s *Source) Close(ctx context.Context) error {
	s.mu.Lock()
	r := s.run
	s.run = nil
	s.mu.Unlock()
	if r == nil {
		return nil
	}
	err := r.close(ctx)
	if s.requests != nil {
		s.requests.Close()
	}
	return err
}

func (s *Source) current() *run {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.run
}

// part is the messages of one reader in one Read.
type part struct {
	r       *reader
	n       int
	resolve func() (position, bool)
}

// Read implements connector.Source.
func (s *Source) Read(ctx context.Context, room connector.Room) (event.Batch, connector.Ack, error) {
	r := s.current()
	if r == nil {
		return nil, nil, errors.New("the source is not open")
	}
	limit, size := room.Within(s.config.MaxBatchMessages, s.config.MaxBatchBytes)
	var b event.Batch
	var parts []part
	bytes := 0
	for len(b) < limit {
		c, err := r.next(ctx, len(b) == 0)
		if err != nil {
			return nil, nil, err
		}
		if c == nil {
			break
		}
		n := 0
		for n < len(c.batch) && len(b)+n < limit && (len(b)+n == 0 || bytes+len(c.batch[n].Data) <= size) {
			bytes += len(c.batch[n].Data)
			n++
		}
		if n == 0 {
			break
		}
		resolve, err := c.r.open.Track(ctx, c.at[n-1])
		if err != nil {
			if len(b) > 0 {
				break
			}
			return nil, nil, err
		}
		b = append(b, c.batch[:n]...)
		parts = append(parts, part{c.r, n, resolve})
		r.took(n)
	}
	return b, acknowledges(parts), nil
}

// acknowledges is the ack of a read: each partition goes as far as all before is settled.
func acknowledges(parts []part) connector.Ack {
	return func(_ context.Context, o event.Outcomes) error {
		at := 0
		for _, p := range parts {
			if o == nil || o[at:at+p.n].Err() == nil {
				p.r.settled(p.resolve)
			}
			at += p.n
		}
		return nil
	}
}

// Lag implements connector.Lagger: how far the partitions are behind that are read here, as the
// service said within the last seconds.
func (s *Source) Lag(context.Context) ([]connector.Lag, error) {
	r := s.current()
	if r == nil {
		return nil, errors.New("the source is not open")
	}
	var lags []connector.Lag
	for _, reader := range r.all() {
		l := connector.Lag{Stream: s.hub.Name, Partition: reader.partition, Messages: connector.Unknown, Bytes: connector.Unknown, Age: connector.Unknown}
		if n, known := reader.behind(); known {
			l.Messages = n
			if n == 0 {
				l.Age = 0
			}
		}
		lags = append(lags, l)
	}
	slices.SortFunc(lags, func(a, b connector.Lag) int { return compareNames(a.Partition, b.Partition) })
	return lags, nil
}

// compareNames orders names of partitions, which are numbers.
func compareNames(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Check implements connector.Checker: the hub, the group, and where checkpoints are kept.
func (s *Source) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	client, err := s.hub.Consumer(s.config.ConsumerGroup, "weir check")
	if err != nil {
		return s.hub.Fault("come to", err)
	}
	defer func() { _ = client.Close(context.WithoutCancel(ctx)) }()
	found, err := client.GetEventHubProperties(ctx, nil)
	if err != nil {
		return s.hub.Fault("ask for", err)
	}
	if len(found.PartitionIDs) == 0 {
		return fault.New(fault.Setup, fmt.Errorf("%s has no partitions", s.hub.Name))
	}
	// A reader without an epoch takes nothing away from those that are there.
	pc, err := client.NewPartitionClient(found.PartitionIDs[0], &azeventhubs.PartitionClientOptions{StartPosition: azeventhubs.StartPosition{Latest: new(true)}})
	if err != nil {
		return s.hub.Fault("read", err)
	}
	looking, stop := context.WithTimeout(ctx, 3*time.Second)
	defer stop()
	_, err = pc.ReceiveEvents(looking, 1, nil)
	_ = pc.Close(context.WithoutCancel(looking))
	if err != nil && looking.Err() == nil && azure.Condition(err) != azure.Stolen {
		return s.hub.Fault("read in consumer group "+s.config.ConsumerGroup, err)
	}
	if s.config.Checkpoints == nil {
		return nil
	}
	defer s.requests.Close()
	if err := s.ledger.open(ctx); err != nil {
		return err
	}
	_, err = s.ledger.owners(ctx)
	return err
}

// status is the code of an answer over HTTP; 0 for other errors.
func status(err error) int {
	if e, ok := errors.AsType[*azcore.ResponseError](err); ok {
		return e.StatusCode
	}
	return 0
}
