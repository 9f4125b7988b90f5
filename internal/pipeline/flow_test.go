package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/queue"
)

// desk is an isolated source: payloads that wait, by value, which are handed out in turns.
type desk struct {
	ends bool // when nothing waits and all is settled

	mu      sync.Mutex
	waiting map[string][]string
	turns   []string // values with something that waits
	wake    chan struct{}
	open    int
	acked   map[string]int
	handed  []string // values, in the order of their messages
}

func newDesk(values ...string) *desk {
	d := &desk{waiting: map[string][]string{}, wake: make(chan struct{}, 1), acked: map[string]int{}}
	for _, v := range values {
		d.put(v, v+"1")
	}
	return d
}

func (d *desk) put(value string, payloads ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.waiting[value]) == 0 && len(payloads) > 0 {
		d.turns = append(d.turns, value)
	}
	d.waiting[value] = append(d.waiting[value], payloads...)
	d.signal()
}

func (d *desk) signal() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

func (d *desk) Isolation() queue.Axis       { return queue.ByDestination }
func (d *desk) Open(context.Context) error  { return nil }
func (d *desk) Close(context.Context) error { return nil }

func (d *desk) Read(context.Context, connector.Room) (event.Batch, connector.Ack, error) {
	panic("read as a whole")
}

func (d *desk) ReadValues(ctx context.Context, room connector.Room, of func(string) (int, int), again <-chan struct{}) ([]connector.Portion, error) {
	for {
		most, _ := room.Within(1000, 1)
		ps, ended := d.take(most, of)
		switch {
		case len(ps) > 0:
			return ps, nil
		case ended:
			return nil, io.EOF
		}
		select {
		case <-d.wake:
		case <-again:
			return nil, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// take hands out one message after the other, one of each value in a turn.
func (d *desk) take(most int, room func(string) (int, int)) (ps []connector.Portion, ended bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	left, batches := map[string]int{}, map[string]event.Batch{}
	var order []string
	for progress := true; progress; {
		progress = false
		for range len(d.turns) {
			v := d.turns[0]
			d.turns = d.turns[1:]
			if _, asked := left[v]; !asked {
				left[v], _ = room(v)
			}
			if left[v] <= 0 || most == 0 {
				d.turns = append(d.turns, v)
				continue
			}
			left[v]--
			most--
			m := event.New([]byte(d.waiting[v][0]))
			m.Meta.Scope = &event.Scope{Destination: v}
			if d.waiting[v] = d.waiting[v][1:]; len(d.waiting[v]) > 0 {
				d.turns = append(d.turns, v)
			}
			if batches[v] == nil {
				order = append(order, v)
			}
			batches[v] = append(batches[v], m)
			d.handed = append(d.handed, v)
			progress = true
		}
	}
	for _, v := range order {
		b := batches[v]
		d.open += len(b)
		ps = append(ps, connector.Portion{Value: v, Batch: b, Ack: func(_ context.Context, o event.Outcomes) error {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.open -= len(b)
			for i := range b {
				if o == nil || o[i] == nil {
					d.acked[v]++
				}
			}
			d.signal()
			return nil
		}})
	}
	return ps, d.ends && len(d.turns) == 0 && d.open == 0
}

func (d *desk) settled(v string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.acked[v]
}

// isolated is a pipeline from d to a target.
func isolated(d *desk, write func(context.Context, event.Batch) error) *bench {
	b := newBench()
	b.parts.Source = d
	b.target.before = write
	b.parts.Target.Limits.MaxBatchMessages, b.parts.Target.Limits.Eager = 1, true
	b.parts.Drain = 4 * time.Second
	b.parts.Retry.Transient.Delay = 10 * time.Millisecond
	return b
}

// runs starts p, and returns what stops it and gives what Run returned.
func runs(t *testing.T, p *Pipeline) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	return func() error { cancel(); return <-ended }
}

func valueOf(b event.Batch) string { return b[0].Meta.Scope.Destination }

// TestStuckValueHoldsUpNoOther gives one destination that never answers as much to do as
// the others.
func TestStuckValueHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk("a", "stuck", "z")
		p := New(isolated(d, func(ctx context.Context, b event.Batch) error {
			if valueOf(b) == "stuck" {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}).parts)
		stop := runs(t, p)
		for range 50 {
			time.Sleep(100 * time.Millisecond)
			d.put("a", "more")
			d.put("stuck", "more")
			d.put("z", "more")
		}
		time.Sleep(time.Second)
		if a, z, stuck := d.settled("a"), d.settled("z"), d.settled("stuck"); a != 51 || z != 51 || stuck != 0 {
			t.Errorf("settled: a %d, z %d, stuck %d; want 51, 51, 0", a, z, stuck)
		}
		if p.State() != Running {
			t.Errorf("state %s", p.State())
		}
		begin := time.Now()
		if err := stop(); err == nil {
			t.Error("Run returned nil although messages were cut") // this source does not redeliver by itself
		}
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("the end took %s, the drain is 4 s", took)
		}
		if p.State() != Ended {
			t.Errorf("state %s", p.State())
		}
	})
}

// TestHangingValuesLeaveRoom has more values hang than may be in flight: each holds one
// message, and a value that comes later goes on nevertheless.
func TestHangingValuesLeaveRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		for v := range 500 {
			d.put(fmt.Sprint("hangs", v), numbered("m", 10)...)
		}
		b := isolated(d, func(ctx context.Context, b event.Batch) error {
			if strings.HasPrefix(valueOf(b), "hangs") {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		})
		b.parts.InFlightMessages = 100
		p := New(b.parts)
		stop := runs(t, p)
		time.Sleep(time.Second)
		if n := p.Meter().InFlight.Load(); n < 500 || n > 600 {
			t.Errorf("%d messages in flight: want one of each of the 500 values, and at most the 100 that may be", n)
		}
		for range 20 {
			d.put("healthy", "m")
			time.Sleep(10 * time.Millisecond)
		}
		if n := d.settled("healthy"); n != 20 {
			t.Errorf("the healthy value had %d of 20 messages delivered", n)
		}
		_ = stop() // what hangs is cut
	})
}

// TestFlowsEnd keeps nothing of a value that has nothing in flight.
func TestFlowsEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk("a", "b")
		p := New(isolated(d, func(context.Context, event.Batch) error { time.Sleep(time.Second); return nil }).parts)
		stop := runs(t, p)
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		if n := len(p.flows.list()); n != 2 {
			t.Errorf("%d flows, want 2", n)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(p.flows.list()); n != 0 || p.flows.messages != 0 || p.flows.bytes != 0 {
			t.Errorf("%d flows, %d messages, %d bytes after a minute without work", n, p.flows.messages, p.flows.bytes)
		}
		d.put("a", "again")
		time.Sleep(2 * time.Second)
		if got := d.settled("a"); got != 2 {
			t.Errorf("settled %d, want 2", got)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// TestEveryValueGetsItsTurn has several values with endless work.
func TestEveryValueGetsItsTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk("a", "b", "c", "d", "e")
		p := New(isolated(d, func(_ context.Context, b event.Batch) error {
			time.Sleep(time.Second)
			d.put(valueOf(b), "more")
			return nil
		}).parts)
		stop := runs(t, p)
		time.Sleep(time.Minute)
		if err := stop(); err != nil {
			t.Error(err)
		}
		for _, v := range []string{"a", "b", "c", "d", "e"} {
			if d.settled(v) < 50 {
				t.Errorf("%s settled %d in a minute, at one a second", v, d.settled(v))
			}
		}
	})
}

// TestIsolatedEndsWithItsSource settles everything before it ends.
func TestIsolatedEndsWithItsSource(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		for v := range 20 {
			d.put(fmt.Sprint(v), "x", "y")
		}
		d.ends = true
		p := New(isolated(d, func(context.Context, event.Batch) error { time.Sleep(time.Second); return nil }).parts)
		if err := p.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		for v := range 20 {
			if d.settled(fmt.Sprint(v)) != 2 {
				t.Errorf("value %d settled %d", v, d.settled(fmt.Sprint(v)))
			}
		}
	})
}

// TestFatalDrainsOtherValues ends for an error of one value, when the others are settled.
func TestFatalDrainsOtherValues(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk("a", "bad")
		p := New(isolated(d, func(_ context.Context, b event.Batch) error {
			if valueOf(b) == "bad" {
				time.Sleep(100 * time.Millisecond) // the other is writing
				return fault.New(fault.Fatal, errors.New("disk is gone"))
			}
			time.Sleep(time.Second)
			return nil
		}).parts)
		if err := p.Run(t.Context()); err == nil || fault.Of(err) != fault.Fatal {
			t.Errorf("Run: %v", err)
		}
		if d.settled("a") != 1 {
			t.Error("the other value was not drained")
		}
	})
}

// TestSlowTransformSharesItsWorker has one value whose every message takes a while to
// transform, and a long batch of them.
func TestSlowTransformSharesItsWorker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		d.put("slow", numbered("m", 1000)...)
		b := isolated(d, nil).through(1, transform(func(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
			if m.Meta.Scope.Destination == "slow" {
				time.Sleep(100 * time.Millisecond)
			}
			return append(out, m), nil
		}))
		stop := runs(t, New(b.parts))
		time.Sleep(time.Second)
		begin := time.Now()
		d.put("quick", "m")
		for d.settled("quick") == 0 {
			time.Sleep(10 * time.Millisecond)
		}
		if waited := time.Since(begin); waited > 300*time.Millisecond {
			t.Errorf("a message waited %s for a worker that another value has for 100 ms a message", waited)
		}
		time.Sleep(5 * time.Second)
		if n := d.settled("slow"); n != 0 {
			t.Errorf("%d messages of a read were settled before the rest of it", n)
		}
		time.Sleep(100 * time.Second)
		if n := d.settled("slow"); n == 0 {
			t.Error("the slow value never ended")
		}
		_ = stop()
	})
}

// TestRoomOfValues is what a value may read, for any number of values that hold anything.
func TestRoomOfValues(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.IntRange(1, 1000).Draw(t, "in flight")
		f := newFlows(most, 1<<40)
		held := map[string]int{}
		total := 0
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			v := fmt.Sprint(rapid.IntRange(0, 30).Draw(t, "value"))
			if held[v] > 0 && rapid.Bool().Draw(t, "settles") {
				n := rapid.IntRange(1, held[v]).Draw(t, "messages")
				f.release(f.byValue[v], int64(n), 0)
				held[v] -= n
				total -= n
				continue
			}
			messages, _ := f.room(v)
			switch {
			case held[v] == 0 && messages < 1:
				t.Fatalf("a value that holds nothing may read %d", messages)
			case messages > 1 && held[v]+messages > (most-total)/2:
				t.Fatalf("a value that holds %d may read %d of %d that are left", held[v], messages, most-total)
			case messages == 0:
				continue
			}
			n := rapid.IntRange(1, messages).Draw(t, "read")
			f.admit(v, 1, int64(n), 0)
			held[v] += n
			total += n
		}
		for v, n := range held {
			if got := f.byValue[v]; (got == nil) != (n == 0) || got != nil && got.messages != int64(n) {
				t.Fatalf("value %s holds %d, counted is %+v", v, n, got)
			}
		}
	})
}

// TestFlowKeepsOrder finishes the reads of a flow in any order, from any number of workers.
func TestFlowKeepsOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		v := &flow{}
		n := rapid.IntRange(1, 40).Draw(t, "reads")
		reads := make([]*read, n)
		for i := range reads {
			reads[i] = &read{next: i}
			v.enter(reads[i])
		}
		var mu sync.Mutex
		var got []int
		var wg sync.WaitGroup
		for _, i := range rapid.Permutation(slices.Collect(func(yield func(int) bool) {
			for i := range n {
				if !yield(i) {
					return
				}
			}
		})).Draw(t, "order") {
			wg.Go(func() {
				v.ready(reads[i], func(r *read) {
					mu.Lock()
					defer mu.Unlock()
					got = append(got, r.next)
				})
			})
		}
		wg.Wait()
		if !slices.IsSorted(got) || len(got) != n {
			t.Fatalf("handed on %v", got)
		}
	})
}

// TestRotaTakesTurns hands one flow's only read out before a second one of another.
func TestRotaTakesTurns(t *testing.T) {
	t.Parallel()
	q := newRota(0)
	a, b := &flow{value: "a"}, &flow{value: "b"}
	for range 3 {
		q.add(&read{flow: a})
	}
	q.add(&read{flow: b})
	var got []string
	for range 4 {
		got = append(got, q.take().flow.value)
	}
	q.close()
	if strings.Join(got, "") != "abaa" || q.take() != nil || len(q.todo) != 0 {
		t.Errorf("turns %v", got)
	}
}
