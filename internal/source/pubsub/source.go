// Package pubsubsource is the source "pubsub": it receives the messages of a subscription of
// Google Cloud Pub/Sub by StreamingPull, and acknowledges them once they are settled.
//
// # Leases
//
// A message that was received is leased: nobody else has it until its lease ends. Leases are
// extended until the acknowledgement is confirmed, not only until it is sent, and no longer than
// max_extension_seconds. When one ends in spite of that (the service was away, the limit was
// reached), the message may be delivered again: that is logged, and its acknowledgement is
// reported as not confirmed. A message that comes again while it is still in work is not handed
// out twice; its newest delivery is what is acknowledged.
//
// # Flow
//
// No more is received than the pipeline has room for and max_outstanding_messages and _bytes
// allow: the service is told so for each stream, and a stream is not read while as much is held.
// There is no goroutine for a message. A pipeline whose target is away so holds what it has,
// with its leases, and takes no more; it gives nothing back in a loop.
//
// # Order
//
// Where the subscription keeps the order of ordering keys, those of one key are handed out in
// their order, and acknowledged in it: the settled ones behind one that is not wait for it. What
// is not delivered is given back with all behind it of its key, which the service delivers again
// too, in order.
//
// # Exactly-once delivery
//
// Where the subscription has it, a message is handed out only after its lease is confirmed, and
// an acknowledgement that the service refuses is reported as not confirmed: the message comes
// again. One that may be confirmed later is sent again until it is.
//
// # Connections
//
// A stream that ends is opened again; the service ends each now and then. One that answers
// nothing, though asked, is given up with its connection. Errors are those of Read when no stream
// works: transient ones are retried there, and in the background with a growing wait; a
// subscription that is missing, or may not be used, ends the pipeline, which is started again.
//
// # End
//
// Close stops receiving, sends what is to be acknowledged, and gives back all else at once, so
// that others have it.
package pubsubsource

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"

	"github.com/weirdata/weir/internal/cloud/gcp"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// Entry is the source's place in the registry.
var Entry = connector.Of(connector.Spec[Config, connector.Source]{
	Name:      "pubsub",
	Summary:   "Receives messages of a subscription of Google Cloud Pub/Sub, and acknowledges them when they are settled.",
	Stability: connector.Stable,
	Default:   defaults,
	New: func(ctx context.Context, d connector.Deps, c Config) (connector.Source, error) {
		s, err := New(ctx, d, c)
		if err != nil {
			return nil, err
		}
		return s, nil
	},
})

// Source receives the messages of one subscription.
type Source struct {
	c            Config
	log          *slog.Logger
	access       gcp.Access
	subscription string
	times        times

	mu      sync.Mutex
	session *session // nil while it is not open
}

// times are what the source waits for.
type times struct {
	lease      time.Duration // instead of the config's, if it is set
	look       time.Duration // between looks at the leases
	call       time.Duration // longest for a call
	ping       time.Duration // between questions to a stream whether it works
	pong       time.Duration // longest for the answer
	stop       time.Duration // longest for a stream to end when it is asked to
	flush      time.Duration // longest for Close to send what is to be acknowledged
	returned   time.Duration // until a message is delivered again that was given back, but for at Close
	retry, max time.Duration // first and longest wait before something is tried again
}

var usual = times{
	look: time.Second, call: 15 * time.Second, ping: 30 * time.Second, pong: 15 * time.Second,
	stop: 2 * time.Second, flush: 10 * time.Second, returned: 10 * time.Second, retry: 100 * time.Millisecond, max: 30 * time.Second,
}

var (
	_ connector.Source    = (*Source)(nil)
	_ connector.Lagger    = (*Source)(nil)
	_ connector.Checker   = (*Source)(nil)
	_ connector.Inspector = (*Source)(nil)
)

// New builds the source and touches nothing.
func New(_ context.Context, d connector.Deps, c Config) (*Source, error) {
	if ps := c.Validate(); len(ps) > 0 {
		return nil, fault.New(fault.Setup, fmt.Errorf("pubsub source: %s: %s", ps[0].What, ps[0].Fix))
	}
	path, err := subscriptionPath(c.ProjectID, c.SubscriptionID)
	if err != nil {
		return nil, fault.New(fault.Setup, err)
	}
	credentials, err := d.File("credentials_path", c.CredentialsPath)
	if err != nil {
		return nil, err
	}
	s := &Source{c: c, log: d.Log, subscription: path, times: usual,
		access: gcp.Access{Emulator: "PUBSUB_EMULATOR_HOST", Credentials: credentials, Field: "credentials_path", Endpoint: c.Endpoint, Connections: c.GRPCConnectionPoolSize}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	return s, nil
}

// Inspect implements connector.Inspector.
func (s *Source) Inspect() error { return s.access.Inspect() }

// Open implements connector.Source. It finds the credentials; the service is called first by a
// Read, which says how much there is room for.
func (s *Source) Open(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.session != nil {
		return errors.New("open the pubsub source: it is open already")
	}
	if at := s.access.Emulated(); at != "" {
		s.log.Warn("receiving from an emulator, as the environment says", "variable", s.access.Emulator, "address", at)
	}
	n := s.begin()
	u, err := n.link.Take(ctx)
	if err != nil {
		return errors.Join(err, n.link.Close())
	}
	n.link.Give(u, false)
	s.session = n
	return nil
}

// open is the session, while there is one.
func (s *Source) open() *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.session
}

var errNotOpen = errors.New("the pubsub source is not open")

// Read implements connector.Source.
func (s *Source) Read(ctx context.Context, room connector.Room) (event.Batch, connector.Ack, error) {
	n := s.open()
	if n == nil {
		return nil, nil, errNotOpen
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, context.Cause(ctx)
	}
	n.allow(room)
	messages, bytes := room.Within(s.c.MaxOutstandingMessages, s.c.MaxOutstandingBytes)
	for {
		changed := n.book.next()
		hs, ms, back := n.book.take(time.Now(), messages, bytes)
		n.giveBack(back)
		if len(hs) > 0 {
			return s.batch(ms), func(ctx context.Context, o event.Outcomes) error { return n.settle(ctx, hs, o) }, nil
		}
		if err := n.failure(); err != nil {
			return nil, nil, err
		}
		n.starve()
		select {
		case <-changed:
		case <-n.trouble:
		case <-n.ctx.Done():
			return nil, nil, errNotOpen
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		}
	}
}

// batch is messages as the engine has them.
func (s *Source) batch(ms []*pubsubpb.PubsubMessage) event.Batch {
	payloads := make([][]byte, len(ms))
	for i, m := range ms {
		if payloads[i] = m.GetData(); payloads[i] == nil {
			payloads[i] = []byte{} // a message has a payload, which may be empty
		}
	}
	b := event.NewBatch(time.Now().UTC(), payloads)
	origins := make([]event.Origin, len(ms))
	for i, m := range ms {
		if at := m.GetPublishTime(); at.IsValid() {
			b[i].Times.Created = at.AsTime()
		}
		origins[i] = event.Origin{Stream: s.subscription, Partition: m.GetOrderingKey(), At: b[i].Times.Created}
		b[i].Meta.ID, b[i].Meta.Headers, b[i].Meta.Origin = m.GetMessageId(), event.HeadersOf(m.GetAttributes()), &origins[i]
		if s.c.PartitionKey == sourceKey {
			b[i].Key = m.GetOrderingKey()
		}
	}
	return b
}

// Lag implements connector.Lagger. How many messages a subscription has is told by Google's
// monitoring only; known here is the age of what was received and not read.
func (s *Source) Lag(context.Context) ([]connector.Lag, error) {
	lag := connector.Lag{Stream: s.subscription, Messages: connector.Unknown, Bytes: connector.Unknown, Age: connector.Unknown}
	if n := s.open(); n != nil {
		if at := n.book.oldest(); !at.IsZero() {
			lag.Age = max(time.Since(at), 0)
		}
	}
	return []connector.Lag{lag}, nil
}

// Close implements connector.Source.
func (s *Source) Close(ctx context.Context) error {
	s.mu.Lock()
	n := s.session
	s.session = nil
	s.mu.Unlock()
	if n == nil {
		return nil
	}
	return n.end(ctx)
}
