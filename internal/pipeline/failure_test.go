package pipeline

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/retry"
)

// TestKeep: what is refused stays in its queue, dead, as it was read and with the reason,
// whoever refuses it and however; nothing else does, and the end of the source tells.
func TestKeep(t *testing.T) {
	t.Parallel()
	for _, between := range []bool{false, true} {
		t.Run(fmt.Sprintf("between queues %v", between), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := openStore(t, vfs.NewMem())
				put(t, s, "a", "good", "bad", "part", "large", "panics", "refused", "down", "dropped")
				b := newBench().through(2, transform(func(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
					switch string(m.Data) {
					case "bad":
						return out, errors.New("the transform says no")
					case "panics":
						panic("the transform panics")
					case "dropped":
						return out, nil
					case "large":
						m.Replace(make([]byte, 2<<20))
					case "part":
						parts := m.Split([]byte("part1"), []byte("refused2"))
						return append(out, parts...), nil
					}
					return append(out, m), nil
				}))
				b.parts.Source, b.parts.Keep = queueSource(t, s, "a", nil), true
				b.parts.Retry = retry.Policy{Transient: retry.Class{Delay: time.Second, MaxAttempts: 3, InvalidAfterMax: true}}
				b.target.before = func(_ context.Context, batch event.Batch) error {
					failed := map[int]error{}
					for i, m := range batch {
						switch {
						case strings.HasPrefix(string(m.Data), "refused"):
							failed[i] = fault.New(fault.Invalid, errors.New("418"))
						case string(m.Data) == "down":
							failed[i] = errTransient
						}
					}
					if len(failed) == 0 {
						return nil
					}
					return &connector.Partial{Failed: failed}
				}
				want := map[string]string{"bad": "the transform says no", "panics": "the transform panics", "large": "larger than the target takes",
					"refused": "418", "part": "418", "down": "gave up after 3 attempts"}
				if between { // a move in one transaction: the queue takes everything that is no panic, and that is not too large
					b.parts.Target.Target = queueTarget(t, s, "b")
					want = map[string]string{"bad": want["bad"], "panics": want["panics"], "large": want["large"]}
				}
				err := b.run(t.Context())
				if kept, is := errors.AsType[*Kept](err); !is || kept.Messages != int64(len(want)) {
					t.Errorf("Run: %v", err)
				}
				page, err := s.List(t.Context(), queue.Search{Filter: queue.Filter{Queue: "a"}, State: queue.Buried}, queue.ID{}, 100)
				if err != nil {
					t.Fatal(err)
				}
				for _, j := range page.Jobs {
					cause, expected := want[string(j.Msg.Data)]
					if delete(want, string(j.Msg.Data)); !expected || !strings.Contains(j.Cause, cause) {
						t.Errorf("dead: %q because of %q", j.Msg.Data, j.Cause)
					}
				}
				for payload := range want {
					t.Errorf("%q is not kept", payload)
				}
				if st, err := s.Stats(t.Context(), queue.Filter{Queue: "a"}); err != nil || st.Open() != 0 {
					t.Errorf("in the queue: %+v, %v", st, err)
				}
				if n := len(b.failure.payloads()); n != 0 {
					t.Errorf("%d messages were sent to the failure target", n)
				}
				closeStore(t, s)
			})
		})
	}
}

// TestKeepAndStop: a pipeline that is stopped has not come to its end, and what it keeps is
// no error.
func TestKeepAndStop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, vfs.NewMem())
		put(t, s, "a", "bad")
		b := newBench()
		b.parts.Source, b.parts.Keep = queueSource(t, s, "a", nil), true
		ctx, stop := context.WithCancel(t.Context())
		b.target.before = func(context.Context, event.Batch) error { stop(); return errInvalid }
		if err := b.run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
		wantHeld(t, "the queue", held(t, s, "a", queue.Buried), "bad")
		closeStore(t, s)
	})
}

// storeTarget is a failure target that is a queue, in a store that is full for a while.
type storeTarget struct {
	connector.StoreTarget
	mu      sync.Mutex
	refuses int
	largest int
}

func (s *storeTarget) Write(ctx context.Context, b event.Batch) error {
	s.mu.Lock()
	s.refuses--
	full := s.refuses >= 0
	s.largest = max(s.largest, b.Bytes())
	s.mu.Unlock()
	if full {
		return fault.Throttle(fmt.Errorf("append: %w", queue.ErrFull), time.Second)
	}
	return s.StoreTarget.Write(ctx, b)
}

// TestFailuresIntoAFullStore: the pipeline waits until its failures find room, however many
// attempts that takes, and gives them to the store in small writes.
func TestFailuresIntoAFullStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, vfs.NewMem())
		payloads := numbered(strings.Repeat("x", 100<<10), 40)
		b := newBench(step{payloads: payloads})
		to := &storeTarget{StoreTarget: queueTarget(t, s, "b").(connector.StoreTarget), refuses: 100}
		b.parts.Failure = Sink{Target: to, Limits: connector.Limits{MaxBatchMessages: 1000, MaxBatchBytes: 32 << 20, MaxMessageBytes: 16 << 20, MaxConcurrentBatches: 1, Eager: true}}
		b.target.before = func(context.Context, event.Batch) error { return errInvalid }
		if err := b.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if st, err := s.Stats(t.Context(), queue.Filter{Queue: "b"}); err != nil || st.Open() != int64(len(payloads)) {
			t.Errorf("in the queue: %+v, %v", st, err)
		}
		if to.largest > storedBatch {
			t.Errorf("one write has %d bytes", to.largest)
		}
		closeStore(t, s)
	})
}
