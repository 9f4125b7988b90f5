package frontdoor

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirdata/weir/internal/event"
)

func alone() *Hall { return nil }

func one(text string) event.Batch { return event.Batch{event.New([]byte(text))} }

// free fails t unless b has everything back.
func free(t *testing.T, b *Budget) {
	t.Helper()
	if requests, bytes := b.Used(); requests != 0 || bytes != 0 {
		t.Errorf("left: %d requests, %d bytes", requests, bytes)
	}
}

// wait puts a request in and sends its fate.
func wait(ctx context.Context, h *Hall, b *Budget, text string, fates chan<- Fate) {
	if !b.Enter() || !b.Grow(10) {
		panic("no room")
	}
	fate, _ := h.Await(ctx, one(text), b, 10)
	fates <- fate
}

// TestLate: requests that were read and requests that were not are answered in time; what
// they hold is given back when it is settled, or at once when it never will be.
func TestLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, b := NewHall(10*time.Second, alone), NewBudget(10, 100)
		fates := make(chan Fate, 3)
		var handlers sync.WaitGroup
		handlers.Go(func() { wait(t.Context(), h, b, "x", fates) })
		synctest.Wait()
		_, settle, err := h.Read(t.Context(), nil, 10, 100)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		handlers.Go(func() { wait(t.Context(), h, b, "x", fates) })
		begun := time.Now()
		for range 2 {
			if f := <-fates; f != Late {
				t.Errorf("fate %d", f)
			}
		}
		if waited := time.Since(begun); waited < 10*time.Second || waited > 10*time.Second+500*time.Millisecond {
			t.Errorf("the second answer came after %s", waited)
		}
		if requests, bytes := b.Used(); requests != 1 || bytes != 10 {
			t.Errorf("%d requests hold %d bytes", requests, bytes)
		}
		_ = settle(t.Context(), nil)
		h.Close()
		handlers.Wait()
		free(t, b)
	})
}

// TestAwayTurnsAway: when what keeps events cannot be reached, those who wait are told, whether or not
// their events were read; what was read holds its place until it is settled.
func TestAwayTurnsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, b := NewHall(10*time.Minute, alone), NewBudget(10, 100)
		var away atomic.Bool
		h.away = away.Load
		fates := make(chan Fate, 2)
		var handlers sync.WaitGroup
		handlers.Go(func() { wait(t.Context(), h, b, "x", fates) })
		synctest.Wait()
		_, settle, err := h.Read(t.Context(), nil, 10, 100)
		if err != nil {
			t.Fatal(err)
		}
		handlers.Go(func() { wait(t.Context(), h, b, "y", fates) })
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(fates) > 0 {
			t.Fatalf("fate %d while nothing is wrong", <-fates)
		}
		away.Store(true)
		begun := time.Now()
		for range 2 {
			if f := <-fates; f != Failed {
				t.Errorf("fate %d", f)
			}
		}
		if waited := time.Since(begun); waited > time.Second {
			t.Errorf("they were told after %s", waited)
		}
		if requests, bytes := b.Used(); requests != 1 || bytes != 10 {
			t.Errorf("%d requests hold %d bytes", requests, bytes)
		}
		_ = settle(t.Context(), nil)
		h.Close()
		handlers.Wait()
		free(t, b)
	})
}

// TestManyAreLate: a reader that is stuck leaves no trace of the requests it never took.
func TestManyAreLate(t *testing.T) {
	t.Parallel()
	h, b := NewHall(time.Hour, alone), NewBudget(5000, 1<<30)
	defer h.Close()
	fates := make(chan Fate, 1500)
	for range 10 {
		for range 1500 {
			go wait(context.Background(), h, b, "", fates)
		}
		for h.Waiting() < 1500 {
			runtime.Gosched()
		}
		h.expire(time.Now().Add(2 * time.Hour))
		for range 1500 {
			if f := <-fates; f != Late {
				t.Fatalf("fate %d", f)
			}
		}
	}
	free(t, b)
	if h.oldest != nil || h.youngest != nil || h.next != nil {
		t.Error("somebody is left")
	}
}

// TestGone: a client that goes away takes along what no batch has, from any place of the line.
func TestGone(t *testing.T) {
	t.Parallel()
	h, b := NewHall(time.Hour, alone), NewBudget(10, 1000)
	defer h.Close()
	fates := make([]chan Fate, 5)
	leave := make([]context.CancelFunc, 5)
	for i := range fates {
		var ctx context.Context
		ctx, leave[i] = context.WithCancel(t.Context())
		fates[i] = make(chan Fate, 1)
		go wait(ctx, h, b, fmt.Sprint(i), fates[i])
		for h.Waiting() <= i {
			runtime.Gosched()
		}
	}
	for _, i := range []int{2, 0, 4} {
		leave[i]()
		if f := <-fates[i]; f != Gone {
			t.Errorf("request %d: fate %d", i, f)
		}
	}
	batch, settle, err := h.Read(t.Context(), nil, 10, 100)
	if err != nil || len(batch) != 2 || string(batch[0].Data)+string(batch[1].Data) != "13" {
		t.Fatal(batch, err)
	}
	leave[1]()
	if f := <-fates[1]; f != Gone {
		t.Errorf("fate %d", f)
	}
	if requests, _ := b.Used(); requests != 2 {
		t.Errorf("%d requests hold a place", requests)
	}
	_ = settle(t.Context(), event.Outcomes{nil, errors.New("x")})
	if f := <-fates[3]; f != Failed {
		t.Errorf("fate %d", f)
	}
	leave[3]()
	free(t, b)
}

// TestHallsFollowEachOther: while readers come and go, every request is read by exactly one,
// and settled.
func TestHallsFollowEachOther(t *testing.T) {
	t.Parallel()
	b := NewBudget(1000, 1<<20)
	var mu sync.Mutex
	var halls []*Hall
	open := func() *Hall {
		var h *Hall
		h = NewHall(time.Hour, func() *Hall {
			mu.Lock()
			defer mu.Unlock()
			if last := halls[len(halls)-1]; last != h && last.Open() {
				return last
			}
			return nil
		})
		mu.Lock()
		defer mu.Unlock()
		halls = append(halls, h)
		return h
	}
	newest := func() *Hall {
		mu.Lock()
		defer mu.Unlock()
		return halls[len(halls)-1]
	}
	var seen sync.Map
	var count atomic.Int64
	read := func(ctx context.Context, h *Hall) {
		for {
			batch, settle, err := h.Read(ctx, nil, 3, 1<<20)
			if err != nil {
				return
			}
			for _, m := range batch {
				if _, twice := seen.LoadOrStore(string(m.Data), h); twice {
					t.Errorf("%s was read twice", m.Data)
				}
				count.Add(1)
			}
			_ = settle(ctx, nil)
		}
	}
	stopClients := make(chan struct{})
	var clients sync.WaitGroup
	var sent atomic.Int64
	open()
	for client := range 8 {
		clients.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stopClients:
					return
				default:
				}
				fates := make(chan Fate, 1)
				if wait(t.Context(), newest(), b, fmt.Sprintf("%d-%d", client, n), fates); <-fates != Settled {
					t.Errorf("request %d of %d was turned away", n, client)
				}
				sent.Add(1)
			}
		})
	}
	for range 50 {
		h := newest()
		ctx, stop := context.WithCancel(t.Context())
		var reader sync.WaitGroup
		reader.Go(func() { read(ctx, h) })
		for target := sent.Load() + 20; sent.Load() < target; {
			runtime.Gosched()
		}
		open()
		stop()
		reader.Wait()
		h.Close()
	}
	last := newest()
	ctx, stop := context.WithCancel(t.Context())
	var reader sync.WaitGroup
	reader.Go(func() { read(ctx, last) })
	close(stopClients)
	clients.Wait()
	stop()
	reader.Wait()
	last.Close()
	if count.Load() != sent.Load() {
		t.Errorf("%d events were read of %d", count.Load(), sent.Load())
	}
	free(t, b)
}

// TestOutcomes: each request learns what became of each of its own messages, whatever else was
// in the batch.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, b := NewHall(time.Hour, alone), NewBudget(10, 100)
		type result struct {
			fate     Fate
			outcomes event.Outcomes
		}
		results := make([]result, 3)
		var handlers sync.WaitGroup
		for i, n := range []int{2, 1, 3} {
			handlers.Go(func() {
				var batch event.Batch
				for range n {
					batch = append(batch, event.New(nil))
				}
				b.Enter()
				results[i].fate, results[i].outcomes = h.Await(t.Context(), batch, b, 0)
			})
			synctest.Wait() // they come in this order
		}
		_, settle, err := h.Read(t.Context(), nil, 10, 100)
		if err != nil {
			t.Fatal(err)
		}
		no := errors.New("no")
		o := event.Outcomes{nil, nil, no, nil, no, nil}
		if err := settle(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		clear(o) // it is the engine's
		handlers.Wait()
		want := []result{{Settled, nil}, {Failed, event.Outcomes{no}}, {Failed, event.Outcomes{nil, no, nil}}}
		if fmt.Sprint(results) != fmt.Sprint(want) {
			t.Errorf("%v, want %v", results, want)
		}
		h.Close()
		free(t, b)
	})
}
