package pubsubtarget_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	pubsubtarget "github.com/weirdata/weir/internal/target/pubsub"
)

// passAllButTheFirst passes connections on, but for the first, which is taken and never answered.
func passAllButTheFirst(l net.Listener, to string, taken chan<- struct{}) {
	first, err := l.Accept()
	if err != nil {
		return
	}
	defer first.Close()
	close(taken)
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", to)
		if err != nil {
			_ = c.Close()
			continue
		}
		go func() { _, _ = io.Copy(server, c); _ = server.Close() }()
		go func() { _, _ = io.Copy(c, server); _ = c.Close() }()
	}
}

// publisher is a Pub/Sub that does with each request what it is told.
type publisher struct {
	pubsubpb.UnimplementedPublisherServer
	mu     sync.Mutex
	stored []string // data, in the order in which it was stored, again when it was stored again
	next   func(*pubsubpb.PublishRequest) (store bool, err error)
	mixed  bool // a request had messages of several keys
}

func (p *publisher) Publish(_ context.Context, r *pubsubpb.PublishRequest) (*pubsubpb.PublishResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	store, err := true, error(nil)
	if p.next != nil {
		store, err = p.next(r)
	}
	answer := &pubsubpb.PublishResponse{}
	for _, m := range r.GetMessages() {
		p.mixed = p.mixed || m.GetOrderingKey() != r.GetMessages()[0].GetOrderingKey()
		if store {
			p.stored = append(p.stored, string(m.GetData()))
			answer.MessageIds = append(answer.MessageIds, fmt.Sprint(len(p.stored)))
		}
	}
	return answer, err
}

// told starts a publisher.
func told(t testing.TB) (*publisher, string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p, s := &publisher{}, grpc.NewServer()
	pubsubpb.RegisterPublisherServer(s, p)
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() { s.Stop(); wg.Wait() })
	return p, "http://" + l.Addr().String()
}

// TestOrder is the life of batches under faults, with the engine's rule for what failed: it is
// written again, in its order, before anything later. Whatever the service does, each message
// that is valid is stored, each that is not is invalid alone, those of one key are stored first
// in their order (no key stays paused, nothing overtakes what failed), and what was accepted is
// not sent again, but for requests whose outcome nobody knew.
func TestOrder(t *testing.T) {
	t.Parallel()
	p, endpoint := told(t)
	ordered := opened(t, endpoint, func(c *pubsubtarget.Config) {
		c.OrderingKey = "key"
		c.Batching.MaxBatchBytes = 400
		c.Batching.MaxMessageBytes = 400
	})
	plain := opened(t, endpoint, nil)
	rapid.Check(t, func(rt *rapid.T) {
		target, keyed := ordered, rapid.Bool().Draw(rt, "ordered")
		if !keyed {
			target = plain
		}
		keys := rapid.IntRange(1, 4).Draw(rt, "keys")
		poison := map[string]bool{}
		var all event.Batch
		for i := range rapid.IntRange(1, 30).Draw(rt, "messages") {
			data := fmt.Sprintf("message %03d", i)
			key := fmt.Sprint("key ", rapid.IntRange(0, keys).Draw(rt, "key"))
			if key == "key 0" {
				key = ""
			}
			poison[data] = rapid.IntRange(0, 9).Draw(rt, "poison") == 0
			all = append(all, message(data, key))
		}
		faults := rapid.SliceOfN(rapid.SampledFrom([]string{"", "unavailable", "throttled", "unknown"}), 0, 25).Draw(rt, "faults")
		unknown := map[string]bool{}
		p.mu.Lock()
		p.stored, p.mixed = nil, false
		p.next = func(r *pubsubpb.PublishRequest) (bool, error) {
			is := ""
			if len(faults) > 0 {
				is, faults = faults[0], faults[1:]
			}
			for _, m := range r.GetMessages() {
				if poison[string(m.GetData())] {
					return false, status.Error(codes.InvalidArgument, "schema")
				}
			}
			switch is {
			case "unavailable":
				return false, status.Error(codes.Unavailable, "not now")
			case "throttled":
				return false, status.Error(codes.ResourceExhausted, "quota")
			case "unknown":
				for _, m := range r.GetMessages() {
					unknown[string(m.GetData())] = true
				}
				return true, status.Error(codes.Unavailable, "the answer was lost")
			}
			return true, nil
		}
		p.mu.Unlock()
		invalid := map[string]bool{}
		size := rapid.IntRange(1, 12).Draw(rt, "batch")
		for begin := 0; begin < len(all); begin += size {
			b := slices.Clone(all[begin:min(begin+size, len(all))])
			for len(b) > 0 {
				err := target.Write(t.Context(), b)
				var again event.Batch
				kinds := failures(t, err)
				for i, m := range b {
					switch kind, failed := kinds[i]; {
					case failed && kind == fault.Invalid:
						invalid[string(m.Data)] = true
					case failed:
						again = append(again, m)
					}
				}
				b = again
			}
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if keyed && p.mixed {
			rt.Fatal("a request had messages of several keys")
		}
		first := map[string]int{}
		for i, data := range p.stored {
			if _, again := first[data]; again && !unknown[data] {
				rt.Fatalf("%s was accepted and sent again", data)
			} else if !again {
				first[data] = i
			}
		}
		last := map[string]int{}
		for _, m := range all {
			data := string(m.Data)
			at, stored := first[data]
			if stored == poison[data] || invalid[data] != poison[data] {
				rt.Fatalf("%s: stored %t, invalid %t, poison %t", data, stored, invalid[data], poison[data])
			}
			if !stored || !keyed || m.Key == "" {
				continue
			}
			if before, ok := last[m.Key]; ok && at < before {
				rt.Fatalf("%s was stored before an earlier one of %s: %q", data, m.Key, p.stored)
			}
			last[m.Key] = at
		}
	})
}

// TestSchemaRefusal: one message that the topic's schema refuses takes nothing else with it.
func TestSchemaRefusal(t *testing.T) {
	t.Parallel()
	p, endpoint := told(t)
	p.next = func(r *pubsubpb.PublishRequest) (bool, error) {
		for _, m := range r.GetMessages() {
			if string(m.GetData()) == "bad" {
				return false, status.Error(codes.InvalidArgument, "does not match the schema")
			}
		}
		return true, nil
	}
	var b event.Batch
	for i := range 100 {
		b = append(b, message(fmt.Sprint(i), ""))
	}
	b[37] = message("bad", "")
	kinds := failures(t, opened(t, endpoint, nil).Write(t.Context(), b))
	if len(kinds) != 1 || kinds[37] != fault.Invalid {
		t.Errorf("failed: %v", kinds)
	}
	if len(p.stored) != 99 || !slices.Contains(p.stored, "99") {
		t.Errorf("%d messages were stored", len(p.stored))
	}
}
