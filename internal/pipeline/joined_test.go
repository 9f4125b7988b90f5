package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/embedded"
	"github.com/weirdata/weir/internal/retry"
	queuesource "github.com/weirdata/weir/internal/source/queue"
	queuetarget "github.com/weirdata/weir/internal/target/queue"
)

func openStore(t *testing.T, fs *vfs.MemFS) *embedded.Store {
	t.Helper()
	s, err := embedded.Open("store", embedded.Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closeStore(t *testing.T, s *embedded.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// deps are for connectors of the queues "a" and "b" in s.
func deps(s queue.Store, ordered bool) connector.Deps {
	return connector.Deps{Log: slog.New(slog.DiscardHandler), Store: func() queue.Store { return s },
		Queues: map[string]connector.Queue{"a": {Name: "a", Ordered: ordered}, "b": {Name: "b", Ordered: ordered}}}
}

func queueSource(t *testing.T, s queue.Store, name string, change func(*queuesource.Config)) connector.Source {
	t.Helper()
	src, err := queuesource.Entry.Build(t.Context(), deps(s, false), func(into any) error {
		c := into.(*queuesource.Config)
		c.Name, c.StopWhenEmpty = name, true
		if change != nil {
			change(c)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return src
}

func queueTarget(t *testing.T, s queue.Store, name string) connector.Target {
	t.Helper()
	target, err := queuetarget.Entry.Build(t.Context(), deps(s, false), func(into any) error {
		into.(*queuetarget.Config).Name = name
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func put(t *testing.T, s queue.Store, name string, payloads ...string) {
	t.Helper()
	jobs := make([]queue.Job, len(payloads))
	for i, p := range payloads {
		jobs[i] = queue.Job{Queue: name, Msg: event.New([]byte(p))}
	}
	if err := s.Update(t.Context(), func(tx queue.Tx) error { return tx.Append(jobs...) }); err != nil {
		t.Fatal(err)
	}
}

// held is how often each payload is in a queue, in a state.
func held(t *testing.T, s queue.Admin, name string, state queue.State) map[string]int {
	t.Helper()
	out := map[string]int{}
	for after := (queue.ID{}); ; {
		p, err := s.List(t.Context(), queue.Search{Filter: queue.Filter{Queue: name}, State: state}, after, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for i := range p.Jobs {
			out[string(p.Jobs[i].Msg.Data)]++
		}
		if after = p.Next; after == (queue.ID{}) {
			return out
		}
	}
}

func wantHeld(t *testing.T, what string, got map[string]int, want ...string) {
	t.Helper()
	have := slices.Sorted(maps.Keys(got))
	slices.Sort(want)
	if !slices.Equal(have, want) {
		t.Errorf("%s has %q, want %q", what, have, want)
	}
	for p, n := range got {
		if n != 1 {
			t.Errorf("%s has %q %d times", what, p, n)
		}
	}
}

// quick is a policy that tries again soon.
func quick() retry.Policy {
	c := retry.Class{Delay: 10 * time.Millisecond, MaxAttempts: 3, MaxDelay: 10 * time.Millisecond}
	return retry.Policy{Transient: c, Throttle: c, Setup: c}
}

// between is a bench whose source and target are queues of s.
func between(t *testing.T, s queue.Store, change func(*queuesource.Config)) *bench {
	t.Helper()
	b := newBench()
	b.parts.Source = queueSource(t, s, "a", change)
	b.parts.Target = Sink{Target: queueTarget(t, s, "b"), Limits: connector.Limits{MaxBatchMessages: 7, MaxConcurrentBatches: 3, MaxMessageBytes: 1 << 20, Eager: true}}
	b.parts.Retry = quick()
	return b
}

// forked makes each message two, but those that begin with "drop" none.
var forked = transform(func(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
	if bytes.HasPrefix(m.Data, []byte("drop")) {
		return out, nil
	}
	return append(out, m.Split(append(bytes.Clone(m.Data), " left"...), append(bytes.Clone(m.Data), " right"...))...), nil
})

// TestMoveIsExactlyOnce cuts the power at random instants of a move in which each message
// becomes two, and looks at the disk: each message is in one queue or, as its two
// children, in the other, and after the next run all of them have moved, once.
func TestMoveIsExactlyOnce(t *testing.T) {
	t.Parallel()
	const messages, rounds = 400, 12
	for round := range rounds {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(uint64(round), 0))
			fs := vfs.NewCrashableMem()
			s := openStore(t, fs)
			put(t, s, "a", numbered("m", messages)...)
			cut := rng.IntN(messages)
			unsynced := vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng}
			var n atomic.Int64
			var after *vfs.MemFS
			pull := transform(func(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
				if n.Add(1) == int64(cut)+1 {
					after = fs.CrashClone(unsynced)
				}
				return append(out, m), nil
			})
			b := between(t, s, func(c *queuesource.Config) { c.MaxBatchMessages = 1 + rng.IntN(50) }).through(2, pull, forked)
			if err := b.run(t.Context()); err != nil {
				t.Fatal(err)
			}
			closeStore(t, s)

			s = openStore(t, after)
			defer closeStore(t, s)
			waiting, moved := held(t, s, "a", queue.Open), held(t, s, "b", queue.Open)
			for i := range messages {
				m := fmt.Sprintf("m%d", i)
				l, r := moved[m+" left"], moved[m+" right"]
				if waiting[m]+l != 1 || l != r {
					t.Errorf("after the crash %s is %d times in a, its children %d and %d times in b", m, waiting[m], l, r)
				}
			}
			if err := between(t, s, nil).through(2, forked).run(t.Context()); err != nil {
				t.Fatal(err)
			}
			var want []string
			for i := range messages {
				want = append(want, fmt.Sprintf("m%d left", i), fmt.Sprintf("m%d right", i))
			}
			wantHeld(t, "queue b", held(t, s, "b", queue.Open), want...)
			wantHeld(t, "queue a", held(t, s, "a", queue.Open))
		})
	}
}

// TestMoveFiltersAndBuries moves, filters and dead-letters messages of one read.
func TestMoveFiltersAndBuries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, vfs.NewMem())
		put(t, s, "a", "one", "drop two", "bad", strings.Repeat("x", 200), "three")
		b := between(t, s, nil).through(2, transform(func(ctx context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
			if string(m.Data) == "bad" {
				return out, errors.New("refused")
			}
			return forked(ctx, out, m)
		}))
		b.parts.Target.Limits.MaxMessageBytes = 100
		if err := b.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantHeld(t, "queue b", held(t, s, "b", queue.Open), "one left", "one right", "three left", "three right")
		wantHeld(t, "queue a", held(t, s, "a", queue.Open))
		wantHeld(t, "the dead of queue a", held(t, s, "a", queue.Buried))
		wantPayloads(t, "filter target", b.filter, "drop two")
		if got := b.failure.payloads(); len(got) != 3 {
			t.Errorf("failure target has %q, want bad and two oversized", got)
		}
		closeStore(t, s)
	})
}

// slowTarget holds the move back until open is closed.
type slowTarget struct {
	connector.StoreTarget
	open <-chan struct{}
}

func (t slowTarget) Accepts(m *event.Message) error {
	<-t.open
	return t.StoreTarget.Accepts(m)
}

// TestSpoiledMessageIsNotDone has one child of a message fail before the other is moved:
// the message must stay in its queue although nothing of it is open any more.
func TestSpoiledMessageIsNotDone(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		change func(b *bench, failed func())
		fails  bool // the pipeline ends with an error
	}{
		{"failure target is away", func(b *bench, failed func()) {
			b.failure.before = func(context.Context, event.Batch) error {
				go func() { time.Sleep(time.Millisecond); failed() }()
				return errors.New("away")
			}
		}, false},
		{"failure target is broken", func(b *bench, failed func()) {
			b.failure.before = func(context.Context, event.Batch) error {
				go func() { time.Sleep(time.Millisecond); failed() }()
				return fault.New(fault.Fatal, errors.New("broken"))
			}
		}, true},
		{"failure target panics", func(b *bench, failed func()) {
			b.failure.before = func(context.Context, event.Batch) error {
				go func() { time.Sleep(time.Millisecond); failed() }()
				panic("broken")
			}
		}, false},
		{"no failure payload", func(b *bench, failed func()) {
			b.parts.Format = formatFunc(func(Failure, int) ([]byte, error) {
				go func() { time.Sleep(time.Millisecond); failed() }()
				return nil, errors.New("nothing fits")
			})
		}, true},
		{"failure payload is too large", func(b *bench, failed func()) {
			b.parts.Failure.Limits.MaxMessageBytes = 10
			b.parts.Format = formatFunc(func(Failure, int) ([]byte, error) {
				go func() { time.Sleep(time.Millisecond); failed() }()
				return make([]byte, 11), nil
			})
		}, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := openStore(t, vfs.NewMem())
				put(t, s, "a", "m")
				open := make(chan struct{})
				b := between(t, s, func(c *queuesource.Config) { c.StopWhenEmpty = false })
				b.parts.Retry.Transient.MaxAttempts = 0
				b.through(1, transform(func(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
					return append(out, m.Split([]byte("good"), make([]byte, 200))...), nil
				}))
				b.parts.Target.Limits.MaxMessageBytes = 100
				b.parts.Target.Target = slowTarget{b.parts.Target.Target.(connector.StoreTarget), open}
				row.change(b, sync.OnceFunc(func() { close(open) }))
				ctx, stop := context.WithTimeout(t.Context(), 15*time.Millisecond)
				defer stop()
				if err := b.run(ctx); (err != nil) != row.fails {
					t.Errorf("Run: %v", err)
				}
				left := held(t, s, "a", queue.Open)
				maps.Copy(left, held(t, s, "a", queue.Buried))
				wantHeld(t, "queue a", left, "m")
				closeStore(t, s)
			})
		})
	}
}

type formatFunc func(Failure, int) ([]byte, error)

func (f formatFunc) Format(x Failure, limit int) ([]byte, error) { return f(x, limit) }

// TestMoveLargeRead moves what one read became although it is too much for a transaction.
func TestMoveLargeRead(t *testing.T) {
	t.Parallel()
	s := openStore(t, vfs.NewMem())
	defer closeStore(t, s)
	put(t, s, "a", "1", "2", "3")
	const large = 9 << 20
	b := between(t, s, nil).through(1, transform(func(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
		payloads := make([][]byte, 4)
		for i := range payloads {
			payloads[i] = bytes.Repeat(m.Data, large)
		}
		return append(out, m.Split(payloads...)...), nil
	}))
	b.parts.Target.Limits.MaxMessageBytes = queue.MaxPayload
	b.parts.Retry.Transient.MaxAttempts = 1
	if err := b.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	st, err := s.Stats(t.Context(), queue.Filter{Queue: "b"})
	if err != nil || st.Waiting != 12 {
		t.Errorf("queue b: %+v, %v; want 12 waiting", st, err)
	}
	if st, err = s.Stats(t.Context(), queue.Filter{Queue: "a"}); err != nil || st.Open()+st.Dead != 0 {
		t.Errorf("queue a: %+v, %v; want nothing", st, err)
	}
	wantPayloads(t, "failure target", b.failure)
}

// TestMoveIntoFullStore keeps messages open for as long as the store is full, and gives
// none up.
func TestMoveIntoFullStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, vfs.NewMem())
		put(t, s, "a", "m")
		full := &fullStore{Store: s}
		full.left.Store(20)
		b := newBench()
		b.parts.Source = queueSource(t, full, "a", nil)
		b.parts.Target = Sink{Target: queueTarget(t, full, "b"), Limits: limits()}
		b.parts.Retry = quick()
		if err := b.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantHeld(t, "queue b", held(t, s, "b", queue.Open), "m")
		if n := full.left.Load(); n >= 0 {
			t.Errorf("%d refusals were left: the store was not asked that often", n)
		}
		closeStore(t, s)
	})
}

// fullStore refuses transactions that append, for as often as is left.
type fullStore struct {
	queue.Store
	left atomic.Int64
}

func (s *fullStore) Update(ctx context.Context, fn func(queue.Tx) error) error {
	return s.Store.Update(ctx, func(tx queue.Tx) error { return fn(fullTx{tx, s}) })
}

type fullTx struct {
	queue.Tx
	s *fullStore
}

func (tx fullTx) Append(jobs ...queue.Job) error {
	if tx.s.left.Add(-1) >= 0 {
		return queue.ErrFull
	}
	return tx.Tx.Append(jobs...)
}
