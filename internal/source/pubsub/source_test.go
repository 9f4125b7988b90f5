package pubsubsource_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weirdata/weir/internal/cloud/gcp/pubsubtest"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	pubsubsource "github.com/weirdata/weir/internal/source/pubsub"
)

// build makes a source of the subscription "events" at an endpoint, not opened.
func build(t testing.TB, endpoint string, change func(*pubsubsource.Config)) *pubsubsource.Source {
	t.Helper()
	made, err := pubsubsource.Entry.Build(t.Context(), connector.Deps{Log: slog.New(slog.DiscardHandler)}, func(into any) error {
		c := into.(*pubsubsource.Config)
		c.ProjectID, c.SubscriptionID, c.Endpoint = pubsubtest.Project, "events", endpoint
		if change != nil {
			change(c)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return made.(*pubsubsource.Source)
}

func opens(t testing.TB, s *pubsubsource.Source) *pubsubsource.Source {
	t.Helper()
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	return s
}

// portion is what one Read returned.
type portion struct {
	batch event.Batch
	ack   connector.Ack
}

func (p portion) settle(t testing.TB, o event.Outcomes) error {
	t.Helper()
	ctx, done := context.WithTimeout(context.Background(), pubsubtest.Patience)
	defer done()
	return p.ack(ctx, o)
}

// next reads once, and past errors that are retried.
func next(t testing.TB, s *pubsubsource.Source, room connector.Room) portion {
	t.Helper()
	ctx, done := context.WithTimeout(t.Context(), pubsubtest.Patience)
	defer done()
	for {
		b, ack, err := s.Read(ctx, room)
		if err == nil {
			return portion{b, ack}
		}
		if k := fault.Of(err); ctx.Err() != nil || k != fault.Transient && k != fault.Throttled {
			t.Fatalf("Read: %v", err)
		}
	}
}

// reads reads until it has n messages.
func reads(t testing.TB, s *pubsubsource.Source, n int) (ps []portion) {
	t.Helper()
	for n > 0 {
		p := next(t, s, connector.Room{})
		n -= len(p.batch)
		ps = append(ps, p)
	}
	return ps
}

// nothingFor reads, and fails if anything comes within d.
func nothingFor(t testing.TB, s *pubsubsource.Source, d time.Duration) {
	t.Helper()
	ctx, done := context.WithTimeout(t.Context(), d)
	defer done()
	for ctx.Err() == nil {
		if b, _, err := s.Read(ctx, connector.Room{}); err == nil {
			t.Fatalf("%q was delivered once more", b[0].Data)
		}
	}
}

func put(t testing.TB, s *pubsubtest.Server, n int) {
	t.Helper()
	for i := range n {
		s.Put(t, "events", &pubsubpb.PubsubMessage{Data: fmt.Appendf(nil, "message %04d", i)})
	}
}

func TestConformance(t *testing.T) { // not parallel: it looks for goroutines
	for name, change := range map[string]func(*pubsubpb.Subscription){
		"plain":        nil,
		"exactly once": func(s *pubsubpb.Subscription) { s.EnableExactlyOnceDelivery = true },
	} {
		t.Run(name, func(t *testing.T) {
			conntest.Source(t, conntest.SourceCase{
				Setup: func(t *testing.T, payloads [][]byte) func() connector.Source {
					s := pubsubtest.New(t)
					s.Subscribe(t, "events", change)
					for _, p := range payloads {
						m := &pubsubpb.PubsubMessage{Data: p}
						if len(p) == 0 {
							m.Attributes = map[string]string{"empty": "yes"}
						}
						s.Put(t, "events", m)
					}
					return func() connector.Source {
						return build(t, s.Endpoint(), func(c *pubsubsource.Config) {
							c.MaxOutstandingMessages = 10_000 // the suite acknowledges nothing for long
							c.StreamingPullGoroutines = 50    // the fake sends a message each 10 ms
							c.MinExtensionPeriodSeconds = 10
						})
					}
				},
				Features: conntest.SourceFeatures{Acknowledges: true, Remembers: true, Binary: true, Empty: true, Slow: 4 * time.Second},
			})
		})
	}
}

func TestMessages(t *testing.T) {
	t.Parallel()
	s := pubsubtest.New(t)
	s.Subscribe(t, "events", nil)
	attributes := map[string]string{"b": "2", "a": "1", "empty": ""}
	id := s.Put(t, "events", &pubsubpb.PubsubMessage{Data: []byte("data"), Attributes: attributes, OrderingKey: "key"})
	for option, key := range map[string]string{"source": "key", "random": ""} {
		src := opens(t, build(t, s.Endpoint(), func(c *pubsubsource.Config) { c.PartitionKey = option }))
		before := time.Now()
		m := next(t, src, connector.Room{}).batch[0]
		if string(m.Data) != "data" || m.Key != key || m.Meta.ID != id {
			t.Errorf("%s: read %q with key %q and id %q", option, m.Data, m.Key, m.Meta.ID)
		}
		if diff := cmp.Diff(event.HeadersOf(attributes), m.Meta.Headers); diff != "" {
			t.Error(diff)
		}
		published := s.Message(id).PublishTime
		o := m.Meta.Origin
		if !m.Times.Created.Equal(published) || !o.At.Equal(published) || o.Stream != pubsubtest.Subscription("events") || o.Partition != "key" {
			t.Errorf("created %s, origin %+v; published %s", m.Times.Created, o, published)
		}
		if m.Times.Read.Before(before.Add(-time.Minute)) {
			t.Errorf("read at %s", m.Times.Read)
		}
		if err := src.Close(t.Context()); err != nil { // gives the message back, for the next
			t.Error(err)
		}
	}
}

// TestAcknowledgementIsRetried: while acknowledgements fail, the lease is extended, nothing is
// delivered twice, and the Ack waits until it is confirmed.
func TestAcknowledgementIsRetried(t *testing.T) {
	t.Parallel()
	s := pubsubtest.New(t)
	s.Subscribe(t, "events", nil)
	put(t, s, 3)
	src := build(t, s.Endpoint(), nil)
	pubsubsource.Lease(src, 2*time.Second, 50*time.Millisecond)
	opens(t, src)
	var mu sync.Mutex
	begin, failures := time.Now(), 0
	s.On("Acknowledge", func(any) error {
		mu.Lock()
		defer mu.Unlock()
		if time.Since(begin) < 5*time.Second {
			failures++
			return status.Error(codes.Unavailable, "not now")
		}
		return nil
	})
	for _, p := range reads(t, src, 3) {
		if err := p.settle(t, nil); err != nil {
			t.Error(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if failures < 2 {
		t.Errorf("%d acknowledgements failed: the test shows nothing", failures)
	}
	for _, m := range s.Published("events") {
		if m.Deliveries != 1 || m.Acks != 1 || len(m.Modacks) < 2 {
			t.Errorf("%s: %d deliveries, %d acknowledgements, %d extensions", m.Data, m.Deliveries, m.Acks, len(m.Modacks))
		}
	}
}

// TestRefusedAcknowledgement: what the service says it will not take is reported as not
// confirmed, alone, and the message comes again; what may pass later is sent again.
func TestRefusedAcknowledgement(t *testing.T) {
	t.Parallel()
	s := pubsubtest.New(t)
	s.Subscribe(t, "events", func(sub *pubsubpb.Subscription) { sub.EnableExactlyOnceDelivery = true })
	put(t, s, 4)
	src := build(t, s.Endpoint(), func(c *pubsubsource.Config) { c.StreamingPullGoroutines = 1 })
	pubsubsource.Lease(src, 3*time.Second, 100*time.Millisecond)
	opens(t, src)
	ps := reads(t, src, 4)
	var mu sync.Mutex
	later := false
	s.On("Acknowledge", func(r any) error {
		mu.Lock()
		defer mu.Unlock()
		words, special := map[string]string{}, false
		for _, id := range r.(*pubsubpb.AcknowledgeRequest).GetAckIds() {
			words[id] = "TRANSIENT_FAILURE_OTHER"
			switch name, _, _ := strings.Cut(id, ":"); {
			case name == "m0":
				words[id], special = "PERMANENT_FAILURE_INVALID_ACK_ID", true
			case name == "m1" && !later:
				later, special = true, true
			}
		}
		if !special {
			return nil
		}
		return pubsubtest.Refusal(codes.FailedPrecondition, words)
	})
	unconfirmed := 0
	for _, p := range ps {
		if err := p.settle(t, nil); err != nil {
			u, ok := errors.AsType[*connector.Unconfirmed](err)
			if !ok {
				t.Fatal(err)
			}
			unconfirmed += u.Messages
		}
	}
	if unconfirmed != 1 {
		t.Errorf("%d messages are reported as not confirmed, want 1", unconfirmed)
	}
	s.On("Acknowledge", nil)
	p := next(t, src, connector.Room{})
	if len(p.batch) != 1 || p.batch[0].Meta.ID != "m0" {
		t.Errorf("delivered again: %d messages, %s", len(p.batch), p.batch[0].Meta.ID)
	}
	if err := p.settle(t, nil); err != nil {
		t.Error(err)
	}
	for _, m := range s.Published("events") {
		if m.Acks != 1 {
			t.Errorf("%s: %d acknowledgements", m.Data, m.Acks)
		}
	}
}

// TestStreamsThatEnd: the service ends streams all the time, and no more is delivered twice than
// was on its way then.
func TestStreamsThatEnd(t *testing.T) {
	t.Parallel()
	s := pubsubtest.New(t)
	s.Subscribe(t, "events", nil)
	const n = 500
	put(t, s, n)
	s.SetStreamTimeout(time.Second)
	src := build(t, s.Endpoint(), func(c *pubsubsource.Config) { c.StreamingPullGoroutines = 2 })
	pubsubsource.Lease(src, 5*time.Second, 100*time.Millisecond)
	opens(t, src)
	seen := map[string]int{}
	for len(seen) < n {
		p := next(t, src, connector.Room{Messages: 100})
		for _, m := range p.batch {
			seen[string(m.Data)]++
		}
		if err := p.settle(t, nil); err != nil {
			t.Error(err)
		}
	}
	twice := 0
	for _, times := range seen {
		twice += times - 1
	}
	if twice > n/10 {
		t.Errorf("%d of %d messages were delivered again", twice, n)
	}
}

// TestCloseGivesBack: what was received and not settled is there for others at once, long before
// its lease would end.
func TestCloseGivesBack(t *testing.T) {
	t.Parallel()
	s := pubsubtest.New(t)
	s.Subscribe(t, "events", nil)
	const n = 50
	put(t, s, n)
	long := func(c *pubsubsource.Config) { c.MinExtensionPeriodSeconds = 600 }
	first := opens(t, build(t, s.Endpoint(), long))
	ps := reads(t, first, 1)
	ps = append(ps, next(t, first, connector.Room{Messages: 1}))
	pubsubtest.Eventually(t, "messages are received that nobody reads", func() bool {
		delivered := 0
		for _, m := range s.Published("events") {
			delivered += m.Deliveries
		}
		return delivered >= 20
	})
	if err := ps[0].settle(t, nil); err != nil {
		t.Error(err)
	}
	failed := make(event.Outcomes, len(ps[1].batch))
	failed[0] = event.ErrUnsettled // and given back, to be delivered after a while
	if err := ps[1].settle(t, failed); err != nil {
		t.Error(err)
	}
	begin := time.Now()
	if err := first.Close(t.Context()); err != nil {
		t.Error(err)
	}
	second := opens(t, build(t, s.Endpoint(), long))
	got := map[string]bool{}
	for _, p := range reads(t, second, n-len(ps[0].batch)) {
		for _, m := range p.batch {
			got[string(m.Data)] = true
		}
	}
	if len(got) != n-len(ps[0].batch) {
		t.Errorf("%d messages were there for the second source, want %d", len(got), n-len(ps[0].batch))
	}
	if took := time.Since(begin); took > 500*time.Second {
		t.Errorf("they were there after %s, when the leases ended", took)
	}
}

// TestGivenBackComesAgain: a message that was not delivered comes again while the source goes on.
func TestGivenBackComesAgain(t *testing.T) {
	t.Parallel()
	s := pubsubtest.New(t)
	s.Subscribe(t, "events", nil)
	put(t, s, 2)
	src := build(t, s.Endpoint(), nil)
	pubsubsource.Returned(src, time.Second)
	opens(t, src)
	for i, p := range reads(t, src, 2) {
		var o event.Outcomes
		if i == 0 {
			o = event.Outcomes{errors.New("the target is away")}
			for len(o) < len(p.batch) {
				o = append(o, nil)
			}
		}
		if err := p.settle(t, o); err != nil {
			t.Error(err)
		}
	}
	p := next(t, src, connector.Room{})
	if len(p.batch) != 1 {
		t.Errorf("%d messages came again", len(p.batch))
	}
	if err := p.settle(t, nil); err != nil {
		t.Error(err)
	}
	nothingFor(t, src, 2*time.Second)
}

// TestNothingIsReceivedWithoutRoom: with much in the subscription, no more is held than the limits
// and the room allow, and one message at least. The fake keeps to no limit that it is told.
func TestNothingIsReceivedWithoutRoom(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*pubsubsource.Config)
		room   connector.Room
		most   int
	}{
		"messages": {func(c *pubsubsource.Config) { c.MaxOutstandingMessages = 20 }, connector.Room{}, 20},
		"bytes":    {func(c *pubsubsource.Config) { c.MaxOutstandingBytes = 100_000 }, connector.Room{}, 11},
		"room":     {nil, connector.Room{Messages: 5, Bytes: 1}, 106},
		"one":      {func(c *pubsubsource.Config) { c.MaxOutstandingBytes = 1 }, connector.Room{}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := pubsubtest.New(t)
			s.Subscribe(t, "events", nil)
			const n = 150
			for i := range n {
				s.Put(t, "events", &pubsubpb.PubsubMessage{Data: append(fmt.Appendf(nil, "%04d", i), make([]byte, 10_000)...)})
			}
			src := opens(t, build(t, s.Endpoint(), func(cfg *pubsubsource.Config) {
				cfg.StreamingPullGoroutines = 3
				if c.change != nil {
					c.change(cfg)
				}
			}))
			highest := 0
			got := map[string]bool{}
			for len(got) < n {
				p := next(t, src, c.room)
				for _, m := range p.batch {
					got[string(m.Data[:4])] = true
				}
				highest = max(highest, pubsubsource.Held(src))
				if err := p.settle(t, nil); err != nil {
					t.Error(err)
				}
			}
			if most := c.most + 2; highest > most { // three streams saw at once that there was room
				t.Errorf("%d messages were held at once, want at most %d", highest, most)
			}
		})
	}
}

// TestErrors: what somebody must change ends the Read with what to do; a service that is away is
// retried, and is there again when it is.
func TestErrors(t *testing.T) {
	t.Parallel()
	s := pubsubtest.New(t)
	missing := opens(t, build(t, s.Endpoint(), nil))
	_, _, err := missing.Read(t.Context(), connector.Room{})
	if fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), "gcloud pubsub subscriptions create projects/project/subscriptions/events") {
		t.Errorf("a subscription that is missing: %v", err)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	away := opens(t, build(t, "http://"+address, nil))
	for range 3 {
		if _, _, err := away.Read(t.Context(), connector.Room{}); fault.Of(err) != fault.Transient || err == nil {
			t.Errorf("a service that is away: %v", err)
		}
	}
	for path, want := range map[string]string{"none.json": "create a key", "source_test.go": "not JSON"} {
		src := build(t, "", func(c *pubsubsource.Config) { c.CredentialsPath = path })
		if err := src.Open(t.Context()); fault.Of(err) != fault.Setup || !strings.Contains(err.Error()+connector.Remedy(err, ""), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	s := pubsubtest.New(t)
	check := func() string {
		err := build(t, s.Endpoint(), nil).Check(t.Context())
		if err != nil && fault.Of(err) != fault.Setup {
			t.Errorf("%s: %v", fault.Of(err), err)
		}
		return fmt.Sprint(err)
	}
	if text := check(); !strings.Contains(text, "gcloud pubsub subscriptions create projects/project/subscriptions/events") {
		t.Error(text)
	}
	s.Subscribe(t, "events", nil)
	if text := check(); text != "<nil>" {
		t.Error(text)
	}
	s.On("GetSubscription", func(any) error { return status.Error(codes.PermissionDenied, "no") })
	if text := check(); !strings.Contains(text, "roles/pubsub.subscriber") {
		t.Error(text)
	}
	s = pubsubtest.New(t)
	s.Subscribe(t, "events", func(sub *pubsubpb.Subscription) {
		sub.PushConfig = &pubsubpb.PushConfig{PushEndpoint: "https://example.com/push"}
	})
	if text := check(); !strings.Contains(text, "modify-push-config") {
		t.Error(text)
	}
}

func TestRefusedConfigs(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*pubsubsource.Config){
		"project_id":                   func(c *pubsubsource.Config) { c.ProjectID = "" },
		"subscription_id":              func(c *pubsubsource.Config) { c.SubscriptionID = "projects/a/topics/b" },
		"max_outstanding_messages":     func(c *pubsubsource.Config) { c.MaxOutstandingMessages = 0 },
		"max_outstanding_bytes":        func(c *pubsubsource.Config) { c.MaxOutstandingBytes = -1 },
		"min_extension_period_seconds": func(c *pubsubsource.Config) { c.MinExtensionPeriodSeconds = 9 },
		"max_extension_seconds":        func(c *pubsubsource.Config) { c.MaxExtensionSeconds = -1 },
		"streaming_pull_goroutines":    func(c *pubsubsource.Config) { c.StreamingPullGoroutines = 101 },
		"grpc_connection_pool_size":    func(c *pubsubsource.Config) { c.GRPCConnectionPoolSize = -1 },
		"partition_key":                func(c *pubsubsource.Config) { c.PartitionKey = "key" },
		"endpoint":                     func(c *pubsubsource.Config) { c.Endpoint = "ftp://localhost:1" },
	} {
		c := *pubsubsource.Entry.Default().(*pubsubsource.Config)
		c.ProjectID, c.SubscriptionID = "p", "s"
		if ps := c.Validate(); len(ps) != 0 {
			t.Fatalf("the default is refused: %v", ps)
		}
		change(&c)
		if ps := c.Validate(); len(ps) != 1 || ps[0].Field != want || ps[0].What == "" || ps[0].Fix == "" {
			t.Errorf("%s: %+v", want, ps)
		}
	}
}

// TestLag: what waits tells how far behind the source is.
func TestLag(t *testing.T) {
	t.Parallel()
	s := pubsubtest.New(t)
	s.Subscribe(t, "events", nil)
	src := build(t, s.Endpoint(), nil)
	lag := func() connector.Lag {
		ls, err := src.Lag(t.Context())
		if err != nil || len(ls) != 1 {
			t.Fatalf("%v, %v", ls, err)
		}
		return ls[0]
	}
	if l := lag(); l.Age != connector.Unknown || l.Messages != connector.Unknown {
		t.Errorf("before Open: %+v", l)
	}
	opens(t, src)
	put(t, s, 5)
	next(t, src, connector.Room{Messages: 1})
	pubsubtest.Eventually(t, "something waits", func() bool { return lag().Age >= 0 })
	if l := lag(); l.Stream != pubsubtest.Subscription("events") || l.Messages != connector.Unknown {
		t.Errorf("%+v", l)
	}
}
