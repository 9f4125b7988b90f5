package pipeline

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
)

// endless is a source that has as much as it may read, in messages of one size.
type endless struct{ size int }

func (endless) Open(context.Context) error  { return nil }
func (endless) Close(context.Context) error { return nil }
func (e endless) Read(ctx context.Context, room connector.Room) (event.Batch, connector.Ack, error) {
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	var b event.Batch
	for n := 0; len(b) == 0 || n+e.size <= room.Bytes && len(b) < room.Messages; n += e.size {
		b = append(b, event.New(make([]byte, e.size)))
	}
	return b, nil, nil
}

// TestProcessBudget: pipelines that hold all they can stay below the bound of the process
// but for a message each, and one that comes later reads nevertheless.
func TestProcessBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const bound, size = 100_000, 1000
		budget := &Budget{}
		budget.Resize(bound)
		most := atomic.Int64{}
		start := func(stuck bool) (written *atomic.Int64, stop func() error) {
			written = &atomic.Int64{}
			b := newBench()
			b.parts.Source, b.parts.Process = endless{size}, budget
			b.target.before = func(ctx context.Context, b event.Batch) error {
				most.Store(max(most.Load(), budget.Used()))
				if stuck {
					<-ctx.Done()
					return ctx.Err()
				}
				time.Sleep(10 * time.Millisecond)
				written.Add(int64(len(b)))
				return nil
			}
			return written, runs(t, New(b.parts))
		}
		const stuck = 20
		var stops []func() error
		for range stuck {
			_, stop := start(true)
			stops = append(stops, stop)
		}
		time.Sleep(time.Second)
		written, stop := start(false)
		time.Sleep(time.Second)
		if written.Load() < 50 {
			t.Errorf("beside pipelines that hold all there is, one wrote %d messages in a second", written.Load())
		}
		if n := most.Load(); n > bound+(stuck+1)*size || n < bound/2 {
			t.Errorf("%d bytes were in flight, the bound is %d and a message of %d for each of %d", n, bound, size, stuck+1)
		}
		for _, stop := range append(stops, stop) {
			_ = stop() // what is stuck is cut
		}
		synctest.Wait()
		if n := budget.Used(); n != 0 {
			t.Errorf("%d bytes are in flight after the end", n)
		}
	})
}

// TestProcessBudgetOfValues is the same for the values of an isolated pipeline.
func TestProcessBudgetOfValues(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		budget := &Budget{}
		budget.Resize(1000)
		d := newDesk()
		payload := strings.Repeat("x", 100)
		for v := range 50 {
			d.put(fmt.Sprint("hangs", v), payload, payload, payload)
		}
		b := isolated(d, func(ctx context.Context, b event.Batch) error {
			if strings.HasPrefix(valueOf(b), "hangs") {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		})
		b.parts.Process = budget
		stop := runs(t, New(b.parts))
		time.Sleep(time.Second)
		for range 20 {
			d.put("healthy", payload)
			time.Sleep(10 * time.Millisecond)
		}
		if n := d.settled("healthy"); n != 20 {
			t.Errorf("the healthy value had %d of 20 messages delivered", n)
		}
		if n := budget.Used(); n > 50*300 {
			t.Errorf("%d bytes in flight", n)
		}
		_ = stop()
	})
}

// TestProcessBudgetTakenByOthers: one that finds nothing left reads a message after the other,
// however the end of one meets the wait for the next.
func TestProcessBudgetTakenByOthers(t *testing.T) {
	t.Parallel()
	const messages = 3000
	budget := &Budget{}
	budget.Resize(100)
	budget.add(100)
	b := newBench()
	b.parts.Process = budget
	b.parts.Source = &counted{left: messages}
	if err := New(b.parts).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := budget.Used(); n != 100 {
		t.Errorf("%d bytes are in flight after the end, others hold 100", n)
	}
}

// TestIdleReaderKeepsItsOwn: who reads first and waits keeps from those that come later no
// more than it may have itself.
func TestIdleReaderKeepsItsOwn(t *testing.T) {
	t.Parallel()
	b := &Budget{}
	b.Resize(1000)
	b.join()
	if n := b.reserve(100, nil); n != 100 {
		t.Errorf("the first has %d set aside, it may hold 100", n)
	}
	b.join()
	if n := b.reserve(1000, nil); n != 450 {
		t.Errorf("the second has %d set aside, half of what is left is 450", n)
	}
}

// counted is a source of so many messages, one at a time.
type counted struct{ left int }

func (*counted) Open(context.Context) error  { return nil }
func (*counted) Close(context.Context) error { return nil }
func (c *counted) Read(context.Context, connector.Room) (event.Batch, connector.Ack, error) {
	if c.left == 0 {
		return nil, nil, io.EOF
	}
	c.left--
	return event.Batch{event.New([]byte("x"))}, nil, nil
}

// TestReaderOfBefore: what was set aside for a read that began when there were fewer readers keeps
// from those that came later an equal share, however many there are of the one and the other.
func TestReaderOfBefore(t *testing.T) {
	t.Parallel()
	const bound = 64 << 20
	freed := make(chan struct{}, 1)
	for _, idle := range []int{1, 2, 5, 50} {
		b := &Budget{}
		b.Resize(bound)
		var aside []int64
		for range idle { // each begins to read before the next is there, and waits
			b.join()
			aside = append(aside, b.reserve(bound, freed))
		}
		b.join()
		for range 100 {
			got := b.reserve(bound, freed)
			if least := int64(bound) / int64(idle+1) / int64(idle+1); got < least {
				t.Fatalf("beside %d that are idle, a reader gets %d bytes of %d, less than %d", idle, got, bound, least)
			}
			b.giveBack(got)
		}
		for _, n := range aside {
			b.giveBack(n)
		}
		if n := b.Used(); n != 0 {
			t.Errorf("%d bytes are in use in the end", n)
		}
	}
}
