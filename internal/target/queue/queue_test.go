package queuetarget_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/embedded"
	queuetarget "github.com/weirdata/weir/internal/target/queue"
)

func store(t *testing.T) *embedded.Store {
	t.Helper()
	s, err := embedded.Open("store", embedded.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func target(t testing.TB, s queue.Store, ordered bool) connector.Target {
	t.Helper()
	d := connector.Deps{Log: slog.New(slog.DiscardHandler), Store: func() queue.Store { return s },
		Queues: map[string]connector.Queue{"q": {Name: "q", Ordered: ordered}}}
	made, err := queuetarget.Entry.Build(t.Context(), d, func(into any) error {
		into.(*queuetarget.Config).Name = "q"
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func jobs(t *testing.T, s *embedded.Store) []queue.Job {
	t.Helper()
	var out []queue.Job
	for after := (queue.ID{}); ; {
		p, err := s.List(t.Context(), queue.Search{Filter: queue.Filter{Queue: "q"}}, after, 1000)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p.Jobs...)
		if after = p.Next; after == (queue.ID{}) {
			return out
		}
	}
}

func TestConformance(t *testing.T) {
	conntest.Target(t, conntest.TargetCase{
		Setup: func(t *testing.T) (func() connector.Target, func() [][]byte) {
			s := store(t)
			return func() connector.Target { return target(t, s, false) }, func() [][]byte {
				var out [][]byte
				for _, j := range jobs(t, s) {
					out = append(out, j.Msg.Data)
				}
				return out
			}
		},
		Refused:  [][]byte{make([]byte, queue.MaxPayload+1)},
		Features: conntest.TargetFeatures{Binary: true, Empty: true, Tombstone: true, Ordered: true},
	})
}

// TestKeeps keeps everything of a message that its queue's readers need.
func TestKeeps(t *testing.T) {
	t.Parallel()
	s := store(t)
	m := event.New([]byte("as read"))
	m.Replace([]byte("as sent"))
	m.Key, m.Meta.ID = "key", "id"
	m.Meta.Headers = event.HeadersOf(map[string]string{"h": "v"})
	m.Meta.Scope = &event.Scope{Workspace: "w", Source: "s", Destination: "d"}
	if err := target(t, s, true).Write(t.Context(), event.Batch{m}); err != nil {
		t.Fatal(err)
	}
	js := jobs(t, s)
	if len(js) != 1 {
		t.Fatalf("%d jobs", len(js))
	}
	j := js[0]
	if string(j.Msg.Data) != "as sent" || string(j.Msg.Raw()) != "as read" || j.Msg.Key != "key" || j.Msg.Meta.ID != "id" ||
		j.Msg.Meta.Headers.Text("h") != "v" || j.Scope != *m.Meta.Scope || !j.Ordered || !j.Msg.Times.Created.Equal(m.Times.Created) {
		t.Errorf("job %+v, message %+v", j, j.Msg)
	}
}

// TestLargeBatch writes a batch whose payloads, with what they were read as, are more than
// one transaction may hold; what no store could hold is refused alone.
func TestLargeBatch(t *testing.T) {
	t.Parallel()
	s := store(t)
	var b event.Batch
	for range 8 {
		m := event.New(bytes.Repeat([]byte("r"), 6<<20))
		m.Replace(bytes.Repeat([]byte("d"), 6<<20))
		b = append(b, m)
	}
	b[3].Key = strings.Repeat("k", queue.MaxKey+1)
	err := target(t, s, false).Write(t.Context(), b)
	var partial *connector.Partial
	if !errors.As(err, &partial) || len(partial.Failed) != 1 || fault.Of(partial.Failed[3]) != fault.Invalid {
		t.Errorf("Write: %v", err)
	}
	if st, err := s.Stats(t.Context(), queue.Filter{Queue: "q"}); err != nil || st.Waiting != 7 {
		t.Errorf("queue: %+v, %v", st, err)
	}
}

func TestClosedStore(t *testing.T) {
	t.Parallel()
	s := store(t)
	to := target(t, s, false)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := to.Write(t.Context(), event.Batch{event.New([]byte("x"))}); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("Write: %v", err)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	c := queuetarget.Entry.Default().(*queuetarget.Config)
	if ps := c.Validate(); len(ps) > 0 {
		t.Errorf("the defaults are refused: %v", ps)
	}
	c.Batching.MaxMessageBytes = queue.MaxPayload + 1
	if ps := c.Validate(); len(ps) != 1 || ps[0].Field != "batching.max_message_bytes" {
		t.Errorf("problems %v", ps)
	}
}
