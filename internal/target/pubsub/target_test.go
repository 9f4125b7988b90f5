package pubsubtarget_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"strings"
	"testing"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/cloud/gcp/pubsubtest"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	pubsubtarget "github.com/weirdata/weir/internal/target/pubsub"
)

// build makes a target for the topic "events" at an endpoint, not opened.
func build(t testing.TB, endpoint string, change func(*pubsubtarget.Config)) *pubsubtarget.Target {
	t.Helper()
	made, err := pubsubtarget.Entry.Build(t.Context(), connector.Deps{Log: slog.New(slog.DiscardHandler)}, func(into any) error {
		c := into.(*pubsubtarget.Config)
		c.ProjectID, c.TopicName, c.Endpoint = pubsubtest.Project, "events", endpoint
		if change != nil {
			change(c)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return made.(*pubsubtarget.Target)
}

// opened is an open target that is closed with the test.
func opened(t testing.TB, endpoint string, change func(*pubsubtarget.Config)) *pubsubtarget.Target {
	t.Helper()
	target := build(t, endpoint, change)
	if err := target.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := target.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return target
}

func message(data, key string, headers ...string) *event.Message {
	m := event.New([]byte(data))
	m.Key = key
	for i := 0; i < len(headers); i += 2 {
		m.Meta.Headers = m.Meta.Headers.Add(headers[i], []byte(headers[i+1]))
	}
	return m
}

// failures are those of a write, each with its kind.
func failures(t testing.TB, err error) map[int]fault.Kind {
	t.Helper()
	kinds := map[int]fault.Kind{}
	if err == nil {
		return kinds
	}
	p, ok := errors.AsType[*connector.Partial](err)
	if !ok {
		t.Fatalf("Write: %v, want a *connector.Partial", err)
	}
	for i, e := range p.Failed {
		kinds[i] = fault.Of(e)
	}
	return kinds
}

func texts(s *pubsubtest.Server, topic string) (ts []string) {
	for _, m := range s.Published(topic) {
		ts = append(ts, string(m.Data))
	}
	return ts
}

func TestConformance(t *testing.T) { // not parallel: it looks for goroutines
	for name, change := range map[string]func(*pubsubtarget.Config){
		"unordered": nil,
		"ordered":   func(c *pubsubtarget.Config) { c.OrderingKey = "key" },
	} {
		t.Run(name, func(t *testing.T) {
			conntest.Target(t, conntest.TargetCase{
				Setup: func(t *testing.T) (func() connector.Target, func() [][]byte) {
					s := pubsubtest.New(t)
					s.CreateTopic(t, "events")
					open := func() connector.Target {
						return build(t, s.Endpoint(), func(c *pubsubtarget.Config) {
							c.Batching.MaxMessageBytes = 3 << 20 // the fake takes no more
							if change != nil {
								change(c)
							}
						})
					}
					return open, func() (ps [][]byte) {
						for _, m := range s.Published("events") {
							ps = append(ps, m.Data)
						}
						return ps
					}
				},
				Refused: [][]byte{{}},
				Broken: func(t *testing.T) connector.Target {
					return build(t, "http://"+refusing(t), nil)
				},
				Want: fault.Transient,
				Stuck: func(t *testing.T) connector.Target {
					l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { _ = l.Close() })
					return build(t, "http://"+l.Addr().String(), nil)
				},
				Features: conntest.TargetFeatures{Binary: true, Ordered: change == nil},
			})
		})
	}
}

// refusing is an address where nobody listens.
func refusing(t testing.TB) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestEmptyMessagesAreInvalid(t *testing.T) {
	t.Parallel()
	s := pubsubtest.New(t)
	s.CreateTopic(t, "events")
	target := opened(t, s.Endpoint(), func(c *pubsubtarget.Config) { c.Attributes = true })
	b := event.Batch{message("", ""), message("a", ""), {}, message("", "", "x", "1")}
	err := target.Write(t.Context(), b)
	if diff := cmp.Diff(map[int]fault.Kind{0: fault.Invalid, 2: fault.Invalid}, failures(t, err)); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(err.Error(), "pubsub cannot accept empty messages: each message must contain either non-empty data, or at least one attribute (count: 2)") {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"a", ""}, texts(s, "events")); diff != "" {
		t.Error(diff)
	}
}

// TestAttributes: headers are attributes where they can be, and a message whose headers cannot
// is invalid alone. By default nothing but the payload is published.
func TestAttributes(t *testing.T) {
	t.Parallel()
	s := pubsubtest.New(t)
	s.CreateTopic(t, "events")
	if err := opened(t, s.Endpoint(), nil).Write(t.Context(), event.Batch{message("plain", "key", "a", "1", "a", "2", "goog", "\xff")}); err != nil {
		t.Fatal(err)
	}
	if m := s.Published("events")[0]; len(m.Attributes) != 0 || m.OrderingKey != "" {
		t.Errorf("published with %v and key %q", m.Attributes, m.OrderingKey)
	}
	many := message("m", "")
	for i := range 101 {
		many.SetHeader(fmt.Sprint(i), "x")
	}
	target := opened(t, s.Endpoint(), func(c *pubsubtarget.Config) { c.Attributes, c.TopicHeader = true, "" })
	b := event.Batch{
		message("good", "", "a", "1", strings.Repeat("n", 256), strings.Repeat("v", 1024)),
		message("twice", "", "a", "1", "a", "2"),
		message("long name", "", strings.Repeat("n", 257), "1"),
		message("long value", "", "a", strings.Repeat("v", 1025)),
		message("reserved", "", "google", "1"),
		message("no name", "", "", "1"),
		message("not UTF-8", "", "a", "\xff"),
		many,
	}
	want := map[int]fault.Kind{}
	for i := 1; i < len(b); i++ {
		want[i] = fault.Invalid
	}
	if diff := cmp.Diff(want, failures(t, target.Write(t.Context(), b))); diff != "" {
		t.Error(diff)
	}
	ms := s.Published("events")
	if len(ms) != 2 || !maps.Equal(ms[1].Attributes, map[string]string{"a": "1", strings.Repeat("n", 256): strings.Repeat("v", 1024)}) {
		t.Errorf("published %d messages, the last with %v", len(ms), ms[len(ms)-1].Attributes)
	}
}

// TestSize: a message counts as it is encoded in a request.
func TestSize(t *testing.T) {
	t.Parallel()
	for _, attributes := range []bool{false, true} {
		target := build(t, "", func(c *pubsubtarget.Config) {
			c.Attributes, c.OrderingKey, c.TopicHeader = attributes, "key", "topic"
		})
		size := target.Limits().Size
		rapid.Check(t, func(t *rapid.T) {
			m := event.New(make([]byte, rapid.IntRange(0, 40_000).Draw(t, "data")))
			m.Key = rapid.StringN(0, 300, 300).Draw(t, "key")
			p := &pubsubpb.PubsubMessage{Data: m.Data, OrderingKey: m.Key, Attributes: map[string]string{}}
			for range rapid.IntRange(0, 5).Draw(t, "headers") {
				name, value := rapid.StringN(0, 200, 200).Draw(t, "name"), rapid.StringN(0, 500, 500).Draw(t, "value")
				m.Meta.Headers = m.Meta.Headers.Set(name, []byte(value))
				if attributes && name != "topic" {
					p.Attributes[name] = value
				}
			}
			whole := proto.Size(&pubsubpb.PublishRequest{Messages: []*pubsubpb.PubsubMessage{p}})
			if got := size(m); got != whole {
				t.Fatalf("size %d, and the request has %d", got, whole)
			}
		})
	}
}

// TestTopicHeader: a message goes where its header says, one that names what is not there fails
// alone, and messages of two topics never share a write.
func TestTopicHeader(t *testing.T) {
	t.Parallel()
	s := pubsubtest.New(t)
	s.CreateTopic(t, "events")
	s.CreateTopic(t, "orders")
	target := opened(t, s.Endpoint(), func(c *pubsubtarget.Config) { c.TopicHeader, c.Attributes = "topic", true })
	group := target.Limits().Group
	for topic, want := range map[string]map[int]fault.Kind{
		"orders":                     {},
		pubsubtest.Topic("orders"):   {},
		"":                           {},
		"none":                       {0: fault.Invalid},
		"projects/project/topics/":   nil,
		"projects/project/orders":    nil,
		"no/topic":                   nil,
		"projects/a/b/topics/orders": nil,
		"projects//topics/orders":    nil,
		"orders;drop":                nil,
	} {
		m := message("m", "", "topic", topic, "a", "1")
		if group(m) != topic {
			t.Errorf("%q is in group %q", topic, group(m))
		}
		err := target.Write(t.Context(), event.Batch{m})
		if want == nil {
			if fault.Of(err) != fault.Invalid {
				t.Errorf("%q: %v", topic, err)
			}
			continue
		}
		if diff := cmp.Diff(want, failures(t, err)); diff != "" {
			t.Errorf("%q: %v %s", topic, err, diff)
		}
	}
	orders := s.Published("orders")
	if len(orders) != 2 || len(s.Published("events")) != 1 {
		t.Errorf("%d orders and %d events", len(orders), len(s.Published("events")))
	}
	for _, m := range orders {
		if !maps.Equal(m.Attributes, map[string]string{"a": "1"}) {
			t.Errorf("attributes %v", m.Attributes)
		}
	}
}

// TestErrors: what each answer means, and what it says.
func TestErrors(t *testing.T) {
	t.Parallel()
	s := pubsubtest.New(t)
	s.CreateTopic(t, "events")
	target := opened(t, s.Endpoint(), nil)
	for code, want := range map[codes.Code]struct {
		kind fault.Kind
		text string
	}{
		codes.Unavailable:        {fault.Transient, "publish to projects/project/topics/events"},
		codes.Internal:           {fault.Transient, ""},
		codes.Aborted:            {fault.Transient, ""},
		codes.Unknown:            {fault.Transient, ""},
		codes.DeadlineExceeded:   {fault.Transient, ""},
		codes.ResourceExhausted:  {fault.Throttled, ""},
		codes.NotFound:           {fault.Setup, "gcloud pubsub topics create projects/project/topics/events"},
		codes.PermissionDenied:   {fault.Setup, "roles/pubsub.publisher"},
		codes.Unauthenticated:    {fault.Setup, "credentials"},
		codes.FailedPrecondition: {fault.Setup, ""},
		codes.InvalidArgument:    {fault.Invalid, "the message was refused"},
	} {
		requests := 0
		s.On("Publish", func(any) error { requests++; return status.Error(code, "said so") })
		err := target.Write(t.Context(), event.Batch{message("m", "")})
		if diff := cmp.Diff(map[int]fault.Kind{0: want.kind}, failures(t, err)); diff != "" {
			t.Errorf("%s: %s", code, diff)
		}
		if err != nil && (!strings.Contains(err.Error(), want.text) || !strings.Contains(err.Error(), "said so")) {
			t.Errorf("%s: %v", code, err)
		}
		if requests != 1 {
			t.Errorf("%s: %d requests, and only the engine tries again", code, requests)
		}
		s.On("Publish", nil)
	}
	if n := len(s.Published("events")); n != 0 {
		t.Errorf("%d messages were published", n)
	}
}

// TestCheck: what is missing is said, with what to do.
func TestCheck(t *testing.T) {
	t.Parallel()
	s := pubsubtest.New(t)
	if err := build(t, s.Endpoint(), nil).Check(t.Context()); fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), "gcloud pubsub topics create projects/project/topics/events") {
		t.Errorf("without a topic: %v", err)
	}
	s.CreateTopic(t, "events")
	if err := build(t, s.Endpoint(), nil).Check(t.Context()); err != nil {
		t.Error(err)
	}
	s.On("GetTopic", func(any) error { return status.Error(codes.PermissionDenied, "no") })
	if err := build(t, s.Endpoint(), nil).Check(t.Context()); fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), "pubsub.topics.publish") {
		t.Errorf("without permission: %v", err)
	}
	for path, want := range map[string]string{"none.json": "create a key", "target_test.go": "not JSON"} {
		target := build(t, "", func(c *pubsubtarget.Config) { c.CredentialsJSONPath = path })
		if err := target.Open(t.Context()); fault.Of(err) != fault.Setup || !strings.Contains(err.Error()+connector.Remedy(err, ""), want) {
			t.Errorf("%s: %v, %s", path, err, connector.Remedy(err, ""))
		}
	}
}

func TestRefusedConfigs(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*pubsubtarget.Config){
		"project_id":                  func(c *pubsubtarget.Config) { c.ProjectID = "" },
		"topic_name":                  func(c *pubsubtarget.Config) { c.TopicName = "a/b" },
		"credentials_json_path":       func(c *pubsubtarget.Config) { c.CredentialsPath, c.CredentialsJSONPath = "a", "b" },
		"endpoint":                    func(c *pubsubtarget.Config) { c.Endpoint = "localhost" },
		"grpc_connection_pool_size":   func(c *pubsubtarget.Config) { c.GRPCConnectionPoolSize = -1 },
		"ordering_key":                func(c *pubsubtarget.Config) { c.OrderingKey = "yes" },
		"request_timeout_in_millis":   func(c *pubsubtarget.Config) { c.RequestTimeoutInMillis = 0 },
		"batching.max_batch_messages": func(c *pubsubtarget.Config) { c.Batching.MaxBatchMessages = 1001 },
		"batching.max_message_bytes":  func(c *pubsubtarget.Config) { c.Batching.MaxMessageBytes = 1 << 30 },
	} {
		c := *pubsubtarget.Entry.Default().(*pubsubtarget.Config)
		c.ProjectID, c.TopicName = "p", "t"
		if ps := c.Validate(); len(ps) != 0 {
			t.Fatalf("the default is refused: %v", ps)
		}
		batching := *c.Batching
		c.Batching = &batching
		change(&c)
		ps := c.Validate()
		if len(ps) != 1 || ps[0].Field != want || ps[0].What == "" || ps[0].Fix == "" {
			t.Errorf("%s: %+v", want, ps)
		}
	}
}

// TestConnectionThatDoesNotAnswer: a write ends with its timeout, and the next takes another
// connection.
func TestConnectionThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	s := pubsubtest.New(t)
	s.CreateTopic(t, "events")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	first := make(chan struct{})
	go passAllButTheFirst(l, s.Addr, first)
	target := opened(t, "http://"+l.Addr().String(), func(c *pubsubtarget.Config) { c.RequestTimeoutInMillis = 2000 })
	if kinds := failures(t, target.Write(t.Context(), event.Batch{message("m", "")})); kinds[0] != fault.Transient || len(kinds) != 1 {
		t.Errorf("the write that got no answer: %v", kinds)
	}
	<-first
	if err := target.Write(t.Context(), event.Batch{message("m", "")}); err != nil {
		t.Errorf("the write after it: %v", err)
	}
}
