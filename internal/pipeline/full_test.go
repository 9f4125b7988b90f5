package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// refuserSource is a source whose callers can be told to come back.
type refuserSource struct {
	*fakeSource
	full func() error
}

func (s *refuserSource) RefuseWhile(full func() error) { s.full = full }

// knowingTarget is a target that knows whether it has room.
type knowingTarget struct {
	*fakeTarget
	mu  sync.Mutex
	err error
}

func (t *knowingTarget) Full() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

var errNoRoom = fault.NoRoom(errors.New("no byte is left"), 3*time.Second)

// lines is a log as text.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), what)
}

// TestNoRoomHoldsBack: a pipeline whose target has no room waits for as long as that lasts,
// whatever its policy says of attempts, says so once, and goes on.
func TestNoRoomHoldsBack(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]func(event.Batch) error{
		"of a batch":     func(event.Batch) error { return fmt.Errorf("append: %w", errNoRoom) },
		"of a message":   func(event.Batch) error { return &connector.Partial{Failed: map[int]error{0: errNoRoom}} },
		"without a time": func(event.Batch) error { return fault.NoRoom(errors.New("full"), 0) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBench(step{payloads: numbered("a", 30)})
				var log lines
				b.parts.Log = slog.New(slog.NewTextHandler(&log, nil))
				b.parts.Retry.Throttle.MaxAttempts = 2
				end := time.Now().Add(24 * time.Hour)
				b.target.before = func(_ context.Context, batch event.Batch) error {
					if time.Now().Before(end) {
						return err(batch)
					}
					return nil
				}
				if err := b.run(t.Context()); err != nil {
					t.Fatal(err)
				}
				if got := len(b.target.payloads()); got != 30 {
					t.Errorf("%d of 30 messages were written", got)
				}
				if late := time.Since(end); late > time.Minute {
					t.Errorf("the last was written %s after there was room", late)
				}
				if full, again := log.count("there is no room"), log.count("there is room again"); full != 1 || again != 1 || log.count("trying again") != 0 {
					t.Errorf("logged %d times that there is no room, %d that there is:\n%s", full, again, log.text.String())
				}
			})
		})
	}
}

// TestNoRoomIsTold: callers that wait are told at once that there is no room, and so are those
// that come; nothing fails for it.
func TestNoRoomIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(step{payloads: []string{"a", "b"}}, step{after: 10 * time.Second, payloads: []string{"c"}})
		source := &refuserSource{fakeSource: b.source}
		b.parts.Source = source
		b.target.before = failing(1, errNoRoom)
		begin := time.Now()
		b.source.onAck = func(n int, o event.Outcomes) error {
			switch {
			case n == 1 && o.Err() != nil:
				t.Errorf("what came when there was room: %v", o)
			case n == 0 && !fault.Full(o.Err()):
				t.Errorf("what came when there was none: %v", o)
			case n == 0 && time.Since(begin) > time.Second:
				t.Errorf("told after %s", time.Since(begin))
			case n == 0 && source.full() == nil:
				t.Error("who comes now is not turned away")
			}
			return nil
		}
		b.source.onRead = func() {
			if time.Since(begin) >= 9*time.Second && source.full() != nil {
				t.Error("who comes ten seconds later is turned away, and so nobody finds out")
			}
		}
		p := New(b.parts)
		if err := p.Run(t.Context()); err != nil {
			t.Errorf("Run: %v", err)
		}
		wantPayloads(t, "the target", b.target, "c")
		wantPayloads(t, "the failure target", b.failure)
	})
}

// TestRoomIsKnown: a target that knows whether it has room is asked, also before it is open.
func TestRoomIsKnown(t *testing.T) {
	t.Parallel()
	b := newBench()
	source := &refuserSource{fakeSource: b.source}
	target := &knowingTarget{fakeTarget: b.target, err: errNoRoom}
	b.parts.Source, b.parts.Target.Target = source, target
	p := New(b.parts)
	if err, refusing := p.Full(); err == nil || !refusing {
		t.Errorf("Full: %v, %t", err, refusing)
	}
	if err := p.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := source.full(); !errors.Is(err, errNoRoom) {
		t.Errorf("told %v", err)
	}
	target.mu.Lock()
	target.err = nil
	target.mu.Unlock()
	if err := source.full(); err != nil {
		t.Errorf("told %v", err)
	}
	p.Discard(t.Context())
}
