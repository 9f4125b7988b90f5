// Package pubsubtest gives tests a Pub/Sub: Google's own fake, pstest, which keeps topics,
// subscriptions, leases and dead letters in memory and speaks gRPC on the loopback interface.
// What it cannot do (flow control, redelivery of the later messages of a key, refusing stale
// acknowledgements) a test brings about by a [Reaction] or by cutting the connection.
package pubsubtest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Project is where every topic and subscription is.
const Project = "project"

// Server is a Pub/Sub of its own.
type Server struct {
	*pstest.Server
	mu        sync.Mutex
	reactions map[string]Reaction
}

// Reaction decides what becomes of a request before the fake sees it: with an error it is
// refused. It must not call the server.
type Reaction func(request any) error

// react is the reaction to one method, whatever it is at the time.
type react struct {
	s      *Server
	method string
}

// React implements pstest.Reactor.
func (r react) React(request any) (handled bool, answer any, err error) {
	r.s.mu.Lock()
	f := r.s.reactions[r.method]
	r.s.mu.Unlock()
	if f == nil {
		return false, nil, nil
	}
	err = f(request)
	return err != nil, nil, err
}

// New starts a server, which is closed with the test.
func New(t testing.TB) *Server {
	t.Helper()
	s := &Server{reactions: map[string]Reaction{}}
	var options []pstest.ServerReactorOption
	for _, method := range []string{"Publish", "Acknowledge", "ModifyAckDeadline", "GetSubscription", "GetTopic"} {
		options = append(options, pstest.ServerReactorOption{FuncName: method, Reactor: react{s, method}})
	}
	s.Server = pstest.NewServerWithAddress("127.0.0.1:0", options...)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// On has f react to a method from now on; nil has nothing react.
func (s *Server) On(method string, f Reaction) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reactions[method] = f
}

// Endpoint is the server as the option endpoint of a connector names it.
func (s *Server) Endpoint() string { return "http://" + s.Addr }

// Topic is the whole name of a topic.
func Topic(name string) string { return fmt.Sprintf("projects/%s/topics/%s", Project, name) }

// Subscription is the whole name of a subscription.
func Subscription(name string) string {
	return fmt.Sprintf("projects/%s/subscriptions/%s", Project, name)
}

// CreateTopic makes a topic.
func (s *Server) CreateTopic(t testing.TB, name string) {
	t.Helper()
	if _, err := s.GServer.CreateTopic(t.Context(), &pubsubpb.Topic{Name: Topic(name)}); err != nil {
		t.Fatal(err)
	}
}

// Subscribe makes a topic with a subscription, both called name; change, which may be nil,
// changes what the subscription is.
func (s *Server) Subscribe(t testing.TB, name string, change func(*pubsubpb.Subscription)) {
	t.Helper()
	s.CreateTopic(t, name)
	sub := &pubsubpb.Subscription{Name: Subscription(name), Topic: Topic(name), AckDeadlineSeconds: 10}
	if change != nil {
		change(sub)
	}
	if _, err := s.GServer.CreateSubscription(t.Context(), sub); err != nil {
		t.Fatal(err)
	}
}

// Put publishes a message.
func (s *Server) Put(t testing.TB, topic string, m *pubsubpb.PubsubMessage) (id string) {
	t.Helper()
	answer, err := s.GServer.Publish(context.Background(), &pubsubpb.PublishRequest{Topic: Topic(topic), Messages: []*pubsubpb.PubsubMessage{m}})
	if err != nil {
		t.Fatal(err)
	}
	return answer.GetMessageIds()[0]
}

// Published are the messages of a topic, in their order.
func (s *Server) Published(topic string) []*pstest.Message {
	var ms []*pstest.Message
	for _, m := range s.Messages() {
		if m.Topic == Topic(topic) {
			ms = append(ms, m)
		}
	}
	return ms
}

// Refusal is an error of the service with what it says of single acknowledgement ids, as
// subscriptions with exactly-once delivery have it.
func Refusal(code codes.Code, of map[string]string) error {
	s, err := status.New(code, "some acknowledgement ids").WithDetails(&errdetails.ErrorInfo{Reason: "ACK_IDS", Domain: "pubsub.googleapis.com", Metadata: of})
	if err != nil {
		panic(err) // the details are of a kind that is known
	}
	return s.Err()
}

// Patience is how long a test waits for what must happen.
const Patience = 3 * time.Minute

// Eventually waits until f says so.
func Eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	deadline := time.NewTimer(Patience)
	defer deadline.Stop()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for !f() {
		select {
		case <-look.C:
		case <-deadline.C:
			t.Fatalf("%s: not within %s", what, Patience)
		}
	}
}
