// Package kinesissource is the source "kinesis": it reads the records of a Kinesis stream,
// whose shards it shares with other instances through leases (package kinesis/lease).
//
// # A shard
//
// Each shard that is held has one reader, which polls it or is pushed its records (enhanced
// fan-out), and one committer, which writes how far it was delivered. What was fetched waits
// until there is room for it, within a budget of bytes of all shards; a reader fetches one
// answer ahead and no more. Nothing here is done for each message but making it.
//
// # Positions
//
// The position of a message is the sequence number of its record, and its place in it where the
// record is an aggregate of the Kinesis Producer Library. A reader that lost its iterator goes on
// after the last record it was given; before the first one, from the instant at which it had
// asked for what comes from then on. A position that was kept is read again, and what it covers
// left out: so nothing is skipped, and it shows when the stream has trimmed records that were not
// read.
//
// # Invariants
//
//   - A position is written only when everything of the shard up to it is settled
//     (invariant 1), and none that is not behind the last.
//   - A shard's end is written when all of it is settled; only then are its children read.
//   - A lease that is lost stops the reading of that shard and of no other: what was fetched is
//     thrown away, and acks for what was handed on have no effect.
//   - An error of one shard is tried again, with a growing wait of its own, and said. The source
//     fails only by what no shard gets past: the leases, or what somebody must change.
package kinesissource

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"

	"github.com/weirdata/weir/internal/cloud/aws"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/kinesis/lease"
	"github.com/weirdata/weir/internal/meter"
)

// Source reads a stream.
type Source struct {
	config Config
	deps   connector.Deps
	log    *slog.Logger
	// coordinate makes who gives out the shards, and patience is how long things may take; tests
	// have their own.
	coordinate func(context.Context, *session) (coordinator, error)
	patience   patience

	mu      sync.Mutex
	session *session // from Open to Close
}

var (
	_ connector.Lagger   = (*Source)(nil)
	_ connector.Seeker   = (*Source)(nil)
	_ connector.Checker  = (*Source)(nil)
	_ connector.Troubled = (*Source)(nil)
)

// patience is how long things may take.
type patience struct {
	// answer is for one request, but for subscriptions.
	answer time.Duration
	// silence is how long a subscription may be silent: events come every few seconds, also when
	// there are no records. Time in which nobody takes what came does not count.
	silence time.Duration
	// closed is how long a subscription may bring nothing before the list of shards is looked at.
	closed time.Duration
	// setup is how long Kinesis may refuse all readers before the source gives up and is
	// started again, so that it is seen to be down.
	setup time.Duration
	// astray is how long a shard waits whose position is none of it.
	astray time.Duration
	// iterator is how old an iterator may be that is used; Kinesis keeps it for five minutes.
	iterator time.Duration
}

var usualPatience = patience{answer: 30 * time.Second, silence: 35 * time.Second, closed: 30 * time.Second, setup: 30 * time.Second, astray: 30 * time.Second, iterator: 4 * time.Minute}

// coordinator gives out shards to read.
type coordinator interface {
	Open(ctx context.Context) error
	Next(ctx context.Context) (holding, error)
	Close(ctx context.Context) error
	// SubSequences says whether positions within a record are kept.
	SubSequences() bool
	Worker() string
	// Trouble is why the leases cannot be looked at; nil when they can.
	Trouble() error
}

// holding is one holding of one shard.
type holding interface {
	Shard() lease.Shard
	Position() lease.Position
	Lost() <-chan struct{}
	Held() bool
	Save(ctx context.Context, p lease.Position) error
	Finish(ctx context.Context, children []lease.Shard) error
	Release(ctx context.Context) error
}

func newSource(d connector.Deps, c Config) *Source {
	s := &Source{config: c, deps: d, log: d.Log, patience: usualPatience}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.coordinate = s.coordinator
	return s
}

// session is a source from Open to Close. What is left of one does nothing to the next.
type session struct {
	config   Config
	patience patience
	log      *slog.Logger
	cfg      sdk.Config
	client   *kinesis.Client
	// streaming is for clients whose answers do not end; nil when shards are polled.
	streaming *sdk.Config
	start     lease.Start
	leases    coordinator
	// apart says that aggregates are taken apart, and within that a position in one is kept.
	apart, within bool
	arn, consumer string // of the stream; of the consumer, empty when shards are polled

	ctx    context.Context
	stop   context.CancelCauseFunc
	busy   sync.WaitGroup
	budget budget
	turns  chan struct{} // polls at the same moment; nil is no limit
	wake   chan struct{} // has an element when there may be something to read
	reads  builder       // of Read, which one goroutine calls

	mu     sync.Mutex
	ready  []*shard // have records, in the order of their turns
	held   map[*shard]struct{}
	failed error
	good   time.Time // when Kinesis last answered a reader as it should

	foreign, broken tally

	list         sync.Mutex
	listedAt     time.Time
	closedShards map[string]bool
}

var errClosed = errors.New("the source was closed")

// newSession reaches Kinesis, and is not begun.
func (s *Source) newSession(ctx context.Context) (*session, error) {
	a := s.config.access(s.deps.Version)
	a.Timeout = s.patience.answer
	cfg, err := aws.Load(ctx, a)
	if err != nil {
		return nil, err
	}
	n := &session{
		config: s.config, patience: s.patience, log: s.log, cfg: cfg, client: kinesis.NewFromConfig(cfg), start: s.config.start(),
		budget: budget{limit: s.config.MaxBufferBytes}, wake: make(chan struct{}, 1), held: map[*shard]struct{}{},
		foreign: tally{what: "in an aggregate, and of another shard", log: s.log},
		broken:  tally{what: "with the checksum of an aggregate and none; delivered as they are", log: s.log},
	}
	if s.config.ConsumerName != "" {
		a.Streaming = true
		cfg, err := aws.Load(ctx, a)
		if err != nil {
			return nil, err
		}
		n.streaming = &cfg
	}
	if most := s.config.MaxConcurrentShards; most > 0 {
		n.turns = make(chan struct{}, most)
	}
	return n, nil
}

// hangUp closes the connections of a session that is not used any more.
func (n *session) hangUp() {
	aws.Close(n.cfg)
	if n.streaming != nil {
		aws.Close(*n.streaming)
	}
}

// Open implements connector.Source.
func (s *Source) Open(ctx context.Context) error {
	if err := s.Close(ctx); err != nil { // of an Open that failed
		return err
	}
	n, err := s.newSession(ctx)
	if err != nil {
		return err
	}
	if err := s.reach(ctx, n); err != nil {
		n.hangUp()
		return err
	}
	n.ctx, n.stop = context.WithCancelCause(context.WithoutCancel(ctx))
	s.mu.Lock()
	s.session = n
	s.mu.Unlock()
	if err := n.leases.Open(ctx); err != nil {
		return fmt.Errorf("take leases of stream %s: %w", s.config.StreamName, err)
	}
	n.within = n.leases.SubSequences()
	n.apart = s.config.Deaggregation == splitOn || s.config.Deaggregation == splitAuto && n.within
	n.busy.Go(n.gain)
	return nil
}

// reach finds the stream, the consumer and who gives out the shards.
func (s *Source) reach(ctx context.Context, n *session) (err error) {
	if err := n.describe(ctx); err != nil {
		return err
	}
	if s.config.ConsumerName != "" {
		if n.consumer, err = n.register(ctx); err != nil {
			return err
		}
	}
	n.leases, err = s.coordinate(ctx, n)
	return err
}

// current is the session that is open; nil when none is.
func (s *Source) current() *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.session
}

// Trouble implements connector.Troubled: nothing is delivered for long without the leases, which
// are kept trying for. What Kinesis refuses to all readers ends the source instead.
func (s *Source) Trouble() error {
	n := s.current()
	if n == nil || n.leases == nil {
		return nil
	}
	if err := n.leases.Trouble(); err != nil {
		return fmt.Errorf("look at the leases of stream %s: %w", n.config.StreamName, err)
	}
	return nil
}

// Close implements connector.Source. How far each shard was delivered is written, and the
// shards are given back.
func (s *Source) Close(ctx context.Context) error {
	s.mu.Lock()
	n := s.session
	s.session = nil
	s.mu.Unlock()
	if n == nil {
		return nil
	}
	return n.close(ctx)
}

func (n *session) close(ctx context.Context) error {
	n.stop(errClosed)
	n.busy.Wait() // their context has ended
	n.mu.Lock()
	left := make([]*shard, 0, len(n.held))
	for sh := range n.held {
		left = append(left, sh)
	}
	n.mu.Unlock()
	err := flush(ctx, left)
	if e := n.leases.Close(ctx); e != nil {
		err = errors.Join(err, fmt.Errorf("give back the shards of stream %s: %w", n.config.StreamName, e))
	}
	n.hangUp()
	n.foreign.say(time.Now(), true)
	n.broken.say(time.Now(), true)
	return err
}

// gain reads the shards that this instance comes to hold.
func (n *session) gain() {
	for {
		h, err := n.leases.Next(n.ctx)
		if err != nil {
			if n.ctx.Err() == nil {
				n.fail(fmt.Errorf("hold shards of stream %s: %w", n.config.StreamName, err))
			}
			return
		}
		sh := newShard(n, h)
		n.mu.Lock()
		n.held[sh] = struct{}{}
		n.mu.Unlock()
		n.busy.Go(sh.run)
	}
}

// fail has Read return err from now on.
func (n *session) fail(err error) {
	n.mu.Lock()
	if n.failed == nil {
		n.failed = err
	}
	n.mu.Unlock()
	n.poke()
}

func (n *session) poke() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// answered notes that Kinesis gave a reader what it asked for.
func (n *session) answered(now time.Time) {
	n.mu.Lock()
	n.good = now
	n.mu.Unlock()
}

// refused notes an error of a reader that somebody must do something about: the source fails
// with it when no reader has got an answer for some time.
func (n *session) refused(err error, since time.Time) {
	if fault.Of(err) != fault.Setup || time.Since(since) < n.patience.setup {
		return
	}
	n.mu.Lock()
	silent := time.Since(n.good) >= n.patience.setup
	n.mu.Unlock()
	if silent {
		n.fail(err)
	}
}

// Read implements connector.Source.
func (s *Source) Read(ctx context.Context, room connector.Room) (event.Batch, connector.Ack, error) {
	n := s.current()
	if n == nil {
		return nil, nil, errClosed
	}
	for {
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		n.mu.Lock()
		failed := n.failed
		n.mu.Unlock()
		if failed != nil {
			return nil, nil, failed
		}
		b, ack, err := n.read(ctx, room)
		if err != nil || len(b) > 0 {
			return b, ack, err
		}
		select {
		case <-n.wake:
		case <-n.ctx.Done():
			return nil, nil, context.Cause(n.ctx)
		case <-ctx.Done():
		}
	}
}

// tally counts what is odd, and says so at most once a minute.
type tally struct {
	what string
	log  *slog.Logger

	mu    sync.Mutex
	count int
	total int
	last  time.Time
}

func (t *tally) add(k int) {
	if k == 0 {
		return
	}
	t.mu.Lock()
	t.count += k
	t.total += k
	t.mu.Unlock()
	t.say(time.Now(), false)
}

func (t *tally) say(now time.Time, all bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.count == 0 || !all && now.Sub(t.last) < time.Minute {
		return
	}
	t.log.Warn("records that are odd", "what", t.what, meter.KeyMessages, t.count, "total", t.total)
	t.count, t.last = 0, now
}
