package queuesource_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/embedded"
	queuesource "github.com/weirdata/weir/internal/source/queue"
)

// bubble runs f where time is virtual, with a store in memory.
func bubble(t *testing.T, f func(t *testing.T, s *embedded.Store)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s, err := embedded.Open("store", embedded.Options{FS: vfs.NewMem()})
		if err != nil {
			t.Fatal(err)
		}
		f(t, s)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// away is a store whose clock is not that of the machine.
type away struct {
	queue.Store
	by time.Duration
}

func (a away) Now() time.Time { return a.Store.Now().Add(a.by) }

// TestWaitedByTheStore: how long a message has waited does not depend on the clock of the
// machine that reads it.
func TestWaitedByTheStore(t *testing.T) {
	bubble(t, func(t *testing.T, s *embedded.Store) {
		if err := s.Update(t.Context(), func(tx queue.Tx) error { return tx.Append(queue.Job{Queue: "q", Msg: event.New([]byte("x"))}) }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		for _, by := range []time.Duration{0, 2 * time.Hour, -2 * time.Hour} {
			src := source(t, away{s, by}, nil)
			b, _, err := src.Read(t.Context(), connector.Room{})
			if err != nil || len(b) != 1 {
				t.Fatalf("read %d, %v", len(b), err)
			}
			if waited, want := time.Since(b[0].Meta.Delivery.Since), time.Minute+by; waited != want {
				t.Errorf("with a store that is %s ahead, the message has waited %s, want %s", by, waited, want)
			}
			closes(t, src)
		}
	})
}

// TestLoose warns, once, of messages with a key that were put into the queue without order, and
// only where it is read in order.
func TestLoose(t *testing.T) {
	for _, row := range []struct{ reads, keyed, kept, told bool }{{true, true, false, true}, {true, true, true, false}, {true, false, false, false}, {false, true, false, false}} {
		bubble(t, func(t *testing.T, s *embedded.Store) {
			var said bytes.Buffer
			d := connector.Deps{Log: slog.New(slog.NewTextHandler(&said, nil)), Store: func() queue.Store { return s }, Queues: map[string]connector.Queue{"q": {Name: "q"}}}
			made, err := queuesource.Entry.Build(t.Context(), d, func(into any) error {
				c := into.(*queuesource.Config)
				c.Name, c.Ordered, c.MaxBatchMessages = "q", row.reads, 1
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			src := made.(*queuesource.Source)
			if err := src.Open(t.Context()); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				j := job("x")
				if j.Ordered = row.kept; row.keyed {
					j.Msg.Key = rand.Text()
				}
				appends(t, s, j)
				reads(t, src)
			}
			if n := strings.Count(said.String(), "level=WARN"); n > 1 || n == 1 != row.told {
				t.Errorf("%+v: %d warnings: %s", row, n, said.String())
			}
			closes(t, src)
		})
	}
}

// source makes an open source of queue "q" that is closed at the end of the test.
func source(t *testing.T, s queue.Store, change func(*queuesource.Config)) *queuesource.Source {
	t.Helper()
	src := build(t, s, change)
	if err := src.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return src
}

func build(t *testing.T, s queue.Store, change func(*queuesource.Config)) *queuesource.Source {
	t.Helper()
	d := connector.Deps{Log: slog.New(slog.DiscardHandler), Store: func() queue.Store { return s }, Queues: map[string]connector.Queue{"q": {Name: "q"}}}
	made, err := queuesource.Entry.Build(t.Context(), d, func(into any) error {
		c := into.(*queuesource.Config)
		c.Name = "q"
		if change != nil {
			change(c)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return made.(*queuesource.Source)
}

func closes(t *testing.T, src connector.Source) {
	t.Helper()
	for range 2 { // closing twice is safe
		if err := src.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}
}

func appends(t *testing.T, s queue.Store, jobs ...queue.Job) {
	t.Helper()
	if err := s.Update(t.Context(), func(tx queue.Tx) error { return tx.Append(jobs...) }); err != nil {
		t.Fatal(err)
	}
}

func job(payload string) queue.Job { return queue.Job{Queue: "q", Msg: event.New([]byte(payload))} }

func reads(t *testing.T, src connector.Source) (event.Batch, connector.Ack) {
	t.Helper()
	b, ack, err := src.Read(t.Context(), connector.Room{})
	if err != nil {
		t.Fatal(err)
	}
	return b, ack
}

func texts(b event.Batch) []string {
	var ts []string
	for _, m := range b {
		ts = append(ts, string(m.Data))
	}
	return ts
}

func wants(t *testing.T, b event.Batch, want ...string) {
	t.Helper()
	if got := texts(b); !slices.Equal(got, want) {
		t.Errorf("read %q, want %q", got, want)
	}
}

func stats(t *testing.T, s queue.Store) queue.Stats {
	t.Helper()
	st, err := s.Stats(t.Context(), queue.Filter{Queue: "q"})
	if err != nil {
		t.Fatal(err)
	}
	st.Bytes = 0
	return st
}

// TestOutcomes gives each message of a read its own outcome, and looks at what the store
// then holds.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *embedded.Store) {
		appends(t, s, job("done"), job("again"), job("dead"), job("unsettled"), job("invalid"), job("plain"))
		src := source(t, s, nil)
		b, ack := reads(t, src)
		wants(t, b, "done", "again", "dead", "unsettled", "invalid", "plain")
		err := ack(t.Context(), event.Outcomes{
			nil,
			&connector.Again{After: time.Minute, Err: errors.New("later")},
			&connector.Dead{Err: errors.New("never")},
			fmt.Errorf("%w: stopped", event.ErrUnsettled),
			fault.New(fault.Invalid, errors.New("broken")),
			errors.New("unknown"),
		})
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		attempts := map[string]int{}
		for len(attempts) < 2 {
			b, ack = reads(t, src)
			for _, m := range b {
				attempts[string(m.Data)] = m.Meta.Delivery.Attempt
			}
			if err := ack(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
		if waited := time.Since(begin); waited > 10*time.Millisecond {
			t.Errorf("what was let go of came again after %s, not at once", waited)
		}
		if want := map[string]int{"plain": 1, "unsettled": 0}; !maps.Equal(attempts, want) {
			t.Errorf("attempts %v, want %v", attempts, want)
		}
		b, ack = reads(t, src)
		wants(t, b, "again")
		if waited := time.Since(begin); waited < 59*time.Second || waited > 61*time.Second {
			t.Errorf("the next attempt came after %s, want a minute", waited)
		}
		if got := b[0].Meta.Delivery.Attempt; got != 1 {
			t.Errorf("attempt %d, want 1", got)
		}
		if err := ack(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if got, want := stats(t, s), (queue.Stats{Dead: 2}); got != want {
			t.Errorf("left: %+v, want %+v", got, want)
		}
		p, err := s.List(t.Context(), queue.Search{Filter: queue.Filter{Queue: "q"}, State: queue.Buried}, queue.ID{}, 10)
		if err != nil || len(p.Jobs) != 2 || p.Jobs[0].Cause != "never" || p.Jobs[1].Cause != "broken" {
			t.Errorf("dead: %+v, %v", p.Jobs, err)
		}
		closes(t, src)
	})
}

// TestReleaseKeepsWhatIsSettled lets go of one message of a lease in which others are done.
func TestReleaseKeepsWhatIsSettled(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *embedded.Store) {
		appends(t, s, job("a"), job("b"), job("c"))
		src := source(t, s, func(c *queuesource.Config) { c.LeaseSeconds = 3600 })
		_, ack := reads(t, src)
		if err := ack(t.Context(), event.Outcomes{nil, event.ErrUnsettled, nil}); err != nil {
			t.Fatal(err)
		}
		b, ack := reads(t, src)
		wants(t, b, "b")
		if err := ack(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		closes(t, src)
	})
}

// TestClose hands out again at once what was read and never acknowledged.
func TestClose(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *embedded.Store) {
		appends(t, s, job("a"), job("b"))
		src := source(t, s, func(c *queuesource.Config) { c.LeaseSeconds = 3600 })
		b, settle, ack, err := src.ReadJobs(t.Context(), connector.Room{})
		if err != nil {
			t.Fatal(err)
		}
		wants(t, b, "a", "b")
		if err := s.Update(t.Context(), func(tx queue.Tx) error { return settle(tx, []int{0}) }); err != nil {
			t.Fatal(err)
		}
		closes(t, src)
		time.Sleep(time.Millisecond) // in the bubble: for the leases to end
		if got, want := stats(t, s), (queue.Stats{Waiting: 1}); got != want {
			t.Errorf("after Close: %+v, want %+v", got, want)
		}
		next := source(t, s, nil)
		b, again := reads(t, next)
		wants(t, b, "b")
		if err := ack(t.Context(), nil); !errors.Is(err, queue.ErrLeaseLost) {
			t.Errorf("an ack after Close: %v, want the lease lost", err)
		}
		if err := again(t.Context(), nil); err != nil {
			t.Error(err)
		}
		closes(t, next)
	})
}

// TestRenewal keeps leases while messages are in flight, also when the first message of
// the read was settled in a transaction of the engine.
func TestRenewal(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *embedded.Store) {
		appends(t, s, job("a"), job("b"))
		src := source(t, s, func(c *queuesource.Config) { c.LeaseSeconds = 3 })
		_, settle, ack, err := src.ReadJobs(t.Context(), connector.Room{})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Update(t.Context(), func(tx queue.Tx) error { return settle(tx, []int{0}) }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if got, want := stats(t, s), (queue.Stats{Leased: 1}); got != want {
			t.Errorf("after an hour: %+v, want %+v", got, want)
		}
		if err := ack(t.Context(), nil); err != nil {
			t.Error(err)
		}
		if got, want := stats(t, s), (queue.Stats{}); got != want {
			t.Errorf("settled: %+v, want %+v", got, want)
		}
		closes(t, src)
	})
}

// TestLostLease settles what can be settled when one message of a read is lost.
func TestLostLease(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *embedded.Store) {
		appends(t, s, job("a"), job("b"))
		src := source(t, s, nil)
		_, settle, ack, err := src.ReadJobs(t.Context(), connector.Room{})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Update(t.Context(), func(tx queue.Tx) error { return settle(tx, []int{1}) }); err != nil {
			t.Fatal(err)
		}
		// The engine says that the message it moved has failed after all.
		if err := ack(t.Context(), event.Outcomes{nil, &connector.Again{Err: errors.New("late")}}); !errors.Is(err, queue.ErrLeaseLost) {
			t.Errorf("ack: %v, want the lease lost", err)
		}
		if got, want := stats(t, s), (queue.Stats{}); got != want {
			t.Errorf("left: %+v, want %+v: the other message was not settled", got, want)
		}
		closes(t, src)
	})
}

// TestStopWhenEmpty ends as soon as the last message is settled, and waits for the next
// attempt of one that failed.
func TestStopWhenEmpty(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *embedded.Store) {
		appends(t, s, job("a"))
		src := source(t, s, func(c *queuesource.Config) { c.StopWhenEmpty = true })
		_, ack := reads(t, src)
		go func() {
			time.Sleep(300 * time.Millisecond)
			if err := ack(context.WithoutCancel(t.Context()), event.Outcomes{&connector.Again{After: 10 * time.Second, Err: errors.New("no")}}); err != nil {
				t.Error(err)
			}
		}()
		begin := time.Now()
		b, ack := reads(t, src)
		wants(t, b, "a")
		if waited := time.Since(begin); waited < 10*time.Second || waited > 11*time.Second {
			t.Errorf("the next attempt came after %s", waited)
		}
		begin = time.Now()
		go func() {
			time.Sleep(300 * time.Millisecond)
			if err := ack(context.WithoutCancel(t.Context()), nil); err != nil {
				t.Error(err)
			}
		}()
		if _, _, err := src.Read(t.Context(), connector.Room{}); err != io.EOF {
			t.Errorf("Read at the end: %v, want io.EOF", err)
		}
		if waited := time.Since(begin); waited > 400*time.Millisecond {
			t.Errorf("the end came %s after the last message was read, want 300 ms", waited)
		}
		closes(t, src)
	})
}

// TestReadValues hands out a message of each value in turn, no more than there is room for,
// and comes back when there may be more room.
func TestReadValues(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *embedded.Store) {
		for v := range 4 {
			for n := range 3 {
				j := job(fmt.Sprintf("%d.%d", v, n))
				j.Scope.Destination = fmt.Sprint(v)
				appends(t, s, j)
			}
		}
		src := source(t, s, func(c *queuesource.Config) { c.Isolation = "destination" })
		if src.Isolation() != queue.ByDestination {
			t.Errorf("isolation %q", src.Isolation())
		}
		room := func(value string) (messages, bytes int) {
			switch value {
			case "1":
				return 0, 0
			case "2":
				return 1, 1 << 20
			}
			return 100, 1 << 20
		}
		again := make(chan struct{}, 1)
		read := func(total int) (got []string, acks []connector.Ack) {
			t.Helper()
			ps, err := src.ReadValues(t.Context(), connector.Room{Messages: total, Bytes: 1 << 20}, room, again)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range ps {
				for _, m := range p.Batch {
					if m.Meta.Scope.Destination != p.Value {
						t.Errorf("a message of value %q is in the portion of %q", m.Meta.Scope.Destination, p.Value)
					}
					got = append(got, string(m.Data))
				}
				acks = append(acks, p.Ack)
			}
			slices.Sort(got)
			return got, acks
		}
		got, acks := read(3)
		if fmt.Sprint(got) != "[0.0 2.0 3.0]" {
			t.Errorf("first turns: %v, want one message of each value that has room", got)
		}
		more, later := read(100)
		if fmt.Sprint(more) != "[0.1 0.2 2.1 3.1 3.2]" {
			t.Errorf("then: %v", more)
		}
		for _, ack := range append(acks, later...) {
			if err := ack(t.Context(), nil); err != nil {
				t.Error(err)
			}
		}
		go func() { time.Sleep(time.Second); again <- struct{}{} }()
		begin := time.Now()
		room = func(string) (int, int) { return 0, 0 }
		if got, _ := read(100); len(got) != 0 || time.Since(begin) != time.Second {
			t.Errorf("without room: %v after %s, want nothing once there may be room", got, time.Since(begin))
		}
		closes(t, src)
	})
}

// TestRoom leases no more than there is room for.
func TestRoom(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *embedded.Store) {
		appends(t, s, job("1"), job("2"), job("3"), job("4"), job("55555"))
		src := source(t, s, nil)
		for _, c := range []struct {
			room connector.Room
			want []string
		}{{connector.Room{Messages: 2}, []string{"1", "2"}}, {connector.Room{Messages: 1, Bytes: 1}, []string{"3"}}, {connector.Room{}, []string{"4", "55555"}}} {
			b, _, err := src.Read(t.Context(), c.room)
			if err != nil {
				t.Fatal(err)
			}
			wants(t, b, c.want...)
		}
		closes(t, src)
	})
}

// TestLag: what is open and nobody has.
func TestLag(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *embedded.Store) {
		appends(t, s, job("1"), job("2"), job("3"))
		src := source(t, s, func(c *queuesource.Config) { c.MaxBatchMessages = 2 })
		behind := func(want int64) {
			t.Helper()
			lags, err := src.Lag(t.Context())
			if err != nil || len(lags) != 1 || lags[0].Stream != "q" || lags[0].Messages != want || lags[0].Bytes != connector.Unknown {
				t.Errorf("%+v, %v; want %d messages", lags, err, want)
			}
		}
		behind(3)
		_, ack := reads(t, src)
		behind(1)
		if err := ack(t.Context(), event.Outcomes{nil, &connector.Again{After: time.Hour, Err: errors.New("later")}}); err != nil {
			t.Fatal(err)
		}
		behind(2)
		closes(t, src)
	})
}

// TestOrigins: a message is where its job is in the lane, and keeps where it was read first,
// however often it moves.
func TestOrigins(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *embedded.Store) {
		kafka := &event.Origin{Stream: "topic", Partition: "3", Position: []byte{9}, Sub: 1}
		var jobs []queue.Job
		for i, scope := range []string{"a", "a", "b", "a"} {
			j := job(fmt.Sprint(i))
			j.Scope.Source = scope
			if i > 0 {
				j.Msg.Meta.Origin = kafka
			}
			jobs = append(jobs, j)
		}
		appends(t, s, jobs...)
		src := source(t, s, nil)
		last := map[string]*event.Origin{}
		places := map[string]bool{}
		for n := 0; n < len(jobs); {
			b, _ := reads(t, src)
			n += len(b)
			for _, m := range b {
				o := m.Meta.Origin
				if o == nil || o.Stream != "q" || o.Partition == "" || o.At.IsZero() {
					t.Fatalf("message %s is at %+v", m.Data, o)
				}
				if before := last[o.Partition]; before != nil && before.Compare(o) != -1 {
					t.Errorf("message %s is not after the one before it", m.Data)
				}
				last[o.Partition], places[fmt.Sprintf("%s % x", o.Partition, o.Position)] = o, true
				first := o.Earliest()
				if moved := string(m.Data) != "0"; moved != (first != o) || moved && (first.Stream != "topic" || first.Compare(kafka) != 0 || first.First != nil) {
					t.Errorf("message %s was first at %+v", m.Data, first)
				}
				if again := (queue.Job{Queue: "q", Msg: m}); again.Check() != nil {
					t.Error("it cannot move on")
				}
			}
		}
		if len(last) != 2 || len(places) != 4 {
			t.Errorf("%d partitions, %d places", len(last), len(places))
		}
		closes(t, src)
	})
}

// TestReadStops returns soon after its context ends, also while it waits.
func TestReadStops(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, s *embedded.Store) {
		src := source(t, s, nil)
		ctx, stop := context.WithCancelCause(t.Context())
		go func() { time.Sleep(time.Second); stop(errors.New("enough")) }()
		begin := time.Now()
		if _, _, err := src.Read(ctx, connector.Room{}); err == nil || err.Error() != "enough" || time.Since(begin) > time.Second {
			t.Errorf("Read: %v after %s", err, time.Since(begin))
		}
		closes(t, src)
	})
}

func TestValidate(t *testing.T) {
	t.Parallel()
	good := *queuesource.Entry.Default().(*queuesource.Config)
	if ps := good.Validate(); len(ps) > 0 {
		t.Errorf("the defaults are refused: %v", ps)
	}
	for field, change := range map[string]func(*queuesource.Config){
		"isolation":          func(c *queuesource.Config) { c.Isolation = "tenant" },
		"max_isolated":       func(c *queuesource.Config) { c.MaxIsolated = 0 },
		"max_batch_messages": func(c *queuesource.Config) { c.MaxBatchMessages = 0 },
		"max_batch_bytes":    func(c *queuesource.Config) { c.MaxBatchBytes = -1 },
		"lease_seconds":      func(c *queuesource.Config) { c.LeaseSeconds = 2 },
	} {
		c := good
		change(&c)
		if ps := c.Validate(); len(ps) != 1 || ps[0].Field != field {
			t.Errorf("%s: problems %v", field, ps)
		}
	}
}

func TestUndeclaredQueue(t *testing.T) {
	t.Parallel()
	_, err := queuesource.Entry.Build(t.Context(), connector.Deps{}, func(into any) error {
		into.(*queuesource.Config).Name = "nowhere"
		return nil
	})
	if err == nil || err.Error() != `there is no queue "nowhere": declare it with a block queue "nowhere" {}` {
		t.Errorf("New: %v", err)
	}
}

// TestAllocations holds the allocations of a message that is read and settled: those of a
// read are counted, not those of each message.
func TestAllocations(t *testing.T) {
	s, err := embedded.Open("store", embedded.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const each = 500
	jobs := make([]queue.Job, each)
	for i := range jobs {
		jobs[i] = job("payload")
		jobs[i].Scope = event.Scope{Workspace: "w", Source: "s"}
	}
	appends(t, s, jobs...)
	src := source(t, s, func(c *queuesource.Config) { c.MaxBatchMessages = each })
	defer closes(t, src)
	both := testing.AllocsPerRun(20, func() {
		appends(t, s, jobs...)
		b, ack := reads(t, src)
		if len(b) != each {
			t.Fatalf("read %d messages, want %d", len(b), each)
		}
		if err := ack(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	})
	alone := testing.AllocsPerRun(20, func() { appends(t, s, jobs...) })
	if n := (both - alone) / each; n > 0.2 {
		t.Errorf("a message read and settled allocates %.3f times, want at most 0.2", n)
	}
}
