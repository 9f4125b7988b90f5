package pubsubsource_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/weirdata/weir/internal/cloud/gcp/pubsubtest"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/fault"
	pubsubsource "github.com/weirdata/weir/internal/source/pubsub"
)

type stream = pubsubpb.Subscriber_StreamingPullServer

// subscriber is a Pub/Sub that does with each stream what it is told.
type subscriber struct {
	pubsubpb.UnimplementedSubscriberServer
	serve func(n int, first *pubsubpb.StreamingPullRequest, s stream) error // of the n-th stream, from 1

	mu       sync.Mutex
	streams  int
	acked    []string
	extended map[string]int
	refuse   map[string]string // what is said of ids whose lease is to be extended
}

func (p *subscriber) StreamingPull(s stream) error {
	first, err := s.Recv()
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.streams++
	n := p.streams
	p.mu.Unlock()
	return p.serve(n, first, s)
}

func (p *subscriber) Acknowledge(_ context.Context, r *pubsubpb.AcknowledgeRequest) (*emptypb.Empty, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.acked = append(p.acked, r.GetAckIds()...)
	return &emptypb.Empty{}, nil
}

func (p *subscriber) ModifyAckDeadline(_ context.Context, r *pubsubpb.ModifyAckDeadlineRequest) (*emptypb.Empty, error) {
	words := map[string]string{}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range r.GetAckIds() {
		p.extended[id]++
		if word := p.refuse[id]; word != "" {
			words[id] = word
		} else {
			words[id] = "TRANSIENT_FAILURE_OTHER"
		}
	}
	if slices.ContainsFunc(r.GetAckIds(), func(id string) bool { return p.refuse[id] != "" }) {
		return nil, pubsubtest.Refusal(codes.FailedPrecondition, words)
	}
	return &emptypb.Empty{}, nil
}

// extensions is how often the lease of an id was to be extended.
func (p *subscriber) extensions(id string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.extended[id]
}

func (p *subscriber) acknowledged() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.acked)
}

// told starts a subscriber.
func told(t testing.TB, serve func(n int, first *pubsubpb.StreamingPullRequest, s stream) error) (*subscriber, string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p, s := &subscriber{serve: serve, refuse: map[string]string{}, extended: map[string]int{}}, grpc.NewServer()
	pubsubpb.RegisterSubscriberServer(s, p)
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() { s.Stop(); wg.Wait() })
	return p, "http://" + l.Addr().String()
}

// deliver sends a message by a stream.
func deliver(s stream, id, ack, key string, properties *pubsubpb.StreamingPullResponse_SubscriptionProperties) error {
	return s.Send(&pubsubpb.StreamingPullResponse{SubscriptionProperties: properties, ReceivedMessages: []*pubsubpb.ReceivedMessage{
		{AckId: ack, Message: &pubsubpb.PubsubMessage{MessageId: id, Data: []byte(id), OrderingKey: key}},
	}})
}

// answer answers what the client asks, until it has nothing more to say.
func answer(s stream) error {
	for {
		if _, err := s.Recv(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := s.Send(&pubsubpb.StreamingPullResponse{}); err != nil {
			return err
		}
	}
}

// TestStreamThatDoesNotAnswer: a stream that was frozen is given up with its connection, and
// another goes on.
func TestStreamThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	_, endpoint := told(t, func(n int, _ *pubsubpb.StreamingPullRequest, s stream) error {
		if err := deliver(s, fmt.Sprint("m", n), fmt.Sprint("a", n), "", nil); err != nil {
			return err
		}
		if n > 1 {
			return answer(s)
		}
		<-s.Context().Done()
		return nil
	})
	src := build(t, endpoint, nil)
	pubsubsource.Hasten(src, 100*time.Millisecond, 100*time.Millisecond, time.Second)
	opens(t, src)
	for want := range 2 {
		p := next(t, src, connector.Room{})
		if got := string(p.batch[0].Data); got != fmt.Sprint("m", want+1) {
			t.Fatalf("read %s", got)
		}
		if err := p.settle(t, nil); err != nil {
			t.Error(err)
		}
	}
}

// TestWhatIsAskedFor: a stream is opened for what there is room for, and again when all of that
// is in work and there is room for more.
func TestWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	type asked struct {
		n     int
		first *pubsubpb.StreamingPullRequest
	}
	opened := make(chan asked, 100)
	_, endpoint := told(t, func(n int, first *pubsubpb.StreamingPullRequest, s stream) error {
		opened <- asked{n, first}
		for i := range 400 {
			if err := deliver(s, fmt.Sprintf("m%d.%d", n, i), fmt.Sprintf("a%d.%d", n, i), "", nil); err != nil {
				return err
			}
		}
		return answer(s)
	})
	src := opens(t, build(t, endpoint, func(c *pubsubsource.Config) {
		c.StreamingPullGoroutines, c.MaxOutstandingMessages, c.MinExtensionPeriodSeconds = 2, 1000, 45
	}))
	next(t, src, connector.Room{Messages: 301, Bytes: 10 << 20})
	for range 2 {
		f := (<-opened).first
		if f.GetMaxOutstandingMessages() != 151 || f.GetMaxOutstandingBytes() != 5<<20 || f.GetStreamAckDeadlineSeconds() != 45 ||
			f.GetProtocolVersion() != 1 || f.GetClientId() == "" || f.GetSubscription() != pubsubtest.Subscription("events") {
			t.Errorf("asked for %v", f)
		}
	}
	// Nothing is settled, and there is room for more.
	for read, a := 0, (*asked)(nil); a == nil; read++ {
		next(t, src, connector.Room{Messages: 301, Bytes: 10 << 20})
		select {
		case got := <-opened:
			a = &got
			if m := a.first.GetMaxOutstandingMessages(); m <= 151 || m > 500 {
				t.Errorf("the third stream was opened for %d messages", m)
			}
		default:
		}
		if read > 2000 {
			t.Fatal("no stream was opened for more")
		}
	}
}

// TestDeliveredAgainInWork: a message that comes again while it is in work is not handed out
// twice, and its newest delivery is what is acknowledged. One with an ordering key begins anew,
// with what is behind it.
func TestDeliveredAgainInWork(t *testing.T) {
	t.Parallel()
	ordered := &pubsubpb.StreamingPullResponse_SubscriptionProperties{MessageOrderingEnabled: true}
	more := make(chan struct{})
	p, endpoint := told(t, func(_ int, _ *pubsubpb.StreamingPullRequest, s stream) error {
		err := errors.Join(deliver(s, "plain", "p:1", "", ordered), deliver(s, "k1", "k1:1", "k", ordered), deliver(s, "k2", "k2:1", "k", ordered))
		if err != nil {
			return err
		}
		<-more
		err = errors.Join(deliver(s, "plain", "p:2", "", ordered), deliver(s, "k1", "k1:2", "k", ordered), deliver(s, "k2", "k2:2", "k", ordered), deliver(s, "end", "e:1", "", ordered))
		if err != nil {
			return err
		}
		return answer(s)
	})
	src := opens(t, build(t, endpoint, nil))
	first := reads(t, src, 3)
	close(more)
	second := reads(t, src, 3)
	var got []string
	for _, p := range second {
		for _, m := range p.batch {
			got = append(got, string(m.Data))
		}
	}
	if !slices.Equal(got, []string{"k1", "k2", "end"}) {
		t.Fatalf("read again: %q", got)
	}
	for _, p := range append(first, second...) {
		if err := p.settle(t, nil); err != nil {
			t.Error(err)
		}
	}
	ids := p.acknowledged()
	slices.Sort(ids)
	if !slices.Equal(ids, []string{"e:1", "k1:2", "k2:2", "p:2"}) {
		t.Errorf("acknowledged %q", ids)
	}
}

// TestLeaseOfSomebodyElse: with exactly-once delivery, what the service does not confirm to be
// ours is not handed out.
func TestLeaseOfSomebodyElse(t *testing.T) {
	t.Parallel()
	once := &pubsubpb.StreamingPullResponse_SubscriptionProperties{ExactlyOnceDeliveryEnabled: true}
	p, endpoint := told(t, func(_ int, _ *pubsubpb.StreamingPullRequest, s stream) error {
		err := s.Send(&pubsubpb.StreamingPullResponse{SubscriptionProperties: once, ReceivedMessages: []*pubsubpb.ReceivedMessage{
			{AckId: "theirs", Message: &pubsubpb.PubsubMessage{MessageId: "1", Data: []byte("theirs")}},
			{AckId: "ours", Message: &pubsubpb.PubsubMessage{MessageId: "2", Data: []byte("ours")}},
		}})
		if err != nil {
			return err
		}
		return answer(s)
	})
	p.refuse["theirs"] = "PERMANENT_FAILURE_INVALID_ACK_ID"
	src := opens(t, build(t, endpoint, nil))
	got := next(t, src, connector.Room{})
	if len(got.batch) != 1 || string(got.batch[0].Data) != "ours" {
		t.Errorf("read %d messages, the first %s", len(got.batch), got.batch[0].Data)
	}
	if err := got.settle(t, nil); err != nil {
		t.Error(err)
	}
}

// TestThrottledStream: a service that has no more to give is asked again, later.
func TestThrottledStream(t *testing.T) {
	t.Parallel()
	_, endpoint := told(t, func(n int, _ *pubsubpb.StreamingPullRequest, s stream) error {
		if n < 3 {
			return status.Error(codes.ResourceExhausted, "quota")
		}
		if err := deliver(s, "m", "a", "", nil); err != nil {
			return err
		}
		return answer(s)
	})
	src := opens(t, build(t, endpoint, nil))
	if _, _, err := src.Read(t.Context(), connector.Room{}); fault.Of(err) != fault.Throttled {
		t.Errorf("Read: %v", err)
	}
	if p := next(t, src, connector.Room{}); string(p.batch[0].Data) != "m" {
		t.Errorf("read %s", p.batch[0].Data)
	}
}

// TestLeaseThatEnded: an acknowledgement after the lease has ended is reported, once, since
// others may have the message.
func TestLeaseThatEnded(t *testing.T) {
	t.Parallel()
	p, endpoint := told(t, func(_ int, _ *pubsubpb.StreamingPullRequest, s stream) error {
		if err := errors.Join(deliver(s, "lost", "lost", "", nil), deliver(s, "kept", "kept", "", nil)); err != nil {
			return err
		}
		return answer(s)
	})
	p.refuse["lost"] = "PERMANENT_FAILURE_INVALID_ACK_ID"
	src := build(t, endpoint, nil)
	pubsubsource.Lease(src, time.Second, 20*time.Millisecond)
	opens(t, src)
	got := reads(t, src, 2)
	pubsubtest.Eventually(t, "a lease is extended while the other ends", func() bool { return p.extensions("kept") > 4 })
	unconfirmed := 0
	for _, g := range got {
		if err := g.settle(t, nil); err != nil {
			u, ok := errors.AsType[*connector.Unconfirmed](err)
			if !ok {
				t.Fatal(err)
			}
			unconfirmed += u.Messages
		}
	}
	if unconfirmed != 1 {
		t.Errorf("%d messages are reported, want 1", unconfirmed)
	}
}
