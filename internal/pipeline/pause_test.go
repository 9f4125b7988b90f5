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
	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/retry"
)

// patiently is a policy that gives nothing up.
func patiently() retry.Policy {
	c := retry.Class{Delay: time.Second, MaxDelay: time.Minute}
	return retry.Policy{Transient: c, Throttle: c, Setup: c}
}

// TestPauses: while the target of a patient pipeline takes nothing, it is asked about once
// for each pause, however many messages and writers there are; then everything arrives.
func TestPauses(t *testing.T) {
	t.Parallel()
	for _, groups := range []int{0, 2, mostPauses + 2} {
		t.Run(fmt.Sprintf("%d groups", groups), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := openStore(t, vfs.NewMem())
				payloads, outage := numbered("m", max(300, groups)), time.Hour
				if groups > mostPauses {
					outage = time.Minute
				}
				put(t, s, "a", payloads...)
				b := newBench()
				b.parts.Source, b.parts.Retry = queueSource(t, s, "a", nil), patiently()
				l := limits()
				l.MaxBatchMessages, l.MaxConcurrentBatches = 1, 8
				down := func(event.Batch) bool { return true }
				if groups > 0 {
					group := func(m *event.Message) string {
						n := 0
						_, _ = fmt.Sscanf(string(m.Data), "m%d", &n)
						return fmt.Sprint(n % groups)
					}
					l.Group = group
					down = func(b event.Batch) bool { return group(b[0]) != "0" || groups > mostPauses }
				}
				b.parts.Target.Limits = l
				var mu sync.Mutex
				begin, asked, healthy := time.Now(), 0, 0
				b.target.before = func(_ context.Context, batch event.Batch) error {
					mu.Lock()
					defer mu.Unlock()
					if since := time.Since(begin); since < outage && down(batch) {
						asked++
						return errors.New("refused")
					} else if since < time.Minute {
						healthy++
					}
					return nil
				}
				if err := b.run(t.Context()); err != nil {
					t.Fatal(err)
				}
				if n := len(b.target.payloads()); n != len(payloads) {
					t.Errorf("%d of %d messages arrived", n, len(payloads))
				}
				// Sixty pauses of a minute, a few shorter ones before, and each writer may be
				// there at the beginning of one.
				if most := 8 * 75; groups <= 2 && asked > most {
					t.Errorf("a target that is down for an hour was asked %d times", asked)
				}
				if groups == 2 && healthy != len(payloads)/2 {
					t.Errorf("%d messages of the group that is well arrived in the first minute", healthy)
				}
				closeStore(t, s)
			})
		})
	}
}

// TestPauseEndsWithThePipeline: a stop does not wait for the end of a pause, and what was
// held is in the queue with the reason.
func TestPauseEndsWithThePipeline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, vfs.NewMem())
		put(t, s, "a", numbered("m", 20)...)
		b := newBench()
		b.parts.Source, b.parts.Retry = queueSource(t, s, "a", nil), patiently()
		b.parts.Target.Limits.MaxBatchMessages, b.parts.Target.Limits.MaxConcurrentBatches = 1, 4
		b.target.before = failing(1<<30, errors.New("refused"))
		p := New(b.parts)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- p.Run(ctx) }()
		time.Sleep(10 * time.Minute)
		if err := p.Trouble(); err == nil || err.Error() != "refused" {
			t.Errorf("trouble: %v", err)
		}
		begin := time.Now()
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		if took := time.Since(begin); took > time.Second {
			t.Errorf("the stop took %s", took)
		}
		page, err := s.List(t.Context(), queue.Search{Filter: queue.Filter{Queue: "a"}, State: queue.Open}, queue.ID{}, 100)
		if err != nil || len(page.Jobs) != 20 {
			t.Fatalf("in the queue: %d, %v", len(page.Jobs), err)
		}
		for _, j := range page.Jobs {
			if j.Cause != "refused" {
				t.Errorf("%s waits because of %q", j.Msg.Data, j.Cause)
			}
		}
		closeStore(t, s)
	})
}

// TestOpenedLater: a target of a patient pipeline need not be there at the start; messages go
// back with the reason until it is. For another pipeline that is a failure.
func TestOpenedLater(t *testing.T) {
	t.Parallel()
	for _, routes := range []int{1, 2} {
		t.Run(fmt.Sprintf("%d targets", routes), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := openStore(t, vfs.NewMem())
				put(t, s, "a", "one", "two")
				b := newBench()
				b.parts.Source, b.parts.Retry = queueSource(t, s, "a", nil), patiently()
				target := &lateTarget{fakeTarget: b.target, err: connector.Blame("path", "make it", errors.New("no such directory"))}
				b.parts.Target.Target = target
				if routes > 1 {
					b.parts.Routes, b.parts.First = []Route{{Name: "x", Sink: b.parts.Target}, {Name: "y", Sink: b.parts.Filter}}, true
				}
				p := New(b.parts)
				ended := make(chan error)
				go func() { ended <- p.Run(t.Context()) }()
				time.Sleep(time.Hour)
				if st, err := s.Stats(t.Context(), queue.Filter{Queue: "a"}); err != nil || st.Open() != 2 {
					t.Fatalf("in the queue: %+v, %v", st, err)
				}
				if err := p.Trouble(); err == nil || !strings.Contains(err.Error(), "open the target") || !strings.Contains(err.Error(), "no such directory") {
					t.Errorf("trouble: %v", err)
				}
				target.mu.Lock()
				target.err = nil
				target.mu.Unlock()
				if err := <-ended; err != nil {
					t.Errorf("Run: %v", err)
				}
				if n := len(b.target.payloads()); n != 2 {
					t.Errorf("%d messages arrived", n)
				}
				if target.opened != 1 {
					t.Errorf("the target was opened %d times", target.opened)
				}
				b.parts.Retry.Setup.MaxAttempts = 1
				target.err = errSetup
				if err := New(b.parts).Run(t.Context()); !errors.Is(err, errSetup) {
					t.Errorf("Run of a pipeline that gives up: %v", err)
				}
				closeStore(t, s)
			})
		})
	}
}

// lateTarget cannot be opened as long as it has an error.
type lateTarget struct {
	*fakeTarget
	err    error
	opened int
}

func (l *lateTarget) Open(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.opened++
	}
	return l.err
}
