package pipeline

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
)

// lagging is a source that says how far it is behind.
type lagging struct {
	*fakeSource
	lag func(ctx context.Context) ([]connector.Lag, error)
}

func (l lagging) Lag(ctx context.Context) ([]connector.Lag, error) { return l.lag(ctx) }

// TestLag asks a source now and then, and knows nothing when that has an error, panics, hangs
// or has ended.
func TestLag(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		b := newBench()
		b.source.endless = true
		b.parts.Source = lagging{b.source, func(ctx context.Context) ([]connector.Lag, error) {
			switch calls.Add(1) {
			case 1:
				return []connector.Lag{{Messages: 3, Bytes: 5, Age: time.Second}, {Messages: 4, Bytes: connector.Unknown, Age: time.Minute}}, nil
			case 2:
				return nil, errors.New("no answer")
			case 3:
				panic("no idea")
			case 4:
				return nil, nil
			}
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}}
		p := New(b.parts)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		for i, want := range [][3]int64{{7, -1, int64(time.Minute)}, {-1, -1, -1}, {-1, -1, -1}, {0, 0, 0}} {
			time.Sleep(time.Second)
			synctest.Wait()
			messages, bytes, age := p.Meter().Behind.Get()
			if calls.Load() != int64(i+1) || messages != want[0] || bytes != want[1] || int64(age) != want[2] {
				t.Errorf("answer %d of %d: %d messages, %d bytes, %s", i+1, calls.Load(), messages, bytes, age)
			}
			time.Sleep(lagEvery - time.Second)
		}
		time.Sleep(time.Second)
		begin := time.Now()
		stop()
		if err := <-done; err != nil || time.Since(begin) > time.Second {
			t.Errorf("ended after %s: %v", time.Since(begin), err)
		}
		if messages, _, _ := p.Meter().Behind.Get(); messages != connector.Unknown {
			t.Error("a pipeline that has ended says how far it is behind")
		}
	})
}

// TestFilteredReasons counts what is filtered by what a transform says, or by the transform.
func TestFilteredReasons(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(step{payloads: []string{"a", "b", "b", "c", "keep"}}).through(1,
			dropsFor("a", ""), dropsFor("b", "is b"), dropsFor("c", "is c"))
		b.parts.Steps = []string{"first", "second", "third"}
		p := New(b.parts)
		if err := p.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := p.Meter().FilteredReasons()
		if len(got) != 3 || got["first"] != 1 || got["is b"] != 2 || got["is c"] != 1 || p.Meter().Filtered.Load() != 4 {
			t.Errorf("filtered for %v", got)
		}
		wantPayloads(t, "filter target", b.filter, "a", "b", "b", "c")
	})
}

// dropsFor filters messages with a payload, for a reason if there is one.
func dropsFor(payload, reason string) transform {
	return func(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
		if string(m.Data) != payload {
			return append(out, m), nil
		}
		if reason != "" {
			m.Drop(reason)
		}
		return out, nil
	}
}
