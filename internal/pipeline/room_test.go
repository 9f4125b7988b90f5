package pipeline

import (
	"context"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
)

// greedy is a source that reads all there is room for, and counts what is not acknowledged.
type greedy struct {
	left, size int
	rooms      []connector.Room

	mu                sync.Mutex
	open, most, acked int
}

func (g *greedy) Open(context.Context) error  { return nil }
func (g *greedy) Close(context.Context) error { return nil }

func (g *greedy) Read(_ context.Context, room connector.Room) (event.Batch, connector.Ack, error) {
	g.rooms = append(g.rooms, room)
	n := min(g.left, room.Messages, max(room.Bytes/g.size, 1))
	if n == 0 {
		return nil, nil, io.EOF
	}
	g.left -= n
	b := make(event.Batch, n)
	for i := range b {
		b[i] = event.New(make([]byte, g.size))
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open += n
	g.most = max(g.most, g.open)
	return b, func(context.Context, event.Outcomes) error {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.open -= n
		g.acked += n
		return nil
	}, nil
}

// TestReadsFitTheRoom: a source that takes all the room it is told of never has more in flight than the
// budget, and, although its target takes a few messages at a time, never reads a few at a time.
func TestReadsFitTheRoom(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ messages, bytes, size int }{
		"messages": {64, 1 << 30, 10}, "bytes": {1 << 30, 6400, 100}, "larger than all room": {10, 50, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := &greedy{left: 2000, size: c.size}
				b := newBench()
				b.parts.Source, b.parts.InFlightMessages, b.parts.InFlightBytes = g, c.messages, c.bytes
				b.parts.Target.Limits.MaxBatchMessages = 4
				b.target.before = func(context.Context, event.Batch) error { time.Sleep(5 * time.Millisecond); return nil }
				if err := b.run(t.Context()); err != nil {
					t.Fatal(err)
				}
				budget := min(c.messages, max(c.bytes/c.size, 1))
				if g.most > budget || g.acked != 2000 || g.open != 0 {
					t.Errorf("%d messages were in flight at once, there was room for %d; %d were acknowledged", g.most, budget, g.acked)
				}
				if least := 2000 / max(budget/roomShare, 1); len(g.rooms) > least+2 {
					t.Errorf("%d reads, want at most %d", len(g.rooms), least)
				}
			})
		})
	}
}

// TestRoomBesideWhatHangs: messages that stay in flight take their room and no more; the
// others go on in what is left, although that is less than is waited for.
func TestRoomBesideWhatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &greedy{left: 1000, size: 1}
		b := newBench()
		b.parts.InFlightMessages = 32
		b.parts.Target.Limits.MaxBatchMessages = 1
		b.parts.Target.Limits.MaxConcurrentBatches = 32
		release := make(chan struct{})
		var mu sync.Mutex
		hangs := 31
		b.target.before = func(context.Context, event.Batch) error {
			mu.Lock()
			hang := hangs > 0
			hangs--
			mu.Unlock()
			if hang {
				<-release
			}
			return nil
		}
		// The reads of what hangs are of one message each, so that they hold nothing else.
		b.parts.Source = &singles{greedy: g, n: 31}
		begin := time.Now()
		done := make(chan error, 1)
		go func() { done <- b.run(t.Context()) }()
		synctest.Wait()
		time.Sleep(time.Minute)
		g.mu.Lock()
		acked, open := g.acked, g.open
		g.mu.Unlock()
		if acked != 1000-31 || open != 31 {
			t.Errorf("%d messages got through in %s, %d hang", acked, time.Since(begin), open)
		}
		close(release)
		if err := <-done; err != nil || g.acked != 1000 {
			t.Errorf("%d messages in the end, %v", g.acked, err)
		}
	})
}

// singles reads the first n messages one by one.
type singles struct {
	*greedy
	n int
}

func (s *singles) Read(ctx context.Context, room connector.Room) (event.Batch, connector.Ack, error) {
	if s.n > 0 {
		s.n--
		room.Messages = 1
	}
	return s.greedy.Read(ctx, room)
}

// TestStopWhileThereIsNoRoom: a pipeline that waits for room is asked to stop and does.
func TestStopWhileThereIsNoRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &greedy{left: 1000, size: 1}
		b := newBench()
		b.parts.Source, b.parts.InFlightMessages = g, 10
		b.target.before = func(ctx context.Context, _ event.Batch) error { <-ctx.Done(); return context.Cause(ctx) }
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		done := make(chan error, 1)
		begin := time.Now()
		go func() { done <- b.run(ctx) }()
		time.Sleep(time.Second)
		stop()
		if err := <-done; err == nil || time.Since(begin) > time.Second+b.parts.Drain {
			t.Errorf("after %s: %v", time.Since(begin), err)
		}
		if len(g.rooms) != 1 {
			t.Errorf("%d reads, and the first had taken all the room", len(g.rooms))
		}
	})
}
